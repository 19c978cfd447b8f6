//! How fast bytes are read, so that those who are served do not notice.

use std::{
    fs::File,
    io::{self, Read, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use store::{Digest, Hasher};

const BLOCK_BYTES: usize = 256 << 10;
/// What may be read at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// A bound for bytes per second, shared by all who read.
#[derive(Debug)]
pub struct Pace {
    per_second: Option<u64>,
    /// When what was read so far is paid for.
    due: Mutex<Instant>,
}

impl Pace {
    /// `None` is as fast as it goes.
    pub fn new(per_second: Option<u64>) -> Self {
        Self {
            per_second: per_second.map(|bytes| bytes.max(1)),
            due: Mutex::new(Instant::now()),
        }
    }

    /// How long to wait after `bytes` were read.
    pub fn after(&self, bytes: u64) -> Duration {
        let Some(per_second) = self.per_second else {
            return Duration::ZERO;
        };
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(per_second);
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = Instant::now();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let from = (*due).max(now.checked_sub(BURST).unwrap_or(now));
        // So slow that it has no end.
        *due = from.checked_add(takes).unwrap_or(from);
        due.saturating_duration_since(now)
    }
}

/// A reader that keeps to a pace. Sleeps, so it is for threads that may block.
pub(crate) struct Paced<'a, R> {
    pub(crate) reader: R,
    pub(crate) pace: &'a Pace,
}

impl<R: Read> Read for Paced<'_, R> {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(block)?;
        let wait = self.pace.after(read as u64);
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        Ok(read)
    }
}

/// The digest of a file. Waits for the disk, and for its turn.
pub(crate) fn hash(file: &mut File, pace: &Pace) -> io::Result<Digest> {
    hash_into(file, pace, &mut io::sink())
}

/// The same, and its bytes go into `to`.
pub(crate) fn hash_into(file: &mut File, pace: &Pace, to: &mut impl Write) -> io::Result<Digest> {
    let (mut hasher, mut block) = (Hasher::default(), vec![0; BLOCK_BYTES]);
    let mut paced = Paced { reader: file, pace };
    loop {
        match paced.read(&mut block) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => {
                hasher.update(&block[..read]);
                to.write_all(&block[..read])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_makes_up_for_what_was_read() {
        let pace = Pace::new(Some(1000));
        let first = pace.after(1000);
        assert!(first > Duration::from_millis(850), "{first:?}");
        let second = pace.after(1000);
        assert!(second > Duration::from_millis(1850), "{second:?}");
        assert_eq!(Pace::new(None).after(u64::MAX), Duration::ZERO);
    }
}
