//! How a newly seen head meets the one that is kept. A kept head only moves forward, and only along a proof.

use std::cmp::Ordering;

use crate::head::{SignedHead, TreeHead};
#[cfg(doc)]
use crate::proof::ProofError;
use crate::proof::{Continuation, Plan};

/// What to do about a newly seen head. The plan decides: the caller fetches its tiles, and lets
/// [`Plan::verify_consistency`] judge them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The head is the one that is kept: nothing to prove, nothing to keep.
    Same,
    /// The head is newer. Once the plan is proven, keep its tiles, and then the new head instead of the old.
    Newer(Plan<Continuation>),
    /// The head is older. Once the plan is proven, whatever came with it belongs to the same log; the kept head stays.
    Older(Plan<Continuation>),
    /// Two signed heads of one size with two roots: the database lied to somebody. Nothing of it is to be trusted any
    /// more and the kept head must not be overwritten. The same holds when the plan of another decision ends in
    /// [`ProofError::Fork`].
    Fork {
        /// The head that is kept.
        kept: TreeHead,
        /// The head that contradicts it.
        seen: TreeHead,
    },
}

/// Compares a verified head with the kept one of the same database, if there is one. Without one the new head is
/// [`Decision::Newer`] than the empty tree, of which every log is a continuation; its plan shows that tiles for it are
/// to be had.
///
/// The caller must hold the kept head still from here until it has acted on the decision, or compare and swap.
pub fn merge(kept: Option<&SignedHead>, seen: &SignedHead) -> Decision {
    let seen = *seen.head();
    let Some(kept) = kept.map(|kept| *kept.head()) else {
        return Decision::Newer(Plan::between(&TreeHead::empty(), &seen));
    };
    match seen.size.cmp(&kept.size) {
        Ordering::Equal if seen.root == kept.root => Decision::Same,
        Ordering::Equal => Decision::Fork { kept, seen },
        Ordering::Greater => Decision::Newer(Plan::between(&kept, &seen)),
        Ordering::Less => Decision::Older(Plan::between(&seen, &kept)),
    }
}

#[cfg(test)]
mod tests;
