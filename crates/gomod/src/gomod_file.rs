//! `go.mod` files, read as `golang.org/x/mod/modfile` reads them.

mod directives;
mod syntax;
mod words;

use crate::{ModulePath, Version, semver, split_major};

/// The largest `go.mod`, in bytes (protocol.md section 6).
pub const MAX_BYTES: usize = 16 << 20;

/// What a `go.mod` says. Bytes that are not UTF-8 are read as U+FFFD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GoMod {
    /// The `module` line; a file may lack it.
    pub module: Option<Module>,
    /// The `go` line's version: `1.23`, `1.23.4` or `1.23rc1`.
    pub go: Option<String>,
    /// The `toolchain` line's name.
    pub toolchain: Option<String>,
    /// `require` lines.
    pub require: Vec<Require>,
    /// `exclude` lines.
    pub exclude: Vec<Exclude>,
    /// `replace` lines.
    pub replace: Vec<Replace>,
    /// `retract` lines.
    pub retract: Vec<Retraction>,
}

/// The `module` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The path as written, which need not be a valid [`ModulePath`].
    pub path: String,
    /// What its comment says behind `Deprecated:`, or nothing.
    pub deprecated: String,
}

/// A `require` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Require {
    /// The path as written.
    pub path: String,
    /// The version, made canonical.
    pub version: Version,
    /// Whether it is marked `// indirect`.
    pub indirect: bool,
}

/// An `exclude` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclude {
    /// The path as written.
    pub path: String,
    /// The version, made canonical.
    pub version: Version,
}

/// A `replace` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replace {
    /// The path as written.
    pub path: String,
    /// The version that is replaced; none for all.
    pub version: Option<Version>,
    /// A module's path, or a folder's if there is no `new_version`.
    pub new: String,
    /// The version that replaces it.
    pub new_version: Option<Version>,
}

/// An interval of retracted versions, both ends included; a single version is both ends.
///
/// The ends are as written, and need not be versions: such a low end is below all, such a high end covers nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retraction {
    /// Lowest.
    pub low: String,
    /// Highest.
    pub high: String,
    /// The comment that says why, or nothing.
    pub rationale: String,
}

/// Why a file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("go.mod:{line}: {why}")]
pub struct GoModError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

impl GoMod {
    /// Reads the file of a dependency (`modfile.ParseLax`): what matters only in the main module and what is not
    /// known is passed over, so there is no toolchain, `exclude` or `replace`.
    pub fn parse_lax(file: &[u8]) -> Result<Self, GoModError> {
        Self::read(file, false)
    }

    /// Reads the file of a main module (`modfile.Parse`): every line must be known and right.
    pub fn parse(file: &[u8]) -> Result<Self, GoModError> {
        Self::read(file, true)
    }

    fn read(file: &[u8], strict: bool) -> Result<Self, GoModError> {
        if file.len() > MAX_BYTES {
            return Err(GoModError {
                line: 1,
                why: "larger than 16 MiB",
            });
        }
        directives::read(&syntax::parse(&words::text_of(file))?, strict)
    }

    /// Whether the `go` line asks for `major.minor` of the language or later; without one, no.
    pub fn language_at_least(&self, major: u32, minor: u32) -> bool {
        self.go
            .as_deref()
            .is_some_and(|go| words::language_at_least(go, &major.to_string(), &minor.to_string()))
    }
}

impl Retraction {
    /// Whether `version` is retracted by this.
    pub fn covers(&self, version: &Version) -> bool {
        semver::compare(&self.low, version.as_str()).is_le()
            && semver::compare(version.as_str(), &self.high).is_le()
    }
}

/// The retractions in a dependency's `go.mod`; none if it cannot be read.
pub fn retractions(file: &[u8]) -> Vec<Retraction> {
    GoMod::parse_lax(file).map_or_else(|_| Vec::new(), |file| file.retract)
}

/// Why a file cannot be the `go.mod` of a module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOfModule {
    /// It is a page for browsers.
    #[error("an HTML page: a login or error page in between?")]
    Page,
    /// It has no `module` line.
    #[error("go.mod: no module line")]
    NoModuleLine,
    /// Its `module` line is that of another major version.
    #[error("go.mod: module {0:?} is not of the same major version")]
    OtherMajor(String),
}

/// Checks that a file can be the `go.mod` of `path`, as the go command checks what it takes from version control: with a
/// `module` line of the same major version. The rest of the name may be another, since forks are used by `replace`; and
/// the rest of the file need not even parse: versions with such files are downloaded, and their hashes are in checksum
/// databases.
pub fn check_of(file: &[u8], path: &ModulePath) -> Result<(), NotOfModule> {
    let parsed = GoMod::parse_lax(file).ok().and_then(|file| file.module);
    let lines = [parsed.map(|module| module.path), module_path(file)];
    let mut other = None;
    for line in lines.into_iter().flatten().filter(|line| !line.is_empty()) {
        if is_of_major(&line, path) {
            return Ok(());
        }
        other.get_or_insert(line);
    }
    Err(other.map_or(NotOfModule::NoModuleLine, NotOfModule::OtherMajor))
}

/// Whether the major version of a `module` line is that of `path`.
fn is_of_major(line: &str, path: &ModulePath) -> bool {
    let ours = path.split_major().1;
    match split_major(line) {
        None => false,
        // Unversioned paths may replace those of gopkg.in, by an old mistake that go stands by (golang.org/issue/34254).
        Some(_) if ours.is_empty() && line.starts_with("gopkg.in/") => true,
        Some((_, theirs)) if ours.is_empty() => {
            let number = theirs.strip_suffix("-unstable").unwrap_or(theirs);
            matches!(number, "" | ".v0" | ".v1")
        }
        Some((_, theirs)) => theirs.get(1..) == ours.get(1..),
    }
}

/// Whether a file is a page for browsers, such as a login page that answers whatever is asked.
pub fn is_page(file: &[u8]) -> bool {
    let file = file.strip_prefix("\u{feff}".as_bytes()).unwrap_or(file);
    file.trim_ascii_start().starts_with(b"<")
}

/// The path on the first `module` line, however the rest of the file may look (`modfile.ModulePath`): all that the go
/// command reads of a file from version control before it takes it.
pub fn module_path(file: &[u8]) -> Option<String> {
    for line in file.split(|byte| *byte == b'\n') {
        let comment = line.windows(2).position(|pair| pair == b"//");
        let line = line[..comment.unwrap_or(line.len())].trim_ascii();
        let Some(rest) = line.strip_prefix(b"module") else {
            continue;
        };
        let path = rest.trim_ascii();
        if path.len() == rest.len() || path.is_empty() {
            continue;
        }
        let text = String::from_utf8_lossy(path);
        return match text.chars().next() {
            Some('`') => Some(
                text.strip_prefix('`')?
                    .strip_suffix('`')
                    .filter(|inside| !inside.contains('`'))?
                    .to_owned(),
            ),
            // Its escapes are read as in any go.mod; with the line alone, nothing else can be wrong.
            Some('"') => {
                let alone = format!("module {text}\n");
                GoMod::parse_lax(alone.as_bytes())
                    .ok()?
                    .module
                    .map(|module| module.path)
            }
            _ => Some(text.into_owned()),
        };
    }
    None
}

/// The `go.mod` of a module that has none (protocol.md 1.4). A path that is valid needs no quotes.
pub fn synthesized(path: &ModulePath) -> Vec<u8> {
    format!("module {path}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_blocks_and_intervals() {
        let file = b"module a.com/m // x\n\ngo 1.20\n\nretract v1.0.0 // bad\nretract [v1.2.0, v1.3.0]\nretract (\n\tv1.5.0\n\t\"v1.6.0\" // why\n\t[v1.7.0,v1.7.9]\n\tnonsense\n)\n\
            require (\n\tb.com/x v1.9.0\n)\nretract(\nv1.8.0\n)\n";
        let found = retractions(file);
        assert_eq!(found.len(), 7);
        assert_eq!(found[0].rationale, "bad");
        let retracted = |version: &str| {
            found
                .iter()
                .any(|r| r.covers(&Version::parse(version).unwrap()))
        };
        for yes in [
            "v1.0.0", "v1.2.0", "v1.2.5", "v1.3.0", "v1.5.0", "v1.6.0", "v1.7.3", "v1.8.0",
        ] {
            assert!(retracted(yes), "{yes}");
        }
        for no in ["v1.0.1", "v1.1.0", "v1.3.1", "v1.9.0"] {
            assert!(!retracted(no), "{no}");
        }
        assert!(retractions(b"\xff\xfe").is_empty());
        let below_all = retractions(b"retract [x, v1.0.0]");
        assert!(below_all[0].covers(&Version::parse("v0.1.0").unwrap()));
    }

    #[test]
    fn the_file_of_another_module_is_found_out() {
        let check =
            |path: &str, file: &str| check_of(file.as_bytes(), &ModulePath::parse(path).unwrap());
        for (path, file) in [
            ("a.com/m", "module a.com/m\n"),
            (
                "a.com/m",
                "module fork.example/other // a fork\n\ngo 1.20\n",
            ),
            ("a.com/m", "// old\nmodule \"a.com/m\"\nfrobnicate x\n"),
            ("a.com/m", "module gopkg.in/yaml.v2\n"),
            ("a.com/m/v2", "module fork.example/m/v2\n"),
            ("gopkg.in/yaml.v2", "module gopkg.in/yaml.v2\n"),
            ("gopkg.in/yaml.v2", "module fork.example/yaml/v2\n"),
            ("gopkg.in/a.v1", "module gopkg.in/a.v1\n"),
            ("a.com/m", "module (\n\ta.com/m\n)\n"),
            ("a.com/m/v2", "module (\n\ta.com/m/v2\n)\n"),
            // What go downloads, though it cannot read it.
            ("a.com/m", "module a.com/m\ngo foo\n"),
            ("a.com/m", "module a.com/m\ngo \"1.24\"\n"),
            ("a.com/m", "module a.com/m\ngo v1.24\n"),
            ("a.com/m", "module a.com/m\ngo 1.24\ngo 1.20\n"),
            ("a.com/m", "module a.com/m\nrequire (\n"),
            ("a.com/m", "module a.com/m\nmodule a.com/m\n"),
            ("a.com/m", "module `a.com/m`\n"),
            ("a.com/m/v2", "module `a.com/m/v2`\n"),
            ("a.com/m", "module a.com/m\n\0\n"),
        ] {
            assert_eq!(check(path, file), Ok(()), "{path}: {file}");
        }
        for (path, file) in [
            ("a.com/m", ""),
            ("a.com/m", "go 1.20\n"),
            (
                "a.com/m",
                "<!DOCTYPE html>\n<html><body>Log in</body></html>\n",
            ),
            ("a.com/m", "<html>\n<p>module x</p>\n"),
            ("a.com/m/v2", "module a.com/m\ngo foo\n"),
            ("a.com/m", "module `a.com/m/v2`\n"),
            ("a.com/m", "module \"a.com/m\ngo 1.21\n"),
            ("a.com/m", "module a.com/m/v2\n"),
            ("a.com/m/v2", "module a.com/m\n"),
            ("a.com/m/v2", "module a.com/m/v3\n"),
            ("gopkg.in/yaml.v2", "module gopkg.in/yaml.v3\n"),
            ("gopkg.in/yaml.v2", "module a.com/yaml\n"),
        ] {
            assert!(check(path, file).is_err(), "{path}: {file}");
        }
    }

    #[test]
    fn pages() {
        for page in [
            "<html>",
            " \r\n<!DOCTYPE html>",
            "\u{feff}<p>\nmodule a.com/m\n",
        ] {
            assert!(is_page(page.as_bytes()), "{page}");
        }
        for file in ["", "module a.com/m\n", "// <html>\nmodule a.com/m\n"] {
            assert!(!is_page(file.as_bytes()), "{file}");
        }
    }

    #[test]
    fn module_lines() {
        for (file, want) in [
            ("module a.com/m\n", Some("a.com/m")),
            ("// x\n\nmodule   a.com/m // why\r\n", Some("a.com/m")),
            ("module \"a.com/m\"", Some("a.com/m")),
            ("module \"a.com/\\x6d\"", Some("a.com/m")),
            ("module `a.com/m`", Some("a.com/m")),
            ("module \"a.com/m", None),
            ("modulea.com/m", None),
            ("module\nmodule b.com", Some("b.com")),
            ("go 1.20\n?? junk\nmodule a.com/m", Some("a.com/m")),
            ("", None),
        ] {
            assert_eq!(module_path(file.as_bytes()).as_deref(), want, "{file}");
        }
    }

    #[test]
    fn everything_else() {
        let file = "// Deprecated: use b.com/m\n// instead.\n//\n// More.\nmodule \"a.com/\\u006d\"\r\n\r\ngo 1.24rc1\ntoolchain go1.24.1\n\
            require b.com/m v1 // indirect\nreplace c.com/x => ../x\nreplace d.com/y v1.0.0 => e.com/y v1.2.3\nexclude b.com/m v1.1.0\n";
        let read = GoMod::parse(file.as_bytes()).unwrap();
        let module = read.module.as_ref().unwrap();
        assert_eq!(module.path, "a.com/m");
        assert_eq!(module.deprecated, "use b.com/m\ninstead.");
        assert_eq!(read.toolchain.as_deref(), Some("go1.24.1"));
        assert_eq!(read.require[0].version.as_str(), "v1.0.0");
        assert!(read.require[0].indirect);
        assert_eq!((read.replace.len(), read.exclude.len()), (2, 1));
        assert!(read.language_at_least(1, 24) && !read.language_at_least(1, 25));
        let lax = GoMod::parse_lax(file.as_bytes()).unwrap();
        assert_eq!((lax.toolchain, lax.replace.len()), (None, 0));

        let error = GoMod::parse_lax(b"module a.com/m\n\ngo x\n").unwrap_err();
        assert_eq!(error.line, 3);
        assert!(GoMod::parse_lax(&b"a\n".repeat(300_000)).is_err());
        let path = ModulePath::parse("a.com/m").unwrap();
        assert_eq!(synthesized(&path), b"module a.com/m\n");
    }
}
