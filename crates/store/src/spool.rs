//! A download under way: one writer, many readers, the last part held back.
//!
//! The writer appends to a file under `tmp/`. Readers follow it, but see only what may be shown: all but
//! the last [`HELD_BACK_BYTES`] until [`Spooled::release`] says that the whole is good. So whoever reads a
//! download that turns out bad sees it break off, never a whole wrong body.

use std::{
    fmt,
    fs::File,
    future::Future,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{sync::watch, task::spawn_blocking};

use crate::{
    Digest, Hasher, Kept,
    frames::{Block, FrameError, Frames},
    map::Touch,
    window::Windows,
};

/// What readers do not get before the whole is released, in bytes.
pub(crate) const HELD_BACK_BYTES: u64 = 64 << 10;

/// Why a spool ends without its whole content.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SpoolError(pub Arc<str>);

#[derive(Clone, Debug)]
enum Phase {
    Receiving,
    Released,
    Failed(Arc<str>),
}

#[derive(Clone, Debug)]
struct State {
    written: u64,
    phase: Phase,
}

/// The readers' side; clone the `Arc` it comes in.
#[derive(Debug)]
pub struct Spool {
    windows: Arc<Windows>,
    expected: Option<u64>,
    state: watch::Sender<State>,
}

/// The file under `tmp/`; removed when dropped, unless it was renamed.
#[derive(Debug)]
pub(crate) struct TempPath(pub(crate) Option<PathBuf>);

impl TempPath {
    /// Gives the file a name outside of `tmp/`, over what is there.
    pub(crate) fn rename(mut self, to: &Path) -> io::Result<()> {
        let from = self.0.as_ref().ok_or(io::ErrorKind::NotFound)?;
        std::fs::rename(from, to)?;
        self.0 = None;
        Ok(())
    }
}

impl Drop for TempPath {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // Nothing to be done if it fails: the next start empties the folder.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The writer's side. Dropped before [`finish`](Self::finish), it fails the spool.
#[derive(Debug)]
pub struct SpoolWriter {
    spool: Arc<Spool>,
    temp: TempPath,
    written: u64,
    finished: bool,
    /// Made of what is written, where somebody wants to know.
    hasher: Option<Hasher>,
}

/// A download that is complete, and not yet judged. Dropped without [`release`](Self::release), it fails.
#[derive(Debug)]
pub struct Spooled {
    spool: Arc<Spool>,
    pub(crate) temp: TempPath,
    len: u64,
    judged: bool,
    digest: Option<Digest>,
}

impl SpoolWriter {
    pub(crate) fn new(file: File, path: PathBuf, expected: Option<u64>) -> Self {
        let (state, _) = watch::channel(State {
            written: 0,
            phase: Phase::Receiving,
        });
        let spool = Arc::new(Spool {
            windows: Arc::new(Windows::new(file)),
            expected,
            state,
        });
        Self {
            spool,
            temp: TempPath(Some(path)),
            written: 0,
            finished: false,
            hasher: None,
        }
    }

    /// Makes the digest while writing; to be called before the first write.
    pub fn hash_along(&mut self) {
        debug_assert_eq!(
            self.written, 0,
            "what is written already would not be in it"
        );
        self.hasher = Some(Hasher::default());
    }

    /// What readers join.
    pub fn spool(&self) -> Arc<Spool> {
        Arc::clone(&self.spool)
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends `blocks` and shows them to the readers. A full disk is an error.
    pub async fn write(&mut self, blocks: Vec<Bytes>) -> io::Result<()> {
        let (windows, mut at) = (Arc::clone(&self.spool.windows), self.written);
        let mut hasher = self.hasher.take();
        (self.written, self.hasher) = spawn_blocking(move || {
            for block in blocks {
                windows.file().write_all_at(&block, at)?;
                at += block.len() as u64;
                if let Some(hasher) = &mut hasher {
                    hasher.update(&block);
                }
            }
            io::Result::Ok((at, hasher))
        })
        .await
        .map_err(io::Error::other)??;
        self.spool
            .state
            .send_modify(|state| state.written = self.written);
        Ok(())
    }

    /// The download is complete; what it is worth is for the caller to find out.
    pub fn finish(mut self) -> Spooled {
        self.finished = true;
        Spooled {
            spool: Arc::clone(&self.spool),
            temp: TempPath(self.temp.0.take()),
            len: self.written,
            judged: false,
            digest: self.hasher.take().map(Hasher::finish),
        }
    }

    /// The download failed: readers are told `reason`.
    pub fn fail(mut self, reason: &str) {
        self.finished = true;
        self.spool.fail(reason);
    }
}

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.spool.fail("the download was given up");
        }
    }
}

impl Spooled {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing came.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The digest, if it was made along.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The download as a kept file of its own, whether or not it gets a final name. Waits for the disk.
    pub fn kept(&self) -> io::Result<Arc<Kept>> {
        let path = self.temp.0.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let kept = Kept::open(File::open(path)?, true)?;
        Ok(Arc::new(kept))
    }

    /// A reader of the whole, for checking it. Every call gives one of its own position.
    pub fn reader(&self) -> SpooledReader {
        SpooledReader {
            windows: Arc::clone(&self.spool.windows),
            at: 0,
            len: self.len,
        }
    }

    /// The whole is good: readers get the last part.
    pub fn release(&mut self) {
        self.judged = true;
        self.spool
            .state
            .send_modify(|state| state.phase = Phase::Released);
    }

    /// The whole is bad: readers are told `reason`, the file goes.
    pub fn refuse(mut self, reason: &str) {
        self.judged = true;
        self.spool.fail(reason);
    }

    /// The file, for whoever reads it by position.
    pub(crate) fn windows(&self) -> Arc<Windows> {
        Arc::clone(&self.spool.windows)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.spool.windows.file().sync_all()
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if !self.judged {
            self.spool.fail("the download was given up");
        }
    }
}

impl Spool {
    /// The length that upstream announced.
    pub fn expected(&self) -> Option<u64> {
        self.expected
    }

    /// Follows the download from its first byte.
    pub fn frames(self: &Arc<Self>) -> Frames {
        Frames::spool(SpoolReader {
            spool: Arc::clone(self),
            at: 0,
            changed: None,
        })
    }

    /// Waits until the whole is released, and gives its length.
    pub async fn released(&self) -> Result<u64, SpoolError> {
        let mut changes = self.state.subscribe();
        loop {
            {
                let state = changes.borrow_and_update();
                match &state.phase {
                    Phase::Released => return Ok(state.written),
                    Phase::Failed(reason) => return Err(SpoolError(Arc::clone(reason))),
                    Phase::Receiving => {}
                }
            }
            if changes.changed().await.is_err() {
                return Err(SpoolError("the download was given up".into()));
            }
        }
    }

    /// Waits until there is something to send before the whole is released, or until it is.
    pub async fn started(&self) -> Result<(), SpoolError> {
        let mut changes = self.state.subscribe();
        let seen = changes
            .wait_for(|state| !matches!(state.phase, Phase::Receiving) || self.visible(state) > 0)
            .await;
        match seen.map(|state| state.phase.clone()) {
            Ok(Phase::Failed(reason)) => Err(SpoolError(reason)),
            Ok(_) => Ok(()),
            Err(_) => Err(SpoolError("the download was given up".into())),
        }
    }

    /// How many bytes readers may have now.
    fn visible(&self, state: &State) -> u64 {
        match (&state.phase, self.expected) {
            (Phase::Released, _) => state.written,
            (_, Some(expected)) => state.written.min(expected.saturating_sub(HELD_BACK_BYTES)),
            (_, None) => state.written.saturating_sub(HELD_BACK_BYTES),
        }
    }

    fn fail(&self, reason: &str) {
        self.state
            .send_modify(|state| state.phase = Phase::Failed(reason.into()));
    }
}

type Changed = Pin<Box<dyn Future<Output = watch::Receiver<State>> + Send + Sync>>;

/// One follower of a spool.
pub(crate) struct SpoolReader {
    spool: Arc<Spool>,
    at: u64,
    changed: Option<Changed>,
}

impl fmt::Debug for SpoolReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolReader")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl SpoolReader {
    pub(crate) fn expected(&self) -> Option<u64> {
        self.spool.expected
    }

    pub(crate) fn poll_window(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Block>, FrameError>> {
        loop {
            let mut receiver = match &mut self.changed {
                None => self.spool.state.subscribe(),
                Some(changed) => {
                    let receiver = ready!(changed.as_mut().poll(cx));
                    self.changed = None;
                    receiver
                }
            };
            let (visible, phase) = {
                let state = receiver.borrow_and_update();
                (self.spool.visible(&state), state.phase.clone())
            };
            if let Phase::Failed(reason) = phase {
                return Poll::Ready(Err(FrameError::Failed(reason)));
            }
            if visible > self.at {
                // Just written, so in the page cache: no trip to the blocking pool.
                let block = self.spool.windows.read(self.at, visible, Touch::WhenUsed)?;
                self.at += block.bytes.len() as u64;
                return Poll::Ready(Ok(Some(block)));
            }
            if matches!(phase, Phase::Released) {
                return Poll::Ready(Ok(None));
            }
            self.changed = Some(Box::pin(async move {
                // The sender lives as long as this reader's spool.
                let _ = receiver.changed().await;
                receiver
            }));
        }
    }
}

/// Reads a complete download by position, whatever others read.
#[derive(Debug)]
pub struct SpooledReader {
    windows: Arc<Windows>,
    at: u64,
    len: u64,
}

impl Read for SpooledReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.windows.file().read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for SpooledReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
