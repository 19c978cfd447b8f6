//! Semantic versions as Go reads them (`golang.org/x/mod/semver`): with a leading `v`, numbers of any length.

use std::cmp::Ordering;

/// The parts of a version; `v1` and `v1.2` are short for `v1.0.0` and `v1.2.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Major number.
    pub major: &'a str,
    /// Minor number.
    pub minor: &'a str,
    /// Patch number.
    pub patch: &'a str,
    /// `-…` or nothing.
    pub prerelease: &'a str,
    /// `+…` or nothing.
    pub build: &'a str,
    /// Whether minor and patch were written.
    pub full: bool,
}

/// Reads a version.
pub fn parse(text: &str) -> Option<Parts<'_>> {
    let rest = text.strip_prefix('v')?;
    let (major, rest) = number(rest)?;
    let short = |minor, patch| Parts {
        major,
        minor,
        patch,
        prerelease: "",
        build: "",
        full: false,
    };
    if rest.is_empty() {
        return Some(short("0", "0"));
    }
    let (minor, rest) = number(rest.strip_prefix('.')?)?;
    if rest.is_empty() {
        return Some(short(minor, "0"));
    }
    let (patch, rest) = number(rest.strip_prefix('.')?)?;
    let (rest, build) = rest.find('+').map_or((rest, ""), |at| rest.split_at(at));
    let good = |part: &str, numeric_zero: bool| {
        part.split('.').all(|id| {
            !id.is_empty()
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !(numeric_zero
                    && id.len() > 1
                    && id.starts_with('0')
                    && id.bytes().all(|byte| byte.is_ascii_digit()))
        })
    };
    if !rest.is_empty() && !good(rest.strip_prefix('-')?, true)
        || !build.is_empty() && !good(&build[1..], false)
    {
        return None;
    }
    Some(Parts {
        major,
        minor,
        patch,
        prerelease: rest,
        build,
        full: true,
    })
}

/// The canonical form of a version (`module.CanonicalVersion`): all three numbers, no build metadata but
/// `+incompatible`.
pub fn canonical(text: &str) -> Option<String> {
    let Parts {
        major,
        minor,
        patch,
        prerelease,
        build,
        ..
    } = parse(text)?;
    let build = Some(build).filter(|build| *build == "+incompatible");
    let build = build.unwrap_or_default();
    Some(format!("v{major}.{minor}.{patch}{prerelease}{build}"))
}

/// A decimal number without leading zeros, and what follows.
pub(crate) fn number(text: &str) -> Option<(&str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    (digits > 0 && (digits == 1 || !number.starts_with('0'))).then_some((number, rest))
}

/// Compares by precedence (semver 2.0.0, 11): build metadata does not count; what is invalid is lowest.
pub fn compare(a: &str, b: &str) -> Ordering {
    match (parse(a), parse(b)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(a), Some(b)) => compare_parts(&a, &b),
    }
}

/// Compares versions that were read before: for long lists, where [`compare`] would read each of them again and again.
/// Build metadata does not count.
pub fn compare_parts(a: &Parts<'_>, b: &Parts<'_>) -> Ordering {
    compare_number(a.major, b.major)
        .then_with(|| compare_number(a.minor, b.minor))
        .then_with(|| compare_number(a.patch, b.patch))
        .then_with(|| compare_prerelease(a.prerelease, b.prerelease))
}

fn compare_number(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn compare_prerelease(a: &str, b: &str) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut left, mut right) = (a[1..].split('.'), b[1..].split('.'));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => {
                let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
                let order = match (digits(x), digits(y)) {
                    (true, true) => compare_number(x, y),
                    (true, false) => Ordering::Less,
                    (false, true) => Ordering::Greater,
                    (false, false) => x.cmp(y),
                };
                if order != Ordering::Equal {
                    return order;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order() {
        let sorted = [
            "bad",
            "v0.0.0-1",
            "v0.0.0",
            "v1.0.0-0",
            "v1.0.0-alpha",
            "v1.0.0-alpha.1",
            "v1.0.0-alpha.beta",
            "v1.0.0-beta.2",
            "v1.0.0-beta.11",
            "v1.0.0-rc.1",
            "v1.0.0",
            "v1.0.1",
            "v1.2",
            "v1.10.0",
            "v2.0.0",
            "v99999999999999999999999.0.0",
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} {b}");
            }
        }
        assert_eq!(compare("v1.0.0+a", "v1.0.0"), Ordering::Equal);
        for bad in [
            "",
            "v",
            "1.0.0",
            "v01.0.0",
            "v1.0.0-",
            "v1.0.0-01",
            "v1.0.0-a..b",
            "v1.0.0+",
            "v1.2-a",
            "v1.2.3.4",
            "v1.0.0-é",
            "v1.+2",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
        assert!(parse("v1.0.0-0a.b-c+01.x").is_some());
    }
}
