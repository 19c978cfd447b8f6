//! Object storage: the tier that keeps.
//!
//! Keys are as on disk, below the prefix, so that a bucket can be read by a plain static server. The digest is in
//! the object's metadata (`sha256`, `h1`). Below the prefix are also `_quarantine/` (objects that were not what they
//! should be) and `_claims/` (uploads in parts under way).
//!
//! A conditional create: objects of one part by the service's own (`If-None-Match: *`). Uploads in parts have none, so
//! a writer first creates a claim with its digest. Whoever finds a claim with the same digest may upload the same
//! bytes beside it; whoever finds another one has other bytes.

use std::{
    fmt,
    future::Future,
    ops::Range,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, GetResult, ObjectStoreExt, PutMode,
    PutOptions, PutPayload, UpdateVersion, path::Path, signer::Method,
};
use tokio::{runtime::Handle, sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{
    Fetched, Gate, Head, Listed, ObjectSettings, Opened, Persist, Source, TierError, TierErrorKind,
    connect::{Client, connect},
    count,
};
use crate::{
    Committed, Digest, Key,
    digest::{Hasher, checked_h1, sha256_from_hex},
};

/// Length of a part of an upload; up to this an object is written in one request.
const PART_BYTES: u64 = 8 << 20;
/// Parts of one upload under way at a time.
const PARTS_AT_ONCE: usize = 2;
/// Uploads in parts at a time: with the parts of each a bound for the pages they touch.
const UPLOADS_AT_ONCE: usize = 4;
/// Payloads up to this length are hashed and signed where they are, longer ones on a thread for it.
const SIGN_INLINE: u64 = 64 << 10;
/// A claim that is older by the storage's clock was left behind by a writer that ended.
const CLAIM_LIFE_SECS: i64 = 24 * 3600;
/// Tries where the storage says both that there is an object and that there is none.
const TRIES: u32 = 4;

/// Object storage.
pub struct ObjectTier {
    gate: Arc<Gate>,
    client: Client,
    uploads: Semaphore,
    settings: ObjectSettings,
}

impl fmt::Debug for ObjectTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectTier")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// How a single write went.
enum Created {
    Yes,
    Taken,
}

impl ObjectTier {
    /// Makes the tier; connects when it is first used.
    pub fn new(settings: &ObjectSettings) -> Result<Self, TierError> {
        let gate = Arc::new(Gate::new(Arc::clone(&settings.name), settings.concurrency));
        let client = connect(settings).map_err(|error| map(&gate, error))?;
        Ok(Self {
            gate,
            client,
            uploads: Semaphore::new(UPLOADS_AT_ONCE),
            settings: settings.clone(),
        })
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
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
        let Some(digest) = opened.digest.clone().filter(|_| opened.size <= max_whole) else {
            return Ok(Some(Fetched::Stream(opened)));
        };
        let mark = opened.mark.clone();
        let bytes = collect(opened).await?;
        if hash(bytes.clone()).await.same_bytes(&digest) {
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
        self.set_aside(key, mark.as_deref()).await?;
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
                Err(Error::NotFound { .. } | Error::Precondition { .. }) => Ok(None),
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
        self.gate.run(self.settings.timeout, self.look(&path)).await
    }

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

    /// Writes the object unless it is there. Other bytes there stay, and are [`TierErrorKind::Differs`].
    pub async fn put(
        &self,
        key: &Key,
        source: &Source,
        digest: &Digest,
    ) -> Result<Committed, TierError> {
        let path = self.path(key)?;
        let small = source.len() <= PART_BYTES;
        for _ in 0..TRIES {
            let put = if small {
                let mode = PutMode::Create;
                self.write(&path, source.clone(), attributes(key, digest), mode)
                    .await?
            } else {
                self.create_large(key, &path, source, digest).await?
            };
            if let Created::Yes = put {
                return Ok(Committed::New);
            }
            let there = self
                .gate
                .run(self.settings.timeout, self.look(&path))
                .await?;
            match there {
                Some(there) => return self.compare(key, &path, there, source, digest).await,
                // Another writer is just about to finish, or somebody removed it.
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        Err(self.gate.error(
            TierErrorKind::Unavailable,
            "the storage contradicts itself about this key",
        ))
    }

    /// Whether what is there is what we have.
    async fn compare(
        &self,
        key: &Key,
        path: &Path,
        there: Head,
        source: &Source,
        digest: &Digest,
    ) -> Result<Committed, TierError> {
        let same = match &there.digest {
            Some(stated) => stated.same_bytes(digest),
            None if there.size != digest.size => false,
            None => self.adopt(key, path, there, source, digest).await?,
        };
        if same {
            return Ok(Committed::Present);
        }
        Err(self.differs(key))
    }

    fn differs(&self, key: &Key) -> TierError {
        let error = self.gate.error(TierErrorKind::Differs, key);
        self.gate.note(Some(&error));
        tracing::error!(tier = %self.settings.name, %key, "SECURITY: other bytes under this key");
        error
    }

    /// Compares an object without a digest by its bytes; if they are ours it gets the digest.
    async fn adopt(
        &self,
        key: &Key,
        path: &Path,
        there: Head,
        source: &Source,
        digest: &Digest,
    ) -> Result<bool, TierError> {
        let Some(opened) = self.open(key, None, there.mark.as_deref()).await? else {
            return Ok(false);
        };
        if !hash_stream(opened.stream).await?.same_bytes(digest) {
            return Ok(false);
        }
        // The same bytes again: whoever reads meanwhile sees no difference.
        if source.len() <= PART_BYTES {
            self.write(
                path,
                source.clone(),
                attributes(key, digest),
                PutMode::Overwrite,
            )
            .await?;
        } else {
            self.upload(path, source, attributes(key, digest)).await?;
        }
        Ok(true)
    }

    /// One request.
    async fn write(
        &self,
        path: &Path,
        source: Source,
        attributes: Attributes,
        mode: PutMode,
    ) -> Result<Created, TierError> {
        let _slot = self.gate.enter(self.settings.timeout).await?;
        let len = source.len();
        let (store, gate, path) = (
            Arc::clone(&self.client.store),
            Arc::clone(&self.gate),
            path.clone(),
        );
        let put = async move {
            let payload = payload(&source, 0, source.len()).map_err(|error| here(&gate, &error))?;
            let options = PutOptions {
                mode,
                attributes,
                ..PutOptions::default()
            };
            match store.put_opts(&path, payload, options).await {
                Ok(_) => Ok(Created::Yes),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Created::Taken),
                Err(error) => Err(map(&gate, error)),
            }
        };
        let limit = if len <= SIGN_INLINE {
            self.settings.timeout
        } else {
            self.settings.idle_timeout
        };
        self.gate
            .watch(limit, off_runtime(len, limit, &self.gate, put))
            .await
    }

    /// A conditional create in parts, by way of a claim.
    async fn create_large(
        &self,
        key: &Key,
        path: &Path,
        source: &Source,
        digest: &Digest,
    ) -> Result<Created, TierError> {
        let claim = self.below("_claims", key)?;
        self.claim(key, &claim, digest).await?;
        // Looked for after the claim: whoever finished before has its object there, whoever comes now sees our claim.
        let there = self
            .gate
            .run(self.settings.timeout, self.look(path))
            .await?;
        if there.is_some() {
            self.unclaim(&claim).await;
            return Ok(Created::Taken);
        }
        self.upload(path, source, attributes(key, digest)).await?;
        self.unclaim(&claim).await;
        Ok(Created::Yes)
    }

    /// Takes the right to write bytes with this digest. A claim of the same digest is as good as an own one.
    async fn claim(&self, key: &Key, claim: &Path, digest: &Digest) -> Result<(), TierError> {
        let text = Bytes::from(digest.sha256_hex());
        let write = async |mode| {
            self.write(claim, text.clone().into(), Attributes::new(), mode)
                .await
        };
        for _ in 0..TRIES {
            if let Created::Yes = write(PutMode::Create).await? {
                return Ok(());
            }
            let asked = async {
                match self.client.store.get(claim).await {
                    Ok(got) => Ok(Some(got)),
                    Err(Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(map(&self.gate, error)),
                }
            };
            let Some(got) = self.gate.run(self.settings.timeout, asked).await? else {
                continue;
            };
            let age = unix_now() - got.meta.last_modified.timestamp();
            let e_tag = got.meta.e_tag.clone();
            let there = self
                .gate
                .watch(self.settings.timeout, short(self.steps(got)))
                .await?;
            if there == text {
                return Ok(());
            }
            if age <= CLAIM_LIFE_SECS {
                return Err(self.differs(key));
            }
            let version = None;
            if let Created::Yes = write(PutMode::Update(UpdateVersion { e_tag, version })).await? {
                return Ok(());
            }
        }
        Err(self.gate.error(
            TierErrorKind::Unavailable,
            "the storage contradicts itself about a claim",
        ))
    }

    async fn unclaim(&self, claim: &Path) {
        // A claim that stays behind is as good as ours for the same bytes, and grows old for others.
        let _ = self.delete(claim).await;
    }

    async fn upload(
        &self,
        path: &Path,
        source: &Source,
        attributes: Attributes,
    ) -> Result<(), TierError> {
        let _upload = self.uploads.acquire().await;
        let _slot = self.gate.enter(self.settings.timeout).await?;
        let limit = self.settings.idle_timeout;
        let begun = async {
            let options = object_store::PutMultipartOptions {
                attributes,
                ..Default::default()
            };
            let begun = self.client.store.put_multipart_opts(path, options).await;
            begun.map_err(|error| map(&self.gate, error))
        };
        let mut upload = self.gate.watch(self.settings.timeout, begun).await?;
        let len = source.len();
        let starts = (0..len).step_by(usize::try_from(PART_BYTES).unwrap_or(usize::MAX));
        let sent = {
            // Parts are numbered when they are made, so they are made in order, on the threads that may wait.
            let parts = starts.map(|from| {
                let to = (from + PART_BYTES).min(len);
                let (source, gate) = (source.clone(), Arc::clone(&self.gate));
                let read = spawn_blocking(move || payload(&source, from, to));
                (to - from, read, gate)
            });
            let mut under_way = stream::FuturesUnordered::new();
            let mut sent = Ok(());
            for (len, read, gate) in parts {
                let payload = match read.await.map_err(std::io::Error::other) {
                    Ok(Ok(payload)) => payload,
                    Ok(Err(error)) | Err(error) => {
                        sent = Err(here(&gate, &error));
                        break;
                    }
                };
                let part = upload.put_part(payload);
                let mapped = Arc::clone(&gate);
                let part = async move { part.await.map_err(|error| map(&mapped, error)) };
                under_way.push(async move {
                    let part = off_runtime(len, limit, &gate, part);
                    gate.watch(limit, part).await
                });
                if under_way.len() >= PARTS_AT_ONCE {
                    sent = under_way.next().await.unwrap_or(Ok(()));
                    if sent.is_err() {
                        break;
                    }
                }
            }
            match sent {
                Ok(()) => under_way.try_collect::<()>().await,
                failed => failed,
            }
        };
        let done = match sent {
            Ok(()) => {
                let complete = async {
                    let complete = upload.complete().await;
                    complete.map(drop).map_err(|error| map(&self.gate, error))
                };
                self.gate.watch(limit, complete).await
            }
            failed => failed,
        };
        if done.is_err() {
            // Best effort: a bucket should have a rule that removes old parts.
            let _ = timeout(self.settings.timeout, upload.abort()).await;
        }
        done
    }

    /// Removes the object, if it is there.
    pub async fn remove(&self, key: &Key) -> Result<(), TierError> {
        let path = self.path(key)?;
        self.delete(&path).await
    }

    async fn delete(&self, path: &Path) -> Result<(), TierError> {
        let delete = async {
            match self.client.store.delete(path).await {
                Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(map(&self.gate, error)),
            }
        };
        self.gate.run(self.settings.timeout, delete).await
    }

    /// Moves an object that was seen to be bad into quarantine, if it is still that very object.
    pub(crate) async fn set_aside(&self, key: &Key, mark: Option<&str>) -> Result<(), TierError> {
        let (path, aside) = (self.path(key)?, self.below("_quarantine", key)?);
        let copy = async {
            let copied = self.client.store.copy(&path, &aside).await;
            copied.map_err(|error| map(&self.gate, error))
        };
        self.gate.run(self.settings.idle_timeout, copy).await?;
        let there = self
            .gate
            .run(self.settings.timeout, self.look(&path))
            .await?;
        // Another replica may have set it aside and written a good one.
        if there.is_some_and(|there| mark.is_none() || there.mark.as_deref() == mark) {
            self.delete(&path).await?;
            tracing::error!(tier = %self.settings.name, %key, "SECURITY: moved to quarantine");
        }
        Ok(())
    }

    /// Every object whose key begins with the folder `below`, or every one. Not for answers: a bucket may be large.
    pub fn list(&self, below: Option<&Key>) -> BoxStream<'static, Result<Listed, TierError>> {
        let prefix = match below {
            Some(key) => self.path(key).map(Some),
            None if self.settings.prefix.is_empty() => Ok(None),
            None => Path::parse(&self.settings.prefix)
                .map(Some)
                .map_err(|error| map(&self.gate, error.into())),
        };
        let prefix = match prefix {
            Ok(prefix) => prefix,
            Err(error) => return stream::once(async { Err(error) }).boxed(),
        };
        let gate = Arc::clone(&self.gate);
        let own = self.settings.prefix.trim_matches('/').to_owned();
        let listed = self.client.store.list(prefix.as_ref());
        listed
            .map(move |meta| {
                let meta = meta.map_err(|error| map(&gate, error))?;
                let name = meta.location.as_ref();
                let key = name
                    .strip_prefix(own.as_str())
                    .map(|rest| rest.trim_start_matches('/'))
                    .filter(|rest| !rest.starts_with('_'))
                    .and_then(|rest| Key::new(rest.to_owned()).ok());
                Ok(key.map(|key| Listed {
                    key,
                    size: meta.size,
                    modified: meta.last_modified.timestamp(),
                }))
            })
            .try_filter_map(|listed| async { Ok(listed) })
            .boxed()
    }

    /// An address at which a client may read the object without credentials, if the tier sends clients there.
    pub async fn address(&self, key: &Key) -> Result<Option<String>, TierError> {
        let Some(life) = self.settings.redirect else {
            return Ok(None);
        };
        let path = self.path(key)?;
        let signed = async {
            let signed = self
                .client
                .signer
                .signed_url(Method::GET, &path, life)
                .await;
            signed.map_err(|error| map(&self.gate, error))
        };
        let url = self.gate.run(self.settings.timeout, signed).await?;
        Ok(Some(url.into()))
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

/// Runs `work` within `limit`, on a thread that may be busy for a while if there are many bytes to hash and sign.
async fn off_runtime<T: Send + 'static>(
    len: u64,
    limit: Duration,
    gate: &Arc<Gate>,
    work: impl Future<Output = Result<T, TierError>> + Send + 'static,
) -> Result<T, TierError> {
    if len <= SIGN_INLINE {
        return work.await;
    }
    let (runtime, late) = (Handle::current(), Arc::clone(gate));
    let bounded = async move {
        match timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => Err(late.error(
                TierErrorKind::Timeout,
                format_args!("not written within {limit:?}"),
            )),
        }
    };
    let done = spawn_blocking(move || runtime.block_on(bounded)).await;
    done.unwrap_or_else(|error| Err(gate.error(TierErrorKind::Unavailable, error)))
}

fn payload(source: &Source, from: u64, to: u64) -> std::io::Result<PutPayload> {
    Ok(source.blocks(from, to)?.into_iter().collect())
}

/// Trouble with our own disk on the way into the tier.
fn here(gate: &Gate, error: &std::io::Error) -> TierError {
    gate.error(
        TierErrorKind::Refused,
        format_args!("reading what is to be written: {error}"),
    )
}

async fn collect(opened: Opened) -> Result<Bytes, TierError> {
    let mut bytes = BytesMut::with_capacity(usize::try_from(opened.size).unwrap_or_default());
    let mut stream = opened.stream;
    while let Some(block) = stream.try_next().await? {
        bytes.extend_from_slice(&block);
    }
    Ok(bytes.freeze())
}

/// The first few bytes of a body that should be short.
async fn short(
    mut stream: BoxStream<'static, Result<Bytes, TierError>>,
) -> Result<Bytes, TierError> {
    let mut bytes = BytesMut::new();
    while let Some(block) = stream.try_next().await? {
        bytes.extend_from_slice(&block);
        if bytes.len() > 256 {
            break;
        }
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
pub(crate) async fn hash_stream(
    mut stream: BoxStream<'static, Result<Bytes, TierError>>,
) -> Result<Digest, TierError> {
    let mut hasher = Hasher::default();
    while let Some(block) = stream.try_next().await? {
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
    }
}

/// What travels with an object, and how a browser or a static server should show it.
fn attributes(key: &Key, digest: &Digest) -> Attributes {
    let media = match key.as_str().rsplit_once('.') {
        Some((_, "zip")) => "application/zip",
        Some((_, "info")) => "application/json",
        Some((_, "mod" | "ziphash")) => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, media.into());
    attributes.insert(
        Attribute::Metadata("sha256".into()),
        digest.sha256_hex().into(),
    );
    if let Some(h1) = digest.h1.as_deref().and_then(checked_h1) {
        attributes.insert(Attribute::Metadata("h1".into()), h1.into_string().into());
    }
    attributes
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
        _ if is_timeout(&error) => TierErrorKind::Timeout,
        _ => TierErrorKind::Unavailable,
    };
    gate.error(kind, error)
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

fn unix_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
