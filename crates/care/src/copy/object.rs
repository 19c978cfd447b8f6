//! Copies one object, and compares it on the way with all that is known of it.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures_util::TryStreamExt as _;
use gomod::{
    info::{self, Info},
    zip,
};
use records::{Object, Records};
use store::{
    Committed, Digest, Folder, Hasher, Key,
    folder::Temp,
    tier::{Source, Tier, TierError, TierErrorKind},
};
use tokio::{task::spawn_blocking, time::sleep};

use super::{Place, is_lookup};
use crate::{
    CareError, Pace, Part, now_ms,
    pace::{hash, hash_into},
    parse_key, read_hash,
};

/// What a bucket sends is written in pieces of about this length.
const WRITE_BYTES: usize = 1 << 20;
/// How often a bucket in trouble is asked, and how long after the first time.
const TRIES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// What became of an object.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is there now, or would be: so many bytes, and what the index there is to have of it.
    Copied(u64, Option<Object>),
    /// It was there.
    Present(Option<Object>),
    /// It went from where it was.
    Gone,
    /// It stays where it is.
    Refused(String),
}

/// What copying needs.
pub(super) struct Work {
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) records: Arc<Records>,
    pub(super) scratch: Folder,
    pub(super) pace: Arc<Pace>,
    pub(super) dry_run: bool,
}

/// An object's bytes as a file here. It goes with it, unless it is the one that is kept.
struct Here {
    path: PathBuf,
    temp: Option<Temp>,
    digest: Digest,
}

impl Work {
    /// Copies an object. An error ends the whole: a place that is away for long, or a disk.
    pub(super) async fn copy(&self, key: &Key) -> Result<Outcome, CareError> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match self.once(key).await {
                Err(CareError::Tier(error)) if passes(&error) => {
                    tracing::warn!(%key, %error, "tried again");
                }
                done => return done,
            }
            sleep(pause).await;
            pause *= 2;
        }
        self.once(key).await
    }

    async fn once(&self, key: &Key) -> Result<Outcome, CareError> {
        let Some(wanted) = self.wanted(key).await? else {
            return Ok(Outcome::Gone);
        };
        let there = self.there(key).await?;
        match (&wanted.digest, &there) {
            (Some(ours), Some(there)) => return self.compared(key, ours, there, &wanted).await,
            (_, None) if self.dry_run => return Ok(Outcome::Copied(wanted.size, None)),
            _ => {}
        }
        let Some(here) = self.bring(key).await? else {
            return Ok(Outcome::Gone);
        };
        if let Some(there) = &there {
            return self.compared(key, &here.digest, there, &wanted).await;
        }
        let good = wanted.digest.as_ref();
        if good.is_some_and(|good| !good.same_bytes(&here.digest)) {
            return Ok(Outcome::Refused(
                "its bytes are not what they should be".to_owned(),
            ));
        }
        let (here, h1) = match self.check(key, here, wanted.h1.clone()).await? {
            Ok(checked) => checked,
            Err(why) => return Ok(Outcome::Refused(why)),
        };
        let digest = match h1 {
            Some(h1) => here.digest.clone().with_h1(h1),
            None => here.digest.clone(),
        };
        self.put(key, here, &digest, &wanted).await
    }

    /// What to do with an object that both places have.
    async fn compared(
        &self,
        key: &Key,
        ours: &Digest,
        theirs: &Digest,
        wanted: &Wanted,
    ) -> Result<Outcome, CareError> {
        if ours.same_bytes(theirs) {
            return Ok(Outcome::Present(wanted.object(key, theirs)));
        }
        // A lookup has the head of its time in it: another is as good. What differs is for the index there alone to know.
        if is_lookup(key.as_str()) || self.same_info(key).await? {
            return Ok(Outcome::Present(None));
        }
        let why = "the other place has other bytes".to_owned();
        Ok(Outcome::Refused(why))
    }

    /// Whether both places have an `.info` that says the same in other words: an upstream and the go command write it
    /// differently, and its origin says how a version was found.
    async fn same_info(&self, key: &Key) -> Result<bool, CareError> {
        let Some((_, module, _, Part::Info)) = parse_key(key.as_str()) else {
            return Ok(false);
        };
        let max = info::MAX_BYTES as u64;
        let (ours, theirs) = (
            self.from.small(key, max).await?,
            self.to.small(key, max).await?,
        );
        let says = |body: Option<Vec<u8>>| {
            let read = Info::parse(&body?, &module).ok()?;
            Some((read.version, read.time))
        };
        let ours = says(ours);
        Ok(ours.is_some() && ours == says(theirs))
    }

    /// What an object must be, as far as anybody knows. `None`: it is not there any more.
    async fn wanted(&self, key: &Key) -> Result<Option<Wanted>, CareError> {
        let (size, stated) = match &self.from {
            Place::Disk(folder) => {
                let (folder, at) = (folder.clone(), key.clone());
                let looked = spawn_blocking(move || {
                    let Some(file) = folder.open(&at)? else {
                        return Ok(None);
                    };
                    let size = file.metadata()?.len();
                    io::Result::Ok(Some((size, folder.noted(&file)?)))
                });
                match looked.await.map_err(io::Error::other)?? {
                    Some(looked) => looked,
                    None => return Ok(None),
                }
            }
            Place::Bucket(tier) => match tier.head(key).await? {
                Some(head) => (head.size, head.digest),
                None => return Ok(None),
            },
        };
        let row = self.records.object(key.as_str()).await?;
        let noted = row.as_ref().map(|row| {
            let digest = Digest {
                size: row.size,
                sha256: row.sha256,
                h1: None,
            };
            match &row.h1 {
                Some(h1) => digest.with_h1(h1.clone()),
                None => digest,
            }
        });
        let known = [noted, stated];
        let h1 = known.iter().flatten().find_map(|digest| digest.h1.clone());
        let h1 = match h1 {
            Some(h1) => Some(h1.into_string()),
            None => self.hash_beside(key).await?,
        };
        let digest = known.into_iter().flatten().next();
        Ok(Some(Wanted {
            size,
            digest,
            h1,
            row,
        }))
    }

    /// What stands beside a zip on a disk.
    async fn hash_beside(&self, key: &Key) -> Result<Option<String>, CareError> {
        let (Place::Disk(folder), Some((.., Part::Zip))) = (&self.from, parse_key(key.as_str()))
        else {
            return Ok(None);
        };
        let Ok(beside) = Key::new(format!("{key}hash")) else {
            return Ok(None);
        };
        let folder = folder.clone();
        let read = spawn_blocking(move || read_hash(&folder, &beside)).await;
        let text = read.map_err(io::Error::other)??;
        Ok(text.filter(|text| text.starts_with("h1:")))
    }

    /// The digest of what the other place has.
    async fn there(&self, key: &Key) -> Result<Option<Digest>, CareError> {
        match &self.to {
            Place::Bucket(tier) => {
                let Some(head) = tier.head(key).await? else {
                    return Ok(None);
                };
                match head.digest {
                    Some(digest) => Ok(Some(digest)),
                    // Somebody else put it there.
                    None => Ok(self.bring_from(tier, key).await?.map(|here| here.digest)),
                }
            }
            Place::Disk(folder) => {
                let (folder, at, pace) = (folder.clone(), key.clone(), Arc::clone(&self.pace));
                let read = spawn_blocking(move || {
                    let Some(mut file) = folder.open(&at)? else {
                        return Ok(None);
                    };
                    if let Some(noted) = folder.noted(&file)?
                        && noted.size == file.metadata()?.len()
                    {
                        return Ok(Some(noted));
                    }
                    hash(&mut file, &pace).map(Some)
                });
                Ok(read.await.map_err(io::Error::other)??)
            }
        }
    }

    /// The bytes as a file here, read once.
    async fn bring(&self, key: &Key) -> Result<Option<Here>, CareError> {
        let folder = match &self.from {
            Place::Bucket(tier) => return self.bring_from(tier, key).await,
            Place::Disk(folder) => folder.clone(),
        };
        let (at, pace) = (key.clone(), Arc::clone(&self.pace));
        let copied = match &self.to {
            Place::Disk(to) => Some(to.clone()),
            Place::Bucket(_) => None,
        };
        let read = spawn_blocking(move || {
            let Some(mut file) = folder.open(&at)? else {
                return Ok(None);
            };
            let mut path = folder.path().join(at.as_str());
            let (temp, digest) = match copied {
                Some(to) => {
                    let mut temp = to.temp()?;
                    let digest = hash_into(&mut file, &pace, &mut temp.file)?;
                    temp.path()?.clone_into(&mut path);
                    (Some(temp), digest)
                }
                None => (None, hash(&mut file, &pace)?),
            };
            io::Result::Ok(Some(Here { path, temp, digest }))
        });
        Ok(read.await.map_err(io::Error::other)??)
    }

    async fn bring_from(&self, tier: &Tier, key: &Key) -> Result<Option<Here>, CareError> {
        let Tier::Object(object) = tier else {
            return Ok(None);
        };
        let Some(mut opened) = object.open(key, None, None).await? else {
            return Ok(None);
        };
        let folder = match &self.to {
            Place::Disk(folder) => folder.clone(),
            Place::Bucket(_) => self.scratch.clone(),
        };
        let made = spawn_blocking(move || folder.temp()).await;
        let mut temp = made.map_err(io::Error::other)??;
        let (mut hasher, mut gathered) = (Hasher::default(), Vec::new());
        loop {
            let block = opened.stream.try_next().await?;
            let ended = block.is_none();
            if let Some(block) = block {
                hasher.update(&block);
                gathered.extend_from_slice(&block);
                sleep(self.pace.after(block.len() as u64)).await;
            }
            if gathered.len() >= WRITE_BYTES || ended {
                let piece = std::mem::take(&mut gathered);
                let written = spawn_blocking(move || temp.file.write_all(&piece).map(|()| temp));
                temp = written.await.map_err(io::Error::other)??;
            }
            if ended {
                break;
            }
        }
        Ok(Some(Here {
            path: temp.path()?.to_owned(),
            temp: Some(temp),
            digest: hasher.finish(),
        }))
    }

    /// Checks a zip and its own hash. Returns the object again, and the hash.
    async fn check(
        &self,
        key: &Key,
        here: Here,
        wanted: Option<String>,
    ) -> Result<Result<(Here, Option<String>), String>, CareError> {
        let Some((_, module, version, Part::Zip)) = parse_key(key.as_str()) else {
            return Ok(Ok((here, None)));
        };
        let checked = spawn_blocking(move || {
            let mut file = File::open(&here.path)?;
            let len = file.seek(io::SeekFrom::End(0))?;
            let limits = zip::Limits::default();
            let checked = zip::check(file, len, &module, &version, &limits, zip::Want::Hash);
            io::Result::Ok((here, checked))
        });
        let (here, checked) = checked.await.map_err(io::Error::other)??;
        Ok(match checked {
            Err(error) => Err(error.to_string()),
            Ok(report) => {
                let h1 = report.h1.map(|h1| h1.to_string());
                match (&h1, &wanted) {
                    (Some(h1), Some(wanted)) if h1 != wanted => Err(format!("its hash is {h1}")),
                    _ => Ok((here, h1)),
                }
            }
        })
    }

    async fn put(
        &self,
        key: &Key,
        here: Here,
        digest: &Digest,
        wanted: &Wanted,
    ) -> Result<Outcome, CareError> {
        let committed = match &self.to {
            Place::Bucket(tier) => {
                let path = here.path.clone();
                let source = spawn_blocking(move || Source::open(&path)).await;
                let source = source.map_err(io::Error::other)??;
                match tier.put(key, &source, digest).await {
                    Err(error) if error.kind == TierErrorKind::Differs => {
                        return Ok(Outcome::Refused(error.detail.into_string()));
                    }
                    put => put?,
                }
            }
            Place::Disk(folder) => {
                let (folder, at, noted) = (folder.clone(), key.clone(), digest.clone());
                let Some(temp) = here.temp else {
                    return Err(io::Error::other("no file to place").into());
                };
                let placed = spawn_blocking(move || folder.place(temp, &at, Some(&noted))).await;
                placed.map_err(io::Error::other)??
            }
        };
        let object = wanted.object(key, digest);
        Ok(match committed {
            Committed::New => Outcome::Copied(digest.size, object),
            // A server there was faster, and notes its own.
            Committed::Present => Outcome::Present(None),
        })
    }
}

/// What an object must be.
struct Wanted {
    size: u64,
    /// By the index, else by what stands beside it.
    digest: Option<Digest>,
    h1: Option<String>,
    /// What the index here has of it.
    row: Option<Object>,
}

impl Wanted {
    /// What the index of the other place is to have of it, with the times and the pin of here.
    fn object(&self, key: &Key, digest: &Digest) -> Option<Object> {
        let (.., Part::Info | Part::Mod | Part::Zip) = parse_key(key.as_str())? else {
            return None;
        };
        let row = self.row.as_ref();
        let kept_at_ms = row.map_or_else(now_ms, |row| row.kept_at_ms);
        let h1 = digest.h1.as_deref().or(self.h1.as_deref());
        Some(Object {
            key: key.to_string(),
            size: digest.size,
            sha256: digest.sha256,
            h1: h1.map(str::to_owned),
            kept_at_ms,
            used_at_ms: row.map_or(kept_at_ms, |row| row.used_at_ms),
            pinned: row.is_some_and(|row| row.pinned),
        })
    }
}

/// Whether a bucket may be better soon.
fn passes(error: &TierError) -> bool {
    matches!(
        error.kind,
        TierErrorKind::Unavailable | TierErrorKind::Timeout
    )
}
