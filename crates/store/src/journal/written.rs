//! The entries of the journal as they stand on the disk.

use std::{collections::HashSet, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::Entry;
use crate::{Digest, Key, digest::sha256_from_hex};

/// Longest `.json` that is read, in bytes.
const MAX_JSON: u64 = 16 << 10;

/// An entry as it is written down.
#[derive(Deserialize, Serialize)]
struct Written {
    tier: String,
    key: String,
    size: u64,
    sha256: String,
    h1: Option<String>,
}

/// An entry as it is written down.
pub(super) fn to_json(entry: &Entry) -> serde_json::Result<Vec<u8>> {
    let digest = &entry.digest;
    serde_json::to_vec(&Written {
        tier: entry.tier.as_ref().to_owned(),
        key: entry.key.to_string(),
        size: digest.size,
        sha256: digest.sha256_hex(),
        h1: digest.h1.as_deref().map(ToOwned::to_owned),
    })
}

/// What waits in the journal of a data folder, read beside its owner. Waits for the disk.
pub(crate) fn waiting(data: &Path) -> io::Result<HashSet<(String, Key)>> {
    let entries = match fs::read_dir(data.join("journal")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(error),
    };
    let mut waiting = HashSet::new();
    for entry in entries {
        let path = entry?.path();
        // One that cannot be read was written to its tier in the meantime, or is the owner's to tell of.
        if path.extension().is_some_and(|ending| ending == "json")
            && let Some(entry) = id_of(&path).and_then(|id| read(&path, id))
        {
            waiting.insert((entry.tier.as_ref().to_owned(), entry.key));
        }
    }
    Ok(waiting)
}

/// The number of an entry, by the name of one of its files.
pub(super) fn id_of(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    (stem.len() == 16)
        .then(|| u64::from_str_radix(stem, 16).ok())
        .flatten()
}

/// Reads an entry whose bytes are there; `None` if it is none.
pub(super) fn read(path: &Path, id: u64) -> Option<Entry> {
    if fs::metadata(path).ok()?.len() > MAX_JSON {
        return None;
    }
    let written: Written = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let data = fs::metadata(path.with_extension("data")).ok()?;
    if data.len() != written.size {
        return None;
    }
    Some(Entry {
        id,
        tier: written.tier.into(),
        key: Key::new(written.key).ok()?,
        digest: Digest {
            size: written.size,
            sha256: sha256_from_hex(&written.sha256)?,
            h1: written.h1.map(Into::into),
        },
    })
}
