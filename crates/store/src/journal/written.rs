//! The entries of the journal as they stand on the disk.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Entry;
use crate::{Content, Digest, Key, digest::sha256_from_hex, window::Windows};

/// Longest `.json` that is read, in bytes.
const MAX_JSON: u64 = 16 << 10;

/// The bytes of a new entry.
#[derive(Debug)]
pub(crate) enum Incoming {
    Bytes(Bytes),
    /// A finished download, and where its file is.
    File(Arc<Windows>, PathBuf),
}

impl Incoming {
    pub(crate) fn of(content: &Content) -> io::Result<Self> {
        match content {
            Content::Bytes(bytes) => Ok(Self::Bytes(bytes.clone())),
            Content::Spooled(spooled) => {
                let temp = spooled.temp.0.clone().ok_or(io::ErrorKind::NotFound)?;
                Ok(Self::File(spooled.windows(), temp))
            }
        }
    }

    /// A kept file, which nobody writes.
    pub(crate) fn kept(path: PathBuf) -> io::Result<Self> {
        Ok(Self::File(Arc::new(Windows::new(File::open(&path)?)), path))
    }
}

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
            && let Some(Read::Good(entry)) = id_of(&path).map(|id| read(&path, id))
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

/// What became of an entry.
pub(super) enum Read {
    /// It is there, and its bytes are as many as they should be.
    Good(Entry),
    /// Its bytes are not there, or not as many.
    NoBytes(Entry),
    /// Nobody can tell what it was.
    Unreadable,
}

/// Reads an entry.
pub(super) fn read(path: &Path, id: u64) -> Read {
    let Some(entry) = entry(path, id) else {
        return Read::Unreadable;
    };
    let data = fs::metadata(path.with_extension("data"));
    if data.is_ok_and(|data| data.len() == entry.digest.size) {
        Read::Good(entry)
    } else {
        Read::NoBytes(entry)
    }
}

fn entry(path: &Path, id: u64) -> Option<Entry> {
    if fs::metadata(path).ok()?.len() > MAX_JSON {
        return None;
    }
    let written: Written = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
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

/// Moves both files of an entry to quarantine.
pub(super) fn aside(json: &Path, data: &Path) -> io::Result<()> {
    let aside = data.join("quarantine").join("journal");
    fs::create_dir_all(&aside)?;
    for path in [json.to_owned(), json.with_extension("data")] {
        if let Some(name) = path.file_name() {
            match fs::rename(&path, aside.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}
