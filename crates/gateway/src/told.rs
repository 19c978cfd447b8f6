//! What other processes changed, applied: a command beside the server, or another replica.

use std::sync::{Arc, Weak};

use records::ChangeKind;
use replicas::{Replicas, SharedHeads, Told};
use store::{Key, Said};

use crate::{anew::artifact_of, background, gateway::Gateway};

impl Gateway {
    /// Follows what is told, until the replica leaves or the gateway goes.
    pub fn follow(self: &Arc<Self>, replicas: Arc<Replicas>) {
        let _ = self.replicas.set(Arc::clone(&replicas));
        if !self.is_alone() {
            self.tell_turns();
        }
        if replicas.facts.is_some() {
            tokio::spawn(background::compare_heads(Arc::downgrade(self)));
        }
        tokio::spawn(follow(Arc::downgrade(self), replicas));
    }

    /// Whether there can be no other replica: then nobody is told anything.
    pub(crate) fn is_alone(&self) -> bool {
        self.replicas.get().is_none_or(|replicas| replicas.alone)
    }

    /// Compares what is kept of the checksum database with the other replicas.
    pub(crate) async fn compare_heads(&self) {
        let (Some(sumdb), Some(heads)) = (self.sumdb.load_full(), self.shared_heads()) else {
            return;
        };
        let settings = self.settings.load_full();
        if let Err(error) = sumdb.compare(&settings, &heads).await {
            tracing::debug!(%error, "tree heads are compared later");
        }
    }

    /// Where the other replicas find tree heads; none if there are no others.
    fn shared_heads(&self) -> Option<SharedHeads> {
        if self.records.shared() {
            return Some(SharedHeads::Records(Arc::clone(&self.records)));
        }
        let facts = self.replicas.get()?.facts.clone()?;
        Some(SharedHeads::Facts(facts))
    }

    async fn apply(self: &Arc<Self>, told: Told) {
        match told {
            Told::Everything => {
                self.missed.notify_one();
                self.reload_tombstones().await;
                // Small, and the part of memory that may hold what was removed.
                self.changeables.recompose();
                self.compare_heads().await;
            }
            Told::Change(ChangeKind::Tombstones, _) => self.reload_tombstones().await,
            Told::Change(ChangeKind::Forget, key) => {
                self.forget(&key).await;
                // It need not be gone through at the next start: what is kept here from now on is newer.
                self.missed.notify_one();
            }
            Told::Change(ChangeKind::Answer, key) => self.changeables.forget(&key),
            // Of a process that is alone, nobody else changes these.
            Told::Change(ChangeKind::Head, _) => self.compare_heads().await,
            Told::Change(ChangeKind::Config, digest) => self.hear_epoch(&digest),
            Told::Change(ChangeKind::Breaker, key) => self.hear_turn(&key),
            Told::Change(ChangeKind::Everything | ChangeKind::Unknown, _) => {}
        }
    }

    /// Another process removed a kept file, or put another one in its place. Returns whether it is known what became of it.
    pub(crate) async fn forget(self: &Arc<Self>, key: &str) -> bool {
        self.store.let_go(key);
        let followed = !self.tiers.keeps_elsewhere() || self.follow_removal(key).await;
        let Some(artifact) = artifact_of(key) else {
            return followed;
        };
        self.list_changed(&artifact.module);
        let relisted = self.on_disk(move |gateway| gateway.relist(vec![artifact.module]));
        if let Err(refusal) = relisted.await {
            tracing::error!(%refusal, "cannot write a list");
        }
        followed
    }
}

impl Gateway {
    /// What is on the disk and in the journal here goes with what all share, or it would come back from here.
    async fn follow_removal(self: &Arc<Self>, key: &str) -> bool {
        let Ok(key) = Key::new(key.to_owned()) else {
            return true;
        };
        // The hash beside a zip is in no index and in no bucket.
        let zip = key.as_str().strip_suffix(".ziphash");
        let zip = zip.and_then(|stem| Key::new(format!("{stem}.zip")).ok());
        let beside = zip.as_ref().unwrap_or(&key);
        // An index that is not shared does not know all that is on the disk, nor what others removed.
        let said = if self.records.shared() {
            // What was kept here anew is in the index then, or soon.
            let fetched = || self.flights.find(beside.as_str()).is_some();
            if fetched() || !self.index.noted().await {
                return false;
            }
            match self.records.object(beside.as_str()).await {
                Ok(None) if fetched() => return false,
                Ok(None) => Said::Removed,
                Ok(Some(row)) => Said::Kept(row.sha256),
                Err(error) => {
                    tracing::error!(%key, %error, "cannot ask whether it was removed: it stays here");
                    return false;
                }
            }
        } else {
            Said::Nothing
        };
        match self.tiers.follow(&key, beside, said).await {
            // Told by another replica, and noted in its index only.
            Ok(true) if said == Said::Nothing => {
                if let Err(error) = self.records.forget_quietly(key.as_str()).await {
                    tracing::warn!(%key, %error, "cannot take what was removed out of the index");
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%key, %error, "cannot remove what was removed elsewhere: it stays here");
                return false;
            }
        }
        true
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
