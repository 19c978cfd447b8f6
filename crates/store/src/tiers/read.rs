//! Down the list: what is found, what is promoted, what is passed through.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use tokio::{runtime::Handle, task::spawn_blocking};

use super::{Content, Found, Tiers};
use crate::{
    Digest, Frames, Kept, Key, Pull,
    pull::PullReader,
    tier::{Fetched, Opened, Source, Tier, TierError, TierErrorKind, WHOLE_BYTES, count},
};

impl Tiers {
    /// Looks for an object, from the top.
    pub async fn find(self: &Arc<Self>, key: &Key) -> Found {
        let mut unknown = None;
        if !self.above.is_empty() {
            if let Some(kept) = self.store.at_hand(key.to_string()) {
                return Found::Kept(kept);
            }
            for tier in &self.above {
                if let Some(found) = self.ask(tier, key, &mut unknown).await {
                    return found;
                }
            }
        }
        match self.store.get(key).await {
            Ok(Some(kept)) => {
                self.used(key);
                self.lift(key, &kept);
                return Found::Kept(kept);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%key, %error, "cannot read what is kept");
                unknown = Some(TierError::new(
                    &"disk".into(),
                    TierErrorKind::Unavailable,
                    error,
                ));
            }
        }
        if let Some(kept) = self.journalled(key).await {
            return Found::Kept(kept);
        }
        for tier in &self.below {
            if let Some(found) = self.ask(tier, key, &mut unknown).await {
                return found;
            }
        }
        unknown.map_or(Found::Absent, Found::Unknown)
    }

    async fn ask(
        self: &Arc<Self>,
        tier: &Arc<Tier>,
        key: &Key,
        unknown: &mut Option<TierError>,
    ) -> Option<Found> {
        let fetched = tier.fetch(key, WHOLE_BYTES).await;
        if let Ok(Some(_)) = &fetched {
            self.used(key);
        }
        match fetched {
            Ok(Some(Fetched::Whole(bytes, digest))) => {
                let kept = Arc::new(Kept::memory(bytes.clone(), &digest));
                if self.gatherer.takes(kept.len()) {
                    self.store.make_hot(key, &kept);
                }
                self.promote(tier, key, bytes, digest);
                Some(Found::Kept(kept))
            }
            Ok(Some(Fetched::Stream(opened))) => Some(Found::Pull(Pull::new(
                Arc::clone(tier),
                key.clone(),
                opened,
                Arc::clone(&self.gatherer),
            ))),
            Ok(None) => None,
            // It is in quarantine by now.
            Err(error) if error.kind == TierErrorKind::Corrupt => None,
            Err(error) => {
                tracing::debug!(%key, %error, "not asked");
                if tier.keeps() {
                    *unknown = Some(error);
                }
                None
            }
        }
    }

    async fn journalled(self: &Arc<Self>, key: &Key) -> Option<Arc<Kept>> {
        let journal = self.journal.as_ref()?;
        for entry in journal.find(key) {
            let (reader, read) = (Arc::clone(journal), entry.clone());
            match spawn_blocking(move || reader.kept(&read)).await {
                Ok(Ok(Some(kept))) => {
                    let kept = Arc::new(kept);
                    self.store.make_hot(key, &kept);
                    if !journal.has(entry.id) {
                        // It left meanwhile, and may have been set aside.
                        self.store.let_go(key.as_str());
                    }
                    return Some(kept);
                }
                // Whoever works on it sees it, too.
                Ok(Ok(None)) if journal.take_this(entry.id) => {
                    self.journal_is_bad(journal, &entry).await;
                }
                // It is being written, or left just now; trouble is told when it is to be written to its tier.
                _ => {}
            }
        }
        None
    }

    /// Writes an object that was found in `from` to the tiers above it, in the background.
    fn promote(self: &Arc<Self>, from: &Arc<Tier>, key: &Key, bytes: Bytes, digest: Digest) {
        let below_disk = self.below.iter().any(|tier| Arc::ptr_eq(tier, from));
        let upper: Vec<Arc<Tier>> = self
            .tiers()
            .take_while(|tier| !Arc::ptr_eq(tier, from))
            .cloned()
            .collect();
        let to_disk = below_disk && self.disk_takes(digest.size);
        if upper.is_empty() && !to_disk {
            return;
        }
        let (tiers, key) = (Arc::clone(self), key.clone());
        self.in_background(async move {
            if to_disk {
                let content = Content::Bytes(bytes.clone());
                // Said and counted there.
                let _ = tiers.to_disk(&key, content, &digest).await;
            }
            for tier in upper {
                tiers
                    .hand_up(&tier, &key, &bytes.clone().into(), &digest)
                    .await;
            }
        });
    }

    /// Writes a file of the disk tier to the hot tiers above it, in the background.
    fn lift(self: &Arc<Self>, key: &Key, kept: &Arc<Kept>) {
        if self.above.is_empty() || !self.above.iter().any(|tier| tier.takes(kept.len())) {
            return;
        }
        let (tiers, key, kept) = (Arc::clone(self), key.clone(), Arc::clone(kept));
        self.in_background(async move {
            let Some(bytes) = kept.whole().cloned() else {
                return;
            };
            let (reader, read) = (Arc::clone(&tiers), key.clone());
            let looked = spawn_blocking(move || {
                let digest = Digest::of(&bytes);
                let noted = reader.store.noted(&read).ok().flatten();
                // A copy, so that no mapping is held while it is sent.
                (digest, noted, Bytes::copy_from_slice(&bytes))
            });
            let Ok((digest, noted, bytes)) = looked.await else {
                return;
            };
            if noted
                .as_ref()
                .is_some_and(|noted| !noted.same_bytes(&digest))
            {
                tiers.disk_is_bad(&key).await;
                return;
            }
            let digest = noted.unwrap_or(digest);
            for tier in &tiers.above {
                tiers
                    .hand_up(tier, &key, &bytes.clone().into(), &digest)
                    .await;
            }
        });
    }

    /// One write of a promotion. What the tier says is in its counters; nobody waits for it.
    pub(super) async fn hand_up(&self, tier: &Tier, key: &Key, source: &Source, digest: &Digest) {
        if !tier.takes(digest.size) {
            return;
        }
        let put = tier.put(key, source, digest).await;
        if matches!(&put, Err(error) if error.kind == TierErrorKind::Differs) && !tier.keeps() {
            // A hot tier with other bytes than those that are kept must not answer again.
            let _ = tier.remove(key).await;
        }
    }

    pub(super) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let Ok(permit) = Arc::clone(&self.promotions).try_acquire_owned() else {
            count(&self.counters.promotions_skipped);
            return;
        };
        self.tasks.spawn(async move {
            work.await;
            drop(permit);
        });
    }

    /// `range` of an object that lies in a lower tier, passed through. `None` if it is not there, or in a tier that
    /// cannot do so. `range` must lie within the object.
    ///
    /// A part cannot be compared with anything. So the whole is read and compared when this process sees the object
    /// for the first time, and its parts are then those of that very object.
    pub async fn part(&self, key: &Key, range: Range<u64>) -> Result<Option<Frames>, TierError> {
        let mut failed = None;
        for tier in &self.below {
            let Tier::Object(object) = &**tier else {
                continue;
            };
            let mark = match self.good_mark(tier, key).await {
                Ok(Some(mark)) => mark,
                Ok(None) => continue,
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            let len = range.end.saturating_sub(range.start);
            match object.open(key, Some(range.clone()), Some(&mark)).await {
                Ok(Some(mut opened)) => {
                    self.used(key);
                    // A client may be slow: it must not hold a slot of the tier.
                    opened.slot = None;
                    return Ok(Some(Frames::pull(
                        PullReader::part(opened),
                        len,
                        &Handle::current(),
                    )));
                }
                // Another object by now.
                Ok(None) => self.marks.invalidate(key),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// The mark of an object that was compared as a whole.
    async fn good_mark(&self, tier: &Arc<Tier>, key: &Key) -> Result<Option<Box<str>>, TierError> {
        if let Some(mark) = self.marks.get(key) {
            return Ok(Some(mark));
        }
        let Some(opened) = self.open_large(tier, key).await? else {
            return Ok(None);
        };
        let Some(mark) = opened.mark.clone() else {
            return Ok(None);
        };
        let gatherer = Arc::clone(&self.gatherer);
        if !Pull::new(Arc::clone(tier), key.clone(), opened, gatherer)
            .check()
            .await?
        {
            return Ok(None);
        }
        self.marks.insert(key.clone(), mark.clone());
        Ok(Some(mark))
    }

    async fn open_large(&self, tier: &Tier, key: &Key) -> Result<Option<Opened>, TierError> {
        match tier {
            Tier::Object(object) => object.open(key, None, None).await,
            Tier::Redis(_) => Ok(None),
        }
    }

    /// An address at which a client may read the object from object storage itself, where that is wanted and it is
    /// there.
    pub async fn address(&self, key: &Key) -> Option<String> {
        for tier in self.tiers() {
            let Tier::Object(object) = &**tier else {
                continue;
            };
            if !object.redirects() {
                continue;
            }
            if let Ok(Some(_)) = object.head(key).await
                && let Ok(Some(address)) = object.address(key).await
            {
                self.used(key);
                return Some(address);
            }
        }
        None
    }
}
