//! The chain of upstreams in GOPROXY's own syntax (`go help goproxy`).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use reqwest::Url;

/// Longest entry accepted, in bytes: far above any real base URL.
const MAX_ENTRY: usize = 4096;
/// Most entries accepted in one chain.
const MAX_ENTRIES: usize = 64;

/// Why a chain or a base URL was refused. Messages never show userinfo.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No entry at all is left once blank ones are skipped.
    #[error("the chain is empty: name at least one upstream, `direct` or `off`")]
    Empty,
    /// More than 64 entries.
    #[error("the chain has more than {MAX_ENTRIES} entries")]
    TooMany,
    /// A bare word that is neither `direct` nor `off`.
    #[error("`{entry}` is neither a URL nor a known word: did you mean `{nearest}`?")]
    Word {
        /// The word as written, shortened.
        entry: String,
        /// The known word nearest to it.
        nearest: &'static str,
    },
    /// White space or a control character inside an entry.
    #[error("`{0}` has white space in it: entries are separated by `,` or `|`")]
    Space(String),
    /// A `file://` upstream.
    #[error("file:// upstreams are not supported: serve the directory over http")]
    File,
    /// A scheme other than http and https.
    #[error("`{0}://` is not supported: an upstream is http:// or https://")]
    Scheme(String),
    /// The URL names no host.
    #[error("`{0}` names no host")]
    NoHost(String),
    /// The URL has a query or a fragment, to which no path can be appended.
    #[error("`{0}` has a query or a fragment: an upstream's base URL has neither")]
    Query(String),
    /// Not a URL, for the reason given.
    #[error("`{entry}` is not a URL: {reason}")]
    Url {
        /// The entry, masked and shortened.
        entry: String,
        /// The URL parser's reason.
        reason: String,
    },
}

/// The base URL of an upstream: http or https, with an optional path and userinfo, without a
/// trailing slash.
///
/// `Display` and `Debug` show userinfo as `***@`, whatever it holds, since either half can be a
/// token; [`BaseUrl::expose`] is the only way to the real one.
#[derive(Clone)]
pub struct BaseUrl {
    real: Arc<str>,
    shown: Arc<str>,
    key: Arc<str>,
    host: Arc<str>,
    port: u16,
}

impl BaseUrl {
    /// The real URL with userinfo, without a trailing slash: for clients and redirects only,
    /// never for logs.
    pub fn expose(&self) -> &str {
        &self.real
    }

    /// Whether it has a user or a password in it.
    pub(crate) fn has_userinfo(&self) -> bool {
        let authority = self.expose().split_once("://").map_or("", |(_, rest)| rest);
        authority
            .split('/')
            .next()
            .unwrap_or_default()
            .contains('@')
    }

    /// The URL without userinfo and trailing slash: the key of per-upstream settings.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The masked name, shared.
    pub(crate) fn shown(&self) -> Arc<str> {
        Arc::clone(&self.shown)
    }

    /// The host (IPv6 addresses in brackets) and the port, the scheme's own if none is written.
    pub fn host_port(&self) -> (String, u16) {
        (self.host.to_string(), self.port)
    }
}

impl FromStr for BaseUrl {
    type Err = ChainError;

    fn from_str(text: &str) -> Result<Self, ChainError> {
        let text = text.trim();
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(ChainError::Space(show(text)));
        }
        if text.len() > MAX_ENTRY {
            return Err(ChainError::Url {
                entry: show(text),
                reason: format!("longer than {MAX_ENTRY} bytes"),
            });
        }
        let mut url = Url::parse(text).map_err(|e| ChainError::Url {
            entry: show(text),
            reason: e.to_string(),
        })?;
        match url.scheme() {
            "http" | "https" => {}
            "file" => return Err(ChainError::File),
            other => return Err(ChainError::Scheme(show(other))),
        }
        // The parser takes `https:/path` for a host named `path`; a person did not mean that.
        let written_host = text
            .split_once("://")
            .and_then(|(_, rest)| rest.split(['/', '?', '#']).next())
            .unwrap_or("");
        let host = url.host_str().unwrap_or("");
        if host.is_empty() || written_host.is_empty() {
            return Err(ChainError::NoHost(show(text)));
        }
        let host: Arc<str> = host.into();
        if url.query().is_some() || url.fragment().is_some() {
            return Err(ChainError::Query(show(text)));
        }
        let port = url.port_or_known_default().unwrap_or(443);
        let real: Arc<str> = url.as_str().trim_end_matches('/').into();
        let masked = !url.username().is_empty() || url.password().is_some();
        // Neither call can fail: the URL has a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let key: Arc<str> = url.as_str().trim_end_matches('/').into();
        let shown = match key.split_once("://") {
            Some((scheme, rest)) if masked => format!("{scheme}://***@{rest}").into(),
            _ => Arc::clone(&key),
        };
        Ok(Self {
            real,
            shown,
            key,
            host,
            port,
        })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BaseUrl").field(&self.shown).finish()
    }
}

impl PartialEq for BaseUrl {
    fn eq(&self, other: &Self) -> bool {
        self.real == other.real
    }
}

impl Eq for BaseUrl {}

impl Hash for BaseUrl {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.real.hash(state);
    }
}

/// What an entry of a chain stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An upstream that speaks the GOPROXY protocol.
    Http(BaseUrl),
    /// `direct`: the module's own repository; the caller decides what that means.
    Direct,
    /// `off`: nothing more is asked.
    Off,
}

/// When the entry after this one is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fall {
    /// `,`: after 404 or 410, or when the upstream could not be reached at all.
    OnAbsent,
    /// `|`: after anything but success.
    OnAny,
}

/// One entry and the separator after it (`OnAbsent` for the last one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whom to ask.
    pub target: Target,
    /// When to go on to the next entry.
    pub fall: Fall,
}

/// A non-empty chain of upstreams.
///
/// Parsed as the go command parses GOPROXY: blank entries are skipped, entries after `direct` or
/// `off` are ignored, an entry without a scheme gets `https://`. `Display` masks userinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    entries: Vec<Entry>,
}

impl Chain {
    /// The entries in the order in which they are asked; `direct` or `off` only at the end.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The chain `direct`.
    pub fn direct() -> Self {
        Self {
            entries: vec![Entry {
                target: Target::Direct,
                fall: Fall::OnAbsent,
            }],
        }
    }

    /// Its upstreams, without what stands for none at its end. `None` if there are none.
    pub fn upstreams(&self) -> Option<Self> {
        let mut entries = self.entries.clone();
        entries.retain(|entry| matches!(entry.target, Target::Http(_)));
        entries.last_mut()?.fall = Fall::OnAbsent;
        Some(Self { entries })
    }

    /// The chain of one upstream.
    pub fn single(base: BaseUrl) -> Self {
        Self {
            entries: vec![Entry {
                target: Target::Http(base),
                fall: Fall::OnAbsent,
            }],
        }
    }
}

impl FromStr for Chain {
    type Err = ChainError;

    fn from_str(text: &str) -> Result<Self, ChainError> {
        let mut entries = Vec::new();
        for piece in text.split_inclusive([',', '|']) {
            let fall = if piece.ends_with('|') {
                Fall::OnAny
            } else {
                Fall::OnAbsent
            };
            let word = piece.trim_end_matches([',', '|']).trim();
            if word.is_empty() {
                continue;
            }
            if entries.len() == MAX_ENTRIES {
                return Err(ChainError::TooMany);
            }
            let target = target(word)?;
            let last = !matches!(target, Target::Http(_));
            entries.push(Entry { target, fall });
            if last {
                break;
            }
        }
        // What follows the last entry means nothing: `a|` and `a` are the same chain.
        entries.last_mut().ok_or(ChainError::Empty)?.fall = Fall::OnAbsent;
        Ok(Self { entries })
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, entry) in self.entries.iter().enumerate() {
            match &entry.target {
                Target::Http(base) => write!(f, "{base}")?,
                Target::Direct => f.write_str("direct")?,
                Target::Off => f.write_str("off")?,
            }
            if i + 1 < self.entries.len() {
                f.write_str(match entry.fall {
                    Fall::OnAbsent => ",",
                    Fall::OnAny => "|",
                })?;
            }
        }
        Ok(())
    }
}

/// Reads one entry that is not blank.
fn target(word: &str) -> Result<Target, ChainError> {
    if word.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(ChainError::Space(show(word)));
    }
    match word {
        "direct" => return Ok(Target::Direct),
        "off" => return Ok(Target::Off),
        _ => {}
    }
    if !word.contains(['.', ':', '/']) {
        return Err(ChainError::Word {
            entry: show(word),
            nearest: nearest(word),
        });
    }
    // The go command's own test for "has a scheme": `host:8080` has none, `/srv` is a file.
    if word.contains(":/") {
        return word.parse().map(Target::Http);
    }
    if word.starts_with('/') {
        return Err(ChainError::File);
    }
    format!("https://{word}").parse().map(Target::Http)
}

/// The known word at the smaller edit distance.
fn nearest(word: &str) -> &'static str {
    let word: String = word.chars().take(32).collect::<String>().to_lowercase();
    if distance(&word, "off") < distance(&word, "direct") {
        "off"
    } else {
        "direct"
    }
}

/// Levenshtein distance; both are short.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// An entry fit for an error message: userinfo masked, control characters out, shortened.
fn show(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(s, r)| (s, r));
    // Everything up to the last `@` goes, also where the text is no URL: better too much.
    let rest = match rest.rsplit_once('@') {
        Some((_, host)) => format!("***@{host}"),
        None => rest.to_owned(),
    };
    let joined = if scheme.is_empty() {
        rest
    } else {
        format!("{scheme}://{rest}")
    };
    joined
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(80)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains() {
        let table: &[(&str, Result<&str, &str>)] = &[
            ("https://a.example,direct", Ok("https://a.example,direct")),
            (
                "a.example|b.example/x/",
                Ok("https://a.example|https://b.example/x"),
            ),
            (
                " , a.example ,, off , c.example",
                Ok("https://a.example,off"),
            ),
            ("direct|drect", Ok("direct")),
            ("localhost:3000", Ok("https://localhost:3000")),
            ("http://u:p@h:81/p|off", Ok("http://***@h:81/p|off")),
            ("https://token@h", Ok("https://***@h")),
            ("a.example|", Ok("https://a.example")),
            ("drect", Err("did you mean `direct`")),
            ("Off", Err("did you mean `off`")),
            ("", Err("empty")),
            (",| ,", Err("empty")),
            ("a.example b.example", Err("white space")),
            ("ftp://h", Err("`ftp://`")),
            ("socks5://h", Err("`socks5://`")),
            ("file:///srv", Err("file://")),
            ("/srv", Err("file://")),
            ("https:///x", Err("no host")),
            ("https:/x", Err("no host")),
            ("https://h?x=1", Err("query")),
            ("https://user:secret@h:bad", Err("not a URL")),
        ];
        for (text, want) in table {
            match (text.parse::<Chain>(), want) {
                (Ok(chain), Ok(want)) => assert_eq!(&chain.to_string(), want, "{text}"),
                (Err(e), Err(part)) => {
                    let e = e.to_string();
                    assert!(e.contains(part), "{text}: {e}");
                    assert!(!e.contains("secret"), "{text}: {e}");
                }
                (got, want) => panic!("{text}: got {got:?}, want {want:?}"),
            }
        }
    }

    #[test]
    fn userinfo_is_masked() {
        let base: BaseUrl = "https://user:secret@h.example/p/".parse().unwrap();
        assert_eq!(base.expose(), "https://user:secret@h.example/p");
        assert_eq!(base.key(), "https://h.example/p");
        assert_eq!(base.host_port(), ("h.example".to_owned(), 443));
        assert!(!format!("{base} {base:?}").contains("secret"));
        assert!(!format!("{base} {base:?}").contains("user"));
    }
}
