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

use crate::{
    frames::Block,
    map::{Touch, map_range},
};

/// Bytes of a window; a multiple of every page size in use.
pub(crate) const WINDOW_BYTES: u64 = 2 << 20;

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
    file: Arc<File>,
    slots: Mutex<Vec<Weak<Mmap>>>,
}

impl Windows {
    pub(crate) fn new(file: File) -> Self {
        Self {
            file: Arc::new(file),
            slots: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// The bytes from `offset` to the end of its window, or to `end` if that comes first.
    ///
    /// `end` is how much of the file is final: its length, or for a spool the windows that are written whole.
    /// May wait for the disk, unless the range was just written.
    pub(crate) fn read(&self, offset: u64, end: u64, touch: Touch) -> io::Result<Block> {
        let index = offset / WINDOW_BYTES;
        let start = index * WINDOW_BYTES;
        let len = usize::try_from((end - start).min(WINDOW_BYTES)).map_err(io::Error::other)?;
        let map = self.window(
            usize::try_from(index).map_err(io::Error::other)?,
            start,
            len,
            touch,
        )?;
        let from = usize::try_from(offset - start).map_err(io::Error::other)?;
        Ok(Block {
            bytes: Bytes::from_owner(Shared(map)).slice(from..len),
            file: Some((Arc::clone(&self.file), offset)),
        })
    }

    /// A mapping of `len` bytes of window `index`, shared with whoever reads there now. The lock is held while it
    /// is made, so that a crowd at one place makes one mapping.
    fn window(&self, index: usize, start: u64, len: usize, touch: Touch) -> io::Result<Arc<Mmap>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(map) = slots
            .get(index)
            .and_then(Weak::upgrade)
            .filter(|map| map.len() >= len)
        {
            return Ok(map);
        }
        let map = Arc::new(map_range(&self.file, start, len, touch)?);
        if slots.len() <= index {
            slots.resize_with(index + 1, Weak::new);
        }
        slots[index] = Arc::downgrade(&map);
        Ok(map)
    }

    /// The whole file as one mapping.
    pub(crate) fn whole(file: File, len: u64, touch: Touch) -> io::Result<Block> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let map = map_range(&file, 0, len, touch)?;
        Ok(Block {
            bytes: Bytes::from_owner(Shared(Arc::new(map))),
            file: Some((Arc::new(file), 0)),
        })
    }
}
