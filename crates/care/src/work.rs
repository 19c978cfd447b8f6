//! Folders for temporary files, in `care/` of the data folder. Each is locked by the one who made it, as single files there
//! are, so that what the killed left is known as such, and goes with the next one who comes.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::CareError;

const PREFIX: &str = ".tmp";

/// A folder that goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Work {
    folder: TempDir,
    _lock: File,
}

impl Work {
    /// Makes one in `parent`, and removes there what others left.
    pub(crate) async fn new(parent: &Path) -> Result<Self, CareError> {
        let parent = parent.to_owned();
        let made = tokio::task::spawn_blocking(move || {
            make(&parent).map_err(|error| store::at(&parent, error))
        });
        Ok(made.await.map_err(io::Error::other)??)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn make(parent: &Path) -> io::Result<Work> {
    let turn = take_turn(parent)?;
    remove_left(parent);
    let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
    let lock = File::open(folder.path())?;
    // Where folders cannot be locked, nobody can lock them, and what is left stays.
    let _ = flock(&lock, FlockOperation::NonBlockingLockExclusive);
    drop(turn);
    Ok(Work {
        folder,
        _lock: lock,
    })
}

/// Removes what commands left that were killed. Waits for the disk.
pub fn sweep(parent: &Path) {
    match take_turn(parent) {
        Ok(_turn) => remove_left(parent),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::debug!(%error, folder = %parent.display(), "not swept"),
    }
}

/// Held from before a folder is made until it is locked, so that nobody takes it for a left one in between.
fn take_turn(parent: &Path) -> io::Result<File> {
    let turn = File::open(parent)?;
    let _ = flock(&turn, FlockOperation::LockExclusive);
    Ok(turn)
}

fn remove_left(parent: &Path) {
    if let Err(error) = store::folder::remove_left(parent) {
        tracing::debug!(%error, folder = %parent.display(), "not swept");
    }
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(PREFIX));
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        let free = File::open(&path)
            .is_ok_and(|folder| flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok());
        if !free {
            continue;
        }
        match fs::remove_dir_all(&path) {
            Ok(()) => {
                tracing::info!(folder = %path.display(), "removed what a killed command left")
            }
            Err(error) => tracing::warn!(%error, folder = %path.display(), "cannot be removed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_nobody_owns_goes_and_what_somebody_owns_stays() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join(".tmpKilled");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("records.jsonl"), "half").unwrap();
        let other = parent.path().join("fetched");
        fs::create_dir(&other).unwrap();
        let first = Work::new(parent.path()).await.unwrap();
        assert!(!left.exists() && other.exists());
        let second = Work::new(parent.path()).await.unwrap();
        sweep(parent.path());
        assert!(first.path().exists() && second.path().exists());
        let gone = second.path().to_owned();
        drop(second);
        assert!(!gone.exists());
        // As a kill does: the lock goes, and the folder stays.
        let killed = fs::canonicalize(first.path()).unwrap();
        let Work {
            folder,
            _lock: lock,
        } = first;
        let _ = folder.keep();
        drop(lock);
        assert!(killed.exists());
        sweep(parent.path());
        assert!(!killed.exists());
        sweep(&parent.path().join("absent"));
    }

    #[test]
    fn a_file_that_is_being_made_stays_and_one_that_was_left_goes() {
        let data = tempfile::tempdir().unwrap();
        let folder = store::Folder::new(data.path());
        let made = folder.temp().unwrap();
        let left = folder.work().unwrap().join(format!("{:032x}.tmp", 1));
        fs::write(&left, "half").unwrap();
        sweep(&folder.work_path());
        assert!(made.path().unwrap().exists() && !left.exists());
        let path = made.path().unwrap().to_owned();
        drop(made);
        assert!(!path.exists());
    }
}
