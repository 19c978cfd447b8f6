//! Signed notes: a text, a blank line, and one line per signature.
//!
//! ```text
//! <text, each line ended by \n>
//!
//! — <name> <base64(4-byte key hash, big endian || signature)>
//! ```
//! The dash is U+2014. A signature covers the text with its last `\n` and without the blank line.

mod key;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

pub use key::{KeyError, SUM_GOLANG_ORG, SignerKey, VerifierKey};

/// Longest accepted note, in bytes. A database's notes have a few hundred.
pub const MAX_NOTE_BYTES: usize = 1_000_000;

/// Most signature lines a note may have, so that nobody spends long on one.
pub const MAX_SIGNATURES: usize = 100;

const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// Why a note was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoteError {
    /// More than [`MAX_NOTE_BYTES`].
    #[error("the note has {bytes} bytes, more than {MAX_NOTE_BYTES}")]
    TooLong {
        /// The note's size in bytes.
        bytes: usize,
    },
    /// Not a note at all.
    #[error("malformed note: {0}")]
    Malformed(&'static str),
    /// The wanted key's name and hash are on a signature that does not verify: the text was altered, or the
    /// signature was forged.
    #[error("invalid signature of {name}+{hash:08x}")]
    InvalidSignature {
        /// The key's name.
        name: String,
        /// The key's hash.
        hash: u32,
    },
    /// Somebody else may have signed, but not the wanted key.
    #[error("the note is not signed by {name}+{hash:08x}")]
    NotSigned {
        /// The wanted key's name.
        name: String,
        /// The wanted key's hash.
        hash: u32,
    },
}

/// One signature line of a note. Only that of the note's [`SignedNote::verified_by`] has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Who claims to have signed.
    pub name: String,
    /// The hash of the key that is claimed to have signed.
    pub hash: u32,
    /// The signature itself, without the hash. 64 bytes with Ed25519.
    pub bytes: Vec<u8>,
}

/// A note whose signature by one known key was verified. Only [`verify`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<Signature>,
    verified_by: VerifierKey,
}

impl SignedNote {
    /// The signed text, with its last `\n`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All signatures in order of appearance, those of unknown signers too.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The key whose signature was checked.
    pub fn verified_by(&self) -> &VerifierKey {
        &self.verified_by
    }
}

/// Parses a note and checks `key`'s signature on it. Well-formed signatures of other keys are ignored; of several by
/// `key` itself the first decides.
///
/// # Errors
/// [`NoteError`], for a note that is malformed, not signed by `key`, or signed wrongly.
pub fn verify(note: &[u8], key: &VerifierKey) -> Result<SignedNote, NoteError> {
    if note.len() > MAX_NOTE_BYTES {
        return Err(NoteError::TooLong { bytes: note.len() });
    }
    let note = std::str::from_utf8(note).map_err(|_| NoteError::Malformed("it is not UTF-8"))?;
    if has_control(note) {
        return Err(NoteError::Malformed("it has a control character"));
    }
    // The last blank line: the text may have blank lines of its own, signatures cannot.
    let split = note
        .rfind("\n\n")
        .ok_or(NoteError::Malformed("no blank line before the signatures"))?;
    let (text, lines) = (&note[..=split], &note[split + 2..]);
    let lines = lines
        .strip_suffix('\n')
        .ok_or(NoteError::Malformed("the last signature line is not ended"))?;

    let mut signatures = Vec::new();
    let mut verified = false;
    for line in lines.split('\n') {
        if signatures.len() == MAX_SIGNATURES {
            return Err(NoteError::Malformed("too many signatures"));
        }
        let signature = parse_signature(line)?;
        if !verified && signature.name == key.name() && signature.hash == key.hash() {
            let bytes: Result<&[u8; 64], _> = signature.bytes.as_slice().try_into();
            if !bytes.is_ok_and(|bytes| key.accepts(text.as_bytes(), bytes)) {
                return Err(NoteError::InvalidSignature {
                    name: signature.name,
                    hash: signature.hash,
                });
            }
            verified = true;
        }
        signatures.push(signature);
    }
    if !verified {
        return Err(NoteError::NotSigned {
            name: key.name().to_owned(),
            hash: key.hash(),
        });
    }
    Ok(SignedNote {
        text: text.to_owned(),
        signatures,
        verified_by: key.clone(),
    })
}

/// Signs a text and returns the whole note.
///
/// # Errors
/// [`NoteError`] if [`verify`] would not take the result: a text that does not end in `\n`, has control characters, or
/// is too long.
pub fn sign(text: &str, key: &SignerKey) -> Result<Vec<u8>, NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError::Malformed("the text does not end in a newline"));
    }
    if has_control(text) {
        return Err(NoteError::Malformed("it has a control character"));
    }
    let public = key.verifier_key();
    let mut signature = public.hash().to_be_bytes().to_vec();
    signature.extend_from_slice(&key.sign(text.as_bytes()));
    let note = format!(
        "{text}\n{SIGNATURE_PREFIX}{} {}\n",
        public.name(),
        STANDARD.encode(signature)
    );
    if note.len() > MAX_NOTE_BYTES {
        return Err(NoteError::TooLong { bytes: note.len() });
    }
    Ok(note.into_bytes())
}

/// Whether there is an ASCII control character other than the newline. DEL counts as text, as it does in Go.
fn has_control(text: &str) -> bool {
    text.bytes().any(|byte| byte < b' ' && byte != b'\n')
}

fn parse_signature(line: &str) -> Result<Signature, NoteError> {
    let malformed = || NoteError::Malformed("a line after the text is not a signature");
    let (name, base64) = line
        .strip_prefix(SIGNATURE_PREFIX)
        .and_then(|line| line.split_once(' '))
        .ok_or_else(malformed)?;
    let bytes = STANDARD.decode(base64).map_err(|_| malformed())?;
    let (hash, bytes) = bytes.split_first_chunk::<4>().ok_or_else(malformed)?;
    if !key::is_valid_name(name) || bytes.is_empty() {
        return Err(malformed());
    }
    Ok(Signature {
        name: name.to_owned(),
        hash: u32::from_be_bytes(*hash),
        bytes: bytes.to_vec(),
    })
}

#[cfg(test)]
mod tests;
