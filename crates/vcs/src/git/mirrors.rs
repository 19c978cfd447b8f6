//! All mirrors: which there are, and which go.
//!
//! What is known of them is looked at and changed on threads that may wait for the disk, and nowhere else.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use tokio::time::Duration;

use super::mirror::{Mirror, blocking, bytes};
use crate::incident::Watch;
use crate::places::Places;
use crate::program::is_scratch;
use crate::{DirectError, DirectSettings, orphans};

/// Most bytes of references in memory, of all mirrors together.
const MAX_REFS_BYTES: u64 = 256 << 20;

/// How the names of mirrors end.
const SYSTEMS: [&str; 4] = [".git", ".hg", ".bzr", ".fossil"];
/// How the names of those end that are being removed.
const GONE: &str = ".gone";

/// The mirrors in a folder. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Mirrors(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    limits: Mutex<Limits>,
    watch: Arc<Watch>,
    known: Mutex<Known>,
    /// Bytes of temporary folders when they were last looked at.
    scratch: AtomicU64,
    /// A number for the next one that is removed.
    removed: AtomicU64,
}

/// The mirrors by name; those of the folder once it was looked at.
#[derive(Debug, Default)]
struct Known {
    looked: bool,
    mirrors: HashMap<String, Arc<Mirror>>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    count: usize,
    bytes: u64,
    timeout: Duration,
}

impl Limits {
    fn new(settings: &DirectSettings) -> Self {
        Self {
            count: settings.max_mirrors.max(1),
            bytes: settings.max_mirror_bytes,
            timeout: settings.process_timeout,
        }
    }
}

impl Mirrors {
    pub(crate) fn new(settings: &DirectSettings, watch: Arc<Watch>) -> Self {
        Self(Arc::new(Inner {
            folder: settings.folder.clone(),
            limits: Mutex::new(Limits::new(settings)),
            watch,
            known: Mutex::default(),
            scratch: AtomicU64::new(0),
            removed: AtomicU64::new(0),
        }))
    }

    /// Takes other limits.
    pub(crate) fn limit(&self, settings: &DirectSettings) {
        let mut limits = self.0.limits.lock().unwrap_or_else(PoisonError::into_inner);
        *limits = Limits::new(settings);
    }

    /// The mirror of a repository. One that is asked with credentials is another than the one without: else what only
    /// the first may read could be had through the second.
    pub(crate) async fn open(
        &self,
        vcs: &str,
        url: &str,
        credentials: bool,
    ) -> Result<Arc<Mirror>, DirectError> {
        let with = if credentials {
            ""
        } else {
            " without credentials"
        };
        let name = hex::encode(&Sha256::digest(format!("{url}{with}"))[..16]);
        let name = format!("{name}.{vcs}");
        self.at_disk(move |inner| inner.open(&name)).await
    }

    /// Evicts what is too much by now.
    pub(crate) async fn enforce(&self) -> Result<(), DirectError> {
        self.at_disk(Inner::enforce).await
    }

    /// Evicts what is too much, and makes one pack of many. One mirror in trouble is no reason to leave the others.
    pub(crate) async fn tidy(&self, places: &Places) -> Result<(), DirectError> {
        let names = self
            .at_disk(|inner| {
                let mirrors: Vec<_> = inner.known()?.mirrors.values().cloned().collect();
                for mirror in &mirrors {
                    mirror.measure();
                }
                inner.measure_scratch()?;
                drop(mirrors);
                inner.enforce()?;
                let known = inner.known()?;
                Ok(known.mirrors.keys().cloned().collect::<Vec<_>>())
            })
            .await?;
        for name in names {
            // Held while it is cared for, and no longer: nobody evicts what somebody holds.
            let found = self
                .at_disk(move |inner| {
                    Ok((
                        inner.known()?.mirrors.get(&name).cloned(),
                        inner.limits().timeout,
                    ))
                })
                .await?;
            let (Some(mirror), timeout) = found else {
                continue;
            };
            if let Err(error) = super::care::care(&mirror, places, timeout).await {
                tracing::warn!(mirror = %mirror.folder.display(), %error, "care of a mirror failed");
            }
        }
        self.enforce().await
    }

    async fn at_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> io::Result<T> + Send + 'static,
    ) -> Result<T, DirectError> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner)).await
    }
}

impl Inner {
    fn limits(&self) -> Limits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known; the folder is looked at the first time.
    fn known(&self) -> io::Result<MutexGuard<'_, Known>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.looked {
            known.mirrors = self.look()?;
            known.looked = true;
        }
        Ok(known)
    }

    /// Looks for what is in the folder, and sweeps out what an earlier process could not.
    fn look(&self) -> io::Result<HashMap<String, Arc<Mirror>>> {
        fs::create_dir_all(&self.folder)?;
        orphans::end(&self.folder);
        let mut found = HashMap::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(GONE) || is_scratch(&name, false) {
                remove_gone(&entry.path());
                continue;
            }
            // Of some, nothing but the tags was ever asked.
            let name = name.strip_suffix(".tags").unwrap_or(&name);
            if SYSTEMS.iter().any(|vcs| name.ends_with(vcs)) {
                let mirror = Mirror::new(&self.folder, name, Arc::clone(&self.watch));
                found.insert(name.to_owned(), Arc::new(mirror));
            }
        }
        Ok(found)
    }

    fn open(&self, name: &str) -> io::Result<Arc<Mirror>> {
        let most = self.limits().count;
        let mut known = self.known()?;
        let full = known.mirrors.len() >= most && !known.mirrors.contains_key(name);
        let gone = if full {
            self.take_idle(&mut known.mirrors, |mirrors| mirrors.len() >= most)
        } else {
            Vec::new()
        };
        let new = || Arc::new(Mirror::new(&self.folder, name, Arc::clone(&self.watch)));
        let mirror = known.mirrors.entry(name.to_owned()).or_insert_with(new);
        let mirror = Arc::clone(mirror);
        drop(known);
        mirror.touch();
        for folder in gone {
            remove_gone(&folder);
        }
        Ok(mirror)
    }

    /// Evicts by what is known of the sizes, and forgets references where they fill the memory.
    fn enforce(&self) -> io::Result<()> {
        let limits = self.limits();
        let scratch = self.scratch.load(Ordering::Relaxed);
        let mut known = self.known()?;
        let gone = self.take_idle(&mut known.mirrors, |mirrors| {
            let bytes: u64 = mirrors.values().map(|mirror| mirror.size()).sum();
            mirrors.len() > limits.count || bytes + scratch > limits.bytes
        });
        let mut heard: Vec<_> = known
            .mirrors
            .values()
            .filter(|mirror| mirror.refs_bytes() > 0)
            .cloned()
            .collect();
        drop(known);
        for folder in gone {
            remove_gone(&folder);
        }
        let mut bytes: u64 = heard.iter().map(|mirror| mirror.refs_bytes()).sum();
        if bytes > MAX_REFS_BYTES {
            heard.sort_by_key(|mirror| mirror.last_use());
        }
        for mirror in heard {
            if bytes <= MAX_REFS_BYTES {
                break;
            }
            bytes -= mirror.forget_refs();
        }
        Ok(())
    }

    fn measure_scratch(&self) -> io::Result<()> {
        let mut sum = 0;
        for entry in fs::read_dir(&self.folder)?.flatten() {
            if is_scratch(&entry.file_name().to_string_lossy(), true) {
                sum += bytes(&entry.path());
            }
        }
        self.scratch.store(sum, Ordering::Relaxed);
        Ok(())
    }

    /// Takes out mirrors that nobody uses, least recently used first, for as long as there are too many. On disk they
    /// have another name when this returns: who comes for one of them from here on makes it anew, in nobody's way.
    fn take_idle(
        &self,
        known: &mut HashMap<String, Arc<Mirror>>,
        too_many: impl Fn(&HashMap<String, Arc<Mirror>>) -> bool,
    ) -> Vec<PathBuf> {
        let mut taken = Vec::new();
        if !too_many(known) {
            return taken;
        }
        let mut idle: Vec<_> = known
            .iter()
            // Ours is one; whoever got another may be using it.
            .filter(|(_, mirror)| Arc::strong_count(mirror) == 1)
            .map(|(name, mirror)| (mirror.last_use(), name.clone()))
            .collect();
        idle.sort();
        for (_, name) in idle {
            if !too_many(known) {
                break;
            }
            let number = self.removed.fetch_add(1, Ordering::Relaxed);
            let gone = self.folder.join(format!("{name}-{number}{GONE}"));
            let Some(mirror) = known.get(&name) else {
                continue;
            };
            match mirror.remove_as(&gone) {
                Ok(()) => {
                    known.remove(&name);
                    taken.push(gone);
                }
                Err(error) => {
                    tracing::warn!(mirror = %mirror.folder.display(), %error, "a mirror cannot be evicted");
                }
            }
        }
        taken
    }
}

/// Removes what has a name that nobody uses. What is left of it goes at the next start.
fn remove_gone(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(folder = %path.display(), %error, "an evicted mirror cannot be removed");
        }
        _ => {}
    }
}
