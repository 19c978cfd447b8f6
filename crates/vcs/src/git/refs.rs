//! What a repository's branches and tags point at.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gomod::{Version, semver};
use sha2::{Digest, Sha256};

use crate::DirectError;

/// Most branches and tags, and the bytes of their names.
const MAX_REFS: usize = 1_000_000;
const MAX_BYTES: usize = 128 << 20;

pub(crate) const TAGS: &str = "refs/tags/";
pub(crate) const HEADS: &str = "refs/heads/";

/// `HEAD`, branches and tags with the commits (rarely: other objects) they stand for; sorted by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Refs(Vec<(Box<str>, Box<str>)>, TagObjects);

/// The objects of annotated tags, with the full names of the tags; sorted.
type TagObjects = Vec<(Box<str>, Box<str>)>;

/// Reads the lines of `ls-remote` as they come.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    refs: Vec<(Box<str>, Box<str>)>,
    tag_objects: TagObjects,
    bytes: usize,
}

impl Reader {
    /// Takes a line without its end. Anything but `HEAD`, branches and tags is passed over.
    pub(crate) fn line(&mut self, line: &[u8]) -> Result<(), DirectError> {
        // Names that are not UTF-8 can be asked by nobody.
        let Ok(line) = std::str::from_utf8(line) else {
            return Ok(());
        };
        let mut fields = line.split_ascii_whitespace();
        let (Some(hash), Some(name), None) = (fields.next(), fields.next(), fields.next()) else {
            return Ok(());
        };
        let wanted = name == "HEAD" || name.starts_with(TAGS) || name.starts_with(HEADS);
        let whole = name.strip_suffix("^{}").unwrap_or(name);
        if !wanted || !is_full_hash(hash) || !is_ref_name(whole) {
            return Ok(());
        }
        self.bytes += name.len() + hash.len();
        if self.refs.len() >= MAX_REFS || self.bytes > MAX_BYTES {
            let text = format!("the repository has more than {MAX_REFS} branches and tags");
            return Err(DirectError::too_large(text));
        }
        // An annotated tag comes twice, behind itself as `NAME^{}` with what it is about.
        if let Some(name) = name.strip_suffix("^{}") {
            match self.refs.last_mut() {
                Some((last, object)) if &**last == name => {
                    let tag = std::mem::replace(object, hash.into());
                    self.tag_objects.push((tag, name.into()));
                }
                _ => self.refs.push((name.into(), hash.into())),
            }
        } else {
            self.refs.push((name.into(), hash.into()));
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Refs {
        self.refs.sort();
        self.refs.dedup_by(|b, a| a.0 == b.0);
        self.tag_objects.sort();
        Refs(self.refs, self.tag_objects)
    }
}

impl Refs {
    /// What a full name stands for.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let at = self
            .0
            .binary_search_by(|(other, _)| (**other).cmp(name))
            .ok()?;
        Some(&self.0[at].1)
    }

    /// What a tag stands for.
    pub(crate) fn tag(&self, tag: &str) -> Option<&str> {
        self.get(&format!("{TAGS}{tag}"))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, hash)| (&**name, &**hash))
    }

    /// What `HEAD` stands for, if no branch and no tag does so too and `is_lost` says that it is not to be had.
    pub(crate) fn lost_head(&self, is_lost: impl Fn(&str) -> bool) -> Option<&str> {
        let hash = self.get("HEAD").filter(|hash| is_lost(hash))?;
        let mut others = self.iter().filter(|(name, _)| *name != "HEAD");
        others.all(|(_, other)| other != hash).then_some(hash)
    }

    /// The full name of an annotated tag by the beginning of its own hash, not that of its commit; `Err` if that is the
    /// beginning of several.
    pub(crate) fn tag_object(&self, beginning: &str) -> Result<Option<&str>, ()> {
        let from = self.1.partition_point(|(hash, _)| **hash < *beginning);
        let mut found = self.1[from..]
            .iter()
            .take_while(|(hash, _)| hash.starts_with(beginning));
        let Some((hash, name)) = found.next() else {
            return Ok(None);
        };
        if found.any(|(other, _)| other != hash) {
            return Err(());
        }
        Ok(Some(name))
    }

    /// The tags with this prefix, without `refs/tags/`, sorted.
    pub(crate) fn tags<'a>(
        &'a self,
        prefix: &str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let full = format!("{TAGS}{prefix}");
        let from = self.0.partition_point(|(name, _)| **name < *full);
        self.0[from..]
            .iter()
            .take_while(move |(name, _)| name.starts_with(&*full))
            .map(|(name, hash)| (&name[TAGS.len()..], &**hash))
    }

    /// What they take in memory, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let all = || self.0.iter().chain(&self.1);
        let texts = all().map(|(name, hash)| name.len() + hash.len());
        let places = all().count() * size_of::<(Box<str>, Box<str>)>();
        (texts.sum::<usize>() + places) as u64
    }

    /// Whether hashes are SHA-256.
    pub(crate) fn sha256(&self) -> bool {
        self.0.first().is_some_and(|(_, hash)| hash.len() == 64)
    }

    /// `RepoSum` of an origin: over everything.
    pub(crate) fn repo_sum(&self) -> String {
        sum("r1:", self.iter())
    }

    /// `TagSum` of an origin: over the tags with this prefix that versions may depend on.
    pub(crate) fn tag_sum(&self, prefix: &str) -> String {
        let folder = prefix.rfind('/').map_or(0, |at| at + 1);
        sum(
            "t1:",
            self.tags(prefix)
                .filter(|(tag, _)| is_origin_tag(&tag[folder..])),
        )
    }
}

/// Whether git itself would take a name of a reference (`git check-ref-format`). What a server tells goes into files of
/// ours, and onto command lines.
fn is_ref_name(name: &str) -> bool {
    let element = |element: &str| {
        !element.is_empty() && !element.starts_with('.') && !element.as_bytes().ends_with(b".lock")
    };
    let forbidden = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    name.split('/').all(element)
        && !name.contains(forbidden)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
}

/// Whether versions depend on a tag: a semantic version, maybe with build metadata, that is no pseudo-version.
fn is_origin_tag(tag: &str) -> bool {
    version_of(tag).is_some() && !Version::parse(tag).is_ok_and(|version| version.is_pseudo())
}

/// The version of a tag without its build metadata, if the tag has all three numbers.
pub(crate) fn version_of(tag: &str) -> Option<&str> {
    let parts = semver::parse(tag)?;
    parts.full.then(|| &tag[..tag.len() - parts.build.len()])
}

fn sum<'a>(kind: &str, refs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut hasher = Sha256::new();
    for (name, hash) in refs {
        let mut line = String::new();
        quote(&mut line, name);
        hasher.update(line);
        hasher.update(" ");
        hasher.update(hash);
        hasher.update("\n");
    }
    format!("{kind}{}", STANDARD.encode(hasher.finalize()))
}

/// Quotes as Go's `%q` does. Names of refs have no control characters or backslashes, by git's own rules.
fn quote(line: &mut String, name: &str) {
    line.push('"');
    for c in name.chars() {
        match c {
            '"' | '\\' => {
                line.push('\\');
                line.push(c);
            }
            // What Go takes for printable is close to this; names outside of it are of nobody's versions.
            '\u{7f}'..='\u{a0}' | '\u{ad}' => {
                let code = u32::from(c);
                let _ = if code < 0x80 {
                    write!(line, "\\x{code:02x}")
                } else {
                    write!(line, "\\u{code:04x}")
                };
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

/// Whether a text is a whole hash, SHA-1 or SHA-256.
pub(crate) fn is_full_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && is_hex(text)
}

/// Whether a text has hex digits alone, in lower case as git writes them.
pub(crate) fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&str, &str)]) -> Refs {
        let mut reader = Reader::default();
        for (digit, name) in lines {
            reader
                .line(format!("{}\t{name}", digit.repeat(40)).as_bytes())
                .unwrap();
        }
        reader.finish()
    }

    #[test]
    fn names_that_git_would_not_take() {
        for name in [
            "refs/tags/../../config",
            "refs/tags/v1..0",
            "refs/heads/.hidden",
            "refs/heads/a.lock",
            "refs/heads/a.lock/b",
            "refs/heads/a//b",
            "refs/heads/a/",
            "refs/heads/a.",
            "refs/heads/a@{1}",
            "refs/heads/a\\b",
            "refs/heads/a:b",
            "refs/heads/a*",
            "refs/heads/a\u{7}",
            "refs/heads/a^{}^{}",
        ] {
            let refs = read(&[("a", name)]);
            assert_eq!(refs.iter().count(), 0, "{name}");
        }
        let fine = read(&[("a", "refs/heads/ü@-{}"), ("b", "refs/tags/a/-b.c")]);
        assert_eq!(fine.iter().count(), 2);
    }

    #[test]
    fn lines() {
        let refs = read(&[
            ("a", "HEAD"),
            ("a", "refs/heads/main"),
            ("b", "refs/pull/1/head"),
            ("c", "refs/tags/v1.0.0"),
            ("d", "refs/tags/v1.0.0^{}"),
            ("e", "refs/tags/sub/v1.1.0"),
            ("e", "refs/tags/v1.1.0+meta"),
            ("e", "refs/tags/other"),
        ]);
        assert_eq!(refs.tag("v1.0.0"), Some(&*"d".repeat(40)));
        assert_eq!(refs.tag_object("ccccccc"), Ok(Some("refs/tags/v1.0.0")));
        assert_eq!(refs.tag_object("ddddddd"), Ok(None));
        let two = read(&[
            ("c", "refs/tags/v1"),
            ("d", "refs/tags/v1^{}"),
            ("c", "refs/tags/v2"),
            ("d", "refs/tags/v2^{}"),
            ("b", "refs/tags/v3"),
            ("d", "refs/tags/v3^{}"),
        ]);
        assert_eq!(two.tag_object("c"), Ok(Some("refs/tags/v1")));
        assert_eq!(two.tag_object(""), Err(()));
        assert_eq!(refs.get("refs/pull/1/head"), None);
        let names = |prefix: &str| {
            refs.tags(prefix)
                .map(|(tag, _)| tag.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names("v"), ["v1.0.0", "v1.1.0+meta"]);
        assert_eq!(names("sub/"), ["sub/v1.1.0"]);
        assert_ne!(refs.tag_sum("v1.0"), refs.tag_sum(""));
        // `other` is no version: it changes the repository's sum alone.
        let without = read(&[
            ("c", "refs/tags/v1.0.0"),
            ("d", "refs/tags/v1.0.0^{}"),
            ("e", "refs/tags/v1.1.0+meta"),
        ]);
        assert_eq!(refs.tag_sum("v"), without.tag_sum("v"));
        assert_ne!(refs.repo_sum(), without.repo_sum());
        for junk in [&b"\xff\xfe"[..], b"", b"x y", b"zz\trefs/heads/x", b"a b c"] {
            Reader::default().line(junk).unwrap();
        }
    }
}
