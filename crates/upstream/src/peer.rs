//! One upstream: its limits, its health and one attempt at it.

mod pass;
mod probes;

use std::fmt;
use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use egress::Egress;
use http::{HeaderValue, StatusCode};
use tokio::sync::Semaphore;

use crate::breaker::Admission;
use crate::chain::BaseUrl;
use crate::client::{SendError, Sent, coding, get_path, retry_after, seconds, tidy};
use crate::failure::{Again, Cause, Miss, Trouble, read_as};
use crate::health::{
    ABSENT, BAD_CONTENT, BROKEN, CONNECT, Health, OK, OVERLOADED, SKIPPED, STATUS, Snapshot,
    TIMEOUT,
};
use crate::settings::UpstreamSettings;
use crate::turns::Turns;
use crate::{Body, Fetched};

pub(crate) use self::pass::Pass;
use self::probes::PROBE_WITHIN;

/// Back-off before a repetition, in milliseconds.
const BACKOFF_MS: (u64, u64) = (50, 200);
/// Time after which a failed request is no longer repeated.
const RETRY_WITHIN: Duration = Duration::from_millis(500);
/// "Loop detected" (RFC 5842): the request has come round to one that is asking already.
const LOOP: u16 = 508;
/// How much of an error's body is read so that its connection can be used again.
const DRAIN: u64 = 16 * 1024;
/// And for how long.
const DRAIN_WITHIN: Duration = Duration::from_millis(100);

/// What is sent.
#[derive(Debug)]
pub(crate) struct Asked {
    /// After the base URL.
    pub(crate) path: String,
    /// The proxies it came by, this one included.
    pub(crate) via: Option<HeaderValue>,
}

/// One upstream.
pub(crate) struct Peer {
    base: BaseUrl,
    name: Arc<str>,
    settings: UpstreamSettings,
    egress: Egress,
    health: Arc<Health>,
    places: Arc<Semaphore>,
    /// What was asked for last when it was passed over or failed: a probe asks for it again.
    probing: Mutex<Option<Arc<Asked>>>,
    /// Held while it is asked what it is.
    identifying: tokio::sync::Mutex<()>,
    turns: Turns,
}

impl Peer {
    /// With the health of the upstream that it was before a change of the configuration.
    pub(crate) fn new(
        base: BaseUrl,
        settings: UpstreamSettings,
        egress: Egress,
        before: Option<(&UpstreamSettings, &Arc<Health>)>,
        turns: Turns,
    ) -> Self {
        let places = settings.max_concurrent.clamp(1, Semaphore::MAX_PERMITS);
        let health = match before {
            Some((same, health)) if *same == settings => Arc::clone(health),
            Some((_, health)) => Arc::new(health.counts_only()),
            None => Arc::new(Health::new()),
        };
        Self {
            name: base.shown(),
            base,
            settings,
            egress,
            health,
            places: Arc::new(Semaphore::new(places)),
            probing: Mutex::new(None),
            identifying: tokio::sync::Mutex::default(),
            turns,
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What a later configuration may take over.
    pub(crate) fn legacy(&self) -> (UpstreamSettings, Arc<Health>) {
        (self.settings.clone(), Arc::clone(&self.health))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.health.breaker().is_closed()
    }

    /// Whether a client can be sent there: it is well, and needs nothing that only this gateway has.
    pub(crate) async fn is_open_to_clients(&self) -> bool {
        self.is_closed()
            && self.settings.headers.is_empty()
            && !self.base.has_userinfo()
            && crate::client::needs_no_credential(&self.egress, &self.base).await
    }

    /// How long to wait before another upstream is asked too; `None`: do not. It is late when no
    /// connection could take that long, and sooner if that is wanted and the usual time is known.
    pub(crate) fn hedge_after(&self, soon: bool) -> Option<Duration> {
        if !self.settings.hedge {
            return None;
        }
        let usual = if soon { self.health.p95() } else { None };
        let usual = usual.map(|p95| p95.clamp(Duration::from_millis(50), Duration::from_secs(2)));
        let late = self.settings.connect_timeout;
        Some(usual.map_or(late, |usual| usual.min(late)))
    }

    /// Whether ordinary traffic is to pass this upstream over: its breaker is not closed.
    pub(crate) fn skip(&self) -> bool {
        let skip = self.health.breaker().admit() == Admission::Refused;
        if skip {
            self.health.count(SKIPPED);
        }
        skip
    }

    /// Whether it is another gateway of this kind, which its answers tell. One that has not answered yet is asked.
    pub(crate) async fn is_gateway(&self, asked: &Asked) -> bool {
        let _turn = self.identifying.lock().await;
        if let Some(known) = self.health.gateway() {
            return known;
        }
        let sent = get_path(&self.egress, &self.base, asked, &self.settings);
        let limit = self.settings.connect_timeout.min(PROBE_WITHIN);
        let gateway = match tokio::time::timeout(limit, sent).await {
            Ok(Ok(sent)) => sent.from_gateway,
            // One in trouble lets nobody wait for long.
            Ok(Err(_)) | Err(_) => false,
        };
        self.health.set_gateway(gateway);
        gateway
    }

    /// Counts a failure.
    fn failure(self: &Arc<Self>, dead: bool, probe: bool) {
        let now = Instant::now();
        let opened = self.health.breaker().failure(now, dead, probe, jitter());
        if opened {
            self.health.found_ill.store(true, Ordering::Release);
            self.turns.tell(&self.name, true);
            self.watch(now);
        }
    }

    /// It is well: others hear of it if they heard from here that it was not.
    fn recovered(&self) {
        if self.health.found_ill.swap(false, Ordering::AcqRel) {
            self.turns.tell(&self.name, false);
        }
    }

    /// Another gateway found it ill, or well again.
    pub(crate) fn hint(self: &Arc<Self>, ill: bool) {
        let now = Instant::now();
        self.health.breaker().hint(now, ill);
        // Else the next request is what it is probed with.
        if !self.is_closed() && self.probing().is_some() {
            self.watch(now);
        }
    }

    /// Takes an upstream for dead that let a request wait since `begin`, longer than it takes to connect, while
    /// another one answered and it answered nobody. That it is not is seen by the next probe, or by the late answer.
    pub(crate) fn suspect(self: &Arc<Self>, asked: &Arc<Asked>, begin: Instant) {
        self.set_probing(asked);
        self.failure(!self.health.answered_since(begin), false);
    }

    /// The longest wait for a connection.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.settings.connect_timeout
    }

    /// One request, with repetitions if `retry`. While the breaker is open it goes out only as
    /// the probe, or after it: a module and its record are asked at the same time, and when the
    /// upstream is back neither is to fail because the other is the probe.
    pub(crate) async fn attempt(
        self: Arc<Self>,
        asked: Arc<Asked>,
        retry: bool,
    ) -> Result<Fetched, Miss> {
        let begin = Instant::now();
        let mut left = if retry { self.settings.retries } else { 0 };
        // A kept connection may be closed just as a request goes out on it, which no client takes for a failure.
        let mut at_once = self.settings.retries > 0;
        let mut waits = 0;
        loop {
            let judged = self.health.judged.notified();
            tokio::pin!(judged);
            judged.as_mut().enable();
            let admission = self.health.breaker().probe(Instant::now(), true);
            let probe = match admission {
                Admission::Normal => false,
                Admission::Probe => true,
                // The probe that was under way may have begun before the upstream was back: its failure says nothing
                // of now, so one more is waited for.
                Admission::Refused if waits < 2 => {
                    waits += 1;
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
            let (miss, again) = match self.once(&asked, pass, limit).await {
                Ok(fetched) => return Ok(fetched),
                Err(missed) => missed,
            };
            if again == Again::No || begin.elapsed() > RETRY_WITHIN {
                return Err(miss);
            }
            if again == Again::AtOnce && mem::take(&mut at_once) {
                left = left.saturating_sub(1);
                continue;
            }
            if left == 0 {
                return Err(miss);
            }
            left -= 1;
            let (low, high) = BACKOFF_MS;
            let spread = Duration::from_millis(high - low).mul_f64(jitter());
            tokio::time::sleep(Duration::from_millis(low) + spread).await;
        }
    }

    /// One request. What is said with a failure is whether repeating it may help.
    async fn once(
        self: &Arc<Self>,
        asked: &Arc<Asked>,
        mut pass: Pass,
        limit: Duration,
    ) -> Result<Fetched, (Miss, Again)> {
        let place = Arc::clone(&self.places).acquire_owned();
        let Ok(Ok(place)) = tokio::time::timeout(self.settings.connect_timeout, place).await else {
            self.health.count(OVERLOADED);
            let text = format!(
                "all {} places for requests to it are taken",
                self.settings.max_concurrent
            );
            return Err((
                self.miss(&SendError::new(Cause::Overloaded, &text)),
                Again::No,
            ));
        };
        pass.place = Some(place);
        pass.asked = Some(Arc::clone(asked));
        let begin = Instant::now();
        let sent = get_path(&self.egress, &self.base, asked, &self.settings);
        let Sent {
            response,
            grant,
            user,
            from_gateway,
            elsewhere,
        } = match tokio::time::timeout(limit, sent).await {
            Ok(Ok(sent)) => sent,
            Ok(Err(error)) => {
                self.health.count(match error.cause {
                    Cause::Timeout => TIMEOUT,
                    Cause::Broken => BROKEN,
                    _ => CONNECT,
                });
                // A lost connection may be this request's bad luck; the others tell of a dead
                // upstream.
                pass.failed(!error.reset && error.cause != Cause::Broken);
                let again = if error.reset {
                    Again::AtOnce
                } else {
                    Again::No
                };
                return Err((self.miss(&error), again));
            }
            Err(_) => {
                self.health.count(TIMEOUT);
                // Of one that answers others meanwhile, this file alone is slow.
                pass.failed(!self.health.answered_since(begin));
                let text = format!("no answer within {}", seconds(limit));
                return Err((self.miss(&SendError::new(Cause::Timeout, &text)), Again::No));
            }
        };
        self.health.sample(begin.elapsed());
        self.health.answers();
        let actual = response.status();
        // Other statuses may be those of something that stands before a gateway.
        if from_gateway || matches!(actual.as_u16(), 200 | 404 | 410) {
            self.health.set_gateway(from_gateway);
        }
        let status = self
            .settings
            .status_map
            .get(&actual.as_u16())
            .copied()
            .unwrap_or(actual.as_u16());
        if actual == StatusCode::OK && status == 200 {
            if let Some(coding) = coding(&response) {
                self.health.count(BAD_CONTENT);
                pass.failed(false);
                let text = format!("answered in the coding `{coding}`, which was not asked for");
                return Err((self.miss(&SendError::new(Cause::Content, &text)), Again::No));
            }
            self.health.count(OK);
            pass.answered();
            let length = response.content_length();
            return Ok(Fetched {
                upstream: Arc::clone(&self.name),
                length,
                body: Body::new(response, length, self.settings.idle_timeout, pass),
            });
        }
        let retry_after = retry_after(&response);
        drain(response).await;
        if status == 404 || status == 410 {
            self.health.count(ABSENT);
            pass.succeeded();
            let gone = status == 410;
            let answered = actual.as_u16();
            return Err((Miss::Absent { gone, answered }, Again::No));
        }
        if status == LOOP {
            // It is well, and asks this gateway in its turn.
            self.health.count(STATUS);
            pass.succeeded();
            return Err((Miss::Loop, Again::No));
        }
        self.health.count(STATUS);
        let mut text = format!("answered {}", actual.as_u16());
        if let Some(host) = &elsewhere {
            text = format!("redirected to {host}, which {text}");
        }
        let with_credential = user.is_some();
        // Elsewhere nobody is ever asked with one.
        if elsewhere.is_none() && matches!(actual, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        {
            text = match user {
                Some(user) => format!("{text} to {user}"),
                None => format!("{text} without a credential"),
            };
            if let Some(grant) = grant {
                self.egress.credentials().refused(&grant).await;
            }
        }
        text += &read_as(actual.as_u16(), status);
        if let Some(wait) = retry_after {
            text = format!("{text}, ask again in {} s", wait.as_secs());
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
                hint: None,
                retry_after,
                with_credential,
            },
            answered: true,
        };
        let again = match status {
            502..=504 => Again::Later,
            _ => Again::No,
        };
        Err((miss, again))
    }

    fn miss(&self, error: &SendError) -> Miss {
        Miss::Trouble {
            answered: matches!(error.cause, Cause::Broken | Cause::Content),
            trouble: Trouble {
                cause: error.cause,
                status: None,
                upstream: Arc::clone(&self.name),
                text: tidy(&error.text),
                hint: error.hint.clone(),
                retry_after: None,
                with_credential: false,
            },
        }
    }

    /// Content from it turned out bad.
    pub(crate) fn bad_content(self: &Arc<Self>, asked: &Arc<Asked>) {
        self.health.count(BAD_CONTENT);
        self.set_probing(asked);
        self.failure(false, false);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let places = self
            .settings
            .max_concurrent
            .clamp(1, Semaphore::MAX_PERMITS);
        Snapshot {
            name: Arc::clone(&self.name),
            state: self.health.breaker().name(),
            in_flight: places.saturating_sub(self.places.available_permits()),
            p95: self.health.p95(),
            outcomes: self.health.outcomes(),
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("name", &self.name)
            .field("state", &self.health.breaker().name())
            .finish_non_exhaustive()
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
