//! What is kept for ever: one thing with a key, an address at upstreams, and a way to check it.

use gomod::{ModulePath, Version};
use store::Key;

use crate::{
    answer::Media,
    refusal::{Code, Refusal},
};

/// Which file of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// Version and time.
    Info,
    /// `go.mod`.
    Mod,
    /// The module zip.
    Zip,
}

impl Part {
    /// The file's ending.
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Mod => "mod",
            Self::Zip => "zip",
        }
    }

    /// What it is.
    pub(crate) fn media(self) -> Media {
        match self {
            Self::Info => Media::Json,
            Self::Mod => Media::Text,
            Self::Zip => Media::Zip,
        }
    }
}

/// One file of one canonical version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Artifact {
    /// The module.
    pub module: ModulePath,
    /// The version.
    pub version: Version,
    /// Which file.
    pub part: Part,
}

impl Artifact {
    /// The path below an upstream's address.
    pub(crate) fn upstream_path(&self) -> String {
        format!(
            "/{}/@v/{}.{}",
            self.module.escaped(),
            self.version.escaped(),
            self.part.ending()
        )
    }

    /// The key's text.
    pub(crate) fn key_text(&self) -> String {
        key_text(&self.module, &self.version, self.part)
    }

    /// Its key.
    pub(crate) fn key(&self) -> Result<Key, Refusal> {
        key(self.key_text(), || self.to_string())
    }
}

impl std::fmt::Display for Artifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.module, self.version)
    }
}

/// The text of a key: Go's own cache layout below `go/` (protocol.md section 7).
pub(crate) fn key_text(module: &ModulePath, version: &Version, part: Part) -> String {
    [
        "go/",
        &module.escaped(),
        "/@v/",
        &version.escaped(),
        ".",
        part.ending(),
    ]
    .concat()
}

/// A storage key, or the refusal of a name that is too long for one.
pub(crate) fn key(text: String, what: impl FnOnce() -> String) -> Result<Key, Refusal> {
    Key::new(text).map_err(|error| Refusal::new(Code::InvalidName, what(), error.to_string()))
}
