//! What was removed from what replicas share while this one did not run, or was not told: it goes from here too, and is not
//! given back.

use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use records::{Cursor, Records};
use store::{Key, Store, Tiers};
use tokio::time::{sleep, timeout};

use crate::gateway::Gateway;

/// In the data folder: up to which removal it was gone through.
const MARK: &str = "removals.followed";
const MAX_MARK_BYTES: u64 = 64;
/// How often the mark is moved on by those who run and are told, so that a start has little to go through.
const PAUSE: Duration = Duration::from_mins(10);
/// What is told at once is gone through together.
const GATHER: Duration = Duration::from_secs(1);
/// After trouble.
const AGAIN: Duration = Duration::from_mins(1);

/// Whether others may remove what is here too.
pub(crate) fn followed(tiers: &Tiers, records: &Records) -> bool {
    tiers.keeps_elsewhere() && records.shared()
}

/// Goes through what was removed: at the start, when something was told or may have been missed, and now and then.
pub(crate) async fn follow(gateway: Weak<Gateway>) {
    while let Some(running) = gateway.upgrade() {
        let missed = Arc::clone(&running.missed);
        let caught_up = running.catch_up().await;
        if caught_up.is_ok() {
            running.tiers.give();
        }
        drop(running);
        match caught_up {
            Ok(()) => {
                // Whichever it is.
                let _ = timeout(PAUSE, missed.notified()).await;
                sleep(GATHER).await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot go through what was removed elsewhere; trying again");
                sleep(AGAIN).await;
            }
        }
    }
}

impl Gateway {
    async fn catch_up(self: &Arc<Self>) -> io::Result<()> {
        let marked = self.marked(|store, mark| {
            // From the beginning, if it cannot be read: that costs time alone.
            let text = store.read_small(mark, MAX_MARK_BYTES).ok().flatten();
            let read = text.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
            Ok(read.unwrap_or_else(Cursor::default))
        });
        let mut followed = marked.await?;
        let (mut removed, mut stays) = (0_u64, None);
        loop {
            let next = self.records.removals_after(followed).await;
            let Some((keys, last)) = next.map_err(io::Error::other)? else {
                break;
            };
            for key in keys.into_iter().filter_map(|key| Key::new(key).ok()) {
                // It may be in memory alone.
                self.store.let_go(key.as_str());
                if !self.is_here(&key).await {
                    continue;
                }
                if !self.forget(key.as_str()).await {
                    stays.get_or_insert(key);
                    continue;
                }
                removed += u64::from(!self.is_here(&key).await);
            }
            followed = last;
            if stays.is_some() {
                // The rest is gone through all the same, and this once more.
                continue;
            }
            let noted = self.marked(move |store, mark| {
                let text = last.to_string();
                store.replace_small(mark, text.as_bytes())
            });
            if let Err(error) = noted.await {
                tracing::warn!(%error, "cannot note in {MARK} how far this data folder came: it is gone through again");
            }
        }
        if removed > 0 {
            tracing::info!(
                files = removed,
                "removed what was removed elsewhere meanwhile"
            );
        }
        match stays {
            Some(key) => Err(io::Error::other(format!("{key} stays here for now"))),
            None => Ok(()),
        }
    }

    /// Does something with the mark, on a thread that may wait for the disk.
    async fn marked<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store, &Key) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let store = Arc::clone(&self.store);
        let done = self.tasks.spawn_blocking(move || {
            let mark = Key::new(MARK.to_owned()).map_err(io::Error::other)?;
            work(&store, &mark)
        });
        done.await.map_err(io::Error::other)?
    }

    /// Whether an object is on the disk, or waits to be written to a tier.
    async fn is_here(self: &Arc<Self>, key: &Key) -> bool {
        if self.tiers.waits(key) {
            return true;
        }
        let path = self.store.folder().join(key.as_str());
        tokio::fs::try_exists(path).await.unwrap_or(true)
    }
}
