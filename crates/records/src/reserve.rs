//! Room on the disk of SQLite's file that is held back: on a full disk SQLite cannot even be read, and who makes room
//! there must read and write it.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Enough to open the file, and for the pages that a few hundred notes change.
const BYTES: u64 = 512 << 10;
/// Not held back from a disk with less room than this.
const PLENTY: u64 = 2 * BYTES;

fn reserve(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(".reserve");
    name.into()
}

/// Bytes that are free where the file is.
fn room(file: &Path) -> Option<u64> {
    let stat = statvfs(file.parent()?).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Gives the room back if there is hardly any other. To be called before the file is used.
pub(crate) fn spend(file: &Path) {
    if room(file).is_some_and(|room| room < BYTES) && fs::remove_file(reserve(file)).is_ok() {
        tracing::info!(
            file = %file.display(),
            "the disk is full: the room that was held back for the records is used"
        );
    }
}

/// Holds room back if there is plenty. As good as it goes: nothing but a full disk needs it.
pub(crate) fn hold(file: &Path) {
    let path = reserve(file);
    if path.exists() || room(file).is_none_or(|room| room < PLENTY) {
        return;
    }
    let Ok(mut held) = File::create_new(&path) else {
        return;
    };
    let allocated = fallocate(&held, FallocateFlags::empty(), 0, BYTES);
    if allocated.is_err() {
        let zeros = vec![0; usize::try_from(BYTES).unwrap_or(0)];
        if held.write_all(&zeros).is_err() {
            let _ = fs::remove_file(&path);
        }
    }
}
