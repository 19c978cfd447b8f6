//! git, by its program, over kept mirrors.

mod archive;
mod command;
mod failure;
mod find;
mod history;
mod mirror;
mod mirrors;
mod objects;
pub(crate) mod refs;
mod remote;
mod tree;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

pub(crate) use self::archive::Archive;
pub(crate) use self::mirror::Mirror;
pub(crate) use self::mirrors::Mirrors;
pub(crate) use self::objects::Objects;
use self::refs::Refs;
use self::remote::{Asked, Bounds, Wanted, fetch, ls_remote};
pub(crate) use self::tree::Blobs;
use crate::process::Running;
use crate::reach::Way;
use crate::repository::{Tag, Tags, Trouble};
use crate::{DirectError, DirectSettings, ErrorKind};

/// Most references that one fetch asks for, beyond those of a single question.
const BATCH: usize = 64;

/// A repository, for the time of one question.
#[derive(Debug)]
pub(crate) struct GitRepository {
    mirror: Arc<Mirror>,
    way: Way,
    generation: u64,
    /// How old what `ls-remote` said may be; nothing means that it is asked after the question was.
    believe: Duration,
    /// When the question was asked.
    since: Instant,
    bounds: Bounds,
    refs: Option<Arc<Refs>>,
    /// How often a reference was gone when it was fetched.
    moves: u32,
    objects: Option<Objects>,
}

impl GitRepository {
    /// For a question; `believe` as in [`DirectSettings::refs_life`], or nothing.
    pub(crate) fn new(
        mirror: Arc<Mirror>,
        way: Way,
        settings: &DirectSettings,
        believe: Duration,
    ) -> Self {
        Self {
            generation: mirror.generation(),
            mirror,
            way,
            believe,
            since: Instant::now(),
            bounds: Bounds {
                time: settings.process_timeout,
                bytes: settings.max_mirror_bytes,
            },
            refs: None,
            moves: 0,
            objects: None,
        }
    }

    /// Throws the mirror away, since it is damaged.
    pub(crate) async fn discard(mirror: &Mirror, generation: u64) -> Result<(), DirectError> {
        mirror.discard(generation).await
    }

    /// The references: those known, if they are young enough or came while this question waited.
    async fn refs(&mut self) -> Result<Arc<Refs>, Trouble> {
        if let Some(refs) = &self.refs {
            return Ok(Arc::clone(refs));
        }
        let mut asked = self.mirror.asked.lock().await;
        let fresh = |at: Instant| at >= self.since || at.elapsed() < self.believe;
        let known = asked.as_ref().filter(|known| match &known.refs {
            Ok(_) => fresh(known.at),
            // Of a failure only those hear who waited for it.
            Err(_) => known.at >= self.since,
        });
        let known = if let Some(known) = known {
            known.clone()
        } else {
            let refs = ls_remote(&self.mirror, &self.way, self.bounds.time).await;
            let before = asked.take().and_then(|before| before.refs.ok());
            let refs = refs.map(|refs| match before {
                // One copy in memory is enough.
                Some(before) if *before == refs => before,
                Some(before) => {
                    moved(&before, &refs, &self.way.url);
                    Arc::new(refs)
                }
                None => Arc::new(refs),
            });
            let known = Asked {
                refs,
                at: Instant::now(),
            };
            *asked = Some(known.clone());
            known
        };
        drop(asked);
        let refs = known.refs?;
        self.refs = Some(Arc::clone(&refs));
        Ok(refs)
    }

    /// Whether what was believed of the references can be asked for anew; from here on it is not believed.
    async fn refs_again(&mut self) -> bool {
        let asked = self.mirror.asked.lock().await;
        let young = asked.as_ref().is_some_and(|asked| asked.at >= self.since);
        drop(asked);
        if !young {
            self.refs_now();
        }
        !young
    }

    /// What was asked before now is not believed.
    fn refs_now(&mut self) {
        self.refs = None;
        self.believe = Duration::ZERO;
        self.since = Instant::now();
    }

    /// The tags with a prefix.
    pub(crate) async fn tags(&mut self, prefix: &str) -> Result<Tags, Trouble> {
        let refs = self.refs().await?;
        Ok(Tags {
            list: refs
                .tags(prefix)
                .map(|(name, hash)| Tag {
                    name: name.to_owned(),
                    hash: hash.to_owned(),
                })
                .collect(),
            tag_sum: refs.tag_sum(prefix),
            repo_sum: String::new(),
        })
    }

    /// A file in a commit; `None` if there is none.
    pub(crate) async fn read(
        &mut self,
        hash: &str,
        file: &str,
        max: u64,
    ) -> Result<Option<Bytes>, Trouble> {
        let objects = self.objects()?;
        objects
            .contents(&format!("{hash}:{file}"), "blob", max)
            .await
    }

    /// The reader of the mirror's objects; there must be a mirror.
    fn objects(&mut self) -> Result<&mut Objects, Trouble> {
        let objects = match self.objects.take() {
            Some(objects) => objects,
            None => self.cat_file()?,
        };
        Ok(self.objects.insert(objects))
    }

    fn cat_file(&self) -> Result<Objects, Trouble> {
        let mut command = command::local(&self.mirror.folder);
        command.args(["cat-file", "--batch-command"]);
        Ok(Objects::new(Running::start(command, "git cat-file")?)?)
    }

    /// Whether the mirror has a commit.
    async fn has(&mut self, hash: &str) -> Result<bool, Trouble> {
        if !self.mirror.exists() {
            return Ok(false);
        }
        let info = self.objects()?.info(hash).await?;
        Ok(info.is_some_and(|info| info.kind == "commit"))
    }

    /// Sees to it that the commits that references stand for are there. False if they are not to be had by these
    /// references any more.
    async fn have(&mut self, tips: &[(String, String)], refs: &Refs) -> Result<bool, Trouble> {
        let mut missing = Vec::new();
        for tip in tips {
            if !self.has(&tip.1).await? {
                missing.push(tip.clone());
            }
        }
        if missing.is_empty() {
            return Ok(true);
        }
        self.wanted(|wanted| {
            for (name, hash) in &missing {
                wanted.insert(hash.clone(), name.clone());
            }
        });
        let mirror = Arc::clone(&self.mirror);
        let mut disk = mirror.disk.lock().await;
        // Whoever was before may have brought it along.
        let mut batch = Vec::new();
        for tip in missing {
            if !self.has(&tip.1).await? {
                batch.push(tip);
            }
        }
        if batch.is_empty() {
            return Ok(true);
        }
        let ours = batch.clone();
        self.wanted(|wanted| {
            for (_, hash) in &ours {
                wanted.remove(hash);
            }
            while batch.len() < BATCH + ours.len() {
                let Some((hash, name)) = wanted.pop_first() else {
                    break;
                };
                batch.push((name, hash));
            }
        });
        self.prepare(&mut disk, refs)?;
        let mut done = self.fetch(&mut disk, Wanted::Tips(&batch)).await;
        if done.is_err() && batch.len() > ours.len() {
            // One of the others' may be what fails.
            done = self.fetch(&mut disk, Wanted::Tips(&ours)).await;
        }
        if let Err(error) = done {
            if error.kind != ErrorKind::Unavailable {
                return Err(error.into());
            }
            // A reference may be gone since it was listed, or the network be down.
            self.refs_now();
            if *self.refs().await? != *refs {
                return Ok(false);
            }
            if let Err(error) = self.fetch(&mut disk, Wanted::Tips(&ours)).await {
                return Err(self.suspect(error));
            }
        }
        drop(disk);
        for (_, hash) in &ours {
            if !self.has(hash).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn wanted(&self, change: impl FnOnce(&mut std::collections::BTreeMap<String, String>)) {
        let mut wanted = self
            .mirror
            .wanted
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut wanted);
        // Those who gave up leave theirs behind.
        while wanted.len() > 16 * BATCH {
            wanted.pop_first();
        }
    }

    /// Makes the mirror if there is none, or cleans it.
    fn prepare(&self, disk: &mut mirror::Disk, refs: &Refs) -> Result<(), DirectError> {
        if self.mirror.exists() {
            return self.mirror.clean(disk);
        }
        *disk = mirror::Disk {
            clean: true,
            complete: None,
        };
        self.mirror.create(&self.way.url, refs)
    }

    async fn fetch(&self, disk: &mut mirror::Disk, wanted: Wanted<'_>) -> Result<(), DirectError> {
        // Until it ended by itself, it may have been killed half-way.
        disk.clean = false;
        let done = fetch(&self.mirror, &self.way, wanted, self.bounds).await;
        disk.clean = !matches!(&done, Err(error) if error.kind == ErrorKind::Timeout || error.kind == ErrorKind::Invalid);
        done
    }

    /// What a fetch means that fails again and again while the references are to be had: perhaps the mirror is damaged.
    fn suspect(&self, error: DirectError) -> Trouble {
        let used = ["refs/kept", "packed-refs"]
            .iter()
            .any(|name| self.mirror.folder.join(name).exists());
        if used && error.kind == ErrorKind::Unavailable && !self.mirror.is_young() {
            return Trouble::Mirror(error.text);
        }
        error.into()
    }
}

/// Says which version tags moved: what was published under a version is another thing now.
fn moved(before: &Refs, after: &Refs, url: &str) {
    const MOST: usize = 10;
    let moved = before.tags("").filter(|(tag, hash)| {
        let version = refs::version_of(tag.rsplit('/').next().unwrap_or(tag)).is_some();
        version && after.tag(tag).is_some_and(|now| now != *hash)
    });
    for (tag, was) in moved.take(MOST) {
        let now = after.tag(tag).unwrap_or_default();
        tracing::warn!(
            repository = url,
            tag,
            was,
            now,
            "the tag of a version was moved"
        );
    }
}
