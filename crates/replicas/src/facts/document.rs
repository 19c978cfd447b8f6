//! What is in the document, and how two states of it become one.
//!
//! Every part is joined by itself, and joining is the same in whatever order and however often it is done. So whoever
//! has an older state takes nothing back, and a document that was lost is whole again when those who know it have joined
//! it again.

use std::collections::BTreeMap;

use records::{Agreed, Agreement};
use serde::{Deserialize, Serialize};

/// Of the document's form.
pub(super) const FORM: u32 = 1;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    pub(super) form: u32,
    /// How often it was written: makes each time other bytes, for storage whose versions are hashes.
    #[serde(default)]
    pub(super) written: u64,
    /// Versions that are or were retired, by `module@version`.
    #[serde(default)]
    pub(super) retired: BTreeMap<String, Agreed>,
    /// Checksum databases, by name.
    #[serde(default)]
    pub(super) heads: BTreeMap<String, SharedHead>,
    /// What newer versions of modgate know.
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// What is known of one checksum database. No note: of a fork alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SharedHead {
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) note: String,
    #[serde(default)]
    pub(super) fork: Fork,
}

/// Evidence of two histories, until an operator clears it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Fork {
    /// Grows whenever it is set or cleared.
    #[serde(default)]
    pub(super) rev: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) evidence: Option<String>,
}

impl Document {
    pub(super) fn is_empty(&self) -> bool {
        self.retired.is_empty() && self.heads.is_empty() && self.rest.is_empty()
    }

    /// What all would agree on, if the replica that these are of said nothing new.
    pub(super) fn join_retired(&mut self, agreed: &BTreeMap<String, Agreed>) {
        for (name, agreed) in agreed {
            let here = self.retired.entry(name.clone()).or_default();
            // Of two words that were said without knowing each other, one stands, and it is the same one everywhere.
            if (agreed.rev, &agreed.retired) > (here.rev, &here.retired) {
                here.clone_from(agreed);
            }
        }
    }

    /// Adds what a replica says and the others do not know: the last word is its own.
    pub(super) fn say(&mut self, agreement: &Agreement) {
        for (name, now) in agreement.words() {
            let here = self.retired.entry(name.to_owned()).or_default();
            if here.retired.as_ref() != now {
                *here = Agreed {
                    rev: here.rev.saturating_add(1),
                    retired: now.cloned(),
                };
            }
        }
    }

    pub(super) fn join_heads(&mut self, heads: &BTreeMap<String, SharedHead>) {
        for (name, head) in heads {
            let here = self.heads.entry(name.clone()).or_default();
            // That one continues the other each replica proves for itself.
            if (head.size, &head.note) > (here.size, &here.note) {
                here.size = head.size;
                here.note.clone_from(&head.note);
            }
            if head.fork > here.fork {
                here.fork.clone_from(&head.fork);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use records::Retired;

    use super::*;

    fn retired(reason: &str) -> Retired {
        Retired {
            reason: reason.to_owned(),
            time: "2026-01-02T03:04:05Z".to_owned(),
        }
    }

    fn agreed(rev: u64, reason: Option<&str>) -> BTreeMap<String, Agreed> {
        let retired = reason.map(retired);
        [("m@v1".to_owned(), Agreed { rev, retired })].into()
    }

    fn joined(states: &[&BTreeMap<String, Agreed>]) -> BTreeMap<String, Agreed> {
        let mut document = Document::default();
        for state in states {
            document.join_retired(state);
        }
        document.retired
    }

    #[test]
    fn states_join_the_same_in_any_order() {
        let states = [
            agreed(0, Some("old")),
            agreed(1, Some("a")),
            agreed(1, Some("b")),
            agreed(1, None),
            agreed(2, None),
        ];
        for (one, other, both) in [(0, 1, 1), (1, 2, 2), (2, 3, 2), (2, 4, 4), (0, 4, 4)] {
            let (one, other) = (&states[one], &states[other]);
            assert_eq!(joined(&[one, other]), states[both]);
            assert_eq!(joined(&[other, one, other]), states[both]);
        }
    }

    #[test]
    fn a_word_is_the_last_one() {
        let mut document = Document::default();
        document.join_retired(&agreed(7, None));
        let mut agreement = Agreement {
            agreed: agreed(3, None),
            now: [("m@v1".to_owned(), retired("bad"))].into(),
        };
        document.say(&agreement);
        assert_eq!(document.retired, agreed(8, Some("bad")));
        document.say(&agreement);
        assert_eq!(document.retired, agreed(8, Some("bad")), "said once");

        agreement.agreed = agreed(8, Some("bad"));
        document.say(&agreement);
        assert_eq!(document.retired, agreed(8, Some("bad")), "no news");
        agreement.now.clear();
        document.say(&agreement);
        assert_eq!(document.retired, agreed(9, None));
    }

    #[test]
    fn a_head_moves_forward_and_a_fork_by_what_was_said_last() {
        let head = |size: u64, rev: u64, evidence: Option<&str>| {
            let head = SharedHead {
                size,
                note: format!("note of {size}"),
                fork: Fork {
                    rev,
                    evidence: evidence.map(str::to_owned),
                },
            };
            BTreeMap::from([("sum.example".to_owned(), head)])
        };
        let mut document = Document::default();
        document.join_heads(&head(9, 1, Some("two")));
        document.join_heads(&head(7, 2, None));
        document.join_heads(&head(7, 1, Some("two")));
        assert_eq!(document.heads, head(9, 2, None));
    }

    #[test]
    fn what_a_newer_version_knows_is_passed_on() {
        let text = r#"{"form":1,"written":3,"retired":{},"heads":{},"more":{"a":1}}"#;
        let document: Document = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&document).unwrap(), text);
        assert!(!document.is_empty());
    }
}
