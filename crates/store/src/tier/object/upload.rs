//! Into object storage: conditional creates, claims, uploads in parts.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{
    Attribute, Attributes, Error, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    UpdateVersion, path::Path,
};
use tokio::{runtime::Handle, task::spawn_blocking, time::timeout};

use super::{
    Gate, Head, ObjectTier, SIGN_INLINE, Source, TierError, TierErrorKind, code_in, count,
    hash_stream, is_timeout, map,
};
use crate::{Committed, Digest, Key, digest::checked_h1};

/// Length of a part of an upload; up to this an object is written in one request.
const PART_BYTES: u64 = 8 << 20;
/// Parts of one upload under way at a time.
const PARTS_AT_ONCE: usize = 2;
/// What Azure says when parts that are to be put together are not there: whoever finishes an object clears away the parts
/// of all others.
const PARTS_GONE: &str = "InvalidBlockList";
/// Tries where the storage says both that there is an object and that there is none.
pub(super) const TRIES: u32 = 4;
/// What it is told as then. versitygw does so where its bucket keeps versions.
const CONTRADICTION: &str = "says of what is not there that it is, when it is to be written: does the bucket keep versions, and its service count one that was removed?";
/// Between two of them.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// How a single write went.
pub(super) enum Created {
    Yes,
    Taken,
}

impl ObjectTier {
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
            let put = if small && source.len() > SIGN_INLINE && self.there(&path).await? {
                // Not sent in vain.
                Created::Taken
            } else if small {
                let mode = PutMode::Create;
                self.write(&path, source.clone(), attributes(key, digest), mode)
                    .await?
            } else {
                self.create_large(key, &path, source, digest, None).await?
            };
            if let Created::Yes = put {
                return Ok(Committed::New);
            }
            let there = self
                .gate
                .run(self.settings.timeout, self.look(&path))
                .await?;
            match there {
                Some(there) if there.digest.is_none() => {
                    let taken = self.take_over(key, &path, &there, source, digest).await?;
                    if let Some(how) = taken {
                        return Ok(how);
                    }
                }
                Some(there) => return self.compare(key, &path, there, source, digest).await,
                // Another writer is just about to finish, or somebody removed it.
                None => tokio::time::sleep(PAUSE).await,
            }
        }
        Err(self.contradiction(key))
    }

    async fn there(&self, path: &Path) -> Result<bool, TierError> {
        let there = self
            .gate
            .run(self.settings.timeout, self.look(path))
            .await?;
        Ok(there.is_some())
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
        let bad = self.was_bad(key, there.mark.as_deref()) || there.size != digest.size;
        if bad
            && there
                .digest
                .as_ref()
                .is_some_and(|stated| stated.sha256 == digest.sha256)
        {
            // It says that it is ours, and is not.
            self.replace(key, path, source, digest).await?;
            self.bad.invalidate(key);
            return Ok(Committed::New);
        }
        let same = match &there.digest {
            Some(stated) if stated.same_bytes(digest) => true,
            // Its bytes are not what it says itself: they may still be ours.
            Some(_) if self.was_bad(key, there.mark.as_deref()) => {
                self.adopt(key, path, there, source, digest).await?
            }
            // Without one it was taken over.
            Some(_) | None => false,
        };
        if same {
            return Ok(Committed::Present);
        }
        Err(self.differs(key))
    }

    pub(super) fn contradiction(&self, of: impl fmt::Display) -> TierError {
        let error = self.gate.error(
            TierErrorKind::Refused,
            format_args!("{CONTRADICTION}: {of}"),
        );
        self.gate.note(Some(&error));
        error
    }

    pub(super) fn differs(&self, key: &Key) -> TierError {
        let error = self.gate.error(TierErrorKind::Differs, key);
        self.gate.note(Some(&error));
        tracing::error!(tier = %self.settings.name, %key, "SECURITY: other bytes under this key");
        error
    }

    /// Takes the place of an object that somebody else put there: it has no digest, so nothing says what it must be. If
    /// its bytes are ours it gets our digest, else a copy goes into quarantine. `None`: there is another one by now.
    async fn take_over(
        &self,
        key: &Key,
        path: &Path,
        there: &Head,
        source: &Source,
        digest: &Digest,
    ) -> Result<Option<Committed>, TierError> {
        if there.size == digest.size && self.adopt(key, path, there.clone(), source, digest).await?
        {
            return Ok(Some(Committed::Present));
        }
        count(&self.gate.counters.corrupt);
        self.copy_aside(key).await?;
        tracing::error!(tier = %self.settings.name, %key, "SECURITY: an object that modgate did not put there is not what it should be; in quarantine, and replaced");
        let created = if source.len() <= PART_BYTES {
            let only_over = PutMode::Update(UpdateVersion {
                e_tag: there.mark.as_deref().map(ToOwned::to_owned),
                version: there.generation.as_deref().map(ToOwned::to_owned),
            });
            self.write(path, source.clone(), attributes(key, digest), only_over)
                .await?
        } else {
            self.create_large(key, path, source, digest, there.mark.as_deref())
                .await?
        };
        Ok(match created {
            Created::Yes => Some(Committed::New),
            Created::Taken => None,
        })
    }

    /// Compares an object by its bytes; if they are ours it gets our digest.
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
        if !hash_stream(opened).await?.same_bytes(digest) {
            return Ok(false);
        }
        // Whoever reads meanwhile sees no difference.
        self.replace(key, path, source, digest).await?;
        Ok(true)
    }

    /// Writes over what is there: the same bytes again, or good ones over bad ones.
    async fn replace(
        &self,
        key: &Key,
        path: &Path,
        source: &Source,
        digest: &Digest,
    ) -> Result<(), TierError> {
        let attributes = attributes(key, digest);
        if source.len() <= PART_BYTES {
            let written = self
                .write(path, source.clone(), attributes, PutMode::Overwrite)
                .await;
            return written.map(drop);
        }
        for _ in 0..TRIES {
            if let Created::Yes = self.upload(path, source, attributes.clone()).await? {
                return Ok(());
            }
        }
        Err(self.gate.error(
            TierErrorKind::Unavailable,
            "others write the same object again and again",
        ))
    }

    /// One request.
    pub(super) async fn write(
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
            let mut put = store
                .put_opts(&path, payload.clone(), options.clone())
                .await;
            if matches!(&put, Err(error @ Error::Generic { .. }) if !is_timeout(error)) {
                // A service may refuse and hang up before it has read the body, and the refusal is lost. Asked
                // again, it says so; and if it did write, it is there now.
                put = store.put_opts(&path, payload, options).await;
            }
            match put {
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

    /// A conditional create in parts, by way of a claim; over the object with this mark, if there is one.
    async fn create_large(
        &self,
        key: &Key,
        path: &Path,
        source: &Source,
        digest: &Digest,
        over: Option<&str>,
    ) -> Result<Created, TierError> {
        let claim = self.below("_claims", key)?;
        self.claim(key, &claim, digest).await?;
        // Looked for after the claim: whoever finished before has its object there, whoever comes now sees our claim.
        let there = self
            .gate
            .run(self.settings.timeout, self.look(path))
            .await?;
        if there.is_some_and(|there| over.is_none() || there.mark.as_deref() != over) {
            self.unclaim(&claim).await;
            return Ok(Created::Taken);
        }
        let uploaded = self.upload(path, source, attributes(key, digest)).await?;
        self.unclaim(&claim).await;
        Ok(uploaded)
    }

    /// In parts. [`Created::Taken`] if another writer finished meanwhile and so took our parts away, as Azure has it.
    async fn upload(
        &self,
        path: &Path,
        source: &Source,
        attributes: Attributes,
    ) -> Result<Created, TierError> {
        let _upload = self.uploads.acquire().await;
        let _slot = self.gate.enter(self.settings.timeout).await?;
        let limit = self.settings.idle_timeout;
        let begun = async {
            let options = PutMultipartOptions {
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
                    match upload.complete().await {
                        Ok(_) => Ok(Created::Yes),
                        // Also when our own list was taken, and the answer lost.
                        Err(error) if code_in(&error.to_string()) == Some(PARTS_GONE) => {
                            Ok(Created::Taken)
                        }
                        Err(error) => Err(map(&self.gate, error)),
                    }
                };
                self.gate.watch(limit, complete).await
            }
            Err(error) => Err(error),
        };
        if done.is_err() {
            // Best effort: a bucket should have a rule that removes old parts.
            let _ = timeout(self.settings.timeout, upload.abort()).await;
        }
        done
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
