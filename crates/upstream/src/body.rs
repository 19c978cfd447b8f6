//! The body of an answer, as it comes.

use std::error::Error as _;
use std::time::{Duration, Instant};
use std::{fmt, io, iter};

use bytes::{Bytes, BytesMut};

use crate::peer::Pass;

/// Room made at first for a body collected into memory.
const FIRST_ROOM: u64 = 64 * 1024;

/// A body that brings less than [`LEAST_BYTES`] while it is waited for this long dribbles: nobody should hold a
/// download open for days by a byte now and then. Time in which it is not read does not count.
const LONG_WAIT: Duration = Duration::from_secs(10);
/// 1 KiB/s.
const LEAST_BYTES: u64 = 10 << 10;

/// Why a body did not come whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The connection broke, or ended before `Content-Length` bytes had come.
    #[error("the body broke off: {0}")]
    Broken(String),
    /// Silence for longer than the upstream's idle limit.
    #[error("the body stalled for {} s", .0.as_secs_f64())]
    Idle(Duration),
    /// Less than 1 KiB/s for 10 s.
    #[error("the body dribbled: {0} bytes in {time} s", time = LONG_WAIT.as_secs())]
    Slow(u64),
    /// More bytes than the caller wanted.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
}

/// The body of a 200 answer. Holds its place under the upstream's limit of concurrent requests
/// until dropped; its end counts in the upstream's health.
pub struct Body {
    response: reqwest::Response,
    length: Option<u64>,
    seen: u64,
    idle: Duration,
    /// Time waited for pieces since the pace was looked at last, and what came in it.
    waited: Duration,
    came: u64,
    /// Gone once the body has ended, well or not.
    pass: Option<Pass>,
    ended: Option<Result<(), BodyError>>,
}

impl Body {
    pub(crate) fn new(
        response: reqwest::Response,
        length: Option<u64>,
        idle: Duration,
        pass: Pass,
    ) -> Self {
        Self {
            response,
            length,
            seen: 0,
            idle,
            waited: Duration::ZERO,
            came: 0,
            pass: Some(pass),
            ended: None,
        }
    }

    /// The next piece; `None` once the body has come whole. Errors are repeated when asked again.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        if let Some(ended) = &self.ended {
            return ended.clone().map(|()| None);
        }
        let begin = Instant::now();
        let next = tokio::time::timeout(self.idle, self.response.chunk()).await;
        self.waited += begin.elapsed();
        let end = match next {
            Ok(Ok(Some(chunk))) => {
                self.seen += chunk.len() as u64;
                let dribbles = self.dribbles(chunk.len() as u64);
                match self.length {
                    _ if dribbles => Err(BodyError::Slow(self.came)),
                    Some(length) if self.seen > length => Err(BodyError::Broken(format!(
                        "more than the {length} bytes announced"
                    ))),
                    _ => return Ok(Some(chunk)),
                }
            }
            Ok(Ok(None)) => match self.length {
                Some(length) if self.seen < length => Err(self.short(length)),
                _ => Ok(()),
            },
            Ok(Err(error)) => Err(match self.length {
                Some(length) => self.short(length),
                None if is_garbled(&error) => BodyError::Broken(format!(
                    "what came after {} bytes cannot be decoded",
                    self.seen
                )),
                None => {
                    BodyError::Broken(format!("the connection was lost after {} bytes", self.seen))
                }
            }),
            Err(_) => Err(BodyError::Idle(self.idle)),
        };
        if let Some(pass) = self.pass.take() {
            pass.body_ended(end.is_ok());
        }
        self.ended = Some(end.clone());
        end.map(|()| None)
    }

    /// Reads the whole body into memory; [`BodyError::TooLarge`] beyond `max` bytes, before
    /// reading where the length is announced.
    pub async fn into_bytes(mut self, max: usize) -> Result<Bytes, BodyError> {
        let announced = self.length.unwrap_or(0);
        if announced > max as u64 {
            return Err(BodyError::TooLarge(max));
        }
        let room = usize::try_from(announced.min(FIRST_ROOM)).unwrap_or(0);
        let mut all = BytesMut::with_capacity(room);
        while let Some(chunk) = self.next_chunk().await? {
            if chunk.len() > max - all.len() {
                return Err(BodyError::TooLarge(max));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Whether the body comes too slowly, looked at each time that [`LONG_WAIT`] is over.
    fn dribbles(&mut self, bytes: u64) -> bool {
        self.came += bytes;
        if self.waited < LONG_WAIT {
            return false;
        }
        if self.came < LEAST_BYTES {
            return true;
        }
        (self.waited, self.came) = (Duration::ZERO, 0);
        false
    }

    fn short(&self, length: u64) -> BodyError {
        BodyError::Broken(format!("{} of {length} bytes came", self.seen))
    }
}

/// Whether what came is not of the form that its head says.
fn is_garbled(error: &reqwest::Error) -> bool {
    let mut causes = iter::successors(error.source(), |&cause| cause.source());
    causes.any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::InvalidData)
    })
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("length", &self.length)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}
