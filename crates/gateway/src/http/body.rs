//! The body of an answer, and the record that is written when it is gone.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use store::{Block, FrameError, Frames};

use super::guard::Pulse;
use crate::record::Record;

/// After so many bytes a body lets others run, so that one fast client does not hold a thread.
const TURN_BYTES: u64 = 1 << 20;

/// A body that hyper sends.
#[derive(Debug)]
pub struct Body {
    content: Content,
    turn: u64,
    /// Whether the next block has been asked for and is not there yet.
    to_come: bool,
    open: Open,
}

#[derive(Debug)]
enum Content {
    Once(Bytes),
    Frames(Frames),
}

/// A request whose answer is under way. When this goes, the record is written.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) record: Box<Record>,
    pub(crate) pulse: Arc<Pulse>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let end = Instant::now();
        self.pulse.answered(end);
        self.pulse.recorder.finish(&self.record, end);
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.open.waits(&mut self.to_come, false);
    }
}

impl Open {
    /// Tells the connection whether its client waits for the gateway, or the other way round.
    fn waits(&self, waited: &mut bool, waits: bool) {
        if *waited != waits {
            *waited = waits;
            if waits {
                self.pulse.is_to_come();
            } else {
                self.pulse.has_come();
            }
        }
    }
}

impl Body {
    /// A body in memory.
    pub(crate) fn once(bytes: Bytes, mut open: Open) -> Self {
        open.record.complete = bytes.is_empty();
        Self {
            content: Content::Once(bytes),
            turn: 0,
            to_come: false,
            open,
        }
    }

    /// A body read on the way.
    pub(crate) fn frames(frames: Frames, mut open: Open) -> Self {
        open.record.complete = frames.remaining() == Some(0);
        Self {
            content: Content::Frames(frames),
            turn: 0,
            to_come: false,
            open,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = FrameError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FrameError>>> {
        let this = self.get_mut();
        let next = match &mut this.content {
            Content::Once(bytes) if bytes.is_empty() => None,
            Content::Once(bytes) => Some(Ok(Block::memory(std::mem::take(bytes)))),
            Content::Frames(frames) => {
                if this.turn >= TURN_BYTES {
                    this.turn = 0;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let next = frames.poll_next(cx);
                this.open.waits(&mut this.to_come, next.is_pending());
                std::task::ready!(next)
            }
        };
        let record = &mut this.open.record;
        match next {
            None => {
                record.complete = true;
                Poll::Ready(None)
            }
            Some(Ok(block)) => {
                this.open.pulse.announced.push(&block);
                let bytes = block.bytes;
                record.bytes += bytes.len() as u64;
                this.turn += bytes.len() as u64;
                record.complete = match &this.content {
                    Content::Once(_) => true,
                    Content::Frames(frames) => frames.remaining() == Some(0),
                };
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Err(error)) => {
                record.complete = false;
                tracing::warn!(
                    request_id = format_args!("{:016x}", record.id),
                    module = record.subject.module,
                    version = record.subject.version,
                    %error,
                    "cut a connection: the rest of the body is not good"
                );
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Once(bytes) => bytes.is_empty(),
            Content::Frames(frames) => {
                frames.remaining() == Some(0) && self.open.record.complete && self.known_end()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Once(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Frames(frames) => frames
                .remaining()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl Body {
    pub(crate) fn set_status(&mut self, status: u16) {
        self.open.record.status = status;
    }

    /// A download is over only when its spool says so, not when the announced length is there.
    fn known_end(&self) -> bool {
        match &self.content {
            Content::Once(_) => true,
            Content::Frames(frames) => !frames.follows_download(),
        }
    }
}
