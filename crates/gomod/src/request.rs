//! The paths of the module proxy protocol (protocol.md section 1), parsed once into types.

use std::{borrow::Cow, fmt};

use crate::{ModulePath, PathError, Version, VersionError, escape};

/// One request of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `…/@v/list`.
    List(ModulePath),
    /// `…/@latest`.
    Latest(ModulePath),
    /// `…/@v/VERSION.info` of a canonical version that the path may have.
    Info(ModulePath, Version),
    /// `…/@v/QUERY.info` of anything else.
    Query(ModulePath, Query),
    /// `…/@v/VERSION.mod`.
    Mod(ModulePath, Version),
    /// `…/@v/VERSION.zip`.
    Zip(ModulePath, Version),
    /// `/sumdb/NAME/…`.
    SumDb {
        /// Which database.
        name: DatabaseName,
        /// What is asked of it.
        ask: SumDbAsk,
    },
}

/// The name of a checksum database as asked for: host and perhaps a path, not checked to be one that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseName(Box<str>);

impl DatabaseName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is asked of a checksum database (protocol.md 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SumDbAsk {
    /// Whether it is served here.
    Supported,
    /// Its newest tree head.
    Latest,
    /// The record of a version.
    Lookup(ModulePath, Version),
    /// A tile, as the path `tile/8/…`; its form is for the log's own rules to check.
    Tile(String),
}

/// Something that must be resolved to a version: a branch, a commit, `v1`, `latest`.
///
/// One path element of characters that file names may have; ASCII only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query(Box<str>);

/// How a query is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKind {
    /// `latest`, or `upgrade`, which is the same to who has no version yet: from the list.
    Latest,
    /// `patch`: of the version that the client has, which it does not say.
    Patch,
    /// `v1` or `v1.2`: the highest with that beginning, from the list.
    Prefix,
    /// A revision: asked of whoever has the repository.
    Revision,
}

impl Query {
    /// The query.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The escaped form.
    pub fn escaped(&self) -> Cow<'_, str> {
        escape::escape(&self.0)
    }

    /// How it is resolved.
    pub fn kind(&self) -> QueryKind {
        match crate::semver::parse(&self.0) {
            _ if matches!(&*self.0, "latest" | "upgrade") => QueryKind::Latest,
            _ if &*self.0 == "patch" => QueryKind::Patch,
            Some(parts) if !parts.full => QueryKind::Prefix,
            _ => QueryKind::Revision,
        }
    }
}

impl From<Query> for String {
    fn from(it: Query) -> Self {
        it.0.into()
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a path is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It cannot be decoded.
    #[error("{0}")]
    Encoding(&'static str),
    /// No endpoint of the protocol.
    #[error(
        "no such endpoint: a module is asked as /MODULE/@v/list, /MODULE/@latest or /MODULE/@v/VERSION.{{info,mod,zip}}"
    )]
    NotFound,
    /// The module path is none.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The version is none.
    #[error(transparent)]
    Version(VersionError),
    /// `.mod` and `.zip` exist for canonical versions alone.
    #[error(
        "{0:?} is not a canonical version of this module; ask its .info first, which says the version it stands for"
    )]
    NotCanonical(String),
    /// No tile path.
    #[error("not a tile of the checksum database")]
    Tile,
}

impl Request {
    /// Parses the undecoded path of a URL, from its first `/`.
    pub fn parse(raw: &str) -> Result<Self, RequestError> {
        let decoded = decode(raw)?;
        let path = decoded.strip_prefix('/').ok_or(RequestError::NotFound)?;
        if let Some(rest) = path.strip_prefix("sumdb/") {
            return sum_db(rest);
        }
        if let Some(module) = path.strip_suffix("/@latest") {
            return Ok(Self::Latest(ModulePath::from_escaped(module)?));
        }
        let (module, file) = path.split_once("/@v/").ok_or(RequestError::NotFound)?;
        let (stem, kind) = if file == "list" {
            ("", "list")
        } else {
            file.rsplit_once('.').ok_or(RequestError::NotFound)?
        };
        if !matches!(kind, "list" | "info" | "mod" | "zip") {
            return Err(RequestError::NotFound);
        }
        let module = ModulePath::from_escaped(module)?;
        if file == "list" {
            return Ok(Self::List(module));
        }
        let text = escape::unescape(stem)
            .filter(|text| is_query(text))
            .ok_or(RequestError::Version(VersionError::Disallowed))?;
        let canonical = Version::parse(&text)
            .ok()
            .filter(|version| version.check_major(&module).is_ok());
        match (kind, canonical) {
            ("info", Some(version)) => Ok(Self::Info(module, version)),
            ("info", None) => Ok(Self::Query(module, Query(text.into_boxed_str()))),
            ("mod", Some(version)) => Ok(Self::Mod(module, version)),
            ("zip", Some(version)) => Ok(Self::Zip(module, version)),
            _ => Err(RequestError::NotCanonical(text)),
        }
    }
}

/// Decodes percent-escapes once. `+` means plus. What no path of the protocol has is refused.
fn decode(raw: &str) -> Result<Cow<'_, str>, RequestError> {
    let plain = |byte: u8| matches!(byte, 0x21..=0x7e) && byte != b'\\';
    if raw.bytes().all(|byte| byte != b'%' && plain(byte)) {
        return Ok(Cow::Borrowed(raw));
    }
    let mut decoded = String::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let mut digit = || {
                bytes
                    .next()
                    .and_then(|digit| char::from(digit).to_digit(16))
            };
            let (Some(high), Some(low)) = (digit(), digit()) else {
                return Err(RequestError::Encoding(
                    "a broken percent-escape in the path",
                ));
            };
            match u8::try_from(high * 16 + low).unwrap_or(0) {
                b'/' => return Err(RequestError::Encoding("an escaped slash in the path")),
                byte => byte,
            }
        } else {
            byte
        };
        // A space may stand in a query, nothing else outside of printable ASCII.
        if !plain(byte) && byte != b' ' {
            return Err(RequestError::Encoding(
                "a character in the path that no module path, version or query has",
            ));
        }
        decoded.push(char::from(byte));
    }
    Ok(Cow::Owned(decoded))
}

/// The rule for versions in file names: `module.CheckFilePath` for one element, without `!`.
fn is_query(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"#$%&()+,-.=@[]^_{}~ ".contains(&byte);
    let short = text.split('.').next().unwrap_or_default();
    !text.is_empty()
        && text.bytes().all(good)
        && !text.ends_with('.')
        && !text.bytes().all(|byte| byte == b'.')
        && !crate::path::is_windows_device(short)
}

fn sum_db(rest: &str) -> Result<Request, RequestError> {
    let request = |name: &str, ask| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte);
        let named = !name.is_empty()
            && name.bytes().all(good)
            && name
                .split('/')
                .all(|element| !matches!(element, "" | "." | ".."));
        if named {
            Ok(Request::SumDb {
                name: DatabaseName(name.into()),
                ask,
            })
        } else {
            Err(RequestError::NotFound)
        }
    };
    if let Some(name) = rest.strip_suffix("/supported") {
        return request(name, SumDbAsk::Supported);
    }
    if let Some(name) = rest
        .strip_suffix("/latest")
        .filter(|name| !name.contains("/lookup/") && !name.contains("/tile/"))
    {
        return request(name, SumDbAsk::Latest);
    }
    if let Some((name, asked)) = rest.split_once("/lookup/") {
        let (module, version) = asked.rsplit_once('@').ok_or(RequestError::NotFound)?;
        let (module, version) = (
            ModulePath::from_escaped(module)?,
            Version::from_escaped(version).map_err(RequestError::Version)?,
        );
        return request(name, SumDbAsk::Lookup(module, version));
    }
    let at = rest.find("/tile/").ok_or(RequestError::NotFound)?;
    let tile = &rest[at + 1..];
    let good = |byte: u8| {
        byte.is_ascii_digit()
            || byte == b'x'
            || byte == b'.'
            || byte == b'/'
            || b"tiledatap".contains(&byte)
    };
    if tile.len() > 100 || !tile.bytes().all(good) || tile.contains("..") {
        return Err(RequestError::Tile);
    }
    request(&rest[..at], SumDbAsk::Tile(tile.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let text = |path: &str| match Request::parse(path) {
            Ok(Request::List(m)) => format!("list {m}"),
            Ok(Request::Latest(m)) => format!("latest {m}"),
            Ok(Request::Info(m, v)) => format!("info {m} {v}"),
            Ok(Request::Query(m, q)) => format!("query {m} {q} {:?}", q.kind()),
            Ok(Request::Mod(m, v)) => format!("mod {m} {v}"),
            Ok(Request::Zip(m, v)) => format!("zip {m} {v}"),
            Ok(Request::SumDb { name, ask }) => format!("sumdb {} {ask:?}", name.as_str()),
            Err(error) => format!("error {error:?}"),
        };
        for (path, want) in [
            (
                "/github.com/pkg/errors/@v/list",
                "list github.com/pkg/errors",
            ),
            (
                "/github.com/!burnt!sushi/toml/@latest",
                "latest github.com/BurntSushi/toml",
            ),
            (
                "/github.com/%21burnt%21sushi/toml/@v/v1.3.2.info",
                "info github.com/BurntSushi/toml v1.3.2",
            ),
            ("/a.com/m/@v/v1.0.0-!r!c1.mod", "mod a.com/m v1.0.0-RC1"),
            (
                "/a.com/m/@v/v2.0.0+incompatible.zip",
                "zip a.com/m v2.0.0+incompatible",
            ),
            (
                "/a.com/m/@v/v2.0.0%2Bincompatible.zip",
                "zip a.com/m v2.0.0+incompatible",
            ),
            ("/a.com/m/@v/master.info", "query a.com/m master Revision"),
            ("/a.com/m/@v/v1.info", "query a.com/m v1 Prefix"),
            ("/a.com/m/@v/latest.info", "query a.com/m latest Latest"),
            ("/a.com/m/@v/upgrade.info", "query a.com/m upgrade Latest"),
            ("/a.com/m/@v/patch.info", "query a.com/m patch Patch"),
            ("/a.com/m/@v/patches.info", "query a.com/m patches Revision"),
            ("/a.com/m/@v/v2.0.0.info", "query a.com/m v2.0.0 Revision"),
            (
                "/a.com/m/@v/v1.2.3+meta.info",
                "query a.com/m v1.2.3+meta Revision",
            ),
            ("/a.com/m/@v/x%20y.info", "query a.com/m x y Revision"),
            (
                "/golang.org/toolchain/@v/v0.0.1-go1.25.5.linux-amd64.zip",
                "zip golang.org/toolchain v0.0.1-go1.25.5.linux-amd64",
            ),
            (
                "/sumdb/sum.golang.org/supported",
                "sumdb sum.golang.org Supported",
            ),
            (
                "/sumdb/sum.corp.example/go/latest",
                "sumdb sum.corp.example/go Latest",
            ),
            (
                "/sumdb/s.example/tile/8/0/x001/234.p/5",
                "sumdb s.example Tile(\"tile/8/0/x001/234.p/5\")",
            ),
        ] {
            assert_eq!(text(path), want, "{path}");
        }
        assert!(
            text("/sumdb/s.example/lookup/github.com/!burnt!sushi/toml@v1.0.0")
                .contains("BurntSushi")
        );
        for bad in [
            "",
            "/",
            "/x",
            "/a.com/m/@v/",
            "/a.com/m/@v/v1.0.0",
            "/a.com/m/@v/v1.0.0.exe",
            "/a.com/M/@v/list",
            "/a.com/m/@v/master.zip",
            "/a.com/m/@v/v1.mod",
            "/a.com/m/@v/a/b.info",
            "/a.com%2Fm/@v/list",
            "/a.com/m/@v/%00.info",
            "/a.com/m/@v/%zz.info",
            "/a.com/m/@v/%2",
            "/../../etc/passwd",
            "/a.com/../b/@v/list",
            "/a.com/m/@v/..%2f..%2fx.info",
            "//etc/passwd",
            "/a.com/m/@v/..info",
            "/a.com/m/@v/con.info",
            "/a.com/m/@v/v1.0.0\\.info",
            "/sumdb/",
            "/sumdb/x",
            "/sumdb//latest",
            "/sumdb/../latest",
            "/sumdb/s/tile/../../x",
            "/sumdb/s/lookup/a.com/m",
            "/sumdb/s/lookup/a.com/m@master",
            "/a.com/m/@v/v2.0.0.mod",
            "/a.com/é/@v/list",
            "/a.com/m/@v/!.info",
        ] {
            assert!(
                Request::parse(bad).is_err(),
                "{bad} {:?}",
                Request::parse(bad)
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(path in "/?(sumdb/)?([a-z.!%/@0-9A-F+~-]|v1|/@v/|list|\\.info){0,40}") {
            let _ = Request::parse(&path);
        }
    }
}
