//! The circuit breaker: pure, time is passed in.

use std::time::{Duration, Instant};

/// Consecutive failures that open the breaker.
const THRESHOLD: u32 = 5;
/// First time open.
const FIRST: Duration = Duration::from_secs(1);
/// Longest time open: an upstream that is back is noticed within 5 s.
const CAP: Duration = Duration::from_secs(4);
/// The rate of failures is looked at over the last one to two of these spans.
const SPAN: Duration = Duration::from_secs(10);
/// Outcomes without which a rate says nothing.
const ENOUGH: u32 = 20;

/// Outcomes lately, in two spans of time.
#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    now: Outcomes,
    before: Outcomes,
}

#[derive(Debug, Default, Clone, Copy)]
struct Outcomes {
    all: u32,
    failed: u32,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            now: Outcomes::default(),
            before: Outcomes::default(),
        }
    }

    fn add(&mut self, now: Instant, failed: bool) {
        let age = now.saturating_duration_since(self.began);
        if age >= SPAN {
            let before = if age < 2 * SPAN {
                self.now
            } else {
                Outcomes::default()
            };
            *self = Self {
                before,
                ..Self::new(now)
            };
        }
        self.now.all = self.now.all.saturating_add(1);
        self.now.failed = self.now.failed.saturating_add(u32::from(failed));
    }

    /// Whether half of them failed.
    fn bad(&self) -> bool {
        let all = self.now.all.saturating_add(self.before.all);
        let failed = self.now.failed.saturating_add(self.before.failed);
        all >= ENOUGH && failed >= all / 2
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    /// `wait` is the nominal time open, before jitter.
    Open {
        until: Instant,
        wait: Duration,
    },
    /// A probe is under way.
    HalfOpen {
        since: Instant,
        wait: Duration,
    },
}

/// May a request go out?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Yes.
    Normal,
    /// Yes, and its outcome decides: report it as a probe, or call [`Breaker::abandon`].
    Probe,
    /// No.
    Refused,
}

/// The health of one upstream.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: State,
    failures: u32,
    window: Window,
}

impl Breaker {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            state: State::Closed,
            failures: 0,
            window: Window::new(now),
        }
    }

    /// `closed`, `open` or `half_open`.
    pub(crate) fn name(&self) -> &'static str {
        match self.state {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::HalfOpen { .. } => "half_open",
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Asks leave for ordinary traffic, which never probes: others can be asked instead.
    pub(crate) fn admit(&self) -> Admission {
        if self.is_closed() {
            Admission::Normal
        } else {
            Admission::Refused
        }
    }

    /// Asks leave to probe. With `now_or_never` (nobody else is left to ask) the time open need
    /// not be over. A probe that has been out as long as the cap no longer holds up the next.
    pub(crate) fn probe(&mut self, now: Instant, now_or_never: bool) -> Admission {
        let (free, wait) = match self.state {
            State::Closed => return Admission::Normal,
            State::Open { until, wait } => (now_or_never || now >= until, wait),
            State::HalfOpen { since, wait } => (now.duration_since(since) >= CAP, wait),
        };
        if !free {
            return Admission::Refused;
        }
        self.state = State::HalfOpen { since: now, wait };
        Admission::Probe
    }

    /// How long until the next probe may go; `None`: it is closed.
    pub(crate) fn until_probe(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Open { until, .. } => Some(until.saturating_duration_since(now)),
            State::HalfOpen { since, .. } => Some((since + CAP).saturating_duration_since(now)),
        }
    }

    /// A probe was dropped without an outcome: the next may go at once.
    pub(crate) fn abandon(&mut self, now: Instant) {
        if let State::HalfOpen { wait, .. } = self.state {
            self.state = State::Open { until: now, wait };
        }
    }

    /// Another gateway found the upstream `ill`, or well again: that is a reason to look, not a judgement. What is closed
    /// opens for a probe that may go at once, what is open may be probed at once.
    pub(crate) fn hint(&mut self, now: Instant, ill: bool) {
        let wait = match self.state {
            State::Closed if ill => FIRST,
            State::Open { wait, .. } if !ill => wait,
            _ => return,
        };
        self.state = State::Open { until: now, wait };
    }

    /// The upstream answered, though its body may yet break: what was open closes, but earlier
    /// broken bodies stay counted.
    pub(crate) fn answered(&mut self, now: Instant) {
        if !self.is_closed() {
            self.close(now);
        }
    }

    /// An answer came whole.
    pub(crate) fn success(&mut self, now: Instant) {
        if self.is_closed() {
            self.failures = 0;
            self.window.add(now, false);
        } else {
            self.close(now);
        }
    }

    fn close(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// A failure, and whether it opens what was closed. `dead` (no connection, or no answer in
    /// time) opens at once, others when they come in a row or make up half of all. `jitter` in
    /// 0..=1 shortens the time open by up to a quarter.
    pub(crate) fn failure(&mut self, now: Instant, dead: bool, probe: bool, jitter: f64) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.window.add(now, true);
        let was_closed = self.is_closed();
        let (from, wait) = match self.state {
            State::Closed if dead || self.failures >= THRESHOLD || self.window.bad() => {
                (now, FIRST)
            }
            // Counted from the probe's start, so that a probe that hangs does not lengthen the
            // time until the next.
            State::HalfOpen { since, wait } if probe => (since, (wait * 2).min(CAP)),
            // Requests begun before it opened say nothing new.
            _ => return false,
        };
        let open = wait.mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0));
        self.state = State::Open {
            until: (from + open).max(now),
            wait,
        };
        was_closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn dead_opens_at_once_and_doubles_to_the_cap() {
        let mut now = Instant::now();
        let mut b = Breaker::new(Instant::now());
        b.failure(now, true, false, 0.0);
        assert_eq!(b.name(), "open");
        assert_eq!(b.admit(), Admission::Refused);
        for seconds in [1, 2, 4, 4, 4] {
            assert_eq!(
                b.probe(now + S * seconds * 99 / 100, false),
                Admission::Refused
            );
            now += S * seconds;
            assert_eq!(b.probe(now, false), Admission::Probe);
            assert_eq!(b.name(), "half_open");
            assert_eq!(b.probe(now, true), Admission::Refused, "one at a time");
            b.failure(now, true, true, 0.0);
        }
        assert_eq!(
            b.probe(now, true),
            Admission::Probe,
            "the last hope need not wait"
        );
        b.success(now);
        assert_eq!(b.admit(), Admission::Normal);
    }

    #[test]
    fn soft_failures_open_after_five_in_a_row() {
        let now = Instant::now();
        let mut b = Breaker::new(Instant::now());
        for _ in 0..4 {
            b.failure(now, false, false, 0.0);
        }
        b.success(now);
        for _ in 0..4 {
            b.failure(now, false, false, 0.0);
            b.answered(now);
        }
        assert!(b.is_closed());
        b.failure(now, false, false, 0.0);
        assert_eq!(b.name(), "open");
    }

    #[test]
    fn late_failures_do_not_lengthen_and_abandoned_probes_free_the_place() {
        let now = Instant::now();
        let mut b = Breaker::new(Instant::now());
        for _ in 0..20 {
            b.failure(now, true, false, 0.0);
        }
        assert_eq!(b.probe(now + S, false), Admission::Probe);
        b.failure(now + S, true, false, 0.0);
        assert_eq!(b.name(), "half_open", "not the probe's own outcome");
        b.abandon(now + S);
        assert_eq!(b.probe(now + S, false), Admission::Probe);
    }

    #[test]
    fn a_hanging_probe_counts_towards_the_wait_and_blocks_no_longer_than_the_cap() {
        let now = Instant::now();
        let mut b = Breaker::new(Instant::now());
        b.failure(now, true, false, 1.0);
        assert_eq!(
            b.probe(now + S * 3 / 4, false),
            Admission::Probe,
            "jitter shortens"
        );
        assert_eq!(b.probe(now + S * 5, true), Admission::Probe);
        b.failure(now + S * 10, true, true, 0.0);
        assert_eq!(b.probe(now + S * 10, false), Admission::Probe);
    }

    #[test]
    fn a_hint_is_a_reason_to_look() {
        let now = Instant::now();
        let mut b = Breaker::new(now);
        b.hint(now, false);
        assert!(b.is_closed(), "all is well");
        b.hint(now, true);
        assert_eq!(b.admit(), Admission::Refused);
        assert_eq!(b.probe(now, false), Admission::Probe, "at once");
        b.hint(now, true);
        assert_eq!(b.name(), "half_open", "somebody looks already");
        assert!(!b.failure(now, true, true, 0.0), "it was open already");
        assert_eq!(b.probe(now, false), Admission::Refused);
        b.hint(now, true);
        assert_eq!(b.probe(now, false), Admission::Refused, "nothing new");
        b.hint(now, false);
        assert_eq!(b.probe(now, false), Admission::Probe);
        b.success(now);
        assert!(b.is_closed());
    }

    #[test]
    fn a_high_rate_of_failures_opens_though_never_many_in_a_row() {
        let mut now = Instant::now();
        let mut b = Breaker::new(now);
        for n in 0..19 {
            if n % 2 == 0 {
                b.success(now);
            } else {
                assert!(!b.failure(now, false, false, 0.0), "too few to tell: {n}");
            }
        }
        assert!(b.failure(now, false, false, 0.0));
        assert_eq!(b.name(), "open");
        b.success(now);
        assert!(b.is_closed());

        // One in four is no reason, nor is what happened long ago.
        for n in 0..100 {
            if n % 4 == 0 {
                assert!(!b.failure(now, false, false, 0.0), "{n}");
            } else {
                b.success(now);
            }
        }
        for _ in 0..4 {
            now += SPAN * 2;
            b.failure(now, false, false, 0.0);
            assert!(b.is_closed());
        }
    }

    #[test]
    fn the_time_until_the_next_probe_is_told() {
        let now = Instant::now();
        let mut b = Breaker::new(now);
        assert_eq!(b.until_probe(now), None);
        assert!(b.failure(now, true, false, 0.0));
        assert!(!b.failure(now, true, false, 0.0), "it is open already");
        assert_eq!(b.until_probe(now), Some(S));
        assert_eq!(b.probe(now + S, false), Admission::Probe);
        assert_eq!(b.until_probe(now + S), Some(CAP));
    }
}
