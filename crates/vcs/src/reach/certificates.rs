//! The file of certificates that child processes trust.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

/// How long a file is left for those who may still read it.
const LIFE: Duration = Duration::from_hours(24);

/// How the names of these files begin.
const NAME: &str = "certificates-";

/// Where systems keep the certificates that they trust, in one file.
const SYSTEM: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The file, and how it was when it was written.
#[derive(Debug, Clone)]
pub(super) struct Certificates {
    pub(super) path: PathBuf,
    state: (u64, SystemTime),
}

impl Certificates {
    /// Writes the configured certificates, after the system's unless they are to count alone.
    pub(super) fn write(folder: &Path, pem: &[u8], only: bool) -> io::Result<Self> {
        std::fs::create_dir_all(folder.join("no-certificates"))?;
        let mut all = Vec::new();
        if !only {
            let own = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
            let mut files = own.into_iter().chain(SYSTEM.map(PathBuf::from));
            let system = files.find_map(|file| std::fs::read(file).ok());
            all = system.unwrap_or_default();
            all.push(b'\n');
        }
        all.extend_from_slice(pem);
        // Named by what is in it: a program that began before the configuration changed reads on what it was told.
        let name = format!("{NAME}{}", hex::encode(&Sha256::digest(&all)[..8]));
        let path = folder.join(format!("{name}.pem"));
        let fresh = folder.join(format!("{name}.new"));
        std::fs::write(&fresh, all)?;
        std::fs::rename(&fresh, &path)?;
        forget(folder)?;
        let state = state(&path)?;
        Ok(Self { path, state })
    }

    /// Whether the file still is what it was.
    pub(super) fn is_unchanged(&self) -> bool {
        state(&self.path).is_ok_and(|state| state == self.state)
    }
}

/// Removes files that nobody can be reading any more. One that is still in use is written again.
fn forget(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)?.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(NAME);
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if ours && age().is_some_and(|age| age > LIFE) {
            // Somebody else may be removing it.
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// A file's length in bytes and the time of its last change.
fn state(path: &Path) -> io::Result<(u64, SystemTime)> {
    let data = std::fs::metadata(path)?;
    Ok((data.len(), data.modified()?))
}
