//! All mirrors: which there are, which go, and their care.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use tokio::time::Duration;

use super::command::local;
use super::mirror::{Mirror, blocking};
use crate::incident::Watch;
use crate::process::{Places, output};
use crate::{DirectError, DirectSettings};

/// How many packs a mirror may have before they are made one.
const MANY_PACKS: usize = 20;
/// Most that a care may say, in bytes.
const MAX_SAID: usize = 1 << 20;

/// How the names of mirrors end.
const SYSTEMS: [&str; 2] = [".git", ".hg"];

/// The mirrors in a folder.
#[derive(Debug)]
pub(crate) struct Mirrors {
    folder: PathBuf,
    max_count: usize,
    max_bytes: u64,
    timeout: Duration,
    watch: Arc<Watch>,
    /// By name; those of the folder once it was looked at.
    known: Mutex<Option<HashMap<String, Arc<Mirror>>>>,
}

impl Mirrors {
    pub(crate) fn new(settings: &DirectSettings, watch: Arc<Watch>) -> Self {
        Self {
            folder: settings.folder.clone(),
            max_count: settings.max_mirrors.max(1),
            max_bytes: settings.max_mirror_bytes,
            timeout: settings.process_timeout,
            watch,
            known: Mutex::default(),
        }
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
        self.look().await?;
        let (mirror, going) = {
            let mut known = self
                .known
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let known = known.get_or_insert_default();
            let going = if known.len() >= self.max_count && !known.contains_key(&name) {
                take_idle(known, |mirrors| mirrors.len() >= self.max_count)
            } else {
                Vec::new()
            };
            let mirror = known.entry(name.clone()).or_insert_with(|| {
                Arc::new(Mirror::new(&self.folder, &name, Arc::clone(&self.watch)))
            });
            (Arc::clone(mirror), going)
        };
        if !going.is_empty() {
            blocking(move || going.iter().try_for_each(|mirror| mirror.remove())).await?;
        }
        mirror.touch();
        Ok(mirror)
    }

    /// Looks for what is in the folder already, once.
    async fn look(&self) -> Result<(), DirectError> {
        if self
            .known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .is_some()
        {
            return Ok(());
        }
        let (folder, watch) = (self.folder.clone(), Arc::clone(&self.watch));
        let found = blocking(move || {
            fs::create_dir_all(&folder)?;
            let mut found = HashMap::new();
            for entry in fs::read_dir(&folder)? {
                let name = entry?.file_name();
                let name = name.to_string_lossy();
                // Of some, nothing but the tags was ever asked.
                let name = name.strip_suffix(".tags").unwrap_or(&name);
                if SYSTEMS.iter().any(|vcs| name.ends_with(vcs)) {
                    let mirror = Mirror::new(&folder, name, Arc::clone(&watch));
                    found.insert(name.to_owned(), Arc::new(mirror));
                }
            }
            Ok(found)
        })
        .await?;
        let mut known = self
            .known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        known.get_or_insert(found);
        Ok(())
    }

    /// Evicts what is too much, and makes one pack of many.
    pub(crate) async fn tidy(&self, places: &Places) -> Result<(), DirectError> {
        self.look().await?;
        let all: Vec<Arc<Mirror>> = {
            let known = self
                .known
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            known
                .iter()
                .flat_map(|known| known.values().cloned())
                .collect()
        };
        let (mut sizes, all) = blocking(move || {
            let sizes = all
                .iter()
                .map(|mirror| (mirror.folder.clone(), mirror.bytes()));
            Ok((sizes.collect::<HashMap<_, _>>(), all))
        })
        .await?;
        for mirror in all {
            let _place = places.enter(None).await?;
            if let Err(error) = self.care(&mirror).await {
                tracing::warn!(mirror = %mirror.folder.display(), %error, "care of a mirror failed");
            }
            let (folder, again) = (mirror.folder.clone(), Arc::clone(&mirror));
            let size = blocking(move || Ok(again.bytes())).await?;
            sizes.insert(folder, size);
        }
        let going = {
            let mut known = self
                .known
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let size = |mirror: &Arc<Mirror>| sizes.get(&mirror.folder).copied().unwrap_or(0);
            take_idle(known.get_or_insert_default(), |mirrors| {
                mirrors.len() > self.max_count
                    || mirrors.values().map(size).sum::<u64>() > self.max_bytes
            })
        };
        blocking(move || going.iter().try_for_each(|mirror| mirror.remove())).await
    }

    /// Makes one pack of many, without what no reference leads to any more.
    async fn care(&self, mirror: &Mirror) -> Result<(), DirectError> {
        let packs = mirror.folder.join("objects/pack");
        let count = blocking(move || Ok(fs::read_dir(packs).map_or(0, Iterator::count))).await?;
        // A pack and its index.
        if count / 2 < MANY_PACKS {
            return Ok(());
        }
        let mut disk = mirror.disk.lock().await;
        mirror.clean(&mut disk).await?;
        disk.clean = false;
        for args in [
            &["pack-refs", "--all", "--prune"][..],
            &[
                "repack",
                "-a",
                "-d",
                "-q",
                "--threads=1",
                "--window-memory=64m",
            ],
            &["commit-graph", "write", "--reachable", "--no-progress"],
        ] {
            // With grafts, a graph of commits would be wrong, and git writes none.
            let mut command = local(&mirror.folder);
            command.args(args);
            let what = format!("git {}", args[0]);
            let (exit, _) = output(command, &what, MAX_SAID, self.timeout).await?;
            if !exit.success() {
                let text = format!("{what}: {}", exit.stderr);
                return Err(DirectError::new(crate::ErrorKind::Disk, text));
            }
        }
        disk.clean = true;
        Ok(())
    }
}

/// Takes out mirrors that nobody uses, least recently used first, for as long as there are too many.
fn take_idle(
    known: &mut HashMap<String, Arc<Mirror>>,
    too_many: impl Fn(&HashMap<String, Arc<Mirror>>) -> bool,
) -> Vec<Arc<Mirror>> {
    let mut idle: Vec<_> = known
        .iter()
        // Ours is one; whoever got another may be using it.
        .filter(|(_, mirror)| Arc::strong_count(mirror) == 1)
        .map(|(name, mirror)| (mirror.last_use(), name.clone()))
        .collect();
    idle.sort();
    let mut idle = idle.into_iter();
    let mut taken = Vec::new();
    while too_many(known) {
        let Some((_, name)) = idle.next() else {
            break;
        };
        taken.extend(known.remove(&name));
    }
    taken
}
