//! Down the list: what is found, what is promoted, what is passed through.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use tokio::{runtime::Handle, task::spawn_blocking};

use super::{Content, Found, Proven, Tiers};
use crate::{
    Digest, Frames, Kept, Key, Pull,
    pull::PullReader,
    tier::{Fetched, ObjectTier, Source, Tier, TierError, TierErrorKind, WHOLE_BYTES, count},
};

/// How often a part is asked for, should the object be another one meanwhile.
const PARTS_TRIED: usize = 2;

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

    /// Whether a bucket has the object, and [`find`](Self::find) did not find it since its bytes were not what they should
    /// be: there, or on the line.
    pub async fn is_damaged(&self, key: &Key) -> bool {
        for tier in self.tiers() {
            if let Tier::Object(object) = &**tier
                && object.is_damaged(key).await
            {
                return true;
            }
        }
        false
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
        let hot = self.above.iter().filter(|tier| tier.takes(kept.len()));
        let hot: Vec<Arc<Tier>> = hot.cloned().collect();
        if hot.is_empty() {
            return;
        }
        let (tiers, key, kept) = (Arc::clone(self), key.clone(), Arc::clone(kept));
        self.in_background(async move { tiers.lift_into(&hot, &key, &kept).await });
    }

    /// Writes what the disk alone has just got to the tiers that forget, in the background. Where another tier keeps,
    /// [`settle`](Self::settle) does.
    pub fn share(self: &Arc<Self>, key: &Key) {
        let hot: Vec<Arc<Tier>> = self.tiers().filter(|tier| !tier.keeps()).cloned().collect();
        if hot.is_empty() || self.keeps_elsewhere() {
            return;
        }
        let (tiers, key) = (Arc::clone(self), key.clone());
        self.in_background(async move {
            if let Ok(Some(kept)) = tiers.store.get(&key).await {
                tiers.lift_into(&hot, &key, &kept).await;
            }
        });
    }

    async fn lift_into(&self, hot: &[Arc<Tier>], key: &Key, kept: &Arc<Kept>) {
        let (store, read, kept) = (Arc::clone(&self.store), key.clone(), Arc::clone(kept));
        let looked = spawn_blocking(move || {
            let bytes = kept.whole()?;
            // A copy, so that no mapping is held while it is sent.
            let copy = Bytes::copy_from_slice(bytes);
            let noted = store.noted(&read).ok().flatten();
            Some((Digest::of(&copy), noted, copy))
        });
        let Ok(Some((digest, noted, bytes))) = looked.await else {
            return;
        };
        if noted
            .as_ref()
            .is_some_and(|noted| !noted.same_bytes(&digest))
        {
            self.disk_is_bad(key).await;
            return;
        }
        let digest = noted.unwrap_or(digest);
        for tier in hot {
            self.hand_up(tier, key, &bytes.clone().into(), &digest)
                .await;
        }
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
    /// for the first time, and its parts are then those of that very object: one request each. `opened` is the whole, where
    /// it was asked for already.
    pub async fn part(
        &self,
        key: &Key,
        range: Range<u64>,
        opened: Option<Pull>,
    ) -> Result<Option<Frames>, TierError> {
        let (mut failed, mut opened) = (None, opened);
        for tier in &self.below {
            let Tier::Object(object) = &**tier else {
                continue;
            };
            match self.part_of(tier, object, key, &range, &mut opened).await {
                Ok(Some(frames)) => return Ok(Some(frames)),
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    async fn part_of(
        &self,
        tier: &Arc<Tier>,
        object: &ObjectTier,
        key: &Key,
        range: &Range<u64>,
        opened: &mut Option<Pull>,
    ) -> Result<Option<Frames>, TierError> {
        for _ in 0..PARTS_TRIED {
            let proven = match self.proven.get(key) {
                Some(proven) => proven,
                None => match self.prove(tier, object, key, opened.take()).await? {
                    Some(proven) => proven,
                    None => return Ok(None),
                },
            };
            let part = object.open(key, Some(range.clone()), Some(&proven.mark));
            if let Some(mut part) = part.await? {
                self.used(key);
                // A client may be slow: it must not hold a slot of the tier.
                part.slot = None;
                let len = range.end.saturating_sub(range.start);
                let reader = PullReader::part(part);
                return Ok(Some(Frames::pull(reader, len, &Handle::current())));
            }
            // Another object by now.
            self.proven.invalidate(key);
        }
        Ok(None)
    }

    /// Reads an object to its end and compares it.
    async fn prove(
        &self,
        tier: &Arc<Tier>,
        object: &ObjectTier,
        key: &Key,
        opened: Option<Pull>,
    ) -> Result<Option<Arc<Proven>>, TierError> {
        let pull = if let Some(pull) = opened.filter(|pull| pull.is_of(tier)) {
            pull
        } else {
            let Some(opened) = object.open(key, None, None).await? else {
                return Ok(None);
            };
            let gatherer = Arc::clone(&self.gatherer);
            Pull::new(Arc::clone(tier), key.clone(), opened, gatherer)
        };
        let (Some(mark), Some(digest)) = (pull.mark(), pull.digest().cloned()) else {
            return Ok(None);
        };
        if !pull.check().await? {
            return Ok(None);
        }
        let proven = Arc::new(Proven { mark, digest });
        self.proven.insert(key.clone(), Arc::clone(&proven));
        Ok(Some(proven))
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
