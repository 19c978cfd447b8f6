//! Answers to clients under `/sumdb/<name>/`.

use std::{
    fmt::Display,
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gomod::{ModulePath, Version};
use tlog::{
    head::SignedHead,
    lookup::Lookup,
    proof::{Inclusion, Plan, ProofError},
    tile::{Tile, TileError},
};

use super::{Refreshed, SumDb, source::Fault};
use crate::{
    answer::{Answer, Content, Life, Media},
    record::Outcome,
    refusal::{Code, Refusal},
    settings::Settings,
};

/// How long the newest head is believed to be the newest.
const HEAD_LIFE: Duration = Duration::from_secs(5);
/// How soon the newest head is asked for again when somebody knows a newer one, or after a failure.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A lookup's record never changes, its head grows old: harmless, but no reason to hold it for long.
const LOOKUP_LIFE: Duration = Duration::from_mins(1);

impl SumDb {
    /// The newest tree head; with `cached_only` the newest that is known.
    pub(crate) async fn latest(
        self: &Arc<Self>,
        settings: &Settings,
        cached_only: bool,
    ) -> Result<Answer, Refusal> {
        self.not_forked().await?;
        let refreshed = if cached_only {
            Err(not_cached("latest"))
        } else {
            let refreshed = self.refresh(settings, HEAD_LIFE).await;
            refreshed.map_err(|refusal| (*refusal).clone())
        };
        let head = match (self.head(), refreshed) {
            (_, Err(refusal)) if refusal.code == Code::ChecksumDatabaseFork => return Err(refusal),
            (Some(head), _) => head,
            (None, Err(refusal)) => return Err(refusal),
            (None, Ok(())) => return Err(self.invalid("no head")),
        };
        Ok(Answer::new(
            Content::Bytes(Bytes::copy_from_slice(head.note())),
            Media::Text,
            Life::For(HEAD_LIFE),
            Outcome::Hit,
        ))
    }

    /// Asks for the newest head, if that was not done within `life`. A crowd asks once, and a failure is not repeated
    /// at once.
    async fn refresh(
        self: &Arc<Self>,
        settings: &Settings,
        life: Duration,
    ) -> Result<(), Arc<Refusal>> {
        if let Some(known) = self.refreshed_within(life) {
            return known;
        }
        let (sumdb, settings) = (Arc::clone(self), settings.clone());
        let (mut waiter, _) = self.refreshes.join("latest", move |teller| async move {
            let asked = sumdb.ask_latest(&settings).await.map_err(Arc::new);
            *sumdb.refreshed() = Some((Instant::now(), asked.clone()));
            teller.tell(asked);
        });
        waiter.told().await
    }

    /// What came of asking lately, if that is recent enough.
    fn refreshed_within(&self, life: Duration) -> Option<Result<(), Arc<Refusal>>> {
        let last = self.refreshed();
        let (at, outcome) = last.as_ref()?;
        let life = if outcome.is_ok() { life } else { ASK_AGAIN };
        (at.elapsed() < life).then(|| outcome.clone())
    }

    fn refreshed(&self) -> MutexGuard<'_, Refreshed> {
        self.refreshed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask_latest(self: &Arc<Self>, settings: &Settings) -> Result<(), Refusal> {
        let mut round = self.round(settings).await;
        while let Some(source) = round.next() {
            let asked = async {
                let note = self.ask(settings, &source, "/latest").await?;
                let seen = SignedHead::verify(&note, &self.settings.key).map_err(Fault::invalid)?;
                self.meet(settings, &source, &seen).await
            };
            match asked.await {
                Ok(()) => return Ok(()),
                Err(fault) => round.note(self, &source, "latest", fault)?,
            }
        }
        Err(round.refusal(self))
    }

    /// A proven record with the newest head.
    pub(crate) async fn lookup(
        self: &Arc<Self>,
        settings: &Settings,
        module: &ModulePath,
        version: &Version,
        cached_only: bool,
    ) -> Result<Answer, Refusal> {
        self.not_forked().await?;
        let kept = self.kept_lookup(&self.lookup_key(module, version)?).await;
        let (lookup, outcome) = match kept {
            Some(kept) => (kept, Outcome::Hit),
            None if cached_only => {
                return Err(not_cached(&format!("{module}@{version}")));
            }
            None => (self.proven(settings, module, version).await?, Outcome::Miss),
        };
        let head = self.head_over(settings, &lookup).await?;
        let body = lookup
            .with_head(&head)
            .map_err(|error| self.invalid(error))?;
        Ok(Answer::new(
            Content::Bytes(body.into()),
            Media::Text,
            Life::For(LOOKUP_LIFE),
            outcome,
        ))
    }

    /// A head that has the record: the kept one, or the record's own if that was lost.
    async fn head_over(
        self: &Arc<Self>,
        settings: &Settings,
        lookup: &Lookup,
    ) -> Result<SignedHead, Refusal> {
        let over = || self.head().filter(|head| head.head().size > lookup.id());
        if let Some(head) = over() {
            return Ok(head);
        }
        let seen = SignedHead::verify(lookup.head_note(), &self.settings.key)
            .map_err(|error| self.invalid(error))?;
        let mut round = self.round(settings).await;
        while let Some(source) = round.next() {
            match self.meet(settings, &source, &seen).await {
                Ok(()) => return over().ok_or_else(|| self.invalid("a record without a head")),
                Err(fault) => round.note(self, &source, "latest", fault)?,
            }
        }
        Err(round.refusal(self))
    }

    /// A tile of hashes that stands in a proof, or of records that have those hashes.
    pub(crate) async fn tile(
        self: &Arc<Self>,
        settings: &Settings,
        path: &str,
        cached_only: bool,
    ) -> Result<Answer, Refusal> {
        self.not_forked().await?;
        let (content, media, outcome) = match path.parse::<Tile>() {
            Ok(tile) => {
                let (content, outcome) = self.hashes_of(settings, tile, cached_only).await?;
                (content, Media::Octets, outcome)
            }
            Err(TileError::Data) => {
                let (content, outcome) = self.records_of(settings, path, cached_only).await?;
                (content, Media::Text, outcome)
            }
            Err(error) => return Err(absent(path, &error)),
        };
        Ok(Answer::new(
            Content::Bytes(content),
            media,
            Life::Immutable,
            outcome,
        ))
    }

    /// The content of a tile of hashes: kept, or proven now.
    pub(super) async fn hashes_of(
        self: &Arc<Self>,
        settings: &Settings,
        tile: Tile,
        cached_only: bool,
    ) -> Result<(Bytes, Outcome), Refusal> {
        if let Some(kept) = self.kept_tile(tile).await {
            return Ok((kept, Outcome::Hit));
        }
        let absent = |why: &dyn Display| absent(&tile.to_string(), why);
        if cached_only {
            return Err(not_cached(&tile.to_string()));
        }
        // The first record below the tile: its proof goes through the tile.
        let below = 256u64
            .checked_pow(u32::from(tile.level()) + 1)
            .and_then(|records| records.checked_mul(tile.index()));
        let id = below.ok_or_else(|| absent(&"far outside of the tree"))?;
        for again in [false, true] {
            let head = self.head().filter(|head| head.head().size > id);
            if let Some(head) = head {
                let plan = Plan::record(head.head(), id).map_err(|error| absent(&error))?;
                let ours = plan.tiles().iter().find(|ours| {
                    ours.level() == tile.level()
                        && ours.index() == tile.index()
                        && ours.width() >= tile.width()
                });
                if let Some(&ours) = ours {
                    self.prove_tiles(settings, &plan).await?;
                    let content = self
                        .kept_tile(ours)
                        .await
                        .and_then(|content| tile.cut(&ours, &content).map(Bytes::copy_from_slice));
                    return content
                        .map(|content| (content, Outcome::Miss))
                        .ok_or_else(|| self.invalid(format_args!("{tile} is too short")));
                }
            }
            if !again {
                // The client may know a larger tree; or it makes it up, and then costs one question a second.
                self.refresh(settings, ASK_AGAIN)
                    .await
                    .map_err(|refusal| (*refusal).clone())?;
            }
        }
        Err(absent(&"not in the newest tree"))
    }

    async fn prove_tiles(
        self: &Arc<Self>,
        settings: &Settings,
        plan: &Plan<Inclusion>,
    ) -> Result<(), Refusal> {
        // No record is at hand to compare with; that it differs is found only after all tiles stood.
        let proven = |tiles: &[Bytes]| match plan.verify_record(tiles, "\n") {
            Err(ProofError::LeafMismatch { .. }) => Ok(()),
            other => other,
        };
        let mut round = self.round(settings).await;
        while let Some(source) = round.next() {
            let run = self.run(settings, &source, plan.tiles(), proven).await;
            match run.and_then(|proven| proven.map_err(Fault::invalid)) {
                Ok(()) => return Ok(()),
                Err(fault) => round.note(self, &source, "tile", fault)?,
            }
        }
        Err(round.refusal(self))
    }
}

pub(super) fn not_cached(what: &str) -> Refusal {
    Refusal::new(
        Code::NotCached,
        what,
        "not kept here, and the request says not to fetch",
    )
}

pub(super) fn absent(what: &str, why: &dyn Display) -> Refusal {
    Refusal::new(Code::RecordNotFound, what, why.to_string())
}
