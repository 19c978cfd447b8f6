//! Which URLs a credential is for.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use reqwest::Url;

use crate::hosts::normal;
use crate::network::host_port;

/// What a credential is for: a host, or what lies below a path of it.
///
/// Written `git.corp.example`, `git.corp.example/team`, `https://git.corp.example:8443/team`, `ssh://git@git.corp.example`
/// or `*.corp.example`; `*` stands for every host. Without a scheme it matches encrypted ones only (https, and all over
/// ssh): a secret goes out in the clear only where `http://` is written. Without a port it matches the scheme's own. The
/// last element of the path also matches with `.git` at its end, so that a repository and its page have one credential.
#[derive(Clone, PartialEq, Eq)]
pub struct UrlPrefix {
    scheme: Option<String>,
    user: Option<String>,
    host: Host,
    port: Option<u16>,
    /// Elements, none of them empty.
    path: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
enum Host {
    Any,
    Under(String),
    Exact(String),
}

/// A text that is no [`UrlPrefix`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// No host.
    #[error("it names no host: write `git.corp.example` or `https://git.corp.example/team`")]
    NoHost,
    /// A scheme that no credential is sent over.
    #[error("`{0}://` carries no credentials: https, ssh, or http where it must be")]
    Scheme(String),
    /// A password in it.
    #[error("a password does not belong into the address")]
    Password,
    /// Not a URL.
    #[error("it is no address: {0}")]
    Url(String),
}

impl UrlPrefix {
    /// Every host.
    pub fn any() -> Self {
        Self {
            scheme: None,
            user: None,
            host: Host::Any,
            port: None,
            path: Vec::new(),
        }
    }

    /// Whether it covers every host.
    pub fn is_any(&self) -> bool {
        self.host == Host::Any
    }

    /// The scheme it is written with: `https`, `http`, or `ssh` for all that goes over ssh.
    pub fn scheme(&self) -> Option<&str> {
        self.scheme.as_deref()
    }

    /// Whether a URL is covered.
    pub fn matches(&self, url: &Url) -> bool {
        let Some((host, port)) = host_port(url) else {
            return false;
        };
        let host = normal(host);
        let scheme = family(url.scheme());
        let scheme_fits = match self.scheme.as_deref() {
            Some(wanted) => wanted == scheme,
            None => matches!(scheme, "https" | "ssh"),
        };
        let host_fits = match &self.host {
            Host::Any => true,
            Host::Under(domain) => host
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.ends_with('.')),
            Host::Exact(name) => *name == host,
        };
        scheme_fits
            && host_fits
            && port == self.port.unwrap_or(own_port(scheme))
            && self
                .user
                .as_deref()
                .is_none_or(|user| user == url.username())
            && self.path_fits(url.path())
    }

    fn path_fits(&self, path: &str) -> bool {
        let mut elements = path.split('/').filter(|element| !element.is_empty());
        let last = self.path.len().wrapping_sub(1);
        self.path.iter().enumerate().all(|(i, wanted)| {
            elements.next().is_some_and(|element| {
                element == wanted
                    || i == last && element.strip_suffix(".git") == Some(wanted.as_str())
            })
        })
    }

    /// Sorts narrow before wide.
    pub(crate) fn width(&self) -> impl Ord + use<> {
        let host = match &self.host {
            Host::Any => (2, 0),
            Host::Under(domain) => (1, usize::MAX - domain.len()),
            Host::Exact(_) => (0, 0),
        };
        let said = [
            self.user.is_some(),
            self.port.is_some(),
            self.scheme.is_some(),
        ];
        (host, Reverse(self.path.len()), Reverse(said))
    }

    /// The path, with a slash in front; empty for a whole host.
    pub(crate) fn path(&self) -> String {
        self.path
            .iter()
            .fold(String::new(), |path, element| path + "/" + element)
    }
}

/// The scheme that a credential knows a scheme by.
fn family(scheme: &str) -> &str {
    if scheme.ends_with("+ssh") {
        "ssh"
    } else {
        scheme
    }
}

fn own_port(scheme: &str) -> u16 {
    match scheme {
        "https" => 443,
        "http" => 80,
        _ => 22,
    }
}

impl FromStr for UrlPrefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let text = text.trim();
        if text == "*" {
            return Ok(Self::any());
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(family(scheme).to_ascii_lowercase()), rest),
            None => (None, text),
        };
        if let Some(other) = scheme
            .as_deref()
            .filter(|s| !matches!(*s, "https" | "ssh" | "http"))
        {
            return Err(PrefixError::Scheme(other.to_owned()));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = authority
            .rsplit_once('@')
            .map_or((None, authority), |(u, h)| (Some(u), h));
        if user.is_some_and(|user| user.contains(':')) {
            return Err(PrefixError::Password);
        }
        let (under, host) = match host.strip_prefix("*.") {
            Some(domain) => (true, domain),
            None => (false, host),
        };
        if host.is_empty() || host.starts_with(':') {
            return Err(PrefixError::NoHost);
        }
        // The URL parser normalises host and path as it does in the URLs to come.
        let url = Url::parse(&format!("https://{host}/{path}"))
            .map_err(|error| PrefixError::Url(error.to_string()))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(PrefixError::Url("it has a query or a fragment".to_owned()));
        }
        let name = normal(url.host_str().unwrap_or(""));
        if name.contains('*') {
            return Err(PrefixError::Url(
                "`*` stands alone, or as `*.` in front".to_owned(),
            ));
        }
        let port = if host.ends_with(":443") {
            Some(443)
        } else {
            url.port()
        };
        Ok(Self {
            user: user.filter(|user| !user.is_empty()).map(str::to_owned),
            host: if under {
                Host::Under(name)
            } else {
                Host::Exact(name)
            },
            // With a scheme whose own port it is, saying so says nothing.
            port: port.filter(|port| scheme.as_deref().map(own_port) != Some(*port)),
            path: url
                .path()
                .split('/')
                .filter(|element| !element.is_empty())
                .map(str::to_owned)
                .collect(),
            scheme,
        })
    }
}

impl fmt::Display for UrlPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = &self.scheme {
            write!(f, "{scheme}://")?;
        }
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match &self.host {
            Host::Any => f.write_str("*")?,
            Host::Under(domain) => write!(f, "*.{domain}")?,
            Host::Exact(host) if host.contains(':') => write!(f, "[{host}]")?,
            Host::Exact(host) => f.write_str(host)?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path())
    }
}

impl fmt::Debug for UrlPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UrlPrefix({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching() {
        for (prefix, url, want) in [
            ("git.corp.example", "https://git.corp.example/a", true),
            ("git.corp.example", "https://GIT.corp.example./a", true),
            ("git.corp.example", "ssh://git@git.corp.example/a", true),
            ("git.corp.example", "git+ssh://git.corp.example/a", true),
            ("git.corp.example", "http://git.corp.example/a", false),
            ("git.corp.example", "git://git.corp.example/a", false),
            ("git.corp.example", "https://git.corp.example:8443/a", false),
            (
                "git.corp.example",
                "https://git.corp.example.evil.example/",
                false,
            ),
            (
                "git.corp.example",
                "https://git.corp.example@evil.example/",
                false,
            ),
            (
                "git.corp.example:8443",
                "https://git.corp.example:8443/",
                true,
            ),
            ("http://git.corp.example", "http://git.corp.example/a", true),
            (
                "http://git.corp.example",
                "https://git.corp.example/a",
                false,
            ),
            (
                "https://git.corp.example",
                "ssh://git.corp.example/a",
                false,
            ),
            (
                "https://git.corp.example:443",
                "https://git.corp.example/a",
                true,
            ),
            ("h.example/team", "https://h.example/team", true),
            (
                "h.example/team",
                "https://h.example/team/x.git/info/refs",
                true,
            ),
            ("h.example/team", "https://h.example/teams/x", false),
            ("h.example/team", "https://h.example/team/../other", false),
            ("h.example/team", "https://h.example/", false),
            (
                "h.example/team/repo",
                "https://h.example/team/repo.git/info/refs",
                true,
            ),
            (
                "h.example/team/repo",
                "https://h.example/team.git/repo",
                false,
            ),
            ("ssh://git@h.example", "ssh://git@h.example/x", true),
            ("ssh://git@h.example", "ssh://root@h.example/x", false),
            ("*.corp.example", "https://a.b.corp.example/x", true),
            ("*.corp.example", "https://corp.example/x", false),
            ("*.corp.example", "https://evilcorp.example/x", false),
            ("*", "https://any.example/x", true),
            ("*", "http://any.example/x", false),
            ("[::1]:8443", "https://[::1]:8443/x", true),
        ] {
            let parsed: UrlPrefix = prefix.parse().unwrap_or_else(|e| panic!("{prefix}: {e}"));
            let url = url.parse().unwrap_or_else(|e| panic!("{url}: {e}"));
            assert_eq!(parsed.matches(&url), want, "{prefix} {url}");
        }
    }

    #[test]
    fn refused_and_shown() {
        for bad in [
            "",
            "https://",
            "/path",
            "ftp://h",
            "https://u:p@h",
            "h?x",
            "a*b",
            "h:x",
        ] {
            assert!(bad.parse::<UrlPrefix>().is_err(), "{bad}");
        }
        for text in [
            "*",
            "*.corp.example/x",
            "https://h.example:8443/a/b",
            "ssh://git@h.example",
            "[::1]:80",
        ] {
            assert_eq!(text.parse::<UrlPrefix>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn narrow_before_wide() {
        let mut all: Vec<UrlPrefix> = [
            "*",
            "*.b.example",
            "*.a.b.example",
            "h.example",
            "h.example/a/b",
            "h.example/a",
            "https://h.example",
        ]
        .map(|text| text.parse().unwrap())
        .to_vec();
        all.sort_by_key(UrlPrefix::width);
        let order: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(
            order,
            [
                "h.example/a/b",
                "h.example/a",
                "https://h.example",
                "h.example",
                "*.a.b.example",
                "*.b.example",
                "*"
            ]
        );
    }
}
