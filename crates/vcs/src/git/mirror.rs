//! A mirror: a bare repository on our disk, kept for all modules of a repository.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::SystemTime;

use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::complete::{Complete, Packs};
use super::idle::Idle;
use super::refs::Refs;
use super::remote::Asked;
use crate::DirectError;
use crate::incident::Watch;

/// What `git archive` would change or leave out, it shall not (protocol.md section 6). The file counts before all of a commit.
const ATTRIBUTES: (&str, &str) = ("info/attributes", "* -export-subst -export-ignore\n");
/// The setting of a mirror whose hashes are SHA-256; without it they are SHA-1.
const SHA256: &str = "objectformat = sha256";
/// What is a file in a mirror, and what a folder, where it is there.
const FILES: [&str; 5] = ["config", "packed-refs", "shallow", "complete", ATTRIBUTES.0];
const FOLDERS: [&str; 6] = [
    "objects",
    "objects/pack",
    "refs/heads",
    "refs/kept",
    "refs/tags",
    "info",
];
/// How old the stamp of the last use may grow before it is renewed, in seconds.
const STAMP_AGE: u64 = 60;

/// A mirror. What is on disk may not exist yet.
#[derive(Debug)]
pub(crate) struct Mirror {
    /// The bare repository.
    pub(crate) folder: PathBuf,
    /// The file that says the URL; its time is that of the last use.
    stamp: PathBuf,
    /// The tags of versions that were seen, for as long as the mirror is kept; a damaged mirror leaves them.
    tags: PathBuf,
    watch: Arc<Watch>,
    /// What `ls-remote` last said.
    pub(crate) asked: Mutex<Asked>,
    /// Held by the one who changes what is on disk.
    pub(crate) disk: Mutex<Disk>,
    /// Held by the one who packs it again, beside all others.
    pub(super) caring: Mutex<()>,
    /// Told when that one must stop.
    pub(super) disturbed: Notify,
    /// What is wanted of the repository, for the next fetch: references by what they stand for.
    pub(crate) wanted: StdMutex<BTreeMap<String, String>>,
    /// How often it was made anew.
    generation: AtomicU64,
    /// When the stamp was renewed, in seconds since 1970.
    stamped: AtomicU64,
    /// Its bytes on disk when they were last counted.
    size: AtomicU64,
    /// Whether they were counted since somebody looked.
    counted: AtomicBool,
    /// Bytes of the references in memory.
    refs_bytes: AtomicU64,
    /// Who reads its objects, between questions.
    pub(crate) idle: Idle,
    /// Whether its server gives commits by their references alone.
    pub(crate) by_name_only: AtomicBool,
    /// Whether its server does not speak what is asked without git.
    pub(crate) fetched_by_git: AtomicBool,
    /// The packs among which all history was last found to be there.
    pub(super) whole: StdMutex<Option<Packs>>,
}

/// What is known of the disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// It was looked at, and what a killed git left was swept out.
    pub(crate) clean: bool,
    /// When the last whole pull began, where all is pulled at once.
    pub(crate) pulled: Option<Instant>,
    /// When all history of the references was found to be there.
    pub(crate) complete: Option<Complete>,
}

impl Mirror {
    /// Named by `name`, with the system's name at its end, in `folder`; nothing is touched.
    pub(crate) fn new(folder: &Path, name: &str, watch: Arc<Watch>) -> Self {
        Self {
            folder: folder.join(name),
            stamp: folder.join(format!("{name}.url")),
            tags: folder.join(format!("{name}.tags")),
            watch,
            asked: Mutex::default(),
            disk: Mutex::default(),
            caring: Mutex::default(),
            disturbed: Notify::new(),
            wanted: StdMutex::default(),
            generation: AtomicU64::new(0),
            stamped: AtomicU64::new(0),
            size: AtomicU64::new(0),
            counted: AtomicBool::new(false),
            refs_bytes: AtomicU64::new(0),
            idle: Idle::default(),
            by_name_only: AtomicBool::new(false),
            fetched_by_git: AtomicBool::new(false),
            whole: StdMutex::default(),
        }
    }

    /// Whether there is anything on disk.
    pub(crate) async fn exists(&self) -> bool {
        self.has_file("HEAD").await
    }

    /// Notes in a file beside it which repository it is of.
    pub(crate) fn stamp(&self, url: &str) -> Result<(), DirectError> {
        fs::write(&self.stamp, format!("{url}\n"))
            .map_err(|error| DirectError::disk("making a mirror", &error))
    }

    /// The number of this making of it.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether only heads and tags that were fetched are there, without what came before.
    pub(crate) async fn is_shallow(&self) -> bool {
        self.has_file("shallow").await
    }

    /// Whether the history of all references was fetched once.
    pub(crate) async fn was_complete(&self) -> bool {
        self.has_file("complete").await
    }

    /// Whether `git archive` will leave all as it is. A crash may have lost what says so: nothing waited for the disk.
    pub(super) async fn archives_unchanged(&self) -> bool {
        let file = self.folder.join(ATTRIBUTES.0);
        let read = blocking(move || fs::read(file)).await;
        read.is_ok_and(|text| text == ATTRIBUTES.1.as_bytes())
    }

    /// What is a folder and should be a file, or the other way round: nothing can be written there, and git does not say
    /// of all of it that something is wrong.
    pub(super) async fn misshapen(&self) -> Result<Option<&'static str>, DirectError> {
        let folder = self.folder.clone();
        blocking(move || {
            let is = |name: &str| fs::metadata(folder.join(name)).ok();
            let file = |name: &&str| is(name).is_some_and(|data| !data.is_file());
            let directory = |name: &&str| is(name).is_some_and(|data| !data.is_dir());
            let found = FILES.into_iter().find(file);
            Ok(found.or_else(|| FOLDERS.into_iter().find(directory)))
        })
        .await
    }

    /// The kind of its hashes, if it is not that of `refs`: git fetches nothing into it then. None if its configuration
    /// cannot be read, of which git tells.
    pub(super) async fn other_hashes(
        &self,
        refs: &Refs,
    ) -> Result<Option<&'static str>, DirectError> {
        let (config, wanted) = (self.folder.join("config"), refs.sha256());
        blocking(move || {
            let Ok(config) = fs::read_to_string(config) else {
                return Ok(None);
            };
            let sha256 = config.contains(SHA256);
            let name = if sha256 { "SHA-256" } else { "SHA-1" };
            Ok((sha256 != wanted).then_some(name))
        })
        .await
    }

    async fn has_file(&self, name: &str) -> bool {
        let file = self.folder.join(name);
        blocking(move || Ok(file.is_file())).await.unwrap_or(false)
    }

    /// Makes an empty repository, for hashes of the kind that `refs` has. `HEAD` comes last: with it, it exists.
    pub(crate) async fn create(&self, url: &str, refs: &Refs) -> Result<(), DirectError> {
        let (folder, stamp) = (self.folder.clone(), self.stamp.clone());
        let (stamped, sha256) = (format!("{url}\n"), refs.sha256());
        let format = if sha256 {
            format!("\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\t{SHA256}\n")
        } else {
            "\trepositoryformatversion = 0\n\tbare = true\n".to_owned()
        };
        blocking(move || {
            remove(&folder)?;
            for part in [
                "objects/info",
                "objects/pack",
                "refs/heads",
                "refs/tags",
                "info",
            ] {
                fs::create_dir_all(folder.join(part))?;
            }
            fs::write(folder.join("config"), format!("[core]\n{format}"))?;
            fs::write(folder.join(ATTRIBUTES.0), ATTRIBUTES.1)?;
            fs::write(stamp, stamped)?;
            fs::write(folder.join("HEAD"), "ref: refs/heads/none\n")
        })
        .await
    }

    /// Looks at the disk for the first time, or again after a git was killed: sweeps out its locks and halves.
    pub(crate) async fn clean(&self, disk: &mut Disk) -> Result<(), DirectError> {
        if disk.clean {
            return Ok(());
        }
        self.stop_care().await;
        let folder = self.folder.clone();
        blocking(move || sweep(&folder, 0)).await?;
        disk.clean = true;
        Ok(())
    }

    /// Throws away what is on disk, unless somebody did since `generation`.
    pub(crate) async fn discard(&self, generation: u64) -> Result<(), DirectError> {
        let mut disk = self.disk.lock().await;
        if self.generation() != generation {
            return Ok(());
        }
        self.throw_away(&mut disk).await
    }

    /// Throws away what is on disk.
    pub(super) async fn throw_away(&self, disk: &mut Disk) -> Result<(), DirectError> {
        *disk = Disk::default();
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.stop_care().await;
        let folder = self.folder.clone();
        blocking(move || remove(&folder)).await
    }

    /// Ends a care that goes on, so that nothing of it is swept out under its hands.
    pub(super) async fn stop_care(&self) {
        if let Ok(_idle) = self.caring.try_lock() {
            return;
        }
        self.disturbed.notify_one();
        drop(self.caring.lock().await);
    }

    /// Notes a use, for the choice of those that go.
    pub(crate) fn touch(&self) {
        let now = SystemTime::now();
        let seconds = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        if seconds
            < self
                .stamped
                .load(Ordering::Relaxed)
                .saturating_add(STAMP_AGE)
        {
            return;
        }
        self.stamped.store(seconds, Ordering::Relaxed);
        if let Ok(file) = fs::File::options().append(true).open(&self.stamp) {
            let _ = file.set_modified(now);
        }
    }

    /// When it was last used, as far as the stamp tells.
    pub(super) fn last_use(&self) -> SystemTime {
        fs::metadata(&self.stamp)
            .and_then(|stamp| stamp.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Removes it for good, but for what is left at `gone`; nobody may use it any more.
    pub(super) fn remove_as(&self, gone: &Path) -> io::Result<()> {
        let absent = |done: io::Result<()>| match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        };
        absent(fs::rename(&self.folder, gone))?;
        absent(fs::remove_file(&self.tags))?;
        absent(fs::remove_file(&self.stamp))
    }

    /// Counts its bytes on disk.
    pub(super) fn measure(&self) {
        let tags = fs::metadata(&self.tags).map_or(0, |data| data.len());
        self.size
            .store(bytes(&self.folder) + tags, Ordering::Relaxed);
    }

    /// The same after something was fetched; what it comes to.
    pub(super) async fn measure_again(&self) -> u64 {
        let (folder, tags) = (self.folder.clone(), self.tags.clone());
        let counted = blocking(move || {
            let tags = fs::metadata(tags).map_or(0, |data| data.len());
            Ok(bytes(&folder) + tags)
        });
        if let Ok(size) = counted.await {
            self.size.store(size, Ordering::Relaxed);
            self.counted.store(true, Ordering::Relaxed);
        }
        self.size()
    }

    /// Its bytes on disk when they were last counted.
    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Whether it may have grown since this was last asked.
    pub(crate) fn grew(&self) -> bool {
        self.counted.swap(false, Ordering::Relaxed)
    }

    /// Notes what its references take in memory.
    pub(super) fn weigh_refs(&self, bytes: u64) {
        self.refs_bytes.store(bytes, Ordering::Relaxed);
        self.counted.store(true, Ordering::Relaxed);
    }

    /// Bytes of the references in memory.
    pub(super) fn refs_bytes(&self) -> u64 {
        self.refs_bytes.load(Ordering::Relaxed)
    }

    /// Forgets the references, unless they are being asked for; the bytes that are free again.
    pub(super) fn forget_refs(&self) -> u64 {
        let Ok(mut asked) = self.asked.try_lock() else {
            return 0;
        };
        asked.said = None;
        self.refs_bytes.swap(0, Ordering::Relaxed)
    }

    /// Looks whether tags moved since they were last seen, even before a restart. That this cannot be told is no reason
    /// not to answer.
    pub(crate) async fn watch_tags(&self, url: &str, tags: Vec<(String, String)>) {
        let (watch, file) = (Arc::clone(&self.watch), self.tags.clone());
        let (stamp, repository) = (self.stamp.clone(), url.to_owned());
        let seen = blocking(move || {
            // Of some, nothing but the tags is ever asked: these have a last use too.
            if !stamp.is_file() {
                fs::write(&stamp, format!("{repository}\n"))?;
            }
            let tags = tags.iter().map(|(tag, hash)| (&**tag, &**hash));
            watch.tags(&file, &repository, tags)
        });
        if let Err(error) = seen.await {
            tracing::warn!(repository = url, %error, "the tags of a repository cannot be remembered");
        }
    }
}

#[cfg(test)]
impl Mirror {
    /// As if it were cared for.
    pub(crate) async fn hold_care(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.caring.lock().await
    }

    /// Waits until care is told to stop.
    pub(crate) async fn told_to_stop(&self) {
        self.disturbed.notified().await;
    }
}

/// Runs what waits for the disk where it blocks nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, DirectError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| DirectError::disk("the folder of mirrors", &error))
}

/// Removes a repository in an order that never leaves a half that looks whole.
fn remove(folder: &Path) -> io::Result<()> {
    // Somebody put a file there.
    if fs::symlink_metadata(folder).is_ok_and(|data| !data.is_dir()) {
        return fs::remove_file(folder);
    }
    let absent = |done: io::Result<()>| match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    };
    match fs::remove_file(folder.join("HEAD")) {
        // It makes nothing look whole then.
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {}
        done => absent(done)?,
    }
    absent(fs::remove_dir_all(folder))
}

/// Removes locks and temporary files.
fn sweep(folder: &Path, depth: usize) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            // Loose objects are in folders of two digits: nothing to sweep, but many.
            if depth < 64 && !(name.len() == 2 && folder.ends_with("objects")) {
                sweep(&path, depth + 1)?;
            }
        } else if name.ends_with(".lock") || name.starts_with("tmp_") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The bytes of all files in a folder.
pub(crate) fn bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => bytes(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_the_place_of_a_mirror_goes() {
        let base = tempfile::tempdir().unwrap();
        let place = base.path().join("x.git");
        remove(&place).unwrap();
        fs::write(&place, "a file").unwrap();
        remove(&place).unwrap();
        std::os::unix::fs::symlink("nowhere", &place).unwrap();
        remove(&place).unwrap();
        fs::create_dir_all(place.join("objects")).unwrap();
        fs::write(place.join("HEAD"), "").unwrap();
        remove(&place).unwrap();
        fs::create_dir_all(place.join("HEAD/x")).unwrap();
        remove(&place).unwrap();
        assert!(fs::symlink_metadata(&place).is_err());
    }
}
