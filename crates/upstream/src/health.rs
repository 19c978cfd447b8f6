//! How one upstream fares: its breaker, its times, its counts. Outlives a change of the configuration.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::breaker::Breaker;

/// Times to first byte kept per upstream.
const SAMPLES: usize = 128;
/// Samples without which a 95th percentile says nothing.
const ENOUGH: usize = 20;

/// What is counted, in the order of [`Snapshot::outcomes`].
const OUTCOMES: [&str; 9] = [
    "ok",
    "absent",
    "status",
    "connect",
    "timeout",
    "broken",
    "overloaded",
    "skipped",
    "bad_content",
];
pub(crate) const OK: usize = 0;
pub(crate) const ABSENT: usize = 1;
pub(crate) const STATUS: usize = 2;
pub(crate) const CONNECT: usize = 3;
pub(crate) const TIMEOUT: usize = 4;
pub(crate) const BROKEN: usize = 5;
pub(crate) const OVERLOADED: usize = 6;
pub(crate) const SKIPPED: usize = 7;
pub(crate) const BAD_CONTENT: usize = 8;

/// The state of one upstream at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The masked name.
    pub name: Arc<str>,
    /// The breaker: `closed`, `open` or `half_open`.
    pub state: &'static str,
    /// Requests and bodies under way.
    pub in_flight: usize,
    /// 95th percentile of the time to first byte, once there are 20 samples.
    pub p95: Option<Duration>,
    /// Totals since the start: answers with a file (`ok`), 404 and 410 (`absent`), other
    /// statuses (`status`), no connection (`connect`), no answer in time (`timeout`), broken
    /// answers and bodies (`broken`), no free place (`overloaded`), passed over because the
    /// breaker was open (`skipped`), content marked bad (`bad_content`).
    pub outcomes: [(&'static str, u64); OUTCOMES.len()],
}

impl Snapshot {
    /// Takes in another one of the same name: the worse of their states, and both counts.
    pub(crate) fn join(&mut self, other: &Self) {
        let badness = |state| {
            ["closed", "half_open", "open"]
                .iter()
                .position(|one| *one == state)
        };
        if badness(other.state) > badness(self.state) {
            self.state = other.state;
        }
        self.in_flight += other.in_flight;
        self.p95 = self.p95.max(other.p95);
        for ((_, count), (_, more)) in self.outcomes.iter_mut().zip(other.outcomes) {
            *count += more;
        }
    }
}

/// The health of one upstream.
#[derive(Debug)]
pub(crate) struct Health {
    breaker: Mutex<Breaker>,
    /// Wakes those who wait for the outcome of a probe.
    pub(crate) judged: Notify,
    samples: Mutex<Samples>,
    counts: [AtomicU64; OUTCOMES.len()],
    /// Whether somebody probes it as long as its breaker is not closed.
    pub(crate) watched: AtomicBool,
    /// Whether this gateway itself found it ill, and not well since.
    pub(crate) found_ill: AtomicBool,
    /// When it last answered somebody.
    answered: Mutex<Option<Instant>>,
    /// Whether it is another gateway of this kind, once that is known.
    gateway: Mutex<Option<bool>>,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self {
            breaker: Mutex::new(Breaker::new(Instant::now())),
            judged: Notify::new(),
            samples: Mutex::new(Samples::default()),
            counts: [const { AtomicU64::new(0) }; OUTCOMES.len()],
            watched: AtomicBool::new(false),
            found_ill: AtomicBool::new(false),
            answered: Mutex::default(),
            gateway: Mutex::default(),
        }
    }

    /// The counts alone: what else is known is no more true of an upstream that is asked otherwise.
    pub(crate) fn counts_only(&self) -> Self {
        let counts = self.counts.each_ref();
        Self {
            counts: counts.map(|count| AtomicU64::new(count.load(Ordering::Relaxed))),
            ..Self::new()
        }
    }

    pub(crate) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It answered somebody.
    pub(crate) fn answers(&self) {
        *self.answered() = Some(Instant::now());
    }

    /// Whether it answered anybody since: then it is not dead, whatever else it leaves unanswered.
    pub(crate) fn answered_since(&self, begin: Instant) -> bool {
        self.answered().is_some_and(|last| last >= begin)
    }

    fn answered(&self) -> MutexGuard<'_, Option<Instant>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is another gateway of this kind, if that is known.
    pub(crate) fn gateway(&self) -> Option<bool> {
        *self.gateway.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_gateway(&self, gateway: bool) {
        *self.gateway.lock().unwrap_or_else(PoisonError::into_inner) = Some(gateway);
    }

    pub(crate) fn sample(&self, time: Duration) {
        self.samples().push(time);
    }

    pub(crate) fn p95(&self) -> Option<Duration> {
        self.samples().p95()
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self, outcome: usize) {
        self.counts[outcome].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn outcomes(&self) -> [(&'static str, u64); OUTCOMES.len()] {
        let mut outcomes = OUTCOMES.map(|name| (name, 0));
        for (outcome, count) in outcomes.iter_mut().zip(&self.counts) {
            outcome.1 = count.load(Ordering::Relaxed);
        }
        outcomes
    }
}

/// The last times to first byte.
#[derive(Debug, Default)]
struct Samples {
    kept: Vec<Duration>,
    next: usize,
}

impl Samples {
    fn push(&mut self, sample: Duration) {
        if self.kept.len() < SAMPLES {
            self.kept.push(sample);
        } else {
            self.kept[self.next] = sample;
            self.next = (self.next + 1) % SAMPLES;
        }
    }

    fn p95(&self) -> Option<Duration> {
        if self.kept.len() < ENOUGH {
            return None;
        }
        let mut sorted = self.kept.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * 95 / 100).copied()
    }
}
