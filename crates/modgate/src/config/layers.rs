//! Raw values: the file, the environment over it, flags over both.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    env::Env,
    mistake::Mistake,
    nearest::nearest,
    setting::{ENV_PREFIX, Kind, Setting},
    source::{Entry, Node, Place, Value, parse_document, parse_value, read_limited},
    table::SETTINGS,
};

/// Largest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The variable that names the configuration file.
const CONFIG_VARIABLE: &str = "MODGATE_CONFIG";

/// Where a configuration is read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The configuration file; without it `MODGATE_CONFIG`, else none.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: Env,
    /// Flags that set values.
    pub flags: Flags,
    /// For a command that does not listen: unless `listen` is set, its default says nothing of who is there.
    pub silent: bool,
    /// What it is for.
    pub uses: Uses,
}

/// What a command uses of a configuration. What is wrong with the rest, such as a secret that only the server has, does not
/// stop it: a version has to be retired now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Uses {
    /// Everything.
    #[default]
    All,
    /// Storage and records; no upstream and no repository is asked.
    Storage,
    /// The records, and what replicas tell each other by.
    Records,
}

/// Flags that set values, as they were given.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--listen`.
    pub listen: Option<String>,
    /// `--data`.
    pub data: Option<String>,
    /// `--upstream`: the chain.
    pub upstream: Option<String>,
    /// `--sumdb`.
    pub sumdb: Option<String>,
}

impl Sources {
    /// The same for a command that uses no more than this of it.
    #[must_use]
    pub fn only(self, uses: Uses) -> Self {
        Self { uses, ..self }
    }

    /// The configuration file in use, if any.
    pub fn config_file(&self) -> Option<PathBuf> {
        let from_env = || self.env.get(CONFIG_VARIABLE).map(PathBuf::from);
        self.file.clone().or_else(from_env)
    }
}

/// Settings of one table with the raw values that were given for them.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) settings: &'static [Setting],
    /// By the settings' names.
    pub(super) nodes: BTreeMap<&'static str, Node>,
    /// Header for `check`; empty where the settings' own sections make it.
    pub(super) header: String,
    pub(super) index: usize,
}

impl Scope {
    /// The settings of one item.
    pub(super) fn item(
        settings: &'static [Setting],
        item: &Node,
        header: String,
        index: usize,
    ) -> Self {
        let nodes = settings
            .iter()
            .filter_map(|setting| Some((setting.name, item.get(setting.name)?.clone())))
            .collect();
        Self {
            settings,
            nodes,
            header,
            index,
        }
    }

    pub(super) fn setting(&self, name: &str) -> &'static Setting {
        self.settings
            .iter()
            .find(|setting| setting.name == name)
            .expect("only names of the table are read")
    }

    pub(super) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }
}

/// Reads all layers; mistakes of form and unknown keys go to `mistakes`.
pub(super) fn collect(sources: &Sources, mistakes: &mut Vec<Mistake>) -> Scope {
    let file = sources
        .config_file()
        .and_then(|path| read_file(&path, mistakes));
    let mut nodes = BTreeMap::new();
    for setting in SETTINGS {
        let node = from_flag(&sources.flags, setting.name)
            .or_else(|| from_env(&sources.env, setting, mistakes))
            .or_else(|| from_file(file.as_ref()?, setting));
        if let Some(node) = node {
            nodes.insert(setting.name, node);
        }
    }
    Scope {
        settings: SETTINGS,
        nodes,
        header: String::new(),
        index: 0,
    }
}

fn read_file(path: &Path, mistakes: &mut Vec<Mistake>) -> Option<Node> {
    let place = Place::File(path.to_owned());
    let bytes = match read_limited(path, MAX_FILE_BYTES) {
        Ok(bytes) => bytes,
        Err(why) => {
            mistakes.push(
                Mistake::whole(
                    place,
                    format!("the configuration file cannot be read: {why}"),
                )
                .hint(format!("it is named by --config or {CONFIG_VARIABLE}")),
            );
            return None;
        }
    };
    // What is wrong elsewhere is told too.
    let text = String::from_utf8_lossy(&bytes);
    let (root, errors) = parse_document(place, &text, &is_secret_path);
    if let Err(error) = std::str::from_utf8(&bytes) {
        let at = error.valid_up_to();
        let mistake = Mistake::at(&root.source, at..at + 1, "the file is not UTF-8");
        mistakes.push(mistake.hint("save it as UTF-8"));
    }
    mistakes.extend(errors);
    find_unknown(&root, mistakes);
    Some(root)
}

/// Which paths of keys hold secrets.
fn is_secret_path(path: &[&str]) -> bool {
    // Where a secret is to be found is none.
    if let [holder @ .., "env" | "file" | "command"] = path
        && holds_secret(holder)
    {
        return false;
    }
    holds_secret(path) || is_misspelt_in_secrets(path)
}

fn holds_secret(path: &[&str]) -> bool {
    match path {
        // In the last ones a password may stand anywhere.
        ["upstream", _, "headers", _, ..]
        | ["credential", "password" | "header", ..]
        | ["storage" | "records", "url", ..]
        | ["records.url", ..] => true,
        // Misplaced ones too: a mistake near them would show them.
        _ => path.iter().any(|key| {
            ["password", "token", "secret", "authorization"]
                .iter()
                .any(|word| key.to_ascii_lowercase().contains(word))
        }),
    }
}

/// Whether a key is unknown where secrets stand beside it: `pasword` is one too.
fn is_misspelt_in_secrets(path: &[&str]) -> bool {
    let (section, key) = match path {
        [section @ ("credential" | "storage"), key, ..] | [section @ "upstream", _, key, ..] => {
            (*section, *key)
        }
        _ => return false,
    };
    SETTINGS
        .iter()
        .filter(|setting| setting.name == section)
        .filter_map(Setting::items)
        .flatten()
        .all(|item| item.name != key)
}

fn from_file(root: &Node, setting: &Setting) -> Option<Node> {
    let (section, key) = setting.section_and_key();
    let table = if section.is_empty() {
        root
    } else {
        root.get(section)?
    };
    table.get(key).cloned()
}

fn from_flag(flags: &Flags, name: &str) -> Option<Node> {
    let (flag, text) = match name {
        "listen" => ("--listen", &flags.listen),
        "data" => ("--data", &flags.data),
        "chain" => ("--upstream", &flags.upstream),
        "sumdb.name" => ("--sumdb", &flags.sumdb),
        _ => return None,
    };
    Some(Node::text(Place::Flag(flag), text.as_deref()?))
}

/// The environment's value; an empty variable counts as not set.
fn from_env(env: &Env, setting: &Setting, mistakes: &mut Vec<Mistake>) -> Option<Node> {
    let name = setting.env_name();
    let text = env.get(&name)?;
    let mut node = Node::text(Place::Env(name.clone()), text);
    let is_toml = text.trim_start().starts_with(['[', '{']);
    match setting.kind {
        Kind::Count(..) => {
            if let Ok(number) = text.parse() {
                node.value = Value::Integer(number);
            }
        }
        Kind::Switch => {
            if let Ok(value) = text.parse() {
                node.value = Value::Boolean(value);
            }
        }
        Kind::Patterns | Kind::PathsAndHosts | Kind::Hosts | Kind::NoProxy if !is_toml => {
            node.value = Value::Array(split_list(&node, text));
        }
        Kind::Service(_) if !is_toml => node = Node::hidden_text(Place::Env(name), text),
        Kind::Items(_)
        | Kind::ByUrl(_)
        | Kind::Patterns
        | Kind::PathsAndHosts
        | Kind::Hosts
        | Kind::NoProxy
        | Kind::Service(_) => {
            let hides = |path: &[&str]| {
                let full: Vec<&str> = std::iter::once(setting.name)
                    .chain(path.iter().copied())
                    .collect();
                is_secret_path(&full)
            };
            match parse_value(&name, text, &hides) {
                Ok(parsed) => {
                    unknown_in_items(setting, &parsed, mistakes);
                    node = parsed;
                }
                Err(errors) => {
                    mistakes.extend(errors.into_iter().map(|error| {
                        error.hint(format!("write it as a TOML value: {}", setting.example))
                    }));
                    return None;
                }
            }
        }
        _ => {}
    }
    Some(node)
}

/// The parts of a list with commas, as GOPRIVATE is written.
fn split_list(whole: &Node, text: &str) -> Vec<Node> {
    let mut start = 0;
    let mut parts = Vec::new();
    for part in text.split(',') {
        let trimmed = part.trim();
        let at = start + (part.len() - part.trim_start().len());
        if !trimmed.is_empty() {
            parts.push(Node {
                value: Value::Text(trimmed.to_owned()),
                span: at..at + trimmed.len(),
                source: whole.source.clone(),
            });
        }
        start += part.len() + 1;
    }
    parts
}

/// Variables with our prefix that set nothing. `referenced` are those that a
/// secret names.
pub(super) fn unknown_variables(env: &Env, referenced: &[String], mistakes: &mut Vec<Mistake>) {
    let known: Vec<String> = SETTINGS
        .iter()
        .map(Setting::env_name)
        .chain([CONFIG_VARIABLE.to_owned()])
        .collect();
    for (name, value) in &env.vars {
        let ours = name.starts_with(ENV_PREFIX) && !is_service_link(name, value);
        if !ours || known.contains(name) || referenced.contains(name) {
            continue;
        }
        let place = Place::Env(name.clone());
        let hint = match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "the reference of all settings is docs/configuration.md".to_owned(),
        };
        mistakes.push(Mistake::whole(place, format!("`{name}` sets nothing")).hint(hint));
    }
}

/// Variables that Kubernetes and container links set in every container beside a
/// service whose name begins with `modgate`: `MODGATE_SERVICE_HOST`,
/// `MODGATE_PORT=tcp://…`, `MODGATE_PORT_3000_TCP_ADDR`.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_port = |rest: &str| {
        let mut parts = rest.split('_');
        parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
            && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"))
        || name
            .match_indices("_PORT_")
            .any(|(at, found)| is_port(&name[at + found.len()..]))
}

/// Keys that no setting has, sections that are no tables.
fn find_unknown(root: &Node, mistakes: &mut Vec<Mistake>) {
    let top: Vec<&'static str> = SETTINGS
        .iter()
        .map(|setting| match setting.section_and_key() {
            ("", key) => key,
            (section, _) => section,
        })
        .collect();
    for entry in root.entries().unwrap_or_default() {
        let key = entry.key.as_str();
        if !top.contains(&key) {
            mistakes.push(unknown_key(
                &entry.node,
                entry,
                &top,
                "at the top of the file",
            ));
        } else if let Some(setting) = SETTINGS.iter().find(|setting| setting.name == key) {
            unknown_in_items(setting, &entry.node, mistakes);
        } else {
            let names: Vec<&'static str> = SETTINGS
                .iter()
                .map(Setting::section_and_key)
                .filter(|(section, _)| *section == key)
                .map(|(_, name)| name)
                .collect();
            unknown_in_table(&entry.node, &names, &format!("in [{key}]"), mistakes);
        }
    }
}

/// Unknown keys of the items of a setting; their types are checked when they are read.
fn unknown_in_items(setting: &Setting, node: &Node, mistakes: &mut Vec<Mistake>) {
    let Some(settings) = setting.items() else {
        return;
    };
    let names: Vec<&'static str> = settings.iter().map(|setting| setting.name).collect();
    let place = format!("in `{}`", setting.name);
    match &node.value {
        Value::Array(items) => {
            for item in items.iter().filter(|item| item.entries().is_some()) {
                unknown_in_table(item, &names, &place, mistakes);
            }
        }
        Value::Table(entries) if matches!(setting.kind, Kind::ByUrl(_)) => {
            for entry in entries
                .iter()
                .filter(|entry| entry.node.entries().is_some())
            {
                unknown_in_table(&entry.node, &names, &place, mistakes);
            }
        }
        _ => {}
    }
}

fn unknown_in_table(
    table: &Node,
    names: &[&'static str],
    place: &str,
    mistakes: &mut Vec<Mistake>,
) {
    let Some(entries) = table.entries() else {
        let keys = names.join("`, `");
        mistakes.push(
            table
                .mistake(format!("expected a table {place}, found {}", table.kind()))
                .hint(format!("its keys are `{keys}`")),
        );
        return;
    };
    for entry in entries {
        if !names.contains(&entry.key.as_str()) {
            mistakes.push(unknown_key(table, entry, names, place));
        }
    }
}

fn unknown_key(table: &Node, entry: &Entry, names: &[&'static str], place: &str) -> Mistake {
    let key = entry.key.as_str();
    let elsewhere = SETTINGS
        .iter()
        .map(Setting::section_and_key)
        .find(|(section, name)| !section.is_empty() && *name == key);
    let hint = if let Some(near) = nearest(key, names.iter().copied()) {
        format!("did you mean `{near}`?")
    } else if let Some((section, _)) = elsewhere {
        format!("`{key}` belongs in [{section}]")
    } else if SETTINGS.iter().any(|setting| setting.name == key) {
        format!("`{key}` belongs at the top of the file, before any [section]")
    } else {
        let mut names = names.to_vec();
        names.dedup();
        format!("known here: `{}`", names.join("`, `"))
    };
    Mistake::at(
        &table.source,
        entry.key_span.clone(),
        format!("unknown key `{}` {place}", key.escape_debug()),
    )
    .hint(hint)
}
