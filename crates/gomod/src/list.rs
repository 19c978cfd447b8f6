//! `list`: the tagged versions of a module (protocol.md 1.2).

use crate::{ModulePath, Version, semver};

/// What an upstream's list says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedList {
    /// Tagged versions the path may have: sorted, each once.
    pub versions: Vec<Version>,
    /// Pseudo-versions, which no list should have: sorted by time, then precedence.
    pub pseudo: Vec<Version>,
}

/// Reads a list as the client does: CRLF, blank and junk lines and a second field are tolerated; versions
/// that the path cannot have are dropped.
pub fn parse(body: &[u8], path: &ModulePath) -> ParsedList {
    let words = body.split(|byte| *byte == b'\n').filter_map(|line| {
        std::str::from_utf8(line)
            .ok()?
            .split_ascii_whitespace()
            .next()
    });
    from_names(words, path)
}

/// The same from bare version texts.
pub fn from_names<'a>(names: impl Iterator<Item = &'a str>, path: &ModulePath) -> ParsedList {
    let valid = names
        .filter_map(|name| Version::parse(name).ok())
        .filter(|version| version.check_major(path).is_ok());
    let (mut pseudo, mut versions): (Vec<_>, Vec<_>) = valid.partition(Version::is_pseudo);
    versions.sort_unstable();
    versions.dedup();
    let time = |version: &Version| version.pseudo().map(|pseudo| pseudo.time.to_owned());
    pseudo.sort_by(|a, b| time(a).cmp(&time(b)).then_with(|| a.cmp(b)));
    pseudo.dedup();
    ParsedList { versions, pseudo }
}

/// Writes a list: one version a line.
pub fn format<'a>(versions: impl IntoIterator<Item = &'a Version>) -> Vec<u8> {
    let mut body = Vec::new();
    for version in versions {
        body.extend_from_slice(version.as_str().as_bytes());
        body.push(b'\n');
    }
    body
}

/// The version that `latest` means: the highest release, else the highest pre-release (protocol.md 1.3).
/// `versions` need not be sorted.
pub fn latest<'a>(versions: impl Iterator<Item = &'a Version> + Clone) -> Option<&'a Version> {
    versions
        .clone()
        .filter(|version| !version.is_prerelease())
        .max()
        .or_else(|| versions.max())
}

/// The version that the query `v1` or `v1.2` means: the latest of those with that beginning. Pre-releases of `v1.2.0` are
/// below `v1.2`, so go does not choose them.
pub fn latest_with_prefix<'a>(
    prefix: &str,
    versions: impl Iterator<Item = &'a Version> + Clone,
) -> Option<&'a Version> {
    let matches = move |version: &&Version| {
        let rest = version.as_str().strip_prefix(prefix);
        rest.is_some_and(|rest| rest.starts_with('.'))
            && semver::compare(version.as_str(), prefix).is_ge()
    };
    latest(versions.filter(matches))
}

/// The version whose go.mod decides whether `+incompatible` ones count: the highest of the others, if there are both kinds.
/// If it has a go.mod, they do not (protocol.md 2.3). `versions` need not be sorted.
pub fn decides_incompatible<'a>(
    versions: impl Iterator<Item = &'a Version> + Clone,
) -> Option<&'a Version> {
    if !versions.clone().any(Version::is_incompatible) {
        return None;
    }
    versions.filter(|version| !version.is_incompatible()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerant_and_filtered() {
        let path = ModulePath::parse("a.com/m").unwrap();
        let body = b"v1.10.0\r\n\nv1.2.0 2024-05-01T12:00:00Z\njunk\nv1\nv2.0.0\nv2.0.0+incompatible\nv1.2.0\n\xff\xfe\nv0.0.0-20200101000000-abcdefabcdef\n\
            v0.0.0-20190101000000-bbbbbbbbbbbb\nv1.11.0-rc.1\0\0\nv1.11.0-rc.1\n";
        let parsed = parse(body, &path);
        assert_eq!(
            format(&parsed.versions),
            b"v1.2.0\nv1.10.0\nv1.11.0-rc.1\nv2.0.0+incompatible\n"
        );
        assert_eq!(
            parsed.pseudo.last().unwrap().as_str(),
            "v0.0.0-20200101000000-abcdefabcdef"
        );
        assert_eq!(
            latest(parsed.versions.iter()).unwrap().as_str(),
            "v2.0.0+incompatible"
        );
        assert_eq!(
            latest_with_prefix("v1", parsed.versions.iter())
                .unwrap()
                .as_str(),
            "v1.10.0"
        );
        assert_eq!(latest_with_prefix("v1.1", parsed.versions.iter()), None);
        assert_eq!(parse(b"", &path), ParsedList::default());
    }

    /// As `go list -m a.com/m@QUERY` says.
    #[test]
    fn a_beginning_means_versions_from_its_zero_on() {
        let path = ModulePath::parse("a.com/m").unwrap();
        let body = b"v0.1.0-alpha\nv0.1.0\nv1.0.0-rc.1\nv1.1.0-rc.1\nv1.2.1-rc.1\nv2.0.0-pre+incompatible\nv3.0.0-pre+incompatible\nv3.0.1-pre+incompatible\n";
        let versions = parse(body, &path).versions;
        for (query, chosen) in [
            ("v0", Some("v0.1.0")),
            ("v0.1", Some("v0.1.0")),
            ("v1", Some("v1.2.1-rc.1")),
            ("v1.0", None),
            ("v1.1", None),
            ("v1.2", Some("v1.2.1-rc.1")),
            ("v1.21", None),
            ("v2", None),
            ("v2.0", None),
            ("v3", Some("v3.0.1-pre+incompatible")),
        ] {
            let found = latest_with_prefix(query, versions.iter()).map(Version::as_str);
            assert_eq!(found, chosen, "{query}");
        }
    }

    #[test]
    fn the_highest_compatible_version_decides() {
        let path = ModulePath::parse("a.com/m").unwrap();
        for (body, decides) in [
            (
                "v1.0.0\nv1.1.0-rc.1\nv2.0.0+incompatible\n",
                Some("v1.1.0-rc.1"),
            ),
            ("v1.0.0\nv1.1.0\n", None),
            ("v2.0.0+incompatible\n", None),
            ("", None),
        ] {
            let versions = parse(body.as_bytes(), &path).versions;
            let found = decides_incompatible(versions.iter()).map(Version::as_str);
            assert_eq!(found, decides, "{body}");
        }
    }
}
