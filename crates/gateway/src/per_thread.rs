//! What every request writes to, once for each thread.
//!
//! A counter that two processors write by turns costs each of them more than the whole of an answer's parsing: its memory
//! goes back and forth between them. So each thread has a part of its own, and whoever reads takes all of them together.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Most parts, in case of very many processors.
const MOST_PARTS: usize = 64;

/// A part has its lines of the processors' caches for itself.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Part<T>(T);

/// One `T` for each thread, more or less: threads beyond twice the number of processors share.
#[derive(Debug)]
pub(crate) struct PerThread<T>(Box<[Part<T>]>);

impl<T: Default> Default for PerThread<T> {
    fn default() -> Self {
        let parts = 2 * thread::available_parallelism().map_or(1, usize::from);
        let parts = (0..parts.min(MOST_PARTS)).map(|_| Part::default());
        Self(parts.collect())
    }
}

impl<T> PerThread<T> {
    /// The part of the calling thread.
    pub(crate) fn mine(&self) -> &T {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        // A thread that ends has none any more, and takes the first.
        let number = NUMBER.try_with(|number| *number).unwrap_or(0);
        &self.0[number % self.0.len()].0
    }

    /// How many parts there are; at most 64.
    pub(crate) fn parts(&self) -> usize {
        self.0.len()
    }

    /// All parts.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|part| &part.0)
    }
}
