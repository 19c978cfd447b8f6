//! The data folder: who owns it, what is kept in it, how it gets there.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use rustix::fs::{FallocateFlags, Mode, OFlags, ResolveFlags, fallocate, openat2};
use tokio::task::spawn_blocking;

use crate::{
    Digest, Kept, Key, SpoolWriter, Spooled,
    hot::Hot,
    lock::{is_ours, lock},
    notes::{self, Notes},
    place::{is_absent, new_file, place},
    remedy::remedy,
    seal::{self, Seals, Truth},
    spool::TempPath,
};

const LOST: &str = "the data folder was removed, or another one took its place, while this server runs: what is kept from now on is not found again, and commands do not reach this server; start it again";

/// What a [`Store`] is made of.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The data folder; made if absent.
    pub folder: PathBuf,
    /// Bound of the open and mapped files that are kept ready to send, in bytes.
    pub hot_bytes: u64,
    /// How long they stay ready; `None`: until they have to make room.
    pub hot_ttl: Option<Duration>,
}

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("the data folder {} is in use by another modgate{}; end that one first, or name another folder with --data or `data`", folder.display(), owner.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// Process id of the owner, if it wrote one.
        owner: Option<u32>,
    },
    /// The disk.
    #[error("the data folder {}: {doing}: {error}{}", folder.display(), remedy(error))]
    Io {
        /// The data folder.
        folder: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The file is kept from now on.
    New,
    /// There was one already; it stays, the new one is dropped.
    Present,
}

type Opening = Shared<BoxFuture<'static, Result<Option<Arc<Kept>>, Arc<io::Error>>>>;

/// Kept files in a data folder, and the way into it.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// The same, open.
    root: OwnedFd,
    hot: Hot,
    /// Files being looked up now, so that a crowd costs one trip to the disk.
    opening: Mutex<HashMap<Key, Opening>>,
    notes: Notes,
    seals: Seals,
    /// Holds the lock for as long as the store lives.
    lock: File,
    /// It was said that the folder is another one.
    lost: AtomicBool,
}

impl Store {
    /// Opens the data folder: makes it, takes its lock, empties `tmp/`.
    pub fn open(settings: &StoreSettings) -> Result<Self, StoreError> {
        let folder = settings.folder.clone();
        let fault = |doing| {
            let folder = folder.clone();
            move |error| StoreError::Io {
                folder,
                doing,
                error,
            }
        };
        fs::create_dir_all(&folder).map_err(fault("making it"))?;
        let lock = lock(&folder)?;
        let tmp = folder.join("tmp");
        match fs::remove_dir_all(&tmp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(fault("emptying tmp/")(error));
            }
            _ => {}
        }
        fs::create_dir(&tmp).map_err(fault("making tmp/"))?;
        let root = File::open(&folder).map_err(fault("opening it"))?.into();
        let seals = new_file(&tmp)
            .and_then(|(file, _temp)| Seals::probe(&file))
            .map_err(fault("writing a file in tmp/"))?;
        Ok(Self {
            root,
            seals,
            hot: Hot::new(settings.hot_bytes, settings.hot_ttl),
            opening: Mutex::default(),
            notes: Notes::default(),
            lock,
            lost: AtomicBool::new(false),
            folder,
        })
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is kept under `key`, if it is open or the system has it in memory: no disk, no waiting.
    pub fn at_hand(&self, key: String) -> Option<Arc<Kept>> {
        if let Some(kept) = self.ready(&key) {
            return Some(kept);
        }
        self.open_at_hand(&Key::new(key).ok()?).ok()
    }

    /// What is open, unless its file was written to since.
    fn ready(&self, key: &str) -> Option<Arc<Kept>> {
        let kept = self.hot.get(key)?;
        if kept.is_unchanged() {
            return Some(kept);
        }
        self.hot.remove(key);
        None
    }

    /// What a kept file whose seal is broken is compared with. Without it, with the digest at the file alone.
    pub fn compare_with(&self, truth: Truth) {
        self.seals.compare_with(truth);
    }

    /// Whether a kept file can be seen to be as it was kept; not so on file systems that keep times in seconds.
    pub fn has_seals(&self) -> bool {
        self.seals.on()
    }

    /// Files that were not what they should be when they were asked for. They are in quarantine.
    pub fn altered(&self) -> u64 {
        self.seals.altered()
    }

    /// Opens a file whose folder, entry and content are all in the system's memory.
    fn open_at_hand(&self, key: &Key) -> io::Result<Arc<Kept>> {
        let file = openat2(
            &self.root,
            key.as_str(),
            // A pipe that somebody put there must not be waited for.
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | self.notes.flags(),
            Mode::empty(),
            ResolveFlags::CACHED | ResolveFlags::BENEATH,
        )?;
        let file = File::from(file);
        let metadata = file.metadata()?;
        if !self.seals.hold(&metadata, key) {
            // To be read before it is believed.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let noted = self.notes.has_digests();
        let kept = Arc::new(Kept::open_at_hand(file, &metadata, noted)?);
        self.hot.insert(key.clone(), Arc::clone(&kept));
        Ok(kept)
    }

    /// What is kept under `key`.
    pub async fn get(self: &Arc<Self>, key: &Key) -> io::Result<Option<Arc<Kept>>> {
        if let Some(kept) = self.ready(key.as_str()) {
            return Ok(Some(kept));
        }
        match self.open_at_hand(key) {
            Ok(kept) => return Ok(Some(kept)),
            // The system knows that there is no such entry.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(_) => {}
        }
        self.open_once(key)
            .await
            .map_err(|error| io::Error::new(error.kind(), error.to_string()))
    }

    /// The opening of a file that is under way, or a new one. It goes on if nobody waits any more.
    fn open_once(self: &Arc<Self>, key: &Key) -> Opening {
        let mut opening = self.opening();
        if let Some(opening) = opening.get(key) {
            return opening.clone();
        }
        let (store, wanted) = (Arc::clone(self), key.clone());
        let loading = spawn_blocking(move || {
            let loaded = store.load(&wanted);
            store.opening().remove(&wanted);
            loaded.map_err(Arc::new)
        });
        let loading = loading
            .map(|joined| joined.unwrap_or_else(|error| Err(Arc::new(io::Error::other(error)))))
            .boxed()
            .shared();
        opening.insert(key.clone(), loading.clone());
        loading
    }

    fn opening(&self) -> MutexGuard<'_, HashMap<Key, Opening>> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, key: &Key) -> io::Result<Option<Arc<Kept>>> {
        let loaded = self.notes.open(&self.path(key)).and_then(|file| {
            if !self.seals.judge(key, &file)? {
                tracing::error!(%key, "SECURITY: a kept file is not what it should be; moved to quarantine");
                self.set_aside(key)?;
                return Err(io::ErrorKind::NotFound.into());
            }
            Kept::open(file, self.notes.has_digests())
        });
        match loaded {
            Ok(kept) => {
                let kept = Arc::new(kept);
                self.hot.insert(key.clone(), Arc::clone(&kept));
                Ok(Some(kept))
            }
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A small file that may change (state, lists): read whole, at most `max` bytes, never held open.
    /// Waits for the disk.
    pub fn read_small(&self, key: &Key, max: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        match File::open(self.path(key)) {
            Ok(file) => file.take(max + 1).read_to_end(&mut bytes)?,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        if bytes.len() as u64 > max {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{key} is longer than {max} bytes"),
            ));
        }
        Ok(Some(bytes))
    }

    /// Notes as the time of a small file that may change that it is in use. Waits for the disk.
    pub fn touch(&self, key: &Key) -> io::Result<()> {
        File::open(self.path(key))?.set_modified(SystemTime::now())
    }

    /// File names in the folder `key`, in no order; none if it is not there. Waits for the disk.
    pub fn names(&self, key: &Key) -> io::Result<Vec<String>> {
        match fs::read_dir(self.path(key)) {
            Ok(entries) => entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect(),
            Err(error) if is_absent(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Starts a download. Room for `expected` bytes is reserved, so that a full disk is known at once.
    pub async fn spool(self: &Arc<Self>, expected: Option<u64>) -> io::Result<SpoolWriter> {
        let store = Arc::clone(self);
        spawn_blocking(move || {
            let (file, mut temp) = store.temp()?;
            if let Some(expected) = expected.filter(|&expected| expected > 0) {
                match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, expected) {
                    // Some file systems cannot reserve; then a full disk shows while writing.
                    Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) | Ok(()) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let path = temp.0.take().ok_or(io::ErrorKind::NotFound)?;
            Ok(SpoolWriter::new(file, path, expected))
        })
        .await
        .map_err(io::Error::other)?
    }

    /// Keeps a judged download under `key` for ever. Waits for the disk. What is there already stays.
    pub fn commit(&self, spooled: Spooled, key: &Key) -> io::Result<Committed> {
        self.commit_as(spooled, key, None)
    }

    /// The same, with the digest noted at the file.
    pub(crate) fn commit_as(
        &self,
        mut spooled: Spooled,
        key: &Key,
        digest: Option<&Digest>,
    ) -> io::Result<Committed> {
        let windows = spooled.windows();
        let file = windows.file();
        match digest {
            Some(digest) => notes::put_digest(file, digest),
            None => notes::put_sha256(file, &seal::sha256(file)?),
        }
        self.notes.arrived(file);
        // Unsealed it is read once more when it is asked for, that is all.
        let _ = seal::put(file, key);
        spooled.sync()?;
        let temp = std::mem::replace(&mut spooled.temp, TempPath(None));
        place(&self.folder, temp, key, false)
    }

    /// Keeps `bytes` under `key` for ever. Waits for the disk. What is there already stays.
    pub fn put_small(&self, key: &Key, bytes: &Bytes) -> io::Result<Committed> {
        self.put_small_as(key, bytes, None)
    }

    /// The same, with the digest noted at the file.
    pub(crate) fn put_small_as(
        &self,
        key: &Key,
        bytes: &Bytes,
        digest: Option<&Digest>,
    ) -> io::Result<Committed> {
        let temp = self.write_temp(bytes, key, |file| match digest {
            Some(digest) => notes::put_digest(file, digest),
            None => notes::put_sha256(file, &Digest::of(bytes).sha256),
        })?;
        place(&self.folder, temp, key, false)
    }

    /// The digest that was noted at the file when it was kept; `None` if there is none. Waits for the disk.
    pub fn noted(&self, key: &Key) -> io::Result<Option<Digest>> {
        match File::open(self.path(key)) {
            Ok(file) => notes::digest_of(&file),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is noted at files.
    pub(crate) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// What was sent out of memory since the last time; noted at the files too, where that is wanted. Waits for the
    /// disk.
    pub(crate) fn take_used(&self) -> Vec<Arc<Key>> {
        let used = self.hot.take_used();
        if self.notes.has_uses() {
            for key in &used {
                // An object that is in memory alone has no file.
                let _ = notes::used_now(&self.path(key));
            }
        }
        used
    }

    /// Makes an object of another tier ready to send.
    pub(crate) fn make_hot(&self, key: &Key, kept: &Arc<Kept>) {
        self.hot.insert(key.clone(), Arc::clone(kept));
    }

    /// Lets go of an open file, since another process removed it or set it aside.
    pub fn let_go(&self, key: &str) {
        self.hot.remove(key);
    }

    /// Moves a file that is not what it should be to `quarantine/`. Waits for the disk.
    pub fn set_aside(&self, key: &Key) -> io::Result<()> {
        let aside = self.folder.join("quarantine").join(key.as_str());
        if let Some(parent) = aside.parent() {
            fs::create_dir_all(parent)?;
        }
        let moved = fs::rename(self.path(key), aside);
        self.hot.remove(key.as_str());
        match moved {
            Err(error) if !is_absent(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes a kept file; whoever reads it reads on. Waits for the disk.
    pub fn remove(&self, key: &Key) -> io::Result<()> {
        let removed = fs::remove_file(self.path(key));
        self.hot.remove(key.as_str());
        match removed {
            Err(error) if !is_absent(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes `bytes` under `key`, over what is there. For state, never for what is kept for ever. Waits for the disk.
    pub fn replace_small(&self, key: &Key, bytes: &[u8]) -> io::Result<()> {
        let temp = self.write_temp(bytes, key, |_| {})?;
        place(&self.folder, temp, key, true)?;
        self.hot.remove(key.as_str());
        Ok(())
    }

    /// Whether a small file can be written now, into the folder that was opened.
    pub async fn probe(self: &Arc<Self>) -> io::Result<()> {
        let store = Arc::clone(self);
        spawn_blocking(move || {
            store.look_at_folder()?;
            let written = store
                .temp()
                .and_then(|(mut file, _temp)| file.write_all(&[0; 4096]));
            written.map_err(|error| io::Error::new(error.kind(), format!("cannot write: {error}")))
        })
        .await
        .map_err(io::Error::other)?
    }

    /// Whether the folder is the one that was opened. If not, that is logged once. Looks at the disk, and writes nothing.
    pub fn look_at_folder(&self) -> io::Result<()> {
        if is_ours(&self.folder, &self.lock)? {
            self.lost.store(false, Relaxed);
            return Ok(());
        }
        if !self.lost.swap(true, Relaxed) {
            tracing::error!(folder = %self.folder.display(), "{LOST}");
        }
        Err(io::Error::other(LOST))
    }

    /// Free and whole size of the folder's disk, in bytes.
    pub fn disk(&self) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
    }

    pub(crate) fn write_temp(
        &self,
        bytes: &[u8],
        key: &Key,
        note: impl FnOnce(&File),
    ) -> io::Result<TempPath> {
        let (mut file, temp) = self.temp()?;
        file.write_all(bytes)?;
        note(&file);
        self.notes.arrived(&file);
        let _ = seal::put(&file, key);
        file.sync_all()?;
        Ok(temp)
    }

    /// A new file under `tmp/`.
    fn temp(&self) -> io::Result<(File, TempPath)> {
        let folder = self.folder.join("tmp");
        match new_file(&folder) {
            // Somebody tidied up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&folder)?;
                new_file(&folder)
            }
            made => made,
        }
    }

    pub(crate) fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(key.as_str())
    }
}
