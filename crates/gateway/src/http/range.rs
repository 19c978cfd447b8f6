//! The `Range` request header (RFC 9110 14), single ranges only.

/// What a `Range` header asks of a body of known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    /// All of it: no header, or one that is ignored (other unit, several ranges, bad syntax).
    All,
    /// The bytes `from..to`, not empty.
    Part(u64, u64),
    /// Beyond the end: answered 416.
    Unsatisfiable,
}

/// Reads `bytes=a-b`, `bytes=a-` and `bytes=-n` for a body of `len` bytes.
///
/// A server may ignore a header it does not like (RFC 9110 14.2), so what is not a single byte range asks for all.
pub(super) fn parse(header: &[u8], len: u64) -> Range {
    let Some((unit, set)) = std::str::from_utf8(header)
        .ok()
        .and_then(|text| text.split_once('='))
    else {
        return Range::All;
    };
    let Some((first, last)) = set.trim().split_once('-') else {
        return Range::All;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Range::All;
    }
    let (first, last) = (number(first), number(last));
    match (first, last) {
        (Some(None), Some(Some(0))) => Range::Unsatisfiable,
        (Some(None), Some(Some(_))) if len == 0 => Range::Unsatisfiable,
        (Some(None), Some(Some(suffix))) => Range::Part(len.saturating_sub(suffix), len),
        (Some(Some(from)), Some(None)) if from < len => Range::Part(from, len),
        (Some(Some(from)), Some(Some(to))) if from <= to && from < len => {
            Range::Part(from, to.saturating_add(1).min(len))
        }
        (Some(Some(from)), Some(Some(to))) if from > to => Range::All,
        (Some(Some(_)), Some(_)) => Range::Unsatisfiable,
        _ => Range::All,
    }
}

/// `Some(None)` for nothing, `None` for what is no number. Digits only; one too large for 64 bits is as good as the largest.
#[expect(clippy::option_option, reason = "absent and malformed differ")]
fn number(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let cases: &[(&str, Range)] = &[
            ("bytes=0-99", Range::Part(0, 100)),
            ("bytes=0-0", Range::Part(0, 1)),
            ("Bytes=10-", Range::Part(10, 1000)),
            ("bytes=-1", Range::Part(999, 1000)),
            ("bytes=-5000", Range::Part(0, 1000)),
            ("bytes=990-5000", Range::Part(990, 1000)),
            ("bytes=999-99999999999999999999999", Range::Part(999, 1000)),
            ("bytes=1000-", Range::Unsatisfiable),
            ("bytes=1000-1001", Range::Unsatisfiable),
            ("bytes=99999999999999999999-", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=5-4", Range::All),
            ("bytes=0-1,5-6", Range::All),
            ("items=0-1", Range::All),
            ("bytes=a-b", Range::All),
            ("bytes=-", Range::All),
            ("bytes=+1-2", Range::All),
            ("", Range::All),
        ];
        for (header, want) in cases {
            assert_eq!(parse(header.as_bytes(), 1000), *want, "{header}");
        }
        assert_eq!(parse(b"bytes=0-0", 0), Range::Unsatisfiable);
        assert_eq!(parse(b"bytes=-1", 0), Range::Unsatisfiable);
        assert_eq!(parse(b"\xff", 10), Range::All);
    }
}
