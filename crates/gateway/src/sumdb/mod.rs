//! The checksum database as a client, and as served to clients.
//!
//! `prove` verifies records and moves the kept head forward; `source` asks whoever has the database; `serve`
//! answers clients. All proofs run against one newest head. Their tiles are kept, and every lookup is served with
//! that head, so what was proven once can be proven again by any client, also offline (see `tlog::proof`).

mod prove;
mod serve;
mod source;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use gomod::ModulePath;
use moka::sync::Cache;
use store::{Key, Store};
use tlog::{head::SignedHead, lookup::Lookup};
use tokio_util::task::TaskTracker;

use crate::{
    flight::Flights,
    negative::Negatives,
    refusal::{Code, Refusal},
    settings::SumDbSettings,
};

/// Authenticated tiles that are held in memory, in bytes.
const TILE_MEMORY_BYTES: u64 = 4 << 20;

/// One checksum database.
#[derive(Debug)]
pub(crate) struct SumDb {
    settings: SumDbSettings,
    kept: Arc<Mutex<Kept>>,
    /// Taken while the head is written, so that an older one never overwrites a newer one.
    writing: Arc<Mutex<()>>,
    store: Arc<Store>,
    tasks: TaskTracker,
    lookups: Flights<Arc<Lookup>>,
    fetches: Flights<Bytes>,
    authentic: Cache<String, Bytes>,
    negatives: Negatives,
    supports: Mutex<HashMap<String, (Instant, bool)>>,
    refreshed: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Kept {
    head: Option<SignedHead>,
    forked: bool,
}

impl SumDb {
    /// Opens what is kept of the database; goes on with the memory of `before` if that is the same database.
    pub(crate) fn open(
        settings: SumDbSettings,
        before: Option<&Self>,
        store: Arc<Store>,
        tasks: TaskTracker,
    ) -> Self {
        let same =
            before.filter(|before| before.settings.key.to_string() == settings.key.to_string());
        let kept = same.map_or_else(
            || Arc::new(Mutex::new(load(&settings, &store))),
            |before| Arc::clone(&before.kept),
        );
        let writing = same.map_or_else(Arc::default, |before| Arc::clone(&before.writing));
        Self {
            kept,
            writing,
            store,
            lookups: Flights::new(tasks.clone()),
            fetches: Flights::new(tasks.clone()),
            tasks,
            authentic: Cache::builder()
                .max_capacity(TILE_MEMORY_BYTES)
                .weigher(|_: &String, tile: &Bytes| {
                    u32::try_from(tile.len() + 64).unwrap_or(u32::MAX)
                })
                .build(),
            negatives: Negatives::new(),
            supports: Mutex::default(),
            refreshed: Mutex::default(),
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn head(&self) -> Option<SignedHead> {
        self.lock().head.clone()
    }

    /// Records in the kept head's tree.
    pub(crate) fn tree_size(&self) -> u64 {
        self.lock().head.as_ref().map_or(0, |head| head.head().size)
    }

    /// Whether the database has shown two histories. An operator ends that by removing the evidence file.
    pub(crate) fn forked(&self) -> bool {
        let mut kept = self.lock();
        if kept.forked
            && !self
                .store
                .folder()
                .join(format!("sumdb/{}/fork", self.settings.key.name()))
                .exists()
        {
            tracing::warn!(
                database = self.settings.key.name(),
                "the evidence of the fork was removed: verification goes on"
            );
            kept.forked = false;
        }
        kept.forked
    }

    pub(crate) fn not_forked(&self) -> Result<(), Refusal> {
        if !self.forked() {
            return Ok(());
        }
        let what = format!("checksum database {}", self.name());
        Err(Refusal::new(Code::ChecksumDatabaseFork, what, "SECURITY: it has signed two histories; nothing new is verified by it")
            .hint("an operator must look at `sumdb/<name>/fork` in the data folder, find who was lied to, and then remove it"))
    }

    pub(crate) fn health(&self) -> (bool, String) {
        if self.forked() {
            return (false, format!("{}: SECURITY: forked", self.name()));
        }
        (
            true,
            format!("{}: tree of {} records", self.name(), self.tree_size()),
        )
    }

    /// A key below the part of the data folder that clients can use as it is.
    fn public_key(&self, path: &str) -> Result<Key, Refusal> {
        crate::artifact::key(format!("go/sumdb/{}/{path}", self.name()), || {
            path.to_owned()
        })
    }

    fn invalid(&self, why: impl std::fmt::Display) -> Refusal {
        tracing::error!(database = self.name(), %why, "SECURITY: an answer of the checksum database does not verify");
        let what = format!("checksum database {}", self.name());
        Refusal::new(
            Code::ChecksumDatabaseInvalid,
            what,
            format!("its answer does not verify: {why}"),
        )
        .hint("whoever answered lies or is broken; nothing of it was kept")
    }

    /// Stops trusting the database, and keeps the evidence.
    fn fork(&self, seen: &SignedHead, why: &str) -> Refusal {
        let mut kept = self.lock();
        kept.forked = true;
        let mut evidence = format!("{why}\n\nthe head kept:\n\n").into_bytes();
        evidence.extend_from_slice(kept.head.as_ref().map_or(&[][..], SignedHead::note));
        evidence.extend_from_slice(b"\nthe head seen:\n\n");
        evidence.extend_from_slice(seen.note());
        drop(kept);
        tracing::error!(
            database = self.name(),
            why,
            "SECURITY: the checksum database has signed two histories; nothing new is verified until an operator acts"
        );
        let written = Key::new(format!("sumdb/{}/fork", self.name()))
            .map_err(std::io::Error::other)
            .and_then(|key| self.store.replace_small(&key, &evidence));
        if let Err(error) = written {
            tracing::error!(%error, "cannot write the evidence");
        }
        let what = format!("checksum database {}", self.name());
        Refusal::new(
            Code::ChecksumDatabaseFork,
            what,
            "SECURITY: it has signed two histories; nothing new is verified by it",
        )
    }
}

fn load(settings: &SumDbSettings, store: &Store) -> Kept {
    let name = settings.key.name();
    let forked = store.folder().join(format!("sumdb/{name}/fork")).exists();
    let Ok(key) = Key::new(format!("sumdb/{name}/latest")) else {
        return Kept { head: None, forked };
    };
    let note = match store.read_small(&key, 1 << 20) {
        Ok(note) => note,
        Err(error) => {
            tracing::error!(%key, %error, "cannot read the kept tree head");
            None
        }
    };
    let head = note.and_then(|note| {
        SignedHead::verify(&note, &settings.key).map_err(|error| tracing::error!(%key, %error, "the kept tree head does not verify; starting anew")).ok()
    });
    Kept { head, forked }
}
