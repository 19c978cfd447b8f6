//! Canonical versions.

use std::{borrow::Cow, cmp::Ordering, fmt, str::FromStr};

use crate::{
    ModulePath,
    escape::{escape, unescape},
    semver::{self, Parts},
};

/// A canonical version: `vX.Y.Z[-pre][+incompatible]`, no other build metadata (protocol.md 2.1).
///
/// Ordered by precedence; equal precedence by text, so that the order agrees with equality.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Version(Box<str>);

/// Why a text is no canonical version, or not one of this module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not of the canonical form.
    #[error("not a canonical version (vX.Y.Z, vX.Y.Z-pre or either with +incompatible)")]
    NotCanonical,
    /// Bad `!` escaping or a character no version has.
    #[error("a version with a disallowed character or bad escaping")]
    Disallowed,
    /// The major version is not the path's.
    #[error("the major version should be {0}, by the module path")]
    Major(String),
    /// A pseudo-version that no commit can have.
    #[error("a pseudo-version {0}")]
    Pseudo(&'static str),
}

impl Version {
    /// Checks `text`.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        match semver::parse(text) {
            Some(Parts {
                full: true,
                build: "" | "+incompatible",
                ..
            }) => Ok(Self(text.into())),
            _ => Err(VersionError::NotCanonical),
        }
    }

    /// Reads the escaped form that stands in URLs and file names.
    pub fn from_escaped(text: &str) -> Result<Self, VersionError> {
        Self::parse(&unescape(text).ok_or(VersionError::Disallowed)?)
    }

    /// The version.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The escaped form.
    pub fn escaped(&self) -> Cow<'_, str> {
        escape(&self.0)
    }

    pub(crate) fn parts(&self) -> Parts<'_> {
        semver::parse(&self.0).unwrap_or(Parts {
            major: "0",
            minor: "0",
            patch: "0",
            prerelease: "",
            build: "",
            full: true,
        })
    }

    /// The major number's text.
    pub fn major(&self) -> &str {
        self.parts().major
    }

    /// Whether it has a pre-release part; pseudo-versions have.
    pub fn is_prerelease(&self) -> bool {
        !self.parts().prerelease.is_empty()
    }

    /// Whether it ends in `+incompatible`.
    pub fn is_incompatible(&self) -> bool {
        self.0.ends_with("+incompatible")
    }

    /// Whether a module of this path may have this version (`module.CheckPathMajor`).
    pub fn check_major(&self, path: &ModulePath) -> Result<(), VersionError> {
        check_major(&self.0, path.split_major().1)
    }
}

/// Whether a version fits the major version in a path, as [`ModulePath::split_major`] gives it.
pub(crate) fn check_major(version: &str, suffix: &str) -> Result<(), VersionError> {
    let suffix = if suffix.starts_with(".v") {
        suffix.strip_suffix("-unstable").unwrap_or(suffix)
    } else {
        suffix
    };
    if version.starts_with("v0.0.0-") && suffix == ".v1" {
        // gopkg.in's v1 has pseudo-versions of v0, from before it had tags.
        return Ok(());
    }
    let parts = semver::parse(version);
    let major = parts.map(|parts| parts.major);
    let (fits, want) = match suffix.get(2..) {
        None => {
            let incompatible = parts.is_some_and(|parts| parts.build == "+incompatible");
            (matches!(major, Some("0" | "1")) || incompatible, "v0 or v1")
        }
        Some(number) => (major == Some(number), &suffix[1..]),
    };
    if fits {
        Ok(())
    } else {
        Err(VersionError::Major(want.to_owned()))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        semver::compare(&self.0, &other.0).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<Version> for String {
    fn from(it: Version) -> Self {
        it.0.into()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_and_pseudo() {
        for (text, pseudo) in [
            ("v1.2.3", None),
            ("v1.2.3-rc.1", None),
            ("v2.0.0+incompatible", None),
            ("v0.0.1-go1.25.5.linux-amd64", None),
            ("v0.0.0-20190101000000-abcdefabcdef", Some("abcdefabcdef")),
            ("v2.0.0-20190101000000-abcdefabcdef", Some("abcdefabcdef")),
            ("v1.2.4-0.20190101000000-abcdefabcdef", Some("abcdefabcdef")),
            (
                "v1.2.3-pre.0.20190101000000-abcdefabcdef",
                Some("abcdefabcdef"),
            ),
            (
                "v1.2.3-a-b.0.20190101000000-abcdefabcdef",
                Some("abcdefabcdef"),
            ),
            (
                "v2.0.1-0.20190101000000-abcdefabcdef+incompatible",
                Some("abcdefabcdef"),
            ),
            ("v1.2.3-20190101000000-abcdefabcdef", None),
            ("v1.2.3-0.2019010100000-abcdefabcdef", None),
        ] {
            let version = Version::parse(text).unwrap();
            assert_eq!(version.pseudo().map(|pseudo| pseudo.rev), pseudo, "{text}");
            assert_eq!(Version::from_escaped(&version.escaped()).unwrap(), version);
        }
        for bad in [
            "v1",
            "v1.2",
            "1.2.3",
            "v1.2.3+meta",
            "master",
            "v1.2.3-RC1/x",
            "v1.2.3+incompatible.1",
            "",
        ] {
            assert!(Version::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            Version::from_escaped("v1.0.0-!r!c1").unwrap().as_str(),
            "v1.0.0-RC1"
        );
        assert!(Version::from_escaped("v1.0.0-RC1").is_err());
    }

    #[test]
    fn majors() {
        for (path, version, fits) in [
            ("a.com/m", "v1.0.0", true),
            ("a.com/m", "v2.0.0", false),
            ("a.com/m", "v2.0.0+incompatible", true),
            ("a.com/m/v2", "v2.1.0", true),
            ("a.com/m/v2", "v3.0.0", false),
            ("a.com/m/v2", "v1.0.0", false),
            ("gopkg.in/x.v1", "v1.0.0", true),
            ("gopkg.in/x.v2", "v1.0.0", false),
            ("gopkg.in/x.v1", "v0.0.0-20190101000000-abcdefabcdef", true),
            ("gopkg.in/x.v0", "v0.1.0", true),
            ("gopkg.in/x.v1-unstable", "v1.0.0", true),
        ] {
            let result = Version::parse(version)
                .unwrap()
                .check_major(&ModulePath::parse(path).unwrap());
            assert_eq!(result.is_ok(), fits, "{path} {version}");
        }
    }
}
