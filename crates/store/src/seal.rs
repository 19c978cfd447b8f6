//! Seals: how a kept file is seen to be as it was kept, without reading it.
//!
//! The time of last modification of a kept file is true to the millisecond; its six digits below are the seal, which
//! follows from the rest of that time, the length and the key. Whoever writes to the file or puts another in its place, one that is
//! kept under another key too, leaves last digits that are others (but for one in a million). Nothing is looked up and nothing is read for it, and a copy that
//! preserves times (`rsync -a`, `cp -p`) preserves seals.
//!
//! It is not against those who can set times, and does not see what a disk loses: `modgate fsck` reads everything.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, futimens};

use crate::{Hasher, Key, notes};

/// Nanoseconds that the seal takes the place of.
const DIGITS: u64 = 1_000_000;

const BLOCK_BYTES: usize = 256 << 10;

/// What is known of an object's bytes elsewhere: their SHA-256, if anything is. Waits.
pub type Truth = Box<dyn Fn(&Key) -> io::Result<Option<[u8; 32]>> + Send + Sync>;

/// Whether the file is as it was sealed under `key`.
pub fn holds(metadata: &Metadata, key: &Key) -> bool {
    let nanos = u64::try_from(metadata.mtime_nsec()).unwrap_or(0);
    nanos % DIGITS == digits(metadata.mtime(), nanos / DIGITS, metadata.len(), key)
}

/// The SHA-256 that was noted at a file when it was kept, if it was.
pub fn noted(file: &File) -> io::Result<Option<[u8; 32]>> {
    match notes::digest_of(file)? {
        Some(digest) => Ok(Some(digest.sha256)),
        None => notes::sha256_of(file),
    }
}

/// Seals a file that is written whole. The time of last modification stays the same to the millisecond.
pub(crate) fn put(file: &File, key: &Key) -> io::Result<()> {
    put_as(file, &file.metadata()?, key)
}

fn put_as(file: &File, seen: &Metadata, key: &Key) -> io::Result<()> {
    let millis = u64::try_from(seen.mtime_nsec()).unwrap_or(0) / DIGITS;
    let nanos = millis * DIGITS + digits(seen.mtime(), millis, seen.len(), key);
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seen.mtime(),
            tv_nsec: i64::try_from(nanos).map_err(io::Error::other)?,
        },
    };
    Ok(futimens(file, &times)?)
}

/// Never 0: a time in whole milliseconds is no seal.
fn digits(secs: i64, millis: u64, len: u64, key: &Key) -> u64 {
    // FNV-1a: any function of all bytes will do.
    let named = key
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    let mut mixed =
        secs.cast_unsigned().wrapping_mul(1000).wrapping_add(millis) ^ len.rotate_left(40) ^ named;
    // The finalizer of splitmix64: each bit of the input reaches all of the output.
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    1 + mixed % (DIGITS - 1)
}

/// The seals of a data folder, and what an unsealed file is compared with.
#[derive(Default)]
pub(crate) struct Seals {
    /// Whether the file system keeps times to the nanosecond.
    on: bool,
    truth: OnceLock<Truth>,
    altered: AtomicU64,
}

impl std::fmt::Debug for Seals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seals")
            .field("on", &self.on)
            .finish_non_exhaustive()
    }
}

impl Seals {
    /// Finds out with an empty file whether seals hold in its file system.
    pub(crate) fn probe(file: &File) -> io::Result<Self> {
        let key = Key::new("tmp/probe".to_owned()).map_err(io::Error::other)?;
        put(file, &key)?;
        Ok(Self {
            on: holds(&file.metadata()?, &key),
            ..Self::default()
        })
    }

    pub(crate) fn on(&self) -> bool {
        self.on
    }

    pub(crate) fn compare_with(&self, truth: Truth) {
        let _ = self.truth.set(truth);
    }

    /// Files that turned out not to be what they should be.
    pub(crate) fn altered(&self) -> u64 {
        self.altered.load(Relaxed)
    }

    /// Whether the file may be served by what its metadata say. What may not is to be [judged](Self::judge).
    pub(crate) fn hold(&self, metadata: &Metadata, key: &Key) -> bool {
        !self.on || holds(metadata, key)
    }

    /// Whether the file is what it should be: as it was sealed, or its bytes are those that are known; then it is sealed.
    /// A file of which nothing is known is somebody's own and is sealed too. Waits for the disk.
    pub(crate) fn judge(&self, key: &Key, file: &File) -> io::Result<bool> {
        let seen = file.metadata()?;
        if self.hold(&seen, key) || !seen.is_file() {
            return Ok(true);
        }
        let known = match noted(file)? {
            Some(noted) => Some(noted),
            None => self.truth.get().map_or(Ok(None), |truth| truth(key))?,
        };
        if let Some(known) = known
            && sha256(file)? != known
        {
            self.altered.fetch_add(1, Relaxed);
            return Ok(false);
        }
        // Whoever writes to it from here on sets another time. What was written while it was read is seen here.
        let now = file.metadata()?;
        if (now.mtime(), now.mtime_nsec()) == (seen.mtime(), seen.mtime_nsec()) {
            // Not ours to seal, or on a disk that is read-only: it is read anew the next time.
            let _ = put_as(file, &seen, key);
        }
        Ok(true)
    }
}

/// The SHA-256 of a file's bytes. Waits for the disk.
pub(crate) fn sha256(file: &File) -> io::Result<[u8; 32]> {
    let mut hasher = Hasher::default();
    let mut block = vec![0; BLOCK_BYTES];
    let mut at = 0;
    loop {
        match file.read_at(&mut block, at) {
            Ok(0) => return Ok(hasher.finish().sha256),
            Ok(read) => {
                hasher.update(&block[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        time::{Duration, SystemTime},
    };

    use super::*;
    use crate::Digest;

    fn key() -> Key {
        Key::new("go/a".to_owned()).unwrap()
    }

    fn sealed(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        put(&file, &key()).unwrap();
        file
    }

    #[test]
    fn a_seal_keeps_the_time_and_breaks_when_anything_is_written() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"kept").unwrap();
        let millis = |file: &File| {
            let time = file.metadata().unwrap().modified().unwrap();
            time.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_millis()
        };
        let before = millis(&file);
        put(&file, &key()).unwrap();
        assert_eq!(millis(&file), before);
        assert!(holds(&file.metadata().unwrap(), &key()));
        // The same bytes again: nobody reads them to find that out.
        file.write_all_at(b"kept", 0).unwrap();
        assert!(!holds(&file.metadata().unwrap(), &key()));
        put(&file, &key()).unwrap();
        let time = file.metadata().unwrap().modified().unwrap();
        file.write_all(b" and more").unwrap();
        file.set_modified(time).unwrap();
        assert!(!holds(&file.metadata().unwrap(), &key()), "another length");
        for whole in [0, 1_700_000_000] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(whole);
            file.set_modified(time).unwrap();
            assert!(
                !holds(&file.metadata().unwrap(), &key()),
                "a time in seconds"
            );
        }
    }

    #[test]
    fn what_is_not_sealed_is_compared_with_what_is_known() {
        let key = key();
        let mut seals = Seals::probe(&tempfile::tempfile().unwrap()).unwrap();
        assert!(seals.on());
        let truth = |key: &Key| match key.as_str() {
            "go/a" => Ok(Some(Digest::of(b"kept").sha256)),
            "go/away" => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(None),
        };
        seals.compare_with(Box::new(truth));
        let file = sealed(b"kept");
        assert!(seals.judge(&key, &file).unwrap());
        file.write_all_at(b"kepT", 0).unwrap();
        assert!(!seals.judge(&key, &file).unwrap());
        assert_eq!(seals.altered(), 1);
        let away = Key::new("go/away".to_owned()).unwrap();
        assert!(seals.judge(&away, &file).is_err(), "nobody can say");
        file.write_all_at(b"kept", 0).unwrap();
        assert!(!seals.hold(&file.metadata().unwrap(), &key));
        assert!(seals.judge(&key, &file).unwrap());
        assert!(seals.hold(&file.metadata().unwrap(), &key), "sealed again");
        // Somebody's own.
        let own = Key::new("go/own".to_owned()).unwrap();
        file.write_all_at(b"mine", 0).unwrap();
        assert!(seals.judge(&own, &file).unwrap());
        assert!(seals.hold(&file.metadata().unwrap(), &own));
        assert!(
            !seals.hold(&file.metadata().unwrap(), &key),
            "under another key"
        );
        // What was noted when it was kept needs no index.
        notes::put_sha256(&file, &Digest::of(b"noted").sha256);
        assert!(!seals.judge(&key, &file).unwrap());
        // What a file system with coarse times keeps is not looked at.
        seals.on = false;
        file.write_all_at(b"what", 0).unwrap();
        assert!(seals.judge(&key, &file).unwrap());
    }
}
