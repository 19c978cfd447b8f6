//! Texts that settings come from, and the tree of values in them.
//!
//! Every value keeps the place it was written at, whatever it came from, so that
//! a mistake found late still shows its line.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::de::{DeTable, DeValue};

use super::mistake::Mistake;

/// What a text is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A flag of the command line, with its dashes.
    Flag(&'static str),
    /// The table of settings itself.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path) => write!(f, "{}", path.display()),
            Place::Env(name) => write!(f, "environment {name}"),
            Place::Flag(name) => write!(f, "flag {name}"),
            Place::Default => f.write_str("default"),
        }
    }
}

/// One text with its place.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) place: Place,
    pub(super) text: String,
    /// Byte ranges that hold secrets: never shown.
    pub(super) hidden: Vec<Range<usize>>,
}

/// One value, where it was written.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    /// Byte range in the text of `source`.
    pub(super) span: Range<usize>,
    pub(super) source: Arc<Source>,
}

/// A TOML value; floats and dates are no setting's type and keep only their name.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    Array(Vec<Node>),
    Table(Vec<Entry>),
    Other(&'static str),
}

/// One key of a table.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) node: Node,
}

impl Node {
    /// A text that stands alone: an environment variable, a flag.
    pub(super) fn text(place: Place, text: &str) -> Self {
        let source = Arc::new(Source {
            place,
            text: text.to_owned(),
            hidden: Vec::new(),
        });
        Self {
            value: Value::Text(text.to_owned()),
            span: 0..text.len(),
            source,
        }
    }

    /// The same, never shown.
    pub(super) fn hidden_text(place: Place, text: &str) -> Self {
        let source = Arc::new(Source {
            place,
            text: text.to_owned(),
            hidden: std::iter::once(0..text.len()).collect(),
        });
        Self {
            source,
            ..Self::text(Place::Default, text)
        }
    }

    /// The kind of value in words, for "expected …, found …".
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Text(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Boolean(_) => "a boolean",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
            Value::Other(kind) => kind,
        }
    }

    /// The entries, if it is a table.
    pub(super) fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value of a key, if it is a table that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries()?
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
    }

    /// A mistake in this value.
    pub(super) fn mistake(&self, message: impl Into<String>) -> Mistake {
        Mistake::at(&self.source, self.span.clone(), message)
    }

    /// A mistake in a part of this text; the whole value where escapes make the
    /// part hard to find.
    pub(super) fn mistake_in(&self, part: Range<usize>, message: impl Into<String>) -> Mistake {
        let span = self.part_span(part).unwrap_or_else(|| self.span.clone());
        Mistake::at(&self.source, span, message)
    }

    fn part_span(&self, part: Range<usize>) -> Option<Range<usize>> {
        let Value::Text(text) = &self.value else {
            return None;
        };
        let written = self.source.text.get(self.span.clone())?;
        let quotes = written.len().checked_sub(text.len())? / 2;
        if written.get(quotes..quotes + text.len())? != text {
            return None;
        }
        let start = self.span.start + quotes;
        Some(start + part.start..start + part.end)
    }
}

/// Reads a TOML document; what is readable comes back beside the mistakes.
///
/// `hides` tells which paths of keys hold secrets.
pub(super) fn parse_document(
    place: Place,
    text: &str,
    hides: &dyn Fn(&[&str]) -> bool,
) -> (Node, Vec<Mistake>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let root = DeValue::Table(table.get_ref().clone());
    let mut hidden = Vec::new();
    find_hidden(&root, 0..text.len(), &mut Vec::new(), hides, &mut hidden);
    if !errors.is_empty() {
        hidden.extend(suspicious_lines(text));
    }
    let source = Arc::new(Source {
        place,
        text: text.to_owned(),
        hidden,
    });
    let mut mistakes: Vec<Mistake> = errors
        .iter()
        .map(|error| {
            let span = error.span().unwrap_or(0..0);
            let twice = (error.message() == "duplicate key").then(|| {
                "a key and a [table] stand once: put what belongs together into one".to_owned()
            });
            Mistake::at(&source, span, format!("TOML: {}", error.message())).maybe_hint(twice)
        })
        .collect();
    // One slip makes several errors on its line; the first one is the slip.
    let line = |mistake: &Mistake| mistake.spot.as_ref().map(|spot| spot.line);
    mistakes.dedup_by_key(|mistake| line(mistake));
    (convert(&root, 0..text.len(), &source), mistakes)
}

/// Reads one TOML value given as the text of an environment variable.
///
/// It is shown as `NAME = value`, which is also how it is parsed.
pub(super) fn parse_value(
    name: &str,
    text: &str,
    hides: &dyn Fn(&[&str]) -> bool,
) -> Result<Node, Vec<Mistake>> {
    let document = format!("{name} = {text}");
    let place = Place::Env(name.to_owned());
    let (root, mistakes) = parse_document(place, &document, &|path| hides(&path[1..]));
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    // A line break in the variable could begin a second key.
    match root.entries() {
        Some([only]) => Ok(only.node.clone()),
        _ => Err(vec![root.mistake("expected one TOML value")]),
    }
}

fn convert(value: &DeValue<'_>, span: Range<usize>, source: &Arc<Source>) -> Node {
    let value = match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str();
            i64::from_str_radix(digits, number.radix())
                .map_or(Value::Other("an integer out of range"), Value::Integer)
        }
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Float(_) => Value::Other("a float"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| convert(item.get_ref(), item.span(), source))
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(entries(table, source)),
    };
    Node {
        value,
        span,
        source: source.clone(),
    }
}

/// The entries of a table in the order they were written.
fn entries(table: &DeTable<'_>, source: &Arc<Source>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_span: key.span(),
            node: convert(value.get_ref(), value.span(), source),
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_span.start);
    entries
}

/// Collects the ranges of all texts below paths that hold secrets.
fn find_hidden<'t>(
    value: &'t DeValue<'_>,
    span: Range<usize>,
    path: &mut Vec<&'t str>,
    hides: &dyn Fn(&[&str]) -> bool,
    hidden: &mut Vec<Range<usize>>,
) {
    match value {
        DeValue::Array(items) => {
            for item in items {
                find_hidden(item.get_ref(), item.span(), path, hides, hidden);
            }
        }
        DeValue::Table(table) => {
            for (key, value) in table {
                path.push(key.get_ref());
                find_hidden(value.get_ref(), value.span(), path, hides, hidden);
                path.pop();
            }
        }
        _ if hides(path) => hidden.push(span),
        _ => {}
    }
}

/// In a document that cannot be read whole, lines that look like secrets.
fn suspicious_lines(text: &str) -> Vec<Range<usize>> {
    const WORDS: [&str; 5] = ["password", "token", "secret", "authorization", "headers"];
    let mut start = 0;
    let mut found = Vec::new();
    for line in text.split_inclusive('\n') {
        let lower = line.to_ascii_lowercase();
        if WORDS.iter().any(|word| lower.contains(word)) {
            let value = line.find('=').map_or(0, |at| at + 1);
            found.push(start + value..start + line.trim_end().len().max(value));
        }
        start += line.len();
    }
    found
}

/// Reads a file whole, within a limit.
pub(super) fn read_limited(path: &Path, max_bytes: u64) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|error| error_text(&error))?;
    let meta = file.metadata().map_err(|error| error_text(&error))?;
    if meta.is_dir() {
        return Err("it is a folder".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(max_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error_text(&error))?;
    if bytes.len() as u64 > max_bytes {
        return Err(format!("it is larger than {max_bytes} bytes"));
    }
    Ok(bytes)
}

/// The system's words without the error number.
fn error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    words.to_lowercase()
}
