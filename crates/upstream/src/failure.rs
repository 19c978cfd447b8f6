//! How a fetch can end other than in a file.

use std::sync::Arc;
use std::time::Duration;

/// What is said of an upstream in a loop.
pub(crate) const LOOPS: &str = "asks this gateway in its turn (508)";

/// What kind of trouble an upstream gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// No connection, or it was lost before an answer: refused, reset, unknown host, TLS.
    Connect,
    /// No connection or no answer in time.
    Timeout,
    /// An answer that is neither the file nor its absence.
    Status,
    /// An answer that breaks HTTP, or a redirect that cannot be followed.
    Broken,
    /// No free place under the upstream's limit of concurrent requests.
    Overloaded,
    /// The breaker is open and another request is already probing.
    BreakerOpen,
    /// It has the file's place in a loop: it asks, by way of others, whoever asks it.
    Loop,
    /// What it sent was not what was asked for, as the caller found.
    Content,
}

/// An upstream's failure to say whether it has the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{upstream}: {text}")]
pub struct Trouble {
    /// Its kind.
    pub cause: Cause,
    /// The status answered (after `status_map`), for [`Cause::Status`].
    pub status: Option<u16>,
    /// The upstream's masked name.
    pub upstream: Arc<str>,
    /// What failed, in words: one line without secrets, under 120 bytes.
    pub text: String,
    /// What to do about it, if that is known: one line without secrets.
    pub hint: Option<String>,
    /// How long it wants to be left alone, if it says so; ten minutes at most.
    pub retry_after: Option<Duration>,
    /// Whether it was asked with a credential, of whatever kind.
    pub with_credential: bool,
}

/// One upstream asked, or passed over, on the way to a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The upstream's masked name.
    pub upstream: Arc<str>,
    /// What came of it, in words: one line without secrets, under 120 bytes.
    pub outcome: String,
}

/// What the walk of a whole chain came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureKind {
    /// All upstreams were reached and none has it.
    Absent {
        /// Whether the last of them said 410 rather than 404.
        gone: bool,
    },
    /// The chain is `off`.
    Off,
    /// The walk reached `direct`.
    Direct {
        /// The last trouble on the way there, if any.
        earlier: Option<Trouble>,
    },
    /// Whether it exists is not known: at least one upstream that might have it failed.
    Trouble(Trouble),
}

/// A fetch without a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it came to.
    pub kind: FailureKind,
    /// The upstreams asked, in order.
    pub attempts: Vec<Attempt>,
    /// Whether one of them was left out since it asks in its turn whoever asks here. What this came to is the answer for
    /// those, and perhaps not for others.
    pub looped: bool,
}

/// Whether repeating a request may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// It would end the same.
    No,
    /// In a moment.
    Later,
    /// At once: its connection was lost.
    AtOnce,
}

/// How one upstream's attempt ended without a file.
#[derive(Debug, Clone)]
pub(crate) enum Miss {
    /// 404 or, if `gone`, 410: what was answered, and as what `status_map` reads it.
    Absent { gone: bool, answered: u16 },
    /// It asks this gateway in its turn, so it has nothing to add.
    Loop,
    /// Anything else; `answered` tells an answer from an upstream that could not be reached.
    Trouble { trouble: Trouble, answered: bool },
}

impl Miss {
    /// The outcome in words.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Absent { gone, answered } => {
                let read = read_as(*answered, if *gone { 410 } else { 404 });
                format!("answered {answered}{read}")
            }
            Self::Loop => LOOPS.to_owned(),
            Self::Trouble { trouble, .. } => trouble.text.clone(),
        }
    }
}

/// What is to be added to a status that `status_map` reads as another one.
pub(crate) fn read_as(answered: u16, read: u16) -> String {
    if answered == read {
        return String::new();
    }
    format!(", read as {read}")
}
