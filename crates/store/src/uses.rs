//! Which objects were used, for those who clean up later: a bounded set that is taken away now and then.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::Key;

/// Keys that are remembered at most; of more, some uses are not noted.
const MOST: usize = 65_536;

/// What was used since somebody last asked.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    keys: Mutex<HashSet<Key>>,
    many: Notify,
}

impl Uses {
    fn lock(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object was used.
    pub(crate) fn note(&self, key: &Key) {
        let mut keys = self.lock();
        if keys.len() < MOST && !keys.contains(key) {
            keys.insert(key.clone());
            if keys.len() == MOST / 2 {
                self.many.notify_one();
            }
        }
    }

    /// What was used since this was asked last.
    pub(crate) fn take(&self) -> Vec<Key> {
        std::mem::take(&mut *self.lock()).into_iter().collect()
    }

    /// Waits until so much was used that it should be taken.
    pub(crate) async fn many(&self) {
        self.many.notified().await;
    }
}
