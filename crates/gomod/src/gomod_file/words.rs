//! Words of a `go.mod`: quotes and versions of the language.

use std::borrow::Cow;

use crate::semver::number;

/// A word without its quotes, if it has any; `None` for bad quoting. Only `"` quotes: the others are reserved.
pub(super) fn unquoted(word: &str) -> Option<Cow<'_, str>> {
    if let Some(quoted) = word.strip_prefix('"') {
        let inside = quoted.strip_suffix('"')?;
        return if inside.contains(['\\', '\n', '"']) {
            unescaped(inside).map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(inside))
        };
    }
    (!word.contains(['"', '\'', '`'])).then_some(Cow::Borrowed(word))
}

/// The escapes of Go's strings (`strconv.Unquote`).
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if matches!(c, '\n' | '"') {
            return None;
        }
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.chars().next()?;
        rest = &rest[escape.len_utf8()..];
        let mut code = |digits: usize, radix: u32| {
            let (code, after) = rest.split_at_checked(digits)?;
            rest = after;
            let good = code.chars().all(|c| c.is_digit(radix));
            u32::from_str_radix(code, radix).ok().filter(|_| good)
        };
        match escape {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            '\\' | '"' => bytes.push(u8::try_from(escape).ok()?),
            'x' => bytes.push(u8::try_from(code(2, 16)?).ok()?),
            '0'..='7' => {
                let high = escape.to_digit(8)?;
                bytes.push(u8::try_from(high * 64 + code(2, 8)?).ok()?);
            }
            'u' | 'U' => {
                let c = char::from_u32(code(if escape == 'u' { 4 } else { 8 }, 16)?)?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return None,
        }
    }
    Some(text_of(&bytes).into_owned())
}

/// Bytes as text, with one U+FFFD for each byte that is not UTF-8, as Go reads runes.
pub(super) fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
    }
    Cow::Owned(text)
}

/// The number before the dot, the number after it, and what follows.
fn language(text: &str) -> Option<(&str, &str, &str)> {
    let (major, rest) = number(text)?;
    let (minor, rest) = number(rest.strip_prefix('.')?)?;
    (major != "0").then_some((major, minor, rest))
}

/// Lower-case letters and digits behind them: a kind and number of pre-release.
fn pre_release(text: &str) -> Option<&str> {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_lowercase());
    let good = digits.len() < text.len()
        && !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    good.then_some(digits)
}

/// Whether a text is of the form `1.23`, `1.23.4` or `1.23rc1`, which a `go` line has.
pub(super) fn is_go_version(text: &str) -> bool {
    let Some((_, _, rest)) = language(text) else {
        return false;
    };
    let rest = match rest.strip_prefix('.') {
        Some(patch) => match number(patch) {
            Some((_, rest)) => rest,
            None => return false,
        },
        None => rest,
    };
    rest.is_empty() || pre_release(rest).is_some()
}

/// What of an unknown form of version counts in the file of a dependency: `1.23` of `v1.23.x`.
pub(super) fn lax_go_version(text: &str) -> Option<&str> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (_, _, rest) = language(text)?;
    (!rest.is_empty()).then(|| &text[..text.len() - rest.len()])
}

/// Whether a version of the language is `major.minor` or later, pre-releases of it counted in. What Go's own
/// rules do not take for a version is earlier than all.
pub(super) fn language_at_least(text: &str, major: &str, minor: &str) -> bool {
    let Some((our_major, our_minor, rest)) = language(text) else {
        return false;
    };
    let whole = |text: &str| number(text).is_some_and(|(_, rest)| rest.is_empty());
    let valid = match rest.strip_prefix('.') {
        Some(patch) => whole(patch),
        None => rest.is_empty() || pre_release(rest).is_some_and(whole),
    };
    let at_least = |ours: &str, least: &str| (ours.len(), ours).cmp(&(least.len(), least));
    valid
        && at_least(our_major, major)
            .then_with(|| at_least(our_minor, minor))
            .is_ge()
}
