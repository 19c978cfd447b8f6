//! By what it shows that a file has changed.

use std::{os::unix::fs::MetadataExt as _, path::Path};

/// What differs when a path leads to another file, or to other content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    /// The last change, in seconds and nanoseconds.
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of what the path leads to now; `None` if nothing is there.
    pub fn of(path: &Path) -> Option<Stamp> {
        let found = path.metadata().ok()?;
        Some(Stamp {
            device: found.dev(),
            inode: found.ino(),
            len: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}
