//! Fetching one artifact: along the chain, into memory or a spool, checked, released, kept.

use std::{
    io::{Cursor, Read, Seek, SeekFrom},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use gomod::{
    h1::{self, H1},
    info, zip,
};
use store::{Committed, SpoolWriter, Spooled};
use upstream::{Ask, Body, BodyError, Fetched};

use crate::{
    answer::{Answer, Content, Life},
    artifact::{Artifact, Part},
    failure,
    flight::Teller,
    gateway::Gateway,
    metrics::Metrics,
    pipeline::WHOLE_ZIP_BYTES,
    record::Outcome,
    refusal::{Code, Refusal},
    settings::{Route, Settings},
    verify::{Proof, Verified},
};

/// Blocks are gathered up to so many bytes for one write.
const WRITE_BYTES: usize = 256 << 10;

/// A zip that has arrived.
enum Downloaded {
    Small(Bytes),
    Spooled(Spooled),
}

impl Gateway {
    /// The work of a flight. Tells its waiters as early as it can, and keeps what is good.
    pub(crate) async fn fetch(
        self: Arc<Self>,
        artifact: Artifact,
        route: Route,
        teller: Teller<Answer>,
    ) {
        self.metrics.flights.inc();
        if let Err(refusal) = self.try_fetch(&artifact, &route, &teller).await {
            let refusal = Arc::new(refusal);
            if artifact.part != Part::Zip {
                self.negatives.remember(
                    &artifact.key_text(),
                    &refusal,
                    &self.settings.load().negative,
                );
            }
            teller.tell(Err(refusal));
        }
        self.metrics.flights.dec();
    }

    async fn try_fetch(
        self: &Arc<Self>,
        artifact: &Artifact,
        route: &Route,
        teller: &Teller<Answer>,
    ) -> Result<(), Refusal> {
        let key = artifact.key()?;
        // Kept since this request looked: by a flight that has just landed.
        if let Ok(Some(kept)) = self.store.get(&key).await {
            teller.tell(Ok(Answer::kept(kept, artifact.part.media())));
            return Ok(());
        }
        let settings = self.settings.load_full();
        match artifact.part {
            Part::Info => self.fetch_info(&settings, artifact, route, teller).await,
            Part::Mod => self.fetch_mod(&settings, artifact, route, teller).await,
            Part::Zip => self.fetch_zip(&settings, artifact, route, teller).await,
        }
    }

    async fn fetch_info(
        self: &Arc<Self>,
        settings: &Settings,
        artifact: &Artifact,
        route: &Route,
        teller: &Teller<Answer>,
    ) -> Result<(), Refusal> {
        let (upstream, body) = small(settings, artifact, route, info::MAX_BYTES).await?;
        let kept = info::keepable(&body, &artifact.module, &artifact.version);
        let bytes = match kept {
            Ok(kept) => Bytes::copy_from_slice(&kept),
            Err(error) => {
                settings
                    .upstreams
                    .mark_bad(&upstream, &artifact.upstream_path());
                return Err(Refusal::new(
                    Code::UpstreamInvalid,
                    artifact.to_string(),
                    format!("{upstream} sent {error}"),
                ));
            }
        };
        self.land(artifact, Verified::info(bytes), None, upstream, teller)
            .await
    }

    async fn fetch_mod(
        self: &Arc<Self>,
        settings: &Settings,
        artifact: &Artifact,
        route: &Route,
        teller: &Teller<Answer>,
    ) -> Result<(), Refusal> {
        let (fetched, proof) = tokio::join!(
            small(settings, artifact, route, gomod::gomod_file::MAX_BYTES),
            self.proof(settings, artifact, route)
        );
        let (upstream, body) = fetched?;
        let verified = self.judge(
            settings,
            artifact,
            &upstream,
            &h1::hash_go_mod(&body),
            proof?,
            |proof| Verified::go_mod(body, proof),
        )?;
        self.land(artifact, verified, None, upstream, teller).await
    }

    /// Compares a hash with the proof; only what passes becomes `Verified`.
    pub(crate) fn judge<T>(
        &self,
        settings: &Settings,
        artifact: &Artifact,
        upstream: &str,
        hash: &H1,
        proof: Proof,
        make: impl FnOnce(&Proof) -> T,
    ) -> Result<T, Refusal> {
        match proof.admits(hash) {
            Ok(()) => {
                Metrics::count(&self.metrics.verifications, proof.result());
                Ok(make(&proof))
            }
            Err(wanted) => {
                Metrics::count(&self.metrics.verifications, "mismatch");
                Metrics::count(&self.metrics.incidents, "checksum_mismatch");
                settings
                    .upstreams
                    .mark_bad(upstream, &artifact.upstream_path());
                tracing::error!(%artifact, part = artifact.part.ending(), upstream, got = %hash, wanted = %wanted, "SECURITY: checksum mismatch; not kept, not served");
                let why = format!(
                    "what {upstream} sent ({hash}) is not what the checksum database says ({wanted})"
                );
                Err(Refusal::new(Code::ChecksumMismatch, format!("{artifact} {}", artifact.part.ending()), why)
                    .hint("the bytes changed since they were published, or somebody alters them on the way; another upstream is asked next time"))
            }
        }
    }

    /// Hands out a small artifact, then keeps it.
    async fn land(
        self: &Arc<Self>,
        artifact: &Artifact,
        verified: Verified<Bytes>,
        hash: Option<H1>,
        upstream: Arc<str>,
        teller: &Teller<Answer>,
    ) -> Result<(), Refusal> {
        let mut answer = Answer::new(
            Content::Bytes(verified.content().clone()),
            artifact.part.media(),
            Life::Immutable,
            Outcome::Miss,
        );
        answer.upstream = Some(upstream);
        answer.warning = verified.warning();
        if answer.warning.is_some() {
            answer.life = Life::For(std::time::Duration::ZERO);
        }
        teller.tell(Ok(answer));
        let key = artifact.key()?;
        if verified.warning().is_some() {
            self.verify_later(artifact.clone());
            return Ok(());
        }
        let hash_key = crate::artifact::key(format!("{key}hash"), || artifact.to_string())?;
        let committed = self
            .on_disk(move |gateway| {
                let committed = gateway.store.put_small(&key, verified.content())?;
                if let Some(hash) = hash {
                    let hash = Bytes::from(hash.to_string());
                    gateway.store.put_small(&hash_key, &hash)?;
                }
                Ok(committed)
            })
            .await?;
        self.committed(artifact, committed);
        Ok(())
    }

    async fn fetch_zip(
        self: &Arc<Self>,
        settings: &Settings,
        artifact: &Artifact,
        route: &Route,
        teller: &Teller<Answer>,
    ) -> Result<(), Refusal> {
        let ask = Ask {
            path: artifact.upstream_path(),
            hedge: true,
        };
        let proof = self.proof(settings, artifact, route);
        let download = async {
            let fetched = settings.upstreams.fetch(route.chain(), &ask).await;
            let fetched = fetched.map_err(|error| {
                failure::refusal(&artifact.to_string(), Code::VersionNotFound, &error)
            })?;
            let upstream = Arc::clone(&fetched.upstream);
            // A small one never touches the disk before it is answered.
            let length = fetched.length.filter(|length| *length <= WHOLE_ZIP_BYTES);
            let zip = match length.and_then(|length| usize::try_from(length).ok()) {
                Some(length) => {
                    let body = fetched.body.into_bytes(length).await;
                    let body = body.map_err(|error| {
                        let path = artifact.upstream_path();
                        settings.upstreams.mark_bad(&upstream, &path);
                        broken(artifact, &upstream, &error)
                    })?;
                    Downloaded::Small(body)
                }
                None => {
                    Downloaded::Spooled(self.receive(settings, artifact, fetched, teller).await?)
                }
            };
            Ok((upstream, zip))
        };
        let (downloaded, proof) = tokio::join!(download, proof);
        let (upstream, zip): (Arc<str>, Downloaded) = downloaded?;
        match zip {
            Downloaded::Small(body) => {
                let proof = proof?;
                let content = Cursor::new(body.clone());
                let hash = self
                    .check_zip(settings, artifact, &upstream, content, proof.needs_hash())
                    .await?;
                let verified = self.judge_zip(settings, artifact, &upstream, hash, &proof, body)?;
                self.land(artifact, verified, hash, upstream, teller).await
            }
            Downloaded::Spooled(spooled) => {
                let judged = async {
                    let proof = proof?;
                    let content = spooled.reader();
                    let hash = self
                        .check_zip(settings, artifact, &upstream, content, proof.needs_hash())
                        .await?;
                    let passed = self.judge_zip(settings, artifact, &upstream, hash, &proof, ())?;
                    Ok((passed, hash))
                };
                match judged.await {
                    Ok((passed, hash)) => {
                        self.land_spooled(artifact, passed.with(spooled), hash)
                            .await
                    }
                    Err(refusal) => {
                        let refusal: Refusal = refusal;
                        teller.tell(Err(Arc::new(refusal.clone())));
                        spooled.refuse(&refusal.to_string());
                        Err(refusal)
                    }
                }
            }
        }
    }

    /// Compares a zip's hash with the proof, where there is one to compare with.
    pub(crate) fn judge_zip<T>(
        &self,
        settings: &Settings,
        artifact: &Artifact,
        upstream: &str,
        hash: Option<H1>,
        proof: &Proof,
        content: T,
    ) -> Result<Verified<T>, Refusal> {
        let Some(hash) = hash else {
            Metrics::count(&self.metrics.verifications, proof.result());
            return Ok(Verified::zip(content, proof));
        };
        self.judge(
            settings,
            artifact,
            upstream,
            &hash,
            proof.clone(),
            |proof| Verified::zip(content, proof),
        )
    }

    /// Gives the waiters of a spool its last part, then keeps it.
    async fn land_spooled(
        self: &Arc<Self>,
        artifact: &Artifact,
        mut verified: Verified<Spooled>,
        hash: Option<H1>,
    ) -> Result<(), Refusal> {
        verified.content_mut().release();
        if verified.warning().is_some() {
            self.verify_later(artifact.clone());
            return Ok(());
        }
        let committed = self.keep_zip(artifact, verified, hash).await?;
        self.committed(artifact, committed);
        Ok(())
    }

    /// Keeps a zip, and its hash beside it as Go's cache has it.
    pub(crate) async fn keep_zip(
        self: &Arc<Self>,
        artifact: &Artifact,
        verified: Verified<Spooled>,
        hash: Option<H1>,
    ) -> Result<std::io::Result<Committed>, Refusal> {
        let key = artifact.key()?;
        let hash_key = crate::artifact::key(format!("{key}hash"), || artifact.to_string())?;
        self.on_disk(move |gateway| {
            let committed = gateway.store.commit(verified.into_content(), &key)?;
            if let Some(hash) = hash {
                gateway
                    .store
                    .put_small(&hash_key, &Bytes::from(hash.to_string()))?;
            }
            Ok(committed)
        })
        .await
    }

    /// Streams a zip into a spool that the waiters read along.
    async fn receive(
        &self,
        settings: &Settings,
        artifact: &Artifact,
        mut fetched: Fetched,
        teller: &Teller<Answer>,
    ) -> Result<Spooled, Refusal> {
        let too_large = || {
            let why = format!(
                "{} sent a zip of more than {} bytes, the limit for modules",
                fetched.upstream, settings.max_zip_bytes
            );
            Refusal::new(Code::UpstreamInvalid, artifact.to_string(), why)
        };
        if fetched
            .length
            .is_some_and(|length| length > settings.max_zip_bytes)
        {
            return Err(too_large());
        }
        let mut writer = self
            .store
            .spool(fetched.length)
            .await
            .map_err(|error| disk(artifact, &error))?;
        let mut answer = Answer::new(
            Content::Spool(writer.spool()),
            artifact.part.media(),
            Life::Immutable,
            Outcome::Miss,
        );
        answer.upstream = Some(Arc::clone(&fetched.upstream));
        teller.tell(Ok(answer));
        // Told first: a client that sees its body break off and asks again at once must not join this fetch.
        let failed = |refusal: Refusal, writer: SpoolWriter| {
            teller.tell(Err(Arc::new(refusal.clone())));
            writer.fail(&refusal.to_string());
            refusal
        };
        let mut blocks = Vec::new();
        loop {
            let done = match gather(&mut fetched.body, &mut blocks).await {
                Ok(done) => done,
                Err(error) => {
                    let refusal = broken(artifact, &fetched.upstream, &error);
                    settings
                        .upstreams
                        .mark_bad(&fetched.upstream, &artifact.upstream_path());
                    return Err(failed(refusal, writer));
                }
            };
            if writer.written() + blocks.iter().map(|block| block.len() as u64).sum::<u64>()
                > settings.max_zip_bytes
            {
                return Err(failed(too_large(), writer));
            }
            if let Err(error) = writer.write(std::mem::take(&mut blocks)).await {
                return Err(failed(disk(artifact, &error), writer));
            }
            if done {
                return Ok(writer.finish());
            }
        }
    }

    /// Structure, limits and content of a zip; its hash if somebody wants to know.
    pub(crate) async fn check_zip(
        self: &Arc<Self>,
        settings: &Settings,
        artifact: &Artifact,
        upstream: &str,
        mut content: impl Read + Seek + Send + 'static,
        hash: bool,
    ) -> Result<Option<H1>, Refusal> {
        let wanted = artifact.clone();
        let want = if hash {
            zip::Want::Hash
        } else {
            zip::Want::CrcOnly
        };
        let checked = self
            .on_disk(move |_| {
                let len = content.seek(SeekFrom::End(0))?;
                zip::check(
                    content,
                    len,
                    &wanted.module,
                    &wanted.version,
                    &zip::Limits::default(),
                    want,
                )
            })
            .await?;
        match checked {
            Ok(report) => Ok(report.h1),
            Err(error) => {
                Metrics::count(&self.metrics.verifications, "invalid");
                settings
                    .upstreams
                    .mark_bad(upstream, &artifact.upstream_path());
                tracing::warn!(%artifact, upstream, %error, "refused a zip");
                Err(Refusal::new(
                    Code::UpstreamInvalid,
                    artifact.to_string(),
                    format!("the zip from {upstream} is not valid: {error}"),
                )
                .hint(
                    "nothing of it was kept; if another upstream has the module it is asked next",
                ))
            }
        }
    }

    /// Counts a commit and makes the module's lists true.
    fn committed(&self, artifact: &Artifact, committed: std::io::Result<Committed>) {
        match committed {
            Ok(how) => {
                Metrics::count(
                    &self.metrics.commits,
                    if how == Committed::New {
                        "kept"
                    } else {
                        "present"
                    },
                );
                self.changed(&artifact.module);
            }
            Err(error) => {
                Metrics::count(&self.metrics.commits, "failed");
                tracing::error!(%artifact, part = artifact.part.ending(), %error, "verified and served, but it could not be kept");
            }
        }
    }
}

/// A small answer, whole.
async fn small(
    settings: &Settings,
    artifact: &Artifact,
    route: &Route,
    max: usize,
) -> Result<(Arc<str>, Bytes), Refusal> {
    let ask = Ask {
        path: artifact.upstream_path(),
        hedge: true,
    };
    let fetched = settings.upstreams.fetch(route.chain(), &ask).await;
    let fetched = fetched
        .map_err(|error| failure::refusal(&artifact.to_string(), Code::VersionNotFound, &error))?;
    let upstream = Arc::clone(&fetched.upstream);
    let body = fetched
        .body
        .into_bytes(max)
        .await
        .map_err(|error| broken(artifact, &upstream, &error))?;
    Ok((upstream, body))
}

/// Waits for one block, then takes what else is there, up to one write. True at the end.
async fn gather(body: &mut Body, blocks: &mut Vec<Bytes>) -> Result<bool, BodyError> {
    let Some(block) = body.next_chunk().await? else {
        return Ok(true);
    };
    let mut bytes = block.len();
    blocks.push(block);
    while bytes < WRITE_BYTES {
        match body.next_chunk().now_or_never() {
            Some(Ok(Some(block))) => {
                bytes += block.len();
                blocks.push(block);
            }
            Some(Ok(None)) => return Ok(true),
            Some(Err(error)) => return Err(error),
            None => break,
        }
    }
    Ok(false)
}

fn broken(artifact: &Artifact, upstream: &str, error: &BodyError) -> Refusal {
    Refusal::new(
        Code::UpstreamUnavailable,
        artifact.to_string(),
        format!("the answer of {upstream} broke off: {error}"),
    )
}

/// A disk that is full, or fails.
fn disk(artifact: &Artifact, error: &std::io::Error) -> Refusal {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let full = matches!(error.kind(), StorageFull | QuotaExceeded);
    tracing::error!(%artifact, %error, "cannot write to the data folder");
    let code = if full {
        Code::StorageFull
    } else {
        Code::StorageError
    };
    Refusal::new(
        code,
        artifact.to_string(),
        format!("cannot be kept: {error}"),
    )
    .hint(
        "the disk of this gateway's data folder is in trouble; what it has already is still served",
    )
}
