//! What is kept of a database: its head, proven tiles and lookups, and evidence of a fork.
//!
//! On disk a lookup never stands without the head and the tiles that prove it, also after a crash: what is to be kept
//! is written in batches, each the tiles first, then the head, then the lookups. What waits to be written is read
//! from memory meanwhile.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use bytes::Bytes;
use store::{Content, Digest, KeepError, Key, Store, Tiers};
use tlog::{head::SignedHead, note::VerifierKey};
use tokio::runtime::Handle;

use super::covered::{remove_all_covered, remove_covered};
use crate::tasks::Tasks;

const MAX_HEAD_BYTES: u64 = 1 << 20;
/// Tiles and lookups that may wait to be written.
const MAX_WAITING: usize = 4096;
/// Files that are synced at once.
const WRITERS: usize = 4;

/// The memory of one database. It outlives changes of the configuration.
#[derive(Debug)]
pub(super) struct Kept {
    database: String,
    store: Arc<Store>,
    tiers: Arc<Tiers>,
    runtime: Handle,
    state: Mutex<State>,
    /// Held while the evidence of a fork is written or looked for.
    evidence: Mutex<()>,
    /// Whether this process wrote the file that says that the database is here.
    supported: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    head: Option<SignedHead>,
    /// Whether the head on disk is another one.
    head_waits: bool,
    /// Whether there was a head on disk that could not be used.
    unreadable: bool,
    fork: Fork,
    tiles: BTreeMap<String, Bytes>,
    lookups: BTreeMap<String, Bytes>,
    /// Whether somebody is writing.
    writing: bool,
}

#[derive(Debug, Default)]
enum Fork {
    #[default]
    None,
    /// Seen, and its evidence is not on disk: only in memory until it can be written.
    Unwritten(Vec<u8>),
    /// Its evidence was on disk.
    Written,
}

impl Kept {
    pub(super) fn load(key: &VerifierKey, tiers: Arc<Tiers>) -> Self {
        let store = Arc::clone(tiers.store());
        let kept = Self {
            database: key.name().to_owned(),
            store,
            tiers,
            runtime: Handle::current(),
            state: Mutex::default(),
            evidence: Mutex::default(),
            supported: AtomicBool::new(false),
        };
        {
            let mut state = kept.lock();
            match kept.load_head(key) {
                Ok(head) => state.head = head,
                Err(why) => {
                    tracing::error!(
                        database = kept.database,
                        why,
                        "SECURITY: the kept tree head cannot be used; it is started anew, and a fork against the old one will not be seen"
                    );
                    state.unreadable = true;
                }
            }
            // What cannot be looked at may be there.
            if !matches!(kept.has_evidence(), Ok(false)) {
                state.fork = Fork::Written;
            }
        }
        kept
    }

    /// The head on disk. One that does not verify is set aside before another takes its place.
    fn load_head(&self, key: &VerifierKey) -> Result<Option<SignedHead>, String> {
        let latest = self.own_key("latest").map_err(|error| error.to_string())?;
        let note = self
            .store
            .read_small(&latest, MAX_HEAD_BYTES)
            .map_err(|error| format!("reading {latest}: {error}"))?;
        let Some(note) = note else { return Ok(None) };
        SignedHead::verify(&note, key).map(Some).map_err(|error| {
            let aside = self
                .own_key("latest.unreadable")
                .and_then(|aside| self.store.replace_small(&aside, &note));
            if let Err(error) = aside {
                tracing::error!(%error, "cannot set the kept tree head aside");
            }
            format!("{latest} does not verify: {error}")
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own_key(&self, file: &str) -> io::Result<Key> {
        Key::new(format!("sumdb/{}/{file}", self.database)).map_err(io::Error::other)
    }

    pub(super) fn head(&self) -> Option<SignedHead> {
        self.lock().head.clone()
    }

    /// Puts a head that was proven to continue `before` in its place. False if that is not the head any more.
    pub(super) fn advance(&self, before: Option<&SignedHead>, to: SignedHead) -> bool {
        let mut state = self.lock();
        if state.head.as_ref().map(SignedHead::head) != before.map(SignedHead::head) {
            return false;
        }
        state.head = Some(to);
        state.head_waits = true;
        true
    }

    /// Whether a head on disk could not be used when this was loaded.
    pub(super) fn was_unreadable(&self) -> bool {
        self.lock().unreadable
    }

    /// A tile or lookup that waits to be written.
    pub(super) fn waiting(&self, key: &str) -> Option<Bytes> {
        let state = self.lock();
        let found = state.tiles.get(key).or_else(|| state.lookups.get(key));
        found.cloned()
    }

    /// Has a proven tile written.
    pub(super) fn keep_tile(self: &Arc<Self>, tasks: &Tasks, key: &Key, content: Bytes) {
        self.keep(tasks, key, content, |state| &mut state.tiles);
    }

    /// Has a proven lookup written. Its tiles must have been given before.
    pub(super) fn keep_lookup(self: &Arc<Self>, tasks: &Tasks, key: &Key, body: Bytes) {
        self.keep(tasks, key, body, |state| &mut state.lookups);
    }

    fn keep(
        self: &Arc<Self>,
        tasks: &Tasks,
        key: &Key,
        bytes: Bytes,
        list: fn(&mut State) -> &mut BTreeMap<String, Bytes>,
    ) {
        let mut state = self.lock();
        if state.tiles.len() + state.lookups.len() >= MAX_WAITING {
            drop(state);
            tracing::warn!(%key, "not kept: too much waits for the disk");
            return;
        }
        list(&mut state).insert(key.as_str().to_owned(), bytes);
        self.write(state, tasks);
    }

    /// Has the head written.
    pub(super) fn keep_head(self: &Arc<Self>, tasks: &Tasks) {
        self.write(self.lock(), tasks);
    }

    /// Starts to write what waits, unless somebody does.
    fn write(self: &Arc<Self>, mut state: MutexGuard<'_, State>, tasks: &Tasks) {
        if std::mem::replace(&mut state.writing, true) {
            return;
        }
        drop(state);
        let kept = Arc::clone(self);
        tasks.spawn_blocking(move || while kept.write_batch() {});
    }

    /// Writes what waits now: tiles, then the head, then lookups. False if there is no more, or the disk fails: then
    /// what is left waits for the next time.
    fn write_batch(&self) -> bool {
        let (tiles, head, lookups) = {
            let mut state = self.lock();
            let head = state.head.clone().filter(|_| state.head_waits);
            if state.tiles.is_empty() && state.lookups.is_empty() && head.is_none() {
                state.writing = false;
                return false;
            }
            (state.tiles.clone(), head, state.lookups.clone())
        };
        let written = self
            .write_all(&tiles, |state| &mut state.tiles)
            .and_then(|()| head.map_or(Ok(()), |head| self.write_head(&head)))
            .and_then(|()| {
                if lookups.is_empty() {
                    return Ok(());
                }
                self.write_supported()
            })
            .and_then(|()| self.write_all(&lookups, |state| &mut state.lookups));
        if written.is_ok() {
            remove_covered(&self.tiers, &self.runtime, tiles.keys());
        }
        if let Err(error) = written {
            tracing::error!(database = self.database, %error, "cannot keep what the checksum database proved");
            self.lock().writing = false;
            return false;
        }
        true
    }

    /// Removes what earlier processes left of partial tiles. Waits for the disk.
    pub(super) fn remove_all_covered(&self) {
        remove_all_covered(&self.tiers, &self.runtime, &self.database);
    }

    /// Writes what waits, before this returns. False if not all of it could be written. Waits for the disk.
    pub(super) fn write_now(&self) -> bool {
        while self.write_batch() {}
        let state = self.lock();
        state.tiles.is_empty() && state.lookups.is_empty() && !state.head_waits
    }

    fn write_all(
        &self,
        files: &BTreeMap<String, Bytes>,
        list: fn(&mut State) -> &mut BTreeMap<String, Bytes>,
    ) -> io::Result<()> {
        let files: Vec<_> = files.iter().collect();
        let share = files.len().div_ceil(WRITERS).max(1);
        let write = |files: &[(&String, &Bytes)]| {
            for (key, bytes) in files {
                let at = Key::new((*key).clone()).map_err(io::Error::other)?;
                self.put(&at, bytes)?;
                list(&mut self.lock()).remove(*key);
            }
            io::Result::Ok(())
        };
        thread::scope(|scope| {
            let writers: Vec<_> = files
                .chunks(share)
                .map(|files| scope.spawn(move || write(files)))
                .collect();
            writers.into_iter().try_for_each(|writer| {
                let written = writer.join();
                written.unwrap_or_else(|_| Err(io::Error::other("a writer panicked")))
            })
        })
    }

    /// Writes, once, the empty file that the go command asks for before it asks a GOPROXY for the database: with it the
    /// folder is one by itself, `file://…/go`.
    fn write_supported(&self) -> io::Result<()> {
        if self.supported.load(Ordering::Relaxed) {
            return Ok(());
        }
        let key = format!("go/sumdb/{}/supported", self.database);
        let key = Key::new(key).map_err(io::Error::other)?;
        self.put(&key, &Bytes::new())?;
        self.supported.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps one file where everything that does not change is kept.
    fn put(&self, at: &Key, bytes: &Bytes) -> io::Result<()> {
        if self.tiers.is_alone() {
            return self.store.put_small(at, bytes).map(drop);
        }
        let (content, digest) = (Content::Bytes(bytes.clone()), Digest::of(bytes));
        let kept = self.runtime.block_on(self.tiers.keep(content, at, &digest));
        match kept {
            // A lookup has the head of its time in it: another replica's is as good.
            Ok(_) | Err(KeepError::Differs(_)) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn write_head(&self, head: &SignedHead) -> io::Result<()> {
        let latest = self.own_key("latest")?;
        self.store.replace_small(&latest, head.note())?;
        let mut state = self.lock();
        state.head_waits = state.head.as_ref() != Some(head);
        Ok(())
    }

    /// Whether the database has shown two histories.
    pub(super) fn forked(&self) -> bool {
        !matches!(self.lock().fork, Fork::None)
    }

    /// Notes that `seen` and the kept head cannot both be true. [`look_at_evidence`](Self::look_at_evidence) writes it
    /// down. False if a fork was known.
    pub(super) fn fork(&self, seen: &SignedHead, why: &str) -> bool {
        let mut state = self.lock();
        if !matches!(state.fork, Fork::None) {
            return false;
        }
        let mut evidence = format!("{why}\n\nthe head kept:\n\n").into_bytes();
        evidence.extend_from_slice(state.head.as_ref().map_or(&[][..], SignedHead::note));
        evidence.extend_from_slice(b"\nthe head seen:\n\n");
        evidence.extend_from_slice(seen.note());
        state.fork = Fork::Unwritten(evidence);
        true
    }

    /// Writes evidence that is not on disk yet, or ends the fork if an operator has removed what was. Evidence that never
    /// reached the disk cannot have been removed. Waits for the disk.
    pub(super) fn look_at_evidence(&self) {
        let _one = match self.evidence.try_lock() {
            Ok(one) => one,
            Err(TryLockError::Poisoned(one)) => one.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let unwritten = match &self.lock().fork {
            Fork::None => return,
            Fork::Unwritten(evidence) => Some(evidence.clone()),
            Fork::Written => None,
        };
        if let Some(evidence) = unwritten {
            let written = self
                .own_key("fork")
                .and_then(|key| self.store.replace_small(&key, &evidence));
            match written {
                Ok(()) => self.lock().fork = Fork::Written,
                Err(error) => {
                    tracing::error!(database = self.database, %error, "cannot write the evidence of the fork");
                }
            }
        } else if matches!(self.has_evidence(), Ok(false)) {
            tracing::warn!(
                database = self.database,
                "the evidence of the fork was removed: verification goes on"
            );
            self.lock().fork = Fork::None;
        }
    }

    /// The evidence of the fork that is known here; empty if it cannot be read.
    pub(super) fn evidence(&self) -> Vec<u8> {
        if let Fork::Unwritten(evidence) = &self.lock().fork {
            return evidence.clone();
        }
        let read = self
            .own_key("fork")
            .and_then(|key| self.store.read_small(&key, MAX_HEAD_BYTES));
        read.ok().flatten().unwrap_or_default()
    }

    /// Notes a fork that another replica saw.
    pub(super) fn take_fork(&self, evidence: Vec<u8>) {
        let mut state = self.lock();
        if matches!(state.fork, Fork::None) {
            state.fork = Fork::Unwritten(evidence);
        }
    }

    /// Ends a fork whose evidence an operator removed at another replica. The file here is set aside.
    pub(super) fn drop_fork(&self) {
        let file = self
            .store
            .folder()
            .join(format!("sumdb/{}/fork", self.database));
        if let Err(error) = std::fs::rename(&file, file.with_extension("ended"))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(database = self.database, %error, "cannot set the evidence of the fork aside");
            return;
        }
        self.lock().fork = Fork::None;
    }

    fn has_evidence(&self) -> io::Result<bool> {
        let file = self
            .store
            .folder()
            .join(format!("sumdb/{}/fork", self.database));
        file.try_exists()
    }
}
