//! What Go's rules ask of a repository, whatever its version control system.

use time::OffsetDateTime;

use crate::DirectError;

/// Trouble with a repository.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// What is kept of it is damaged. Kept anew, it may well be fine.
    Mirror(String),
    /// Anything else.
    Other(DirectError),
}

impl From<DirectError> for Trouble {
    fn from(error: DirectError) -> Self {
        Self::Other(error)
    }
}

/// A commit, as a query found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Its whole name.
    pub(crate) hash: String,
    /// Its name as pseudo-versions have it.
    pub(crate) short: String,
    /// When it was committed.
    pub(crate) time: OffsetDateTime,
    /// All tags on it, sorted.
    pub(crate) tags: Vec<String>,
    /// The tag that was asked for, if it was one.
    pub(crate) tag: Option<String>,
    /// The full name of the reference that led to it.
    pub(crate) reference: Option<String>,
    /// It is at the tip of a branch or tag; else it was found in their history.
    pub(crate) tip: bool,
}

/// A tag and the commit it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) name: String,
    pub(crate) hash: String,
}
