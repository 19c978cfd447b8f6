//! Patterns of module paths. One that can match nothing is a mistake.

use gomod::pattern::Patterns;

use super::{
    kinds::{Checked, texts},
    setting::Kind,
    source::Node,
};

/// Longest module path pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 10;

/// Module path patterns, with the patterns as written.
pub(super) fn patterns(node: &Node, kind: &Kind) -> Checked<(Patterns, Vec<String>)> {
    let list = texts(node, kind, |item, text| {
        if text.len() > MAX_PATTERN_BYTES {
            let message = format!("the pattern is longer than {MAX_PATTERN_BYTES} bytes");
            Some(item.mistake(message))
        } else if text.contains(',') {
            let mistake = item.mistake("a pattern has no comma");
            Some(mistake.hint("write each pattern as a string of its own"))
        } else if text.contains("://") {
            let mistake = item.mistake("a pattern of module paths has no scheme");
            Some(mistake.hint("write it as \"host/path\""))
        } else if let Some((message, hint)) = matches_nothing(text, kind) {
            Some(item.mistake(message).hint(hint))
        } else {
            let error = Patterns::parse(text).err()?;
            let mistake = item.mistake(format!("bad pattern: {error}"));
            Some(mistake.hint("`*`, `?` and `[a-z]` match within one element of the path"))
        }
    })?;
    let patterns =
        Patterns::from_list(&list).map_err(|error| vec![node.mistake(error.to_string())])?;
    Ok((patterns, list))
}

/// Why no module path can match: names that were meant to be private would be told to everybody.
fn matches_nothing(pattern: &str, kind: &Kind) -> Option<(&'static str, &'static str)> {
    let pattern = pattern.trim();
    let host = pattern.split('/').next().unwrap_or("");
    let with_port = pattern
        .rsplit_once(':')
        .map(|(_, port)| port.parse::<u16>());
    if matches!((kind, with_port), (Kind::PathsAndHosts, Some(Ok(_)))) {
        return None;
    }
    if pattern.contains(char::is_whitespace) {
        Some((
            "a pattern has no space",
            "write each pattern as a string of its own",
        ))
    } else if pattern.split('/').any(|element| element == "...") {
        Some((
            "`...` is for packages; no module path has it",
            "leave it out: a pattern matches whatever is below it too",
        ))
    } else if pattern.contains([':', '@']) {
        Some((
            "it is compared without port and user",
            "leave them out: \"git.corp.example/team\"",
        ))
    } else if host.contains(|c: char| c.is_ascii_uppercase()) {
        Some((
            "the host of a module path is in lower case",
            "write it in lower case",
        ))
    } else {
        no_path(pattern, host, kind)
    }
}

/// What no element of a module path has (protocol.md 1.1).
fn no_path(pattern: &str, host: &str, kind: &Kind) -> Option<(&'static str, &'static str)> {
    let mut elements = pattern.strip_suffix('/').unwrap_or(pattern).split('/');
    let named = host.contains(['.', '*', '?', '[']) || matches!(kind, Kind::PathsAndHosts);
    if matches!(pattern, "" | "/" | "none") {
        // As in GOPRIVATE and GONOPROXY, where nobody takes it for a name.
        None
    } else if elements.clone().any(str::is_empty) {
        Some((
            "a pattern has an element before and after each slash",
            "write it as \"host/path\"",
        ))
    } else if elements.any(|element| element.starts_with('.'))
        || (host.ends_with('.') && matches!(kind, Kind::Patterns))
    {
        Some((
            "no element of a module path begins or ends with a dot",
            "leave the dot out; all hosts of a domain are \"*.corp.example\"",
        ))
    } else if has_foreign(pattern) {
        Some((
            "a module path has letters, digits and -._~ alone",
            "write it as it stands in a go.mod: \"github.com/Corp/*\"",
        ))
    } else if named {
        None
    } else {
        Some((
            "a module path begins with a host name, which has a dot",
            "write all of the host name: \"git.corp.example\"",
        ))
    }
}

/// Whether a character stands for itself that no module path has. What stands in a class or after a backslash is not looked at.
fn has_foreign(pattern: &str) -> bool {
    let mut class = false;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '[' => class = true,
            ']' => class = false,
            '*' | '?' => {}
            c if !class && !c.is_ascii_alphanumeric() && !"-._~/".contains(c) => return true,
            _ => {}
        }
    }
    false
}
