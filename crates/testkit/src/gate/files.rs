//! The files that a gateway is started with, and that change while it runs.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::tls::Pem;

/// The files of a gateway that speaks TLS.
pub(super) struct TlsFiles {
    pub(super) ca: PathBuf,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl TlsFiles {
    pub(super) fn of(folder: &TempDir) -> TlsFiles {
        let file = |name: &str| folder.path().join("tls").join(name);
        TlsFiles {
            ca: file("ca.pem"),
            cert: file("server.pem"),
            key: file("server.key"),
        }
    }

    /// The key first: whoever reads them again when the certificate changes finds a pair.
    pub(super) fn write(&self, pem: &Pem) {
        let folder = self.ca.parent().expect("it has a folder");
        std::fs::create_dir_all(folder).expect("a folder can be made");
        replace(&self.key, &pem.key);
        replace(&self.cert, &pem.cert);
        replace(&self.ca, &pem.ca);
    }
}

/// Writes a file under another name and renames it.
pub(super) fn replace(file: &Path, content: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, content).expect("a file can be written");
    std::fs::rename(&new, file).expect("a file can be renamed");
}
