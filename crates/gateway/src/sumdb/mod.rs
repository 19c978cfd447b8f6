//! The checksum database as a client, and as served to clients.
//!
//! `prove` verifies records and moves the kept head forward; `source` knows whom to ask; `serve` answers clients;
//! `kept` is what stays. All proofs run against one newest head. Their tiles are kept, and every lookup is served with
//! that head, so what was proven once can be proven again by any client, also offline (see `tlog::proof`).

mod carried;
mod covered;
mod kept;
mod prove;
mod records;
mod serve;
mod shared;
mod source;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use gomod::ModulePath;
use moka::sync::Cache;
use store::{Key, Tiers};
use tlog::{head::SignedHead, lookup::Lookup};

use crate::{
    flight::Flights,
    negative::Negatives,
    refusal::{Code, Refusal},
    settings::SumDbSettings,
    tasks::Tasks,
};

use kept::Kept;
use source::{Fault, Source};

pub use carried::Carried;

/// Authenticated tiles that are held in memory, in bytes.
const TILE_MEMORY_BYTES: u64 = 4 << 20;

/// When the newest head was asked for last, and what came of it.
type Refreshed = Option<(Instant, Result<(), Arc<Refusal>>)>;

/// When a question was asked last that nobody answered, and why, until one is answered.
type Silence = Option<(Instant, String)>;

/// One checksum database.
#[derive(Debug)]
pub(crate) struct SumDb {
    settings: SumDbSettings,
    kept: Arc<Kept>,
    tiers: Arc<Tiers>,
    tasks: Tasks,
    lookups: Flights<Arc<Lookup>>,
    fetches: Flights<Result<Bytes, Fault>>,
    refreshes: Flights<()>,
    questions: Flights<bool>,
    authentic: Cache<String, Bytes>,
    negatives: Negatives,
    supports: Mutex<HashMap<String, (Instant, bool)>>,
    /// Sources whose answers did not verify, and until when they are asked last.
    aside: Mutex<HashMap<String, Instant>>,
    refreshed: Mutex<Refreshed>,
    silence: Mutex<Silence>,
    compared: Mutex<shared::Compared>,
    /// The one source there is, while a bundle is taken over.
    carried: OnceLock<Source>,
}

impl SumDb {
    /// Opens what is kept of the database; goes on with the memory of `before` if that is the same database.
    pub(crate) fn open(
        settings: SumDbSettings,
        before: Option<&Self>,
        tiers: Arc<Tiers>,
        tasks: Tasks,
    ) -> Self {
        let same =
            before.filter(|before| before.settings.key.to_string() == settings.key.to_string());
        let load = || {
            let kept = Arc::new(Kept::load(&settings.key, Arc::clone(&tiers)));
            let loaded = Arc::clone(&kept);
            tasks.spawn_blocking(move || loaded.remove_all_covered());
            kept
        };
        let kept = same.map_or_else(load, |before| Arc::clone(&before.kept));
        Self {
            kept,
            tiers,
            lookups: Flights::new(tasks.clone()),
            fetches: Flights::new(tasks.clone()),
            refreshes: Flights::new(tasks.clone()),
            questions: Flights::new(tasks.clone()),
            tasks,
            authentic: Cache::builder()
                .max_capacity(TILE_MEMORY_BYTES)
                .weigher(|_: &String, tile: &Bytes| {
                    u32::try_from(tile.len() + 64).unwrap_or(u32::MAX)
                })
                .build(),
            negatives: Negatives::new(),
            supports: Mutex::default(),
            aside: Mutex::default(),
            refreshed: Mutex::default(),
            silence: Mutex::default(),
            compared: Mutex::default(),
            carried: OnceLock::new(),
            settings,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.settings.key.name()
    }

    pub(crate) fn exempts(&self, module: &ModulePath) -> bool {
        self.settings.exempt.matches(module)
    }

    pub(crate) fn allows_unknown(&self) -> bool {
        self.settings.allow_unknown
    }

    pub(crate) fn serves_unverified(&self) -> bool {
        self.settings.serve_unverified
    }

    fn head(&self) -> Option<SignedHead> {
        self.kept.head()
    }

    /// Records in the kept head's tree.
    pub(crate) fn tree_size(&self) -> u64 {
        self.head().map_or(0, |head| head.head().size)
    }

    /// Whether the database has shown two histories.
    pub(crate) fn forked(&self) -> bool {
        self.kept.forked()
    }

    /// Refuses if the database has shown two histories. An operator ends that by removing the evidence.
    pub(crate) async fn not_forked(&self) -> Result<(), Refusal> {
        if self.kept.forked() {
            self.look_at_evidence().await;
        }
        if self.kept.forked() {
            return Err(self.fork_refusal());
        }
        Ok(())
    }

    async fn look_at_evidence(&self) {
        let kept = Arc::clone(&self.kept);
        let looked = self.tasks.spawn_blocking(move || kept.look_at_evidence());
        if let Err(error) = looked.await {
            tracing::error!(%error, "looking at the evidence of a fork");
        }
    }

    fn fork_refusal(&self) -> Refusal {
        let what = format!("checksum database {}", self.name());
        Refusal::new(Code::ChecksumDatabaseFork, what, "SECURITY: it has signed two histories; nothing new is verified by it")
            .hint("an operator must look at `sumdb/<name>/fork` in the data folder, find who was lied to, and then remove it")
    }

    pub(crate) fn health(&self) -> (bool, String) {
        if self.forked() {
            return (false, format!("{}: SECURITY: forked", self.name()));
        }
        let size = self.tree_size();
        if self.kept.was_unreadable() {
            let text = format!(
                "{}: SECURITY: the kept tree head could not be used at start; begun anew, tree of {size} records",
                self.name()
            );
            return (false, text);
        }
        let silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, why)) = &*silence {
            let text = format!(
                "{}: cannot be reached ({why}), asked last {} s ago; tree of {size} records",
                self.name(),
                at.elapsed().as_secs()
            );
            return (false, text);
        }
        (true, format!("{}: tree of {size} records", self.name()))
    }

    /// Notes whether anybody answered the last question.
    fn heard(&self, silence: Silence) {
        *self.silence.lock().unwrap_or_else(PoisonError::into_inner) = silence;
    }

    /// A key below the part of the data folder that clients can use as it is.
    fn public_key(&self, path: &str) -> Result<Key, Refusal> {
        crate::artifact::key(format!("go/sumdb/{}/{path}", self.name()), || {
            path.to_owned()
        })
    }

    fn invalid(&self, why: impl std::fmt::Display) -> Refusal {
        let what = format!("checksum database {}", self.name());
        Refusal::new(
            Code::ChecksumDatabaseInvalid,
            what,
            format!("its answer does not verify: {why}"),
        )
        .hint("whoever answered lies or is broken; nothing of it was kept")
    }

    /// Stops trusting the database, and keeps the evidence.
    async fn fork(&self, seen: &SignedHead, why: &str) -> Fault {
        if self.kept.fork(seen, why) {
            tracing::error!(
                database = self.name(),
                why,
                "SECURITY: the checksum database has signed two histories; nothing new is verified until an operator acts"
            );
            self.look_at_evidence().await;
        }
        Fault::Final(self.fork_refusal())
    }
}
