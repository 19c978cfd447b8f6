//! Mistakes in a configuration and how they are shown.

use std::{collections::BTreeMap, fmt, ops::Range, path::PathBuf};

use serde::Serialize;

use super::{
    redact::secrets_of_urls,
    source::{Place, Source},
    stamp::Stamp,
};

/// Characters of a long line that are shown before and after the mistake.
const CONTEXT_CHARS: usize = 60;

/// One mistake: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The text it is in.
    pub place: Place,
    /// Where in the text; `None` for a mistake of the whole.
    pub spot: Option<Spot>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A line and what is wrong on it. Secrets are masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line, cut around the mistake if it is long.
    pub snippet: String,
    /// Characters of `snippet` before the mistake.
    pub marked_from: usize,
    /// Characters of `snippet` that are wrong.
    pub marked_len: usize,
}

impl Mistake {
    pub(super) fn at(source: &Source, span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            place: source.place.clone(),
            spot: Some(Spot::new(source, span)),
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn whole(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            spot: None,
            message: message.into(),
            hint: None,
        }
    }

    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(super) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }
}

impl Spot {
    fn new(source: &Source, span: Range<usize>) -> Self {
        let text = source.text.as_str();
        let start = floor_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = floor_boundary(text, span.end).clamp(start, line_end);

        let shown = masked_line(source, line_start..line_end);
        let before = text[line_start..start].chars().count();
        let marked_len = text[start..end].chars().count().max(1);
        let cut_front = before.saturating_sub(CONTEXT_CHARS);
        let marked_len = marked_len.min(2 * CONTEXT_CHARS);
        let cut_back = (before + marked_len + CONTEXT_CHARS).min(shown.len());
        Self {
            line: text[..line_start].matches('\n').count() + 1,
            column: before + 1,
            snippet: shown[cut_front.min(cut_back)..cut_back]
                .iter()
                .collect::<String>()
                .trim_end()
                .to_owned(),
            marked_from: before - cut_front,
            marked_len,
        }
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The characters of a line: control characters and secrets replaced one for
/// one, so that columns stay true.
fn masked_line(source: &Source, line: Range<usize>) -> Vec<char> {
    let text = &source.text[line.clone()];
    let userinfo = secrets_of_urls(text);
    text.char_indices()
        .map(|(at, c)| {
            let absolute = line.start + at;
            if source.hidden.iter().any(|range| range.contains(&absolute))
                || userinfo.iter().any(|range| range.contains(&at))
            {
                '*'
            } else if c.is_control() {
                ' '
            } else {
                c
            }
        })
        .collect()
}

/// Every mistake of a configuration, in the order of the texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.render(false))]
pub struct Mistakes {
    mistakes: Vec<Mistake>,
    /// All files that this configuration is made of, each as it was just before it was read: `None` if it was not there.
    /// A change of one may mend it.
    pub watched_files: BTreeMap<PathBuf, Option<Stamp>>,
}

impl Mistakes {
    pub(super) fn new(
        mut mistakes: Vec<Mistake>,
        watched_files: BTreeMap<PathBuf, Option<Stamp>>,
    ) -> Self {
        mistakes.sort_by(|a, b| {
            let spot = |m: &Mistake| m.spot.as_ref().map(|spot| (spot.line, spot.column));
            (&a.place, spot(a)).cmp(&(&b.place, spot(b)))
        });
        mistakes.dedup();
        Self {
            mistakes,
            watched_files,
        }
    }

    /// The mistakes, files first, then the environment, then flags.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.mistakes.iter()
    }

    /// All of them as text for a terminal, with or without colours.
    pub fn render(&self, colours: bool) -> String {
        let paint = Paint(colours);
        let mut text = String::new();
        for mistake in &self.mistakes {
            render_one(mistake, paint, &mut text);
            text.push('\n');
        }
        let count = match self.mistakes.len() {
            1 => "1 mistake".to_owned(),
            count => format!("{count} mistakes"),
        };
        text.push_str(&paint.bold(&format!("{count} in the configuration")));
        text
    }

    /// All of them for machines.
    pub fn to_json(&self) -> impl Serialize {
        self.mistakes.iter().map(Plain::from).collect::<Vec<_>>()
    }
}

/// A mistake as JSON.
#[derive(Serialize)]
struct Plain {
    place: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snippet: Option<String>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl From<&Mistake> for Plain {
    fn from(mistake: &Mistake) -> Self {
        let spot = mistake.spot.as_ref();
        Self {
            place: mistake.place.to_string(),
            line: spot.map(|spot| spot.line),
            column: spot.map(|spot| spot.column),
            snippet: spot.map(|spot| spot.snippet.clone()),
            message: mistake.message.clone(),
            hint: mistake.hint.clone(),
        }
    }
}

fn render_one(mistake: &Mistake, paint: Paint, text: &mut String) {
    let mut line = |content: String| {
        text.push_str(&content);
        text.push('\n');
    };
    line(format!(
        "{}: {}",
        paint.red("error"),
        paint.bold(&mistake.message)
    ));
    let Some(spot) = &mistake.spot else {
        line(format!("  {} {}", paint.blue("-->"), mistake.place));
        if let Some(hint) = &mistake.hint {
            line(format!("  {} {hint}", paint.cyan("= hint:")));
        }
        return;
    };
    let number = spot.line.to_string();
    let pad = " ".repeat(number.len());
    let bar = paint.blue("|");
    line(format!(
        "{pad}{} {}:{}:{}",
        paint.blue("-->"),
        mistake.place,
        spot.line,
        spot.column
    ));
    line(format!("{pad} {bar}"));
    line(format!("{} {bar} {}", paint.blue(&number), spot.snippet));
    let marks = "^".repeat(spot.marked_len);
    let space = " ".repeat(spot.marked_from);
    line(format!("{pad} {bar} {space}{}", paint.red(&marks)));
    if let Some(hint) = &mistake.hint {
        line(format!("{pad} {} {hint}", paint.cyan("= hint:")));
    }
}

/// ANSI colours, or none.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    fn blue(self, text: &str) -> String {
        self.wrap("1;34", text)
    }

    fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }

    fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        render_one(self, Paint(false), &mut text);
        f.write_str(text.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str, hidden: Vec<Range<usize>>) -> Source {
        Source {
            place: Place::File("modgate.toml".into()),
            text: text.to_owned(),
            hidden,
        }
    }

    #[test]
    fn the_line_is_marked() {
        let source = source("data = \"x\"\nlisén = \"y\"\n", Vec::new());
        let mistake = Mistake::at(&source, 11..17, "unknown key").hint("did you mean `listen`?");
        assert_eq!(
            mistake.to_string(),
            "error: unknown key\n --> modgate.toml:2:1\n  |\n2 | lisén = \"y\"\n  | ^^^^^\n  = hint: did you mean `listen`?"
        );
    }

    #[test]
    fn secrets_are_masked() {
        let text = "chain = \"https://u:p@ss@a.example|x\" # y";
        let spot = Spot::new(&source(text, Vec::new()), 9..10);
        assert_eq!(spot.snippet, "chain = \"https://******@a.example|x\" # y");
        let spot = Spot::new(
            &source("password = \"hunter2\"", vec![11..16, 16..20]),
            11..20,
        );
        assert_eq!(spot.snippet, "password = *********");
    }

    #[test]
    fn odd_spans_are_safe() {
        let source = source("é\u{1b}[31m", Vec::new());
        for span in [0..0, 1..1, 1..100, 50..60] {
            let spot = Spot::new(&source, span);
            assert!(!spot.snippet.contains('\u{1b}'));
        }
        let spot = Spot::new(&source_of_len(10_000), 5_000..9_000);
        assert!(spot.snippet.len() < 500);
        assert_eq!(spot.marked_from, CONTEXT_CHARS);
    }

    fn source_of_len(len: usize) -> Source {
        source(&"x".repeat(len), Vec::new())
    }
}
