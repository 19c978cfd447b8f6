//! Proving records and heads. Nothing is kept before its proof stands.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures_util::future::join_all;
use gomod::{ModulePath, Version};
use store::Key;
use tlog::{
    head::SignedHead,
    lookup::{Hashes, Lookup},
    merge::{Decision, merge},
    proof::{Plan, ProofError},
    tile::Tile,
};

use super::SumDb;
use crate::{
    refusal::{Code, Refusal},
    settings::Settings,
};

/// A tile's content, and whether it came from the network.
type Content = (Bytes, bool);

impl SumDb {
    /// The proven hashes of a version.
    pub(crate) async fn hashes(
        self: &Arc<Self>,
        settings: &Settings,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Hashes, Refusal> {
        let lookup = self.proven(settings, module, version).await?;
        lookup
            .record()
            .hashes(module.as_str(), version.as_str())
            .map_err(|error| self.invalid(error))
    }

    /// The key of a kept lookup.
    pub(super) fn lookup_key(
        &self,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Key, Refusal> {
        self.public_key(&format!(
            "lookup/{}@{}",
            module.escaped(),
            version.escaped()
        ))
    }

    /// A kept lookup: it was proven before it was kept.
    pub(super) async fn kept_lookup(&self, key: &Key) -> Option<Arc<Lookup>> {
        let kept = self.store.get(key).await.ok()??;
        Lookup::parse(kept.whole()?).ok().map(Arc::new)
    }

    /// The lookup of a version, kept or proven now.
    pub(super) async fn proven(
        self: &Arc<Self>,
        settings: &Settings,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Arc<Lookup>, Refusal> {
        let key = self.lookup_key(module, version)?;
        if let Some(kept) = self.kept_lookup(&key).await {
            return Ok(kept);
        }
        self.not_forked()?;
        if let Some(refusal) = self.negatives.get(key.as_str()) {
            return Err((*refusal).clone());
        }
        let (sumdb, module, version) = (Arc::clone(self), module.clone(), version.clone());
        let settings = settings.clone();
        let (mut waiter, _) = self.lookups.join(key.as_str(), {
            let key = key.clone();
            move |teller| async move {
                let proven = sumdb
                    .prove(&settings, &key, &module, &version)
                    .await
                    .map_err(Arc::new);
                if let Err(refusal) = &proven {
                    sumdb
                        .negatives
                        .remember(key.as_str(), refusal, &settings.negative);
                }
                teller.tell(proven.map(Arc::new));
            }
        });
        waiter.told().await.map_err(|refusal| (*refusal).clone())
    }

    async fn prove(
        self: &Arc<Self>,
        settings: &Settings,
        key: &Key,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Lookup, Refusal> {
        let body = self
            .ask(
                settings,
                &format!("/lookup/{}@{}", module.escaped(), version.escaped()),
            )
            .await?;
        let lookup = Lookup::parse(&body).map_err(|error| self.invalid(error))?;
        let seen = SignedHead::verify(lookup.head_note(), &self.settings.key)
            .map_err(|error| self.invalid(error))?;
        // A record of another module must never be kept: clients that get it stay poisoned (CVE-2026-56864).
        lookup
            .record()
            .hashes(module.as_str(), version.as_str())
            .map_err(|error| self.invalid(error))?;
        self.meet(settings, &seen).await?;
        let head = self.head().unwrap_or(seen);
        let plan = Plan::record(head.head(), lookup.id()).map_err(|error| self.invalid(error))?;
        self.run(settings, plan.tiles(), |tiles| {
            plan.verify_record(tiles, lookup.record().text())
        })
        .await?
        .map_err(|error| self.invalid(error))?;
        self.keep_later(key.clone(), body);
        Ok(lookup)
    }

    /// Lets a verified head meet the kept one, which moves forward or stays.
    pub(super) async fn meet(
        self: &Arc<Self>,
        settings: &Settings,
        seen: &SignedHead,
    ) -> Result<(), Refusal> {
        loop {
            let kept = self.head();
            let (plan, newer) = match merge(kept.as_ref(), seen) {
                Decision::Same => return Ok(()),
                Decision::Fork { .. } => {
                    return Err(self.fork(seen, "two heads of one size with two roots"));
                }
                Decision::Newer(plan) => (plan, true),
                Decision::Older(plan) => (plan, false),
            };
            match self
                .run(settings, plan.tiles(), |tiles| {
                    plan.verify_consistency(tiles)
                })
                .await?
            {
                Ok(()) if !newer => return Ok(()),
                Ok(()) => {
                    let mut now = self.lock();
                    if now.head.as_ref().map(SignedHead::head)
                        == kept.as_ref().map(SignedHead::head)
                    {
                        now.head = Some(seen.clone());
                        drop(now);
                        self.write_head();
                        return Ok(());
                    }
                    // Another proof moved it meanwhile: meet that one.
                }
                Err(error @ ProofError::Fork { .. }) => {
                    return Err(self.fork(seen, &error.to_string()));
                }
                Err(error) => return Err(self.invalid(error)),
            }
        }
    }

    /// Runs one plan: with kept tiles first; where these do not fit, once more with fresh ones, since a kept tile
    /// can also mean that the new head is a fork (and then the proof says so). Tiles are kept if they stand.
    pub(super) async fn run(
        self: &Arc<Self>,
        settings: &Settings,
        tiles: &[Tile],
        verify: impl Fn(&[Bytes]) -> Result<(), ProofError>,
    ) -> Result<Result<(), ProofError>, Refusal> {
        let mut outcome = Ok(());
        for fresh in [false, true] {
            let contents = self.tiles(settings, tiles, fresh).await?;
            let (contents, network): (Vec<Bytes>, Vec<bool>) = contents.into_iter().unzip();
            outcome = verify(&contents);
            match outcome {
                Ok(()) => {
                    for ((tile, content), _) in tiles
                        .iter()
                        .zip(contents)
                        .zip(network)
                        .filter(|(_, network)| *network)
                    {
                        self.authentic.insert(tile.to_string(), content.clone());
                        self.keep_later(self.public_key(&tile.to_string())?, content);
                    }
                    return Ok(Ok(()));
                }
                Err(
                    ProofError::EdgeMismatch { .. }
                    | ProofError::TileMismatch { .. }
                    | ProofError::Malformed { .. },
                ) if network.contains(&false) => {}
                Err(_) => break,
            }
        }
        Ok(outcome)
    }

    async fn tiles(
        self: &Arc<Self>,
        settings: &Settings,
        tiles: &[Tile],
        fresh: bool,
    ) -> Result<Vec<Content>, Refusal> {
        join_all(
            tiles
                .iter()
                .map(|tile| self.content(settings, *tile, fresh)),
        )
        .await
        .into_iter()
        .collect()
    }

    /// A tile that stood in a proof before, if it is kept.
    pub(super) async fn kept_tile(&self, tile: Tile) -> Option<Bytes> {
        for form in [tile, tile.full()] {
            let path = form.to_string();
            let content = match self.authentic.get(&path) {
                Some(content) => Some(content),
                None => match self.store.get(&self.public_key(&path).ok()?).await {
                    Ok(kept) => kept.and_then(|kept| kept.whole().cloned()),
                    Err(_) => None,
                },
            };
            if let Some(cut) =
                content.and_then(|content| tile.cut(&form, &content).map(Bytes::copy_from_slice))
            {
                return Some(cut);
            }
        }
        None
    }

    async fn content(
        self: &Arc<Self>,
        settings: &Settings,
        tile: Tile,
        fresh: bool,
    ) -> Result<Content, Refusal> {
        if !fresh && let Some(kept) = self.kept_tile(tile).await {
            return Ok((kept, false));
        }
        let (sumdb, settings) = (Arc::clone(self), settings.clone());
        let (mut waiter, _) = self
            .fetches
            .join(&tile.to_string(), move |teller| async move {
                teller.tell(sumdb.ask_tile(&settings, tile).await.map_err(Arc::new));
            });
        match waiter.told().await {
            Ok(content) => Ok((content, true)),
            // The lookup exists, so a tile that is missing is the source's fault, never "no such module".
            Err(refusal) if refusal.code == Code::RecordNotFound => {
                Err(self.invalid(format_args!("{tile} is missing")))
            }
            Err(refusal) => Err((*refusal).clone()),
        }
    }

    /// Keeps proven bytes without making anybody wait for the disk.
    fn keep_later(self: &Arc<Self>, key: Key, bytes: Bytes) {
        let sumdb = Arc::clone(self);
        self.tasks.spawn_blocking(move || {
            if let Err(error) = sumdb.store.put_small(&key, &bytes) {
                tracing::warn!(%key, %error, "cannot keep what the checksum database proved");
            }
        });
    }

    fn write_head(self: &Arc<Self>) {
        let sumdb = Arc::clone(self);
        self.tasks.spawn_blocking(move || {
            let _one = sumdb.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(head) = sumdb.head() else { return };
            let written = Key::new(format!("sumdb/{}/latest", sumdb.name()))
                .map_err(std::io::Error::other)
                .and_then(|key| sumdb.store.replace_small(&key, head.note()));
            if let Err(error) = written {
                tracing::error!(%error, "cannot write the kept tree head");
            }
        });
    }
}
