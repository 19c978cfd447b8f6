//! Answers that change, shared by replicas: what one asked upstream, all have.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use replicas::{LEASE, Lease};
use store::Key;

use crate::{
    changeable::{self, Changeable},
    gateway::Gateway,
    versions::Wanted,
};

/// Longest time that another replica's question is waited for.
const TURN: Duration = Duration::from_secs(30);

impl Gateway {
    /// Waits while another replica asks upstream the same. The second value is its answer, if it is fresh.
    pub(crate) async fn changeable_turn(
        self: &Arc<Self>,
        wanted: &Wanted,
        key: &Key,
    ) -> (Option<Lease>, Option<Arc<Changeable>>) {
        if !self.records.shared() {
            return (None, None);
        }
        if let Some(fresh) = self.fresh_shared(wanted, key).await {
            return (None, Some(fresh));
        }
        let Some(leases) = self.leases() else {
            return (None, None);
        };
        let lease = leases.acquire(key.as_str(), LEASE).await;
        if let Ok(None) = lease {
            // What comes of the wait does not matter: without an answer this replica asks too.
            let _ = leases.wait(key.as_str(), TURN).await;
        }
        let fresh = self.fresh_shared(wanted, key).await;
        (lease.ok().flatten(), fresh)
    }

    async fn fresh_shared(self: &Arc<Self>, wanted: &Wanted, key: &Key) -> Option<Arc<Changeable>> {
        let known = self.load_shared(wanted, key).await?;
        (known.age() < self.life(&wanted.what)).then_some(known)
    }

    /// What upstream last said to any replica.
    pub(crate) async fn load_shared(
        self: &Arc<Self>,
        wanted: &Wanted,
        key: &Key,
    ) -> Option<Arc<Changeable>> {
        let answer = match self.records.answer(key.as_str()).await {
            Ok(answer) => answer?,
            Err(error) => {
                tracing::warn!(%key, %error, "the records cannot be asked");
                return None;
            }
        };
        let (asked, key) = (wanted.clone(), key.clone());
        let composed = self.on_disk(move |gateway| {
            let asked_ms = u64::try_from(answer.asked_ms).unwrap_or_default();
            gateway.take(&asked, &key, Changeable::shared(asked_ms, answer.raw))
        });
        composed.await.ok().flatten()
    }

    /// Keeps what upstream said, for the next start, which nobody waits for; or for other replicas, while they wait.
    pub(crate) async fn save(&self, key: &Key, known: &Arc<Changeable>) {
        self.answers_saved.fetch_add(1, Relaxed);
        if !self.records.shared() {
            let (store, key, known) = (Arc::clone(&self.store), key.clone(), Arc::clone(known));
            self.tasks
                .spawn_blocking(move || changeable::save(&store, &key, &known));
            return;
        }
        let asked_ms = i64::try_from(known.asked_ms()).unwrap_or(i64::MAX);
        let shared = known.to_share();
        let put = self.records.put_answer(key.as_str(), asked_ms, &shared);
        if let Err(error) = put.await {
            tracing::warn!(%key, %error, "cannot share an answer; it is served from memory");
        }
    }
}
