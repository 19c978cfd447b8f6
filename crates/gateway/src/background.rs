//! Work that no request waits for: the `async` modes, lists on disk, verification made up for.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    artifact::{Artifact, Part},
    fresh,
    gateway::Gateway,
    pipeline::Want,
    removals,
    results::Commit,
    settings::{Mode, Route},
    uses,
};

/// Lists of folders are written this long after a version came, once for many.
const LIST_DELAY: Duration = Duration::from_millis(500);
/// How long work is waited for before it is seen whether the gateway is still there.
const LOOK_UP: Duration = Duration::from_secs(5);
/// How often what was served unverified is tried again.
const VERIFY_AGAIN: Duration = Duration::from_secs(15);
/// How often it is seen whether the data folder is still the one that was opened: not everybody asks `/readyz`.
const SEE_FOLDER: Duration = Duration::from_secs(5);
/// How often mirrors of repositories are looked after.
const TIDY: Duration = Duration::from_mins(10);

/// How often it is said that the queue is full.
const SAY_FULL: Duration = Duration::from_secs(10);

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Background {
    queue: OnceLock<mpsc::Sender<(Artifact, Route)>>,
    /// What waits in the queue, each once.
    queued: Mutex<HashSet<Artifact>>,
    /// When it was said last that the queue is full.
    said_full: Mutex<Option<Instant>>,
}

impl Background {
    pub(crate) fn new() -> Self {
        Self {
            queue: OnceLock::new(),
            queued: Mutex::default(),
            said_full: Mutex::default(),
        }
    }

    /// Starts the workers. They end with the gateway.
    pub(crate) fn start(gateway: &Arc<Gateway>) {
        let settings = gateway.settings.load();
        let (sender, receiver) = mpsc::channel(settings.async_queue.max(1));
        let _ = gateway.background.queue.set(sender);
        let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
        for _ in 0..settings.async_workers.max(1) {
            tokio::spawn(fetch_queued(Arc::downgrade(gateway), Arc::clone(&receiver)));
        }
        tokio::spawn(write_lists(Arc::downgrade(gateway)));
        tokio::spawn(note_denials(Arc::downgrade(gateway)));
        tokio::spawn(verify_again(Arc::downgrade(gateway)));
        if gateway.records.shared() {
            tokio::spawn(compare_heads(Arc::downgrade(gateway)));
        }
        if removals::followed(&gateway.tiers, &gateway.records) {
            tokio::spawn(removals::follow(Arc::downgrade(gateway)));
        }
        if gateway.tiers.keeps_elsewhere() {
            tokio::spawn(uses::note_all(Arc::downgrade(gateway)));
        }
        tokio::spawn(see_folder(Arc::downgrade(gateway)));
        tokio::spawn(fresh::tidy(Arc::downgrade(gateway)));
        tokio::spawn(tidy(Arc::downgrade(gateway)));
    }
}

impl Gateway {
    /// Queues a fetch, unless it is queued or under way. A full queue drops it, told and counted: the client will ask
    /// again. Returns whether it will be fetched.
    pub(crate) fn fetch_later(&self, artifact: Artifact, route: Route) -> bool {
        let background = &self.background;
        if self.flights.find(&artifact.key_text()).is_some()
            || !lock(&background.queued).insert(artifact.clone())
        {
            return true;
        }
        let queue = background.queue.get();
        if queue.is_some_and(|queue| queue.try_send((artifact.clone(), route)).is_ok()) {
            self.metrics.queued.inc();
            return true;
        }
        lock(&background.queued).remove(&artifact);
        self.metrics.commits.count(Commit::AsyncQueueFull);
        let mut said = lock(&background.said_full);
        if said.is_none_or(|at| at.elapsed() >= SAY_FULL) {
            *said = Some(Instant::now());
            tracing::warn!(%artifact, "the queue of background fetches is full: what comes is dropped until there is room (`async.queue`)");
        }
        false
    }

    /// Queues what a client asks for next of a version that exists: it gives up at the first 404, and one that comes again
    /// should find all of it. A client that is redirected gets the rest from where it was sent.
    fn fetch_rest_later(&self, artifact: &Artifact, route: &Route) {
        if route.mode() != Mode::Async {
            return;
        }
        let rest: &[Part] = match artifact.part {
            Part::Info => &[Part::Mod, Part::Zip],
            Part::Mod => &[Part::Zip],
            Part::Zip => &[],
        };
        for part in rest {
            let artifact = Artifact {
                part: *part,
                ..artifact.clone()
            };
            if !self.fetch_later(artifact, route.clone()) {
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn fetch_queued(
    gateway: Weak<Gateway>,
    queue: Arc<tokio::sync::Mutex<mpsc::Receiver<(Artifact, Route)>>>,
) {
    loop {
        let next = queue.lock().await.recv().await;
        let (Some((artifact, route)), Some(gateway)) = (next, gateway.upgrade()) else {
            return;
        };
        gateway.metrics.queued.dec();
        lock(&gateway.background.queued).remove(&artifact);
        let want = Want {
            whole: true,
            ..Want::default()
        };
        match gateway.fly(artifact.clone(), route.clone(), want).await {
            Ok(_) => gateway.fetch_rest_later(&artifact, &route),
            Err(refused) => {
                tracing::info!(refusal = %refused.refusal, "a background fetch failed");
            }
        }
    }
}

async fn write_lists(gateway: Weak<Gateway>) {
    if let Some(strong) = gateway.upgrade() {
        let recovered = strong.on_disk(Gateway::recover_lists).await;
        if let Err(refusal) = recovered {
            tracing::error!(%refusal, "cannot look for lists that were not written");
        }
    }
    loop {
        let Some(strong) = gateway.upgrade() else {
            return;
        };
        let changed = strong.lists.wait();
        // Looks up now and then, so that the gateway can go.
        let some = timeout(LOOK_UP, changed).await.is_ok();
        if some {
            sleep(LIST_DELAY).await;
            strong.write_lists().await;
        }
    }
}

async fn note_denials(gateway: Weak<Gateway>) {
    while let Some(gateway) = gateway.upgrade() {
        let come = gateway.denials.wait();
        // Looks up now and then, so that the gateway can go.
        if timeout(LOOK_UP, come).await.is_ok() {
            gateway.note_denials().await;
        }
    }
}

/// Replicas know each other's heads within two of these.
const COMPARE: Duration = Duration::from_secs(1);
/// The same where what is shared is in memory, and reaches the others a while later.
const COMPARE_HERE: Duration = Duration::from_millis(300);

pub(crate) async fn compare_heads(gateway: Weak<Gateway>) {
    loop {
        let Some(strong) = gateway.upgrade() else {
            return;
        };
        strong.compare_heads().await;
        let pause = if strong.records.shared() {
            COMPARE
        } else {
            COMPARE_HERE
        };
        drop(strong);
        sleep(pause).await;
    }
}

async fn tidy(gateway: Weak<Gateway>) {
    loop {
        sleep(TIDY).await;
        let Some(settings) = gateway
            .upgrade()
            .map(|gateway| gateway.settings.load_full())
        else {
            return;
        };
        settings.direct.tidy().await;
    }
}

async fn see_folder(gateway: Weak<Gateway>) {
    loop {
        sleep(SEE_FOLDER).await;
        let Some(store) = gateway.upgrade().map(|gateway| Arc::clone(&gateway.store)) else {
            return;
        };
        // It says itself what is wrong.
        let _ = spawn_blocking(move || store.look_at_folder()).await;
    }
}

async fn verify_again(gateway: Weak<Gateway>) {
    let mut ticks = interval(VERIFY_AGAIN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(gateway) = gateway.upgrade() else {
            return;
        };
        gateway.verify_served().await;
    }
}
