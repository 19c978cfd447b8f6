//! What can go wrong between replicas.

use records::RecordsError;

/// Why replicas cannot agree just now. Whoever wanted to goes on alone.
#[derive(Clone, Debug, thiserror::Error)]
#[error("replicas: {doing}: {text}")]
pub struct ReplicasError {
    doing: &'static str,
    text: String,
}

impl ReplicasError {
    pub(crate) fn new(doing: &'static str, text: impl ToString) -> Self {
        Self {
            doing,
            text: text.to_string(),
        }
    }

    pub(crate) fn timeout(doing: &'static str) -> Self {
        Self::new(doing, "no answer in time")
    }
}

impl From<RecordsError> for ReplicasError {
    fn from(error: RecordsError) -> Self {
        Self::new("the records", error)
    }
}
