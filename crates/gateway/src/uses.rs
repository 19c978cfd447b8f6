//! When versions were last used, for `modgate gc`: noted in the index where a tier beside the disk keeps, since neither
//! a bucket nor the disk of one of several replicas knows. No answer waits for it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use moka::sync::Cache;
use store::Key;
use tokio::time::sleep;

use crate::{anew::artifact_of, gateway::Gateway, keep::now_ms};

/// How often uses are noted.
const EVERY: Duration = Duration::from_mins(1);
/// How often the use of one file is noted: who cleans up goes by days.
const AGAIN: Duration = Duration::from_hours(1);
/// Files of which it is remembered that their use was noted.
const MOST_NOTED: u64 = 65_536;
/// Uses in one transaction.
const BATCH: usize = 1024;

/// Files whose use was noted lately.
#[derive(Debug)]
pub(crate) struct NotedUses(Cache<Key, ()>);

impl Default for NotedUses {
    fn default() -> Self {
        let noted = Cache::builder()
            .max_capacity(MOST_NOTED)
            .time_to_live(AGAIN);
        Self(noted.build())
    }
}

/// Notes uses for as long as there is a gateway.
pub(crate) async fn note_all(gateway: Weak<Gateway>) {
    loop {
        let Some(strong) = gateway.upgrade() else {
            return;
        };
        let tiers = Arc::clone(&strong.tiers);
        drop(strong);
        tokio::select! {
            () = sleep(EVERY) => {}
            () = tiers.many_uses() => {}
        }
        drop(tiers);
        let Some(strong) = gateway.upgrade() else {
            return;
        };
        let noted = strong.note_uses().await;
        drop(strong);
        if !noted {
            sleep(EVERY).await;
        }
    }
}

impl Gateway {
    /// Notes what was used since the last time. False if the records cannot be written: it is for the next time.
    pub(crate) async fn note_uses(self: &Arc<Self>) -> bool {
        let taken = self.on_disk(|gateway| gateway.tiers.take_uses()).await;
        let mut keys = taken.unwrap_or_default();
        keys.retain(|key| {
            artifact_of(key.as_str()).is_some() && !self.noted_uses.0.contains_key(key)
        });
        let (now, mut all) = (now_ms(), true);
        for batch in keys.chunks(BATCH) {
            let used: Vec<_> = batch
                .iter()
                .map(|key| (key.as_str().to_owned(), now))
                .collect();
            if let Err(error) = self.records.used(&used).await {
                tracing::warn!(%error, "cannot note what was used; it is tried again");
                self.tiers.give_back_uses(batch);
                all = false;
                continue;
            }
            for key in batch {
                self.noted_uses.0.insert(key.clone(), ());
            }
        }
        all
    }
}
