//! git, by its program, over kept mirrors.

mod advertised;
mod archive;
mod care;
mod command;
mod complete;
mod damage;
mod failure;
mod find;
mod history;
mod idle;
pub(crate) mod mirror;
mod mirrors;
mod named;
mod names;
mod objects;
mod packet;
mod posted;
pub(crate) mod refs;
pub(crate) mod remote;
mod tree;
mod trees;
pub(crate) mod version;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use self::advertised::Advertised;
pub(crate) use self::archive::Archive;
use self::failure::says_missing;
pub(crate) use self::failure::{NOT_TRUSTED, Page, is_redirect};
pub(crate) use self::mirror::Mirror;
pub(crate) use self::mirrors::Mirrors;
pub(crate) use self::objects::Objects;
use self::posted::{Here, Posted, posted};
use self::refs::Refs;
use self::remote::{Bounds, REFS_WITHIN, Wanted, fetch, ls_remote};
pub(crate) use self::tree::Blobs;
use crate::process::{Running, output};
use crate::reach::Way;
use crate::repository::{Sums, Tag, Trouble};
use crate::{DirectError, DirectSettings, ErrorKind};

/// Most references that one fetch asks for, beyond those of a single question.
const BATCH: usize = 64;

/// What git says where a server gives no commit without its history: one of files alone, or an old one.
const NO_SHALLOW: &str = "not support shallow";

/// Whether a repository answers: no error.
pub(crate) async fn answers(folder: &Path, way: &Way, limit: Duration) -> Result<(), DirectError> {
    let what = format!("git ls-remote {}", way.url);
    let mut command = command::remote(&folder.join("none"), folder, way);
    command.args(["ls-remote", "-q", "--", &way.url, "HEAD"]);
    let (exit, _) = output(command, &what, 64 << 10, limit).await?;
    if exit.success() {
        Ok(())
    } else {
        Err(failure::failed(&what, way, &exit))
    }
}

impl Drop for GitRepository {
    fn drop(&mut self) {
        if let Some(objects) = self.objects.take() {
            self.mirror.idle.put(objects, self.generation);
        }
    }
}

/// A repository, for the time of one question.
#[derive(Debug)]
pub(crate) struct GitRepository {
    mirror: Arc<Mirror>,
    way: Way,
    page: Page,
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
    /// Whether this question made the mirror.
    fresh: bool,
}

impl GitRepository {
    /// For a question; `believe` as in [`DirectSettings::refs_life`], or nothing.
    pub(crate) fn new(
        mirror: Arc<Mirror>,
        way: Way,
        page: Page,
        settings: &DirectSettings,
        believe: Duration,
    ) -> Self {
        Self {
            generation: mirror.generation(),
            mirror,
            way,
            page,
            believe,
            since: Instant::now(),
            bounds: Bounds {
                time: settings.process_timeout,
                bytes: settings.repository_bytes(),
            },
            refs: None,
            moves: 0,
            objects: None,
            fresh: false,
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
        let mirror = Arc::clone(&self.mirror);
        let mut asked = mirror.asked.lock().await;
        let fresh = |at: Instant| at >= self.since || at.elapsed() < self.believe;
        if let Some((refs, _)) = asked.said.as_ref().filter(|(_, at)| fresh(*at)) {
            return Ok(Arc::clone(self.refs.insert(Arc::clone(refs))));
        }
        // Of a failure only those hear who waited for it.
        if let Some((error, _)) = asked.failed.as_ref().filter(|(_, at)| *at >= self.since) {
            return Err(error.clone().into());
        }
        let refs = match self.ask_refs().await {
            Ok(refs) => refs,
            Err(error) => {
                let error = self.page.judge(error, &self.way).await;
                asked.failed = Some((error.clone(), Instant::now()));
                return Err(error.into());
            }
        };
        let before = asked.said.as_ref().map(|(before, _)| Arc::clone(before));
        let refs = match before {
            // One copy in memory is enough.
            Some(before) if *before == refs => before,
            _ => {
                let tags = refs.tags("");
                let tags = tags.map(|(tag, hash)| (tag.to_owned(), hash.to_owned()));
                self.mirror.watch_tags(&self.way.url, tags.collect()).await;
                self.mirror.weigh_refs(refs.bytes());
                Arc::new(refs)
            }
        };
        asked.said = Some((Arc::clone(&refs), Instant::now()));
        drop(asked);
        self.refs = Some(Arc::clone(&refs));
        Ok(refs)
    }

    async fn ask_refs(&mut self) -> Result<Refs, DirectError> {
        if self.mirror.exists().await {
            // It will be needed, and starts meanwhile. Why it cannot is told when it is.
            let _ = self.objects();
        }
        let limit = self.bounds.time.min(REFS_WITHIN);
        let told = advertised::advertised(&self.page, &self.way, limit).await?;
        if let Advertised::Refs(refs) = told {
            return Ok(refs);
        }
        let refs = ls_remote(&self.mirror, &self.way, limit).await?;
        if matches!(told, Advertised::Page) && refs.iter().next().is_none() {
            return Err(failure::page_only(&self.way));
        }
        Ok(refs)
    }

    /// Whether what was believed of the references can be asked for anew; from here on it is not believed.
    async fn refs_again(&mut self) -> bool {
        let asked = self.mirror.asked.lock().await;
        let young = asked.said.as_ref().is_some_and(|(_, at)| *at >= self.since);
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

    /// The tags with a prefix, sorted by name.
    pub(crate) async fn tags(&mut self, prefix: &str) -> Result<Vec<Tag>, Trouble> {
        let refs = self.refs().await?;
        let tags = refs.tags(prefix).map(|(name, hash)| Tag {
            name: name.to_owned(),
            hash: hash.to_owned(),
        });
        Ok(tags.collect())
    }

    /// What an origin says of the tags with a prefix.
    pub(crate) async fn sums(&mut self, prefix: &str) -> Result<Sums, Trouble> {
        Ok(Sums {
            tag_prefix: prefix.to_owned(),
            tag_sum: self.refs().await?.tag_sum(prefix),
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
        self.objects()?.file(hash, file, max).await
    }

    /// The reader of the mirror's objects; there must be a mirror.
    fn objects(&mut self) -> Result<&mut Objects, Trouble> {
        let objects = self.take_objects()?;
        Ok(self.objects.insert(objects))
    }

    fn take_objects(&mut self) -> Result<Objects, Trouble> {
        let objects = self.objects.take();
        match objects.or_else(|| self.mirror.idle.take(self.generation)) {
            Some(objects) => Ok(objects),
            None => self.cat_file(),
        }
    }

    fn cat_file(&self) -> Result<Objects, Trouble> {
        let mut command = command::local(&self.mirror.folder);
        command.args(["cat-file", "--batch-command", "--buffer"]);
        let running = Running::start(command, "git cat-file")?;
        Ok(Objects::new(running, self.bounds.time)?)
    }

    /// What is not there is not known, unless another question threw the mirror away meanwhile.
    fn unless_thrown_away(&self, error: DirectError) -> Trouble {
        if self.mirror.generation() == self.generation {
            error.into()
        } else {
            Trouble::Mirror("it was thrown away by another question".to_owned())
        }
    }

    /// Whether the mirror has an object: a commit, or whatever else a tag stands for.
    async fn has(&mut self, hash: &str) -> Result<bool, Trouble> {
        if !self.mirror.exists().await {
            return Ok(false);
        }
        let info = self.objects()?.info(hash).await?;
        Ok(info.is_some())
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
        self.prepare(&mut disk, refs).await?;
        let by_name = self.mirror.by_name_only.load(Ordering::Relaxed);
        let wanted = |tips| {
            if by_name {
                Wanted::Tips(tips)
            } else {
                Wanted::Commits(tips)
            }
        };
        let mut done = match self.post(&mut disk, &batch).await {
            Ok(true) => Ok(()),
            Ok(false) => self.fetch(&mut disk, wanted(&batch)).await,
            Err(Trouble::Other(error)) => Err(error),
            Err(trouble) => return Err(trouble),
        };
        if done.is_err() && batch.len() > ours.len() {
            // One of the others' may be what fails.
            done = self.fetch(&mut disk, wanted(&ours)).await;
        }
        if let Err(error) = done {
            if error.kind != ErrorKind::Unavailable {
                return Err(self.outgrown(error));
            }
            // A reference may be gone since it was listed, the network be down, or the server give nothing by hash.
            let said_unadvertised = error.text.contains("unadvertised object");
            self.refs_now();
            if *self.refs().await? != *refs {
                return Ok(false);
            }
            if error.text.contains(NO_SHALLOW) {
                // Then all of it, as for go.
                drop(disk);
                self.history(refs).await?;
                return self.has_all(&ours).await;
            }
            if let Err(error) = self.fetch(&mut disk, Wanted::Tips(&ours)).await {
                if let Some(lost) = refs.lost_head(|hash| says_missing(&error, hash)) {
                    let text = format!("HEAD of {} is {lost}, which it has not", self.way.url);
                    return Err(DirectError::not_found(text).into());
                }
                return Err(self.suspect(error).await);
            }
            if said_unadvertised {
                self.mirror.by_name_only.store(true, Ordering::Relaxed);
            }
        }
        drop(disk);
        self.has_all(&ours).await
    }

    async fn has_all(&mut self, tips: &[(String, String)]) -> Result<bool, Trouble> {
        for (_, hash) in tips {
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
    async fn prepare(&mut self, disk: &mut mirror::Disk, refs: &Refs) -> Result<(), Trouble> {
        if self.mirror.exists().await {
            if let Some(what) = self.mirror.misshapen().await? {
                let text = format!("{what} is a file where a folder should be, or a folder");
                return Err(Trouble::Mirror(text));
            }
            if let Some(had) = self.mirror.other_hashes(refs).await? {
                let text = format!("it has hashes of {had}, and the repository others by now");
                return Err(Trouble::Mirror(text));
            }
            return Ok(self.mirror.clean(disk).await?);
        }
        *disk = mirror::Disk {
            clean: true,
            ..mirror::Disk::default()
        };
        self.fresh = true;
        // If somebody removed it, a reader has the old files open still.
        self.objects = None;
        drop(self.mirror.idle.take(self.generation));
        Ok(self.mirror.create(&self.way.url, refs).await?)
    }

    /// Fetches commits without history by one POST, where that is all that is wanted and the server speaks it. False if
    /// git is to fetch.
    async fn post(
        &mut self,
        disk: &mut mirror::Disk,
        tips: &[(String, String)],
    ) -> Result<bool, Trouble> {
        let mirror = Arc::clone(&self.mirror);
        let whole = !mirror.is_shallow().await && mirror.was_complete().await;
        if whole || mirror.fetched_by_git.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let here = Here::of(&mirror).await?;
        self.prove_kept(here.haves()).await?;
        disk.clean = false;
        let hashes: Vec<&str> = tips.iter().map(|(_, hash)| &**hash).collect();
        let posted = posted(&mirror, &self.way, &self.page, here, &hashes, self.bounds).await;
        if matches!(posted, Ok(Posted::NotSpoken)) {
            mirror.fetched_by_git.store(true, Ordering::Relaxed);
        }
        let mut came = matches!(posted, Ok(Posted::Done));
        for hash in &hashes {
            came = came && self.has(hash).await.unwrap_or(false);
        }
        let done = match posted {
            Ok(_) if !came => {
                mirror.clean(disk).await?;
                return Ok(false);
            }
            Ok(_) => posted::keep_all(&mirror, &hashes).await,
            Err(error) => Err(error),
        };
        self.fetched(disk, done).await?;
        Ok(true)
    }

    async fn fetch(&self, disk: &mut mirror::Disk, wanted: Wanted<'_>) -> Result<(), DirectError> {
        // Until it ended by itself, it may have been killed half-way.
        disk.clean = false;
        let before = self.mirror.packs().await?;
        let mut done = fetch(&self.mirror, &self.way, wanted, self.bounds).await;
        if let Err(error) = &mut done
            && error.kind == ErrorKind::NotFound
        {
            // It told its references. Whether it went since is for these to say.
            error.kind = ErrorKind::Unavailable;
        }
        if done.as_ref().is_err_and(failure::is_incomplete) {
            // git leaves what came.
            self.mirror.keep_packs(before).await?;
        }
        self.fetched(disk, done).await
    }

    /// Looks after the disk when something was fetched, or was not.
    async fn fetched(
        &self,
        disk: &mut mirror::Disk,
        mut done: Result<(), DirectError>,
    ) -> Result<(), DirectError> {
        if done.is_err() {
            // Killed by us or by others it leaves locks, and what it had of a pack may be large. It is swept out once
            // more before the next use.
            self.mirror.clean(disk).await?;
        }
        disk.clean = done.is_ok();
        let size = self.mirror.measure_again().await;
        if done.is_ok() && size > self.bounds.bytes {
            // It was quicker than those who look at it.
            self.mirror.throw_away(disk).await?;
            done = Err(remote::too_large(&self.way.url, self.bounds.bytes, size));
        }
        done
    }

    /// What a failed fetch means that is not the network's. A mirror that grew too large over time is made anew, without
    /// what nobody needs any more; if that is too large as well, the repository is.
    fn outgrown(&self, error: DirectError) -> Trouble {
        if error.kind == ErrorKind::TooLarge && !self.fresh {
            return Trouble::Mirror(error.text);
        }
        error.into()
    }
}
