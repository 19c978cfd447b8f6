//! A file seen through shared windows.
//!
//! A large file is never mapped whole: it is cut into windows of [`WINDOW_BYTES`], mapped when somebody
//! reads there and unmapped when the last reader has moved on. So the memory that a download shows is a
//! few windows, however large the file, and any number of readers at the same place share one.

use std::{
    fs::File,
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use memmap2::Mmap;

use crate::map::map_range;

/// Bytes of a window; a multiple of every page size in use.
pub(crate) const WINDOW_BYTES: u64 = 4 << 20;

/// A mapping that lives as long as a block of it is being sent.
#[derive(Clone)]
struct Shared(Arc<Mmap>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The windows of one file.
#[derive(Debug)]
pub(crate) struct Windows {
    file: File,
    slots: Mutex<Vec<Weak<Mmap>>>,
}

impl Windows {
    pub(crate) fn new(file: File) -> Self {
        Self { file, slots: Mutex::new(Vec::new()) }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The bytes from `offset` to the end of its window, or to `end` if that comes first.
    ///
    /// `end` is how much of the file is final: its length, or for a spool what is written so far.
    /// May wait for the disk, unless the range was just written.
    pub(crate) fn read(&self, offset: u64, end: u64) -> io::Result<Bytes> {
        let index = offset / WINDOW_BYTES;
        let start = index * WINDOW_BYTES;
        let len = usize::try_from((end - start).min(WINDOW_BYTES)).map_err(io::Error::other)?;
        let map = self.window(usize::try_from(index).map_err(io::Error::other)?, start, len)?;
        let from = usize::try_from(offset - start).map_err(io::Error::other)?;
        Ok(Bytes::from_owner(Shared(map)).slice(from..len))
    }

    /// A mapping of at least `len` bytes of window `index`, shared with whoever reads there now.
    fn window(&self, index: usize, start: u64, len: usize) -> io::Result<Arc<Mmap>> {
        let alive = |slots: &Vec<Weak<Mmap>>| slots.get(index).and_then(Weak::upgrade).filter(|map| map.len() >= len);
        if let Some(map) = alive(&self.slots.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(map);
        }
        // Mapped outside the lock: it may wait for the disk. Two readers may both map; both are right.
        let map = Arc::new(map_range(&self.file, start, len)?);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = alive(&slots) {
            return Ok(other);
        }
        if slots.len() <= index {
            slots.resize_with(index + 1, Weak::new);
        }
        slots[index] = Arc::downgrade(&map);
        Ok(map)
    }
}
