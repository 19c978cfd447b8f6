//! Answers to clients under `/sumdb/<name>/`.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gomod::{ModulePath, Version};
use tlog::{
    head::SignedHead,
    proof::{Plan, ProofError},
    tile::Tile,
};

use super::SumDb;
use crate::{
    answer::{Answer, Content, Life, Media},
    record::Outcome,
    refusal::{Code, Refusal},
    settings::Settings,
};

/// How long the newest head is believed to be the newest.
const HEAD_LIFE: Duration = Duration::from_secs(5);
/// A lookup's record never changes, its head grows old: harmless, but no reason to hold it for long.
const LOOKUP_LIFE: Duration = Duration::from_mins(1);

impl SumDb {
    /// The newest tree head.
    pub(crate) async fn latest(self: &Arc<Self>, settings: &Settings) -> Result<Answer, Refusal> {
        self.not_forked()?;
        let refreshed = self.refresh(settings).await;
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

    /// Asks for the newest head, if that was not done just now.
    async fn refresh(self: &Arc<Self>, settings: &Settings) -> Result<(), Refusal> {
        let recent = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < HEAD_LIFE);
        if recent(
            *self
                .refreshed
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        ) && self.head().is_some()
        {
            return Ok(());
        }
        let note = self.ask(settings, "/latest").await?;
        let seen =
            SignedHead::verify(&note, &self.settings.key).map_err(|error| self.invalid(error))?;
        self.meet(settings, &seen).await?;
        *self
            .refreshed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    }

    /// A proven record with the newest head.
    pub(crate) async fn lookup(
        self: &Arc<Self>,
        settings: &Settings,
        module: &ModulePath,
        version: &Version,
        cached_only: bool,
    ) -> Result<Answer, Refusal> {
        self.not_forked()?;
        let kept = self.kept_lookup(&self.lookup_key(module, version)?).await;
        let (lookup, outcome) = match kept {
            Some(kept) => (kept, Outcome::Hit),
            None if cached_only => {
                return Err(Refusal::new(
                    Code::NotCached,
                    format!("{module}@{version}"),
                    "no record kept, and the request says not to fetch",
                ));
            }
            None => (self.proven(settings, module, version).await?, Outcome::Miss),
        };
        let head = self
            .head()
            .ok_or_else(|| self.invalid("a record without a head"))?;
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

    /// A tile that stands in a proof.
    pub(crate) async fn tile(
        self: &Arc<Self>,
        settings: &Settings,
        path: &str,
        cached_only: bool,
    ) -> Result<Answer, Refusal> {
        self.not_forked()?;
        let absent = |why: &str| Refusal::new(Code::RecordNotFound, path, why);
        let tile: Tile = path.parse().map_err(|error| absent(&format!("{error}")))?;
        let answer = |content, outcome| {
            Answer::new(
                Content::Bytes(content),
                Media::Octets,
                Life::Immutable,
                outcome,
            )
        };
        if let Some(kept) = self.kept_tile(tile).await {
            return Ok(answer(kept, Outcome::Hit));
        }
        if cached_only {
            return Err(Refusal::new(
                Code::NotCached,
                path,
                "not kept here, and the request says not to fetch",
            ));
        }
        // The first record below the tile: its proof goes through the tile.
        let below = 256u64
            .checked_pow(u32::from(tile.level()) + 1)
            .and_then(|records| records.checked_mul(tile.index()));
        let id = below.ok_or_else(|| absent("far outside of the tree"))?;
        if self.tree_size() <= id {
            self.refresh(settings).await?;
        }
        for again in [false, true] {
            let head = self
                .head()
                .filter(|head| head.head().size > id)
                .ok_or_else(|| absent("outside of the tree"))?;
            let plan = Plan::record(head.head(), id).map_err(|error| absent(&error.to_string()))?;
            let ours = plan
                .tiles()
                .iter()
                .copied()
                .find(|ours| ours.level() == tile.level() && ours.index() == tile.index());
            if let Some(ours) = ours.filter(|ours| ours.width() >= tile.width()) {
                // No record is at hand to compare with; that it differs is found only after all tiles stood.
                let proven = |tiles: &[Bytes]| match plan.verify_record(tiles, "\n") {
                    Err(ProofError::LeafMismatch { .. }) => Ok(()),
                    other => other,
                };
                self.run(settings, plan.tiles(), proven)
                    .await?
                    .map_err(|error| self.invalid(error))?;
                let content = self
                    .kept_tile(ours)
                    .await
                    .and_then(|content| tile.cut(&ours, &content).map(Bytes::copy_from_slice));
                return content
                    .map(|content| answer(content, Outcome::Miss))
                    .ok_or_else(|| self.invalid(format_args!("{tile} is too short")));
            }
            if !again {
                // The client knows a larger tree.
                *self
                    .refreshed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = None;
                self.refresh(settings).await?;
            }
        }
        Err(absent("not in the newest tree"))
    }
}
