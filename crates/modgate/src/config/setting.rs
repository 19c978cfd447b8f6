//! What a setting is: the shape of the rows in [`SETTINGS`](super::SETTINGS).

use std::time::Duration;

use super::units::{format_duration, format_size};

/// One setting: all that validation, the environment, the reference and `check`
/// need to know of it.
#[derive(Debug)]
pub struct Setting {
    /// Name with its section, such as `limits.max_connections`; inside an
    /// item of [`Kind::Items`] or [`Kind::ByUrl`] the bare key.
    pub name: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// What holds if nobody sets it.
    pub default: Fallback,
    /// What it does, in sentences.
    pub doc: &'static str,
    /// A value as it would be written in the file.
    pub example: &'static str,
    /// Whether a change needs a new process.
    pub restart: bool,
}

/// What holds if nobody sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// This TOML value.
    Value(&'static str),
    /// Nothing.
    Unset,
    /// Something worked out at start, in words.
    Found(&'static str),
    /// It must be set (items only).
    Required,
}

/// Type and range of a setting.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A string.
    Text,
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number, least and greatest.
    Count(u32, u32),
    /// A string with a unit, least and greatest.
    Time(Duration, Duration),
    /// The same, or `"forever"`.
    TimeOrForever(Duration, Duration),
    /// A string with a unit, least and greatest in bytes.
    Size(u64, u64),
    /// IP address and port.
    Address,
    /// Absolute or relative path of a file or folder.
    Path,
    /// `http://` or `https://` URL.
    Url,
    /// URL of a forward proxy.
    Proxy,
    /// URL of a service with one of these schemes, written there or named as a secret is.
    Service(&'static [&'static str]),
    /// What a credential is for.
    Prefix,
    /// Program and arguments.
    Command,
    /// GOPROXY's list.
    Chain,
    /// Array of module path patterns.
    Patterns,
    /// The same, and hosts, with a port or without.
    PathsAndHosts,
    /// Array of host patterns.
    Hosts,
    /// The same, as `NO_PROXY` has them.
    NoProxy,
    /// GOSUMDB's value.
    Database,
    /// GOVCS's value.
    Vcs,
    /// Table of status to status.
    StatusMap,
    /// Table of header to value or secret.
    Headers,
    /// `{ env = … }`, `{ file = … }` or `{ command = […] }`.
    Secret,
    /// `{ env = … }` or `{ file = … }`: read with the configuration.
    Key,
    /// The same, or a string.
    TextOrKey,
    /// Array of tables with these settings.
    Items(&'static [Setting]),
    /// Table of tables with these settings, by upstream URL.
    ByUrl(&'static [Setting]),
}

/// Prefix of every environment variable of ours.
pub(super) const ENV_PREFIX: &str = "MODGATE_";

impl Setting {
    /// The environment variable that sets it.
    pub fn env_name(&self) -> String {
        let name = self.name.replace('.', "_").to_ascii_uppercase();
        format!("{ENV_PREFIX}{name}")
    }

    /// Section (empty at the top) and key.
    pub fn section_and_key(&self) -> (&'static str, &'static str) {
        self.name.split_once('.').unwrap_or(("", self.name))
    }

    /// The settings of its items, if it has items.
    pub fn items(&self) -> Option<&'static [Setting]> {
        match self.kind {
            Kind::Items(settings) | Kind::ByUrl(settings) => Some(settings),
            _ => None,
        }
    }
}

impl Kind {
    /// The type in words.
    pub fn words(&self) -> String {
        match self {
            Self::Text => "string".to_owned(),
            Self::Switch => "boolean".to_owned(),
            Self::Choice(words) => words
                .iter()
                .map(|word| format!("`\"{word}\"`"))
                .collect::<Vec<_>>()
                .join(", "),
            Self::Count(..) => "integer".to_owned(),
            Self::Time(..) => "duration".to_owned(),
            Self::TimeOrForever(..) => "duration or `\"forever\"`".to_owned(),
            Self::Size(..) => "size".to_owned(),
            Self::Address => "IP address and port".to_owned(),
            Self::Path => "path".to_owned(),
            Self::Url => "URL".to_owned(),
            Self::Proxy => "URL (`http`, `https`, `socks5` or `socks5h`)".to_owned(),
            Self::Service(schemes) => format!(
                "URL (`{}`), or `{{ env = … }}` or `{{ file = … }}`",
                schemes.join("`, `")
            ),
            Self::Key => "`{ env = … }` or `{ file = … }`".to_owned(),
            Self::TextOrKey => "string, `{ env = … }` or `{ file = … }`".to_owned(),
            Self::Prefix => "host, or URL prefix, such as `\"git.corp.example/team\"` or `\"ssh://git@git.corp.example\"`".to_owned(),
            Self::Command => "array of strings: a program and its arguments".to_owned(),
            Self::Chain => "chain (GOPROXY's syntax)".to_owned(),
            Self::Patterns => "array of module path patterns (GOPRIVATE's)".to_owned(),
            Self::PathsAndHosts => "array of patterns of module paths (GOINSECURE's) and hosts, `host:port` too".to_owned(),
            Self::Hosts | Self::NoProxy => "array of host patterns".to_owned(),
            Self::Database => "checksum database (GOSUMDB's syntax)".to_owned(),
            Self::Vcs => "list of rules (GOVCS's syntax)".to_owned(),
            Self::StatusMap => "table of status to status".to_owned(),
            Self::Headers => {
                "table of header to string, `{ env = … }` or `{ file = … }`".to_owned()
            }
            Self::Secret => "`{ env = … }`, `{ file = … }` or `{ command = […] }`".to_owned(),
            Self::Items(_) => "array of tables".to_owned(),
            Self::ByUrl(_) => "table of tables".to_owned(),
        }
    }

    /// The range in words, where there is one.
    pub fn range(&self) -> Option<String> {
        match self {
            Self::Count(least, most) => Some(format!("{least} to {most}")),
            Self::Time(least, most) | Self::TimeOrForever(least, most) => Some(format!(
                "{} to {}",
                format_duration(*least),
                format_duration(*most)
            )),
            Self::Size(least, most) => {
                Some(format!("{} to {}", format_size(*least), format_size(*most)))
            }
            Self::StatusMap => Some("400 to 599".to_owned()),
            _ => None,
        }
    }
}
