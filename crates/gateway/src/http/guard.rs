//! Time limits of a connection: slow heads, idle clients, clients that do not read.
//!
//! A timer per read or write would cost more than an answer. Instead the connection notes what moves, and one look
//! every [`LOOK`] finds who has stood still for too long.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use super::socket::Announced;
use crate::record::Recorder;

/// How often connections are looked at: limits are kept to within this.
pub(crate) const LOOK: Duration = Duration::from_millis(500);

/// Ids of requests that a connection takes at once.
const IDS: u64 = 1 << 20;

/// Who takes less than this of its answers is not reading but holding on.
const LEAST_BYTES_PER_SECOND: u64 = 256;

/// What a client's system takes for it while it reads nothing.
const HELD_UNREAD_BYTES: u64 = 256 << 10;

/// The most that a system holds for a client that read quickly before, as far as we wait for it.
const MOST_HELD_BYTES: u64 = 8 << 20;

/// How quickly we expect a client to read what its system holds. Nothing shows here before much of that is gone.
const HELD_BYTES_PER_SECOND: u64 = 4 << 10;

/// Time limits of a client connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
    /// In which a client that is waited for must take its least of the answer: 256 bytes a second.
    pub write_stall_timeout: Duration,
}

impl ConnectionLimits {
    /// `write_stall_timeout` in milliseconds.
    fn stall_millis(&self) -> u64 {
        u64::try_from(self.write_stall_timeout.as_millis()).unwrap_or(u64::MAX)
    }
}

/// How many milliseconds longer a client is waited for that has got this much, since its system may hold that for it.
fn held_millis(gone: u64) -> u64 {
    let held = gone.min(MOST_HELD_BYTES).saturating_sub(HELD_UNREAD_BYTES);
    held * 1000 / HELD_BYTES_PER_SECOND
}

/// The bytes that a client must take in this time.
fn least_bytes(millis: u64) -> u64 {
    (millis.saturating_mul(LEAST_BYTES_PER_SECOND) / 1000).max(1)
}

/// The movements of one connection; times are in milliseconds since it began.
#[derive(Debug)]
pub(crate) struct Pulse {
    begin: Instant,
    /// Where its requests are recorded.
    pub(crate) recorder: Arc<Recorder>,
    /// The id of its next request; 0 before the first, and when it has used up its own.
    next_id: AtomicU64,
    /// Requests under way.
    active: AtomicU32,
    /// Those of them that wait for the gateway: for upstream, for the disk.
    ours: AtomicU32,
    /// Whether requests share the connection (HTTP/2): then what is read need not belong to a head.
    shared: AtomicBool,
    /// Since when an unfinished head is waiting for its rest; 0 means that none is.
    head_since: AtomicU64,
    /// Whether the socket has no room for what is to be written.
    full: AtomicBool,
    /// Bytes that the socket took.
    taken: AtomicU64,
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

/// What the looks at one connection remember: since when its client has been waited for.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    since: Option<u64>,
    /// What the socket had taken then.
    taken: u64,
    /// What of it had gone to the client, as the system told a while later, and when.
    gone: Option<(u64, u64)>,
    /// It was told that the connection ends.
    pub(crate) closing: bool,
}

impl Pulse {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Self {
        Self {
            begin: Instant::now(),
            recorder,
            next_id: AtomicU64::new(0),
            active: AtomicU32::new(0),
            ours: AtomicU32::new(0),
            shared: AtomicBool::new(false),
            head_since: AtomicU64::new(1),
            full: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            last: AtomicU64::new(1),
            announced: Announced::default(),
        }
    }

    fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    fn at(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.begin).as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    /// An id for a request. A connection takes [`IDS`] at once from `all`, which every connection writes to.
    pub(crate) fn next_id(&self, all: &AtomicU64) -> u64 {
        let mut id = self.next_id.load(Ordering::Relaxed);
        if id.is_multiple_of(IDS) {
            id = all.fetch_add(IDS, Ordering::Relaxed) / IDS * IDS + 1;
        }
        self.next_id.store(id.wrapping_add(1), Ordering::Relaxed);
        id
    }

    /// The end of a write. One task writes, so nothing can come between a load and its store.
    pub(super) fn wrote(&self, result: &Poll<io::Result<usize>>) {
        if self.full.load(Ordering::Relaxed) != result.is_pending() {
            self.full.store(result.is_pending(), Ordering::Relaxed);
        }
        if let Poll::Ready(Ok(bytes)) = result {
            let taken = self.taken.load(Ordering::Relaxed);
            self.taken.store(taken + *bytes as u64, Ordering::Relaxed);
        }
    }

    /// Something came: a head, where nothing is under way.
    pub(super) fn moved(&self) {
        if self.active.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == 0
        {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// A request's head is complete.
    pub(crate) fn asked(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
    }

    /// An answer is over.
    pub(crate) fn answered(&self, now: Instant) {
        self.active.fetch_sub(1, Ordering::Relaxed);
        self.last.store(self.at(now), Ordering::Relaxed);
    }

    /// An answer waits for the gateway, until [`has_come`](Self::has_come).
    pub(crate) fn is_to_come(&self) {
        self.ours.fetch_add(1, Ordering::Relaxed);
    }

    /// What an answer waited for is there.
    pub(crate) fn has_come(&self) {
        self.ours.fetch_sub(1, Ordering::Relaxed);
    }

    /// An answer waits for the gateway for as long as the result lives.
    pub(crate) fn wait(self: &Arc<Self>) -> ToCome {
        self.is_to_come();
        ToCome(Arc::clone(self))
    }

    /// The connection has, or turns out to have, many requests at once.
    pub(crate) fn is_shared(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    /// A handshake is over: the connection is idle until a head begins.
    pub(crate) fn ready(&self) {
        self.head_since.store(0, Ordering::Relaxed);
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// `unsent` is what lies in the socket: it is asked for where the client seems to stand still.
    pub(crate) fn look(
        &self,
        limits: &ConnectionLimits,
        patience: &mut Patience,
        unsent: impl Fn() -> u64,
    ) -> Verdict {
        let now = self.now();
        let since = |at: u64| Duration::from_millis(now.saturating_sub(at));
        let active = self.active.load(Ordering::Relaxed);
        let head_since = self.head_since.load(Ordering::Relaxed);
        if self.stalled(now, active, limits, patience, unsent) {
            Verdict::Stalled
        } else if active > 0 {
            Verdict::Fine
        } else if head_since != 0
            && since(head_since) > limits.header_timeout
            // A ping looks the same from here. Who dribbles a head over HTTP/2 is idle.
            && !self.shared.load(Ordering::Relaxed)
        {
            Verdict::SlowHead
        } else if since(self.last.load(Ordering::Relaxed)) > limits.idle_timeout {
            Verdict::Idle
        } else {
            Verdict::Fine
        }
    }

    /// Whether the client has been waited for all the time, and took too little. Not by the socket alone: over HTTP/2
    /// a client may keep its own window shut, while pings come and go.
    fn stalled(
        &self,
        now: u64,
        active: u32,
        limits: &ConnectionLimits,
        patience: &mut Patience,
        unsent: impl Fn() -> u64,
    ) -> bool {
        let waited_for = self.full.load(Ordering::Relaxed)
            || active > self.ours.load(Ordering::Relaxed)
            || (active == 0 && patience.closing);
        let taken = self.taken.load(Ordering::Relaxed);
        let limit = limits.stall_millis();
        let waited = match patience.since {
            Some(since) if waited_for && taken - patience.taken < least_bytes(limit) => {
                now.saturating_sub(since)
            }
            _ => {
                patience.since = waited_for.then_some(now);
                patience.taken = taken;
                patience.gone = None;
                return false;
            }
        };
        // Most go on before this, and none of them is asked about.
        if waited <= limit / 8 {
            return false;
        }
        let gone = || taken.saturating_sub(unsent());
        let (before, at) = *patience.gone.get_or_insert_with(|| (gone(), now));
        if waited <= limit.saturating_add(held_millis(before)) {
            return false;
        }
        let gone = gone();
        if gone.saturating_sub(before) < least_bytes(now - at) {
            return true;
        }
        *patience = Patience {
            since: Some(now),
            taken,
            gone: Some((gone, now)),
            closing: patience.closing,
        };
        false
    }
}

/// An answer that is to come.
#[derive(Debug)]
pub(crate) struct ToCome(Arc<Pulse>);

impl Drop for ToCome {
    fn drop(&mut self) {
        self.0.has_come();
    }
}

#[cfg(test)]
impl Pulse {
    /// Of a connection whose requests are recorded nowhere.
    pub(super) fn nowhere() -> Self {
        let log = crate::AccessLog::to(std::io::sink()).unwrap();
        let recorder = Recorder::new(Arc::default(), Arc::new(log), false);
        Self::new(Arc::new(recorder))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_mins(2),
        write_stall_timeout: Duration::from_mins(1),
    };

    /// When a client that takes `bytes` every `every` seconds is given up, within an hour. What it takes goes through a
    /// buffer of the system that is filled up when it is empty, if there is one.
    fn given_up(pulse: &Pulse, bytes: u64, every: u64, buffer: u64) -> Option<u64> {
        let unsent = Cell::new(0);
        pulse.taken.store(0, Ordering::Relaxed);
        let mut patience = Patience::default();
        (0..3600).find(|second| {
            if second % every == 0 {
                if unsent.get() < bytes {
                    pulse.taken.fetch_add(bytes + buffer, Ordering::Relaxed);
                    unsent.set(unsent.get() + bytes + buffer);
                }
                unsent.set(unsent.get() - bytes);
            }
            let active = pulse.active.load(Ordering::Relaxed);
            pulse.stalled(second * 1000, active, &LIMITS, &mut patience, || {
                unsent.get()
            })
        })
    }

    #[test]
    fn a_client_must_take_its_least() {
        let pulse = Pulse::nowhere();
        assert_eq!(
            given_up(&pulse, 0, 1, 0),
            None,
            "nobody waits for an idle one"
        );
        pulse.asked();
        for (bytes, every, end) in [
            (0, 1, Some(61)),
            (1, 59, Some(61)),
            // The pings of HTTP/2 are bytes too.
            (17, 30, Some(61)),
            (250, 1, Some(61)),
            (257, 1, None),
            // As it comes out of a large buffer of the system.
            (1 << 20, 59, None),
        ] {
            assert_eq!(
                given_up(&pulse, bytes, every, 0),
                end,
                "{bytes} every {every} s"
            );
        }
        // Nothing is taken for minutes, while the buffer empties or does not.
        assert_eq!(given_up(&pulse, 5 << 10, 1, 4 << 20), None);
        assert_eq!(given_up(&pulse, 300, 1, 4 << 20), None);
        assert_eq!(given_up(&pulse, 200, 1, 4 << 20), Some(61));
        // All is taken at once, and held by the client's system for it.
        assert_eq!(given_up(&pulse, 256 << 10, 4000, 0), Some(61));
        assert_eq!(given_up(&pulse, 1 << 20, 4000, 0), Some(61 + 192));
        assert_eq!(given_up(&pulse, 1 << 30, 4000, 0), Some(61 + 1984));
        pulse.is_to_come();
        assert_eq!(
            given_up(&pulse, 0, 1, 0),
            None,
            "it is the client who waits"
        );
        pulse.asked();
        assert_eq!(given_up(&pulse, 0, 1, 0), Some(61), "one of two waits");
        pulse.has_come();
    }
}
