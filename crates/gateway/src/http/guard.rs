//! Time limits of a connection: slow heads, idle clients, clients that do not read.
//!
//! A timer per read or write would cost more than an answer. Instead the connection notes when it last moved, and
//! one look every [`LOOK`] finds who has stood still for too long.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::socket::{Announced, Socket};

/// How often connections are looked at: limits are kept to within this.
pub(crate) const LOOK: Duration = Duration::from_millis(500);

/// Time limits of a client connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
    /// Without a byte of an answer taken by the client.
    pub write_stall_timeout: Duration,
}

/// The movements of one connection, in milliseconds since it began; 0 means "not waiting".
#[derive(Debug)]
pub(crate) struct Pulse {
    begin: Instant,
    /// Requests under way.
    pub(crate) active: AtomicU32,
    /// Since when an unfinished head is waiting for its rest.
    head_since: AtomicU64,
    /// Since when a write has been waiting for the client.
    stalled_since: AtomicU64,
    /// When something last happened.
    last: AtomicU64,
    /// What is to be sent out of files.
    pub(crate) announced: Announced,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    Idle,
    SlowHead,
    Stalled,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self {
            begin: Instant::now(),
            active: AtomicU32::new(0),
            head_since: AtomicU64::new(1),
            stalled_since: AtomicU64::new(0),
            last: AtomicU64::new(1),
            announced: Announced::default(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    pub(crate) fn touch(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// A request's head is complete.
    pub(crate) fn asked(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
    }

    /// A handshake is over: the connection is idle until a head begins.
    pub(crate) fn ready(&self) {
        self.head_since.store(0, Ordering::Relaxed);
        self.touch();
    }

    pub(crate) fn look(&self, limits: &ConnectionLimits) -> Verdict {
        let now = self.now();
        let since = |at: &AtomicU64| match at.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            at => Duration::from_millis(now.saturating_sub(at)),
        };
        if since(&self.stalled_since) > limits.write_stall_timeout {
            Verdict::Stalled
        } else if self.active.load(Ordering::Relaxed) > 0 {
            Verdict::Fine
        } else if since(&self.head_since) > limits.header_timeout {
            Verdict::SlowHead
        } else if since(&self.last) > limits.idle_timeout {
            Verdict::Idle
        } else {
            Verdict::Fine
        }
    }
}

/// A connection that notes its movements.
#[derive(Debug)]
pub(crate) struct Guarded {
    socket: Socket,
    pulse: Arc<Pulse>,
}

impl Guarded {
    pub(crate) fn new(socket: Socket, pulse: Arc<Pulse>) -> Self {
        Self { socket, pulse }
    }

    fn wrote<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_pending() {
            if self.pulse.stalled_since.load(Ordering::Relaxed) == 0 {
                self.pulse
                    .stalled_since
                    .store(self.pulse.now(), Ordering::Relaxed);
            }
        } else if self.pulse.stalled_since.load(Ordering::Relaxed) != 0 {
            self.pulse.stalled_since.store(0, Ordering::Relaxed);
        }
        result
    }
}

impl Read for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let result = self.socket.poll_read(cx, into);
        let pulse = &self.pulse;
        if result.is_ready()
            && pulse.active.load(Ordering::Relaxed) == 0
            && pulse.head_since.load(Ordering::Relaxed) == 0
        {
            pulse.head_since.store(pulse.now(), Ordering::Relaxed);
        }
        result
    }
}

impl Write for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = self.socket.poll_write(cx, bytes);
        self.wrote(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = this
            .socket
            .poll_write_vectored(cx, slices, &this.pulse.announced);
        this.wrote(result)
    }
}
