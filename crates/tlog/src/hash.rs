//! The hashes of the tree: SHA-256 with a prefix byte that tells leaves from inner nodes (RFC 6962, section 2.1).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Bytes of a [`struct@Hash`].
pub const HASH_BYTES: usize = 32;

/// A SHA-256 hash of a leaf, of an inner node or of a whole tree. Written as standard base64 with padding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; HASH_BYTES]);

/// A text that is not the canonical base64 of 32 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a hash: expected 32 bytes in standard base64")]
pub struct HashError;

impl Hash {
    /// The root of the empty tree: the SHA-256 of nothing.
    pub fn empty() -> Hash {
        Hash(Sha256::digest([]).into())
    }

    /// The hash of a leaf: `SHA-256(0x00 || record)`.
    pub fn leaf(record: &[u8]) -> Hash {
        Hash(
            Sha256::new_with_prefix([0])
                .chain_update(record)
                .finalize()
                .into(),
        )
    }

    /// The hash of an inner node: `SHA-256(0x01 || left || right)`.
    pub fn node(left: &Hash, right: &Hash) -> Hash {
        // One buffer and one call: this is the inner loop of every proof.
        let mut buffer = [0; 1 + 2 * HASH_BYTES];
        buffer[0] = 1;
        buffer[1..=HASH_BYTES].copy_from_slice(&left.0);
        buffer[1 + HASH_BYTES..].copy_from_slice(&right.0);
        Hash(Sha256::digest(buffer).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Hash, HashError> {
        // 32 bytes are 44 characters: anything longer is refused before it is decoded.
        if text.len() != 44 {
            return Err(HashError);
        }
        let bytes = STANDARD.decode(text).map_err(|_| HashError)?;
        Ok(Hash(bytes.try_into().map_err(|_| HashError)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_rfc_6962() {
        // The roots of the empty tree and of one empty leaf, as in RFC 6962's reference implementation.
        assert_eq!(
            hex::encode(Hash::empty().0),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            hex::encode(Hash::leaf(b"").0),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        // Its tree of the two leaves "" and 0x00.
        let root = Hash::node(&Hash::leaf(b""), &Hash::leaf(&[0]));
        assert_eq!(
            hex::encode(root.0),
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
        );
    }

    #[test]
    fn text_round_trip_and_refusals() {
        let text = Hash::empty().to_string();
        assert_eq!(text.parse(), Ok(Hash::empty()));
        for bad in [
            "",
            "abc",
            &text[..43],
            &format!("{text}="),
            &text.replace('=', "A"),
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=",
        ] {
            assert_eq!(bad.parse::<Hash>(), Err(HashError), "{bad}");
        }
    }
}
