//! The data folder and the tiers beside it, as one.
//!
//! A read goes down the list: memory, the tiers above the disk, the disk, the journal, the tiers below; what is found
//! is promoted to those above. A write goes to the tiers that keep first ([`Tiers::persist`], before the client's last
//! byte), then to the disk and the hot tiers ([`Tiers::settle`]). Without any tier but the disk both are what the
//! [`Store`] does alone, with nothing added.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::spawn_blocking,
};
use tokio_util::task::TaskTracker;

use crate::{
    Digest, Kept, Key, Pull, Spooled, Store,
    gather::Gatherer,
    journal::{Journal, JournalSnapshot, waiting},
    tier::{Persist, Source, Tier, TierError, TierSettings, TierSnapshot},
    uses::Uses,
};

mod background;
mod evict;
mod read;
mod write;

pub use write::Said;

/// Promotions under way at a time; more are left to the next read.
const PROMOTIONS: usize = 32;
/// Objects of buckets that are known to be good.
const PROVEN: u64 = 100_000;
/// Longest object of a bucket in memory unless something else is said, in bytes.
const MEMORY_MAX_ENTRY: u64 = 16 << 20;

/// What [`Tiers`] are made of.
#[derive(Clone, Debug)]
pub struct TiersSettings {
    /// Longest object of a bucket that the memory takes, in bytes; 0: none.
    pub memory_max_entry: u64,
    /// Tiers that are asked before the disk, from the top.
    pub above: Vec<TierSettings>,
    /// The disk as a tier; `None`: the data folder is for downloads under way and the journal only.
    pub disk: Option<DiskSettings>,
    /// Tiers that are asked after the disk, from the top.
    pub below: Vec<TierSettings>,
    /// Most entries of the journal.
    pub journal_max_entries: usize,
    /// Most bytes of the journal.
    pub journal_max_bytes: u64,
}

impl Default for TiersSettings {
    fn default() -> Self {
        Self {
            memory_max_entry: MEMORY_MAX_ENTRY,
            above: Vec::new(),
            disk: Some(DiskSettings::default()),
            below: Vec::new(),
            journal_max_entries: 10_000,
            journal_max_bytes: 10 << 30,
        }
    }
}

/// What the disk tier is made of.
#[derive(Clone, Debug, Default)]
pub struct DiskSettings {
    /// Most bytes that stay on the disk; only where a tier below keeps everything.
    pub max_size: Option<u64>,
    /// Longest object that it is given, in bytes; only where a tier below keeps everything.
    pub max_entry: Option<u64>,
    /// How long a file stays that nobody asks for; only where a tier below keeps everything.
    pub ttl: Option<Duration>,
    /// Tells files below `go/` that change: they are no objects, and stay on this disk.
    pub changes: Option<fn(&Key) -> bool>,
}

/// Why there are no tiers.
#[derive(Debug, thiserror::Error)]
pub enum TiersError {
    /// A tier's settings are wrong.
    #[error(transparent)]
    Tier(#[from] TierError),
    /// The journal cannot be read.
    #[error("the journal in {}: {error}", folder.display())]
    Journal {
        /// The data folder.
        folder: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// What [`Tiers::find`] found.
#[derive(Debug)]
pub enum Found {
    /// It is here, ready to send.
    Kept(Arc<Kept>),
    /// It is in a lower tier, and large or without a digest: to be pulled.
    Pull(Pull),
    /// It is nowhere.
    Absent,
    /// It was not found, and a tier that keeps could not be asked: it may be there.
    Unknown(TierError),
}

/// What is to be kept.
#[derive(Debug)]
pub enum Content {
    /// A small object.
    Bytes(Bytes),
    /// A judged download.
    Spooled(Spooled),
}

impl Content {
    /// The bytes, for a tier to read.
    pub(crate) fn source(&self) -> Source {
        match self {
            Self::Bytes(bytes) => bytes.clone().into(),
            Self::Spooled(spooled) => spooled.into(),
        }
    }

    /// The digest: what was made along with a download, else of the bytes as they are read now.
    pub async fn digest(&self) -> io::Result<Digest> {
        if let Self::Spooled(spooled) = self
            && let Some(digest) = spooled.digest()
        {
            return Ok(digest.clone());
        }
        let source = self.source();
        spawn_blocking(move || source.digest())
            .await
            .map_err(io::Error::other)?
    }
}

/// Why something is not kept where it must be.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Other bytes are kept under this key already, and stay. An incident, unless the key's content may differ from
    /// one upstream to the other.
    #[error(transparent)]
    Differs(TierError),
    /// No tier that keeps could take it.
    #[error(transparent)]
    Storage(TierError),
    /// The disk of the data folder.
    #[error("the disk of the data folder: {0}")]
    Disk(io::Error),
}

/// Everything that metrics show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TiersSnapshot {
    /// The tiers beside memory and disk.
    pub tiers: Vec<TierSnapshot>,
    /// The journal, if there is one.
    pub journal: Option<JournalSnapshot>,
    /// Objects that could not be written to the disk tier for want of room, or because it failed, and were served
    /// all the same.
    pub disk_refused: u64,
    /// Files of the disk tier, or of the journal, that were not what they should be.
    pub disk_corrupt: u64,
    /// Promotions that were left to the next read because too many were under way.
    pub promotions_skipped: u64,
    /// Files that left the disk tier to make room.
    pub evicted: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
    /// Bytes in the disk tier: those that came since the start, and with a bound all, as of the last walk.
    pub disk_bytes: u64,
}

/// An object of a bucket that was compared as a whole.
#[derive(Debug)]
struct Proven {
    /// The bucket's own mark of it.
    mark: Box<str>,
    digest: Digest,
}

#[derive(Debug, Default)]
struct Counters {
    disk_refused: AtomicU64,
    disk_corrupt: AtomicU64,
    promotions_skipped: AtomicU64,
    evicted: AtomicU64,
    evicted_bytes: AtomicU64,
    disk_bytes: AtomicU64,
}

/// The data folder and the tiers beside it.
#[derive(Debug)]
pub struct Tiers {
    store: Arc<Store>,
    gatherer: Arc<Gatherer>,
    disk: Option<DiskSettings>,
    above: Vec<Arc<Tier>>,
    below: Vec<Arc<Tier>>,
    journal: Option<Arc<Journal>>,
    promotions: Arc<Semaphore>,
    /// Told when the disk tier grew beyond its bound.
    crowded: Notify,
    tasks: TaskTracker,
    /// Whether nothing that was here before is given to a tier that keeps.
    held: watch::Sender<bool>,
    /// Objects of buckets that were compared as a whole: parts of those very objects may be sent on.
    proven: moka::sync::Cache<Key, Arc<Proven>>,
    /// What was used, where whoever cleans up cannot see it at the files of one machine.
    uses: Uses,
    counters: Counters,
}

impl Tiers {
    /// The data folder alone.
    pub fn alone(store: Arc<Store>) -> Arc<Self> {
        Arc::new(Self::new(
            Gatherer::new(Arc::clone(&store), MEMORY_MAX_ENTRY),
            store,
            Some(DiskSettings::default()),
            Vec::new(),
            Vec::new(),
            None,
        ))
    }

    /// Makes the tiers; they connect when they are first used. Waits for the disk; call it within the runtime, and
    /// then [`run`](Self::run).
    pub fn open(settings: &TiersSettings, store: Arc<Store>) -> Result<Arc<Self>, TiersError> {
        let open = |tiers: &[TierSettings]| -> Result<Vec<Arc<Tier>>, TierError> {
            let opened = tiers.iter().map(|tier| Tier::new(tier).map(Arc::new));
            opened.collect()
        };
        let (above, below) = (open(&settings.above)?, open(&settings.below)?);
        if !above.is_empty() || !below.is_empty() {
            store.notes().digests_from_now();
        }
        let keeps = above.iter().chain(&below).any(|tier| tier.keeps());
        let journal = keeps.then(|| {
            let folder = store.folder();
            let places = |tier: &str| {
                let mut keepers = above.iter().chain(&below).filter(|tier| tier.keeps());
                // Older entries have the name of their tier.
                let found =
                    keepers.find(|keeper| **keeper.place() == *tier || **keeper.name() == *tier);
                found.map(|keeper| Arc::clone(keeper.place()))
            };
            Journal::open(
                folder,
                &places,
                settings.journal_max_entries,
                settings.journal_max_bytes,
            )
            .map_err(|error| TiersError::Journal {
                folder: folder.to_owned(),
                error,
            })
        });
        if !keeps
            && let Ok(waiting) = waiting(store.folder())
            && !waiting.is_empty()
        {
            let entries = waiting.len();
            tracing::error!(
                entries,
                "the journal has entries, and no bucket is configured: they wait for theirs"
            );
        }
        Ok(Arc::new(Self::new(
            Gatherer::new(Arc::clone(&store), settings.memory_max_entry),
            store,
            settings.disk.clone(),
            above,
            below,
            journal.transpose()?.map(Arc::new),
        )))
    }

    fn new(
        gatherer: Arc<Gatherer>,
        store: Arc<Store>,
        disk: Option<DiskSettings>,
        above: Vec<Arc<Tier>>,
        below: Vec<Arc<Tier>>,
        journal: Option<Arc<Journal>>,
    ) -> Self {
        Self {
            store,
            gatherer,
            disk,
            above,
            below,
            journal,
            promotions: Arc::new(Semaphore::new(PROMOTIONS)),
            crowded: Notify::new(),
            tasks: TaskTracker::new(),
            held: watch::Sender::new(false),
            proven: moka::sync::Cache::new(PROVEN),
            uses: Uses::default(),
            counters: Counters::default(),
        }
    }

    /// The data folder.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Whether there is nothing but the data folder.
    pub fn is_alone(&self) -> bool {
        self.above.is_empty() && self.below.is_empty()
    }

    /// Whether an object of this length comes to the disk: it is one of the tiers, and not only a place for downloads
    /// under way, and the object is not too long for it.
    pub fn disk_takes(&self, size: u64) -> bool {
        self.disk.as_ref().is_some_and(|disk| {
            disk.max_entry.is_none_or(|longest| size <= longest) || !self.keeps_elsewhere()
        })
    }

    /// What a large object is that clients read from a bucket, if it was compared as a whole: it need not be
    /// [found](Self::find) first. It may have gone meanwhile.
    pub fn proven(&self, key: &Key) -> Option<Digest> {
        let proven = self.proven.get(key)?;
        let sends_elsewhere =
            |tier: &Arc<Tier>| matches!(&**tier, Tier::Object(object) if object.redirects());
        let here = self.disk_takes(proven.digest.size)
            || self.tiers().any(sends_elsewhere)
            || self.store.at_hand(key.to_string()).is_some();
        (!here).then(|| proven.digest.clone())
    }

    /// It is not there any more.
    pub fn not_proven(&self, key: &Key) {
        self.proven.invalidate(key);
    }

    /// Whether a tier beside the disk keeps everything, so that the data folder may be lost.
    pub fn keeps_elsewhere(&self) -> bool {
        self.keepers().next().is_some()
    }

    /// Gives nothing of the journal and the disk to a tier that keeps until [`give`](Self::give), though not for ever: it
    /// may have been removed there meanwhile. To be said before [`run`](Self::run).
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// The opposite.
    pub fn give(&self) {
        self.held.send_replace(false);
    }

    /// Whether an object waits here to be written to a tier.
    pub fn waits(&self, key: &Key) -> bool {
        let journal = self.journal.as_ref();
        journal.is_some_and(|journal| !journal.find(key).is_empty())
    }

    /// Whether something new can be kept while a tier that keeps is away: by way of the journal.
    pub fn defers(&self) -> bool {
        self.keepers().all(
            |tier| matches!(&**tier, Tier::Object(object) if object.persist() == Persist::Async),
        )
    }

    /// The tiers beside memory and disk, from the top.
    pub fn tiers(&self) -> impl Iterator<Item = &Arc<Tier>> {
        self.above.iter().chain(&self.below)
    }

    fn keepers(&self) -> impl Iterator<Item = &Arc<Tier>> {
        self.tiers().filter(|tier| tier.keeps())
    }

    /// What was used since this was asked last, where a tier beside the disk keeps. Waits for the disk.
    pub fn take_uses(&self) -> Vec<Key> {
        self.mark_uses();
        self.uses.take()
    }

    /// Uses that could not be noted: they are asked for again.
    pub fn give_back_uses<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        for key in keys {
            self.uses.note(key);
        }
    }

    /// Waits until so much was used that it should be [taken](Self::take_uses).
    pub async fn many_uses(&self) {
        self.uses.many().await;
    }

    /// Gathers what was sent out of memory.
    fn mark_uses(&self) {
        for key in self.store.take_used() {
            self.used(&key);
        }
    }

    fn used(&self, key: &Key) {
        if self.keeps_elsewhere() {
            self.uses.note(key);
        }
    }

    /// What metrics show.
    pub fn snapshot(&self) -> TiersSnapshot {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let counters = &self.counters;
        TiersSnapshot {
            tiers: self.tiers().map(|tier| tier.snapshot()).collect(),
            journal: self.journal.as_ref().map(|journal| journal.snapshot()),
            disk_refused: get(&counters.disk_refused),
            disk_corrupt: get(&counters.disk_corrupt) + self.store.altered(),
            promotions_skipped: get(&counters.promotions_skipped),
            evicted: get(&counters.evicted),
            evicted_bytes: get(&counters.evicted_bytes),
            disk_bytes: get(&counters.disk_bytes),
        }
    }

    /// Waits, at most `limit`, until promotions are done and the journal is empty. Returns whether it is.
    pub async fn flush(&self, limit: Duration) -> bool {
        self.tasks.close();
        let flushed = async {
            self.tasks.wait().await;
            if let Some(journal) = &self.journal {
                journal.empty().await;
            }
        };
        tokio::time::timeout(limit, flushed).await.is_ok()
    }
}
