//! What is kept of a module: its versions, a list and a latest version made of them alone.

use std::{collections::HashSet, io, time::Duration};

use bytes::Bytes;
use gomod::{ModulePath, Version, info, list};
use store::{Found, Key};
use tokio::{runtime::Handle, time::timeout};

use crate::{
    artifact::{Artifact, Part},
    gateway::Gateway,
};

/// Longest time that a small file is waited for that another tier has.
const ELSEWHERE: Duration = Duration::from_secs(5);

/// A bucket that lost more than so many of them is not asked for the others.
const INFOS_TRIED: usize = 8;

/// Which kept versions may be the latest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    All,
    /// No pseudo-versions.
    Tagged,
}

/// Versions of a module of which something is kept, in order.
pub(crate) struct KeptVersions {
    pub(crate) versions: Vec<Version>,
    pub(crate) pseudo: Vec<Version>,
    /// Those of `versions` of which all is kept. No other one is added to an upstream's list: a client that chooses it asks
    /// for the rest, which the upstream may not have any more.
    pub(crate) whole: Vec<Version>,
    /// Those of all of which the `.info` is kept.
    told: HashSet<Version>,
}

impl Gateway {
    /// The list of what is kept: empty if that is pseudo-versions alone, none if nothing is. Versions of which only some is
    /// kept are in it if there are no others: who chooses one of them needs an upstream. Reads the disk.
    pub(crate) fn list_kept(&self, module: &ModulePath) -> Option<Bytes> {
        let kept = self.kept_versions(module);
        let mut all = kept.versions.iter().chain(&kept.pseudo);
        if !all.any(|version| self.tombstones.find(module, version).is_none()) {
            return None;
        }
        let whole = self.united(module, b"", kept.whole);
        Some(if whole.is_empty() {
            self.united(module, b"", kept.versions)
        } else {
            whole
        })
    }

    /// The kept `.info` of the version that is the latest of what is kept: of the first that has one and is not retired.
    /// Reads the disk.
    pub(crate) fn latest_kept(&self, module: &ModulePath, which: Kept) -> Option<Bytes> {
        let kept = self.kept_versions(module);
        let mut versions = kept.versions;
        versions.retain(|version| self.tombstones.find(module, version).is_none());
        self.hide_incompatible(module, &mut versions);
        let (before, releases): (Vec<_>, Vec<_>) =
            versions.iter().partition(|version| version.is_prerelease());
        let pseudo = kept.pseudo.iter().rev();
        let pseudo = pseudo.filter(|_| which == Kept::All);
        let pseudo = pseudo.filter(|version| self.tombstones.find(module, version).is_none());
        let best_first = releases
            .into_iter()
            .rev()
            .chain(before.into_iter().rev())
            .chain(pseudo);
        best_first
            .filter(|version| kept.told.contains(version))
            .take(INFOS_TRIED)
            .find_map(|version| self.kept_info(module, version))
    }

    /// The kept `.info` of a version. Reads the disk.
    pub(crate) fn kept_info(&self, module: &ModulePath, version: &Version) -> Option<Bytes> {
        let artifact = Artifact {
            module: module.clone(),
            version: version.clone(),
            part: Part::Info,
        };
        self.kept_file(&artifact, info::MAX_BYTES as u64)
    }

    /// A kept file of at most `max` bytes, from whichever tier has it. Reads the disk.
    pub(crate) fn kept_file(&self, artifact: &Artifact, max: u64) -> Option<Bytes> {
        let key = artifact.key().ok()?;
        match self.store.read_small(&key, max) {
            Ok(Some(file)) => Some(file.into()),
            _ => Handle::current().block_on(self.kept_elsewhere(&key)),
        }
    }

    /// The content of a file that another tier keeps, if it is small.
    pub(crate) async fn kept_elsewhere(&self, key: &Key) -> Option<Bytes> {
        if !self.tiers.keeps_elsewhere() {
            return None;
        }
        let asked = async {
            // The index spares a bucket questions about what is not kept.
            if let Ok(None) = self.records.object(key.as_str()).await {
                return None;
            }
            match self.tiers.find(key).await {
                Found::Kept(kept) => kept.whole().cloned(),
                Found::Pull(_) | Found::Absent | Found::Unknown(_) => None,
            }
        };
        timeout(ELSEWHERE, asked).await.ok()?
    }

    /// Versions of which something is kept. Reads the disk.
    pub(crate) fn kept_versions(&self, module: &ModulePath) -> KeptVersions {
        let names = self.kept_names(module).unwrap_or_else(|error| {
            tracing::warn!(%module, %error, "the index cannot be asked; the disk is");
            self.names_on_disk(module).unwrap_or_default()
        });
        let stems = |ending: &'static str| names.iter().filter_map(move |n| n.strip_suffix(ending));
        let zips: HashSet<&str> = stems(".zip").collect();
        let mods: HashSet<&str> = stems(".mod").collect();
        let infos: HashSet<&str> = stems(".info").collect();
        let read = |stems: Vec<&str>| {
            let versions = stems.into_iter().map(Version::from_escaped);
            let versions: Vec<Version> = versions.filter_map(Result::ok).collect();
            list::from_names(versions.iter().map(Version::as_str), module)
        };
        let some = read(infos.union(&mods).copied().collect());
        let whole = infos
            .intersection(&mods)
            .filter(|stem| zips.contains(*stem));
        let told = infos.iter().copied().map(Version::from_escaped);
        KeptVersions {
            told: told.filter_map(Result::ok).collect(),
            whole: read(whole.copied().collect()).versions,
            versions: some.versions,
            pseudo: some.pseudo,
        }
    }

    /// File names of what is kept of a module. Where a tier beside the disk keeps, the disk may have only some of it: the
    /// index has it all, and no bucket is ever listed for an answer.
    pub(crate) fn kept_names(&self, module: &ModulePath) -> io::Result<Vec<String>> {
        if self.tiers.keeps_elsewhere() {
            let folder = kept_folder(module);
            let names = self.records.folder(&folder);
            return Handle::current().block_on(names).map_err(io::Error::other);
        }
        self.names_on_disk(module)
    }

    fn names_on_disk(&self, module: &ModulePath) -> io::Result<Vec<String>> {
        let folder = Key::new(kept_folder(module)).map_err(io::Error::other)?;
        self.store.names(&folder)
    }
}

/// The folder in which files of a module's versions are kept.
pub(crate) fn kept_folder(module: &ModulePath) -> String {
    format!("go/{}/@v", module.escaped())
}
