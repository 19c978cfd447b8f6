//! Modules straight from version control, without a Go toolchain.

pub mod discover;
mod hg;
mod process;
mod proxy;
mod reach;
mod relay;
mod repository;

use std::path::PathBuf;
use std::time::Duration;

pub use reach::Reach;

use gomod::pattern::Patterns;

/// Settings of direct fetch.
#[derive(Debug, Clone)]
pub struct DirectSettings {
    /// The folder of the mirrors.
    pub folder: PathBuf,
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

impl DirectSettings {
    /// The defaults, with mirrors in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            private: Patterns::default(),
            insecure: Patterns::default(),
            mappings: Vec::new(),
            discovery_life: Duration::from_hours(1),
            discovery_negative_life: Duration::from_mins(1),
        }
    }
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

impl DirectError {
    /// One line is made of `text`.
    pub fn new(kind: ErrorKind, text: impl AsRef<str>) -> Self {
        Self {
            kind,
            text: text.as_ref().replace(char::is_control, " "),
            hint: None,
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn invalid(text: impl AsRef<str>) -> Self {
        Self::new(ErrorKind::Invalid, text)
    }

    pub(crate) fn disk(what: &str, error: &std::io::Error) -> Self {
        Self::new(ErrorKind::Disk, format!("{what}: {error}"))
    }
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
