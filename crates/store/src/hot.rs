//! The bounded set of kept files that are open and ready to send.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;

use crate::{Kept, Key};

/// Key to open file, bounded by the bytes it holds; what was used least goes first (TinyLFU, so that a
/// scan over many files does not push out those that everybody asks for).
#[derive(Debug)]
pub(crate) struct Hot(Cache<Key, Arc<Kept>, FastHash>);

/// The keys are validated and the table is bounded, so the cheap keyed hash of the standard library's
/// sibling is not needed; still seeded per process, against crafted collisions.
type FastHash = std::hash::RandomState;

impl Hot {
    /// Without `ttl` they stay until they have to make room.
    pub(crate) fn new(max_bytes: u64, ttl: Option<Duration>) -> Self {
        let mut builder =
            Cache::builder()
                .max_capacity(max_bytes)
                .weigher(|key: &Key, kept: &Arc<Kept>| {
                    kept.weight()
                        .saturating_add(u32::try_from(key.as_str().len()).unwrap_or(u32::MAX))
                });
        if let Some(ttl) = ttl {
            builder = builder.time_to_live(ttl);
        }
        Self(builder.build_with_hasher(FastHash::default()))
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<Kept>> {
        let kept = self.0.get(key)?;
        kept.mark_used();
        Some(kept)
    }

    /// What was sent since this was asked last, of that which is still here.
    pub(crate) fn take_used(&self) -> Vec<Arc<Key>> {
        let used = self.0.iter().filter(|(_, kept)| kept.take_used());
        used.map(|(key, _)| key).collect()
    }

    pub(crate) fn insert(&self, key: Key, kept: Arc<Kept>) {
        self.0.insert(key, kept);
    }

    pub(crate) fn remove(&self, key: &str) {
        self.0.invalidate(key);
    }
}
