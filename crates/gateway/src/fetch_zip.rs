//! Fetching a zip: along the chain, into memory or a spool that its waiters read along, checked, released, kept.

use std::{
    io::Cursor,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _, TryFutureExt as _,
    future::{BoxFuture, Either, Shared, select},
};
use gomod::h1::H1;
use store::{Committed, SpoolWriter, Spooled};
use tokio::time::timeout;

use crate::{
    answer::{Answer, Content, Life},
    artifact::Artifact,
    flight::Teller,
    gateway::Gateway,
    pipeline::WHOLE_ZIP_BYTES,
    record::Outcome,
    refusal::{Code, Refusal},
    settings::{Route, Settings},
    source::{Found, Search},
    verify::{Proof, Verified},
};

/// Blocks are gathered up to so many bytes for one write.
const WRITE_BYTES: usize = 256 << 10;

/// A zip that has arrived.
enum Downloaded {
    Small(Bytes),
    Spooled(Spooled),
}

/// What the checksum database says, asked while the download runs.
type Proving<'a> = Shared<BoxFuture<'a, Result<Proof, Arc<Refusal>>>>;

/// How long clients of a zip that streams wait for its proof before they get its beginning: a refusal that comes by then is one that
/// says why, and later ones can only cut the connection. The end of the zip is not later for it, which waits for the proof anyway.
const HEAD_WAIT: Duration = Duration::from_millis(100);

impl Gateway {
    pub(crate) async fn fetch_zip(
        self: &Arc<Self>,
        settings: &Settings,
        artifact: &Artifact,
        route: &Route,
        teller: &Teller<Answer>,
    ) -> Result<(), Refusal> {
        let wish = artifact.wish();
        let mut search = Search::new(settings, route, &artifact.module, &wish).pinned(self, route);
        let proof = self
            .proof(settings, artifact, route)
            .map_err(Arc::new)
            .boxed()
            .shared();
        let (mut upstream, mut zip) = {
            let download = self.download(settings, artifact, &mut search, &proof, teller);
            match select(pin!(download), proof.clone()).await {
                Either::Left((downloaded, _)) => downloaded?,
                // Whether there is such a version at all is for upstream to say, also when the database knows none.
                Either::Right((_, download)) => download.await?,
            }
        };
        let proven = proof.clone().await.map_err(|refusal| (*refusal).clone());
        loop {
            match zip {
                Downloaded::Small(body) => {
                    let proof = proven.clone()?;
                    match self
                        .check_small(settings, artifact, &upstream, &proof, body)
                        .await
                    {
                        Ok((verified, hash)) => {
                            return self.land(artifact, verified, hash, upstream, teller).await;
                        }
                        Err(refusal) => search.reject(refusal.sent_by(&upstream), true)?,
                    }
                }
                Downloaded::Spooled(spooled) => {
                    return self
                        .finish_spooled(settings, artifact, &upstream, proven, spooled, teller)
                        .await;
                }
            }
            (upstream, zip) = self
                .download(settings, artifact, &mut search, &proof, teller)
                .await?;
        }
    }

    /// A zip whole in memory, or one that streams to its waiters; of those that break off in memory the next is taken.
    async fn download(
        &self,
        settings: &Settings,
        artifact: &Artifact,
        search: &mut Search<'_>,
        proof: &Proving<'_>,
        teller: &Teller<Answer>,
    ) -> Result<(Arc<str>, Downloaded), Refusal> {
        loop {
            let found = search.next().await?;
            let upstream = Arc::clone(&found.upstream);
            // A small one never touches the disk before it is answered, and nobody has anything of it until it is good.
            let whole = WHOLE_ZIP_BYTES.min(settings.max_zip_bytes);
            let small = found.length.filter(|length| *length <= whole);
            let small = small.and_then(|length| usize::try_from(length).ok());
            let streams = AtomicBool::new(false);
            let arriving = async {
                let found = match (small, found.length) {
                    (Some(length), _) => {
                        return found.into_bytes(length).await.map(Downloaded::Small);
                    }
                    (None, Some(_)) => found,
                    // How long it is shows when it ends.
                    (None, None) => match found.whole_up_to(whole).await? {
                        Ok(body) => return Ok(Downloaded::Small(body)),
                        Err(found) => found,
                    },
                };
                streams.store(true, Relaxed);
                let spooled = self.receive(settings, artifact, found, proof, teller);
                spooled.await.map(Downloaded::Spooled)
            };
            match select(pin!(arriving), pin!(refused(proof))).await {
                Either::Left((Ok(zip), _)) => return Ok((upstream, zip)),
                Either::Left((Err(refusal), _)) if !streams.load(Relaxed) => {
                    search.reject(refusal, true)?;
                }
                Either::Left((Err(refusal), _)) => return Err(refusal),
                Either::Right((refusal, _)) => {
                    // Told before the download is dropped and those who read along see it break off.
                    teller.tell(Err(Arc::clone(&refusal)));
                    return Err((*refusal).clone());
                }
            }
        }
    }

    async fn check_small(
        self: &Arc<Self>,
        settings: &Settings,
        artifact: &Artifact,
        upstream: &str,
        proof: &Proof,
        body: Bytes,
    ) -> Result<(Verified<Bytes>, Option<H1>), Refusal> {
        let content = Cursor::new(body.clone());
        let hash = self
            .check_zip(settings, artifact, upstream, content, proof.needs_hash())
            .await?;
        let verified = self.judge_zip(settings, artifact, upstream, hash, proof, body)?;
        Ok((verified, hash))
    }

    /// Judges what has streamed: its waiters get the last part, or an error.
    async fn finish_spooled(
        self: &Arc<Self>,
        settings: &Settings,
        artifact: &Artifact,
        upstream: &Arc<str>,
        proof: Result<Proof, Refusal>,
        spooled: Spooled,
        teller: &Teller<Answer>,
    ) -> Result<(), Refusal> {
        let judged = async {
            let proof = proof?;
            let content = spooled.reader();
            let hash = self
                .check_zip(settings, artifact, upstream, content, proof.needs_hash())
                .await?;
            let passed = self.judge_zip(settings, artifact, upstream, hash, &proof, ())?;
            Ok((passed, hash))
        };
        match judged.await {
            Ok((passed, hash)) => {
                self.land_spooled(artifact, passed.with(spooled), hash, teller)
                    .await
            }
            Err(refusal) => {
                let refusal: Refusal = refusal;
                teller.tell(Err(Arc::new(refusal.clone())));
                spooled.refuse(&refusal.to_string());
                Err(refusal.sent_by(upstream))
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
            self.metrics.verifications.count(proof.result());
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
        teller: &Teller<Answer>,
    ) -> Result<(), Refusal> {
        if self.tiers.keeps_elsewhere() && verified.warning().is_none() {
            let spooled = verified.into_content();
            let proven = hash.is_some();
            let hash = self.zip_hash(artifact, hash, spooled.reader()).await?;
            return self
                .land_spooled_in_tiers(artifact, spooled, hash, proven, teller)
                .await;
        }
        verified.content_mut().release();
        if verified.warning().is_some() {
            return match hash {
                Some(hash) => self.verify_later(artifact, hash).await,
                None => Ok(()),
            };
        }
        let hash = if self.hashes_zips() {
            let content = verified.content().reader();
            Some(self.zip_hash(artifact, hash, content).await?)
        } else {
            hash
        };
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
                let hash = Bytes::from(hash.to_string());
                gateway.store.put_small(&hash_key, &hash)?;
            }
            Ok(committed)
        })
        .await
    }

    /// Streams a zip into a spool that the waiters read along. Where it might be served unverified they join only when
    /// that is known, since an answer says so in its head.
    async fn receive(
        &self,
        settings: &Settings,
        artifact: &Artifact,
        mut found: Found,
        proof: &Proving<'_>,
        teller: &Teller<Answer>,
    ) -> Result<Spooled, Refusal> {
        let upstream = Arc::clone(&found.upstream);
        let too_large = || {
            settings
                .upstreams
                .mark_bad(&upstream, &artifact.upstream_path());
            let why = format!(
                "{upstream} sent a zip of more than {} bytes, the limit for modules",
                settings.max_zip_bytes
            );
            Refusal::new(Code::UpstreamInvalid, artifact.to_string(), why)
        };
        if found
            .length
            .is_some_and(|length| length > settings.max_zip_bytes)
        {
            return Err(too_large());
        }
        let mut writer = self
            .store
            .spool(found.length)
            .await
            .map_err(|error| disk(artifact, &error))?;
        if self.tiers.keeps_elsewhere() {
            writer.hash_along();
        }
        let mut answer = Answer::new(
            Content::Spool(writer.spool()),
            artifact.part.media(),
            Life::Immutable,
            Outcome::Miss,
        );
        answer.upstream = Some(Arc::clone(&upstream));
        let mut untold = Some(answer);
        let tell = |untold: &mut Option<Answer>, proof: Option<&Proof>| {
            let Some(mut answer) = untold.take() else {
                return;
            };
            answer.warning = proof.and_then(Proof::warning);
            if answer.warning.is_some() {
                answer.life = Life::For(Duration::ZERO);
            }
            teller.tell(Ok(answer));
        };
        let may_pass_unverified = self.may_pass_unverified(artifact);
        let ready = async {
            let known = async {
                match proof.clone().await {
                    Ok(proof) => proof,
                    // Whoever waits for it beside this refuses.
                    Err(_) => std::future::pending().await,
                }
            };
            if may_pass_unverified {
                Some(known.await)
            } else {
                timeout(HEAD_WAIT, known).await.ok()
            }
        };
        let mut ready = pin!(ready);
        // Told first: a client that sees its body break off and asks again at once must not join this fetch.
        let failed = |refusal: Refusal, writer: SpoolWriter| {
            teller.tell(Err(Arc::new(refusal.clone())));
            writer.fail(&refusal.to_string());
            refusal
        };
        let mut blocks = Vec::new();
        loop {
            let gathered = {
                let mut gathering = pin!(gather(&mut found, &mut blocks));
                loop {
                    tokio::select! {
                        gathered = &mut gathering => break gathered,
                        proof = &mut ready, if untold.is_some() => tell(&mut untold, proof.as_ref()),
                    }
                }
            };
            let done = match gathered {
                Ok(done) => done,
                Err(refusal) => {
                    settings
                        .upstreams
                        .mark_bad(&upstream, &artifact.upstream_path());
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
            if let Some(Ok(proof)) = proof.peek() {
                tell(&mut untold, Some(proof));
            }
            if done && untold.is_some() {
                match proof.clone().await {
                    Ok(proof) => tell(&mut untold, Some(&proof)),
                    Err(refusal) => return Err(failed((*refusal).clone(), writer)),
                }
            }
            if done {
                return Ok(writer.finish());
            }
        }
    }
}

/// Ends when the checksum database refuses, and never if it does not.
async fn refused(proof: &Proving<'_>) -> Arc<Refusal> {
    match proof.clone().await {
        Err(refusal) => refusal,
        Ok(_) => std::future::pending().await,
    }
}

/// Waits for one block, then takes what else is there, up to one write. True at the end.
async fn gather(found: &mut Found, blocks: &mut Vec<Bytes>) -> Result<bool, Refusal> {
    let Some(block) = found.next_chunk().await? else {
        return Ok(true);
    };
    let mut bytes = block.len();
    blocks.push(block);
    while bytes < WRITE_BYTES {
        match found.next_chunk().now_or_never() {
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
