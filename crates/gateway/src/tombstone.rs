//! Versions that an administrator retired: answered 410 with the reason, and left out of lists.
//!
//! They stand in the records, which the commands write and a running server follows, so that a change is effective at
//! once and no server is needed to make one. Every tombstone is in memory too: no answer waits for the records.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    path::Path,
};

use arc_swap::ArcSwap;
use gomod::{ModulePath, Version};
use records::{Records, RecordsError, TombstoneRow};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

/// The file in the data folder in which they stood before there were records.
const OLD_FILE: &str = "tombstones.json";
const MAX_OLD_BYTES: u64 = 64 << 20;
/// How many changes at once are told one by one in the log.
const MAX_TOLD: usize = 20;

/// Why and when a version was retired.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Tombstone {
    /// What its retirer said.
    pub reason: String,
    /// RFC 3339, UTC.
    pub time: String,
}

type Table = HashMap<String, HashMap<String, Tombstone>>;

/// The tombstones in effect.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    table: ArcSwap<Table>,
}

impl Tombstones {
    /// Reads them from the records, after those of the data folder are taken over.
    pub(crate) async fn load(records: &Records, folder: &Path) -> io::Result<Self> {
        let tombstones = Self::default();
        // Records that were made just now have none, and are not waited for.
        if take_over(records, folder).await? || !records.fresh() {
            let rows = records.tombstones().await.map_err(io::Error::other)?;
            tombstones.table.store(index(rows).into());
        }
        Ok(tombstones)
    }

    /// Reads them again, says in the log what changed, and gives the modules for which they did. On an error what was
    /// read before stays in effect.
    pub(crate) async fn reload(&self, records: &Records) -> Result<Vec<ModulePath>, RecordsError> {
        let table = index(records.tombstones().await?);
        let before = self.table.load();
        let names: BTreeSet<&String> = before.keys().chain(table.keys()).collect();
        let changed = names
            .iter()
            .filter(|name| before.get(**name) != table.get(**name))
            .filter_map(|name| ModulePath::parse(name).ok())
            .collect();
        tell(&before, &table);
        self.table.store(table.into());
        Ok(changed)
    }

    /// The modules that have one.
    pub(crate) fn modules(&self) -> Vec<ModulePath> {
        let table = self.table.load();
        let names = table.keys();
        names
            .filter_map(|name| ModulePath::parse(name).ok())
            .collect()
    }

    /// Whether there is none at all: the usual case, and cheap to know.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.load().is_empty()
    }

    /// Whether a module has one.
    pub(crate) fn concern(&self, module: &ModulePath) -> bool {
        self.table.load().contains_key(module.as_str())
    }

    /// The tombstone of a version.
    pub(crate) fn find(&self, module: &ModulePath, version: &Version) -> Option<Tombstone> {
        self.table
            .load()
            .get(module.as_str())?
            .get(version.as_str())
            .cloned()
    }
}

/// Sets or takes away one tombstone; says whether that changed anything.
pub async fn edit(
    records: &Records,
    module: &ModulePath,
    version: &Version,
    tombstone: Option<Tombstone>,
) -> Result<bool, RecordsError> {
    match tombstone {
        Some(tombstone) => {
            records
                .retire(&row(module.as_str(), version.as_str(), tombstone))
                .await
        }
        None => records.unretire(module.as_str(), version.as_str()).await,
    }
}

/// Takes over the file of a data folder from before there were records, and sets it aside. Once, also if two processes
/// do it at the same time. Says whether there was one.
pub async fn take_over(records: &Records, folder: &Path) -> io::Result<bool> {
    let path = folder.join(OLD_FILE);
    let reading = path.clone();
    let Some(bytes) = spawn_blocking(move || read(&reading))
        .await
        .map_err(io::Error::other)??
    else {
        return Ok(false);
    };
    let once = format!("{OLD_FILE} {}", hex::encode(Sha256::digest(&bytes)));
    let old: HashMap<String, Tombstone> = serde_json::from_slice(&bytes)
        .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
    let rows: Vec<TombstoneRow> = old
        .into_iter()
        .filter_map(|(name, tombstone)| {
            let (module, version) = name.rsplit_once('@')?;
            Some(row(module, version, tombstone))
        })
        .collect();
    let taken = records
        .take_over_tombstones(&once, &rows)
        .await
        .map_err(io::Error::other)?;
    if taken {
        tracing::info!(
            count = rows.len(),
            "retired versions taken over from {OLD_FILE}"
        );
    }
    let aside = folder.join(format!("{OLD_FILE}.taken-over"));
    match spawn_blocking(move || fs::rename(path, aside))
        .await
        .map_err(io::Error::other)?
    {
        // Another process was quicker.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(true),
    }
}

/// Says which versions are retired now, and which are not any more.
fn tell(before: &Table, now: &Table) {
    let flat = |table: &Table| -> BTreeMap<String, Tombstone> {
        let mut flat = BTreeMap::new();
        for (module, versions) in table {
            for (version, tombstone) in versions {
                flat.insert(format!("{module}@{version}"), tombstone.clone());
            }
        }
        flat
    };
    let (before, now) = (flat(before), flat(now));
    let retired = now
        .iter()
        .filter(|(name, now)| before.get(*name) != Some(*now));
    let back = before.iter().filter(|(name, _)| !now.contains_key(*name));
    let (many_retired, many_back) = (retired.clone().count(), back.clone().count());
    for (version, Tombstone { reason, time }) in retired.take(MAX_TOLD) {
        tracing::info!(version, reason, time, "retired: it answers 410");
    }
    for (version, Tombstone { reason, .. }) in back.take(MAX_TOLD) {
        tracing::info!(version, reason, "not retired any more");
    }
    if many_retired.max(many_back) > MAX_TOLD {
        tracing::info!(
            retired = many_retired,
            back = many_back,
            "more changed than are told one by one"
        );
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() > MAX_OLD_BYTES => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{} is over 64 MiB", path.display()),
        )),
        Ok(_) => fs::read(path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn row(module: &str, version: &str, tombstone: Tombstone) -> TombstoneRow {
    TombstoneRow {
        module: module.to_owned(),
        version: version.to_owned(),
        reason: tombstone.reason,
        time: tombstone.time,
    }
}

fn index(rows: Vec<TombstoneRow>) -> Table {
    let mut table = Table::new();
    for row in rows {
        let tombstone = Tombstone {
            reason: row.reason,
            time: row.time,
        };
        table
            .entry(row.module)
            .or_default()
            .insert(row.version, tombstone);
    }
    table
}
