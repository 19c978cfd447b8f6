//! The one reviewed module with `unsafe`: read-only mappings of ranges of files.
//!
//! Why a mapping: it sends a file from the page cache with one copy, at about half the CPU of reading
//! it into a buffer first, and works below HTTP/2 too (`docs/performance.md`).
//!
//! What makes it sound: only files of this store are mapped, and of those only bytes that nobody writes
//! any more. A kept file is never written, truncated or replaced in place (it comes by rename and goes by
//! unlink, which leaves a mapping valid). A spool is appended to by its single writer and mapped only
//! below the length already written; it is never cut short while it has readers. The folder has one
//! owner (`Store::open` locks it). Whoever truncates files in it behind modgate's back makes the next read
//! of a mapping end the process with SIGBUS, which serves no wrong byte. So a kept file that is served over
//! TLS, where each byte is touched, is read instead (`Kept::read_frames`); without it the system alone
//! reads, and stops where the file does.
#![allow(unsafe_code)]

use std::{fs::File, io};

use memmap2::{Advice, Mmap, MmapOptions};

/// When the pages of a mapping are read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// Now, so that no later access waits for the disk.
    Now,
    /// When they are used: they were just written, or are sent without being touched.
    WhenUsed,
}

/// Maps `len` bytes of `file` from `offset` (a multiple of the page size). `len` must not exceed what the file holds.
pub(crate) fn map_range(file: &File, offset: u64, len: usize, touch: Touch) -> io::Result<Mmap> {
    if file.metadata()?.len() < offset + len as u64 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the file is shorter than what was kept",
        ));
    }
    // SAFETY: the range exists (checked above) and nobody writes or truncates it any more: see the module's
    // comment for why that holds for every file that is passed here.
    let map = unsafe { MmapOptions::new().offset(offset).len(len).map(file)? };
    if touch == Touch::Now {
        // Best effort: old kernels (before 5.14) do not know it, and pages are then read at first use.
        let _ = map.advise(Advice::PopulateRead);
    }
    Ok(map)
}
