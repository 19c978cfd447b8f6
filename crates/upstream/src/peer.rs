//! One upstream: its limits, its health and one attempt at it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use egress::Egress;
use http::StatusCode;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::breaker::{Admission, Breaker};
use crate::chain::BaseUrl;
use crate::client::{SendError, Sent, get_path, seconds, tidy};
use crate::failure::{Cause, Miss, Trouble};
use crate::settings::UpstreamSettings;
use crate::{Body, Fetched};

/// Times to first byte kept per upstream.
const SAMPLES: usize = 128;
/// Samples without which a 95th percentile says nothing.
const ENOUGH: usize = 20;
/// Back-off before a repetition, in milliseconds.
const BACKOFF_MS: (u64, u64) = (50, 200);
/// Time after which a failed request is no longer repeated.
const RETRY_WITHIN: Duration = Duration::from_millis(500);
/// Longest wait of a background probe, so that a probe which hangs is soon followed by another.
const PROBE_WITHIN: Duration = Duration::from_secs(4);
/// How much of an error's body is read so that its connection can be used again.
const DRAIN: u64 = 16 * 1024;
/// And for how long.
const DRAIN_WITHIN: Duration = Duration::from_millis(100);

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
const OK: usize = 0;
const ABSENT: usize = 1;
const STATUS: usize = 2;
const CONNECT: usize = 3;
const TIMEOUT: usize = 4;
const BROKEN: usize = 5;
const OVERLOADED: usize = 6;
const SKIPPED: usize = 7;
const BAD_CONTENT: usize = 8;

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

/// One upstream.
pub(crate) struct Peer {
    base: BaseUrl,
    name: Arc<str>,
    settings: UpstreamSettings,
    egress: Egress,
    breaker: Mutex<Breaker>,
    /// Wakes those who wait for the outcome of a probe.
    judged: Notify,
    places: Arc<Semaphore>,
    samples: Mutex<Samples>,
    counts: [AtomicU64; OUTCOMES.len()],
}

impl Peer {
    pub(crate) fn new(base: BaseUrl, settings: UpstreamSettings, egress: Egress) -> Self {
        let places = settings.max_concurrent.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            name: base.shown(),
            base,
            settings,
            egress,
            breaker: Mutex::new(Breaker::new()),
            judged: Notify::new(),
            places: Arc::new(Semaphore::new(places)),
            samples: Mutex::new(Samples::default()),
            counts: [const { AtomicU64::new(0) }; OUTCOMES.len()],
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.breaker().is_closed()
    }

    /// How long to wait before another upstream is asked too; `None`: do not.
    pub(crate) fn hedge_after(&self) -> Option<Duration> {
        if !self.settings.hedge {
            return None;
        }
        let p95 = self.p95()?;
        Some(p95.clamp(Duration::from_millis(50), Duration::from_secs(2)))
    }

    /// Whether ordinary traffic is to pass this upstream over: its breaker is not closed.
    pub(crate) fn skip(&self) -> bool {
        let skip = self.breaker().admit() == Admission::Refused;
        if skip {
            self.count(SKIPPED);
        }
        skip
    }

    /// Probes an upstream that was passed over, if its time open is over, with the path asked.
    /// The outcome goes to the breaker; the body is dropped.
    pub(crate) fn probe_in_background(self: &Arc<Self>, path: &str) {
        if self.breaker().probe(Instant::now(), false) != Admission::Probe {
            return;
        }
        let pass = Pass::new(Arc::clone(self), true);
        let (peer, path) = (Arc::clone(self), path.to_owned());
        tokio::spawn(async move {
            let limit = peer.settings.first_byte_timeout.min(PROBE_WITHIN);
            let _ = peer.once(&path, pass, limit).await;
        });
    }

    /// One request, with repetitions if `retry`. While the breaker is open it goes out only as
    /// the probe, or after it: a module and its record are asked at the same time, and when the
    /// upstream is back neither is to fail because the other is the probe.
    pub(crate) async fn attempt(
        self: Arc<Self>,
        path: String,
        retry: bool,
    ) -> Result<Fetched, Miss> {
        let begin = Instant::now();
        let mut left = if retry { self.settings.retries } else { 0 };
        let mut waited = false;
        loop {
            let judged = self.judged.notified();
            tokio::pin!(judged);
            judged.as_mut().enable();
            let admission = self.breaker().probe(Instant::now(), true);
            let probe = match admission {
                Admission::Normal => false,
                Admission::Probe => true,
                Admission::Refused if !waited => {
                    waited = true;
                    // Over in vain, the next look says so.
                    let _ = tokio::time::timeout(self.settings.connect_timeout, judged).await;
                    continue;
                }
                Admission::Refused => {
                    let text = "not asked: it failed just now and is being probed";
                    return Err(self.miss(&SendError::new(Cause::BreakerOpen, text)));
                }
            };
            let pass = Pass::new(Arc::clone(&self), probe);
            let limit = self.settings.first_byte_timeout;
            let (miss, again) = match self.once(&path, pass, limit).await {
                Ok(fetched) => return Ok(fetched),
                Err(missed) => missed,
            };
            if !again || left == 0 || begin.elapsed() > RETRY_WITHIN {
                return Err(miss);
            }
            left -= 1;
            let (low, high) = BACKOFF_MS;
            let spread = Duration::from_millis(high - low).mul_f64(jitter());
            tokio::time::sleep(Duration::from_millis(low) + spread).await;
        }
    }

    /// One request. The flag says whether repeating it may help.
    async fn once(
        &self,
        path: &str,
        mut pass: Pass,
        limit: Duration,
    ) -> Result<Fetched, (Miss, bool)> {
        let place = Arc::clone(&self.places).acquire_owned();
        let Ok(Ok(place)) = tokio::time::timeout(self.settings.connect_timeout, place).await else {
            self.count(OVERLOADED);
            let text = format!(
                "all {} places for requests to it are taken",
                self.settings.max_concurrent
            );
            return Err((self.miss(&SendError::new(Cause::Overloaded, &text)), false));
        };
        pass.place = Some(place);
        let begin = Instant::now();
        let sent = get_path(&self.egress, &self.base, path, &self.settings);
        let Sent { response, grant } = match tokio::time::timeout(limit, sent).await {
            Ok(Ok(sent)) => sent,
            Ok(Err(error)) => {
                self.count(match error.cause {
                    Cause::Timeout => TIMEOUT,
                    Cause::Broken => BROKEN,
                    _ => CONNECT,
                });
                // A lost connection may be this request's bad luck; the others tell of a dead
                // upstream.
                pass.failed(!error.reset && error.cause != Cause::Broken);
                return Err((self.miss(&error), error.reset));
            }
            Err(_) => {
                self.count(TIMEOUT);
                pass.failed(true);
                let text = format!("no answer within {}", seconds(limit));
                return Err((self.miss(&SendError::new(Cause::Timeout, &text)), false));
            }
        };
        self.lock_samples().push(begin.elapsed());
        let actual = response.status();
        let status = self
            .settings
            .status_map
            .get(&actual.as_u16())
            .copied()
            .unwrap_or(actual.as_u16());
        if actual == StatusCode::OK && status == 200 {
            self.count(OK);
            pass.answered();
            let length = response.content_length();
            return Ok(Fetched {
                upstream: Arc::clone(&self.name),
                length,
                body: Body::new(response, length, self.settings.idle_timeout, pass),
            });
        }
        drain(response).await;
        if status == 404 || status == 410 {
            self.count(ABSENT);
            pass.succeeded();
            let gone = status == 410;
            return Err((Miss::Absent { gone }, false));
        }
        self.count(STATUS);
        let mut text = format!("answered {}", actual.as_u16());
        if matches!(actual, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            && let Some(grant) = grant
        {
            self.egress.credentials().refused(&grant).await;
            text = format!("{text} to {}", grant.name());
        }
        // Statuses about the request (not about load) say that the upstream is well.
        if (400..500).contains(&status) && !matches!(status, 408 | 425 | 429) {
            pass.succeeded();
        } else {
            pass.failed(false);
        }
        let miss = Miss::Trouble {
            trouble: Trouble {
                cause: Cause::Status,
                status: Some(status),
                upstream: Arc::clone(&self.name),
                text: tidy(&text),
            },
            answered: true,
        };
        Err((miss, matches!(status, 502..=504)))
    }

    fn miss(&self, error: &SendError) -> Miss {
        Miss::Trouble {
            answered: error.cause == Cause::Broken,
            trouble: Trouble {
                cause: error.cause,
                status: None,
                upstream: Arc::clone(&self.name),
                text: tidy(&error.text),
            },
        }
    }

    /// Content from it turned out bad.
    pub(crate) fn bad_content(&self) {
        self.count(BAD_CONTENT);
        self.breaker()
            .failure(Instant::now(), false, false, jitter());
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut outcomes = OUTCOMES.map(|name| (name, 0));
        for (outcome, count) in outcomes.iter_mut().zip(&self.counts) {
            outcome.1 = count.load(Ordering::Relaxed);
        }
        let places = self
            .settings
            .max_concurrent
            .clamp(1, Semaphore::MAX_PERMITS);
        Snapshot {
            name: Arc::clone(&self.name),
            state: self.breaker().name(),
            in_flight: places.saturating_sub(self.places.available_permits()),
            p95: self.p95(),
            outcomes,
        }
    }

    fn p95(&self) -> Option<Duration> {
        self.lock_samples().p95()
    }

    fn count(&self, outcome: usize) {
        self.counts[outcome].fetch_add(1, Ordering::Relaxed);
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_samples(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("name", &self.name)
            .field("state", &self.breaker().name())
            .finish_non_exhaustive()
    }
}

/// Leave to send one request, with its place under the concurrency limit. A probe dropped
/// without an outcome gives the breaker's place back.
#[derive(Debug)]
pub(crate) struct Pass {
    peer: Arc<Peer>,
    probe: bool,
    place: Option<OwnedSemaphorePermit>,
}

impl Pass {
    fn new(peer: Arc<Peer>, probe: bool) -> Self {
        Self {
            peer,
            probe,
            place: None,
        }
    }

    /// The head of a good answer came; the body is still to come.
    fn answered(&mut self) {
        self.probe = false;
        self.peer.breaker().answered();
        self.peer.judged.notify_waiters();
    }

    fn succeeded(mut self) {
        self.probe = false;
        self.peer.breaker().success();
        self.peer.judged.notify_waiters();
    }

    fn failed(mut self, dead: bool) {
        let probe = std::mem::take(&mut self.probe);
        self.peer
            .breaker()
            .failure(Instant::now(), dead, probe, jitter());
        self.peer.judged.notify_waiters();
    }

    /// The body came whole, or broke.
    pub(crate) fn body_ended(self, whole: bool) {
        if whole {
            self.succeeded();
        } else {
            self.peer.count(BROKEN);
            self.failed(false);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe {
            self.peer.breaker().abandon(Instant::now());
            self.peer.judged.notify_waiters();
        }
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

/// Reads a little of an error's body: an HTTP/1 connection with unread bytes cannot be reused.
async fn drain(mut response: reqwest::Response) {
    if response.content_length().is_some_and(|n| n > DRAIN) {
        return;
    }
    let read = async {
        let mut seen = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            seen += chunk.len() as u64;
            if seen > DRAIN {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_WITHIN, read).await;
}

/// A random number in 0..=1; one half if the system has none to give.
fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |n| f64::from(n) / f64::from(u32::MAX))
}
