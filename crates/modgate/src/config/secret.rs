//! Secrets: values that can be used but not printed.

use std::{fmt, path::PathBuf};

/// A password, a token or the value of a header.
///
/// It has no `Display`, and its `Debug` shows three stars, so that a secret
/// cannot reach a log or an error by mistake.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text out of sight.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the request it belongs to and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a password is taken from when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// From an environment variable, read at start and reload.
    Env {
        /// Name of the variable.
        name: String,
        /// Its value.
        value: Secret,
    },
    /// From a file, read anew when it changes.
    File {
        /// The file.
        path: PathBuf,
        /// What it held when the configuration was loaded, without the line end.
        value: Secret,
    },
    /// From the first line of a command's output.
    Command(Vec<String>),
}
