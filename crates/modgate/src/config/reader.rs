//! Reads settings by name into types, and keeps what is wrong, what is in effect
//! and what must be watched.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use gomod::pattern::Patterns;
use upstream::chain::BaseUrl;

use super::{
    env::Env,
    kinds::{self, Checked},
    layers::Scope,
    mistake::Mistake,
    module_patterns,
    origin::{Effective, Origin, Origins},
    redact::redacted,
    setting::{Fallback, Kind, Setting},
    source::{Node, Place, parse_document, read_limited},
    stamp::Stamp,
    units::{format_duration, format_size},
};

/// Largest certificate, key, CA or secret file, in bytes.
const MAX_SIDE_FILE_BYTES: u64 = 4 << 20;

/// What reading a configuration has found so far.
#[derive(Debug)]
pub(super) struct Reader<'e> {
    pub(super) env: &'e Env,
    pub(super) mistakes: Vec<Mistake>,
    pub(super) notices: Vec<String>,
    pub(super) origins: Origins,
    /// Files, each as it was just before it was read.
    pub(super) watched: Vec<(PathBuf, Option<Stamp>)>,
    /// Variables that secrets name.
    pub(super) referenced: Vec<String>,
}

impl<'e> Reader<'e> {
    pub(super) fn new(env: &'e Env) -> Self {
        Self {
            env,
            mistakes: Vec::new(),
            notices: Vec::new(),
            origins: Origins::default(),
            watched: Vec::new(),
            referenced: Vec::new(),
        }
    }

    /// Reads a section, of which nothing counts as a mistake where it is not used.
    pub(super) fn used<T>(&mut self, used: bool, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.mistakes.len();
        let value = read(self);
        if !used {
            self.mistakes.truncate(before);
        }
        value
    }

    /// A value, or the default of the table, or nothing; wrong values become
    /// mistakes and count as not set.
    pub(super) fn read<T>(
        &mut self,
        scope: &Scope,
        name: &str,
        parse: impl Fn(&mut Self, &Node, &Kind) -> Checked<T>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let setting = scope.setting(name);
        let given = scope.node(name);
        if let Some(node) = given {
            match parse(self, node, &setting.kind) {
                Ok(value) => {
                    self.record(scope, setting, Some(show(&value)), Origin::of(node));
                    return Some(value);
                }
                Err(wrong) => self.mistakes.extend(wrong),
            }
        }
        match setting.default {
            Fallback::Value(text) => {
                let value = parse(self, &default_node(text), &setting.kind).ok()?;
                if given.is_none() {
                    self.record(scope, setting, Some(show(&value)), Origin::Default);
                }
                Some(value)
            }
            Fallback::Unset if given.is_none() => {
                self.record(scope, setting, None, Origin::Default);
                None
            }
            _ => None,
        }
    }

    /// Notes a value in effect.
    pub(super) fn record(
        &mut self,
        scope: &Scope,
        setting: &Setting,
        value: Option<String>,
        origin: Origin,
    ) {
        let (section, key) = setting.section_and_key();
        let header = match (scope.header.as_str(), section) {
            ("", "") => String::new(),
            ("", section) => format!("[{section}]"),
            (header, _) => header.to_owned(),
        };
        self.origins.push(Effective {
            header,
            index: scope.index,
            key,
            value,
            origin,
        });
    }

    pub(super) fn address(&mut self, scope: &Scope, name: &str) -> SocketAddr {
        let show = |value: &SocketAddr| quoted(&value.to_string());
        self.read(
            scope,
            name,
            |_, node, kind| kinds::address(node, kind),
            show,
        )
        .expect(VALID_DEFAULT)
    }

    pub(super) fn switch(&mut self, scope: &Scope, name: &str) -> bool {
        self.read(
            scope,
            name,
            |_, node, kind| kinds::switch(node, kind),
            bool::to_string,
        )
        .expect(VALID_DEFAULT)
    }

    pub(super) fn count(&mut self, scope: &Scope, name: &str) -> u32 {
        self.read(
            scope,
            name,
            |_, node, kind| kinds::count(node, kind),
            u32::to_string,
        )
        .expect(VALID_DEFAULT)
    }

    pub(super) fn size(&mut self, scope: &Scope, name: &str) -> u64 {
        let show = |bytes: &u64| quoted(&format_size(*bytes));
        self.read(scope, name, |_, node, kind| kinds::size(node, kind), show)
            .expect(VALID_DEFAULT)
    }

    pub(super) fn time(&mut self, scope: &Scope, name: &str) -> Duration {
        self.time_or_forever(scope, name).expect(VALID_DEFAULT)
    }

    pub(super) fn time_or_forever(&mut self, scope: &Scope, name: &str) -> Option<Duration> {
        let show =
            |time: &Option<Duration>| quoted(&time.map_or("forever".to_owned(), format_duration));
        self.read(scope, name, |_, node, kind| kinds::time(node, kind), show)
            .expect(VALID_DEFAULT)
    }

    pub(super) fn choice(&mut self, scope: &Scope, name: &str) -> Option<&'static str> {
        let show = |word: &&str| quoted(word);
        self.read(scope, name, |_, node, kind| kinds::choice(node, kind), show)
    }

    pub(super) fn patterns(&mut self, scope: &Scope, name: &str) -> (Patterns, Vec<String>) {
        let show = |(_, list): &(Patterns, Vec<String>)| array(list);
        self.read(
            scope,
            name,
            |_, node, kind| module_patterns::patterns(node, kind),
            show,
        )
        .unwrap_or_default()
    }

    pub(super) fn hosts(&mut self, scope: &Scope, name: &str) -> Vec<String> {
        let show = |list: &Vec<String>| array(list);
        self.read(scope, name, |_, node, kind| kinds::hosts(node, kind), show)
            .unwrap_or_default()
    }

    pub(super) fn url(&mut self, scope: &Scope, name: &str) -> Option<BaseUrl> {
        let show = |url: &BaseUrl| quoted(&url.to_string());
        self.read(scope, name, |_, node, kind| kinds::url(node, kind), show)
    }

    /// A file that must be readable, with what it holds.
    pub(super) fn file(&mut self, scope: &Scope, name: &str) -> Option<(PathBuf, Vec<u8>)> {
        let show = |(path, _): &(PathBuf, Vec<u8>)| quoted(&path.to_string_lossy());
        let parse = |reader: &mut Self, node: &Node, kind: &Kind| {
            let path = kinds::path(node, kind)?;
            let bytes = reader.side_file(node, &path)?;
            Ok((path, bytes))
        };
        self.read(scope, name, parse, show)
    }

    /// Remembers a file that is about to be read.
    pub(super) fn watch(&mut self, path: &Path) {
        self.watched.push((path.to_owned(), Stamp::of(path)));
    }

    /// Reads a file that a setting names, and watches it from now on.
    pub(super) fn side_file(&mut self, node: &Node, path: &Path) -> Checked<Vec<u8>> {
        self.watch(path);
        read_limited(path, MAX_SIDE_FILE_BYTES).map_err(|why| {
            let shown = kinds::shown(&path.to_string_lossy());
            vec![
                node.mistake(format!("`{shown}` cannot be read: {why}"))
                    .hint("check that the file is there and that modgate's user may read it"),
            ]
        })
    }
}

/// Why a default is there: a test reads every one of the table.
const VALID_DEFAULT: &str = "the defaults of the table are valid";

/// The node of a default, which is TOML text.
fn default_node(text: &str) -> Node {
    let (root, _) = parse_document(Place::Default, &format!("value = {text}"), &|_| false);
    root.get("value").cloned().unwrap_or(root)
}

/// A text as a TOML string, user and password of URLs hidden.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(redacted(text)).to_string()
}

/// Texts as a TOML array.
pub(super) fn array(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}
