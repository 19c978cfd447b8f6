//! Where each value in effect came from.

use std::{fmt, path::PathBuf};

use serde::Serialize;

use super::source::{Node, Place};

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: the default of the settings table.
    Default,
    /// Nobody: a default that was worked out, and from what.
    Found(String),
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// A flag, with its dashes.
    Flag(&'static str),
}

impl Origin {
    pub(super) fn of(node: &Node) -> Self {
        match &node.source.place {
            Place::File(path) => Self::File {
                path: path.clone(),
                line: node.source.text[..node.span.start].matches('\n').count() + 1,
            },
            Place::Env(name) => Self::Env(name.clone()),
            Place::Flag(name) => Self::Flag(name),
            Place::Default => Self::Default,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Found(from) => write!(f, "default: {from}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One value in effect, ready to be shown: secrets are hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Header of its TOML table, such as `[limits]` or `[[route]]`; empty at the top.
    pub header: String,
    /// Which of several tables with that header.
    pub index: usize,
    /// Key in the table.
    pub key: &'static str,
    /// Value as TOML; `None` if it is not set and has no default.
    pub value: Option<String>,
    /// Who set it.
    pub origin: Origin,
}

impl Effective {
    /// Its name in one piece: `limits.max_connections`, `route[0].chain`.
    pub fn name(&self) -> String {
        if let Some(array) = self.header.strip_prefix("[[") {
            let array = array.trim_end_matches(']');
            return format!("{array}[{}].{}", self.index, self.key);
        }
        match self.header.trim_matches(['[', ']']) {
            "" => self.key.to_owned(),
            table => format!("{table}.{}", self.key),
        }
    }
}

/// Every value in effect with its origin, in the order of the settings table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Vec<Effective>);

impl Origins {
    pub(super) fn push(&mut self, effective: Effective) {
        self.0.push(effective);
    }

    /// All values.
    pub fn iter(&self) -> impl Iterator<Item = &Effective> {
        self.0.iter()
    }

    /// Who set a value, by its name in one piece.
    pub fn get(&self, name: &str) -> Option<&Origin> {
        self.find(name).map(|effective| &effective.origin)
    }

    /// A value by its name in one piece.
    pub fn find(&self, name: &str) -> Option<&Effective> {
        self.0.iter().find(|effective| effective.name() == name)
    }

    /// All values for machines; as text they are [`Display`](fmt::Display)ed.
    pub fn to_json(&self) -> impl Serialize {
        self.0.iter().map(Plain::from).collect::<Vec<_>>()
    }
}

/// The configuration in effect as TOML, each value with its origin.
impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = ("", 0);
        for effective in &self.0 {
            if (effective.header.as_str(), effective.index) != table {
                table = (&effective.header, effective.index);
                writeln!(f, "\n{}", effective.header)?;
            }
            let key = effective.key;
            match &effective.value {
                Some(value) => writeln!(f, "{key} = {value}  # {}", effective.origin)?,
                None => writeln!(f, "# {key} is not set")?,
            }
        }
        Ok(())
    }
}

/// A value in effect as JSON.
#[derive(Serialize)]
struct Plain {
    name: String,
    value: Option<toml::Value>,
    origin: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
}

impl From<&Effective> for Plain {
    fn from(effective: &Effective) -> Self {
        let (origin, detail, line) = match &effective.origin {
            Origin::Default => ("default", None, None),
            Origin::Found(from) => ("found", Some(from.clone()), None),
            Origin::File { path, line } => ("file", Some(path.display().to_string()), Some(*line)),
            Origin::Env(name) => ("environment", Some(name.clone()), None),
            Origin::Flag(name) => ("flag", Some((*name).to_owned()), None),
        };
        Self {
            name: effective.name(),
            value: effective.value.as_deref().and_then(typed),
            origin,
            detail,
            line,
        }
    }
}

/// The value of a TOML text.
fn typed(text: &str) -> Option<toml::Value> {
    let mut table: toml::Table = format!("value = {text}").parse().ok()?;
    table.remove("value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_toml_agree() {
        let mut origins = Origins::default();
        for (header, index, key, value) in [
            ("", 0, "listen", Some("\"127.0.0.1:3000\"")),
            ("", 0, "public_url", None),
            ("[limits]", 0, "max_connections", Some("4096")),
            ("[[route]]", 0, "mode", Some("\"sync\"")),
            ("[[route]]", 1, "mode", Some("\"none\"")),
        ] {
            origins.push(Effective {
                header: header.to_owned(),
                index,
                key,
                value: value.map(str::to_owned),
                origin: Origin::Default,
            });
        }
        let names: Vec<String> = origins.iter().map(Effective::name).collect();
        assert_eq!(
            names,
            [
                "listen",
                "public_url",
                "limits.max_connections",
                "route[0].mode",
                "route[1].mode"
            ]
        );
        let toml = origins.to_string();
        let read: toml::Table = toml.parse().unwrap();
        assert_eq!(read["route"].as_array().unwrap().len(), 2);
        assert!(toml.contains("# public_url is not set\n"));
    }
}
