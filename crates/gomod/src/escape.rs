//! The `!` escaping of paths and versions (protocol.md 1.1): file systems that fold case must not confuse modules.

use std::borrow::Cow;

/// Every upper-case ASCII letter becomes `!` and its lower case.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_ascii_uppercase() {
            escaped.push('!');
        }
        escaped.push(c.to_ascii_lowercase());
    }
    Cow::Owned(escaped)
}

/// The inverse; `None` for an upper-case letter, `!` not followed by `a-z`, or anything that is not ASCII.
pub(crate) fn unescape(text: &str) -> Option<String> {
    let unescaped = |byte: u8| byte.is_ascii() && byte != b'!' && !byte.is_ascii_uppercase();
    if text.bytes().all(unescaped) {
        return Some(text.to_owned());
    }
    let mut plain = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'!' => plain.push(char::from(
                bytes
                    .next()
                    .filter(u8::is_ascii_lowercase)?
                    .to_ascii_uppercase(),
            )),
            b'A'..=b'Z' | 0x80.. => return None,
            _ => plain.push(char::from(byte)),
        }
    }
    Some(plain)
}
