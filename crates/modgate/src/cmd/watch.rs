//! Files of which a change matters.
//!
//! The system's notices name the entry of a folder that changed, and that need not be the file: it may be a link, and
//! what it leads to is replaced (a Kubernetes `ConfigMap` changes by one link in its folder). Folders of other machines
//! give no notice at all. So a notice, like the look that comes every [`LOOK`], is only the occasion to compare what
//! the paths lead to now with what they led to before.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep},
};

use crate::config::Stamp;

/// How often the files are compared without a notice.
const LOOK: Duration = Duration::from_secs(5);

/// Several notices in a row are one change.
const SETTLE: Duration = Duration::from_millis(100);

/// The files under watch.
#[derive(Debug)]
pub(super) struct Watch {
    files: HashMap<PathBuf, Option<Stamp>>,
    watcher: Option<RecommendedWatcher>,
    sender: mpsc::Sender<()>,
    notices: mpsc::Receiver<()>,
    looks: Interval,
}

impl Watch {
    /// What a path was when it was compared last, or `else_` if it is not watched.
    pub(super) fn seen(&self, path: &Path, else_: Option<Stamp>) -> Option<Stamp> {
        self.files.get(path).copied().unwrap_or(else_)
    }

    /// Watches nothing yet.
    pub(super) fn new() -> Self {
        // One that waits is enough: it makes all files be compared.
        let (sender, notices) = mpsc::channel(1);
        let mut looks = interval_at(Instant::now() + LOOK, LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            files: HashMap::new(),
            watcher: None,
            sender,
            notices,
            looks,
        }
    }

    /// Watches these files from now on, and no others. Each has changed if it is not as it was when it was read.
    pub(super) async fn set(&mut self, files: HashMap<PathBuf, Option<Stamp>>) {
        self.files = files;
        let paths: Vec<_> = self.files.keys().cloned().collect();
        let sender = self.sender.clone();
        let watcher = spawn_blocking(move || watch_folders(&paths, sender)).await;
        self.watcher = match watcher {
            Ok(Ok(watcher)) => Some(watcher),
            Ok(Err(error)) => {
                tracing::warn!(%error, "no notice of changed files: they are looked at every {} s", LOOK.as_secs());
                None
            }
            Err(_) => None,
        };
    }

    /// Waits until files have changed, and says which.
    pub(super) async fn changed(&mut self) -> HashSet<PathBuf> {
        loop {
            tokio::select! {
                Some(()) = self.notices.recv() => {
                    sleep(SETTLE).await;
                    // What comes from here on may be a change after the comparison.
                    let _ = self.notices.try_recv();
                }
                _ = self.looks.tick() => {}
            }
            let now = stamps(self.files.keys().cloned().collect()).await;
            let mut changed = HashSet::new();
            for (path, stamp) in now {
                if self.files.get(&path) != Some(&stamp) {
                    changed.insert(path.clone());
                    self.files.insert(path, stamp);
                }
            }
            if !changed.is_empty() {
                return changed;
            }
        }
    }
}

/// What the paths lead to; `None` for what is not there.
async fn stamps(paths: Vec<PathBuf>) -> HashMap<PathBuf, Option<Stamp>> {
    let stamped = spawn_blocking(move || {
        paths
            .into_iter()
            .map(|path| {
                let stamp = Stamp::of(&path);
                (path, stamp)
            })
            .collect()
    });
    // It fails only while the runtime ends.
    stamped.await.unwrap_or_default()
}

/// Watches the folders of the paths and of what they lead to: an editor replaces files rather than writing them.
fn watch_folders(
    paths: &[PathBuf],
    sender: mpsc::Sender<()>,
) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // A full queue already means a comparison.
            let _ = sender.try_send(());
        }
    })?;
    let targets = paths.iter().filter_map(|path| path.canonicalize().ok());
    let folders: HashSet<PathBuf> = paths
        .iter()
        .cloned()
        .chain(targets)
        .filter_map(|path| path.parent().map(Path::to_owned))
        .collect();
    for folder in folders {
        if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
            tracing::warn!(%error, "no notice of what changes in {}", folder.display());
        }
    }
    Ok(watcher)
}
