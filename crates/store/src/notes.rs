//! What is noted at a kept file beside its content, where there are tiers beside the disk: its digest as an extended
//! attribute, and its last use as the time of last access.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use rustix::{
    fs::{
        AtFlags, CWD, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags, fgetxattr,
        fsetxattr, futimens, utimensat,
    },
    io::Errno,
};

use crate::Digest;

/// The attribute that has a file's digest.
const DIGEST: &str = "user.modgate.digest";

/// The attribute that has a file's SHA-256 alone, where nothing crosses to other tiers: short enough to lie in the inode.
const SHA256: &str = "user.modgate.sha";

/// Which notes are made and read.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    digests: AtomicBool,
    uses: AtomicBool,
}

impl Notes {
    /// From now on validators are made of the digests at the files.
    pub(crate) fn digests_from_now(&self) {
        self.digests.store(true, Relaxed);
    }

    /// From now on the time of last access says when a file was sent last, and is 0 until it is sent for the second
    /// time. The system no longer sets it.
    pub(crate) fn uses_from_now(&self) {
        self.uses.store(true, Relaxed);
    }

    /// Whether uses are noted at the files.
    pub(crate) fn has_uses(&self) -> bool {
        self.uses.load(Relaxed)
    }

    pub(crate) fn has_digests(&self) -> bool {
        self.digests.load(Relaxed)
    }

    /// Further flags for opening a file.
    pub(crate) fn flags(&self) -> OFlags {
        if self.uses.load(Relaxed) {
            OFlags::NOATIME
        } else {
            OFlags::empty()
        }
    }

    /// Opens a file so that this is no use of it.
    pub(crate) fn open(&self, path: &Path) -> io::Result<File> {
        open_with(path, self.flags())
    }

    /// The file is new.
    pub(crate) fn arrived(&self, file: &File) {
        if self.uses.load(Relaxed) {
            let never = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // Without it the file counts as used once, that is all.
            let _ = futimens(file, &accessed(never));
        }
    }
}

/// Opens a file so that this is no use of it, where the system allows that.
pub(crate) fn open_unused(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::NOATIME)
}

fn open_with(path: &Path, flags: OFlags) -> io::Result<File> {
    let open = |flags: OFlags| {
        // A pipe that somebody put there must not be waited for.
        let flags = OFlags::NONBLOCK | flags;
        let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags).open(path)
    };
    match open(flags) {
        // The file of another user.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open(flags - OFlags::NOATIME)
        }
        opened => opened,
    }
}

/// The file was sent just now.
pub(crate) fn used_now(path: &Path) -> io::Result<()> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    Ok(utimensat(CWD, path, &accessed(now), AtFlags::empty())?)
}

/// A change of the time of last access alone.
fn accessed(time: Timespec) -> Timestamps {
    Timestamps {
        last_access: time,
        last_modification: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
    }
}

/// Notes the digest. A file system without such notes has none, and nothing to compare with later.
pub(crate) fn put_digest(file: &File, digest: &Digest) {
    let _ = fsetxattr(
        file,
        DIGEST,
        digest.to_text().as_bytes(),
        XattrFlags::empty(),
    );
}

/// Notes the SHA-256.
pub(crate) fn put_sha256(file: &File, sha256: &[u8; 32]) {
    let _ = fsetxattr(file, SHA256, sha256, XattrFlags::empty());
}

/// The SHA-256 that was noted, if there is one.
pub(crate) fn sha256_of(file: &File) -> io::Result<Option<[u8; 32]>> {
    let mut sha256 = [0; 32];
    match fgetxattr(file, SHA256, &mut sha256) {
        Ok(len) => Ok((len == sha256.len()).then_some(sha256)),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The digest that was noted, if there is one.
pub(crate) fn digest_of(file: &File) -> io::Result<Option<Digest>> {
    let mut text = [0; 256];
    match fgetxattr(file, DIGEST, &mut text) {
        Ok(len) => Ok(std::str::from_utf8(&text[..len])
            .ok()
            .and_then(Digest::from_text)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
