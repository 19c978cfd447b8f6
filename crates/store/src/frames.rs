//! A body as a sequence of shared blocks.

use std::{
    fs::File,
    future::{Future, poll_fn},
    io,
    os::unix::fs::FileExt as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};

use crate::{
    kept::read_at_hand, map::Touch, pull::PullReader, spool::SpoolReader, window::Windows,
};

/// Longest block handed out at once: a fast reader gives way to others between blocks.
pub(crate) const FRAME_BYTES: usize = 1 << 20;

/// Bytes that are read into memory at once.
const READ_BYTES: usize = 256 << 10;

/// Blocks of a tier's object that wait to be sent on: as much as is read at once, a few hundred kilobytes at most, each.
const AHEAD: usize = 4;

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The disk.
    #[error("reading what is kept: {0}")]
    Io(#[from] io::Error),
    /// The download behind a spool failed, or what it brought was refused.
    #[error("the download failed: {0}")]
    Failed(Arc<str>),
}

/// Some bytes of a body.
#[derive(Clone, Debug)]
pub struct Block {
    /// The bytes.
    pub bytes: Bytes,
    /// The file that has the same bytes, and where in it: it may be sent instead of them.
    pub file: Option<(Arc<File>, u64)>,
}

impl Block {
    /// Bytes that are in memory alone.
    pub fn memory(bytes: Bytes) -> Self {
        Self { bytes, file: None }
    }

    /// Cuts off the first `len` bytes.
    fn split_to(&mut self, len: usize) -> Self {
        let bytes = self.bytes.split_to(len);
        let file = self.file.clone();
        if let Some((_, offset)) = &mut self.file {
            *offset += len as u64;
        }
        Self { bytes, file }
    }
}

/// Blocks of at most 1 MiB, in order. Ends after the last; an error is final.
#[derive(Debug)]
pub struct Frames {
    source: Source,
    /// Cut from the window under way.
    rest: Block,
    remaining: Option<u64>,
}

type Pulled = Result<Option<Block>, FrameError>;

#[derive(Debug)]
enum Source {
    Whole,
    Windows {
        windows: Arc<Windows>,
        at: u64,
        end: u64,
        next: Option<JoinHandle<io::Result<Block>>>,
    },
    Read {
        file: Arc<File>,
        at: u64,
        end: u64,
        /// A block that the disk is waited for.
        next: Option<JoinHandle<io::Result<Bytes>>>,
    },
    Spool(SpoolReader),
    /// Nothing comes after an error, or after the mark of the end.
    Pull(mpsc::Receiver<Pulled>),
}

impl Frames {
    /// A body that is there already.
    pub fn whole(block: Block) -> Self {
        Self {
            remaining: Some(block.bytes.len() as u64),
            rest: block,
            source: Source::Whole,
        }
    }

    pub(crate) fn windows(windows: Arc<Windows>, from: u64, to: u64) -> Self {
        let source = Source::Windows {
            windows,
            at: from,
            end: to,
            next: None,
        };
        Self {
            source,
            rest: Block::memory(Bytes::new()),
            remaining: Some(to - from),
        }
    }

    /// The bytes `from..to` of a file, read into memory.
    pub(crate) fn read(file: Arc<File>, from: u64, to: u64) -> Self {
        let source = Source::Read {
            file,
            at: from,
            end: to,
            next: None,
        };
        Self {
            source,
            rest: Block::memory(Bytes::new()),
            remaining: Some(to - from),
        }
    }

    pub(crate) fn spool(reader: SpoolReader) -> Self {
        Self {
            remaining: reader.expected(),
            source: Source::Spool(reader),
            rest: Block::memory(Bytes::new()),
        }
    }

    /// What a tier sends, read and compared ahead of the one who sends it on: on `runtime`, which has the connection.
    pub(crate) fn pull(mut reader: PullReader, len: u64, runtime: &Handle) -> Self {
        let (sender, ahead) = mpsc::channel(AHEAD);
        runtime.spawn(async move {
            loop {
                let pulled = poll_fn(|cx| reader.poll_window(cx)).await;
                let more = matches!(pulled, Ok(Some(_)));
                if sender.send(pulled).await.is_err() || !more {
                    return;
                }
            }
        });
        Self {
            remaining: Some(len),
            source: Source::Pull(ahead),
            rest: Block::memory(Bytes::new()),
        }
    }

    /// Bytes still to come, where known.
    pub fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    /// Whether this follows a download that may still turn out bad.
    pub fn follows_download(&self) -> bool {
        matches!(self.source, Source::Spool(_) | Source::Pull(_))
    }

    /// The next block, or `None` after the last.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Block, FrameError>>> {
        if self.rest.bytes.is_empty() {
            self.rest = match ready!(self.source.poll_window(cx)) {
                Ok(Some(block)) => block,
                Ok(None) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
        }
        let frame = self.rest.split_to(self.rest.bytes.len().min(FRAME_BYTES));
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(frame.bytes.len() as u64);
        }
        if self.rest.bytes.is_empty() {
            // Let go of the window now, not when the next one is asked for.
            self.rest = Block::memory(Bytes::new());
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

/// Some of `len` bytes, as many as `read` gives.
fn read_block(len: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<Bytes> {
    let mut bytes = vec![0; len];
    match read(&mut bytes)? {
        0 => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the file is shorter than what was kept",
        )),
        some => {
            bytes.truncate(some);
            Ok(bytes.into())
        }
    }
}

impl Source {
    /// The next window's bytes; one further window is read ahead while this one is sent.
    fn poll_window(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Block>, FrameError>> {
        match self {
            Self::Whole => Poll::Ready(Ok(None)),
            Self::Spool(reader) => reader.poll_window(cx),
            Self::Pull(ahead) => Poll::Ready(
                ready!(ahead.poll_recv(cx))
                    .unwrap_or_else(|| Err(FrameError::Failed("nobody reads it any more".into()))),
            ),
            Self::Read {
                file,
                at,
                end,
                next,
            } => {
                if at >= end {
                    return Poll::Ready(Ok(None));
                }
                let len = READ_BYTES.min(usize::try_from(*end - *at).unwrap_or(READ_BYTES));
                let bytes = if next.is_none()
                    && let Ok(bytes) = read_block(len, |into| read_at_hand(file, into, *at))
                {
                    bytes
                } else {
                    let pending = next.get_or_insert_with(|| {
                        let (file, at) = (Arc::clone(file), *at);
                        spawn_blocking(move || read_block(len, |into| file.read_at(into, at)))
                    });
                    let read = ready!(Pin::new(pending).poll(cx)).map_err(io::Error::other);
                    *next = None;
                    read??
                };
                *at += bytes.len() as u64;
                Poll::Ready(Ok(Some(Block::memory(bytes))))
            }
            Self::Windows {
                windows,
                at,
                end,
                next,
            } => {
                if at >= end {
                    return Poll::Ready(Ok(None));
                }
                let read = |at: u64, end: u64| {
                    let windows = Arc::clone(windows);
                    spawn_blocking(move || windows.read(at, end, Touch::Now))
                };
                let (from, to) = (*at, *end);
                let pending = next.get_or_insert_with(|| read(from, to));
                let block = ready!(Pin::new(pending).poll(cx)).map_err(io::Error::other)??;
                *at += block.bytes.len() as u64;
                *next = (at < end).then(|| read(*at, *end));
                Poll::Ready(Ok(Some(block)))
            }
        }
    }
}
