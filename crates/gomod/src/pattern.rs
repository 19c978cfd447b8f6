//! GOPRIVATE's patterns: comma-separated globs that match a path or any of its leading elements.

use crate::ModulePath;

/// A list of patterns (`module.MatchPrefixPatterns`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    elements: Vec<Vec<Piece>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Star,
    Any,
    One(char),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// A pattern that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed pattern {pattern:?}: {why}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong.
    pub why: &'static str,
}

impl Patterns {
    /// Reads a comma-separated list; empty entries are skipped.
    pub fn parse(list: &str) -> Result<Self, PatternError> {
        Self::from_entries(list.split(','))
    }

    /// Reads a list; each entry may be a comma-separated list itself.
    pub fn from_list(list: &[String]) -> Result<Self, PatternError> {
        Self::from_entries(list.iter().flat_map(|entry| entry.split(',')))
    }

    fn from_entries<'a>(entries: impl Iterator<Item = &'a str>) -> Result<Self, PatternError> {
        let entries = entries
            .map(str::trim)
            .filter(|entry| !matches!(*entry, "" | "/"));
        entries
            .map(Pattern::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any pattern matches the path or a prefix of whole elements.
    pub fn matches(&self, path: &ModulePath) -> bool {
        self.matches_str(path.as_str())
    }

    /// The same, or the path leads to what a pattern matches: `git.corp.example` to `git.corp.example/team/*`. A client
    /// that looks for the module of a package asks for every such prefix.
    pub fn leads_to(&self, path: &ModulePath) -> bool {
        self.0.iter().any(|pattern| {
            let both = pattern.elements.iter().zip(path.as_str().split('/'));
            let mut both = both.map(|(pattern, element)| glob(pattern, element));
            both.all(|matches| matches)
        })
    }

    /// Those of these patterns that match nothing but what `others` match or lead to: for the others
    /// `git.corp.example/team/*` that is so of `git.corp.example/team/a*`, but not of `git.corp.example` or `*.example`.
    #[must_use]
    pub fn within(&self, others: &Self) -> Self {
        let inside = |own: &&Pattern| others.0.iter().any(|other| other.encloses(own));
        Self(self.0.iter().filter(inside).cloned().collect())
    }

    /// The same as [`matches`](Self::matches) for any slash-separated text.
    pub fn matches_str(&self, path: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(path))
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, PatternError> {
        // A pattern's final slash is not significant.
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        let fault = |why| PatternError {
            pattern: text.to_owned(),
            why,
        };
        let elements = trimmed
            .split('/')
            .map(|element| pieces(element).map_err(fault))
            .collect::<Result<_, _>>()?;
        Ok(Self { elements })
    }

    fn matches(&self, path: &str) -> bool {
        let mut elements = path.split('/');
        self.elements.iter().all(|pattern| {
            elements
                .next()
                .is_some_and(|element| glob(pattern, element))
        })
    }
}

impl Pattern {
    /// Whether whatever `inner` matches is matched by this or leads to what is. Where classes of characters differ, the
    /// answer may be no although it is so, never the other way round.
    fn encloses(&self, inner: &Self) -> bool {
        let enclosed = |(outer, inner): (&Vec<Piece>, &Vec<Piece>)| fits(outer, inner, at_most);
        let any = |element: &Vec<Piece>| {
            !element.is_empty() && element.iter().all(|piece| *piece == Piece::Star)
        };
        self.elements.iter().zip(&inner.elements).all(enclosed)
            && self.elements.iter().skip(inner.elements.len()).all(any)
    }
}

/// Whether a piece that is no star stands for whatever another one can stand for.
fn at_most(outer: &Piece, inner: &Piece) -> bool {
    match (outer, inner) {
        (_, Piece::Star) => false,
        (Piece::Any, _) => true,
        (outer, Piece::One(c)) => stands_for(outer, *c),
        (outer, inner) => outer == inner,
    }
}

fn pieces(element: &str) -> Result<Vec<Piece>, &'static str> {
    let mut chars = element.chars();
    let mut pieces = Vec::new();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '*' => Piece::Star,
            '?' => Piece::Any,
            '\\' => Piece::One(chars.next().ok_or("nothing after the backslash")?),
            '[' => class(&mut chars)?,
            c => Piece::One(c),
        });
    }
    Ok(pieces)
}

fn class(chars: &mut std::str::Chars<'_>) -> Result<Piece, &'static str> {
    const OPEN: &str = "a class without its closing bracket";
    let negated = chars.clone().next() == Some('^');
    if negated {
        chars.next();
    }
    let mut ranges = Vec::new();
    let bound = |chars: &mut std::str::Chars<'_>| match chars.next() {
        Some('\\') => chars.next().ok_or(OPEN),
        Some('-' | ']') => Err("a class with a misplaced - or ]"),
        Some(c) => Ok(c),
        None => Err(OPEN),
    };
    loop {
        if chars.clone().next() == Some(']') && !ranges.is_empty() {
            chars.next();
            return Ok(Piece::Class { negated, ranges });
        }
        let low = bound(chars)?;
        let high = if chars.clone().next() == Some('-') {
            chars.next();
            bound(chars)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn glob(pattern: &[Piece], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    fits(pattern, &text, |piece, c| stands_for(piece, *c))
}

/// Whether a piece that is no star matches a character.
fn stands_for(piece: &Piece, c: char) -> bool {
    match piece {
        Piece::Star => false,
        Piece::Any => true,
        Piece::One(one) => *one == c,
        Piece::Class { negated, ranges } => {
            ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
        }
    }
}

/// Whether a pattern takes a text whole. Linear in the text for every star: the last star alone is retried.
fn fits<T>(pattern: &[Piece], text: &[T], one: impl Fn(&Piece, &T) -> bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() || p < pattern.len() {
        match (pattern.get(p), text.get(t)) {
            (Some(Piece::Star), _) => {
                retry = Some((p, t + 1));
                p += 1;
                continue;
            }
            (Some(piece), Some(symbol)) if one(piece, symbol) => {
                p += 1;
                t += 1;
                continue;
            }
            _ => {}
        }
        match retry {
            Some((star, next)) if next <= text.len() => {
                p = star;
                t = next;
            }
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_lead_to_what_is_matched() {
        let patterns = Patterns::parse("git.corp.example/team/*,*.lab.example/x").unwrap();
        for (path, leads, matches) in [
            ("git.corp.example", true, false),
            ("git.corp.example/team", true, false),
            ("git.corp.example/team/a", true, true),
            ("git.corp.example/team/a/b", true, true),
            ("git.corp.example/other", false, false),
            ("a.lab.example", true, false),
            ("a.lab.example/x/y", true, true),
            ("corp.example", false, false),
        ] {
            let path = ModulePath::parse(path).unwrap();
            let got = (patterns.leads_to(&path), patterns.matches(&path));
            assert_eq!(got, (leads, matches), "{path}");
        }
    }

    #[test]
    fn patterns_within_others() {
        let private =
            "git.corp.example/team/*,*.lab.example,github.com/corp/*,c[ab].example,h?.example";
        let private = Patterns::parse(private).unwrap();
        for (pattern, want) in [
            ("git.corp.example/team/*", true),
            ("git.corp.example/team/a*b", true),
            ("git.corp.example/team/x/y", true),
            // All that is below it is matched, and it leads there itself.
            ("git.corp.example/team", true),
            ("github.com/corp", true),
            ("github.com/corp/x", true),
            ("x.lab.example", true),
            ("*.x.lab.example/y", true),
            ("x*.lab.example", true),
            ("ca.example", true),
            ("c[ab].example", true),
            ("h1.example", true),
            ("h?.example/x", true),
            // These match strangers too.
            ("git.corp.example", false),
            ("git.corp.example/*", false),
            ("github.com", false),
            ("github.com/*/x", false),
            ("github.com/c*", false),
            ("*", false),
            ("*.example", false),
            ("*.com", false),
            ("lab.example", false),
            ("c?.example", false),
            ("c*.example", false),
            ("h*.example", false),
            ("cc.example", false),
        ] {
            let one = Patterns::parse(pattern).unwrap();
            let inside = one.within(&private);
            assert_eq!(!inside.is_empty(), want, "{pattern}");
            assert!(inside.is_empty() || inside == one);
        }
        assert!(private.within(&Patterns::default()).is_empty());
    }

    #[test]
    fn prefixes_and_globs() {
        for (list, path, want) in [
            ("git.corp.example/*", "git.corp.example/team", true),
            ("git.corp.example/*", "git.corp.example/team/deep/v2", true),
            ("git.corp.example/*", "git.corp.example", false),
            ("git.corp.example", "git.corp.example/a", true),
            ("git.corp.example/", "git.corp.example/a", true),
            ("*.corp.example", "git.corp.example/a", true),
            ("*.corp.example,other.example/x", "other.example/x/y", true),
            ("*.corp.example", "corp.example/a", false),
            ("a.com/te?m", "a.com/team", true),
            ("a.com/[a-c]x", "a.com/bx/y", true),
            ("a.com/[^a-c]x", "a.com/bx/y", false),
            ("a.com/\\*", "a.com/x", false),
            ("", "a.com", false),
            (" , a.com", "a.com", true),
            ("*", "anything.example/x", true),
            ("a*b*c.com", "aXbYbZc.com", true),
        ] {
            assert_eq!(
                Patterns::parse(list).unwrap().matches_str(path),
                want,
                "{list} {path}"
            );
        }
        for bad in ["a.com/[", "a.com/[]", "a.com/[a-]", "a.com/\\", "[-a]"] {
            assert!(Patterns::parse(bad).is_err(), "{bad}");
        }
        let slow = Patterns::parse(&"*a".repeat(200)).unwrap();
        assert!(!slow.matches_str(&"a".repeat(3000).replace("aa", "ab").replace('a', "b")));
    }
}
