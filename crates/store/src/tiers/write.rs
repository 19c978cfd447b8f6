//! What is kept, and where first; what is forgotten.

use std::{io, sync::Arc};

use tokio::task::spawn_blocking;

use super::{Content, KeepError, Tiers};
use crate::{
    Committed, Digest, Kept, Key,
    journal::{AddError, Incoming},
    tier::{Persist, Tier, TierError, TierErrorKind, WHOLE_BYTES, count},
};

/// What the index says of an object that another process removed, or put there anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It was removed.
    Removed,
    /// It is kept, with this SHA-256.
    Kept([u8; 32]),
    /// It is not the index of all: what the tiers that keep have counts.
    Nothing,
}

impl Tiers {
    /// Keeps what was judged, everywhere: [`persist`](Self::persist), then [`settle`](Self::settle).
    pub async fn keep(
        self: &Arc<Self>,
        content: Content,
        key: &Key,
        digest: &Digest,
    ) -> Result<Committed, KeepError> {
        let persisted = self.persist(&content, key, digest).await?;
        let settled = self.settle(content, key, digest).await;
        if self.keeps_elsewhere() {
            return Ok(persisted);
        }
        settled.map_err(KeepError::Disk)
    }

    /// Keeps what was judged in the tiers that keep, or in the journal for them: before its last byte goes out.
    /// Nothing is to be done where only the disk keeps.
    ///
    /// On [`KeepError::Differs`] what was kept before stays: it must be served, not this.
    pub async fn persist(
        self: &Arc<Self>,
        content: &Content,
        key: &Key,
        digest: &Digest,
    ) -> Result<Committed, KeepError> {
        let mut committed = Committed::Present;
        let mut failed = Vec::new();
        let mut safe = false;
        for tier in self.keepers() {
            let later =
                matches!(&**tier, Tier::Object(object) if object.persist() == Persist::Async);
            if later && self.write_later(tier, content, key, digest).await? {
                safe = true;
                committed = Committed::New;
                continue;
            }
            match tier.put(key, &content.source(), digest).await {
                Ok(how) => {
                    safe = true;
                    if how == Committed::New {
                        committed = how;
                    }
                }
                Err(error) if error.kind == TierErrorKind::Differs => {
                    return Err(KeepError::Differs(error));
                }
                Err(error) => failed.push((tier, error)),
            }
        }
        for (tier, error) in failed {
            // It is safe elsewhere: this tier gets it when it is back.
            if !safe || !self.write_later(tier, content, key, digest).await? {
                return Err(KeepError::Storage(error));
            }
        }
        Ok(committed)
    }

    /// Writes an entry of the journal; `false` if there is no room for one.
    async fn write_later(
        self: &Arc<Self>,
        tier: &Arc<Tier>,
        content: &Content,
        key: &Key,
        digest: &Digest,
    ) -> Result<bool, KeepError> {
        let Some(journal) = &self.journal else {
            return Ok(false);
        };
        let (tiers, name, at, digest) = (
            Arc::clone(self),
            Arc::clone(tier.place()),
            key.clone(),
            digest.clone(),
        );
        let journal = Arc::clone(journal);
        let incoming = Incoming::of(content).map_err(KeepError::Disk)?;
        let added =
            spawn_blocking(move || journal.add(&tiers.store, &name, &at, incoming, &digest));
        let added = added
            .await
            .unwrap_or_else(|error| Err(AddError::Io(io::Error::other(error))));
        match added {
            Ok(()) => Ok(true),
            Err(AddError::Full) => {
                tracing::warn!(tier = %tier.name(), "journal full: written through");
                Ok(false)
            }
            Err(AddError::Differs) => {
                let what = format_args!("{key}, in the journal");
                let error = TierError::new(tier.name(), TierErrorKind::Differs, what);
                tracing::error!(%error, "SECURITY: other bytes under this key");
                Err(KeepError::Differs(error))
            }
            Err(AddError::Io(error)) => {
                tracing::error!(%key, %error, "cannot write to the journal");
                Ok(false)
            }
        }
    }

    /// Keeps on the disk, and in memory and the hot tiers what is small: after its last byte went out. An error
    /// means that the disk does not have it, which is a loss only where nothing else keeps.
    pub async fn settle(
        self: &Arc<Self>,
        content: Content,
        key: &Key,
        digest: &Digest,
    ) -> io::Result<Committed> {
        let small = digest.size <= WHOLE_BYTES;
        let hot: Vec<Arc<Tier>> = self
            .tiers()
            .filter(|tier| !tier.keeps() && tier.takes(digest.size))
            .cloned()
            .collect();
        let to_disk = self.disk_takes(digest.size);
        let bytes = if small && (!hot.is_empty() || !to_disk) {
            content.source().whole(WHOLE_BYTES).await.ok()
        } else {
            None
        };
        let settled = if to_disk {
            self.to_disk(key, content, digest).await
        } else {
            Ok(Committed::New)
        };
        if let Some(bytes) = bytes {
            if (!to_disk || settled.is_err()) && self.gatherer.takes(digest.size) {
                let kept = Kept::memory(bytes.clone(), digest);
                self.store.make_hot(key, &Arc::new(kept));
            }
            let (tiers, key, digest) = (Arc::clone(self), key.clone(), digest.clone());
            self.in_background(async move {
                for tier in hot {
                    tiers
                        .hand_up(&tier, &key, &bytes.clone().into(), &digest)
                        .await;
                }
            });
        }
        settled
    }

    pub(super) async fn to_disk(
        self: &Arc<Self>,
        key: &Key,
        content: Content,
        digest: &Digest,
    ) -> io::Result<Committed> {
        let size = digest.size;
        let (store, at, digest) = (Arc::clone(&self.store), key.clone(), digest.clone());
        let noted = !self.is_alone();
        let placed = spawn_blocking(move || {
            let digest = noted.then_some(&digest);
            match content {
                Content::Bytes(bytes) => store.put_small_as(&at, &bytes, digest),
                Content::Spooled(spooled) => store.commit_as(spooled, &at, digest),
            }
        });
        let placed = placed.await.map_err(io::Error::other)?;
        match &placed {
            Ok(Committed::New) => self.arrived(size),
            Ok(Committed::Present) => {}
            Err(error) => {
                count(&self.counters.disk_refused);
                tracing::error!(%key, %error, "cannot write to the disk tier");
            }
        }
        placed
    }

    /// A file of the disk tier is not what it should be.
    pub(super) async fn disk_is_bad(&self, key: &Key) {
        count(&self.counters.disk_corrupt);
        tracing::error!(%key, "SECURITY: a kept file is not what it should be; moved to quarantine");
        let (store, at) = (Arc::clone(&self.store), key.clone());
        let moved = spawn_blocking(move || store.set_aside(&at)).await;
        if let Ok(Err(error)) = moved {
            tracing::error!(%key, %error, "cannot move it");
        }
    }

    /// Removes an object from the journal, every tier and the disk.
    pub async fn forget(self: &Arc<Self>, key: &Key) -> Result<(), KeepError> {
        if let Some(journal) = &self.journal {
            let (journal, entries) = (Arc::clone(journal), journal.take_all(key).await);
            let ended =
                spawn_blocking(move || entries.iter().try_for_each(|entry| journal.done(entry)));
            let ended = ended
                .await
                .map_err(io::Error::other)
                .and_then(|ended| ended);
            ended.map_err(KeepError::Disk)?;
        }
        for tier in self.tiers() {
            tier.remove(key).await.map_err(KeepError::Storage)?;
        }
        self.forget_here(key).await
    }

    /// Another process removed an object from everywhere it sees, or put it there anew: what is here goes unless it is
    /// what all have. `beside`: the object whose fate it shares, itself for most. Returns whether it was removed.
    pub async fn follow(
        self: &Arc<Self>,
        key: &Key,
        beside: &Key,
        said: Said,
    ) -> Result<bool, KeepError> {
        self.proven.invalidate(key);
        let noted = self.noted_here(key).await.map_err(KeepError::Disk)?;
        let noted = noted.filter(|_| key == beside);
        // Nobody writes it to a tier from here on.
        let waiting = match &self.journal {
            Some(journal) => journal.take_all(key).await,
            None => Vec::new(),
        };
        let judged = match said {
            Said::Removed => Ok((true, false)),
            Said::Kept(sha256) => Ok((false, noted.is_some_and(|noted| noted.sha256 != sha256))),
            // It waits to be written there.
            Said::Nothing if !waiting.is_empty() => Ok((false, false)),
            Said::Nothing => self.ask_keepers(beside, noted.as_ref()).await,
        };
        let removed = matches!(judged, Ok((true, _)));
        if let Some(journal) = &self.journal {
            let journal = Arc::clone(journal);
            let left = spawn_blocking(move || {
                waiting.iter().try_for_each(|entry| {
                    if removed {
                        return journal.done(entry);
                    }
                    journal.put_back(entry.id);
                    Ok(())
                })
            });
            let left = left.await.map_err(io::Error::other).and_then(|left| left);
            left.map_err(KeepError::Disk)?;
        }
        let (removed, differs) = judged?;
        if removed {
            for tier in self.tiers().filter(|tier| !tier.keeps()) {
                // A reader may have lifted it there again. One that is away forgets by itself.
                let _ = tier.remove(key).await;
            }
        }
        if removed || differs {
            self.forget_here(key).await?;
        }
        Ok(removed)
    }

    async fn noted_here(&self, key: &Key) -> io::Result<Option<Digest>> {
        let (store, key) = (Arc::clone(&self.store), key.clone());
        spawn_blocking(move || store.noted(&key))
            .await
            .map_err(io::Error::other)?
    }

    /// Whether no tier that keeps has the object, and whether one has other bytes than these.
    async fn ask_keepers(
        &self,
        key: &Key,
        noted: Option<&Digest>,
    ) -> Result<(bool, bool), KeepError> {
        let (mut removed, mut differs) = (true, false);
        for tier in self.keepers() {
            if let Some(head) = tier.head(key).await.map_err(KeepError::Storage)? {
                removed = false;
                differs |= matches!((noted, &head.digest), (Some(noted), Some(there)) if !noted.same_bytes(there));
            }
        }
        Ok((removed, differs))
    }

    /// Removes an object from memory and disk only.
    async fn forget_here(self: &Arc<Self>, key: &Key) -> Result<(), KeepError> {
        self.proven.invalidate(key);
        let (store, at) = (Arc::clone(&self.store), key.clone());
        let removed = spawn_blocking(move || store.remove(&at)).await;
        removed
            .map_err(io::Error::other)
            .and_then(|removed| removed)
            .map_err(KeepError::Disk)
    }
}
