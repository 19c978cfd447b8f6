//! Why a module was not got.

use std::{fmt, io};

/// What a failure means for the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// There is none: unknown revision, no such repository, a pseudo-version that cannot be proven.
    NotFound,
    /// Not allowed: GOVCS, an address or scheme that is not asked.
    Refused,
    /// The repository wants a login, or another one (401, 403, an SSH key that is not accepted).
    Unauthorized,
    /// Trouble of the network or the server. Says nothing about what exists.
    Unavailable,
    /// No answer in time. Says nothing about what exists.
    Timeout,
    /// Too many processes wanted at once.
    Overloaded,
    /// The version control system's program is not installed.
    MissingProgram,
    /// It exists, but breaks a rule of modules: no zip can be made of it. Final.
    Invalid,
    /// It is more than this gateway takes, by a limit of its own. Says nothing about what exists.
    TooLarge,
    /// The folder of mirrors cannot be used.
    Disk,
    /// The disk with the folder of mirrors is full.
    DiskFull,
}

/// Why a module was not got. Cheap to share among those who wait for the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectError {
    /// What it means.
    pub kind: ErrorKind,
    /// What failed and why: one line, without secrets.
    pub text: String,
    /// What to do about it, if that is known.
    pub hint: Option<String>,
}

/// Longest text, in characters.
const MAX_TEXT: usize = 500;

impl DirectError {
    /// One line is made of `text`: control characters out, shortened.
    pub fn new(kind: ErrorKind, text: impl AsRef<str>) -> Self {
        let line = text.as_ref().trim().replace(char::is_control, " ");
        Self {
            kind,
            text: line.chars().take(MAX_TEXT).collect(),
            hint: None,
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn not_found(text: impl AsRef<str>) -> Self {
        Self::new(ErrorKind::NotFound, text)
    }

    pub(crate) fn invalid(text: impl AsRef<str>) -> Self {
        Self::new(ErrorKind::Invalid, text)
    }

    pub(crate) fn too_large(text: impl AsRef<str>) -> Self {
        Self::new(ErrorKind::TooLarge, text)
            .hint("a limit of this gateway, not of Go: its owner can raise it, or the module be made smaller")
    }

    pub(crate) fn disk(what: &str, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::DiskFull,
            _ => ErrorKind::Disk,
        };
        // Nothing heals this by itself: folders are made wherever there is nothing.
        let in_the_way = matches!(
            error.kind(),
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory
        );
        Self::new(kind, format!("{what}: {error}")).hint(if in_the_way {
            "something that is no folder is in the place of vcs/ in the data folder, or of a mirror in it: move it away"
        } else {
            "check the folder of mirrors (vcs/ in the data folder): free space, permissions"
        })
    }
}

impl fmt::Display for DirectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for DirectError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let kind = |error: io::ErrorKind| DirectError::disk("x", &error.into()).kind;
        assert_eq!(kind(io::ErrorKind::StorageFull), ErrorKind::DiskFull);
        assert_eq!(kind(io::ErrorKind::QuotaExceeded), ErrorKind::DiskFull);
        assert_eq!(kind(io::ErrorKind::PermissionDenied), ErrorKind::Disk);
    }
}
