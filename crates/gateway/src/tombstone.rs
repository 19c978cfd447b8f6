//! Versions that an administrator retired: answered 410 with the reason, and left out of lists.
//!
//! They stand in `tombstones.json` in the data folder, which the commands write and a running server watches,
//! so that a change is effective at once and no server is needed to make one.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use arc_swap::ArcSwap;
use gomod::{ModulePath, Version};
use serde::{Deserialize, Serialize};

/// The file's name in the data folder.
pub const FILE: &str = "tombstones.json";
const MAX_BYTES: u64 = 64 << 20;

/// Why and when a version was retired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// What its retirer said.
    pub reason: String,
    /// RFC 3339, UTC.
    pub time: String,
}

type OnDisk = BTreeMap<String, Tombstone>;
type Table = HashMap<String, HashMap<String, Tombstone>>;

/// The tombstones in effect.
#[derive(Debug)]
pub struct Tombstones {
    path: PathBuf,
    table: ArcSwap<Table>,
}

impl Tombstones {
    /// Reads the file of a data folder; none is the same as an empty one.
    pub fn load(folder: &Path) -> io::Result<Self> {
        let path = folder.join(FILE);
        let table = ArcSwap::from_pointee(index(read(&path)?));
        Ok(Self { path, table })
    }

    /// Reads the file again, and gives the modules for which it changed. On an error what was read before stays in effect.
    pub fn reload(&self) -> io::Result<Vec<ModulePath>> {
        let table = index(read(&self.path)?);
        let before = self.table.load();
        let names = before.keys().chain(table.keys());
        let mut changed: Vec<ModulePath> = names
            .filter(|name| before.get(*name) != table.get(*name))
            .filter_map(|name| ModulePath::parse(name).ok())
            .collect();
        changed.sort_unstable();
        changed.dedup();
        self.table.store(table.into());
        Ok(changed)
    }

    /// The modules of which versions are retired.
    pub fn modules(&self) -> Vec<ModulePath> {
        let table = self.table.load();
        table
            .keys()
            .filter_map(|name| ModulePath::parse(name).ok())
            .collect()
    }

    /// Whether there is none at all: the usual case, and cheap to know.
    pub fn is_empty(&self) -> bool {
        self.table.load().is_empty()
    }

    /// The tombstone of a version.
    pub fn find(&self, module: &ModulePath, version: &Version) -> Option<Tombstone> {
        self.table
            .load()
            .get(module.as_str())?
            .get(version.as_str())
            .cloned()
    }
}

/// Sets or takes away one tombstone in a data folder's file; says whether that changed anything.
pub fn edit(
    folder: &Path,
    module: &ModulePath,
    version: &Version,
    tombstone: Option<Tombstone>,
) -> io::Result<bool> {
    fs::create_dir_all(folder)?;
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join("tombstones.lock"))?;
    lock.lock()?;
    let path = folder.join(FILE);
    let mut file = read(&path)?;
    let name = format!("{module}@{version}");
    let changed = match tombstone {
        Some(tombstone) => file.insert(name, tombstone.clone()).as_ref() != Some(&tombstone),
        None => file.remove(&name).is_some(),
    };
    if changed {
        let temp = folder.join("tombstones.json.new");
        let mut out = File::create(&temp)?;
        out.write_all(&serde_json::to_vec_pretty(&file)?)?;
        out.sync_all()?;
        fs::rename(&temp, &path)?;
        File::open(folder)?.sync_all()?;
    }
    Ok(changed)
}

fn read(path: &Path) -> io::Result<OnDisk> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() > MAX_BYTES => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "tombstones.json is over 64 MiB",
        )),
        Ok(_) => Ok(serde_json::from_slice(&fs::read(path)?)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(OnDisk::new()),
        Err(error) => Err(error),
    }
}

fn index(file: OnDisk) -> Table {
    let mut table = Table::new();
    for (name, tombstone) in file {
        if let Some((module, version)) = name.rsplit_once('@') {
            table
                .entry(module.to_owned())
                .or_default()
                .insert(version.to_owned(), tombstone);
        }
    }
    table
}
