//! Modules straight from version control, without a Go toolchain.

pub mod discover;
mod proxy;
mod reach;

use std::time::Duration;

pub use reach::Reach;

use gomod::pattern::Patterns;

/// Settings of direct fetch.
#[derive(Debug, Clone)]
pub struct DirectSettings {
    /// Modules that are ours (GOPRIVATE's patterns).
    pub private: Patterns,
    /// Modules and hosts that may be asked without encryption (GOINSECURE's patterns).
    pub insecure: Patterns,
    /// Paths that need no discovery.
    pub mappings: Vec<discover::Mapping>,
    /// How long a discovered root is believed.
    pub discovery_life: Duration,
    /// How long it is believed that there is none.
    pub discovery_negative_life: Duration,
}

/// Why a module was not got.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct DirectError {
    /// Its kind.
    pub kind: ErrorKind,
    /// What failed.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Unknown revision, no such repository.
    NotFound,
    /// Not allowed.
    Refused,
    /// 401 or 403.
    Unauthorized,
    /// Network or server trouble.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// Too much at once.
    Overloaded,
    /// A program is not installed.
    MissingProgram,
    /// The module breaks a rule.
    Invalid,
    /// The disk failed.
    Disk,
}
