//! What the tiers do by themselves: put back what was taken out, write what waits in the journal, make room.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    task::{JoinSet, spawn_blocking},
    time::timeout,
};

use super::Tiers;
use crate::{
    breaker::jitter,
    journal::{Entry, Incoming, Journal},
    tier::{Source, Tier, TierErrorKind, count},
};

/// Longest time that what waits is held. It is on this disk alone.
const HELD: Duration = Duration::from_mins(5);
/// Entries of the journal that are written to one tier at a time.
const WRITERS: usize = 2;
/// First and longest time between two tries of an entry.
const FIRST: Duration = Duration::from_millis(200);
const CAP: Duration = Duration::from_secs(15);

impl Tiers {
    /// Works until it is dropped. Without it no tier that failed comes back.
    pub async fn run(self: Arc<Self>) {
        let mut work = JoinSet::new();
        if let Some(journal) = self.journal.clone() {
            let tiers = Arc::clone(&self);
            work.spawn(async move {
                tiers.not_held().await;
                for entry in journal.take_lost() {
                    tiers.make_up_for(&journal, &entry).await;
                }
            });
        }
        for tier in self.tiers() {
            work.spawn(Arc::clone(tier).keep_up());
            if !tier.keeps() {
                continue;
            }
            // Said at the start, not with the first version that cannot be kept.
            let first = Arc::clone(tier);
            work.spawn(async move { first.look().await });
            if let Some(journal) = &self.journal {
                for _ in 0..WRITERS {
                    work.spawn(Arc::clone(&self).drain(Arc::clone(tier), Arc::clone(journal)));
                }
            }
        }
        work.spawn(Arc::clone(&self).make_room());
        while work.join_next().await.is_some() {}
        // A process with nothing to do here waits like the others.
        std::future::pending().await
    }

    pub(super) async fn not_held(&self) {
        let mut held = self.held.subscribe();
        let _ = timeout(HELD, held.wait_for(|held| !held)).await;
    }

    /// Writes what waits for `tier`, oldest first.
    async fn drain(self: Arc<Self>, tier: Arc<Tier>, journal: Arc<Journal>) {
        self.not_held().await;
        let (mut wait, mut after) = (FIRST, None);
        loop {
            let entry = journal.next(tier.place(), after).await;
            after = Some(entry.id);
            if self.write_entry(&tier, &journal, &entry).await {
                wait = FIRST;
                continue;
            }
            journal.put_back(entry.id);
            tokio::time::sleep(wait.mul_f64(1.0 - 0.25 * jitter())).await;
            wait = (wait * 2).min(CAP);
            tier.gate().up().await;
        }
    }

    /// Writes one entry; `false` if it has to wait.
    async fn write_entry(
        self: &Arc<Self>,
        tier: &Arc<Tier>,
        journal: &Arc<Journal>,
        entry: &Entry,
    ) -> bool {
        let key = &entry.key;
        let (reader, read) = (Arc::clone(journal), entry.clone());
        let read = spawn_blocking(move || -> io::Result<Option<Source>> {
            let source = match reader.source(&read) {
                // Somebody took it away.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            let good = source.digest()?.same_bytes(&read.digest);
            Ok(good.then_some(source))
        });
        let source = match read.await.map_err(io::Error::other) {
            Ok(Ok(Some(source))) => source,
            Ok(Ok(None)) => return self.journal_is_bad(journal, entry).await,
            Ok(Err(error)) | Err(error) => {
                tracing::error!(%key, %error, "cannot read an entry of the journal");
                return false;
            }
        };
        match tier.put(key, &source, &entry.digest).await {
            Ok(_) => self.leave(journal, entry, true).await,
            Err(error) if error.kind == TierErrorKind::Differs => {
                // What everybody shares is what counts. Ours goes, wherever it is here.
                self.disk_is_bad(key).await;
                self.leave(journal, entry, false).await
            }
            Err(error) => {
                tracing::debug!(%key, %error, "stays in the journal");
                false
            }
        }
    }

    /// An entry that is the caller's is not what it should be.
    pub(super) async fn journal_is_bad(
        self: &Arc<Self>,
        journal: &Arc<Journal>,
        entry: &Entry,
    ) -> bool {
        count(&self.counters.disk_corrupt);
        tracing::error!(key = %entry.key, "SECURITY: an entry of the journal is not what it should be; moved to quarantine");
        let left = self.leave(journal, entry, false).await;
        if left {
            self.make_up_for(journal, entry).await;
        } else {
            journal.put_back(entry.id);
        }
        left
    }

    /// An entry was lost: if the disk has what it was for, it waits again.
    async fn make_up_for(self: &Arc<Self>, journal: &Arc<Journal>, entry: &Entry) {
        if self.disk.is_none() {
            return;
        }
        let (tiers, journal, lost) = (Arc::clone(self), Arc::clone(journal), entry.clone());
        let added = spawn_blocking(move || {
            let path = tiers.store.folder().join(lost.key.as_str());
            let good = Source::open(&path)
                .and_then(|file| file.digest())
                .is_ok_and(|digest| digest.same_bytes(&lost.digest));
            let incoming = Incoming::kept(path).ok().filter(|_| good)?;
            journal
                .add(&tiers.store, &lost.tier, &lost.key, incoming, &lost.digest)
                .ok()
        });
        let key = &entry.key;
        if let Ok(Some(())) = added.await {
            tracing::info!(%key, "the disk has it: it goes to its tier from there");
        } else {
            tracing::warn!(%key, "it is not in its tier: fetched anew when somebody asks, or by `modgate fsck --repair`");
        }
    }

    async fn leave(self: &Arc<Self>, journal: &Arc<Journal>, entry: &Entry, good: bool) -> bool {
        let (tiers, journal, entry) = (Arc::clone(self), Arc::clone(journal), entry.clone());
        let key = entry.key.clone();
        let left = spawn_blocking(move || {
            if good {
                journal.done(&entry)
            } else {
                let aside = journal.set_aside(&entry, tiers.store.folder());
                // Served from memory it would outlive its file.
                tiers.store.let_go(entry.key.as_str());
                aside
            }
        });
        match left.await.map_err(io::Error::other) {
            Ok(Ok(())) => true,
            Ok(Err(error)) | Err(error) => {
                tracing::error!(%key, %error, "cannot remove an entry of the journal");
                false
            }
        }
    }
}
