//! Fetching one artifact: along the chain, into memory or a spool, checked, released, kept.

use std::{io::Cursor, sync::Arc};

use bytes::Bytes;
use gomod::{
    gomod_file::{self, NotOfModule},
    h1::{self, H1},
    info,
};
use store::Committed;

use crate::{
    answer::{Answer, Content, Life},
    artifact::{Artifact, Part},
    flight::Teller,
    gateway::Gateway,
    keep::{Kept, Turn},
    record::Outcome,
    refusal::{Code, Refusal},
    results::{Commit, Incident, Verification},
    settings::{Route, Settings},
    source::{DIRECT, Search},
    verify::{Proof, Verified},
};

impl Gateway {
    /// The work of a flight. Tells its waiters as early as it can, and keeps what is good.
    pub(crate) async fn fetch(
        self: Arc<Self>,
        artifact: Artifact,
        route: Route,
        teller: Teller<Answer>,
    ) {
        self.metrics.flights.inc();
        if let Err(refusal) = Box::pin(self.try_fetch(&artifact, &route, &teller)).await {
            let refusal = Arc::new(refusal);
            let gone = matches!(refusal.code, Code::VersionNotFound | Code::ResourceGone);
            if artifact.part != Part::Zip || gone {
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
        let broken = match self.tell_kept(artifact, &key, teller).await {
            Kept::Told => return Ok(()),
            // What would be fetched could not be kept: a clear no is better than a zip that breaks off.
            Kept::Unknown(refusal) if self.tiers.keeps_elsewhere() && !self.tiers.defers() => {
                return Err(refusal);
            }
            // Upstream has it too, perhaps.
            Kept::Absent | Kept::Unknown(_) => None,
            Kept::Broken(refusal) => Some(refusal),
        };
        let Turn::Ours(_lease) = self.turn(artifact, &key, teller).await else {
            return Ok(());
        };
        let settings = self.settings.load_full().by_way_of(route.via());
        let fetched = match artifact.part {
            Part::Info => self.fetch_info(&settings, artifact, route, teller).await,
            Part::Mod => self.fetch_mod(&settings, artifact, route, teller).await,
            Part::Zip => Box::pin(self.fetch_zip(&settings, artifact, route, teller)).await,
        };
        // That nobody else has it, or may be asked, does not mean that it is not kept.
        fetched.map_err(|refusal| match (broken, refusal.code) {
            (
                Some(broken),
                Code::LookupDisabled
                | Code::ModuleNotFound
                | Code::VersionNotFound
                | Code::ResourceGone,
            ) => broken,
            _ => refusal,
        })
    }

    async fn fetch_info(
        self: &Arc<Self>,
        settings: &Settings,
        artifact: &Artifact,
        route: &Route,
        teller: &Teller<Answer>,
    ) -> Result<(), Refusal> {
        let wish = artifact.wish();
        let mut search = Search::new(settings, route, &artifact.module, &wish);
        let (upstream, bytes) = loop {
            let (upstream, body) = search.whole(info::MAX_BYTES).await?;
            match info::keepable(&body, &artifact.module, &artifact.version) {
                Ok(kept) => break (upstream, Bytes::copy_from_slice(&kept)),
                Err(error) => {
                    let why = format!("{upstream} sent {error}");
                    let bad = Refusal::new(Code::UpstreamInvalid, artifact.to_string(), why);
                    search.reject(bad.sent_by(&upstream), false)?;
                }
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
        const MAX_BYTES: usize = gomod_file::MAX_BYTES;
        let wish = artifact.wish();
        let mut search = Search::new(settings, route, &artifact.module, &wish).pinned(self, route);
        let (fetched, proof) = tokio::join!(
            search.whole(MAX_BYTES),
            self.proof(settings, artifact, route)
        );
        let (mut upstream, mut body) = fetched?;
        let proof = proof?;
        let (verified, hash) = loop {
            let hash = h1::hash_go_mod(&body);
            let judged = self
                .check_go_mod(settings, artifact, &upstream, &body, &proof)
                .and_then(|()| {
                    let make = |proof: &Proof| Verified::go_mod(body, proof);
                    self.judge(settings, artifact, &upstream, &hash, proof.clone(), make)
                });
            match judged {
                Ok(verified) => break (verified, hash),
                Err(refusal) => search.reject(refusal.sent_by(&upstream), true)?,
            }
            (upstream, body) = search.whole(MAX_BYTES).await?;
        };
        self.land(artifact, verified, Some(hash), upstream, teller)
            .await
    }

    /// Looks at a `go.mod` that nothing is compared with: a login page, or the file of another major version, is not kept.
    /// It need not parse (protocol.md 1.4): go downloads it all the same. One with a proof is what its author published,
    /// however odd; and what version control has is no page.
    pub(crate) fn check_go_mod(
        &self,
        settings: &Settings,
        artifact: &Artifact,
        upstream: &str,
        body: &[u8],
        proof: &Proof,
    ) -> Result<(), Refusal> {
        if matches!(proof, Proof::Hash(_)) {
            return Ok(());
        }
        let looked = if upstream != DIRECT && gomod_file::is_page(body) {
            Err(NotOfModule::Page)
        } else {
            gomod_file::check_of(body, &artifact.module)
        };
        looked.map_err(|error| {
            self.metrics.verifications.count(Verification::Invalid);
            settings
                .upstreams
                .mark_bad(upstream, &artifact.upstream_path());
            tracing::warn!(%artifact, upstream, %error, "refused a go.mod");
            let why = format!("the go.mod from {upstream} is not valid: {error}");
            Refusal::new(Code::UpstreamInvalid, artifact.to_string(), why)
        })
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
                self.metrics.verifications.count(proof.result());
                Ok(make(&proof))
            }
            Err(wanted) => {
                self.metrics.verifications.count(Verification::Mismatch);
                self.metrics.incidents.count(Incident::ChecksumMismatch);
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
    pub(crate) async fn land(
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
        if self.tiers.keeps_elsewhere() && answer.warning.is_none() {
            let bytes = verified.into_content();
            let hash = if artifact.part == Part::Zip {
                let content = Cursor::new(bytes.clone());
                Some(self.zip_hash(artifact, hash, content).await?)
            } else {
                None
            };
            return self
                .land_in_tiers(artifact, bytes, hash, answer, teller)
                .await;
        }
        teller.tell(Ok(answer));
        let key = artifact.key()?;
        if verified.warning().is_some() {
            return match hash {
                Some(hash) => self.verify_later(artifact, hash).await,
                None => Ok(()),
            };
        }
        let hashed = artifact.part == Part::Zip && (self.hashes_zips() || hash.is_some());
        let zip = hashed.then(|| Cursor::new(verified.content().clone()));
        let hash = match zip {
            Some(content) => Some(self.zip_hash(artifact, hash, content).await?),
            None => None,
        };
        let hash_key = crate::artifact::key(format!("{key}hash"), || artifact.to_string())?;
        let (module, listed) = (artifact.module.clone(), artifact.part == Part::Mod);
        let committed = self
            .on_disk(move |gateway| {
                let keep = || gateway.store.put_small(&key, verified.content());
                let committed = if listed {
                    gateway.keep_listed(&module, keep)?
                } else {
                    keep()?
                };
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

    /// Counts a commit and makes the module's lists true.
    pub(crate) fn committed(&self, artifact: &Artifact, committed: std::io::Result<Committed>) {
        match committed {
            Ok(how) => {
                self.metrics.commits.count(if how == Committed::New {
                    Commit::Kept
                } else {
                    Commit::Present
                });
                if how == Committed::New
                    && let Ok(key) = artifact.key()
                {
                    self.tiers.share(&key);
                    self.index.later(key);
                }
                self.changed(&artifact.module);
            }
            Err(error) => {
                self.metrics.commits.count(Commit::Failed);
                tracing::error!(%artifact, part = artifact.part.ending(), %error, "verified and served, but it could not be kept");
            }
        }
    }
}
