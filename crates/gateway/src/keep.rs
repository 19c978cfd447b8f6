//! What is kept, in whichever tier: found there, pulled from there, kept there.
//!
//! Where the data folder is alone nothing here is used on the way of a request: it is read and written directly.

use std::{
    slice,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use gomod::h1::H1;
use replicas::{LEASE, Lease, Leases};
use store::{
    Committed, Content as Keeping, Digest, Found, Frames, KeepError, Key, Pull, Spooled,
    tier::TierError,
};
use tokio::time::Instant;

use crate::{
    answer::{Answer, Content, Life, Lower},
    artifact::Artifact,
    flight::Teller,
    gateway::Gateway,
    record::Outcome,
    refusal::{Code, Refusal},
    results::{Commit, Incident},
};

/// How often a large object is asked for that broke off on its way, or was set aside.
const PULLS: usize = 2;

/// Longest time that another replica's fetch is waited for.
const TURN: Duration = Duration::from_mins(2);

/// What a flight found of an artifact before anybody upstream is asked.
#[derive(Debug)]
pub(crate) enum Kept {
    /// Its waiters were told.
    Told,
    /// It is nowhere.
    Absent,
    /// A tier has it, and its bytes did not arrive, or not as they should be. Whoever else has it may be asked.
    Broken(Refusal),
    /// A tier that keeps could not be asked: it may be there.
    Unknown(Refusal),
}

impl Gateway {
    /// Tells a flight's waiters what is kept of an artifact, in whichever tier.
    pub(crate) async fn tell_kept(
        self: &Arc<Self>,
        artifact: &Artifact,
        key: &Key,
        teller: &Teller<Answer>,
    ) -> Kept {
        if let Some(digest) = self.tiers.proven(key) {
            // Read when it is sent, by a request for just that.
            let lower = Lower {
                key: key.clone(),
                size: digest.size,
                validator: digest.validator(),
                opened: Mutex::new(None),
            };
            teller.tell(Ok(lower_answer(artifact, Content::Lower(Arc::new(lower)))));
            return Kept::Told;
        }
        for _ in 0..PULLS {
            let pull = match self.tiers.find(key).await {
                Found::Kept(kept) => {
                    teller.tell(Ok(Answer::kept(kept, artifact.part.media())));
                    return Kept::Told;
                }
                Found::Absent if self.tiers.is_damaged(key).await => {
                    return Kept::Broken(damaged(artifact));
                }
                Found::Absent => return Kept::Absent,
                Found::Unknown(error) => {
                    tracing::warn!(%key, %error, "storage cannot be asked");
                    return Kept::Unknown(unavailable(artifact, &error.brief()));
                }
                // Somebody else put it there, and nothing says what it must be: it is fetched as if it were not there.
                Found::Pull(pull) if pull.digest().is_none() => {
                    tracing::warn!(%key, tier = %pull.tier(), "an object that modgate did not put there is not used");
                    return Kept::Absent;
                }
                Found::Pull(pull) => pull,
            };
            match self.pull(artifact, key, pull, teller).await {
                Ok(()) => return Kept::Told,
                Err(error) => tracing::warn!(%key, error, "a kept object did not arrive"),
            }
        }
        Kept::Broken(damaged(artifact))
    }

    /// The same for those who want no fetch.
    pub(crate) async fn tell_only_kept(
        self: &Arc<Self>,
        artifact: &Artifact,
        key: &Key,
        teller: &Teller<Answer>,
    ) {
        let refusal = match self.tell_kept(artifact, key, teller).await {
            Kept::Told => return,
            Kept::Absent | Kept::Broken(_) => {
                Refusal::new(Code::NotCached, artifact.to_string(), "not kept here")
            }
            Kept::Unknown(refusal) => refusal,
        };
        teller.tell(Err(Arc::new(refusal)));
    }

    /// Brings a large object here: into a spool that the waiters read along, and to the disk. Without a disk, or
    /// without room on it, each waiter reads it for itself.
    async fn pull(
        self: &Arc<Self>,
        artifact: &Artifact,
        key: &Key,
        pull: Pull,
        teller: &Teller<Answer>,
    ) -> Result<(), String> {
        let tell = |content| teller.tell(Ok(lower_answer(artifact, content)));
        if let Some(address) = self.tiers.address(key).await {
            tell(Content::Elsewhere(address));
            return Ok(());
        }
        let size = pull.size();
        let writer = if self.tiers.disk_takes(size) {
            let writer = self.store.spool(Some(size)).await;
            writer
                .inspect_err(|error| {
                    self.metrics.incidents.count(Incident::DiskFull);
                    tracing::error!(%key, %error, "no room on the disk: sent from the tier below");
                })
                .ok()
        } else {
            None
        };
        let Some(writer) = writer else {
            let validator = pull.digest().map(Digest::validator).unwrap_or_default();
            tell(Content::Lower(Arc::new(Lower {
                key: key.clone(),
                size,
                validator,
                opened: Mutex::new(Some(pull.without_slot())),
            })));
            return Ok(());
        };
        tell(Content::Spool(writer.spool()));
        let (mut spooled, digest) = pull
            .into_spool(writer)
            .await
            .map_err(|error| error.to_string())?;
        spooled.release();
        // Not on the disk is no loss: the tier below has it.
        let settled = self
            .tiers
            .settle(Keeping::Spooled(spooled), key, &digest)
            .await;
        if let Err(error) = settled {
            self.metrics.commits.count(Commit::Failed);
            tracing::error!(%key, %error, "cannot be written to the disk; the tier below has it");
        }
        Ok(())
    }

    /// The bytes of an object that lies in a lower tier, for one client.
    pub(crate) async fn lower_frames(
        &self,
        lower: &Lower,
        part: Option<(u64, u64)>,
    ) -> Result<Frames, Refusal> {
        let what = lower.key.as_str();
        let failed = |why: String| Refusal::new(Code::StorageUnavailable, what, why);
        let broken = |error: TierError| {
            tracing::warn!(%what, %error, "storage cannot be asked");
            failed(error.brief())
        };
        let opened = lower
            .opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let frames = if let Some((from, to)) = part {
            let part = self.tiers.part(&lower.key, from..to, opened);
            part.await.map_err(broken)?
        } else if let Some(frames) = opened.and_then(Pull::frames) {
            Some(frames)
        } else {
            match self.tiers.find(&lower.key).await {
                Found::Kept(kept) => Some(kept.frames(0, kept.len())),
                Found::Pull(pull) => pull.frames(),
                Found::Absent => {
                    self.tiers.not_proven(&lower.key);
                    None
                }
                Found::Unknown(error) => return Err(broken(error)),
            }
        };
        frames.ok_or_else(|| failed("it is not there any more; ask again".to_owned()))
    }

    /// Keeps what passed its check in the tiers that keep, before its last byte goes to anybody. Nothing is to be done
    /// where only the disk keeps. `false`: other bytes are kept under this key already, and those are to be served.
    pub(crate) async fn persist(
        &self,
        artifact: &Artifact,
        content: &Keeping,
        key: &Key,
        digest: &Digest,
    ) -> Result<bool, Refusal> {
        let mut persisted = self.tiers.persist(content, key, digest).await;
        if let Err(KeepError::Storage(error)) = &persisted {
            // A breaker that just opened, a connection that was cut: once more, since a client is about to be refused.
            tracing::warn!(%key, %error, "not kept at the first try");
            persisted = self.tiers.persist(content, key, digest).await;
        }
        match persisted {
            Ok(_) => Ok(true),
            Err(KeepError::Differs(error)) => {
                self.metrics.incidents.count(Incident::OtherBytesKept);
                tracing::error!(%artifact, part = artifact.part.ending(), %error, "SECURITY: other bytes are kept of this version already; they stay");
                Ok(false)
            }
            Err(KeepError::Storage(error)) => {
                self.metrics.commits.count(Commit::Failed);
                tracing::warn!(%key, %error, "not kept at the second try");
                Err(unavailable(artifact, &error.brief()))
            }
            Err(KeepError::Disk(error)) => {
                self.metrics.commits.count(Commit::Failed);
                Err(unavailable(artifact, &error))
            }
        }
    }

    /// A small file that is kept beside an artifact; that it could not be is told in the log.
    pub(crate) async fn keep_beside(&self, key: &Key, bytes: Bytes) {
        let digest = Digest::of(&bytes);
        let kept = self.tiers.keep(Keeping::Bytes(bytes), key, &digest).await;
        if let Err(error) = kept {
            tracing::warn!(%key, %error, "cannot be kept");
        }
    }
}

/// A large object of a lower tier.
fn lower_answer(artifact: &Artifact, content: Content) -> Answer {
    Answer::new(
        content,
        artifact.part.media(),
        Life::Immutable,
        Outcome::Hit,
    )
}

/// New versions must be kept where the configuration says, or they are not served.
fn unavailable(artifact: &Artifact, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(
        Code::StorageUnavailable,
        artifact.to_string(),
        format!("cannot be kept now: {error}"),
    )
    .hint("the storage behind this gateway is in trouble; what it has at hand is still served: try again soon")
}

/// What is kept of it cannot be served, and nobody else has it.
pub(crate) fn damaged(artifact: &Artifact) -> Refusal {
    let why = "it is kept, but its bytes in the storage, or on the way from there, are not what they should be, and nobody else has it";
    Refusal::new(Code::StorageUnavailable, artifact.to_string(), why).hint(
        "try again; if it stays so the administrator finds out more by `modgate fsck`, and takes it out by `modgate gc --match`",
    )
}

/// Whose turn it is to ask upstream.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Ours, for as long as the lease is held; without one there are no other replicas, or they cannot agree.
    Ours(Option<Lease>),
    /// Another replica fetched it, and the waiters were told.
    Told,
}

impl Gateway {
    /// Waits until no other replica fetches the artifact, or has kept it.
    pub(crate) async fn turn(
        self: &Arc<Self>,
        artifact: &Artifact,
        key: &Key,
        teller: &Teller<Answer>,
    ) -> Turn {
        let Some(leases) = self.leases() else {
            return Turn::Ours(None);
        };
        let end = Instant::now() + TURN;
        loop {
            let lease = match leases.acquire(key.as_str(), LEASE).await {
                Ok(lease) => lease,
                Err(error) => {
                    tracing::warn!(%key, %error, "fetched without a lease");
                    return Turn::Ours(None);
                }
            };
            if lease.is_none() {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Turn::Ours(None);
                }
                if let Err(error) = leases.wait(key.as_str(), left).await {
                    tracing::warn!(%key, %error, "fetched without a lease");
                    return Turn::Ours(None);
                }
            }
            // Whoever held it may have kept it just now.
            if matches!(self.tell_kept(artifact, key, teller).await, Kept::Told) {
                return Turn::Told;
            }
            if lease.is_some() {
                return Turn::Ours(lease);
            }
        }
    }

    /// The leases, if there are other replicas.
    pub(crate) fn leases(&self) -> Option<&Leases> {
        let leases = &self.replicas.get()?.leases;
        (!leases.alone()).then_some(leases)
    }

    /// Hands out a small artifact when it is kept where it must be.
    pub(crate) async fn land_in_tiers(
        self: &Arc<Self>,
        artifact: &Artifact,
        bytes: Bytes,
        hash: Option<H1>,
        answer: Answer,
        teller: &Teller<Answer>,
    ) -> Result<(), Refusal> {
        let key = artifact.key()?;
        let content = Keeping::Bytes(bytes);
        let digest = self.digest_of(artifact, &content, hash).await?;
        if !self.persist(artifact, &content, &key, &digest).await? {
            return match self.tell_kept(artifact, &key, teller).await {
                Kept::Told => Ok(()),
                Kept::Unknown(refusal) => Err(refusal),
                Kept::Absent | Kept::Broken(_) => {
                    let why =
                        "other bytes are kept of this version, and are not what they should be";
                    Err(unavailable(artifact, &why).hint(
                        "the administrator can bring it in order with `modgate fsck --repair`, or remove it with `modgate gc --match`",
                    ))
                }
            };
        }
        teller.tell(Ok(answer));
        self.settle_in_tiers(artifact, content, &key, &digest).await;
        Ok(())
    }

    /// Gives the waiters of a spool its last part when it is kept where it must be. `proven`: its hash was compared.
    pub(crate) async fn land_spooled_in_tiers(
        self: &Arc<Self>,
        artifact: &Artifact,
        spooled: Spooled,
        hash: H1,
        proven: bool,
        teller: &Teller<Answer>,
    ) -> Result<(), Refusal> {
        let key = artifact.key()?;
        let mut content = Keeping::Spooled(spooled);
        let persisted = async {
            let digest = self.digest_of(artifact, &content, Some(hash)).await?;
            let ours = self.persist(artifact, &content, &key, &digest).await?;
            // Another zip of the same files may have been kept first: both are what the checksum database says.
            if !ours && !proven {
                return Err(unavailable(
                    artifact,
                    &"other bytes are kept of this version",
                ));
            }
            Ok(ours.then_some(digest))
        };
        match (persisted.await, &mut content) {
            (Ok(digest), Keeping::Spooled(spooled)) => {
                spooled.release();
                if let Some(digest) = digest {
                    self.settle_in_tiers(artifact, content, &key, &digest).await;
                }
                Ok(())
            }
            (Err(refusal), _) => {
                teller.tell(Err(Arc::new(refusal.clone())));
                if let Keeping::Spooled(spooled) = content {
                    spooled.refuse(&refusal.to_string());
                }
                Err(refusal)
            }
            (Ok(_), Keeping::Bytes(_)) => Ok(()),
        }
    }

    /// Whether an artifact is kept, in whichever tier.
    pub(crate) async fn is_kept(&self, key: &Key) -> bool {
        matches!(self.tiers.find(key).await, Found::Kept(_) | Found::Pull(_))
    }

    /// Keeps what was imported where it must be.
    pub(crate) async fn import_into_tiers(
        self: &Arc<Self>,
        artifact: &Artifact,
        content: Keeping,
        hash: Option<H1>,
    ) -> Result<Committed, Refusal> {
        let key = artifact.key()?;
        let digest = self.digest_of(artifact, &content, hash).await?;
        if !self.persist(artifact, &content, &key, &digest).await? {
            return Err(unavailable(
                artifact,
                &"other bytes are kept of this version",
            ));
        }
        self.settle_in_tiers(artifact, content, &key, &digest).await;
        Ok(Committed::New)
    }

    async fn digest_of(
        &self,
        artifact: &Artifact,
        content: &Keeping,
        hash: Option<H1>,
    ) -> Result<Digest, Refusal> {
        let digest = content
            .digest()
            .await
            .map_err(|error| unavailable(artifact, &error))?;
        Ok(match hash {
            Some(hash) => digest.with_h1(hash.to_string()),
            None => digest,
        })
    }

    /// Writes what is safe already to the disk and the hot tiers, and notes it.
    pub(crate) async fn settle_in_tiers(
        self: &Arc<Self>,
        artifact: &Artifact,
        content: Keeping,
        key: &Key,
        digest: &Digest,
    ) {
        let settled = self.tiers.settle(content, key, digest).await;
        if let Err(error) = settled {
            tracing::error!(%key, %error, "cannot be written to the disk; it is kept elsewhere");
        }
        if let Some(h1) = &digest.h1
            && let Ok(beside) = Key::new(format!("{key}hash"))
        {
            self.keep_beside(&beside, Bytes::copy_from_slice(h1.as_bytes()))
                .await;
        }
        self.metrics.commits.count(Commit::Kept);
        let now = now_ms();
        let object = records::Object {
            key: key.as_str().to_owned(),
            size: digest.size,
            sha256: digest.sha256,
            h1: digest.h1.as_deref().map(str::to_owned),
            kept_at_ms: now,
            used_at_ms: now,
            pinned: false,
        };
        // At once, since other replicas make their lists of it.
        if let Err(error) = self.records.note(slice::from_ref(&object)).await {
            tracing::warn!(%key, %error, "cannot note what is kept; it is noted later");
            self.index.again(object);
        }
        self.changed(&artifact.module);
    }
}

pub(crate) fn now_ms() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
