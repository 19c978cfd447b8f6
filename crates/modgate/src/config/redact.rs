//! Takes what may be secret out of texts that are shown.
//!
//! Everything between `://` and `@` of a URL counts as secret, also where the URL
//! is wrong: a password with an unescaped `/` or `,` must not end in an error. So does
//! its query, which is where some services want their key.

use std::ops::Range;

/// The text with the secrets of its URLs replaced by three stars.
pub(super) fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for range in secrets_of_urls(text) {
        out.push_str(&text[from..range.start]);
        out.push_str("***");
        from = range.end;
    }
    out.push_str(&text[from..]);
    out
}

/// Where a text has user and password of a URL, or what may be a part of them.
pub(super) fn secrets_of_urls(text: &str) -> Vec<Range<usize>> {
    let is_end = |c: char| c.is_whitespace() || "\"'`,|=()".contains(c);
    let mut ranges = Vec::new();
    let mut start = 0;
    for word in text.split_inclusive(is_end) {
        let bare = word.trim_end_matches(is_end);
        if let Some(range) = secret_of_word(bare) {
            ranges.push(start + range.start..start + range.end);
        }
        start += word.len();
    }
    ranges.extend(queries_of_urls(text));
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|later, earlier| {
        let overlap = later.start < earlier.end;
        if overlap {
            earlier.end = earlier.end.max(later.end);
        }
        overlap
    });
    ranges
}

/// What stands behind the `?` of a URL.
fn queries_of_urls(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices("://").filter_map(|(at, _)| {
        let url = &text[at..];
        let end = url
            .find(|c: char| c.is_whitespace() || "\"'`,|".contains(c))
            .unwrap_or(url.len());
        let query = url[..end].find('?')? + 1;
        (query < end).then(|| at + query..at + end)
    })
}

fn secret_of_word(word: &str) -> Option<Range<usize>> {
    let Some(scheme) = word.find("://") else {
        return word.rfind('@').map(|at| 0..at);
    };
    let start = scheme + "://".len();
    let rest = &word[start..];
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if let Some(at) = authority.rfind('@') {
        return Some(start..start + at);
    }
    // `user:pass/word@host`: what looks like a port is none.
    let after_host = authority.rfind(']').map_or(0, |at| at + 1);
    let colon = after_host + authority[after_host..].find(':')?;
    let port = &authority[colon + 1..];
    if port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let end = rest.rfind('@').unwrap_or(rest.len());
    Some(start + colon + 1..start + end.max(colon + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out() {
        for (text, shown) in [
            ("https://a.example", "https://a.example"),
            ("http://a.example:80/x@v", "http://a.example:80/x@v"),
            ("http://[::1]:3000/", "http://[::1]:3000/"),
            (
                "https://u:p@a.example,direct",
                "https://***@a.example,direct",
            ),
            ("https://token@a.example", "https://***@a.example"),
            ("https://u:p@ss@a.example", "https://***@a.example"),
            ("https://u:pa/ss@a.example", "https://u:***@a.example"),
            ("https://u:pa,ss@a.example", "https://u:***,***@a.example"),
            ("https://u:pa=ss@a.example", "https://u:***=***@a.example"),
            ("`https://u:p@a` and u:p@b|x", "`https://***@a` and ***@b|x"),
            ("https://a/x?key=p#q,direct", "https://a/x?***,direct"),
            ("https://u:p@a/?p@q=r and b", "https://***@a/?*** and b"),
            ("https://u:p?q@a", "https://u:***"),
            ("https://a/?", "https://a/?"),
            ("https://u:", "https://u:"),
            ("", ""),
        ] {
            assert_eq!(redacted(text), shown, "{text}");
        }
    }
}
