//! `h1:` hashes of modules (protocol.md section 5).

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

/// A hash of a module's files or of its `go.mod`. Text: `h1:` and 44 characters of standard base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct H1(pub [u8; 32]);

/// A text that is no [`H1`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a hash of the form h1:<base64 of 32 bytes>")]
pub struct H1Error;

/// A file name with a newline, which no hash can cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a file name with a newline")]
pub struct NewlineError;

impl fmt::Display for H1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h1:{}", STANDARD.encode(self.0))
    }
}

impl FromStr for H1 {
    type Err = H1Error;

    fn from_str(text: &str) -> Result<Self, H1Error> {
        let bytes = STANDARD
            .decode(text.strip_prefix("h1:").ok_or(H1Error)?)
            .map_err(|_| H1Error)?;
        bytes.try_into().map(Self).map_err(|_| H1Error)
    }
}

/// The hash of a `go.mod`: of one file of that name.
pub fn hash_go_mod(file: &[u8]) -> H1 {
    let mut lines = Lines::default();
    lines.push("go.mod", Sha256::digest(file).into());
    // The name has no newline.
    lines.finish().unwrap_or(H1([0; 32]))
}

/// Gathers names and SHA-256 of files, in any order.
#[derive(Debug, Default)]
pub struct Lines(Vec<(Box<str>, [u8; 32])>);

impl Lines {
    /// Adds one file.
    pub fn push(&mut self, name: &str, sha256: [u8; 32]) {
        self.0.push((name.into(), sha256));
    }

    /// The hash over all lines, sorted by name.
    pub fn finish(mut self) -> Result<H1, NewlineError> {
        self.0.sort_unstable();
        let mut hasher = Sha256::new();
        for (name, sha256) in &self.0 {
            if name.contains('\n') {
                return Err(NewlineError);
            }
            let mut digits = [0; 64];
            for (pair, byte) in digits.chunks_exact_mut(2).zip(sha256) {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                pair[0] = HEX[usize::from(byte >> 4)];
                pair[1] = HEX[usize::from(byte & 15)];
            }
            hasher.update(digits);
            hasher.update(b"  ");
            hasher.update(name.as_bytes());
            hasher.update(b"\n");
        }
        Ok(H1(hasher.finalize().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hash() {
        // github.com/pkg/errors v0.9.1, from the checksum database.
        let hash = hash_go_mod(b"module github.com/pkg/errors\n").to_string();
        assert_eq!(hash, "h1:bwawxfHBFNV+L2hUp1rHADufV3IMtnDRdf1r5NINEl0=");
        assert_eq!(hash.parse::<H1>().unwrap().to_string(), hash);
        for bad in [
            "",
            "h1:",
            "h2:bwawxfHBFNV+L2hUp1rHADufV3IMtnDRdf1r5NINEl0=",
            "h1:bwaw",
            "h1:bwawxfHBFNV+L2hUp1rHADufV3IMtnDRdf1r5NINEl0",
        ] {
            assert!(bad.parse::<H1>().is_err(), "{bad}");
        }
        let mut lines = Lines::default();
        lines.push("a\nb", [0; 32]);
        assert!(lines.finish().is_err());
    }
}
