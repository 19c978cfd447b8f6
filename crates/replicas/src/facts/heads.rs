//! Tree heads of checksum databases, wherever replicas share them.

use std::sync::Arc;

use records::{Head, Records};

use super::SharedFacts;
use crate::ReplicasError;

/// Where replicas share tree heads.
#[derive(Clone, Debug)]
pub enum SharedHeads {
    /// In records that all have.
    Records(Arc<Records>),
    /// In the document of those that have records of their own.
    Facts(Arc<SharedFacts>),
}

impl SharedHeads {
    /// What is known of a database.
    pub async fn head(&self, name: &str) -> Result<Option<Head>, ReplicasError> {
        match self {
            Self::Records(records) => Ok(records.head(name).await?),
            Self::Facts(facts) => Ok(facts.head(name)),
        }
    }

    /// Moves a head forward from the note that it was proven against, `None` for the first one. Returns whether that
    /// is still what is known; if not, whoever asks must let its head meet the one that is.
    pub async fn advance_head(
        &self,
        name: &str,
        from: Option<&[u8]>,
        size: u64,
        note: &[u8],
    ) -> Result<bool, ReplicasError> {
        let facts = match self {
            Self::Records(records) => {
                return Ok(records.advance_head(name, from, size, note).await?);
            }
            Self::Facts(facts) => facts,
        };
        let note = std::str::from_utf8(note);
        let note = note.map_err(|error| ReplicasError::new("a tree head", error))?;
        Ok(facts.edit_head(name, |head| {
            let still = head.note.as_bytes() == from.unwrap_or_default() && head.size <= size;
            if still {
                head.size = size;
                note.clone_into(&mut head.note);
            }
            still
        }))
    }

    /// Keeps the evidence of two histories. The first stands.
    pub async fn set_fork(&self, name: &str, evidence: &[u8]) -> Result<(), ReplicasError> {
        match self {
            Self::Records(records) => drop(records.set_fork(name, evidence).await?),
            Self::Facts(facts) => {
                let evidence = String::from_utf8_lossy(evidence).into_owned();
                facts.edit_head(name, |head| {
                    let first = head.fork.evidence.is_none();
                    if first {
                        head.fork.rev = head.fork.rev.saturating_add(1);
                        head.fork.evidence = Some(evidence);
                    }
                    first
                });
            }
        }
        Ok(())
    }

    /// Takes the evidence away: an operator has looked at it.
    pub async fn clear_fork(&self, name: &str) -> Result<(), ReplicasError> {
        match self {
            Self::Records(records) => drop(records.clear_fork(name).await?),
            Self::Facts(facts) => {
                facts.edit_head(name, |head| {
                    let there = head.fork.evidence.take().is_some();
                    head.fork.rev = head.fork.rev.saturating_add(u64::from(there));
                    there
                });
            }
        }
        Ok(())
    }
}
