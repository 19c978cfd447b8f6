//! The data folder and the tiers beside it, as one.
//!
//! A read goes down the list: memory, the tiers above the disk, the disk, the journal, the tiers below; what is found
//! is promoted to those above. A write goes to the tiers that keep first ([`Tiers::persist`], before the client's last
//! byte), then to the disk and the hot tiers ([`Tiers::settle`]). Without any tier but the disk both are what the
//! [`Store`] does alone, with nothing added.

use std::{
    io,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, Semaphore},
    task::spawn_blocking,
};
use tokio_util::task::TaskTracker;

use crate::{
    Committed, Digest, Frames, Kept, Key, Pull, Spooled, Store,
    journal::{AddError, Incoming, Journal, JournalSnapshot},
    pull::PullReader,
    tier::{
        Fetched, Opened, Persist, Source, Tier, TierError, TierErrorKind, TierSettings,
        TierSnapshot, WHOLE_BYTES, count,
    },
};

mod background;
mod evict;

/// Promotions under way at a time; more are left to the next read.
const PROMOTIONS: usize = 32;
/// Marks of objects that are known to be good.
const MARKS: u64 = 100_000;

/// What [`Tiers`] are made of.
#[derive(Clone, Debug)]
pub struct TiersSettings {
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
    disk: Option<DiskSettings>,
    above: Vec<Arc<Tier>>,
    below: Vec<Arc<Tier>>,
    journal: Option<Arc<Journal>>,
    promotions: Arc<Semaphore>,
    /// Told when the disk tier grew beyond its bound.
    crowded: Notify,
    tasks: TaskTracker,
    /// The mark of each object that was compared as a whole: parts of that very object may be sent on.
    marks: moka::sync::Cache<Key, Box<str>>,
    counters: Counters,
}

impl Tiers {
    /// The data folder alone.
    pub fn alone(store: Arc<Store>) -> Arc<Self> {
        Arc::new(Self::new(
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
        let keeps = above.iter().chain(&below).any(|tier| tier.keeps());
        let journal = keeps.then(|| {
            let folder = store.folder();
            Journal::open(
                folder,
                settings.journal_max_entries,
                settings.journal_max_bytes,
            )
            .map_err(|error| TiersError::Journal {
                folder: folder.to_owned(),
                error,
            })
        });
        Ok(Arc::new(Self::new(
            store,
            settings.disk.clone(),
            above,
            below,
            journal.transpose()?.map(Arc::new),
        )))
    }

    fn new(
        store: Arc<Store>,
        disk: Option<DiskSettings>,
        above: Vec<Arc<Tier>>,
        below: Vec<Arc<Tier>>,
        journal: Option<Arc<Journal>>,
    ) -> Self {
        Self {
            store,
            disk,
            above,
            below,
            journal,
            promotions: Arc::new(Semaphore::new(PROMOTIONS)),
            crowded: Notify::new(),
            tasks: TaskTracker::new(),
            marks: moka::sync::Cache::new(MARKS),
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

    /// Whether a tier beside the disk keeps everything, so that the data folder may be lost.
    pub fn keeps_elsewhere(&self) -> bool {
        self.keepers().next().is_some()
    }

    /// The tiers beside memory and disk, from the top.
    pub fn tiers(&self) -> impl Iterator<Item = &Arc<Tier>> {
        self.above.iter().chain(&self.below)
    }

    fn keepers(&self) -> impl Iterator<Item = &Arc<Tier>> {
        self.tiers().filter(|tier| tier.keeps())
    }

    /// Looks for an object, from the top.
    pub async fn find(self: &Arc<Self>, key: &Key) -> Found {
        let mut unknown = None;
        if !self.above.is_empty() {
            if let Some(kept) = self.store.at_hand(key.to_string()) {
                return Found::Kept(kept);
            }
            for tier in &self.above {
                if let Some(found) = self.ask(tier, key, &mut unknown).await {
                    return found;
                }
            }
        }
        match self.store.get(key).await {
            Ok(Some(kept)) => {
                self.lift(key, &kept);
                return Found::Kept(kept);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%key, %error, "cannot read what is kept");
                unknown = Some(TierError::new(
                    &"disk".into(),
                    TierErrorKind::Unavailable,
                    error,
                ));
            }
        }
        if let Some(kept) = self.journalled(key).await {
            return Found::Kept(kept);
        }
        for tier in &self.below {
            if let Some(found) = self.ask(tier, key, &mut unknown).await {
                return found;
            }
        }
        unknown.map_or(Found::Absent, Found::Unknown)
    }

    async fn ask(
        self: &Arc<Self>,
        tier: &Arc<Tier>,
        key: &Key,
        unknown: &mut Option<TierError>,
    ) -> Option<Found> {
        match tier.fetch(key, WHOLE_BYTES).await {
            Ok(Some(Fetched::Whole(bytes, digest))) => {
                let kept = Arc::new(Kept::memory(bytes.clone(), &digest));
                self.store.make_hot(key, &kept);
                self.promote(tier, key, bytes, digest);
                Some(Found::Kept(kept))
            }
            Ok(Some(Fetched::Stream(opened))) => Some(Found::Pull(Pull::new(
                Arc::clone(tier),
                key.clone(),
                opened,
            ))),
            Ok(None) => None,
            // It is in quarantine by now.
            Err(error) if error.kind == TierErrorKind::Corrupt => None,
            Err(error) => {
                tracing::debug!(%key, %error, "not asked");
                if tier.keeps() {
                    *unknown = Some(error);
                }
                None
            }
        }
    }

    async fn journalled(self: &Arc<Self>, key: &Key) -> Option<Arc<Kept>> {
        let entry = self.journal.as_ref()?.find(key)?;
        let tiers = Arc::clone(self);
        let kept = spawn_blocking(move || tiers.journal.as_ref()?.kept(&entry).ok());
        let kept = Arc::new(kept.await.ok()??);
        self.store.make_hot(key, &kept);
        Some(kept)
    }

    /// Writes an object that was found in `from` to the tiers above it, in the background.
    fn promote(self: &Arc<Self>, from: &Arc<Tier>, key: &Key, bytes: Bytes, digest: Digest) {
        let below_disk = self.below.iter().any(|tier| Arc::ptr_eq(tier, from));
        let upper: Vec<Arc<Tier>> = self
            .tiers()
            .take_while(|tier| !Arc::ptr_eq(tier, from))
            .cloned()
            .collect();
        let to_disk = below_disk && self.disk.is_some();
        if upper.is_empty() && !to_disk {
            return;
        }
        let (tiers, key) = (Arc::clone(self), key.clone());
        self.in_background(async move {
            if to_disk {
                let content = Content::Bytes(bytes.clone());
                // Said and counted there.
                let _ = tiers.to_disk(&key, content, &digest).await;
            }
            for tier in upper {
                tiers
                    .hand_up(&tier, &key, &bytes.clone().into(), &digest)
                    .await;
            }
        });
    }

    /// Writes a file of the disk tier to the hot tiers above it, in the background.
    fn lift(self: &Arc<Self>, key: &Key, kept: &Arc<Kept>) {
        if self.above.is_empty() || !self.above.iter().any(|tier| tier.takes(kept.len())) {
            return;
        }
        let (tiers, key, kept) = (Arc::clone(self), key.clone(), Arc::clone(kept));
        self.in_background(async move {
            let Some(bytes) = kept.whole().cloned() else {
                return;
            };
            let (reader, read) = (Arc::clone(&tiers), key.clone());
            let looked = spawn_blocking(move || {
                let digest = Digest::of(&bytes);
                let noted = reader.store.noted(&read).ok().flatten();
                // A copy, so that no mapping is held while it is sent.
                (digest, noted, Bytes::copy_from_slice(&bytes))
            });
            let Ok((digest, noted, bytes)) = looked.await else {
                return;
            };
            if noted
                .as_ref()
                .is_some_and(|noted| !noted.same_bytes(&digest))
            {
                tiers.disk_is_bad(&key).await;
                return;
            }
            let digest = noted.unwrap_or(digest);
            for tier in &tiers.above {
                tiers
                    .hand_up(tier, &key, &bytes.clone().into(), &digest)
                    .await;
            }
        });
    }

    /// One write of a promotion. What the tier says is in its counters; nobody waits for it.
    async fn hand_up(&self, tier: &Tier, key: &Key, source: &Source, digest: &Digest) {
        if !tier.takes(digest.size) {
            return;
        }
        let put = tier.put(key, source, digest).await;
        if matches!(&put, Err(error) if error.kind == TierErrorKind::Differs) && !tier.keeps() {
            // A hot tier with other bytes than those that are kept must not answer again.
            let _ = tier.remove(key).await;
        }
    }

    fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let Ok(permit) = Arc::clone(&self.promotions).try_acquire_owned() else {
            count(&self.counters.promotions_skipped);
            return;
        };
        self.tasks.spawn(async move {
            work.await;
            drop(permit);
        });
    }

    /// Keeps what was judged, everywhere: [`persist`](Self::persist), then [`settle`](Self::settle).
    pub async fn keep(
        self: &Arc<Self>,
        content: Content,
        key: &Key,
        digest: &Digest,
    ) -> Result<Committed, KeepError> {
        let persisted = self.persist(&content, key, digest).await?;
        let settled = self.settle(content, key, digest).await;
        if self.keeps_elsewhere() {
            return Ok(persisted);
        }
        settled.map_err(KeepError::Disk)
    }

    /// Keeps what was judged in the tiers that keep, or in the journal for them: before its last byte goes out.
    /// Nothing is to be done where only the disk keeps.
    ///
    /// On [`KeepError::Differs`] what was kept before stays: it must be served, not this.
    pub async fn persist(
        self: &Arc<Self>,
        content: &Content,
        key: &Key,
        digest: &Digest,
    ) -> Result<Committed, KeepError> {
        let mut committed = Committed::New;
        let mut failed = Vec::new();
        let mut safe = false;
        for tier in self.keepers() {
            let later =
                matches!(&**tier, Tier::Object(object) if object.persist() == Persist::Async);
            if later && self.write_later(tier, content, key, digest).await? {
                safe = true;
                continue;
            }
            match tier.put(key, &content.source(), digest).await {
                Ok(how) => {
                    safe = true;
                    committed = how;
                }
                Err(error) if error.kind == TierErrorKind::Differs => {
                    return Err(KeepError::Differs(error));
                }
                Err(error) => failed.push((tier, error)),
            }
        }
        for (tier, error) in failed {
            // It is safe elsewhere: this tier gets it when it is back.
            if !safe || !self.write_later(tier, content, key, digest).await? {
                return Err(KeepError::Storage(error));
            }
        }
        Ok(committed)
    }

    /// Writes an entry of the journal; `false` if there is no room for one.
    async fn write_later(
        self: &Arc<Self>,
        tier: &Arc<Tier>,
        content: &Content,
        key: &Key,
        digest: &Digest,
    ) -> Result<bool, KeepError> {
        let Some(journal) = &self.journal else {
            return Ok(false);
        };
        let (tiers, name, at, digest) = (
            Arc::clone(self),
            Arc::clone(tier.name()),
            key.clone(),
            digest.clone(),
        );
        let journal = Arc::clone(journal);
        let incoming = Incoming::of(content).map_err(KeepError::Disk)?;
        let added =
            spawn_blocking(move || journal.add(&tiers.store, &name, &at, incoming, &digest));
        let added = added
            .await
            .unwrap_or_else(|error| Err(AddError::Io(io::Error::other(error))));
        match added {
            Ok(()) => Ok(true),
            Err(AddError::Full) => {
                tracing::warn!(tier = %tier.name(), "journal full: written through");
                Ok(false)
            }
            Err(AddError::Differs) => {
                let what = format_args!("{key}, in the journal");
                let error = TierError::new(tier.name(), TierErrorKind::Differs, what);
                tracing::error!(%error, "SECURITY: other bytes under this key");
                Err(KeepError::Differs(error))
            }
            Err(AddError::Io(error)) => {
                tracing::error!(%key, %error, "cannot write to the journal");
                Ok(false)
            }
        }
    }

    /// Keeps on the disk, and in memory and the hot tiers what is small: after its last byte went out. An error
    /// means that the disk does not have it, which is a loss only where nothing else keeps.
    pub async fn settle(
        self: &Arc<Self>,
        content: Content,
        key: &Key,
        digest: &Digest,
    ) -> io::Result<Committed> {
        let small = digest.size <= WHOLE_BYTES;
        let hot: Vec<Arc<Tier>> = self
            .tiers()
            .filter(|tier| !tier.keeps() && tier.takes(digest.size))
            .cloned()
            .collect();
        let bytes = if small && (!hot.is_empty() || self.disk.is_none()) {
            content.source().whole(WHOLE_BYTES).await.ok()
        } else {
            None
        };
        let settled = if self.disk.is_some() {
            self.to_disk(key, content, digest).await
        } else {
            Ok(Committed::New)
        };
        if let Some(bytes) = bytes {
            if self.disk.is_none() || settled.is_err() {
                let kept = Kept::memory(bytes.clone(), digest);
                self.store.make_hot(key, &Arc::new(kept));
            }
            let (tiers, key, digest) = (Arc::clone(self), key.clone(), digest.clone());
            self.in_background(async move {
                for tier in hot {
                    tiers
                        .hand_up(&tier, &key, &bytes.clone().into(), &digest)
                        .await;
                }
            });
        }
        settled
    }

    async fn to_disk(
        self: &Arc<Self>,
        key: &Key,
        content: Content,
        digest: &Digest,
    ) -> io::Result<Committed> {
        let size = digest.size;
        let (store, at, digest) = (Arc::clone(&self.store), key.clone(), digest.clone());
        let noted = !self.is_alone();
        let placed = spawn_blocking(move || {
            let digest = noted.then_some(&digest);
            match content {
                Content::Bytes(bytes) => store.put_small_as(&at, &bytes, digest),
                Content::Spooled(spooled) => store.commit_as(spooled, &at, digest),
            }
        });
        let placed = placed.await.map_err(io::Error::other)?;
        match &placed {
            Ok(Committed::New) => self.arrived(size),
            Ok(Committed::Present) => {}
            Err(error) => {
                count(&self.counters.disk_refused);
                tracing::error!(%key, %error, "cannot write to the disk tier");
            }
        }
        placed
    }

    /// A file of the disk tier is not what it should be.
    async fn disk_is_bad(&self, key: &Key) {
        count(&self.counters.disk_corrupt);
        tracing::error!(%key, "SECURITY: a kept file is not what it should be; moved to quarantine");
        let (store, at) = (Arc::clone(&self.store), key.clone());
        let moved = spawn_blocking(move || store.set_aside(&at)).await;
        if let Ok(Err(error)) = moved {
            tracing::error!(%key, %error, "cannot move it");
        }
    }

    /// `range` of an object that lies in a lower tier, passed through. `None` if it is not there, or in a tier that
    /// cannot do so. `range` must lie within the object.
    ///
    /// A part cannot be compared with anything. So the whole is read and compared when this process sees the object
    /// for the first time, and its parts are then those of that very object.
    pub async fn part(&self, key: &Key, range: Range<u64>) -> Result<Option<Frames>, TierError> {
        let mut failed = None;
        for tier in &self.below {
            let Tier::Object(object) = &**tier else {
                continue;
            };
            let mark = match self.good_mark(tier, key).await {
                Ok(Some(mark)) => mark,
                Ok(None) => continue,
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            let len = range.end.saturating_sub(range.start);
            match object.open(key, Some(range.clone()), Some(&mark)).await {
                Ok(Some(mut opened)) => {
                    // A client may be slow: it must not hold a slot of the tier.
                    opened.slot = None;
                    return Ok(Some(Frames::pull(PullReader::part(opened), len)));
                }
                // Another object by now.
                Ok(None) => self.marks.invalidate(key),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// The mark of an object that was compared as a whole.
    async fn good_mark(&self, tier: &Arc<Tier>, key: &Key) -> Result<Option<Box<str>>, TierError> {
        if let Some(mark) = self.marks.get(key) {
            return Ok(Some(mark));
        }
        let Some(opened) = self.open_large(tier, key).await? else {
            return Ok(None);
        };
        let Some(mark) = opened.mark.clone() else {
            return Ok(None);
        };
        if !Pull::new(Arc::clone(tier), key.clone(), opened)
            .check()
            .await?
        {
            return Ok(None);
        }
        self.marks.insert(key.clone(), mark.clone());
        Ok(Some(mark))
    }

    async fn open_large(&self, tier: &Tier, key: &Key) -> Result<Option<Opened>, TierError> {
        match tier {
            Tier::Object(object) => object.open(key, None, None).await,
            Tier::Redis(_) => Ok(None),
        }
    }

    /// An address at which a client may read the object from object storage itself, where that is wanted and it is
    /// there.
    pub async fn address(&self, key: &Key) -> Option<String> {
        for tier in self.tiers() {
            let Tier::Object(object) = &**tier else {
                continue;
            };
            if !object.redirects() {
                continue;
            }
            if let Ok(Some(_)) = object.head(key).await
                && let Ok(Some(address)) = object.address(key).await
            {
                return Some(address);
            }
        }
        None
    }

    /// Removes an object from every tier and from the disk. What is in the journal is written once more first.
    pub async fn forget(self: &Arc<Self>, key: &Key) -> Result<(), KeepError> {
        self.marks.invalidate(key);
        for tier in self.tiers() {
            tier.remove(key).await.map_err(KeepError::Storage)?;
        }
        self.forget_here(key).await
    }

    /// Removes an object from memory and disk only: another replica forgot it.
    pub async fn forget_here(self: &Arc<Self>, key: &Key) -> Result<(), KeepError> {
        self.marks.invalidate(key);
        let (store, at) = (Arc::clone(&self.store), key.clone());
        let removed = spawn_blocking(move || store.remove(&at)).await;
        removed
            .map_err(io::Error::other)
            .and_then(|removed| removed)
            .map_err(KeepError::Disk)
    }

    /// What metrics show.
    pub fn snapshot(&self) -> TiersSnapshot {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let counters = &self.counters;
        TiersSnapshot {
            tiers: self.tiers().map(|tier| tier.snapshot()).collect(),
            journal: self.journal.as_ref().map(|journal| journal.snapshot()),
            disk_refused: get(&counters.disk_refused),
            disk_corrupt: get(&counters.disk_corrupt),
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
