//! When a connection to PostgreSQL was lost last: what ends one, ends others that rest in the pool.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The last loss.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    last: Mutex<Option<Instant>>,
}

impl Losses {
    /// One was lost just now.
    pub(crate) fn note(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Instant::now());
    }

    /// Whether one was lost within that time.
    pub(crate) fn since(&self, time: Duration) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() <= time)
    }
}
