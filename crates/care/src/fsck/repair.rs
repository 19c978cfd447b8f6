//! What is wrong with an object, told and put right.

use std::{fs, io, path::PathBuf, sync::Arc};

use records::{ChangeKind, Object};
use store::{
    Digest, Key,
    folder::Temp,
    tier::{Source, Tier, TierErrorKind},
};

use super::{
    Finding, Kind, Work,
    look::{Look, Place, Waiting},
    row_of,
};
use crate::{CareError, Pace, Storage, now_ms, pace::hash, read_hash, zip_hash};

/// Where good bytes are taken from. The file goes with it.
struct Good {
    path: PathBuf,
    _temp: Option<Arc<Temp>>,
    digest: Digest,
    from: String,
}

impl Work<'_> {
    /// Compares one object in all tiers, tells what is wrong, and puts it right where that is wanted.
    pub(super) async fn check(
        &self,
        key: &Key,
        row: Option<Object>,
        waiting: &Waiting,
    ) -> Result<Vec<Finding>, CareError> {
        let mut look = self.look(key, row.as_ref(), waiting).await?;
        if look.is_clean() && row.is_some() {
            return Ok(Vec::new());
        }
        // Once more: it may have been removed or noted just now, or altered on the way only.
        let before = row;
        let row = self.storage.records.object(key.as_str()).await?;
        if row.is_none() && before.is_some() {
            return Ok(Vec::new());
        }
        let mut went = Vec::new();
        if before.is_none() || !look.is_right_where_it_is() {
            // What is bad in a tier that forgets goes as soon as it is read.
            went.extend(look.copies.into_iter().filter(|copy| {
                copy.bad.is_some() && matches!(&copy.place, Place::Tier(tier) if !tier.keeps())
            }));
            let waiting = self.waiting().await?;
            look = self.look(key, row.as_ref(), &waiting).await?;
        }
        let mut findings = findings(key, row.as_ref(), &look);
        if self.options.repair && !findings.is_empty() {
            self.repair(key, row, &look, &mut findings).await?;
        }
        for copy in went {
            let name = copy.place.name();
            if findings.iter().all(|finding| finding.place != name) {
                findings.push(Finding {
                    kind: Kind::Altered,
                    key: key.to_string(),
                    place: name,
                    detail: copy.bad.unwrap_or_default(),
                    repaired: Some("moved out of the way when it was read".to_owned()),
                });
            }
        }
        Ok(findings)
    }

    /// Puts right what can be; what was is told in the findings.
    async fn repair(
        &self,
        key: &Key,
        row: Option<Object>,
        look: &Look,
        findings: &mut [Finding],
    ) -> Result<(), CareError> {
        if (look.truth.is_none() || look.doubtful) && !look.unreadable.is_empty() {
            // There may be a good copy, so nothing is thrown away.
            return Ok(());
        }
        let good = if look.doubtful {
            self.decide(key, row.as_ref(), look).await?
        } else {
            match self.good(key, look).await? {
                Some(good) => Ok(good),
                None => self.fetch_anew(key, &wanted(row.as_ref(), look)).await,
            }
        };
        let good = match good {
            Ok(good) => good,
            Err(why) => {
                // What is bad and here is served no more; a bucket's is never served, and stays until there is a good one.
                for copy in look.copies.iter().filter(|copy| copy.bad.is_some()) {
                    set_aside(self.storage, key, &copy.place).await?;
                }
                if !look.doubtful {
                    self.tell(key).await?;
                }
                for finding in findings {
                    finding.detail = format!("{}; {why}", finding.detail);
                }
                return Ok(());
            }
        };
        for copy in &look.copies {
            if copy.bad.is_some() || !copy.digest.same_bytes(&good.digest) {
                set_aside(self.storage, key, &copy.place).await?;
            }
        }
        let truth = look.truth.as_ref();
        let index_was_right =
            look.doubtful && truth.is_some_and(|truth| !truth.same_bytes(&good.digest));
        if index_was_right {
            // And every copy was not.
            for copy in &look.copies {
                self.put_back(key, &copy.place.name(), &good).await?;
            }
        }
        for finding in findings.iter_mut() {
            let done = match finding.kind {
                Kind::IndexDiffers if index_was_right => {
                    Ok(format!("the index is right: {}", good.from))
                }
                Kind::NotIndexed | Kind::IndexDiffers => Ok("noted in the index".to_owned()),
                Kind::Unreadable => continue,
                Kind::Altered | Kind::Missing | Kind::Lost | Kind::Partial | Kind::Stray => {
                    let put = self.put_back(key, &finding.place, &good).await;
                    put.map(|()| good.from.clone())
                }
            };
            match done {
                Ok(done) => finding.repaired = Some(done),
                Err(error) => finding.detail = format!("{}; {error}", finding.detail),
            }
        }
        let kept_at_ms = row.as_ref().map_or_else(now_ms, |row| row.kept_at_ms);
        let wanted = row_of(key, &good.digest, kept_at_ms);
        self.storage.records.note(&[wanted]).await?;
        self.tell(key).await
    }

    /// Tells every server to let go of what it has in memory.
    async fn tell(&self, key: &Key) -> Result<(), CareError> {
        let records = &self.storage.records;
        records.announce(ChangeKind::Forget, key.as_str()).await?;
        Ok(())
    }

    /// A good copy as a file here: of those that can be brought the first.
    async fn good(&self, key: &Key, look: &Look) -> Result<Option<Good>, CareError> {
        let Some(digest) = look.truth.clone() else {
            return Ok(None);
        };
        for copy in look.good() {
            let mut temp = copy.temp.clone();
            let path = match &copy.place {
                Place::Disk => self.storage.folder.path().join(key.as_str()),
                Place::Tier(tier) => {
                    if temp.is_none() {
                        temp = match self.bring(tier, key, &digest).await {
                            Ok(temp) => temp,
                            // It was there a moment ago; another may have it.
                            Err(CareError::Tier(_)) => None,
                            Err(error) => return Err(error),
                        };
                    }
                    let Some(temp) = &temp else {
                        continue;
                    };
                    temp.path()?.to_owned()
                }
            };
            return Ok(Some(Good {
                path,
                from: format!("from {}", copy.place.name()),
                _temp: temp,
                digest,
            }));
        }
        Ok(None)
    }

    /// All copies are the same, and the index alone has something else: what upstream has decides. Without it nothing is
    /// touched.
    async fn decide(
        &self,
        key: &Key,
        row: Option<&Object>,
        look: &Look,
    ) -> Result<Result<Good, String>, CareError> {
        let of_index = row.map(row_digest);
        let wanted: Vec<Digest> = look.truth.clone().into_iter().chain(of_index).collect();
        let anew = match self.fetch_anew(key, &wanted).await {
            Ok(anew) => anew,
            Err(why) => return Ok(Err(format!("nothing else says which is right: {why}"))),
        };
        if look
            .truth
            .as_ref()
            .is_some_and(|truth| same(truth, &anew.digest))
        {
            let good = self.good(key, look).await?;
            return Ok(good.ok_or_else(|| "it is gone".to_owned()));
        }
        Ok(Ok(anew))
    }

    /// Fetches it anew, and makes sure that it is what it was: one of those, where there are some.
    async fn fetch_anew(&self, key: &Key, wanted: &[Digest]) -> Result<Good, String> {
        let upstream = self.upstream.ok_or("nowhere else, and not fetched anew")?;
        let path = upstream.fetch(key).await?;
        let (read, of) = (path.clone(), key.clone());
        let digest = self.storage.on_disk(move |_| {
            let digest = hash(&mut fs::File::open(&read)?, &Pace::new(None))?;
            if read.extension().is_none_or(|ending| ending != "zip") {
                return Ok(digest);
            }
            let h1 = zip_hash(fs::File::open(&read)?, &of)?;
            Ok(digest.with_h1(h1.map_err(io::Error::other)?))
        });
        let digest = digest.await.map_err(|error| error.to_string())?;
        if !wanted.is_empty() && !wanted.iter().any(|wanted| same(wanted, &digest)) {
            let hash = match digest.h1.as_deref() {
                Some(h1) => format!("the hash {h1}"),
                None => format!("the SHA-256 {}", digest.sha256_hex()),
            };
            return Err(format!(
                "upstream has another version of it now, with {hash}"
            ));
        }
        Ok(Good {
            path,
            _temp: None,
            digest,
            from: "fetched anew from upstream".to_owned(),
        })
    }

    /// Writes it where it was bad or missing.
    async fn put_back(&self, key: &Key, place: &str, good: &Good) -> Result<(), CareError> {
        let (path, digest) = (good.path.clone(), good.digest.clone());
        let source = move || Source::open(&path);
        if place != "disk" && place != "index" {
            let tier = self
                .storage
                .tiers
                .iter()
                .find(|tier| **tier.name() == *place);
            let Some(tier) = tier.filter(|tier| tier.keeps()) else {
                // A hot tier gets it when somebody asks.
                return Ok(());
            };
            let source = self.storage.on_disk(move |_| source()).await?;
            return Ok(put(tier, key, &source, &digest).await?);
        }
        let keeps_elsewhere = self.storage.keepers().next().is_some();
        if place == "index" {
            // It was nowhere.
            for tier in self.storage.keepers() {
                let source = source.clone();
                let source = self.storage.on_disk(move |_| source()).await?;
                put(tier, key, &source, &digest).await?;
            }
            if !self.storage.disk && keeps_elsewhere {
                return Ok(());
            }
        }
        let (path, key) = (good.path.clone(), key.clone());
        let placed = self.storage.on_disk(move |folder| {
            let mut temp = folder.temp()?;
            io::copy(&mut fs::File::open(&path)?, &mut temp.file)?;
            folder.place(temp, &key, keeps_elsewhere.then_some(&digest))
        });
        placed.await?;
        Ok(())
    }

    async fn bring(
        &self,
        tier: &Arc<Tier>,
        key: &Key,
        digest: &Digest,
    ) -> Result<Option<Arc<Temp>>, CareError> {
        let seen = self.look_at_tier(tier, key, true).await?;
        let seen = seen.filter(|seen| seen.digest.same_bytes(digest));
        Ok(seen.and_then(|seen| seen.temp))
    }

    /// The `.ziphash` beside a zip: in step with the index, or written anew.
    pub(super) async fn check_hash(
        &self,
        key: &Key,
        stem: &str,
    ) -> Result<Option<Finding>, CareError> {
        let row = self.storage.records.object(&format!("{stem}.zip")).await?;
        let Some(h1) = row.and_then(|row| row.h1) else {
            return Ok(None);
        };
        let at = key.clone();
        let text = self
            .storage
            .on_disk(move |folder| read_hash(folder, &at))
            .await?;
        let Some(text) = text.filter(|text| *text != h1) else {
            return Ok(None);
        };
        let mut finding = Finding {
            kind: Kind::Altered,
            key: key.to_string(),
            place: "disk".to_owned(),
            detail: format!("it says {text:.60?}, and the zip's hash is {h1}"),
            repaired: None,
        };
        if self.options.repair {
            let at = key.clone();
            let written = self.storage.on_disk(move |folder| {
                folder.set_aside(&at)?;
                folder.replace_small(&at, h1.as_bytes())
            });
            written.await?;
            finding.repaired = Some("written anew".to_owned());
            self.tell(key).await?;
        }
        Ok(Some(finding))
    }
}

/// What an object must be that is fetched anew; nothing if nobody knows.
fn wanted(row: Option<&Object>, look: &Look) -> Vec<Digest> {
    match (&look.truth, row) {
        (Some(truth), _) => vec![truth.clone()],
        (None, Some(row)) => vec![row_digest(row)],
        (None, None) => look.stated().into_iter().collect(),
    }
}

fn row_digest(row: &Object) -> Digest {
    Digest {
        size: row.size,
        sha256: row.sha256,
        h1: row.h1.as_deref().map(Into::into),
    }
}

/// Whether both are the same bytes, or zips with the same in them.
fn same(one: &Digest, other: &Digest) -> bool {
    one.same_bytes(other) || (one.h1.is_some() && one.h1 == other.h1)
}

/// Moves a bad copy out of the way.
async fn set_aside(storage: &Storage, key: &Key, place: &Place) -> Result<(), CareError> {
    match place {
        Place::Disk => {
            let key = key.clone();
            storage
                .on_disk(move |folder| folder.set_aside(&key))
                .await?;
        }
        Place::Tier(tier) => match &**tier {
            Tier::Object(object) => object.quarantine(key).await?,
            Tier::Redis(_) => tier.remove(key).await?,
        },
    }
    Ok(())
}

/// Writes good bytes over bad ones that were set aside.
async fn put(
    tier: &Tier,
    key: &Key,
    source: &Source,
    digest: &Digest,
) -> Result<(), store::tier::TierError> {
    match tier.put(key, source, digest).await {
        Err(error) if error.kind == TierErrorKind::Differs => {
            tier.remove(key).await?;
            tier.put(key, source, digest).await.map(drop)
        }
        put => put.map(drop),
    }
}

fn findings(key: &Key, row: Option<&Object>, look: &Look) -> Vec<Finding> {
    let finding = |kind, place: String, detail: String| Finding {
        kind,
        key: key.to_string(),
        place,
        detail,
        repaired: None,
    };
    let mut findings = Vec::new();
    for copy in &look.copies {
        if let Some(why) = &copy.bad {
            findings.push(finding(Kind::Altered, copy.place.name(), why.clone()));
        }
    }
    for (place, why) in &look.unreadable {
        findings.push(finding(Kind::Unreadable, place.name(), why.clone()));
    }
    if look.copies.is_empty() {
        if look.unreadable.is_empty() && row.is_some() {
            let detail = "in the index, and in no tier".to_owned();
            findings.push(finding(Kind::Lost, "index".to_owned(), detail));
        }
        return findings;
    }
    for place in &look.missing {
        let detail = "another tier has it".to_owned();
        findings.push(finding(Kind::Missing, place.name(), detail));
    }
    let index = "index".to_owned();
    if row.is_none() && look.truth.is_some() {
        let detail = "kept, and not in the index".to_owned();
        findings.push(finding(Kind::NotIndexed, index, detail));
    } else if look.index_differs {
        let detail = if look.doubtful {
            "all copies are what stands beside them, and the index has another SHA-256"
        } else {
            "the bytes are right by the zip's own hash"
        };
        let detail = detail.to_owned();
        findings.push(finding(Kind::IndexDiffers, index, detail));
    }
    findings
}
