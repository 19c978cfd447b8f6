//! What discovery finds.

use std::fmt;

/// A version control system, or another way to get modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// git
    Git,
    /// Mercurial
    Hg,
    /// Subversion
    Svn,
    /// Bazaar
    Bzr,
    /// Fossil
    Fossil,
    /// No version control, but a module proxy.
    Mod,
}

impl Kind {
    /// The kind named as in a go-import tag.
    pub fn by_name(name: &str) -> Option<Self> {
        [
            Self::Git,
            Self::Hg,
            Self::Svn,
            Self::Bzr,
            Self::Fossil,
            Self::Mod,
        ]
        .into_iter()
        .find(|kind| kind.name() == name)
    }

    /// The name in go-import tags, which is also the program's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Hg => "hg",
            Self::Svn => "svn",
            Self::Bzr => "bzr",
            Self::Fossil => "fossil",
            Self::Mod => "mod",
        }
    }

    /// The schemes it is spoken over, in the order in which the go command tries them, and whether each is encrypted.
    pub(crate) fn schemes(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::Git => &[
                ("git", false),
                ("https", true),
                ("http", false),
                ("git+ssh", true),
                ("ssh", true),
            ],
            Self::Hg => &[("https", true), ("http", false), ("ssh", true)],
            Self::Svn => &[
                ("https", true),
                ("http", false),
                ("svn", false),
                ("svn+ssh", true),
            ],
            Self::Bzr => &[
                ("https", true),
                ("http", false),
                ("bzr", false),
                ("bzr+ssh", true),
            ],
            Self::Fossil | Self::Mod => &[("https", true), ("http", false)],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a module's repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The module path of the repository's root, or of `subdir` in it: a prefix of the module's path.
    pub prefix: String,
    /// How to ask it.
    pub vcs: Kind,
    /// Its URL: with a scheme, without password, query and fragment, nothing in it that a program takes for an option.
    pub url: String,
    /// The folder in the repository that `prefix` stands for; empty for its root.
    pub subdir: String,
    /// Whether credentials may be used for `url`. Not if a page of another host named it for a module that is not
    /// private: else anybody could have our repositories read to him under a name of his own.
    pub credentials: bool,
}
