//! Partial tiles that nobody needs any more.
//!
//! A tile at the right edge of the tree is kept as each head had it, in a width of its own and under a name of its own. Once the full one is kept
//! it stands for all of them: here they are cut from it, and the go command, which may use the folder as it is, asks for the full one
//! where a partial one is missing. It does not ask for a wider one: so what a kept lookup's own head needs stays until the full tile is there,
//! and of each level's last tile there are 255 at most.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use store::{Key, Tiers};
use tokio::runtime::Handle;

/// What follows a full tile's name in the name of the folder of its partial ones.
const PARTIAL: &str = ".p";

/// Removes the partial tiles of the full tiles among `kept`, which are on disk. Waits for the disk.
pub(super) fn remove_covered<'a>(
    tiers: &Arc<Tiers>,
    runtime: &Handle,
    kept: impl Iterator<Item = &'a String>,
) {
    for full in kept.filter(|key| !key.contains(".p/")) {
        if let Err(error) = remove_partial(tiers, runtime, full) {
            tracing::warn!(tile = full, %error, "cannot remove its partial tiles: they stay");
        }
    }
}

/// Removes all partial tiles of a database that a full one stands for. Waits for the disk.
pub(super) fn remove_all_covered(tiers: &Arc<Tiers>, runtime: &Handle, database: &str) {
    let data = tiers.store().folder();
    let mut found = Vec::new();
    let tiles = data.join(format!("go/sumdb/{database}/tile"));
    if let Err(error) = find_covered(&tiles, &mut found) {
        tracing::warn!(database, %error, "cannot look for partial tiles");
    }
    let keys: Vec<String> = found
        .iter()
        .filter_map(|full| Some(full.strip_prefix(data).ok()?.to_str()?.to_owned()))
        .collect();
    remove_covered(tiers, runtime, keys.iter());
}

/// Full tiles below a folder beside which there are partial ones.
fn find_covered(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let path = entry.path();
        let full = path.to_str().and_then(|path| path.strip_suffix(PARTIAL));
        match full.map(Path::new) {
            Some(full) if full.is_file() => found.push(full.to_owned()),
            Some(_) => {}
            None => find_covered(&path, found)?,
        }
    }
    Ok(())
}

fn remove_partial(tiers: &Arc<Tiers>, runtime: &Handle, full: &str) -> io::Result<()> {
    let store = tiers.store();
    let folder = Key::new(format!("{full}{PARTIAL}")).map_err(io::Error::other)?;
    let names = store.names(&folder)?;
    if names.is_empty() {
        return Ok(());
    }
    for name in names {
        let partial = Key::new(format!("{folder}/{name}")).map_err(io::Error::other)?;
        if tiers.is_alone() {
            store.remove(&partial)?;
        } else {
            let forgotten = runtime.block_on(tiers.forget(&partial));
            forgotten.map_err(io::Error::other)?;
        }
    }
    match fs::remove_dir(store.folder().join(folder.as_str())) {
        // Another one came meanwhile.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed,
    }
}
