//! The circuit breaker of a tier: pure, time is passed in.
//!
//! Different from the one of an upstream: no request of a client ever probes, since a tier that hangs would
//! cost it the whole time limit. A background task probes; requests go past a tier that is out.

use std::time::{Duration, Instant};

/// Failures in a row that take a tier out.
const THRESHOLD: u32 = 3;
/// First time out.
const FIRST: Duration = Duration::from_millis(500);
/// Longest time out: a tier that is back is noticed within this time.
const CAP: Duration = Duration::from_secs(15);

/// The health of one tier.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    out: Option<Out>,
}

#[derive(Debug, Clone, Copy)]
struct Out {
    /// The next probe.
    due: Instant,
    /// Nominal time between probes, before jitter.
    wait: Duration,
}

impl Breaker {
    /// Whether work may go to the tier.
    pub(crate) fn is_closed(&self) -> bool {
        self.out.is_none()
    }

    /// When to probe next, if the tier is out.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.out.map(|out| out.due)
    }

    /// The tier did what was asked, or a probe of it. Returns whether that put it back.
    pub(crate) fn success(&mut self) -> bool {
        self.failures = 0;
        self.out.take().is_some()
    }

    /// The tier failed. `jitter` in 0..=1 shortens the time out by up to a quarter. Returns whether that took it out.
    pub(crate) fn failure(&mut self, now: Instant, jitter: f64) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.out.is_some() || self.failures < THRESHOLD {
            return false;
        }
        self.out = Some(Out {
            due: now + jittered(FIRST, jitter),
            wait: FIRST,
        });
        true
    }

    /// A probe failed: the next one is later.
    pub(crate) fn probe_failed(&mut self, now: Instant, jitter: f64) {
        if let Some(out) = &mut self.out {
            out.wait = (out.wait * 2).min(CAP);
            out.due = now + jittered(out.wait, jitter);
        }
    }
}

fn jittered(wait: Duration, jitter: f64) -> Duration {
    wait.mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0))
}

/// A number in 0..1.
pub(crate) fn jitter() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness there is no jitter, which harms nothing here.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_take_it_out_and_a_success_puts_it_back() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            assert!(!breaker.failure(now, 0.0));
            assert!(!breaker.failure(now, 0.0));
            assert!(!breaker.success());
        }
        breaker.failure(now, 0.0);
        breaker.failure(now, 0.0);
        assert!(breaker.is_closed());
        assert!(breaker.failure(now, 0.0));
        assert!(!breaker.is_closed());
        assert!(!breaker.failure(now, 0.0), "told once");
        assert!(breaker.success());
        assert!(breaker.is_closed());
    }

    #[test]
    fn probes_get_rarer_up_to_the_cap() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            breaker.failure(now, 1.0);
        }
        assert_eq!(
            breaker.due(),
            Some(now + Duration::from_millis(375)),
            "jitter shortens"
        );
        for millis in [1000, 2000, 4000, 8000, 15_000, 15_000] {
            now = breaker.due().unwrap();
            breaker.probe_failed(now, 0.0);
            assert_eq!(breaker.due(), Some(now + Duration::from_millis(millis)));
        }
    }
}
