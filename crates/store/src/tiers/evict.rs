//! Room on the disk tier: what leaves it, and when.
//!
//! A file is young until it is used again after it arrived (its time of last access is 0), then old. Young ones leave
//! first, the earliest arrived first, as long as they hold more than a tenth of the bound; after that old ones, the
//! longest unused first. So a client that reads everything once pushes out nothing that others use (the idea of
//! S3-FIFO and 2Q, with the file system as the index: no memory grows with the number of files). A file is used when it
//! is found in the memory tier at one of the looks, each minute.
//!
//! With a time to live, files that nobody used for so long leave too, whatever room there is.
//!
//! No file leaves before a tier that keeps has the same bytes. Files that change are no objects, and stay.

use std::{
    collections::BinaryHeap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt, stream};
use tokio::{task::spawn_blocking, time::Instant};

use super::{DiskSettings, Tiers};
use crate::{
    Key,
    tier::{Source, Tier, TierError, TierErrorKind, count},
};

/// Between two looks.
const LOOK: Duration = Duration::from_mins(1);
/// Between two walks over all files where nothing calls for one: others may remove files, too.
const WALK: Duration = Duration::from_hours(1);
/// Files of a kind that one walk picks at most.
const PICKED: usize = 4096;
/// Walks in a row at most.
const ROUNDS: usize = 64;
/// Files that are looked for in the tiers that keep at a time.
const AT_ONCE: usize = 8;
/// Room is made down to this share of the bound, in percent.
const DOWN_TO: u64 = 95;
/// Share of the bound that young files may hold before old ones leave, in percent.
const YOUNG: u64 = 10;

/// A file that may leave. Greater is better to keep.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Last use, or arrival for one that was never used again.
    at: i64,
    size: u64,
    path: PathBuf,
}

/// What a walk saw.
#[derive(Debug, Default)]
struct Seen {
    bytes: u64,
    young_bytes: u64,
    young: BinaryHeap<Candidate>,
    old: BinaryHeap<Candidate>,
}

impl Tiers {
    /// Keeps the disk tier within its bounds. Ends at once where there are none.
    pub(super) async fn make_room(self: Arc<Self>) {
        let Some(disk) = self.disk.clone().filter(|_| self.keeps_elsewhere()) else {
            return;
        };
        if disk.max_size.is_none() && disk.ttl.is_none() {
            return;
        }
        self.not_held().await;
        let bound = disk.max_size.unwrap_or(u64::MAX);
        let between = WALK.min(disk.ttl.unwrap_or(WALK));
        self.store.notes().uses_from_now();
        let mut walked: Option<Instant> = None;
        loop {
            let tiers = Arc::clone(&self);
            // The disk's trouble is told where it is written to.
            let _ = spawn_blocking(move || tiers.mark_uses()).await;
            let due = walked.is_none_or(|at| at.elapsed() >= between);
            if due || self.counters.disk_bytes.load(Relaxed) > bound {
                walked = Some(Instant::now());
                if let Err(error) = self.evict(bound, &disk).await {
                    tracing::error!(%error, "cannot make room on the disk tier");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK.min(between)) => {}
                () = self.crowded.notified() => {}
            }
        }
    }

    /// A file of `size` bytes came to the disk tier.
    pub(super) fn arrived(&self, size: u64) {
        let bytes = self.counters.disk_bytes.fetch_add(size, Relaxed) + size;
        let bound = self.disk.as_ref().and_then(|disk| disk.max_size);
        if bound.is_some_and(|bound| bytes > bound) {
            self.crowded.notify_one();
        }
    }

    /// Walks over the files and lets go of as many as it takes.
    async fn evict(self: &Arc<Self>, bound: u64, disk: &DiskSettings) -> Result<(), EvictError> {
        for _ in 0..ROUNDS {
            let (data, changes) = (self.store.folder().to_owned(), disk.changes);
            let stays = move |path: &Path| {
                changes.is_some_and(|changes| key_of(&data, path).is_some_and(|key| changes(&key)))
            };
            let folder = self.store.folder().join("go");
            let seen = spawn_blocking(move || walk(&folder, &stays)).await;
            let seen = seen.map_err(io::Error::other)??;
            self.counters.disk_bytes.store(seen.bytes, Relaxed);
            let (leaving, need) = if seen.bytes > bound {
                let need = seen.bytes - bound / 100 * DOWN_TO;
                (pick(seen, need, bound / 100 * YOUNG), need)
            } else {
                let before = disk.ttl.map(|ttl| SystemTime::now() - ttl);
                (unused_since(seen, before), u64::MAX)
            };
            let freed: u64 = leaving.iter().map(|leaving| leaving.size).sum();
            let mut gone = stream::iter(leaving)
                .map(|leaving| self.let_go(leaving))
                .buffer_unordered(AT_ONCE);
            while let Some(done) = gone.next().await {
                done?;
            }
            if freed >= need || freed == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Removes a file that a tier keeps, or gives it to the tier first.
    async fn let_go(self: &Arc<Self>, leaving: Candidate) -> Result<(), EvictError> {
        let Some(key) = key_of(self.store.folder(), &leaving.path) else {
            return Ok(());
        };
        for tier in self.keepers() {
            if !self.make_sure(tier, &key).await? {
                return Ok(());
            }
        }
        let (store, removed) = (Arc::clone(&self.store), key.clone());
        spawn_blocking(move || store.remove(&removed))
            .await
            .map_err(io::Error::other)??;
        count(&self.counters.evicted);
        self.counters.evicted_bytes.fetch_add(leaving.size, Relaxed);
        self.counters.disk_bytes.fetch_sub(
            leaving.size.min(self.counters.disk_bytes.load(Relaxed)),
            Relaxed,
        );
        Ok(())
    }

    /// Whether `tier` has the bytes of the file, by now. `false`: the file was set aside, or has gone.
    async fn make_sure(self: &Arc<Self>, tier: &Arc<Tier>, key: &Key) -> Result<bool, EvictError> {
        let (store, at) = (Arc::clone(&self.store), key.clone());
        let noted = spawn_blocking(move || store.noted(&at)).await;
        let noted = noted.map_err(io::Error::other)??;
        let there = tier.head(key).await?;
        if let (Some(noted), Some(there)) = (&noted, there.and_then(|there| there.digest))
            && noted.same_bytes(&there)
        {
            return Ok(true);
        }
        let path = self.store.path(key);
        let read = spawn_blocking(move || {
            let source = Source::open(&path)?;
            let digest = source.digest()?;
            io::Result::Ok((source, digest))
        });
        let (source, digest) = match read.await.map_err(io::Error::other)? {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if noted
            .as_ref()
            .is_some_and(|noted| !noted.same_bytes(&digest))
        {
            self.disk_is_bad(key).await;
            return Ok(false);
        }
        match tier.put(key, &source, &noted.unwrap_or(digest)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == TierErrorKind::Differs => {
                self.disk_is_bad(key).await;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum EvictError {
    #[error(transparent)]
    Tier(#[from] TierError),
    #[error(transparent)]
    Disk(#[from] io::Error),
}

fn key_of(data: &Path, path: &Path) -> Option<Key> {
    let below = path.strip_prefix(data).ok()?.to_str()?;
    Key::new(below.to_owned()).ok()
}

/// All files below `folder`: how much they hold, and of each kind those that should leave first, but for those that stay.
/// Waits for the disk.
fn walk(folder: &Path, stays: &dyn Fn(&Path) -> bool) -> io::Result<Seen> {
    let mut seen = Seen::default();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(meta) = entry.metadata() else {
                continue;
            };
            if meta.is_dir() {
                folders.push(entry.path());
                continue;
            }
            seen.bytes += meta.len();
            let path = entry.path();
            if stays(&path) {
                continue;
            }
            let young = meta.atime() == 0;
            let (heap, at) = if young {
                seen.young_bytes += meta.len();
                (&mut seen.young, meta.mtime())
            } else {
                (&mut seen.old, meta.atime())
            };
            heap.push(Candidate {
                at,
                size: meta.len(),
                path,
            });
            if heap.len() > PICKED {
                heap.pop();
            }
        }
    }
    Ok(seen)
}

/// What is to leave so that `need` bytes are free, or as much of it as one walk picked.
fn pick(seen: Seen, need: u64, young_may_hold: u64) -> Vec<Candidate> {
    let mut young = seen.young.into_sorted_vec().into_iter().peekable();
    let mut old = seen.old.into_sorted_vec().into_iter().peekable();
    let (mut young_bytes, mut freed) = (seen.young_bytes, 0);
    let mut leaving = Vec::new();
    while freed < need {
        let from_young =
            young.peek().is_some() && (young_bytes > young_may_hold || old.peek().is_none());
        let next = if from_young { young.next() } else { old.next() };
        let Some(next) = next else {
            break;
        };
        if from_young {
            young_bytes = young_bytes.saturating_sub(next.size);
        }
        freed += next.size;
        leaving.push(next);
    }
    leaving
}

/// What was not used since, or as much of it as one walk picked.
fn unused_since(seen: Seen, before: Option<SystemTime>) -> Vec<Candidate> {
    let before = before.and_then(|before| before.duration_since(UNIX_EPOCH).ok());
    let before = before.map_or(0, |before| before.as_secs().cast_signed());
    let all = seen.young.into_iter().chain(seen.old);
    all.filter(|candidate| candidate.at < before).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(at: i64) -> Candidate {
        Candidate {
            at,
            size: 10,
            path: at.to_string().into(),
        }
    }

    fn picked(young: &[i64], old: &[i64], need: u64, young_may_hold: u64) -> Vec<i64> {
        let seen = Seen {
            bytes: 0,
            young_bytes: young.len() as u64 * 10,
            young: young.iter().copied().map(candidate).collect(),
            old: old.iter().copied().map(candidate).collect(),
        };
        let leaving = pick(seen, need, young_may_hold);
        leaving.into_iter().map(|leaving| leaving.at).collect()
    }

    #[test]
    fn a_scan_leaves_before_what_is_used() {
        assert_eq!(picked(&[9, 7, 8], &[1, 2], 30, 0), [7, 8, 9]);
        assert_eq!(
            picked(&[9, 7, 8], &[2, 1], 30, 20),
            [7, 1, 2],
            "the young keep their share"
        );
        assert_eq!(
            picked(&[7], &[1], 11, 10),
            [1, 7],
            "all of it if it must be"
        );
        assert_eq!(picked(&[], &[3, 1, 2], 15, 10), [1, 2]);
        assert_eq!(picked(&[], &[], 15, 10), [0; 0]);
    }
}
