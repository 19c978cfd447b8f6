//! Tree heads: how many records the log has and the root hash over them.
//!
//! ```text
//! go.sum database tree
//! <size, decimal>
//! <base64 of the root>
//! ```
//! Later lines may be added by the database and are ignored.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::hash::Hash;
use crate::note::{self, NoteError, SignedNote, VerifierKey};

const FIRST_LINE: &str = "go.sum database tree";

/// Most records a tree may have: Go counts them in an `int64`.
pub const MAX_TREE_SIZE: u64 = i64::MAX as u64;

/// Why something is not the head of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeadError {
    /// The note around it was not accepted.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text is not that of a tree head.
    #[error("malformed tree head: {0}")]
    Malformed(&'static str),
}

/// The state of a log: its size in records and the root over them. A `TreeHead` by itself proves nothing; see
/// [`SignedHead`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TreeHead {
    /// How many records the log has; ids go from 0 to `size - 1`.
    pub size: u64,
    /// The root hash of the tree over those records.
    pub root: Hash,
}

impl TreeHead {
    /// The head of the empty log, of which every log is a continuation.
    pub fn empty() -> TreeHead {
        TreeHead {
            size: 0,
            root: Hash::empty(),
        }
    }
}

/// The text that is signed.
impl fmt::Display for TreeHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FIRST_LINE}\n{}\n{}\n", self.size, self.root)
    }
}

/// Reads the text of a note. The size must be in its canonical form; lines after the third are ignored.
impl FromStr for TreeHead {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<TreeHead, HeadError> {
        let mut lines = text
            .split_inclusive('\n')
            .map(|line| line.strip_suffix('\n'));
        let mut line = || lines.next().flatten();
        if line() != Some(FIRST_LINE) {
            return Err(HeadError::Malformed(
                "it does not start with `go.sum database tree`",
            ));
        }
        let size = line()
            .and_then(parse_count)
            .ok_or(HeadError::Malformed("the second line is not a tree size"))?;
        let root = line().and_then(|line| line.parse().ok());
        Ok(TreeHead {
            size,
            root: root.ok_or(HeadError::Malformed("the third line is not a hash"))?,
        })
    }
}

/// A number of records in its one canonical decimal form, at most [`MAX_TREE_SIZE`].
pub(crate) fn parse_count(text: &str) -> Option<u64> {
    let canonical =
        text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    text.parse()
        .ok()
        .filter(|&count| canonical && count <= MAX_TREE_SIZE)
}

/// A tree head whose signature was verified, with the very bytes of its note. Only [`SignedHead::verify`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    head: TreeHead,
    note: Vec<u8>,
}

impl SignedHead {
    /// Verifies a note's signature and reads the head in it.
    ///
    /// # Errors
    /// [`HeadError`] if the note is malformed, not or wrongly signed by `key`, or holds no tree head.
    pub fn verify(note: &[u8], key: &VerifierKey) -> Result<SignedHead, HeadError> {
        let signed: SignedNote = note::verify(note, key)?;
        let head: TreeHead = signed.text().parse()?;
        Ok(SignedHead {
            head,
            note: note.to_vec(),
        })
    }

    /// The size and root.
    pub fn head(&self) -> &TreeHead {
        &self.head
    }

    /// The note as it came, to be kept and served.
    pub fn note(&self) -> &[u8] {
        &self.note
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::SignerKey;

    #[test]
    fn gos_example_and_round_trip() {
        // The example in the documentation of golang.org/x/mod/sumdb/tlog.
        let text =
            "go.sum database tree\n123456789012\nTszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=\n";
        let head: TreeHead = text.parse().unwrap();
        assert_eq!(head.size, 123_456_789_012);
        assert_eq!(head.to_string(), text);
        assert_eq!(format!("{text}more\n\nlines").parse(), Ok(head));
    }

    #[test]
    fn malformed_heads() {
        let root = Hash::empty();
        for text in [
            String::new(),
            format!("go.sum database tree v2\n1\n{root}\n"),
            format!("go.sum database tree\n1\n{root}"),
            format!("go.sum database tree\n\n{root}\n"),
            format!("go.sum database tree\n01\n{root}\n"),
            format!("go.sum database tree\n+1\n{root}\n"),
            format!("go.sum database tree\n-1\n{root}\n"),
            format!("go.sum database tree\n9223372036854775808\n{root}\n"),
            format!("go.sum database tree\n99999999999999999999999\n{root}\n"),
            format!("go.sum database tree\n1\n{root}=\n"),
            format!("go.sum database tree\r\n1\n{root}\n"),
            "go.sum database tree\n1\n".to_owned(),
        ] {
            assert!(
                matches!(text.parse::<TreeHead>(), Err(HeadError::Malformed(_))),
                "{text:?}"
            );
        }
        assert_eq!(
            format!("go.sum database tree\n{MAX_TREE_SIZE}\n{root}\n")
                .parse::<TreeHead>()
                .unwrap()
                .size,
            MAX_TREE_SIZE
        );
    }

    #[test]
    fn a_signed_note_that_holds_no_head_is_refused() {
        let key = SignerKey::from_seed("db.example", [1; 32]).unwrap();
        let note = note::sign("something else\n", &key).unwrap();
        assert!(matches!(
            SignedHead::verify(&note, &key.verifier_key()),
            Err(HeadError::Malformed(_))
        ));
    }
}
