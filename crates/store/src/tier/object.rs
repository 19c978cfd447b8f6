//! Object storage: the tier that keeps.
//!
//! Keys are as on disk, below the prefix, so that a bucket can be read by a plain static server. The digest is in
//! the object's metadata (`sha256`, `h1`). Below the prefix are also `_quarantine/` (objects that were not what they
//! should be) and `_claims/` (uploads in parts under way).
//!
//! A conditional create: objects of one part by the service's own (`If-None-Match: *`). Uploads in parts have none, so
//! a writer first creates a claim with its digest. Whoever finds a claim with the same digest may upload the same
//! bytes beside it; whoever finds another one has other bytes.

mod claims;
mod conditions;
mod list;
mod upload;

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures_util::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use moka::sync::Cache;
use object_store::{
    Attribute, Error, GetOptions, GetRange, GetResult, ObjectStoreExt, path::Path, signer::Method,
};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{
    Fetched, Gate, Head, ObjectSettings, Opened, Persist, Service, Source, TierError,
    TierErrorKind,
    connect::{Client, code_in, connect, is_absent},
    count,
};
use crate::{
    Digest, Key,
    digest::{Hasher, checked_h1, sha256_from_hex},
    known::Known,
};

const ADVICE: &str = "is there such a bucket, with room, may this key list, read and write it, and does a proxy in front of it take uploads of 8 MiB?";
const CLOCK: &str = "the clock of this machine, or that of the service, is wrong";
/// Objects that are known to be bad at a time, and for how long.
const MOST_BAD: u64 = 10_000;
const BAD_LIFE: Duration = Duration::from_hours(1);
/// How long a bad object is not read again.
const BAD_REST: Duration = Duration::from_secs(15);
/// Longest that the signing of an address may take, and how long none is asked for after one failed.
const SIGN_LIMIT: Duration = Duration::from_secs(2);
const SIGN_REST: Duration = Duration::from_secs(30);
/// Uploads in parts at a time: with the parts of each a bound for the pages they touch.
const UPLOADS_AT_ONCE: usize = 4;
/// Payloads up to this length are hashed and signed where they are, longer ones on a thread for it.
const SIGN_INLINE: u64 = 64 << 10;

/// Object storage.
pub struct ObjectTier {
    gate: Arc<Gate>,
    client: Client,
    uploads: Semaphore,
    /// Objects that were not what they should be, to be replaced by the next write.
    bad: Cache<Key, Bad>,
    /// Objects that were compared.
    known: Arc<Known>,
    /// When no address could be signed.
    unsigned: Mutex<Option<Instant>>,
    place: Arc<str>,
    settings: ObjectSettings,
}

/// Which object was bad, and when that was seen.
#[derive(Clone)]
struct Bad {
    mark: Option<Box<str>>,
    seen: Instant,
}

impl fmt::Debug for ObjectTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectTier")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl ObjectTier {
    /// Makes the tier; connects when it is first used.
    pub fn new(settings: &ObjectSettings) -> Result<Self, TierError> {
        let name = Arc::clone(&settings.name);
        let gate = Arc::new(Gate::new(name, ADVICE, settings.concurrency));
        let client = connect(settings).map_err(|error| map(&gate, error))?;
        Ok(Self {
            gate,
            client,
            uploads: Semaphore::new(UPLOADS_AT_ONCE),
            bad: Cache::builder()
                .max_capacity(MOST_BAD)
                .time_to_live(BAD_LIFE)
                .build(),
            known: Arc::default(),
            unsigned: Mutex::default(),
            place: settings.place().into(),
            settings: settings.clone(),
        })
    }

    pub(crate) fn known(&self) -> &Arc<Known> {
        &self.known
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Where it lies.
    pub(crate) fn place(&self) -> &Arc<str> {
        &self.place
    }

    /// Whether clients are sent to it.
    pub fn redirects(&self) -> bool {
        self.settings.redirect.is_some()
    }

    /// When its writes have to be done.
    pub fn persist(&self) -> Persist {
        self.settings.persist
    }

    /// The object, whole if it has a digest and at most `max_whole` bytes, else as a stream.
    pub async fn fetch(&self, key: &Key, max_whole: u64) -> Result<Option<Fetched>, TierError> {
        let Some(opened) = self.open(key, None, None).await? else {
            return Ok(None);
        };
        if self.is_bad_still(key, opened.mark.as_deref()) {
            return Err(self.gate.error(TierErrorKind::Corrupt, key));
        }
        let Some(digest) = opened.digest.clone().filter(|_| opened.size <= max_whole) else {
            return Ok(Some(Fetched::Stream(opened)));
        };
        let mark = opened.mark.clone();
        let bytes = collect(opened).await?;
        if hash(bytes.clone()).await.same_bytes(&digest) {
            // If it was bad before, somebody replaced it.
            self.bad.invalidate(key);
            return Ok(Some(Fetched::Whole(bytes, digest)));
        }
        // Altered on the way, or where it lies? The one must not cost the object.
        count(&self.gate.counters.corrupt);
        tracing::error!(tier = %self.settings.name, %key, "SECURITY: bytes that are not what they should be; read again");
        let Some(again) = self.open(key, None, None).await? else {
            return Ok(None);
        };
        if again.digest.as_ref() == Some(&digest) {
            let bytes = collect(again).await?;
            if hash(bytes.clone()).await.same_bytes(&digest) {
                return Ok(Some(Fetched::Whole(bytes, digest)));
            }
        }
        self.set_aside(key, mark).await;
        Err(self.gate.error(TierErrorKind::Corrupt, key))
    }

    /// The object, or `range` of it, as a stream; with `mark` only if it is still that very object.
    ///
    /// `range` must lie within the object.
    pub async fn open(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
        mark: Option<&str>,
    ) -> Result<Option<Opened>, TierError> {
        let path = self.path(key)?;
        let options = GetOptions {
            range: range.map(GetRange::Bounded),
            if_match: mark.map(ToOwned::to_owned),
            ..GetOptions::default()
        };
        let slot = self.gate.enter(self.settings.timeout).await?;
        let asked = async {
            match self.client.store.get_opts(&path, options).await {
                Ok(got) => Ok(Some(got)),
                Err(Error::Precondition { .. }) => Ok(None),
                Err(error) if is_absent(&error) => Ok(None),
                Err(error) => Err(map(&self.gate, error)),
            }
        };
        let got = self.gate.watch(self.settings.timeout, asked).await?;
        Ok(got.map(|got| {
            let head = head_of(&got);
            Opened {
                size: head.size,
                digest: head.digest,
                mark: head.mark,
                stream: self.steps(got),
                slot: Some(slot),
            }
        }))
    }

    /// The body, every step of it within the time limit and counted.
    fn steps(&self, got: GetResult) -> BoxStream<'static, Result<Bytes, TierError>> {
        let (gate, limit) = (Arc::clone(&self.gate), self.settings.idle_timeout);
        let body = got.into_stream();
        stream::try_unfold(body, move |mut body| {
            let gate = Arc::clone(&gate);
            async move {
                let step = match timeout(limit, body.next()).await {
                    Ok(None) => return Ok(None),
                    Ok(Some(Ok(bytes))) => Ok(bytes),
                    Ok(Some(Err(error))) => Err(map(&gate, error)),
                    Err(_) => Err(gate.error(TierErrorKind::Timeout, "the body stopped")),
                };
                let bytes = step.inspect_err(|error| gate.note(Some(error)))?;
                gate.counters
                    .read_bytes
                    .fetch_add(bytes.len() as u64, Relaxed);
                Ok(Some((bytes, body)))
            }
        })
        .boxed()
    }

    /// What is known of the object without reading it.
    pub async fn head(&self, key: &Key) -> Result<Option<Head>, TierError> {
        let path = self.path(key)?;
        let looked = self.gate.run(self.settings.timeout, self.look(&path));
        if let Some(head) = looked.await? {
            return Ok(Some(head));
        }
        // The answer to HEAD does not say whether it is the object that is not there, or the bucket.
        let opened = self.open(key, None, None).await?;
        Ok(opened.map(|opened| Head {
            size: opened.size,
            digest: opened.digest,
            mark: opened.mark,
            generation: None,
        }))
    }

    /// As [`head`](Self::head), but `None` may also be a bucket that is not there.
    async fn look(&self, path: &Path) -> Result<Option<Head>, TierError> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        match self.client.store.get_opts(path, options).await {
            Ok(got) => Ok(Some(head_of(&got))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(map(&self.gate, error)),
        }
    }

    /// Removes the object, if it is there.
    pub async fn remove(&self, key: &Key) -> Result<(), TierError> {
        let path = self.path(key)?;
        self.delete(&path).await
    }

    async fn delete(&self, path: &Path) -> Result<(), TierError> {
        let delete = async {
            let store = &self.client.store;
            match (store.delete(path).await, self.settings.service) {
                (Ok(()), _) => Ok(()),
                (Err(error), Service::Gcs) if is_absent(&error) => Ok(()),
                // Azure's answer does not say what is not there, the object or its container.
                (Err(Error::NotFound { .. }), Service::Azure) => match store.get(path).await {
                    Err(error) if is_absent(&error) => Ok(()),
                    Err(error) => Err(map(&self.gate, error)),
                    Ok(_) => Err(self.gate.error(
                        TierErrorKind::Unavailable,
                        "what was not there to be removed is there",
                    )),
                },
                // S3 does not say so of objects, whatever else it is that is not found.
                (Err(error), _) => Err(map(&self.gate, error)),
            }
        };
        self.gate.run(self.settings.timeout, delete).await
    }

    /// An object was bad twice: a copy goes into quarantine, and the next write of the key replaces it. It stays where
    /// it is until then, since bytes that were altered twice on the way must not cost a kept version.
    pub(crate) async fn set_aside(&self, key: &Key, mark: Option<Box<str>>) {
        let copied = self.copy_aside(key).await;
        // Only now may it be replaced.
        let seen = Instant::now();
        self.bad.insert(key.clone(), Bad { mark, seen });
        tracing::error!(tier = %self.settings.name, %key, copied = copied.is_ok(), "SECURITY: bytes that are not what they should be, twice; in quarantine");
    }

    async fn copy_aside(&self, key: &Key) -> Result<(), TierError> {
        let copy = async {
            let (path, aside) = (self.path(key)?, self.below("_quarantine", key)?);
            let copied = self.client.store.copy(&path, &aside).await;
            copied.map_err(|error| map(&self.gate, error))
        };
        self.gate.run(self.settings.idle_timeout, copy).await
    }

    /// What lies there is not what it should be: a copy of it goes into quarantine, and it may be replaced by the next
    /// [`put`](super::Tier::put) of this process.
    pub async fn quarantine(&self, key: &Key) -> Result<(), TierError> {
        if let Some(head) = self.head(key).await? {
            self.set_aside(key, head.mark).await;
        }
        Ok(())
    }

    /// Whether this very object was bad.
    fn was_bad(&self, key: &Key, mark: Option<&str>) -> bool {
        let bad = self.bad.get(key);
        bad.is_some_and(|bad| bad.mark.as_deref() == mark)
    }

    /// Whether what lies there was bad, and nothing has replaced it. Whoever cannot be asked has it still.
    pub(crate) async fn is_damaged(&self, key: &Key) -> bool {
        self.bad.contains_key(key)
            && match self.head(key).await {
                Ok(head) => head.is_some_and(|head| self.was_bad(key, head.mark.as_deref())),
                Err(_) => true,
            }
    }

    /// Whether it was so a moment ago, so that reading it again is a waste.
    fn is_bad_still(&self, key: &Key, mark: Option<&str>) -> bool {
        let bad = self.bad.get(key);
        bad.is_some_and(|bad| bad.mark.as_deref() == mark && bad.seen.elapsed() < BAD_REST)
    }

    /// An address at which a client may read the object without credentials, if the tier sends clients there.
    pub async fn address(&self, key: &Key) -> Result<Option<String>, TierError> {
        let Some(life) = self.settings.redirect else {
            return Ok(None);
        };
        let path = self.path(key)?;
        let failed_at = || self.unsigned.lock().unwrap_or_else(PoisonError::into_inner);
        if failed_at().is_some_and(|failed| failed.elapsed() < SIGN_REST) {
            return Ok(None);
        }
        // Who has no key of its own has it signed by another service. Whether that answers says nothing of the bucket.
        let signing = self.client.signer.signed_url(Method::GET, &path, life);
        let error = match timeout(SIGN_LIMIT.min(self.settings.timeout), signing).await {
            Ok(Ok(url)) => {
                *failed_at() = None;
                return Ok(Some(url.into()));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not signed within {SIGN_LIMIT:?}"),
        };
        *failed_at() = Some(Instant::now());
        tracing::warn!(tier = %self.settings.name, error, "cannot sign addresses: clients are not sent to the bucket");
        Ok(None)
    }

    /// Asks for an object that need not be there.
    pub async fn probe(&self) -> Result<(), TierError> {
        let probe = Key::new("probe".to_owned())
            .map_err(|error| self.gate.error(TierErrorKind::Refused, error))?;
        self.look(&self.below("_modgate", &probe)?).await.map(drop)
    }

    fn path(&self, key: &Key) -> Result<Path, TierError> {
        self.parse(key.as_str())
    }

    fn below(&self, folder: &str, key: &Key) -> Result<Path, TierError> {
        self.parse(&format!("{folder}/{key}"))
    }

    /// Taken as it is: `Path::from` would write `~` and others in another way than they are on disk.
    fn parse(&self, rest: &str) -> Result<Path, TierError> {
        let path = match self.settings.prefix.trim_matches('/') {
            "" => Path::parse(rest),
            prefix => Path::parse(format!("{prefix}/{rest}")),
        };
        path.map_err(|error| self.gate.error(TierErrorKind::Refused, error))
    }
}

async fn collect(opened: Opened) -> Result<Bytes, TierError> {
    let mut bytes = BytesMut::with_capacity(usize::try_from(opened.size).unwrap_or_default());
    let mut stream = opened.stream;
    while let Some(block) = stream.try_next().await? {
        bytes.extend_from_slice(&block);
    }
    Ok(bytes.freeze())
}

async fn hash(bytes: Bytes) -> Digest {
    if bytes.len() as u64 <= SIGN_INLINE {
        return Digest::of(&bytes);
    }
    let hashed = spawn_blocking(move || Digest::of(&bytes)).await;
    // A hash that could not be made agrees with nothing.
    hashed.unwrap_or_else(|_| Hasher::default().finish())
}

/// The digest of a body that goes nowhere.
pub(crate) async fn hash_stream(mut opened: Opened) -> Result<Digest, TierError> {
    let mut hasher = Hasher::default();
    while let Some(block) = opened.stream.try_next().await? {
        // Blocks are a few kilobytes each.
        hasher.update(&block);
    }
    Ok(hasher.finish())
}

fn head_of(got: &GetResult) -> Head {
    let text = |name: &'static str| got.attributes.get(&Attribute::Metadata(name.into()));
    let sha256 = text("sha256").and_then(|text| sha256_from_hex(text));
    let size = got.meta.size;
    Head {
        size,
        digest: sha256.map(|sha256| Digest {
            size,
            sha256,
            h1: text("h1").and_then(|text| checked_h1(text)),
        }),
        mark: got.meta.e_tag.as_deref().map(Into::into),
        generation: got.meta.version.as_deref().map(Into::into),
    }
}

fn map(gate: &Gate, error: Error) -> TierError {
    let kind = match &error {
        Error::NotFound { .. }
        | Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. }
        | Error::UnknownConfigurationKey { .. } => TierErrorKind::Refused,
        _ if is_refusal(&error) => TierErrorKind::Refused,
        _ if is_timeout(&error) => TierErrorKind::Timeout,
        _ => TierErrorKind::Unavailable,
    };
    let mut text = error.to_string();
    // Why nobody could be asked stands at the end of the chain, and often there alone: a name that is unknown, a certificate.
    let root = root_of(&error).to_string();
    if !text.contains(&root) {
        text = format!("{root}: {text}");
    }
    // What the service itself calls it; the rest may be cut off.
    match code_in(&text) {
        Some(code @ "RequestTimeTooSkewed") => {
            gate.error(kind, format_args!("{code}: {CLOCK}: {text}"))
        }
        Some(code) => gate.error(kind, format_args!("{code}: {text}")),
        None => gate.error(kind, text),
    }
}

/// Errors of lists, and requests that the service calls wrong, come without a kind; the status stands in their text.
fn is_refusal(error: &Error) -> bool {
    let Error::Generic { .. } = error else {
        return false;
    };
    let text = error.to_string();
    // A body that came too slowly is answered so too.
    if text.contains("RequestTimeout") {
        return false;
    }
    // 413 is the word of a proxy in front of it that takes no long uploads: no outage, and shorter ones go through. 405 and
    // 501 are those of a service that does not have what is asked.
    let refusals = ["400", "401", "403", "404", "405", "413", "501"]
        .map(|status| format!("status code: {status} "));
    refusals.iter().any(|refusal| text.contains(refusal))
}

fn root_of<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root
}

fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<object_store::client::HttpError>() {
            return error.kind() == object_store::client::HttpErrorKind::Timeout;
        }
        next = error.source();
    }
    false
}
