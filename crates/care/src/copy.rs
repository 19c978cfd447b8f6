//! Copies everything that is kept from one place to another while servers go on: a disk to a bucket, a bucket to a
//! bucket, a bucket to a disk.
//!
//! It goes over the keys again and again until nothing new came meanwhile. What is at its place already is compared and
//! not sent again, so one that was interrupted goes on when it is run again. Nothing is overwritten, and nothing arrives
//! that is not what it should be.

mod object;

use std::{
    collections::{HashSet, hash_map::RandomState},
    hash::BuildHasher as _,
    io::{self, Read as _},
    sync::Arc,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use records::{Filter, Object, Records};
use serde::Serialize;
use store::{
    Folder, Key,
    folder::{Entry, Walk},
    tier::{Listed, Tier, TierError},
};
use tokio::task::{JoinSet, spawn_blocking};

use crate::{CareError, Pace, parse_key};
use object::{Outcome, Work};

/// Keys that are read at a time.
const PAGE: usize = 64;
/// Objects under way at a time.
const AT_ONCE: usize = 8;
/// Objects that are noted in the other place's index at a time.
const NOTED: usize = 256;
/// Passes at most: more than a few mean that what comes is faster than what is copied.
const MOST_PASSES: u32 = 20;
/// What is refused and told one by one; the others are counted.
const MOST_REFUSED: usize = 10_000;
/// Longest tree head, or evidence of a fork.
const MAX_HEAD_BYTES: u64 = 1 << 20;
/// Looked for at a server's start: the lists of folders are not what is kept. As in the gateway.
const LISTS_MARKER: &str = "lists.unwritten";

/// Where objects are.
#[derive(Clone, Debug)]
pub enum Place {
    /// A data folder, which may have an owner that serves.
    Disk(Folder),
    /// Object storage.
    Bucket(Arc<Tier>),
}

impl Place {
    /// A small object's bytes, if it is there and no longer than `max`.
    ///
    /// # Errors
    /// The disk, or the bucket.
    pub async fn small(&self, key: &Key, max: u64) -> Result<Option<Vec<u8>>, CareError> {
        let mut bytes = Vec::new();
        match self {
            Self::Disk(folder) => {
                let (folder, key) = (folder.clone(), key.clone());
                let read = spawn_blocking(move || {
                    let Some(file) = folder.open(&key)? else {
                        return Ok(None);
                    };
                    file.take(max + 1).read_to_end(&mut bytes)?;
                    io::Result::Ok(Some(bytes))
                });
                let read = read.await.map_err(io::Error::other)??;
                return Ok(read.filter(|bytes| bytes.len() as u64 <= max));
            }
            Self::Bucket(tier) => {
                let Tier::Object(object) = &**tier else {
                    return Ok(None);
                };
                let Some(mut opened) = object.open(key, None, None).await? else {
                    return Ok(None);
                };
                if opened.size > max {
                    return Ok(None);
                }
                while let Some(block) = opened.stream.try_next().await? {
                    bytes.extend_from_slice(&block);
                }
            }
        }
        Ok(Some(bytes))
    }

    /// Its name, for people.
    pub fn name(&self) -> String {
        match self {
            Self::Disk(folder) => format!("disk {}", folder.path().display()),
            Self::Bucket(tier) => tier.name().to_string(),
        }
    }
}

/// How it is done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// At most so many bytes are read in a second.
    pub rate: Option<u64>,
    /// Only says what would be copied.
    pub dry_run: bool,
}

/// An object that was not copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Its key.
    pub key: String,
    /// Why not.
    pub why: String,
}

/// What was done, or would be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether nothing was copied because nothing was to be.
    pub dry_run: bool,
    /// Objects that were copied, or would be.
    pub copied: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were there already.
    pub present: u64,
    /// How often all keys were gone over.
    pub passes: u32,
    /// Whether new ones still came in the last pass.
    pub still_arriving: bool,
    /// Objects that are not what they should be, or for which there is something else at the other place.
    pub refused: Vec<Refused>,
    /// Those beyond these.
    pub more: u64,
}

impl Report {
    /// Whether the other place has everything.
    pub fn good(&self) -> bool {
        self.refused.is_empty() && !self.still_arriving
    }
}

/// How far it came.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Objects in the index; what is not in it comes on top.
    pub total: u64,
    /// Objects that were seen.
    pub seen: u64,
    /// Bytes that were copied.
    pub bytes: u64,
    /// The pass, from 1.
    pub pass: u32,
    /// The object.
    pub key: &'a str,
}

/// Does it. `records` are those of the place that is copied from, `index` those of the other place if they are others; `work`
/// is the data folder of the former, in which also lies what is on its way.
pub async fn run(
    from: &Place,
    to: &Place,
    records: &Arc<Records>,
    index: Option<&Records>,
    work: &Folder,
    options: Options,
    watch: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<Report, CareError> {
    // A bucket that fails for a while is asked again when it is back.
    let mut keeping_up = JoinSet::new();
    for place in [from, to] {
        if let Place::Bucket(tier) = place {
            keeping_up.spawn(Arc::clone(tier).keep_up());
        }
    }
    let totals = records.totals(&Filter::default()).await?;
    let copying = Arc::new(Work {
        from: from.clone(),
        to: to.clone(),
        records: Arc::clone(records),
        scratch: work.clone(),
        pace: Arc::new(Pace::new(options.rate)),
        dry_run: options.dry_run,
    });
    let mut copy = Copy {
        work: copying,
        index,
        noted: Vec::new(),
        total: totals.count,
        seen: HashSet::new(),
        hasher: RandomState::new(),
        watch,
        report: Report {
            dry_run: options.dry_run,
            ..Report::default()
        },
    };
    loop {
        copy.report.passes += 1;
        let before = copy.report.copied;
        copy.pass().await?;
        let new = copy.report.copied > before;
        copy.report.still_arriving = new && copy.report.passes == MOST_PASSES;
        if !new || options.dry_run || copy.report.still_arriving {
            break;
        }
    }
    if let (Place::Disk(folder), false) = (to, options.dry_run) {
        let (folder, work) = (folder.clone(), work.clone());
        let finished = spawn_blocking(move || finish(&folder, &work)).await;
        finished.map_err(io::Error::other)??;
    }
    Ok(copy.report)
}

/// Has the lists of a folder written when a server starts on it, and lets that server know the tree heads that are
/// known in `data`, and a fork: they are in no bucket.
fn finish(folder: &Folder, data: &Folder) -> io::Result<()> {
    let marker = Key::new(LISTS_MARKER.to_owned()).map_err(io::Error::other)?;
    for entry in data.walk("sumdb", "") {
        let Entry::File(file) = entry? else { continue };
        if folder.look(&file.key)?.is_some() {
            continue;
        }
        if let Some(known) = data.open(&file.key)? {
            let mut bytes = Vec::new();
            known.take(MAX_HEAD_BYTES).read_to_end(&mut bytes)?;
            folder.replace_small(&file.key, &bytes)?;
        }
    }
    folder.replace_small(&marker, b"")
}

struct Copy<'a> {
    work: Arc<Work>,
    /// The index of the other place.
    index: Option<&'a Records>,
    /// What is there now and not in that index yet.
    noted: Vec<Object>,
    total: u64,
    /// What was at its place, by the hash of its key: memory for a whole bucket's names would be too much.
    seen: HashSet<u64>,
    hasher: RandomState,
    watch: &'a (dyn Fn(Progress<'_>) + Sync),
    report: Report,
}

impl Copy<'_> {
    /// Goes over all keys. A lookup of the checksum database comes after the tiles that prove it.
    async fn pass(&mut self) -> Result<(), CareError> {
        self.walk("go", |key| {
            parse_key(key).is_some() || is_proof(key) && !is_lookup(key)
        })
        .await?;
        self.walk("go/sumdb", is_lookup).await?;
        self.write_index().await
    }

    /// What is kept elsewhere has to be known there too: cleaning up, checks and backups go by the index.
    async fn write_index(&mut self) -> Result<(), CareError> {
        let noted = std::mem::take(&mut self.noted);
        if let Some(index) = self.index {
            index.note(&noted).await?;
        }
        Ok(())
    }

    async fn walk(&mut self, below: &str, wanted: fn(&str) -> bool) -> Result<(), CareError> {
        let mut keys = Keys::of(&self.work.from, below)?;
        loop {
            let page = keys.next().await?;
            if page.is_empty() {
                return Ok(());
            }
            let new: Vec<Key> = page
                .into_iter()
                .filter(|key| wanted(key.as_str()))
                .filter(|key| !self.seen.contains(&self.hasher.hash_one(key)))
                .collect();
            let work = Arc::clone(&self.work);
            let mut done = stream::iter(new)
                .map(|key| {
                    let work = Arc::clone(&work);
                    async move {
                        let outcome = work.copy(&key).await;
                        (key, outcome)
                    }
                })
                .buffer_unordered(AT_ONCE);
            while let Some((key, outcome)) = done.next().await {
                self.note(&key, outcome?);
            }
            if self.noted.len() >= NOTED {
                self.write_index().await?;
            }
        }
    }

    fn note(&mut self, key: &Key, outcome: Outcome) {
        match outcome {
            Outcome::Copied(bytes, object) => {
                self.report.copied += 1;
                self.report.bytes += bytes;
                self.noted.extend(object);
            }
            Outcome::Present(object) => {
                self.report.present += 1;
                self.noted.extend(object);
            }
            // It is not there any more; should it come again, it is new.
            Outcome::Gone => return,
            Outcome::Refused(why) => {
                tracing::error!(%key, why, "not copied");
                if self.report.refused.len() < MOST_REFUSED {
                    let key = key.to_string();
                    self.report.refused.push(Refused { key, why });
                } else {
                    self.report.more += 1;
                }
            }
        }
        self.seen.insert(self.hasher.hash_one(key));
        (self.watch)(Progress {
            total: self.total.max(self.seen.len() as u64),
            seen: self.seen.len() as u64,
            bytes: self.report.bytes,
            pass: self.report.passes,
            key: key.as_str(),
        });
    }
}

/// Whether a key is of what a checksum database said; the lists of folders and the like are not copied, since they change.
fn is_proof(key: &str) -> bool {
    key.starts_with("go/sumdb/")
}

fn is_lookup(key: &str) -> bool {
    is_proof(key) && key.contains("/lookup/")
}

/// The keys at a place, some at a time.
enum Keys {
    Disk(Option<Walk>),
    Bucket(BoxStream<'static, Result<Listed, TierError>>),
}

impl Keys {
    fn of(place: &Place, below: &str) -> Result<Self, CareError> {
        let key = Key::new(below.to_owned()).map_err(io::Error::other)?;
        Ok(match place {
            Place::Disk(folder) => Self::Disk(Some(folder.walk(below, ""))),
            Place::Bucket(tier) => match &**tier {
                Tier::Object(object) => Self::Bucket(object.list(Some(&key)).fuse().boxed()),
                Tier::Redis(_) => Self::Disk(None),
            },
        })
    }

    /// The next ones; none at the end.
    async fn next(&mut self) -> Result<Vec<Key>, CareError> {
        let mut keys = Vec::new();
        match self {
            Self::Disk(walk) => {
                while keys.is_empty() {
                    let Some(walking) = walk.take() else { break };
                    let (rest, page) = spawn_blocking(move || step(walking))
                        .await
                        .map_err(io::Error::other)??;
                    if !page.is_empty() {
                        *walk = Some(rest);
                    }
                    keys.extend(page.into_iter().filter_map(|entry| match entry {
                        Entry::File(file) => Some(file.key),
                        Entry::Stray(_) => None,
                    }));
                }
            }
            Self::Bucket(listed) => {
                while keys.len() < PAGE
                    && let Some(listed) = listed.next().await
                {
                    keys.push(listed?.key);
                }
            }
        }
        Ok(keys)
    }
}

fn step(mut walk: Walk) -> io::Result<(Walk, Vec<Entry>)> {
    let entries = walk.by_ref().take(PAGE).collect::<io::Result<_>>()?;
    Ok((walk, entries))
}
