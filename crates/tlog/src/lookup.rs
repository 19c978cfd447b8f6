//! The answer to a lookup: a record of the log, its id, and a signed head.
//!
//! ```text
//! <id, decimal>
//! <path> <version> h1:<base64>
//! <path> <version>/go.mod h1:<base64>
//!
//! <signed head>
//! ```
//! Parsing one proves nothing. The head's signature has to be verified, the record to be proven part of the tree, and
//! the lines to be those of the module that was asked for.

use thiserror::Error;

use crate::hash::Hash;
use crate::head::{self, SignedHead};

/// Longest accepted answer, in bytes. Those of the public database have under 1 KiB.
pub const MAX_LOOKUP_BYTES: usize = 1 << 20;

const HASH_PREFIX: &str = "h1:";

/// Why something is not the answer to a lookup.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LookupError {
    /// Not of the form that the module documentation shows.
    #[error("malformed lookup: {0}")]
    Malformed(&'static str),
    /// A record and a head that cannot belong together.
    #[error("record {id} is not in a tree of {size} records")]
    RecordOutsideTree {
        /// The record's id.
        id: u64,
        /// The tree's size.
        size: u64,
    },
}

/// Why a record does not give the hashes of a module version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// No line for what was asked: the record may be another module's.
    #[error("the record has no line for {what}")]
    Missing {
        /// `path version` or `path version/go.mod`.
        what: String,
    },
    /// More than one `h1:` line for what was asked, equal ones too.
    #[error("the record has more than one line for {what}")]
    Repeated {
        /// `path version` or `path version/go.mod`.
        what: String,
    },
    /// The line's hash is not `h1:` and the base64 of 32 bytes.
    #[error("the record's hash for {what} is malformed")]
    Malformed {
        /// `path version` or `path version/go.mod`.
        what: String,
    },
}

/// The text of a record: one or more lines, each ended by `\n`, none blank, no control characters. Its hash is the leaf in
/// the log's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    text: String,
}

/// The two hashes a record has for a module version, each written `h1:` and base64, as in go.sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    /// The hash of the module's zip.
    pub zip: String,
    /// The hash of its go.mod.
    pub go_mod: String,
}

impl Record {
    /// Checks a record's text.
    ///
    /// # Errors
    /// [`LookupError::Malformed`].
    pub fn new(text: String) -> Result<Record, LookupError> {
        if !text.ends_with('\n') {
            return Err(LookupError::Malformed(
                "the record's last line is not ended",
            ));
        }
        if text.starts_with('\n') || text.contains("\n\n") {
            return Err(LookupError::Malformed("the record has a blank line"));
        }
        if text.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(LookupError::Malformed("the record has a control character"));
        }
        if text.len() > MAX_LOOKUP_BYTES {
            return Err(LookupError::Malformed("the record is too long"));
        }
        Ok(Record { text })
    }

    /// The whole text, whose hash is the leaf.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The hashes for exactly this module path and this version, both unescaped.
    ///
    /// Lines about anything else, and hashes other than `h1:` (should the database ever add some), are passed over: they can
    /// make no hash pass. But there must be exactly one `h1:` line for the zip and one for the go.mod; two would leave
    /// it to the reader which of them counts, so they are refused even when equal.
    ///
    /// # Errors
    /// [`RecordError`], also for a record of another module: it has no line for this one.
    pub fn hashes(&self, path: &str, version: &str) -> Result<Hashes, RecordError> {
        Ok(Hashes {
            zip: self.hash_of(&format!("{path} {version}"))?,
            go_mod: self.hash_of(&format!("{path} {version}/go.mod"))?,
        })
    }

    fn hash_of(&self, what: &str) -> Result<String, RecordError> {
        let mut found = None;
        for line in self.text.lines() {
            let Some(hash) = line
                .strip_prefix(what)
                .and_then(|rest| rest.strip_prefix(' '))
            else {
                continue;
            };
            let Some(base64) = hash.strip_prefix(HASH_PREFIX) else {
                continue;
            };
            if base64.parse::<Hash>().is_err() {
                return Err(RecordError::Malformed {
                    what: what.to_owned(),
                });
            }
            if found.replace(hash).is_some() {
                return Err(RecordError::Repeated {
                    what: what.to_owned(),
                });
            }
        }
        found
            .map(str::to_owned)
            .ok_or_else(|| RecordError::Missing {
                what: what.to_owned(),
            })
    }
}

/// The parsed answer to a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    id: u64,
    record: Record,
    head_note: Vec<u8>,
}

impl Lookup {
    /// Parses an answer. The note in it is not looked at beyond being there.
    ///
    /// # Errors
    /// [`LookupError::Malformed`].
    pub fn parse(body: &[u8]) -> Result<Lookup, LookupError> {
        if body.len() > MAX_LOOKUP_BYTES {
            return Err(LookupError::Malformed("it is too long"));
        }
        let body =
            std::str::from_utf8(body).map_err(|_| LookupError::Malformed("it is not UTF-8"))?;
        let (id, rest) = body
            .split_once('\n')
            .ok_or(LookupError::Malformed("it has one line only"))?;
        let id = head::parse_count(id).ok_or(LookupError::Malformed(
            "the first line is not a record's id",
        ))?;
        let end = rest
            .find("\n\n")
            .ok_or(LookupError::Malformed("no blank line behind the record"))?;
        let (record, note) = (&rest[..=end], &rest[end + 2..]);
        if note.is_empty() {
            return Err(LookupError::Malformed("no signed head behind the record"));
        }
        Ok(Lookup {
            id,
            record: Record::new(record.to_owned())?,
            head_note: note.as_bytes().to_vec(),
        })
    }

    /// The record's place in the log, from 0. Only a proof shows whether it is true.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The note behind the record, not verified: see [`SignedHead::verify`].
    pub fn head_note(&self) -> &[u8] {
        &self.head_note
    }

    /// The answer to serve for this record with another head: one who keeps many lookups serves them all with its
    /// newest head, for which it has all the tiles.
    ///
    /// # Errors
    /// [`LookupError::RecordOutsideTree`] if the head is older than the record.
    pub fn with_head(&self, head: &SignedHead) -> Result<Vec<u8>, LookupError> {
        let size = head.head().size;
        if self.id >= size {
            return Err(LookupError::RecordOutsideTree { id: self.id, size });
        }
        Ok(format(self.id, &self.record, head.note()))
    }
}

/// The body of an answer to a lookup.
pub(crate) fn format(id: u64, record: &Record, head_note: &[u8]) -> Vec<u8> {
    let mut body = format!("{id}\n{}\n", record.text).into_bytes();
    body.extend_from_slice(head_note);
    body
}

#[cfg(test)]
mod tests;
