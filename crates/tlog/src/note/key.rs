//! The keys that sign and verify notes, and their text forms.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The verifier key of the public Go checksum database.
pub const SUM_GOLANG_ORG: &str =
    "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";

/// The only algorithm there is: Ed25519 over the note's text.
const ALGORITHM_ED25519: u8 = 1;

/// Longest accepted text of a key, in bytes. A key with a name of 253 bytes, the longest host name, has under 400.
const MAX_KEY_BYTES: usize = 1024;

/// Why a text is not a key. No variant carries the text, which may be secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not of the form `name+hash+base64`, or `PRIVATE+KEY+name+hash+base64` for a signer.
    #[error("malformed key: expected name+hash+base64")]
    Malformed,
    /// The name is empty, or has a space or a plus sign.
    #[error("malformed key: its name is empty or has a space or a plus sign")]
    Name,
    /// The key is of an algorithm other than Ed25519.
    #[error("unknown key algorithm {0}: only Ed25519 (1) is known")]
    Algorithm(u8),
    /// The hash in the text is not that of the name and the key: one of the three was mistyped.
    #[error("the key's hash does not fit its name and bytes: part of the key was mistyped")]
    Hash,
    /// The bytes are no usable Ed25519 key: not a point of the curve, or one for which signatures are forgeable.
    #[error("not a usable Ed25519 public key")]
    Unusable,
}

/// The public key of a database: `name+hhhhhhhh+base64(0x01 || 32-byte Ed25519 key)`, where the eight hexadecimal
/// digits are the first four bytes of SHA-256 over name, `\n`, and the decoded bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    hash: u32,
    key: VerifyingKey,
}

impl VerifierKey {
    /// The database's name as it stands in its notes and in `/sumdb/<name>/`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The short hash that marks this key's signatures in a note.
    pub fn hash(&self) -> u32 {
        self.hash
    }

    /// Whether `signature` is this key's over `text`. Strict: no malleable signature and no weak key passes.
    pub(super) fn accepts(&self, text: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.key.verify_strict(text, &signature).is_ok()
    }

    fn new(name: &str, key: VerifyingKey) -> Result<VerifierKey, KeyError> {
        if !is_valid_name(name) {
            return Err(KeyError::Name);
        }
        if key.is_weak() {
            return Err(KeyError::Unusable);
        }
        Ok(VerifierKey {
            name: name.to_owned(),
            hash: key_hash(name, &tagged(key.as_bytes())),
            key,
        })
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<VerifierKey, KeyError> {
        let (name, hash, bytes) = split_key(text)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Unusable)?;
        let key = VerifierKey::new(name, key)?;
        if key.hash == hash {
            Ok(key)
        } else {
            Err(KeyError::Hash)
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}+{:08x}+{}",
            self.name,
            self.hash,
            STANDARD.encode(tagged(self.key.as_bytes()))
        )
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

/// The private key of a database: `PRIVATE+KEY+name+hash+base64(0x01 || 32-byte seed)`. It has no `Display`, and its
/// `Debug` shows the public half only.
#[derive(Clone)]
pub struct SignerKey {
    key: SigningKey,
    public: VerifierKey,
}

impl SignerKey {
    /// The key of the database `name` made from 32 bytes, which must be random and secret.
    ///
    /// # Errors
    /// [`KeyError::Name`] if the name is empty or has a space or a plus sign.
    pub fn from_seed(name: &str, seed: [u8; 32]) -> Result<SignerKey, KeyError> {
        let key = SigningKey::from_bytes(&seed);
        let public = VerifierKey::new(name, key.verifying_key())?;
        Ok(SignerKey { key, public })
    }

    /// The public half, for those who verify.
    pub fn verifier_key(&self) -> VerifierKey {
        self.public.clone()
    }

    /// The secret text form, to be kept where secrets are.
    pub fn to_secret_text(&self) -> String {
        let seed = STANDARD.encode(tagged(self.key.as_bytes()));
        format!(
            "PRIVATE+KEY+{}+{:08x}+{seed}",
            self.public.name, self.public.hash
        )
    }

    pub(super) fn sign(&self, text: &[u8]) -> [u8; 64] {
        use ed25519_dalek::Signer as _;
        self.key.sign(text).to_bytes()
    }
}

impl FromStr for SignerKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<SignerKey, KeyError> {
        let (name, hash, seed) = split_key(
            text.strip_prefix("PRIVATE+KEY+")
                .ok_or(KeyError::Malformed)?,
        )?;
        let key = SignerKey::from_seed(name, seed)?;
        if key.public.hash == hash {
            Ok(key)
        } else {
            Err(KeyError::Hash)
        }
    }
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignerKey(secret of {})", self.public)
    }
}

/// Whether a note may be signed under this name: not empty, no Unicode white space, no plus sign.
pub(super) fn is_valid_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+')
}

/// Splits `name+hash+base64` and checks all but whether the hash is the right one. The base64 part may itself hold
/// plus signs; the other two cannot.
fn split_key(text: &str) -> Result<(&str, u32, [u8; 32]), KeyError> {
    if text.len() > MAX_KEY_BYTES {
        return Err(KeyError::Malformed);
    }
    let (name, rest) = text.split_once('+').ok_or(KeyError::Malformed)?;
    let (hash, key) = rest.split_once('+').ok_or(KeyError::Malformed)?;
    let mut hash_bytes = [0; 4];
    hex::decode_to_slice(hash, &mut hash_bytes).map_err(|_| KeyError::Malformed)?;
    let key = STANDARD.decode(key).map_err(|_| KeyError::Malformed)?;
    let (&algorithm, key) = key.split_first().ok_or(KeyError::Malformed)?;
    if algorithm != ALGORITHM_ED25519 {
        return Err(KeyError::Algorithm(algorithm));
    }
    Ok((
        name,
        u32::from_be_bytes(hash_bytes),
        key.try_into().map_err(|_| KeyError::Malformed)?,
    ))
}

/// The key's bytes behind the byte of its algorithm.
fn tagged(key: &[u8; 32]) -> [u8; 33] {
    let mut bytes = [ALGORITHM_ED25519; 33];
    bytes[1..].copy_from_slice(key);
    bytes
}

fn key_hash(name: &str, tagged_key: &[u8; 33]) -> u32 {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(name)
        .chain_update("\n")
        .chain_update(tagged_key)
        .finalize()
        .into();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_databases_key() {
        let key: VerifierKey = SUM_GOLANG_ORG.parse().unwrap();
        assert_eq!((key.name(), key.hash()), ("sum.golang.org", 0x033d_e0ae));
        assert_eq!(key.to_string(), SUM_GOLANG_ORG);
    }

    #[test]
    fn gos_published_signer_key() {
        // The key pair of the documentation of golang.org/x/mod/sumdb/note.
        let signer: SignerKey =
            "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
                .parse()
                .unwrap();
        let public = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        assert_eq!(signer.verifier_key().to_string(), public);
        assert_eq!(
            signer
                .to_secret_text()
                .parse::<SignerKey>()
                .unwrap()
                .verifier_key(),
            signer.verifier_key()
        );
        assert_eq!(
            format!("{signer:?}"),
            format!("SignerKey(secret of {public})")
        );
    }

    #[test]
    fn refused_keys() {
        let weak = {
            let bytes = tagged(&{
                let mut identity = [0; 32];
                identity[0] = 1;
                identity
            });
            format!(
                "weak+{:08x}+{}",
                key_hash("weak", &bytes),
                STANDARD.encode(bytes)
            )
        };
        let cases = [
            ("", KeyError::Malformed),
            ("sum.golang.org", KeyError::Malformed),
            ("sum.golang.org+033de0ae", KeyError::Malformed),
            (
                "sum.golang.org+033de0a+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
                KeyError::Malformed,
            ),
            (
                "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn",
                KeyError::Malformed,
            ),
            ("sum.golang.org+033de0ae+", KeyError::Malformed),
            (
                "sum.golang.org+033de0af+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
                KeyError::Hash,
            ),
            (
                "sum.golang.com+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
                KeyError::Hash,
            ),
            (
                "sum.golang.org+033de0ae+As4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
                KeyError::Algorithm(2),
            ),
            (
                "+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
                KeyError::Name,
            ),
            (
                "a b+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
                KeyError::Name,
            ),
            (&weak, KeyError::Unusable),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<VerifierKey>(), Err(error), "{text}");
        }
        assert_eq!(
            SUM_GOLANG_ORG.parse::<SignerKey>().unwrap_err(),
            KeyError::Malformed
        );
        assert_eq!(
            SignerKey::from_seed("a+b", [0; 32]).unwrap_err(),
            KeyError::Name
        );
        assert_eq!(
            "x".repeat(2000).parse::<VerifierKey>(),
            Err(KeyError::Malformed)
        );
    }
}
