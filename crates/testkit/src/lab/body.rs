//! Bodies that come slowly, in part or not at all.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Instant, sleep_until};

use super::hold::Waiting;

/// What comes after the last byte there is.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// The body is over.
    Clean,
    /// Nothing, and the connection stays open.
    Stall,
    /// The connection is closed.
    Cut,
}

/// Bytes, the pace at which they come, and the end. It never tells its length, so that the length which the head
/// announces is only what the answer sets.
pub(super) struct LabBody {
    left: VecDeque<Bytes>,
    /// Bytes at a time.
    step: usize,
    /// The wait before each step but the first.
    pace: Option<Duration>,
    /// After so many bytes more the body waits to be let go on.
    hold: Option<(usize, Waiting)>,
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    end: End,
}

impl LabBody {
    pub(super) fn new(content: Bytes) -> LabBody {
        LabBody::of(vec![content])
    }

    /// From pieces, one after the other.
    pub(super) fn of(content: Vec<Bytes>) -> LabBody {
        LabBody {
            left: content.into(),
            step: 64 << 10,
            pace: None,
            hold: None,
            wait: None,
            end: End::Clean,
        }
    }

    pub(super) fn paced(mut self, step: usize, pace: Duration) -> LabBody {
        self.step = step;
        self.pace = Some(pace);
        self
    }

    pub(super) fn held_after(mut self, bytes: usize, waiting: Waiting) -> LabBody {
        self.hold = Some((bytes, waiting));
        self
    }

    pub(super) fn ending(mut self, end: End) -> LabBody {
        self.end = end;
        self
    }

    /// The next bytes, at most one step and not beyond the hold.
    fn take(&mut self) -> Option<Bytes> {
        while self.left.front().is_some_and(Bytes::is_empty) {
            self.left.pop_front();
        }
        let held = self.hold.as_ref().map_or(usize::MAX, |(bytes, _)| *bytes);
        let piece = self.left.front_mut()?;
        Some(piece.split_to(self.step.min(piece.len()).min(held)))
    }
}

impl Body for LabBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let body = self.get_mut();
        if let Some(wait) = &mut body.wait {
            ready!(wait.as_mut().poll(context));
            body.wait = None;
        }
        if let Some((0, waiting)) = &body.hold {
            let mut wait = Box::pin(waiting.clone().pass());
            body.hold = None;
            if wait.as_mut().poll(context).is_pending() {
                body.wait = Some(wait);
                return Poll::Pending;
            }
        }
        let Some(step) = body.take() else {
            return match body.end {
                End::Clean => Poll::Ready(None),
                // Nobody wakes this up: the task ends with its connection.
                End::Stall => Poll::Pending,
                End::Cut => Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
            };
        };
        if let Some((bytes, _)) = &mut body.hold {
            *bytes -= step.len();
        }
        // The cut waits too: an error in the same turn would have hyper drop what it has not written yet.
        let over = body.left.iter().all(Bytes::is_empty);
        let pace = match (body.pace, body.end) {
            (Some(pace), _) => Some(pace),
            (None, End::Cut) if over => Some(Duration::from_millis(20)),
            (None, _) => None,
        };
        if let Some(pace) = pace {
            body.wait = Some(Box::pin(sleep_until(Instant::now() + pace)));
        }
        Poll::Ready(Some(Ok(Frame::data(step))))
    }
}
