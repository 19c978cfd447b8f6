//! Bodies that come slowly, in part or not at all.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Instant, Sleep};

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
#[derive(Debug)]
pub(super) struct LabBody {
    left: Bytes,
    /// Bytes at a time.
    step: usize,
    /// The wait before each step but the first.
    pace: Option<Duration>,
    wait: Option<Pin<Box<Sleep>>>,
    end: End,
}

impl LabBody {
    pub(super) fn new(content: Bytes) -> LabBody {
        LabBody {
            left: content,
            step: 64 << 10,
            pace: None,
            wait: None,
            end: End::Clean,
        }
    }

    pub(super) fn paced(mut self, step: usize, pace: Duration) -> LabBody {
        self.step = step;
        self.pace = Some(pace);
        self
    }

    pub(super) fn ending(mut self, end: End) -> LabBody {
        self.end = end;
        self
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
        if body.left.is_empty() {
            return match body.end {
                End::Clean => Poll::Ready(None),
                // Nobody wakes this up: the task ends with its connection.
                End::Stall => Poll::Pending,
                End::Cut => Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
            };
        }
        let step = body.left.split_to(body.step.min(body.left.len()));
        // The cut waits too: an error in the same turn would have hyper drop what it has not written yet.
        body.wait = match (body.pace, body.end) {
            (Some(pace), _) => Some(pace),
            (None, End::Cut) if body.left.is_empty() => Some(Duration::from_millis(20)),
            (None, _) => None,
        }
        .map(|pace| Box::pin(tokio::time::sleep_until(Instant::now() + pace)));
        Poll::Ready(Some(Ok(Frame::data(step))))
    }
}
