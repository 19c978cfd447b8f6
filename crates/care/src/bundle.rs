//! A bundle: versions and their proofs in one file, for networks without a line.
//!
//! A tar archive. Its files are named by their keys, `go/…`, in Go's own cache layout: unpacked, it can be used as
//! `GOPROXY=file://…/go`. First come the versions, then what the checksum database says (`go/sumdb/NAME/latest`,
//! `lookup/…`, `tile/…`), each in the order of the names, and at last [`MANIFEST`]: what is in it, with the SHA-256 of
//! each file. Nothing in it is trusted: what is public is proven by whoever imports it, against the key that is known
//! there.

mod tar;

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, BufWriter, Read, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use gomod::h1::H1;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use store::Key;
use tempfile::NamedTempFile;

use crate::{CareError, Part, names::parse as parse_key};

/// The last file of a bundle.
pub const MANIFEST: &str = "modgate-bundle.json";
/// Of the form that is described above.
const FORM: u32 = 1;
/// Longest manifest, in bytes, and most files: a few hundred bytes each.
const MAX_MANIFEST: u64 = 256 << 20;
const MOST_FILES: usize = 1_000_000;
/// Longest files of each kind, in bytes: as long as they may be anywhere.
const MAX_SMALL: u64 = 1 << 20;
const MAX_GO_MOD: u64 = 16 << 20;
const BLOCK_BYTES: usize = 256 << 10;
/// How the name of a bundle begins that is not whole.
const UNFINISHED: &str = ".modgate-bundle-";
/// Longer than anybody takes from the making of a file to its lock.
const UNLOCKED: Duration = Duration::from_mins(1);

/// What a bundle says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the form.
    pub form: u32,
    /// When it was made, RFC 3339.
    pub made_at: String,
    /// The checksum database whose proofs are in it.
    pub sumdb: Option<Database>,
    /// Every other file, in order.
    pub files: Vec<Listed>,
}

/// The proofs in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// The database's name.
    pub name: String,
    /// Records in the tree of the one head under which all is proven.
    pub tree_size: u64,
    /// Sizes of earlier trees: whoever has a head of one of them finds the tiles that prove that this head continues it.
    pub continues: Vec<u64>,
}

/// A file in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its key.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// For `.mod` and `.zip`: the hash that a checksum database has of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub h1: Option<String>,
    /// Whether the bundle has a proof of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proven: bool,
}

/// Makes a bundle. It has its name only when it is whole.
#[derive(Debug)]
pub struct Writer {
    out: BufWriter<NamedTempFile>,
    to: PathBuf,
    files: Vec<Listed>,
}

impl Writer {
    /// Begins a bundle that will be `to`.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn create(to: &Path) -> io::Result<Self> {
        let folder = folder_of(to);
        remove_left(folder);
        let temp = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(folder)?;
        // Where files cannot be locked, nobody can lock them, and what is left stays.
        let _ = flock(&temp, FlockOperation::NonBlockingLockExclusive);
        Ok(Self {
            out: BufWriter::with_capacity(BLOCK_BYTES, temp),
            to: to.to_owned(),
            files: Vec::new(),
        })
    }

    /// Adds a file, which must have `size` bytes.
    ///
    /// # Errors
    /// The disk, or a content of another length.
    pub fn add(
        &mut self,
        name: &Key,
        size: u64,
        content: &mut impl Read,
        h1: Option<String>,
        proven: bool,
    ) -> io::Result<()> {
        tar::head(&mut self.out, name.as_str(), size)?;
        let mut hashed = Hashing {
            reader: content.take(size + 1),
            sha256: Sha256::new(),
        };
        let copied = io::copy(&mut hashed, &mut self.out)?;
        if copied != size {
            return Err(io::Error::other(format!("{name} has not {size} bytes")));
        }
        tar::pad(&mut self.out, size)?;
        self.files.push(Listed {
            name: name.as_str().to_owned(),
            size,
            sha256: hex::encode(hashed.sha256.finalize()),
            h1,
            proven,
        });
        Ok(())
    }

    /// Ends the bundle: it is on the disk, under its name, when this returns.
    ///
    /// # Errors
    /// The disk.
    pub fn finish(mut self, made_at: String, sumdb: Option<Database>) -> io::Result<Manifest> {
        let manifest = Manifest {
            form: FORM,
            made_at,
            sumdb,
            files: self.files,
        };
        let json = serde_json::to_vec_pretty(&manifest)?;
        tar::head(&mut self.out, MANIFEST, json.len() as u64)?;
        self.out.write_all(&json)?;
        tar::pad(&mut self.out, json.len() as u64)?;
        tar::end(&mut self.out)?;
        let temp = self
            .out
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)?;
        temp.as_file().sync_all()?;
        temp.persist(&self.to).map_err(|error| error.error)?;
        File::open(folder_of(&self.to))?.sync_all()?;
        Ok(manifest)
    }
}

/// Removes the bundles that killed commands left unfinished: nobody holds their lock, and they are too old for one that is
/// not locked yet.
fn remove_left(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let named = name
            .to_str()
            .is_some_and(|name| name.starts_with(UNFINISHED));
        let data = entry.metadata().ok().filter(|data| named && data.is_file());
        let written = data.and_then(|data| data.modified().ok());
        let age = written.and_then(|at| at.elapsed().ok());
        if age.is_none_or(|age| age < UNLOCKED) {
            continue;
        }
        let path = entry.path();
        let free = |file: File| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !File::options().write(true).open(&path).is_ok_and(free) {
            continue;
        }
        match fs::remove_file(&path) {
            Ok(()) => tracing::info!(file = %path.display(), "removed what a killed command left"),
            Err(error) => tracing::warn!(%error, file = %path.display(), "cannot be removed"),
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent();
    let named = folder.filter(|folder| !folder.as_os_str().is_empty());
    named.unwrap_or(Path::new("."))
}

struct Hashing<R> {
    reader: R,
    sha256: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(block)?;
        self.sha256.update(&block[..read]);
        Ok(read)
    }
}

/// A bundle that somebody brought.
#[derive(Debug)]
pub struct Bundle {
    file: Arc<File>,
    manifest: Manifest,
    /// Where each file begins and how long it is, by name.
    places: HashMap<String, (u64, u64)>,
}

fn refused(why: impl std::fmt::Display) -> CareError {
    CareError::Bundle(why.to_string())
}

impl Bundle {
    /// Opens a bundle and checks its form: every file is listed and has a place here, and nothing else is in it. Its
    /// bytes are not looked at; see [`verify`](Self::verify).
    ///
    /// # Errors
    /// [`CareError::Bundle`] says what is wrong with it.
    pub fn open(path: &Path) -> Result<Self, CareError> {
        let file = File::open(path)?;
        let mut entries = tar::entries(&mut &file, MOST_FILES + 1).map_err(refused)?;
        let last = entries.pop().filter(|last| last.name == MANIFEST);
        let last = last.ok_or_else(|| {
            refused(format_args!(
                "not a bundle of modgate: it does not end in {MANIFEST}"
            ))
        })?;
        let manifest = read_manifest(&file, &last)?;
        let mut listed: BTreeMap<&str, u64> = BTreeMap::new();
        for file in &manifest.files {
            check_listed(file, manifest.sumdb.as_ref())?;
            if listed.insert(&file.name, file.size).is_some() {
                return Err(refused(format_args!("{}: listed twice", file.name)));
            }
        }
        let mut places = HashMap::with_capacity(entries.len());
        for entry in entries {
            match listed.remove(entry.name.as_str()) {
                Some(size) if size == entry.size => {
                    places.insert(entry.name, (entry.at, size));
                }
                Some(_) => {
                    let name = entry.name;
                    return Err(refused(format_args!(
                        "{name}: of another length than is listed"
                    )));
                }
                None => {
                    let name = entry.name;
                    return Err(refused(format_args!(
                        "{name:?}: not listed, or there twice"
                    )));
                }
            }
        }
        if let Some((missing, _)) = listed.first_key_value() {
            return Err(refused(format_args!("{missing}: listed, and not there")));
        }
        Ok(Self {
            file: Arc::new(file),
            manifest,
            places,
        })
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where the bytes of a listed file are: in this file, from here.
    pub fn place(&self, listed: &Listed) -> Option<(Arc<File>, u64)> {
        let (at, _) = self.places.get(&listed.name)?;
        Some((Arc::clone(&self.file), *at))
    }

    /// Compares every file with its SHA-256. `watch` is told of each. Waits for the disk.
    ///
    /// # Errors
    /// [`CareError::Bundle`] names the first that was altered.
    pub fn verify(&self, watch: &dyn Fn(&Listed)) -> Result<(), CareError> {
        let mut block = vec![0; BLOCK_BYTES];
        for listed in &self.manifest.files {
            watch(listed);
            let Some((mut at, size)) = self.places.get(&listed.name).copied() else {
                continue;
            };
            let (end, mut sha256) = (at + size, Sha256::new());
            while at < end {
                let want = usize::try_from(end - at).unwrap_or(BLOCK_BYTES);
                let want = want.min(BLOCK_BYTES);
                self.file.read_exact_at(&mut block[..want], at)?;
                sha256.update(&block[..want]);
                at += want as u64;
            }
            if hex::encode(sha256.finalize()) != listed.sha256 {
                return Err(refused(format_args!(
                    "{}: its bytes were altered",
                    listed.name
                )));
            }
        }
        Ok(())
    }

    /// A file of the checksum database that the proofs are of: `latest`, `lookup/…`, `tile/…`. Waits for the disk.
    ///
    /// # Errors
    /// The disk.
    pub fn database_file(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(database) = &self.manifest.sumdb else {
            return Ok(None);
        };
        let name = format!("go/sumdb/{}/{path}", database.name);
        let Some((at, size)) = self.places.get(&name) else {
            return Ok(None);
        };
        let mut bytes = vec![0; usize::try_from(*size).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, *at)?;
        Ok(Some(bytes))
    }
}

fn read_manifest(file: &File, entry: &tar::Entry) -> Result<Manifest, CareError> {
    #[derive(Deserialize)]
    struct Form {
        form: u32,
    }
    if entry.size > MAX_MANIFEST {
        return Err(refused(format_args!("its {MANIFEST} is too long")));
    }
    let mut json = vec![0; usize::try_from(entry.size).map_err(io::Error::other)?];
    file.read_exact_at(&mut json, entry.at)?;
    let unreadable = |error| refused(format_args!("its {MANIFEST} cannot be read: {error}"));
    // First what is so in every form.
    let Form { form } = serde_json::from_slice(&json).map_err(unreadable)?;
    if form != FORM {
        return Err(refused(format_args!(
            "it is of form {form}, and this modgate reads form {FORM}: it was made by another version"
        )));
    }
    serde_json::from_slice(&json).map_err(unreadable)
}

/// Whether a file has a place here, and is no longer than such a file may be.
fn check_listed(listed: &Listed, sumdb: Option<&Database>) -> Result<(), CareError> {
    let Listed { name, size, .. } = listed;
    let key = Key::new(name.clone()).map_err(|error| refused(format_args!("{name:?}: {error}")))?;
    let version = parse_key(key.as_str())
        .filter(|(_, module, version, _)| version.check_major(module).is_ok());
    let of_database = sumdb.and_then(|sumdb| {
        let rest = name.strip_prefix("go/sumdb/")?.strip_prefix(&sumdb.name)?;
        rest.strip_prefix('/')
    });
    let most = match (version, of_database) {
        (Some((.., Part::Info)), _) => MAX_SMALL,
        (Some((.., Part::Mod)), _) => MAX_GO_MOD,
        (Some((.., Part::Zip)), _) => gomod::zip::Limits::default().max_zip_bytes,
        (None, Some(path)) if path == "latest" || is_answer(path) => MAX_SMALL,
        (None, Some("supported")) => 0,
        _ => return Err(refused(format_args!("{name:?}: it has no place here"))),
    };
    let hashed = matches!(parse_key(name), Some((.., Part::Mod | Part::Zip)));
    let hash = listed.h1.as_deref().map(str::parse::<H1>);
    if hashed != matches!(hash, Some(Ok(_))) {
        return Err(refused(format_args!(
            "{name}: the `h1` that is listed of it"
        )));
    }
    if *size > most {
        return Err(refused(format_args!(
            "{name}: {size} bytes, and {most} at most may be"
        )));
    }
    Ok(())
}

fn is_answer(path: &str) -> bool {
    path.starts_with("lookup/") || path.starts_with("tile/")
}

#[cfg(test)]
mod tests;
