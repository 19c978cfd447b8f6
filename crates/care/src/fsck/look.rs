//! Reads the copies of an object and says which of them are good.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Write as _},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use futures_util::TryStreamExt as _;
use records::Object;
use store::{
    Digest, Folder, Hasher, Key,
    folder::Temp,
    tier::{Tier, TierError},
};
use tokio::task::spawn_blocking;

use super::Work;
use crate::{CareError, Part, pace::hash, parse_key, read_hash, zip_hash};

/// What a tier sends is written in pieces of about this length.
const WRITE_BYTES: usize = 1 << 20;

/// What is still to be written, and to which tier.
pub(super) type Waiting = HashSet<(String, Key)>;

/// Where a copy lies.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Disk,
    Tier(Arc<Tier>),
}

impl Place {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Disk => "disk".to_owned(),
            Self::Tier(tier) => tier.name().to_string(),
        }
    }

    fn keeps(&self) -> bool {
        match self {
            Self::Disk => true,
            Self::Tier(tier) => tier.keeps(),
        }
    }
}

/// One copy of an object.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) place: Place,
    /// Of its bytes as they are.
    pub(super) digest: Digest,
    /// What stands beside it.
    stated: Option<Digest>,
    /// Its bytes, if they were brought here.
    pub(super) temp: Option<Arc<Temp>>,
    /// Why it is bad.
    pub(super) bad: Option<String>,
}

/// All copies of an object.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) copies: Vec<Seen>,
    /// Places that could not be asked, and why.
    pub(super) unreadable: Vec<(Place, String)>,
    /// Tiers that keep, and do not have it.
    pub(super) missing: Vec<Place>,
    /// What it must be; none without a good copy.
    pub(super) truth: Option<Digest>,
    /// Whether the index has something else.
    pub(super) index_differs: bool,
    /// Whether nothing but the copies themselves says that it is the index that is wrong.
    pub(super) doubtful: bool,
}

impl Look {
    /// Whether there is nothing to tell.
    pub(super) fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.is_right_where_it_is()
    }

    /// Whether there is nothing to tell but that tiers miss it.
    pub(super) fn is_right_where_it_is(&self) -> bool {
        self.truth.is_some()
            && !self.index_differs
            && self.unreadable.is_empty()
            && self.copies.iter().all(|copy| copy.bad.is_none())
    }

    /// The good copies: those here first, those that may be forgotten last.
    pub(super) fn good(&self) -> Vec<&Seen> {
        let good = self.copies.iter().filter(|copy| copy.bad.is_none());
        let mut good: Vec<&Seen> = good.collect();
        good.sort_by_key(|copy| !copy.place.keeps());
        good
    }

    /// What stands beside the copies, where all say the same.
    pub(super) fn stated(&self) -> Option<Digest> {
        let mut stated = self.copies.iter().filter_map(|copy| copy.stated.clone());
        let first = stated.next()?;
        stated
            .all(|other| other.same_bytes(&first))
            .then_some(first)
    }

    /// What all copies are, if there are some, and nothing that stands beside one says otherwise.
    fn agreed(&self) -> Option<[u8; 32]> {
        let sha256 = self.copies.first()?.digest.sha256;
        let stated = |copy: &Seen| copy.stated.as_ref().map(|stated| stated.sha256);
        let agree = self.copies.iter().all(|copy| {
            copy.bad.is_none()
                && copy.digest.sha256 == sha256
                && stated(copy).is_none_or(|stated| stated == sha256)
        });
        (agree && self.copies.iter().any(|copy| stated(copy).is_some())).then_some(sha256)
    }
}

impl Work<'_> {
    /// Reads all copies of an object and judges them. `waiting`: what stood in the journal when the object was known to
    /// be kept already, so that what is in neither is missing.
    pub(super) async fn look(
        &self,
        key: &Key,
        row: Option<&Object>,
        waiting: &Waiting,
    ) -> Result<Look, CareError> {
        let mut look = Look::default();
        match self.look_at_disk(key).await {
            Ok(Some(seen)) => look.copies.push(seen),
            Ok(None) if self.storage.disk && self.storage.keepers().next().is_none() => {
                look.missing.push(Place::Disk);
            }
            Ok(None) => {}
            Err(error) => look.unreadable.push((Place::Disk, error.to_string())),
        }
        // A zip that is not here must be brought here for its hash.
        let zip = matches!(parse_key(key.as_str()), Some((.., Part::Zip)));
        let bring = zip && look.copies.is_empty();
        for tier in self.storage.tiers.clone() {
            let place = Place::Tier(Arc::clone(&tier));
            match self.look_at_tier(&tier, key, bring).await {
                Ok(Some(seen)) => look.copies.push(seen),
                Ok(None) if tier.keeps() => {
                    if !waits(waiting, &tier, key) {
                        look.missing.push(place);
                    }
                }
                Ok(None) => {}
                Err(CareError::Tier(error)) if !tier.keeps() && is_corrupt(&error) => {
                    look.copies.push(Seen {
                        place,
                        digest: Digest::of(b""),
                        stated: None,
                        temp: None,
                        bad: Some(error.to_string()),
                    });
                }
                Err(error) => look.unreadable.push((place, error.to_string())),
            }
        }
        self.judge(key, row, &mut look).await?;
        Ok(look)
    }

    /// What stands in the journal now.
    pub(super) async fn waiting(&self) -> Result<Arc<Waiting>, CareError> {
        Ok(Arc::new(self.storage.on_disk(Folder::waiting).await?))
    }

    async fn look_at_disk(&self, key: &Key) -> io::Result<Option<Seen>> {
        let (pace, key) = (Arc::clone(&self.pace), key.clone());
        let read = self.storage.on_disk(move |folder| {
            let Some(mut file) = folder.open(&key)? else {
                return Ok(None);
            };
            let digest = hash(&mut file, &pace)?;
            Ok(Some((digest, folder.noted(&file)?)))
        });
        let Some((digest, stated)) = read.await? else {
            return Ok(None);
        };
        self.read.fetch_add(digest.size, Relaxed);
        Ok(Some(Seen {
            place: Place::Disk,
            digest,
            stated,
            temp: None,
            bad: None,
        }))
    }

    pub(super) async fn look_at_tier(
        &self,
        tier: &Arc<Tier>,
        key: &Key,
        bring: bool,
    ) -> Result<Option<Seen>, CareError> {
        let place = Place::Tier(Arc::clone(tier));
        let object = match &**tier {
            Tier::Object(object) => object,
            Tier::Redis(redis) => {
                // It compares what it has with what stands beside it.
                let Some((bytes, digest)) = redis.get(key).await? else {
                    return Ok(None);
                };
                let mut temp = None;
                if bring {
                    let written = self.storage.on_disk(move |folder| {
                        let mut temp = folder.temp()?;
                        temp.file.write_all(&bytes)?;
                        Ok(temp)
                    });
                    temp = Some(Arc::new(written.await?));
                }
                return Ok(Some(Seen {
                    place,
                    stated: Some(digest.clone()),
                    digest,
                    temp,
                    bad: None,
                }));
            }
        };
        let Some(mut opened) = object.open(key, None, None).await? else {
            return Ok(None);
        };
        let mut temp = None;
        if bring {
            temp = Some(self.storage.on_disk(Folder::temp).await?);
        }
        let (mut hasher, mut gathered) = (Hasher::default(), Vec::new());
        loop {
            let block = opened.stream.try_next().await?;
            if let Some(block) = &block {
                hasher.update(block);
                tokio::time::sleep(self.pace.after(block.len() as u64)).await;
                if temp.is_some() {
                    gathered.extend_from_slice(block);
                }
            }
            let ended = block.is_none();
            if let Some(mut writing) = temp.take() {
                if gathered.len() < WRITE_BYTES && !ended {
                    temp = Some(writing);
                    continue;
                }
                let piece = std::mem::take(&mut gathered);
                let written = spawn_blocking(move || {
                    writing.file.write_all(&piece)?;
                    Ok::<_, io::Error>(writing)
                });
                temp = Some(written.await.map_err(io::Error::other)??);
            }
            if ended {
                break;
            }
        }
        let digest = hasher.finish();
        self.read.fetch_add(digest.size, Relaxed);
        Ok(Some(Seen {
            place,
            digest,
            stated: opened.digest,
            temp: temp.map(Arc::new),
            bad: None,
        }))
    }

    /// Says which copies are good, and what the object must be.
    async fn judge(
        &self,
        key: &Key,
        row: Option<&Object>,
        look: &mut Look,
    ) -> Result<(), CareError> {
        let zip = matches!(parse_key(key.as_str()), Some((.., Part::Zip)));
        let stated = look.copies.iter().filter_map(|copy| copy.stated.as_ref());
        let mut h1 = row.and_then(|row| row.h1.clone());
        if zip && h1.is_none() {
            h1 = stated
                .filter_map(|stated| stated.h1.as_deref())
                .map(str::to_owned)
                .next();
        }
        if zip && h1.is_none() {
            h1 = self.hash_beside(key).await?;
        }
        // By its SHA-256: what the index has, else what stands beside each copy. Where all copies agree with each other
        // and with what stands beside them, one wrong row must not take all of them away.
        let agreed = look.agreed();
        look.doubtful = row.is_some_and(|row| agreed.is_some_and(|agreed| agreed != row.sha256));
        let row_h1 = row.and_then(|row| row.h1.as_deref());
        let doubted = look.doubtful;
        let row = row.filter(|_| !doubted);
        for copy in &mut look.copies {
            let wanted = match row {
                Some(row) => Some(row.sha256),
                None => copy.stated.as_ref().map(|stated| stated.sha256),
            };
            if copy.bad.is_none() && wanted.is_some_and(|wanted| wanted != copy.digest.sha256) {
                copy.bad = Some(format!("its SHA-256 is {}", copy.digest.sha256_hex()));
            }
        }
        if zip && look.doubtful {
            self.judge_doubtful_zip(key, row_h1, look).await?;
        } else if zip {
            self.judge_zip(key, h1.as_deref(), look).await?;
        }
        // Several copies that are good by themselves, and not the same: what is shared counts.
        let last = look.copies.iter().rev().filter(|copy| copy.bad.is_none());
        let last = last.min_by_key(|copy| !copy.place.keeps());
        let Some(truth) = last.map(|copy| copy.digest.clone()) else {
            return Ok(());
        };
        for copy in &mut look.copies {
            if copy.bad.is_none() && !copy.digest.same_bytes(&truth) {
                copy.bad = Some("other bytes than the tier below has".to_owned());
            }
        }
        let h1 = if zip {
            // What was computed from the bytes, else what is known of them.
            truth.h1.as_deref().map(str::to_owned).or(h1)
        } else {
            None
        };
        look.index_differs = doubted || row.is_some_and(|row| row.sha256 != truth.sha256);
        look.truth = Some(match h1 {
            Some(h1) => truth.with_h1(h1),
            None => truth,
        });
        Ok(())
    }

    /// All copies are the same, and the index has something else: it is wrong if what is in them has the hash that is
    /// known.
    async fn judge_doubtful_zip(
        &self,
        key: &Key,
        h1: Option<&str>,
        look: &mut Look,
    ) -> Result<(), CareError> {
        let beside = self.hash_beside(key).await?;
        let Some(copy) = look.copies.iter_mut().find(|copy| copy.place.keeps()) else {
            return Ok(());
        };
        if let Ok(found) = self.h1_of(key, copy).await? {
            look.doubtful = h1 != Some(&*found) && beside.as_ref() != Some(&found);
            for copy in &mut look.copies {
                copy.digest = copy.digest.clone().with_h1(found.clone());
            }
        }
        Ok(())
    }

    /// Zips have a second hash: of what is in them. It decides where the index and the bytes do not agree.
    async fn judge_zip(
        &self,
        key: &Key,
        h1: Option<&str>,
        look: &mut Look,
    ) -> Result<(), CareError> {
        let mut known: Vec<([u8; 32], Result<String, String>)> = Vec::new();
        let some_good = look.copies.iter().any(|copy| copy.bad.is_none());
        for copy in &mut look.copies {
            // Redis has small ones, which are elsewhere too.
            if matches!(&copy.place, Place::Tier(tier) if !tier.keeps()) {
                continue;
            }
            // Those that are bad by their SHA-256 get a second chance if none is good: the index may be wrong.
            if copy.bad.is_some() && (some_good || h1.is_none()) {
                continue;
            }
            let sha256 = copy.digest.sha256;
            let before = known.iter().find(|(known, _)| *known == sha256);
            let found = if let Some((_, found)) = before {
                found.clone()
            } else {
                let found = self.h1_of(key, copy).await?;
                known.push((sha256, found.clone()));
                found
            };
            match found {
                Ok(found) if h1.is_none_or(|h1| h1 == found) => {
                    copy.bad = None;
                    copy.digest = copy.digest.clone().with_h1(found);
                }
                Ok(found) if copy.bad.is_none() => copy.bad = Some(format!("its hash is {found}")),
                Err(why) if copy.bad.is_none() => copy.bad = Some(why),
                _ => {}
            }
        }
        Ok(())
    }

    async fn h1_of(&self, key: &Key, copy: &mut Seen) -> Result<Result<String, String>, CareError> {
        if copy.temp.is_none()
            && let Place::Tier(tier) = copy.place.clone()
            && let Some(again) = self.look_at_tier(&tier, key, true).await?
            && again.digest.same_bytes(&copy.digest)
        {
            copy.temp = again.temp;
        }
        let (temp, key) = (copy.temp.clone(), key.clone());
        let hashed = self.storage.on_disk(move |folder| {
            let file = match &temp {
                Some(temp) => Some(File::open(temp.path()?)?),
                None => folder.open(&key)?,
            };
            let Some(file) = file else {
                return Ok(Err("it is gone".to_owned()));
            };
            zip_hash(file, &key)
        });
        Ok(hashed.await?)
    }

    /// What stands in the `.ziphash` beside a zip.
    async fn hash_beside(&self, zip: &Key) -> Result<Option<String>, CareError> {
        let Ok(beside) = Key::new(format!("{zip}hash")) else {
            return Ok(None);
        };
        let read = self
            .storage
            .on_disk(move |folder| read_hash(folder, &beside));
        Ok(read.await?.filter(|text| text.starts_with("h1:")))
    }
}

fn waits(waiting: &Waiting, tier: &Tier, key: &Key) -> bool {
    // Older entries have the name of their tier.
    let mut names = [tier.place(), tier.name()].into_iter();
    !waiting.is_empty() && names.any(|name| waiting.contains(&(name.to_string(), key.clone())))
}

fn is_corrupt(error: &TierError) -> bool {
    error.kind == store::tier::TierErrorKind::Corrupt
}
