//! What other processes changed, applied: a command beside the server, or another replica.

use std::sync::{Arc, Weak};

use records::ChangeKind;
use replicas::{Replicas, Told};

use crate::{anew::artifact_of, gateway::Gateway};

impl Gateway {
    /// Follows what is told, until the replica leaves or the gateway goes.
    pub fn follow(self: &Arc<Self>, replicas: Arc<Replicas>) {
        let _ = self.replicas.set(Arc::clone(&replicas));
        if !self.is_alone() {
            self.tell_turns();
        }
        tokio::spawn(follow(Arc::downgrade(self), replicas));
    }

    /// Whether there can be no other replica: then nobody is told anything.
    pub(crate) fn is_alone(&self) -> bool {
        self.replicas.get().is_none_or(|replicas| replicas.alone)
    }

    /// Compares what is kept of the checksum database with the other replicas.
    pub(crate) async fn compare_heads(&self) {
        let Some(sumdb) = self.sumdb.load_full().filter(|_| self.records.shared()) else {
            return;
        };
        let settings = self.settings.load_full();
        if let Err(error) = sumdb.compare(&settings, &self.records).await {
            tracing::debug!(%error, "tree heads are compared later");
        }
    }

    async fn apply(self: &Arc<Self>, told: Told) {
        match told {
            Told::Everything => {
                self.reload_tombstones().await;
                // Small, and the part of memory that may hold what was removed.
                self.changeables.recompose();
                self.compare_heads().await;
            }
            Told::Change(ChangeKind::Tombstones, _) => self.reload_tombstones().await,
            Told::Change(ChangeKind::Forget, key) => self.forget(&key).await,
            Told::Change(ChangeKind::Answer, key) => self.changeables.forget(&key),
            // Of a process that is alone, nobody else changes these.
            Told::Change(ChangeKind::Head, _) => self.compare_heads().await,
            Told::Change(ChangeKind::Config, digest) => self.hear_epoch(&digest),
            Told::Change(ChangeKind::Breaker, key) => self.hear_turn(&key),
            Told::Change(ChangeKind::Everything | ChangeKind::Unknown, _) => {}
        }
    }

    /// Another process removed a kept file, or put another one in its place.
    async fn forget(self: &Arc<Self>, key: &str) {
        self.store.let_go(key);
        let Some(artifact) = artifact_of(key) else {
            return;
        };
        self.list_changed(&artifact.module);
        let relisted = self.on_disk(move |gateway| gateway.relist(vec![artifact.module]));
        if let Err(refusal) = relisted.await {
            tracing::error!(%refusal, "cannot write a list");
        }
    }
}

async fn follow(gateway: Weak<Gateway>, replicas: Arc<Replicas>) {
    while let Some(told) = replicas.announcements.next().await {
        let Some(gateway) = gateway.upgrade() else {
            return;
        };
        gateway.apply(told).await;
    }
}
