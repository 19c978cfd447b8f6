//! Where a module's repository is, as far as the configuration tells. (Goes when the folder `discover/` comes.)

use std::fmt;

use gomod::ModulePath;

use crate::{DirectError, DirectSettings};

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
    /// Whether credentials may be used for `url`.
    pub credentials: bool,
}

/// A path prefix, and the template of its repositories' URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The module paths: this one and those below it.
    pub prefix: String,
    /// The URL, with `{1}` for the first path element behind the prefix, `{2}` for the second, up to `{9}`.
    pub repo: String,
    /// The version control system.
    pub vcs: Kind,
    /// The folder in the repository that the root's path stands for; empty for its root.
    pub subdir: String,
}

/// Finds the root of a module by the mapping with the longest prefix.
pub(crate) fn find(settings: &DirectSettings, module: &ModulePath) -> Result<Root, DirectError> {
    let path = module.as_str();
    let base = module.split_major().0;
    let covers = |prefix: &str, path: &str| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mapping = settings
        .mappings
        .iter()
        .filter(|mapping| covers(&mapping.prefix, path))
        .max_by_key(|mapping| mapping.prefix.len())
        .ok_or_else(|| DirectError::not_found(format!("{path}: no [[vcs]] covers it")))?;
    // A prefix may name a major version too, as those of gopkg.in do.
    let within = if covers(&mapping.prefix, base) {
        base
    } else {
        path
    };
    let rest = within[mapping.prefix.len()..].trim_start_matches('/');
    let elements: Vec<&str> = rest
        .split('/')
        .filter(|element| !element.is_empty())
        .collect();
    let (mut url, mut prefix) = (mapping.repo.clone(), mapping.prefix.clone());
    for (i, element) in elements.iter().enumerate() {
        let place = format!("{{{}}}", i + 1);
        if !url.contains(&place) {
            break;
        }
        url = url.replace(&place, element);
        prefix = format!("{prefix}/{element}");
    }
    if url.contains(['{', '}']) {
        let text = format!("{path}: too short for the [[vcs]] of {}", mapping.prefix);
        return Err(DirectError::not_found(text));
    }
    Ok(Root {
        prefix,
        vcs: mapping.vcs,
        url,
        subdir: mapping.subdir.clone(),
        credentials: true,
    })
}
