//! What an object's bytes must be: the fact that travels with them from tier to tier.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// Longest `h1:` text that is taken from a tier, in bytes.
const MAX_H1_BYTES: usize = 128;

/// Length and SHA-256 of an object, and the hash that its ecosystem has for it, if any.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest {
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of the bytes.
    pub sha256: [u8; 32],
    /// For a module's zip, its `h1:` hash. Opaque here.
    pub h1: Option<Box<str>>,
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The same with the ecosystem's hash.
    #[must_use]
    pub fn with_h1(mut self, h1: impl Into<Box<str>>) -> Self {
        self.h1 = Some(h1.into());
        self
    }

    /// Whether both name the same bytes. The ecosystem's hash follows from the bytes and may be missing.
    pub fn same_bytes(&self, other: &Self) -> bool {
        self.size == other.size && self.sha256 == other.sha256
    }

    /// A quoted strong validator in the form of an entity tag (RFC 9110 8.8.3): the same wherever the object lies.
    pub fn validator(&self) -> bytes::Bytes {
        let hash = hex::encode(&self.sha256[..12]);
        format!("\"{hash}-{:x}\"", self.size).into()
    }

    /// The SHA-256 in lower-case hexadecimal.
    pub fn sha256_hex(&self) -> String {
        hex::encode(self.sha256)
    }

    /// One line of text: size, SHA-256 in hexadecimal and the ecosystem's hash or nothing, with spaces between.
    pub fn to_text(&self) -> String {
        let h1 = self.h1.as_deref().unwrap_or_default();
        format!("{} {} {h1}", self.size, self.sha256_hex())
    }

    /// Reads what [`to_text`](Self::to_text) wrote, and nothing else.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let size = parts.next()?.parse().ok()?;
        let sha256 = sha256_from_hex(parts.next()?)?;
        let h1 = match parts.next()? {
            "" => None,
            h1 => Some(checked_h1(h1)?),
        };
        Some(Self { size, sha256, h1 })
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.to_text())
    }
}

/// A SHA-256 in hexadecimal.
pub(crate) fn sha256_from_hex(text: &str) -> Option<[u8; 32]> {
    let mut sha256 = [0; 32];
    hex::decode_to_slice(text, &mut sha256).ok()?;
    Some(sha256)
}

/// An ecosystem's hash as a tier gave it: short, printable, without spaces.
pub(crate) fn checked_h1(text: &str) -> Option<Box<str>> {
    let good = !text.is_empty()
        && text.len() <= MAX_H1_BYTES
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| text.into())
}

/// Makes a [`Digest`] of bytes as they come.
#[derive(Clone, Default)]
pub struct Hasher {
    size: u64,
    sha256: Sha256,
}

impl Hasher {
    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.sha256.update(bytes);
    }

    /// The digest of all that came, without an ecosystem's hash.
    pub fn finish(self) -> Digest {
        Digest {
            size: self.size,
            sha256: self.sha256.finalize().into(),
            h1: None,
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_reads_back_and_nothing_else_does() {
        let plain = Digest::of(b"hello");
        assert_eq!(plain.size, 5);
        assert!(plain.sha256_hex().starts_with("2cf24dba5fb0a30e"));
        let zip = plain.clone().with_h1("h1:abc=");
        for digest in [&plain, &zip] {
            assert_eq!(Digest::from_text(&digest.to_text()).as_ref(), Some(digest));
        }
        assert!(plain.same_bytes(&zip));
        assert_ne!(plain, zip);
        for bad in [
            "",
            "5",
            "5 2c",
            "x 00 ",
            "5 00 h1:a b",
            &zip.to_text().replace("h1:", "h\n"),
        ] {
            assert_eq!(Digest::from_text(bad), None, "{bad:?}");
        }
    }
}
