//! What the programs of Subversion, Fossil and Bazaar have in common.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use crate::process::Exit;
use crate::reach::Way;
use crate::repository::Trouble;
use crate::{DirectError, ErrorKind};

/// Words of programs in trouble, and what they mean. The first that are found count; none: the network or the server.
const MEANINGS: &[(&str, ErrorKind)] = &[
    ("authorization failed", ErrorKind::Unauthorized),
    ("authentication failed", ErrorKind::Unauthorized),
    ("no more credentials", ErrorKind::Unauthorized),
    ("http error 401", ErrorKind::Unauthorized),
    ("http error 403", ErrorKind::Unauthorized),
    ("e170001", ErrorKind::Unauthorized),
    ("e175013", ErrorKind::Unauthorized),
    ("permission denied", ErrorKind::Unauthorized),
    ("host key verification", ErrorKind::Unauthorized),
    ("certificate", ErrorKind::Unavailable),
    ("http error 404", ErrorKind::NotFound),
    ("http error 410", ErrorKind::NotFound),
    ("not found", ErrorKind::NotFound),
    (
        "does not appear to be an hg repository",
        ErrorKind::NotFound,
    ),
    // Of Subversion: no such path, no such revision, no repository there.
    ("e160013", ErrorKind::NotFound),
    ("e160006", ErrorKind::NotFound),
    ("e210005", ErrorKind::NotFound),
    ("e170000", ErrorKind::NotFound),
    ("not a branch", ErrorKind::NotFound),
    ("no space left", ErrorKind::Disk),
    ("timed out", ErrorKind::Timeout),
];

/// What a failure that may be the network's means. The exit code is the same for all, so the words are read.
pub(crate) fn failed(what: &str, way: &Way, exit: &Exit) -> DirectError {
    let lower = exit.stderr.to_lowercase();
    let meaning = MEANINGS.iter().find(|(words, _)| lower.contains(words));
    let kind = meaning.map_or(ErrorKind::Unavailable, |(_, kind)| *kind);
    let said: Vec<&str> = exit
        .stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let error = DirectError::new(kind, format!("{what}: {}", said.join("; ")));
    if kind != ErrorKind::Unauthorized {
        return error;
    }
    let used = way.credential.as_deref().unwrap_or("no credential");
    error.hint(format!(
        "{used} was used: check that it is right and may read the repository, or add a [[credential]]"
    ))
}

/// A folder of our own that goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in `folder`, for nobody else to read.
    pub(crate) fn new(folder: &Path) -> Result<Self, DirectError> {
        let mut random = [0; 8];
        let mut make = || -> io::Result<PathBuf> {
            getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
            let path = folder.join(format!("scratch-{}", hex::encode(random)));
            fs::create_dir_all(folder)?;
            fs::DirBuilder::new().mode(0o700).create(&path)?;
            Ok(path)
        };
        make()
            .map(Self)
            .map_err(|error| DirectError::disk("a temporary folder", &error))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that may hold secrets.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), DirectError> {
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600);
        file.open(self.0.join(name))
            .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
            .map_err(|error| DirectError::disk("a temporary file", &error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Exported files that are read one after the other.
#[derive(Debug)]
pub(crate) struct Exported {
    folder: PathBuf,
    file: Option<File>,
    _scratch: Scratch,
}

impl Exported {
    /// The files in `folder`, which is in `scratch`.
    pub(crate) fn new(folder: PathBuf, scratch: Scratch) -> Self {
        Self {
            folder,
            file: None,
            _scratch: scratch,
        }
    }

    /// Goes to a file; its size.
    pub(crate) async fn next(&mut self, name: &[u8]) -> Result<u64, Trouble> {
        let fault = |error: io::Error| DirectError::disk("an exported file", &error);
        let name = String::from_utf8_lossy(name).into_owned();
        let file = File::open(self.folder.join(name)).await.map_err(fault)?;
        let size = file.metadata().await.map_err(fault)?.len();
        self.file = Some(file);
        Ok(size)
    }

    /// More of its content; nothing at the end.
    pub(crate) async fn block(&mut self, block: &mut [u8]) -> Result<usize, Trouble> {
        let Some(file) = &mut self.file else {
            return Ok(0);
        };
        let read = file.read(block).await;
        Ok(read.map_err(|error| DirectError::disk("an exported file", &error))?)
    }
}
