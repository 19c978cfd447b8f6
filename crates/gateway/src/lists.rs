//! The `list` of each kept folder, for clients that use the folders as they are (protocol.md section 7): the versions
//! whose `.mod` is there, less those that were retired.
//!
//! They are written a moment after a change, once for many. A marker in the data folder says that some may not be
//! written yet: if a start finds it, the process before was killed, and all lists are looked at.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gomod::{ModulePath, Version, list};
use store::{Committed, Key, Store};
use tokio::sync::Notify;

use crate::{artifact::Part, gateway::Gateway, import};

const MARKER: &str = "lists.unwritten";

/// Lists that are to be written.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    changed: HashSet<ModulePath>,
    /// Changes under way: their lists are not named yet.
    changing: usize,
    /// Whether the marker is there.
    marked: bool,
}

impl Lists {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a list is to be written.
    pub(crate) async fn wait(&self) {
        self.changed.notified().await;
    }

    /// Does `change`, after which the lists it names are to be written. Waits for the disk.
    fn during<T>(
        &self,
        store: &Store,
        change: impl FnOnce() -> T,
        names: impl FnOnce(&T) -> Vec<ModulePath>,
    ) -> T {
        {
            let mut state = self.lock();
            state.changing += 1;
            if !state.marked {
                match marker().and_then(|marker| store.replace_small(&marker, b"")) {
                    Ok(()) => state.marked = true,
                    Err(error) => tracing::warn!(%error, "cannot mark that lists change"),
                }
            }
        }
        let done = change();
        let names = names(&done);
        let mut state = self.lock();
        state.changing -= 1;
        state.changed.extend(names);
        drop(state);
        self.changed.notify_one();
        done
    }

    /// Takes the marker away if every list is written.
    fn settle(&self, store: &Store) {
        let mut state = self.lock();
        if !state.marked || state.changing > 0 || !state.changed.is_empty() {
            return;
        }
        match marker().and_then(|marker| store.remove(&marker)) {
            Ok(()) => state.marked = false,
            Err(error) => tracing::warn!(%error, "cannot take the marker of changing lists away"),
        }
    }
}

fn marker() -> io::Result<Key> {
    Key::new(MARKER.to_owned()).map_err(io::Error::other)
}

impl Gateway {
    /// Keeps a file of a module, after which its list is another. Waits for the disk.
    pub(crate) fn keep_listed(
        &self,
        module: &ModulePath,
        keep: impl FnOnce() -> io::Result<Committed>,
    ) -> io::Result<Committed> {
        self.lists
            .during(&self.store, keep, |_| vec![module.clone()])
    }

    /// Versions were retired, or are no more: their lists are written anew. Waits for the disk.
    pub(crate) fn relist(&self, modules: Vec<ModulePath>) {
        self.lists.during(&self.store, || (), |()| modules);
    }

    /// Finds the lists that a process before this one did not come to. Waits for the disk.
    pub(crate) fn recover_lists(&self) {
        let marked = marker().and_then(|marker| self.store.read_small(&marker, 1));
        if !self.tombstones.is_empty() {
            // Versions can be retired while no server runs.
            self.relist(self.tombstones.modules());
        }
        if !matches!(marked, Ok(Some(_))) {
            return;
        }
        tracing::info!("the process before this one did not end well: all lists are written anew");
        let folder = self.store.folder().join("go");
        let found = || match import::find(&folder) {
            Ok(found) => {
                let artifacts = found.into_iter().map(|found| found.artifact);
                let files = artifacts.filter(|artifact| artifact.part == Part::Mod);
                files
                    .map(|artifact| artifact.module)
                    .collect::<BTreeSet<_>>()
            }
            Err(error) => {
                tracing::warn!(%error, "cannot look for lists that were not written");
                BTreeSet::new()
            }
        };
        self.lists
            .during(&self.store, found, |found| found.iter().cloned().collect());
    }

    /// Writes the lists of all folders that changed.
    pub(crate) async fn write_lists(self: &Arc<Self>) {
        let written = self.on_disk(Self::write_changed_lists).await;
        if let Err(refusal) = written {
            tracing::error!(%refusal, "cannot write lists");
        }
    }

    fn write_changed_lists(&self) {
        let changed = std::mem::take(&mut self.lists.lock().changed);
        for module in changed {
            if let Err(error) = self.write_list(&module) {
                tracing::warn!(%module, %error, "cannot write the folder's list; it waits for the next change");
                self.lists.lock().changed.insert(module);
            }
        }
        self.lists.settle(&self.store);
    }

    fn write_list(&self, module: &ModulePath) -> io::Result<()> {
        let folder = format!("go/{}/@v", module.escaped());
        let names = self
            .store
            .names(&Key::new(folder.clone()).map_err(io::Error::other)?)?;
        if names.is_empty() {
            // Nothing of it is kept, so there is no folder to be listed.
            return Ok(());
        }
        let kept: Vec<Version> = names
            .iter()
            .filter_map(|name| Version::from_escaped(name.strip_suffix(".mod")?).ok())
            .filter(|version| self.tombstones.find(module, version).is_none())
            .collect();
        let kept = list::from_names(kept.iter().map(Version::as_str), module);
        let mut versions = kept.versions;
        versions.extend(kept.pseudo);
        versions.sort_unstable();
        let (text, key) = (list::format(&versions), format!("{folder}/list"));
        let key = Key::new(key).map_err(io::Error::other)?;
        let before = self.store.read_small(&key, text.len() as u64);
        if matches!(before, Ok(Some(before)) if before == text.as_slice()) {
            return Ok(());
        }
        self.store.replace_small(&key, &text)
    }
}
