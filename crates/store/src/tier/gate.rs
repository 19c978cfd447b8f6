//! What stands before every tier: its breaker, its slots, its time limits, its counters.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use super::{TierError, TierErrorKind};
use crate::breaker::{Breaker, jitter};

/// Longest that a probe may take.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// Counts of what a tier did since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) present: AtomicU64,
    pub(crate) differs: AtomicU64,
    pub(crate) corrupt: AtomicU64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) opened: AtomicU64,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// A tier as metrics show it. Counts are since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierSnapshot {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Whether work goes to it; `false` while its breaker is open.
    pub up: bool,
    /// Whether it refused, or was full, and has taken nothing since; or lacks what is needed.
    pub refuses: bool,
    /// How often the breaker took it out.
    pub opened: u64,
    /// Reads that found the object.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Work that failed, time-outs among it.
    pub errors: u64,
    /// Work that took too long.
    pub timeouts: u64,
    /// Work that did not go to it because it was out.
    pub skipped: u64,
    /// Objects written.
    pub writes: u64,
    /// Writes that found the same object already there.
    pub present: u64,
    /// Writes that found other bytes under the same key. An incident.
    pub differs: u64,
    /// Objects that were not what they should be. An incident.
    pub corrupt: u64,
    /// Bytes of objects read.
    pub read_bytes: u64,
    /// Bytes of objects written.
    pub written_bytes: u64,
}

/// The door to one tier.
pub(crate) struct Gate {
    name: Arc<str>,
    /// What to look at when it refuses.
    advice: &'static str,
    breaker: Mutex<Breaker>,
    refuses: AtomicBool,
    /// Whether it lacks what is needed, whatever it takes.
    lacks: AtomicBool,
    slots: Arc<Semaphore>,
    /// Told when the tier is taken out, so that somebody begins to probe.
    taken_out: Notify,
    /// Told when it is put back.
    put_back: Notify,
    pub(crate) counters: Counters,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("name", &self.name)
            .field("up", &self.is_up())
            .finish_non_exhaustive()
    }
}

impl Gate {
    pub(crate) fn new(name: Arc<str>, advice: &'static str, concurrency: usize) -> Self {
        Self {
            name,
            advice,
            breaker: Mutex::default(),
            refuses: AtomicBool::new(false),
            lacks: AtomicBool::new(false),
            slots: Arc::new(Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS))),
            taken_out: Notify::new(),
            put_back: Notify::new(),
            counters: Counters::default(),
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn error(&self, kind: TierErrorKind, detail: impl fmt::Display) -> TierError {
        TierError::new(&self.name, kind, detail)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.breaker().is_closed()
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self) -> Result<(), TierError> {
        if self.is_up() {
            return Ok(());
        }
        count(&self.counters.skipped);
        Err(self.error(
            TierErrorKind::Unavailable,
            "taken out after failures; probed in the background",
        ))
    }

    /// A slot, waited for at most `limit`; none while the tier is out.
    pub(crate) async fn enter(&self, limit: Duration) -> Result<OwnedSemaphorePermit, TierError> {
        self.admit()?;
        let slot = timeout(limit, Arc::clone(&self.slots).acquire_owned()).await;
        let Ok(Ok(slot)) = slot else {
            // Says nothing of the tier that those in the slots do not say themselves.
            count(&self.counters.skipped);
            return Err(self.error(TierErrorKind::Timeout, "no free slot in time"));
        };
        // It may have been taken out in the meantime.
        self.admit()?;
        Ok(slot)
    }

    /// Does a piece of work within `limit`, and lets the breaker know how it went.
    pub(crate) async fn watch<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, TierError>>,
    ) -> Result<T, TierError> {
        let done = match timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => Err(self.error(
                TierErrorKind::Timeout,
                format_args!("no answer within {limit:?}"),
            )),
        };
        self.note(done.as_ref().err());
        done
    }

    /// [`enter`](Self::enter) and [`watch`](Self::watch) in one.
    pub(crate) async fn run<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, TierError>>,
    ) -> Result<T, TierError> {
        let _slot = self.enter(limit).await?;
        self.watch(limit, work).await
    }

    /// Takes note of an outcome. Answers that refuse are no sign of ill health.
    pub(crate) fn note(&self, error: Option<&TierError>) {
        let Some(error) = error else {
            if self.breaker().success() {
                self.back();
            }
            return;
        };
        match error.kind {
            TierErrorKind::Unavailable | TierErrorKind::Timeout => {
                count(&self.counters.errors);
                if error.kind == TierErrorKind::Timeout {
                    count(&self.counters.timeouts);
                }
                let now = std::time::Instant::now();
                if self.breaker().failure(now, jitter()) {
                    count(&self.counters.opened);
                    tracing::error!(tier = %self.name, %error, "storage tier taken out");
                    self.taken_out.notify_waiters();
                }
            }
            TierErrorKind::Full | TierErrorKind::Refused => {
                count(&self.counters.errors);
                // Once, and not with every object that it does not take.
                if !self.refuses.swap(true, Relaxed) {
                    tracing::error!(tier = %self.name, %error, "storage tier refuses: {}", self.advice);
                }
            }
            TierErrorKind::Differs => count(&self.counters.differs),
            TierErrorKind::Corrupt => count(&self.counters.corrupt),
        }
    }

    /// It lacks what is needed, and nothing that it takes changes that.
    pub(crate) fn lacks(&self) {
        self.lacks.store(true, Relaxed);
    }

    /// It took something.
    pub(crate) fn took(&self) {
        if self.refuses.load(Relaxed) && self.refuses.swap(false, Relaxed) {
            tracing::info!(tier = %self.name, "storage tier takes what it is given again");
        }
    }

    fn back(&self) {
        tracing::info!(tier = %self.name, "storage tier put back");
        self.put_back.notify_waiters();
    }

    /// Waits until the tier is taken out.
    pub(crate) async fn down(&self) {
        loop {
            let told = self.taken_out.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if !self.is_up() {
                return;
            }
            told.await;
        }
    }

    /// Waits until work may go to the tier.
    pub(crate) async fn up(&self) {
        loop {
            let told = self.put_back.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if self.is_up() {
                return;
            }
            told.await;
        }
    }

    /// Probes the tier while it is out, ever less often, until it is back.
    pub(crate) async fn heal<F>(&self, mut probe: impl FnMut() -> F)
    where
        F: Future<Output = Result<(), TierError>>,
    {
        loop {
            let Some(due) = self.breaker().due() else {
                return;
            };
            tokio::time::sleep_until(due.into()).await;
            match timeout_at(Instant::now() + PROBE_LIMIT, probe()).await {
                // A refusal is an answer, too.
                Ok(
                    Ok(())
                    | Err(TierError {
                        kind: TierErrorKind::Refused | TierErrorKind::Full,
                        ..
                    }),
                ) => {
                    if self.breaker().success() {
                        self.back();
                    }
                    return;
                }
                _ => self
                    .breaker()
                    .probe_failed(std::time::Instant::now(), jitter()),
            }
        }
    }

    pub(crate) fn snapshot(&self) -> TierSnapshot {
        let counters = &self.counters;
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        TierSnapshot {
            name: Arc::clone(&self.name),
            up: self.is_up(),
            refuses: self.refuses.load(Relaxed) || self.lacks.load(Relaxed),
            opened: get(&counters.opened),
            hits: get(&counters.hits),
            misses: get(&counters.misses),
            errors: get(&counters.errors),
            timeouts: get(&counters.timeouts),
            skipped: get(&counters.skipped),
            writes: get(&counters.writes),
            present: get(&counters.present),
            differs: get(&counters.differs),
            corrupt: get(&counters.corrupt),
            read_bytes: get(&counters.read_bytes),
            written_bytes: get(&counters.written_bytes),
        }
    }
}
