//! Module paths.

use std::{borrow::Cow, fmt, str::FromStr};

use crate::escape::{escape, unescape};

/// A valid module path, unescaped: `github.com/BurntSushi/toml`. Equal to `module.CheckPath` (protocol.md 1.1).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ModulePath(Box<str>);

/// Why a text is no module path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Bad `!` escaping.
    #[error("badly escaped module path: an upper-case letter is written as `!` and its lower case")]
    Escaping,
    /// An element is empty.
    #[error("malformed module path: an empty path element")]
    EmptyElement,
    /// A character that no element may have.
    #[error("malformed module path: a character other than letters, digits and -._~")]
    Character,
    /// An element starts or ends with a dot.
    #[error("malformed module path: a leading or trailing dot in a path element")]
    Dot,
    /// A name Windows reserves, or one that looks like its short form.
    #[error("malformed module path: a path element that Windows does not allow")]
    Windows,
    /// The first element is no host name.
    #[error(
        "malformed module path: the first element must be a host name with a dot, in lower case"
    )]
    Host,
    /// `/v1`, `/v0`, `/v02`, or `gopkg.in` without its major version.
    #[error("malformed module path: an invalid major version at the end")]
    Major,
}

impl ModulePath {
    /// Checks `text`.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        check(text)?;
        Ok(Self(text.into()))
    }

    /// Reads the escaped form that stands in URLs and file names.
    pub fn from_escaped(text: &str) -> Result<Self, PathError> {
        let plain = unescape(text).ok_or(PathError::Escaping)?;
        check(&plain)?;
        Ok(Self(plain.into_boxed_str()))
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The escaped form.
    pub fn escaped(&self) -> Cow<'_, str> {
        escape(&self.0)
    }

    /// The path without its major version, and the major version's text: `/v2`, `.v1`, `.v1-unstable` or nothing.
    pub fn split_major(&self) -> (&str, &str) {
        split_major(&self.0).unwrap_or((&self.0, ""))
    }

    /// Whether this is the module of Go's toolchains.
    pub fn is_toolchain(&self) -> bool {
        &*self.0 == "golang.org/toolchain"
    }
}

impl From<ModulePath> for String {
    fn from(it: ModulePath) -> Self {
        it.0.into()
    }
}

impl fmt::Display for ModulePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ModulePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::parse(text)
    }
}

fn check(path: &str) -> Result<(), PathError> {
    for element in path.split('/') {
        check_element(element)?;
    }
    let host = path.split('/').next().unwrap_or_default();
    let host_bytes = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'-'
    };
    if !host.contains('.') || host.starts_with('-') || !host.bytes().all(host_bytes) {
        return Err(PathError::Host);
    }
    split_major(path).map(|_| ()).ok_or(PathError::Major)
}

fn check_element(element: &str) -> Result<(), PathError> {
    if element.is_empty() {
        return Err(PathError::EmptyElement);
    }
    if element.starts_with('.') || element.ends_with('.') {
        return Err(PathError::Dot);
    }
    if !element
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
    {
        return Err(PathError::Character);
    }
    let short = element.split('.').next().unwrap_or_default();
    if is_windows_device(short) {
        return Err(PathError::Windows);
    }
    // `name~1` is how old Windows shortens file names.
    match short.rsplit_once('~') {
        Some((_, tail)) if !tail.is_empty() && tail.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(PathError::Windows)
        }
        _ => Ok(()),
    }
}

/// Names that Windows keeps for devices, in any case.
pub(crate) fn is_windows_device(name: &str) -> bool {
    const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
    DEVICES
        .iter()
        .any(|device| name.eq_ignore_ascii_case(device))
        || (name.len() == 4
            && name.is_ascii()
            && (name[..3].eq_ignore_ascii_case("com") || name[..3].eq_ignore_ascii_case("lpt"))
            && matches!(name.as_bytes()[3], b'1'..=b'9'))
}

/// Splits any path, as a `module` line may have it, into what stands before its major version and the major
/// version's text: `/v2`, `.v1`, `.v1-unstable` or nothing (`module.SplitPathVersion`). `None` where the major version is
/// malformed.
pub fn split_major(path: &str) -> Option<(&str, &str)> {
    if path.starts_with("gopkg.in/") {
        return split_gopkg_in(path);
    }
    let digits = path
        .bytes()
        .rev()
        .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
        .count();
    let dotted = path[path.len() - digits..].contains('.');
    let head = &path[..path.len() - digits];
    if digits == 0 || head.len() < 2 || !head.ends_with("/v") {
        return Some((path, ""));
    }
    let (prefix, major) = path.split_at(head.len() - 2);
    let number = &major[2..];
    // A dot there, as in `/v2.1`, was never allowed; a leading zero and `/v1` are not either.
    if dotted || number.starts_with('0') || number == "1" {
        return None;
    }
    Some((prefix, major))
}

fn split_gopkg_in(path: &str) -> Option<(&str, &str)> {
    let stable = path.strip_suffix("-unstable").unwrap_or(path);
    let digits = stable.bytes().rev().take_while(u8::is_ascii_digit).count();
    let head = &stable[..stable.len() - digits];
    let base = head
        .strip_suffix('v')
        .and_then(|base| base.strip_suffix('.'));
    let (prefix, major) = path.split_at(base?.len());
    // `.v-unstable`, without a number, is let through as the reference does; no version fits it.
    let number = major.strip_prefix(".v").filter(|rest| !rest.is_empty())?;
    if number.starts_with('0') && major != ".v0" {
        return None;
    }
    Some((prefix, major))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let good = [
            ("github.com/BurntSushi/toml", ""),
            ("golang.org/x/sys", ""),
            ("example.com", ""),
            ("example.com/m/v2", "/v2"),
            ("gopkg.in/yaml.v3", ".v3"),
            ("gopkg.in/u/x.v0", ".v0"),
            ("gopkg.in/x.v1-unstable", ".v1-unstable"),
            ("git.sr.ht/~user/m", ""),
            ("example.com/v", ""),
            ("example.com/mv2", ""),
            ("example.com/a.b-c_d~e", ""),
            ("example.com/v10", "/v10"),
        ];
        for (path, major) in good {
            let parsed = ModulePath::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(parsed.split_major().1, major, "{path}");
            assert_eq!(ModulePath::from_escaped(&parsed.escaped()).unwrap(), parsed);
        }
        for bad in [
            "",
            "a",
            "nodot/x",
            "Example.com/x",
            "-a.com/x",
            "a.com//x",
            "a.com/x/",
            "/a.com",
            "a.com/.x",
            "a.com/x.",
            "a.com/con",
            "a.com/AUX.go",
            "a.com/x~1",
            "a.com/x~1.go",
            "a.com/v1",
            "a.com/v0",
            "a.com/v02",
            "gopkg.in/yaml",
            "gopkg.in/yaml.v03",
            "a.com/x y",
            "a.com/x+y",
            "a.com/é",
            "a.com/x@v1",
            "a.com/..",
            "a.com/x\0",
            "a.com/com1",
            "a.com/x/v2.0",
            "a_b.com/x",
        ] {
            assert!(ModulePath::parse(bad).is_err(), "{bad}");
        }
        for bad in [
            "github.com/Azure",
            "github.com/!Azure",
            "github.com/!",
            "github.com/a!1",
            "github.com/é",
            "github.com/!!a",
        ] {
            assert_eq!(
                ModulePath::from_escaped(bad),
                Err(PathError::Escaping),
                "{bad}"
            );
        }
    }
}
