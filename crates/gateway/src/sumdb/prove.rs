//! Proving records and heads. Nothing is kept before its proof stands.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use gomod::{ModulePath, Version};
use store::{Found, Key};
use tlog::{
    head::SignedHead,
    lookup::{Hashes, Lookup},
    merge::{Decision, merge},
    proof::{Plan, ProofError},
    tile::Tile,
};

use super::{
    SumDb,
    source::{Fault, Source},
};
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
        let body = self.kept_bytes(key).await?;
        Lookup::parse(&body).ok().map(Arc::new)
    }

    /// What is kept under `key`, or about to be.
    pub(super) async fn kept_bytes(&self, key: &Key) -> Option<Bytes> {
        if let Some(waiting) = self.kept.waiting(key.as_str()) {
            return Some(waiting);
        }
        match self.tiers.find(key).await {
            Found::Kept(kept) => kept.whole().cloned(),
            Found::Pull(_) | Found::Absent | Found::Unknown(_) => None,
        }
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
        self.not_forked().await?;
        if let Some(refusal) = self.negatives.get(key.as_str()) {
            return Err((*refusal).clone());
        }
        let (told, joined) = self.look_up(settings, &key, module, version).await;
        match told {
            // It may have begun while there was an outage that is over: its failure says nothing of now.
            Err(refusal) if joined && refusal.code == Code::ChecksumDatabaseUnreachable => {
                self.look_up(settings, &key, module, version).await.0
            }
            told => told,
        }
        .map_err(|refusal| (*refusal).clone())
    }

    /// The lookup under way, or a new one. The second value says whether it was under way.
    async fn look_up(
        self: &Arc<Self>,
        settings: &Settings,
        key: &Key,
        module: &ModulePath,
        version: &Version,
    ) -> (Result<Arc<Lookup>, Arc<Refusal>>, bool) {
        let (sumdb, module, version) = (Arc::clone(self), module.clone(), version.clone());
        let settings = settings.clone();
        let (mut waiter, joined) = self.lookups.join(key.as_str(), {
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
        (waiter.told().await, joined)
    }

    /// Asks one source after the other until one proves the record.
    async fn prove(
        self: &Arc<Self>,
        settings: &Settings,
        key: &Key,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Lookup, Refusal> {
        let mut round = self.round(settings).await;
        while let Some(source) = round.next() {
            match self
                .prove_from(settings, &source, key, module, version)
                .await
            {
                Ok(lookup) => return Ok(lookup),
                Err(fault) => {
                    round.note(self, &source, &format!("{module}@{version}"), fault)?;
                }
            }
        }
        Err(round.refusal(self))
    }

    async fn prove_from(
        self: &Arc<Self>,
        settings: &Settings,
        source: &Source,
        key: &Key,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Lookup, Fault> {
        let path = format!("/lookup/{}@{}", module.escaped(), version.escaped());
        let body = self.ask(settings, source, &path).await?;
        let lookup = Lookup::parse(&body).map_err(Fault::invalid)?;
        let seen =
            SignedHead::verify(lookup.head_note(), &self.settings.key).map_err(Fault::invalid)?;
        // A record of another module must never be kept: clients that get it stay poisoned (CVE-2026-56864).
        lookup
            .record()
            .hashes(module.as_str(), version.as_str())
            .map_err(Fault::invalid)?;
        self.meet(settings, source, &seen).await?;
        let head = self.head().unwrap_or(seen);
        let plan = Plan::record(head.head(), lookup.id()).map_err(Fault::invalid)?;
        self.run(settings, source, plan.tiles(), |tiles| {
            plan.verify_record(tiles, lookup.record().text())
        })
        .await?
        .map_err(Fault::invalid)?;
        self.kept.keep_lookup(&self.tasks, key, body);
        Ok(lookup)
    }

    /// Lets a verified head meet the kept one, which moves forward or stays. The tiles for it come from `source`.
    pub(super) async fn meet(
        self: &Arc<Self>,
        settings: &Settings,
        source: &Source,
        seen: &SignedHead,
    ) -> Result<(), Fault> {
        loop {
            let kept = self.head();
            let (plan, newer) = match merge(kept.as_ref(), seen) {
                Decision::Same => return Ok(()),
                Decision::Fork { .. } => {
                    let why = "two heads of one size with two roots";
                    return Err(self.fork(seen, why).await);
                }
                Decision::Newer(plan) => (plan, true),
                Decision::Older(plan) => (plan, false),
            };
            match self
                .run(settings, source, plan.tiles(), |tiles| {
                    plan.verify_consistency(tiles)
                })
                .await?
            {
                Ok(()) if !newer => return Ok(()),
                Ok(()) => {
                    if self.kept.advance(kept.as_ref(), seen.clone()) {
                        self.kept.keep_head(&self.tasks);
                        return Ok(());
                    }
                    // Another proof moved it meanwhile: meet that one.
                }
                Err(error @ ProofError::Fork { .. }) => {
                    return Err(self.fork(seen, &error.to_string()).await);
                }
                Err(error) => return Err(Fault::invalid(error)),
            }
        }
    }

    /// Runs one plan: with kept tiles first; where these do not fit, once more with fresh ones, since a kept tile
    /// can also mean that the new head is a fork (and then the proof says so). Tiles are kept if they stand.
    pub(super) async fn run(
        self: &Arc<Self>,
        settings: &Settings,
        source: &Source,
        tiles: &[Tile],
        verify: impl Fn(&[Bytes]) -> Result<(), ProofError>,
    ) -> Result<Result<(), ProofError>, Fault> {
        let mut outcome = Ok(());
        for fresh in [false, true] {
            let contents = self.tiles(settings, source, tiles, fresh).await?;
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
                        let key = self.public_key(&tile.to_string())?;
                        self.kept.keep_tile(&self.tasks, &key, content);
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
        source: &Source,
        tiles: &[Tile],
        fresh: bool,
    ) -> Result<Vec<Content>, Fault> {
        join_all(
            tiles
                .iter()
                .map(|tile| self.content(settings, source, *tile, fresh)),
        )
        .await
        .into_iter()
        .collect()
    }

    /// A tile that stood in a proof before, if it is kept; cut from a wider one, if it is narrower.
    pub(super) async fn kept_tile(&self, tile: Tile) -> Option<Bytes> {
        let newest = tile.in_tree(self.tree_size());
        let wider = newest.filter(|newest| newest.width() > tile.width() && !newest.is_full());
        for form in [Some(tile), Some(tile.full()), wider].into_iter().flatten() {
            let path = form.to_string();
            let content = match self.authentic.get(&path) {
                Some(content) => Some(content),
                None => self.kept_bytes(&self.public_key(&path).ok()?).await,
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
        source: &Source,
        tile: Tile,
        fresh: bool,
    ) -> Result<Content, Fault> {
        if !fresh && let Some(kept) = self.kept_tile(tile).await {
            return Ok((kept, false));
        }
        let name = format!("{} {tile}", source.name());
        let (sumdb, settings, source) = (Arc::clone(self), settings.clone(), source.clone());
        let (mut waiter, _) = self.fetches.join(&name, move |teller| async move {
            teller.tell(Ok(sumdb.ask_tile(&settings, &source, tile).await));
        });
        match waiter.told().await {
            Ok(Ok(content)) => Ok((content, true)),
            // The record exists, so a tile that is missing is the source's fault, never "no such module".
            Ok(Err(Fault::Absent)) => Err(Fault::invalid(format_args!("{tile} is missing"))),
            Ok(Err(fault)) => Err(fault),
            Err(refusal) => Err(Fault::Final((*refusal).clone())),
        }
    }
}
