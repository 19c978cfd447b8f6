//! The lock of a data folder: it has one owner.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, test_kill_process},
};

use crate::StoreError;

/// How long an owner that died may be survived by its hold on the lock.
const AFTER_OWNER: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(50);

/// Takes the lock, which is held until the file is dropped.
pub(crate) fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let fault = |doing| {
        move |error| StoreError::Io {
            folder: folder.to_owned(),
            doing,
            error,
        }
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(fault("opening lock"))?;
    let last_try = Instant::now() + AFTER_OWNER;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let owner = owner(&mut file);
                if owner.is_some_and(is_gone) && Instant::now() < last_try {
                    thread::sleep(RETRY);
                    continue;
                }
                return Err(StoreError::InUse {
                    folder: folder.to_owned(),
                    owner,
                });
            }
            Err(error) => return Err(fault("locking it")(error.into())),
        }
    }
    // For the message of the second; the lock itself is the system's.
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{}", std::process::id()))
        .map_err(fault("writing lock"))?;
    Ok(file)
}

/// Whether the lock in the folder is still the one that was taken there. If not, the folder was removed or something is
/// mounted over it: its owner reads from what is there no more, and does not see what commands write to the records.
pub(crate) fn is_ours(folder: &Path, held: &File) -> io::Result<bool> {
    let held = held.metadata()?;
    match fs::metadata(folder.join("lock")) {
        Ok(there) => Ok((there.dev(), there.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The process that wrote into the lock last.
fn owner(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Whether there is no such process: a child that it was just starting holds the lock until it becomes another program.
fn is_gone(owner: u32) -> bool {
    let owner = i32::try_from(owner).ok().and_then(Pid::from_raw);
    owner.is_none_or(|owner| {
        test_kill_process(owner).is_err_and(|error| error == rustix::io::Errno::SRCH)
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_an_owner_that_died_left_behind_is_waited_for_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        let begin = Instant::now();
        let refused = lock(folder.path()).unwrap_err();
        let us = Some(std::process::id());
        assert!(matches!(refused, StoreError::InUse { owner, .. } if owner == us));
        assert!(begin.elapsed() < AFTER_OWNER);

        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        std::fs::write(folder.path().join("lock"), child.id().to_string()).unwrap();
        let freeing = thread::spawn(move || {
            thread::sleep(3 * RETRY);
            drop(held);
        });
        let _again = lock(folder.path()).unwrap();
        freeing.join().unwrap();
        let text = std::fs::read_to_string(folder.path().join("lock")).unwrap();
        assert_eq!(text, std::process::id().to_string());
    }
}
