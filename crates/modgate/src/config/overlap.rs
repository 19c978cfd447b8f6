//! Whether two module path patterns can match the same module.
//!
//! A pattern of n elements matches every path whose first n elements it matches
//! (module.MatchPrefixPatterns), so two patterns overlap when their common
//! number of first elements does.

use std::collections::BTreeSet;

/// Whether some module path matches both patterns. A character class counts as
/// any character, so the answer can be yes where the truth is no, never the
/// other way round.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    elements(a)
        .iter()
        .zip(elements(b).iter())
        .all(|(a, b)| elements_overlap(a, b))
}

/// Whether every module path that `inner` matches is surely matched by `outer`.
pub(super) fn covers(outer: &str, inner: &str) -> bool {
    let (outer, inner) = (elements(outer), elements(inner));
    outer.len() <= inner.len()
        && outer
            .iter()
            .zip(&inner)
            .all(|(outer, inner)| element_covers(outer, inner))
}

/// An element that is no pattern itself is covered by one that it matches; a class is not looked into.
fn element_covers(outer: &[Token<'_>], inner: &[Token<'_>]) -> bool {
    let certain = |token: &Token<'_>| !matches!(token, Token::One | Token::Class(_));
    let named = |token: &Token<'_>| matches!(token, Token::Char(_));
    outer == inner
        || matches!(outer, [Token::Any])
        || outer.iter().all(certain) && inner.iter().all(named) && elements_overlap(outer, inner)
}

/// One step of a pattern's element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    /// `*`: any number of characters.
    Any,
    /// `?`: one character.
    One,
    /// One of these characters, as they are written.
    Class(&'a str),
    /// This character.
    Char(char),
}

/// The elements of a pattern. `[` and `\` hide a slash from no one: path.Match
/// is asked element by element.
fn elements(pattern: &str) -> Vec<Vec<Token<'_>>> {
    pattern
        .trim_end_matches('/')
        .split('/')
        .map(tokens)
        .collect()
}

fn tokens(element: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut chars = element.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' if tokens.last() == Some(&Token::Any) => {}
            '*' => tokens.push(Token::Any),
            '?' => tokens.push(Token::One),
            '[' => {
                let class = chars.as_str();
                skip_class(&mut chars);
                tokens.push(Token::Class(&class[..class.len() - chars.as_str().len()]));
            }
            '\\' => tokens.extend(chars.next().map(Token::Char)),
            c => tokens.push(Token::Char(c)),
        }
    }
    tokens
}

fn skip_class(chars: &mut std::str::Chars<'_>) {
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            ']' => return,
            _ => {}
        }
    }
}

/// Whether one text matches both elements: the reachable pairs of positions.
fn elements_overlap(a: &[Token<'_>], b: &[Token<'_>]) -> bool {
    let mut seen = BTreeSet::from([(0, 0)]);
    let mut open = vec![(0, 0)];
    while let Some((i, j)) = open.pop() {
        let (x, y) = (a.get(i), b.get(j));
        let next: &[(usize, usize)] = match (x, y) {
            (None, None) => return true,
            (Some(Token::Any), Some(_)) | (Some(_), Some(Token::Any)) => &[(i + 1, j), (i, j + 1)],
            (Some(Token::Any), None) => &[(i + 1, j)],
            (None, Some(Token::Any)) => &[(i, j + 1)],
            (Some(Token::Char(x)), Some(Token::Char(y))) if x != y => &[],
            (Some(_), Some(_)) => &[(i + 1, j + 1)],
            _ => &[],
        };
        for pair in next {
            if seen.insert(*pair) {
                open.push(*pair);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_found() {
        for (a, b, expected) in [
            ("git.corp.example/*", "git.corp.example", true),
            ("git.corp.example/*", "git.corp.example/team/x", true),
            ("*", "git.corp.example/x", true),
            ("*.corp.example", "git.*", true),
            ("*.corp.example", "git.other.example", false),
            ("github.com/a", "github.com/b", false),
            ("github.com/[ab]x", "github.com/ax", true),
            ("github.com/a?", "github.com/a", false),
            ("a*b", "*c", false),
            ("a*b", "a*c*b", true),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
        ] {
            assert_eq!(overlap(a, b), expected, "{a} {b}");
            assert_eq!(overlap(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn covering_is_certain() {
        for (outer, inner, expected) in [
            ("git.corp.example", "git.corp.example/*", true),
            ("git.corp.example/*", "git.corp.example/*", true),
            ("git.corp.example/*", "git.corp.example", false),
            ("*", "git.corp.example/x", true),
            ("*.example", "git.example", true),
            ("*.example", "git.example/team", true),
            ("*.example", "git.example.org", false),
            ("*.example/a*", "git.example/b", false),
            ("*.example", "*.git.example", false),
            ("git.example/[ab]", "git.example/a", false),
            ("git.example/[ab]", "git.example/[ab]", true),
            ("git.example/[ab]", "git.example/[cd]", false),
        ] {
            assert_eq!(covers(outer, inner), expected, "{outer} {inner}");
        }
    }

    #[test]
    fn hostile_patterns_cost_little() {
        let many = "*a".repeat(400);
        assert!(!overlap(&many, &format!("{}b", "*a".repeat(400))));
    }
}
