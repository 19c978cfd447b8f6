//! The tiers that lie beside the data folder: a shared hot one, and object storage that keeps.
//!
//! Every object in a tier carries its [`Digest`]. What a tier hands out whole was compared with it; what it hands
//! out as a stream is compared by [`Pull`](crate::Pull) before its last part goes on. A write is a conditional
//! create: the same bytes twice are one object, other bytes under a taken key are [`TierErrorKind::Differs`].

mod connect;
mod gate;
mod listing;
mod object;
mod redis;
mod source;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use tokio::sync::OwnedSemaphorePermit;

pub use self::{
    connect::{ObjectSettings, Service, is_absent},
    gate::TierSnapshot,
    object::ObjectTier,
    redis::{RedisSettings, RedisTier, redis_client},
    source::Source,
};
pub(crate) use self::{
    gate::{Gate, count},
    object::hash_stream,
};
use crate::{Committed, Digest, Key};

/// Objects up to this length are read whole, longer ones are streamed.
pub const WHOLE_BYTES: u64 = 1 << 20;

/// How long a bucket may take to say that it is there.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// Longest text of an error that is passed on, in bytes.
const MAX_DETAIL: usize = 400;

/// A text that no log, error or metric shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What went wrong with a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TierErrorKind {
    /// It cannot be reached, answers with errors, or is taken out by its breaker.
    Unavailable,
    /// It did not answer in time.
    Timeout,
    /// It has no room.
    Full,
    /// It has other bytes under this key. An incident.
    Differs,
    /// What it has is not what it should be. An incident.
    Corrupt,
    /// It refuses: credentials, permissions, a bucket that is not there.
    Refused,
}

impl fmt::Display for TierErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "too slow",
            Self::Full => "full",
            Self::Differs => "has other bytes under this key",
            Self::Corrupt => "corrupt",
            Self::Refused => "refused",
        })
    }
}

/// Why a tier did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("storage tier {tier}: {kind}: {detail}")]
pub struct TierError {
    /// Its name.
    pub tier: Arc<str>,
    /// What went wrong.
    pub kind: TierErrorKind,
    /// More, for people. Has no secret in it.
    pub detail: Box<str>,
}

impl TierError {
    pub(crate) fn new(tier: &Arc<str>, kind: TierErrorKind, detail: impl fmt::Display) -> Self {
        let mut detail = detail.to_string();
        if detail.len() > MAX_DETAIL {
            let end = (0..=MAX_DETAIL)
                .rev()
                .find(|at| detail.is_char_boundary(*at));
            detail.truncate(end.unwrap_or_default());
        }
        Self {
            tier: Arc::clone(tier),
            kind,
            detail: detail.into(),
        }
    }

    /// What clients may know: the details name addresses.
    pub fn brief(&self) -> String {
        format!("storage tier {}: {}", self.tier, self.kind)
    }
}

/// An object that is being read from a tier.
pub struct Opened {
    /// Length of the whole object.
    pub size: u64,
    /// What its bytes must be; `None` for an object that somebody else put there.
    pub digest: Option<Digest>,
    /// The tier's own mark of this very object (an entity tag).
    pub(crate) mark: Option<Box<str>>,
    /// Its bytes, or those of the range asked for. Each step is within the tier's time limit.
    pub stream: BoxStream<'static, Result<Bytes, TierError>>,
    /// Held while the tier works for this read.
    pub(crate) slot: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("size", &self.size)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// What a read found.
#[derive(Debug)]
pub enum Fetched {
    /// A short object, compared with its digest.
    Whole(Bytes, Digest),
    /// A long object, or one without a digest.
    Stream(Opened),
}

/// What a tier knows of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its length.
    pub size: u64,
    /// What its bytes must be; `None` for an object that somebody else put there.
    pub digest: Option<Digest>,
    pub(crate) mark: Option<Box<str>>,
    /// Google's own mark, which its conditional writes go by.
    pub(crate) generation: Option<Box<str>>,
}

/// What a listing of a bucket has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InBucket {
    /// An object under a key.
    Object(Listed),
    /// One with a name that is no key: somebody else put it there.
    Stray(String),
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// Its length.
    pub size: u64,
    /// When it was written by the tier's clock, in seconds since 1970; 0 if unknown.
    pub modified: i64,
}

/// What a tier is made of.
#[derive(Clone, Debug)]
pub enum TierSettings {
    /// A shared hot tier.
    Redis(RedisSettings),
    /// Object storage.
    Object(ObjectSettings),
}

/// When a write to a tier that keeps has to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persist {
    /// Before the client has its last byte.
    #[default]
    Through,
    /// Later: it is in the local journal first.
    Async,
}

/// One tier.
#[derive(Debug)]
pub enum Tier {
    /// Redis: forgets when it likes.
    Redis(RedisTier),
    /// Object storage: keeps.
    Object(ObjectTier),
}

impl Tier {
    /// Makes the tier; connects when it is first used. Call it within the runtime.
    pub fn new(settings: &TierSettings) -> Result<Self, TierError> {
        match settings {
            TierSettings::Redis(settings) => RedisTier::new(settings).map(Self::Redis),
            TierSettings::Object(settings) => ObjectTier::new(settings).map(Self::Object),
        }
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        match self {
            Self::Redis(tier) => tier.gate(),
            Self::Object(tier) => tier.gate(),
        }
    }

    /// Puts it back whenever its breaker took it out. Works until it is dropped.
    pub async fn keep_up(self: Arc<Self>) {
        loop {
            self.gate().down().await;
            self.gate().heal(|| self.probe()).await;
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &Arc<str> {
        self.gate().name()
    }

    /// Where it lies: what stands in the journal for it, whatever its name is.
    pub fn place(&self) -> &Arc<str> {
        match self {
            Self::Redis(_) => self.name(),
            Self::Object(tier) => tier.place(),
        }
    }

    /// Whether it keeps what it is given.
    pub fn keeps(&self) -> bool {
        matches!(self, Self::Object(_))
    }

    /// Whether it takes an object of `size` bytes.
    pub fn takes(&self, size: u64) -> bool {
        match self {
            Self::Redis(tier) => size <= tier.max_entry(),
            Self::Object(_) => true,
        }
    }

    /// The object, whole if it has a digest and at most `max_whole` bytes, else as a stream.
    pub async fn fetch(&self, key: &Key, max_whole: u64) -> Result<Option<Fetched>, TierError> {
        let found = match self {
            Self::Redis(tier) => tier
                .get(key)
                .await
                .map(|found| found.map(|(bytes, digest)| Fetched::Whole(bytes, digest))),
            Self::Object(tier) => tier.fetch(key, max_whole).await,
        };
        let counters = &self.gate().counters;
        match &found {
            Ok(Some(_)) => count(&counters.hits),
            Ok(None) => count(&counters.misses),
            Err(_) => {}
        }
        found
    }

    /// What is known of the object without reading it.
    pub async fn head(&self, key: &Key) -> Result<Option<Head>, TierError> {
        match self {
            Self::Redis(tier) => tier.head(key).await,
            Self::Object(tier) => tier.head(key).await,
        }
    }

    /// Writes the object, unless it is there. Other bytes there are [`TierErrorKind::Differs`], and stay.
    pub async fn put(
        &self,
        key: &Key,
        source: &Source,
        digest: &Digest,
    ) -> Result<Committed, TierError> {
        let put = match self {
            Self::Redis(tier) => tier.put(key, source, digest).await,
            Self::Object(tier) => tier.put(key, source, digest).await,
        };
        let counters = &self.gate().counters;
        match put {
            Ok(Committed::New) => {
                self.gate().took();
                count(&counters.writes);
                counters
                    .written_bytes
                    .fetch_add(digest.size, std::sync::atomic::Ordering::Relaxed);
            }
            Ok(Committed::Present) => {
                self.gate().took();
                count(&counters.present);
            }
            Err(_) => {}
        }
        put
    }

    /// Removes the object, if it is there.
    pub async fn remove(&self, key: &Key) -> Result<(), TierError> {
        match self {
            Self::Redis(tier) => tier.remove(key).await,
            Self::Object(tier) => tier.remove(key).await,
        }
    }

    /// Asks the tier for something cheap.
    pub async fn probe(&self) -> Result<(), TierError> {
        match self {
            Self::Redis(tier) => tier.probe().await,
            Self::Object(tier) => tier.probe().await,
        }
    }

    /// Looks whether there is such a bucket. What comes of it is in the log, the breaker and the snapshot: one that fails
    /// is taken out at once, and put back when it answers.
    pub(crate) async fn look(&self) {
        let Self::Object(tier) = self else { return };
        let gate = self.gate();
        while gate.is_up() {
            let listed = async { tier.list(None).next().await.transpose().map(drop) };
            let listed = tokio::time::timeout(LOOK_LIMIT, listed).await;
            let mut looked = listed.unwrap_or_else(|_| {
                Err(gate.error(
                    TierErrorKind::Timeout,
                    format_args!("no answer within {LOOK_LIMIT:?}"),
                ))
            });
            if let Err(error) = &looked
                && error.kind == TierErrorKind::Refused
                && error.detail.contains("status code: 403")
                && tier.probe().await.is_ok()
            {
                tracing::warn!(tier = %self.name(), %error, "this key may not list the bucket: `modgate fsck`, `gc` and `copy` need that");
                looked = Ok(());
            }
            gate.note(looked.as_ref().err());
            // Three failures take it out, and the log says why; any other answer is one.
            let failed = matches!(&looked, Err(error) if matches!(error.kind, TierErrorKind::Unavailable | TierErrorKind::Timeout));
            if !failed {
                if looked.is_ok() {
                    self.look_at_conditions(tier).await;
                }
                return;
            }
        }
    }

    /// Everything that is kept relies on conditional writes. What else may be wrong, such as a key that may not write, is said
    /// by the write itself.
    async fn look_at_conditions(&self, tier: &ObjectTier) {
        match tier.heeds_conditions().await {
            Ok(false) => {
                self.gate().lacks();
                tracing::error!(tier = %self.name(), "the storage does not heed conditional writes (`If-None-Match`): it made an object anew that was there. What one process keeps another may overwrite with other bytes, and leases in it hold nobody back: use a service that has them");
            }
            Err(error) if error.detail.contains("status code: 501 ") => {
                self.gate().lacks();
                tracing::error!(tier = %self.name(), %error, "the storage has no conditional writes (`If-None-Match`), so nothing new can be kept in it: use a service that has them");
            }
            Ok(true) | Err(_) => {}
        }
    }

    /// What metrics show.
    pub fn snapshot(&self) -> TierSnapshot {
        self.gate().snapshot()
    }
}

/// A whole number of milliseconds for a service that wants one; at least 1.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}
