//! Leases in object storage, by conditional writes: an object a key, which its holder writes anew to renew it.
//!
//! Nobody's wall clock counts. Whoever waits remembers when it first saw the object as it is; if it stayed so for the
//! time that is written in it, by the waiter's own monotonic clock, its holder is gone, and one waiter takes it over with
//! a write on the condition that it is still the same.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use object_store::{
    Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion, path::Path,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use store::tier::is_absent;
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};

use crate::{ReplicasError, leases::Held};

const DOING: &str = "object storage";
/// Leases of others that are watched at once; those that were not looked at for longest go first.
const MAX_SEEN: usize = 10_000;
/// Longest that is believed of a lease's own word.
const MAX_TTL: Duration = Duration::from_mins(1);
const MAX_BYTES: u64 = 64 << 10;
/// An object that stays beside the leases. Where a bucket is a folder, some services remove the folder with its last object,
/// and lose the one that is made in it just then: they say ever after that it is there, and that it is not.
const KEEPER: &str = "keeper";
/// How often a lease is written that was in the way, and is not there.
const CREATES: u32 = 5;
/// Between two of them, times how many there were.
const PAUSE: Duration = Duration::from_millis(20);
/// How often a lease is given back that the storage does not take back at once.
const RELEASES: usize = 3;

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    key: String,
    holder: String,
    token: u64,
    ttl_ms: u64,
    /// Makes each renewal other bytes, for storage whose versions are hashes.
    renewed: u64,
}

/// Somebody else's lease, and since when it is as it is.
#[derive(Debug)]
struct Seen {
    version: UpdateVersion,
    token: u64,
    ttl: Duration,
    since: Instant,
    looked: Instant,
}

pub(crate) struct StorageLeases {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    holder: String,
    timeout: Duration,
    seen: Mutex<HashMap<String, Seen>>,
    renewals: std::sync::atomic::AtomicU64,
    /// Whether there is a [`KEEPER`].
    kept: OnceCell<()>,
}

impl std::fmt::Debug for StorageLeases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StorageLeases")
    }
}

impl StorageLeases {
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        prefix: &Path,
        holder: &str,
        timeout: Duration,
    ) -> Self {
        Self {
            store,
            folder: prefix.clone().join("_modgate").join("leases"),
            holder: holder.to_owned(),
            timeout,
            seen: Mutex::default(),
            renewals: std::sync::atomic::AtomicU64::new(0),
            kept: OnceCell::new(),
        }
    }

    pub(crate) async fn take(
        &self,
        key: &str,
        ttl: Duration,
    ) -> Result<Option<Held>, ReplicasError> {
        let mut left = None;
        for again in 0..CREATES {
            sleep(PAUSE * again).await;
            let created = self.put(key, 1, ttl, PutMode::Create).await?;
            if let Some(version) = created {
                self.keep_folder().await;
                return Ok(Some(held(key, 1, version)));
            }
            left = self.left(key).await?;
            if left.is_some() {
                break;
            }
        }
        // Given back between the two, so often? The storage says both of it, and nobody is to wait for who does not exist.
        let Some(left) = left else {
            let text = "it says of a lease that it is there and that it is not";
            return Err(ReplicasError::new(DOING, text));
        };
        let over = left.is_zero();
        let seen = self
            .seen()
            .get(key)
            .map(|seen| (seen.version.clone(), seen.token));
        let Some((version, token)) = seen.filter(|_| over) else {
            return Ok(None);
        };
        let token = token.saturating_add(1);
        let taken = self.put(key, token, ttl, PutMode::Update(version)).await?;
        self.seen().remove(key);
        Ok(taken.map(|version| held(key, token, version)))
    }

    pub(crate) async fn renew(
        &self,
        held: &mut Held,
        ttl: Duration,
    ) -> Result<bool, ReplicasError> {
        let Some(version) = held.version.clone() else {
            return Ok(false);
        };
        let renewed = self
            .put(&held.key, held.token, ttl, PutMode::Update(version))
            .await?;
        let still = renewed.is_some();
        held.version = renewed.or(held.version.take());
        Ok(still)
    }

    /// There is no removal on a condition; the caller sees to it that the lease is young enough to be its own.
    pub(crate) async fn release(&self, held: &Held) -> Result<(), ReplicasError> {
        let mut failure = None;
        for _ in 0..RELEASES {
            // A removal that was not answered may have been done, and another replica have come since.
            if failure.is_some() && !self.is_ours(held).await? {
                return Ok(());
            }
            let deleted = self.within(self.store.delete(&self.path(&held.key))).await;
            failure = match deleted {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if is_absent(&error) => return Ok(()),
                Ok(Err(error)) => Some(failed(&error)),
                Err(slow) => Some(slow),
            };
        }
        failure.map_or(Ok(()), Err)
    }

    async fn is_ours(&self, held: &Held) -> Result<bool, ReplicasError> {
        let got = match self.within(self.store.get(&self.path(&held.key))).await? {
            Ok(got) if got.meta.size <= MAX_BYTES => got,
            Ok(_) => return Ok(false),
            Err(error) if is_absent(&error) => return Ok(false),
            Err(error) => return Err(failed(&error)),
        };
        let bytes = self.within(got.bytes()).await?;
        let bytes = bytes.map_err(|error| failed(&error))?;
        let content = serde_json::from_slice::<Content>(&bytes);
        Ok(content
            .is_ok_and(|content| content.holder == self.holder && content.token == held.token))
    }

    /// How long the lease would live on if it stayed as it is; zero if it may be taken over.
    pub(crate) async fn left(&self, key: &str) -> Result<Option<Duration>, ReplicasError> {
        let got = match self.within(self.store.get(&self.path(key))).await? {
            Ok(got) => got,
            Err(error) if is_absent(&error) => {
                self.seen().remove(key);
                return Ok(None);
            }
            Err(error) => return Err(failed(&error)),
        };
        let version = UpdateVersion {
            e_tag: got.meta.e_tag.clone(),
            version: got.meta.version.clone(),
        };
        if got.meta.size > MAX_BYTES {
            return Err(ReplicasError::new(DOING, "a lease that is none"));
        }
        let bytes = self
            .within(got.bytes())
            .await?
            .map_err(|error| failed(&error))?;
        // One that cannot be read has a life all the same.
        let (token, ttl) =
            serde_json::from_slice::<Content>(&bytes).map_or((0, MAX_TTL), |content| {
                (
                    content.token,
                    Duration::from_millis(content.ttl_ms).min(MAX_TTL),
                )
            });
        let now = Instant::now();
        let mut seen = self.seen();
        if seen.len() >= MAX_SEEN
            && !seen.contains_key(key)
            && let Some(oldest) = seen
                .iter()
                .min_by_key(|(_, seen)| seen.looked)
                .map(|(key, _)| key.clone())
        {
            seen.remove(&oldest);
        }
        let entry = seen.entry(key.to_owned()).or_insert_with(|| Seen {
            version: version.clone(),
            token,
            ttl,
            since: now,
            looked: now,
        });
        if entry.version != version {
            *entry = Seen {
                version,
                token,
                ttl,
                since: now,
                looked: now,
            };
        }
        entry.looked = now;
        Ok(Some(entry.ttl.saturating_sub(entry.since.elapsed())))
    }

    async fn keep_folder(&self) {
        let keep = async || {
            let path = self.folder.clone().join(KEEPER);
            let put = self.store.put(&path, "stays\n".into());
            // What matters shows at the leases.
            let _ = self.within(put).await;
        };
        self.kept.get_or_init(keep).await;
    }

    /// Writes a lease on a condition; none if that does not hold.
    async fn put(
        &self,
        key: &str,
        token: u64,
        ttl: Duration,
        mode: PutMode,
    ) -> Result<Option<UpdateVersion>, ReplicasError> {
        let content = Content {
            key: key.to_owned(),
            holder: self.holder.clone(),
            token,
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            renewed: self
                .renewals
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        };
        let content =
            serde_json::to_vec(&content).map_err(|error| ReplicasError::new(DOING, error))?;
        let path = self.path(key);
        let put = self
            .store
            .put_opts(&path, content.into(), PutOptions::from(mode));
        match self.within(put).await? {
            Ok(put) => Ok(Some(put.into())),
            Err(error) if is_other(&error) => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Names may be longer than a key of object storage can be.
    fn path(&self, key: &str) -> Path {
        let mut name = String::with_capacity(64);
        for byte in Sha256::digest(key) {
            let _ = write!(name, "{byte:02x}");
        }
        self.folder.clone().join(name)
    }

    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, ReplicasError> {
        timeout(self.timeout, work)
            .await
            .map_err(|_| ReplicasError::timeout(DOING))
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn held(key: &str, token: u64, version: UpdateVersion) -> Held {
    Held {
        key: key.into(),
        token,
        version: Some(version),
    }
}

/// Whether a conditional write was refused because what is there is not what was known. Removed meanwhile is as good as
/// changed; that the bucket is gone is not.
pub(crate) fn is_other(error: &Error) -> bool {
    matches!(
        error,
        Error::AlreadyExists { .. } | Error::Precondition { .. }
    ) || is_absent(error)
}

/// The kind of trouble alone: the rest of the text has the address in it.
pub(crate) fn failed(error: &Error) -> ReplicasError {
    let text = match error {
        Error::Generic { .. } => "it cannot be reached, or answered amiss",
        Error::NotFound { .. } => "there is no such bucket",
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => "it refuses the key",
        Error::NotImplemented { .. } | Error::NotSupported { .. } => "it has no conditional writes",
        _ => "it failed",
    };
    ReplicasError::new(DOING, text)
}
