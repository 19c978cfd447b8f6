//! The kept head and a fork, shared by replicas: what one has proven or seen, all know.
//!
//! A head of another replica is met like one that a source sent: by its signature and a proof. So what somebody
//! else can write to cannot move a head back or to another history.

use std::sync::{Arc, PoisonError};

use replicas::{ReplicasError, SharedHeads};
use tlog::head::SignedHead;

use super::{SumDb, source::Fault};
use crate::settings::Settings;

/// What was so when replicas last compared.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Compared {
    forked_here: bool,
    forked_there: bool,
}

impl SumDb {
    /// Brings this replica and what is shared to the same head and the same knowledge of a fork.
    pub(crate) async fn compare(
        self: &Arc<Self>,
        settings: &Settings,
        heads: &SharedHeads,
    ) -> Result<(), ReplicasError> {
        let there = heads.head(self.name()).await?;
        let fork = there.as_ref().and_then(|there| there.fork.clone());
        self.compare_forks(heads, fork).await?;
        if self.forked() {
            return Ok(());
        }
        let note = there
            .map(|there| there.note)
            .filter(|note| !note.is_empty());
        let seen = match &note {
            None => None,
            Some(note) => match SignedHead::verify(note, &self.settings.key) {
                Ok(seen) => Some(seen),
                Err(error) => {
                    tracing::error!(database = self.name(), %error, "SECURITY: the shared tree head does not verify; not used");
                    return Ok(());
                }
            },
        };
        if let Some(seen) = &seen
            && seen.head().size >= self.tree_size()
        {
            self.meet_shared(settings, seen).await;
            return Ok(());
        }
        let Some(ours) = self.head() else {
            return Ok(());
        };
        // Ours was proven to continue what was kept here; that it continues theirs is proven before it takes its place.
        if let Some(seen) = &seen {
            self.meet_shared(settings, seen).await;
            if self.forked() {
                return Ok(());
            }
        }
        let size = ours.head().size;
        // If another replica was faster, the next comparison meets its head.
        heads
            .advance_head(self.name(), note.as_deref(), size, ours.note())
            .await?;
        Ok(())
    }

    async fn meet_shared(self: &Arc<Self>, settings: &Settings, seen: &SignedHead) {
        for source in self.sources(settings).await {
            match self.meet(settings, &source, seen).await {
                Ok(()) | Err(Fault::Final(_)) => return,
                Err(error) => {
                    tracing::debug!(
                        database = self.name(),
                        source = source.name(),
                        ?error,
                        "cannot prove the shared tree head by it"
                    );
                }
            }
        }
    }

    async fn compare_forks(
        &self,
        heads: &SharedHeads,
        there: Option<Vec<u8>>,
    ) -> Result<(), ReplicasError> {
        // An operator may have removed the evidence.
        if self.forked() {
            self.look_at_evidence().await;
        }
        let before = *self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        let here = self.forked();
        match (here, there) {
            (false, Some(_)) if before.forked_here => {
                tracing::warn!(
                    database = self.name(),
                    "the evidence of the fork was removed here: all replicas go on"
                );
                heads.clear_fork(self.name()).await?;
            }
            (false, Some(evidence)) => {
                tracing::error!(
                    database = self.name(),
                    "SECURITY: another replica saw that the checksum database has signed two histories"
                );
                self.kept.take_fork(evidence);
                self.look_at_evidence().await;
            }
            (true, None) if before.forked_there => {
                tracing::warn!(
                    database = self.name(),
                    "the evidence of the fork was removed at another replica: verification goes on"
                );
                self.kept.drop_fork();
            }
            (true, None) => {
                let evidence = self.kept.evidence();
                heads.set_fork(self.name(), &evidence).await?;
            }
            (true, Some(_)) | (false, None) => {}
        }
        let now = heads.head(self.name()).await?;
        *self.compared.lock().unwrap_or_else(PoisonError::into_inner) = Compared {
            forked_here: self.forked(),
            forked_there: now.is_some_and(|now| now.fork.is_some()),
        };
        Ok(())
    }
}
