//! The lock of a data folder: it has one owner.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use crate::StoreError;

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
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let owner = file
                .read_to_string(&mut text)
                .ok()
                .and_then(|_| text.trim().parse().ok());
            return Err(StoreError::InUse {
                folder: folder.to_owned(),
                owner,
            });
        }
        Err(error) => return Err(fault("locking it")(error.into())),
    }
    // For the message of the second; the lock itself is the system's.
    file.set_len(0)
        .and_then(|()| write!(file, "{}", std::process::id()))
        .map_err(fault("writing lock"))?;
    Ok(file)
}
