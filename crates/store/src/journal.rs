//! What is kept here and not yet in a tier that keeps: on disk, so that a crash loses nothing.
//!
//! An entry is `journal/<id>.data` (the bytes: synced, then linked or renamed there) and `journal/<id>.json` (the place of
//! the tier, key and digest; synced, then renamed there). An entry counts from the moment its `.json` is there; it ends when the
//! `.json` goes. A `.data` alone is a leftover and is removed at the start. What is no longer what it should be is counted and
//! moved to `quarantine/journal/`. Bounded by entries and bytes.

mod written;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

use crate::{
    Digest, Kept, Key, Store, seal,
    tier::{Source, count},
};
use written::{Read, aside, id_of, read};

pub(crate) use written::{Incoming, waiting};

/// Something that a tier is still to get.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    /// The place of the tier.
    pub(crate) tier: Arc<str>,
    pub(crate) key: Key,
    pub(crate) digest: Digest,
}

#[derive(Debug, Default)]
struct State {
    /// By id, so oldest first; the flag says that somebody works on it.
    entries: BTreeMap<u64, (Entry, bool)>,
    /// The entries of a key: one for each tier that misses it.
    keys: HashMap<Key, Vec<u64>>,
    /// Times of last modification of the entries whose bytes this process wrote or compared.
    good: HashMap<u64, (i64, i64)>,
    /// Entries whose tier is configured no more.
    stranded: HashSet<u64>,
    bytes: u64,
    next: u64,
}

/// The backlog as metrics show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalSnapshot {
    /// Entries that wait.
    pub entries: usize,
    /// Those among them whose tier is configured no more: they are served, and go nowhere.
    pub stranded: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Most entries.
    pub max_entries: usize,
    /// Most bytes.
    pub max_bytes: u64,
    /// Entries that reached their tier since the start.
    pub done: u64,
    /// Writes that found it full, and went through instead.
    pub full: u64,
    /// Entries that were no longer what they should be. An incident.
    pub corrupt: u64,
}

/// Why there is no new entry.
#[derive(Debug)]
pub(crate) enum AddError {
    Full,
    /// An entry of the same key has other bytes.
    Differs,
    Io(io::Error),
}

/// The journal of one data folder.
pub(crate) struct Journal {
    folder: PathBuf,
    max_entries: usize,
    max_bytes: u64,
    state: Mutex<State>,
    /// Entries whose bytes were gone at the start: what they were for may be on the disk.
    lost: Mutex<Vec<Entry>>,
    added: Notify,
    /// Told when an entry ends or waits again.
    changed: Notify,
    done: AtomicU64,
    full: AtomicU64,
    corrupt: AtomicU64,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl State {
    fn insert(&mut self, entry: Entry, taken: bool) {
        self.bytes += entry.digest.size;
        self.keys
            .entry(entry.key.clone())
            .or_default()
            .push(entry.id);
        self.entries.insert(entry.id, (entry, taken));
    }

    fn remove(&mut self, id: u64) {
        let Some((entry, _)) = self.entries.remove(&id) else {
            return;
        };
        self.bytes = self.bytes.saturating_sub(entry.digest.size);
        self.good.remove(&id);
        self.stranded.remove(&id);
        if let Some(ids) = self.keys.get_mut(&entry.key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.keys.remove(&entry.key);
            }
        }
    }

    fn of<'a>(&'a self, key: &Key) -> impl Iterator<Item = &'a Entry> {
        let ids = self.keys.get(key).into_iter().flatten();
        ids.filter_map(|id| self.entries.get(id).map(|(entry, _)| entry))
    }
}

impl Journal {
    /// Reads what an earlier run left; `place_of` says where the tier of an entry lies. Waits for the disk.
    pub(crate) fn open(
        data: &Path,
        place_of: &dyn Fn(&str) -> Option<Arc<str>>,
        max_entries: usize,
        max_bytes: u64,
    ) -> io::Result<Self> {
        let folder = data.join("journal");
        fs::create_dir_all(&folder)?;
        let mut state = State::default();
        let (mut lost, mut corrupt) = (Vec::new(), 0);
        let mut found: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(&folder)? {
            found.push(entry?.path());
        }
        for path in &found {
            let (Some(id), Some(ending)) = (id_of(path), path.extension()) else {
                tracing::warn!(path = %path.display(), "not an entry of the journal, left alone");
                continue;
            };
            state.next = state.next.max(id + 1);
            // Not one that was moved away just now.
            if ending == "data" && !path.with_extension("json").exists() && path.exists() {
                fs::remove_file(path)?;
            }
            if ending != "json" {
                continue;
            }
            match read(path, id) {
                Read::Good(mut entry) => {
                    match place_of(&entry.tier) {
                        Some(place) => entry.tier = place,
                        None => drop(state.stranded.insert(id)),
                    }
                    state.insert(entry, false);
                }
                damaged => {
                    corrupt += 1;
                    let mut key = None;
                    if let Read::NoBytes(mut entry) = damaged {
                        key = Some(entry.key.clone());
                        if let Some(place) = place_of(&entry.tier) {
                            entry.tier = place;
                            lost.push(entry);
                        }
                    }
                    tracing::error!(path = %path.display(), key = key.as_ref().map(Key::as_str), "SECURITY: an entry of the journal is not what it should be; moved to quarantine");
                    aside(path, data)?;
                }
            }
        }
        if !state.entries.is_empty() {
            tracing::info!(
                entries = state.entries.len(),
                bytes = state.bytes,
                "journal: to be written to their tiers"
            );
        }
        let stranded = state.stranded.iter().filter_map(|id| state.entries.get(id));
        let stranded: BTreeSet<&str> = stranded.map(|(entry, _)| &*entry.tier).collect();
        if !stranded.is_empty() {
            tracing::error!(
                entries = state.stranded.len(),
                tiers = ?stranded,
                "the journal has entries for buckets that are configured no more: configure them again, or remove the entries"
            );
        }
        Ok(Self {
            folder,
            max_entries,
            max_bytes,
            state: Mutex::new(state),
            lost: Mutex::new(lost),
            added: Notify::new(),
            changed: Notify::new(),
            done: AtomicU64::new(0),
            full: AtomicU64::new(0),
            corrupt: AtomicU64::new(corrupt),
        })
    }

    /// The entries whose bytes were gone at the start; once.
    pub(crate) fn take_lost(&self) -> Vec<Entry> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *lost)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry; when this returns a crash does not lose it. Waits for the disk.
    pub(crate) fn add(
        &self,
        store: &Store,
        tier: &Arc<str>,
        key: &Key,
        incoming: Incoming,
        digest: &Digest,
    ) -> Result<(), AddError> {
        let entry = {
            let mut state = self.state();
            if let Some(there) = state.of(key).find(|entry| entry.tier == *tier) {
                let same = there.digest.same_bytes(digest);
                return if same { Ok(()) } else { Err(AddError::Differs) };
            }
            let bytes = state.bytes.saturating_add(digest.size);
            if state.entries.len() >= self.max_entries || bytes > self.max_bytes {
                count(&self.full);
                return Err(AddError::Full);
            }
            let entry = Entry {
                id: state.next,
                tier: Arc::clone(tier),
                key: key.clone(),
                digest: digest.clone(),
            };
            state.next += 1;
            // Taken until it is written.
            state.insert(entry.clone(), true);
            entry
        };
        match self.write(store, &entry, incoming) {
            Ok(modified) => {
                self.state().good.insert(entry.id, modified);
                self.put_back(entry.id);
                Ok(())
            }
            Err(error) => {
                self.end(&entry);
                let _ = fs::remove_file(self.path(entry.id, "data"));
                Err(AddError::Io(error))
            }
        }
    }

    /// Returns when the bytes were last modified.
    fn write(&self, store: &Store, entry: &Entry, incoming: Incoming) -> io::Result<(i64, i64)> {
        let data = self.path(entry.id, "data");
        match incoming {
            Incoming::Bytes(bytes) => store
                .write_temp(&bytes, &entry.key, |_| {})?
                .rename(&data)?,
            Incoming::File(windows, temp) => {
                // The disk tier seals the same file: its time must not change then.
                let _ = seal::put(windows.file(), &entry.key);
                windows.file().sync_all()?;
                if fs::hard_link(&temp, &data).is_err() {
                    // A file system without hard links.
                    fs::copy(&temp, &data)?;
                    File::open(&data)?.sync_all()?;
                }
            }
        }
        let json = written::to_json(entry)?;
        let json_path = self.path(entry.id, "json");
        store
            .write_temp(&json, &entry.key, |_| {})?
            .rename(&json_path)?;
        File::open(&self.folder)?.sync_all()?;
        modified(&File::open(&data)?)
    }

    /// The next entry for `tier` that nobody works on: the oldest after `after`, else the oldest. So one that fails
    /// again and again does not hold up the others. It is the caller's until `put_back`, `done` or `set_aside`.
    fn take(&self, tier: &str, after: Option<u64>) -> Option<Entry> {
        let mut state = self.state();
        let free = |(id, (entry, taken)): (&u64, &(Entry, bool))| {
            (!taken && *entry.tier == *tier).then_some(*id)
        };
        let from = after.map_or(0, |after| after.saturating_add(1));
        let id = state.entries.range(from..).find_map(free);
        let id = id.or_else(|| state.entries.iter().find_map(free))?;
        let (entry, taken) = state.entries.get_mut(&id)?;
        *taken = true;
        Some(entry.clone())
    }

    /// Waits for an entry for `tier`, from `after` on.
    pub(crate) async fn next(&self, tier: &str, after: Option<u64>) -> Entry {
        loop {
            let told = self.added.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if let Some(entry) = self.take(tier, after) {
                return entry;
            }
            told.await;
        }
    }

    /// The entry waits again.
    pub(crate) fn put_back(&self, id: u64) {
        if let Some((_, taken)) = self.state().entries.get_mut(&id) {
            *taken = false;
        }
        self.added.notify_waiters();
        self.changed.notify_waiters();
    }

    /// Takes all entries of `key` out of the way, once nobody works on them any more.
    pub(crate) async fn take_all(&self, key: &Key) -> Vec<Entry> {
        let mut all = Vec::new();
        loop {
            let told = self.changed.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            let mut busy = false;
            {
                let mut state = self.state();
                let ids = state.keys.get(key).cloned().unwrap_or_default();
                for id in ids {
                    match state.entries.get_mut(&id) {
                        Some((entry, taken)) if !*taken => {
                            *taken = true;
                            all.push(entry.clone());
                        }
                        Some((entry, _)) => busy |= !all.iter().any(|mine| mine.id == entry.id),
                        None => {}
                    }
                }
            }
            if !busy {
                return all;
            }
            told.await;
        }
    }

    /// The entry reached its tier. Waits for the disk.
    pub(crate) fn done(&self, entry: &Entry) -> io::Result<()> {
        fs::remove_file(self.path(entry.id, "json"))?;
        fs::remove_file(self.path(entry.id, "data"))?;
        count(&self.done);
        self.end(entry);
        Ok(())
    }

    /// The entry is not what it should be, or its tier has other bytes: moved to `quarantine/`. Waits for the disk.
    pub(crate) fn set_aside(&self, entry: &Entry, data: &Path) -> io::Result<()> {
        count(&self.corrupt);
        aside(&self.path(entry.id, "json"), data)?;
        self.end(entry);
        Ok(())
    }

    fn end(&self, entry: &Entry) {
        let mut state = self.state();
        state.remove(entry.id);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until there is nothing left that can be done.
    pub(crate) async fn empty(&self) {
        loop {
            let told = self.changed.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            {
                let state = self.state();
                if state.entries.len() == state.stranded.len() {
                    return;
                }
            }
            told.await;
        }
    }

    /// The bytes of an entry. Waits for the disk.
    pub(crate) fn source(&self, entry: &Entry) -> io::Result<Source> {
        Source::open(&self.path(entry.id, "data"))
    }

    /// What waits here under `key`: an entry for each tier.
    pub(crate) fn find(&self, key: &Key) -> Vec<Entry> {
        self.state().of(key).cloned().collect()
    }

    /// Whether the entry still waits.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.state().entries.contains_key(&id)
    }

    /// Takes an entry that nobody works on.
    pub(crate) fn take_this(&self, id: u64) -> bool {
        let mut state = self.state();
        let entry = state.entries.get_mut(&id);
        entry.is_some_and(|(_, taken)| !std::mem::replace(taken, true))
    }

    /// The bytes of an entry, to be sent; none if they are not what they should be. They are compared when this process
    /// did not write them, or when somebody wrote to them since. Waits for the disk.
    pub(crate) fn kept(&self, entry: &Entry) -> io::Result<Option<Kept>> {
        let path = self.path(entry.id, "data");
        let file = File::open(&path)?;
        let at = modified(&file)?;
        let known = self.state().good.get(&entry.id) == Some(&at);
        if !known {
            if !Source::open(&path)?.digest()?.same_bytes(&entry.digest) {
                return Ok(None);
            }
            let mut state = self.state();
            if state.entries.contains_key(&entry.id) {
                state.good.insert(entry.id, at);
            }
        }
        Kept::open(file, true).map(Some)
    }

    pub(crate) fn snapshot(&self) -> JournalSnapshot {
        let state = self.state();
        JournalSnapshot {
            entries: state.entries.len(),
            stranded: state.stranded.len(),
            bytes: state.bytes,
            max_entries: self.max_entries,
            max_bytes: self.max_bytes,
            done: self.done.load(Relaxed),
            full: self.full.load(Relaxed),
            corrupt: self.corrupt.load(Relaxed),
        }
    }

    fn path(&self, id: u64, ending: &str) -> PathBuf {
        self.folder.join(format!("{id:016x}.{ending}"))
    }
}

fn modified(file: &File) -> io::Result<(i64, i64)> {
    let metadata = file.metadata()?;
    Ok((metadata.mtime(), metadata.mtime_nsec()))
}
