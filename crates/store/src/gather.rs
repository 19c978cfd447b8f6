//! A large object that clients read straight from a bucket comes into memory when it is asked for again.
//!
//! Only from the second time on, so that reading everything once pushes nothing out; one at a time of each object, all of them
//! within a bound of their own. What is larger than the memory tier takes is read from the bucket every time.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use crate::{Digest, Kept, Key, Store};

/// Objects of the longest kind that may be gathered at a time.
const AT_ONCE: u64 = 4;
/// What the bound is counted in.
const UNIT_BYTES: u64 = 64 << 10;

/// The way of large objects into memory.
#[derive(Debug)]
pub(crate) struct Gatherer {
    store: Arc<Store>,
    /// Longest object that the memory takes, in bytes.
    max_entry: u64,
    room: Arc<Semaphore>,
    under_way: Mutex<HashSet<Key>>,
}

/// An object that is being gathered while a client reads it.
pub(crate) struct Gathering {
    gatherer: Arc<Gatherer>,
    key: Key,
    size: u64,
    blocks: Vec<Bytes>,
    room: Option<OwnedSemaphorePermit>,
}

impl Gatherer {
    pub(crate) fn new(store: Arc<Store>, max_entry: u64) -> Arc<Self> {
        let units = max_entry.saturating_mul(AT_ONCE) / UNIT_BYTES;
        let units = usize::try_from(units).unwrap_or(usize::MAX);
        Arc::new(Self {
            store,
            max_entry,
            room: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            under_way: Mutex::default(),
        })
    }

    /// Whether the memory takes objects of this length.
    pub(crate) fn takes(&self, size: u64) -> bool {
        size <= self.max_entry
    }

    /// Begins to gather an object. `None` if it is too long, gathered by another, or there is no room now.
    pub(crate) fn begin(self: &Arc<Self>, key: &Key, size: u64) -> Option<Gathering> {
        if !self.takes(size) {
            return None;
        }
        let units = u32::try_from(size.div_ceil(UNIT_BYTES)).ok()?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(units).ok()?;
        if !self.under_way().insert(key.clone()) {
            return None;
        }
        Some(Gathering {
            gatherer: Arc::clone(self),
            key: key.clone(),
            size,
            blocks: Vec::new(),
            room: Some(room),
        })
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, HashSet<Key>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathering {
    /// The next bytes, which the client reads too.
    pub(crate) fn push(&mut self, block: &Bytes) {
        self.blocks.push(block.clone());
    }

    /// It was compared and is right: from now on it is sent from memory.
    pub(crate) fn finish(mut self, digest: Digest) {
        spawn_blocking(move || {
            let mut whole = BytesMut::with_capacity(usize::try_from(self.size).unwrap_or(0));
            for block in self.blocks.drain(..) {
                whole.extend_from_slice(&block);
            }
            let kept = Kept::memory(whole.freeze(), &digest);
            self.gatherer.store.make_hot(&self.key, &Arc::new(kept));
        });
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.gatherer.under_way().remove(&self.key);
        drop(self.room.take());
    }
}
