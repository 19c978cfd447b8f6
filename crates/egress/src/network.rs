//! What an operator sets for the network as a whole.

use std::fmt;

use reqwest::Url;

use crate::hosts::Hosts;

/// Settings of all that leaves the machine. The environment is not looked at: the caller fills these.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// PEM certificates trusted besides the system's, or instead of them if `ca_only`.
    pub ca_pem: Option<Vec<u8>>,
    /// Whether the system's certificates are not trusted.
    pub ca_only: bool,
    /// Forward proxy: `http://`, `https://`, `socks5://` or `socks5h://`, with userinfo if it asks for a password.
    pub proxy: Option<String>,
    /// Another one for http.
    pub proxy_http: Option<String>,
    /// Another one for https.
    pub proxy_https: Option<String>,
    /// Hosts, domains, addresses or networks (`10.0.0.0/8`) asked without the proxy, with an optional `:port`.
    pub no_proxy: Vec<String>,
    /// The value of `Via` on each request, for example `1.1 modgate-ab12`; none if empty.
    pub via: String,
    /// Hosts that may have addresses which are not public, although strangers name them: `host` or `*.domain`, with
    /// an optional `:port`.
    pub internal_hosts: Vec<String>,
    /// Hosts of upstreams, as `host:port`: an upstream may redirect to another one, wherever that is.
    pub upstreams: Vec<String>,
}

impl fmt::Debug for NetworkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |proxy: &Option<String>| proxy.as_deref().map(masked);
        f.debug_struct("NetworkSettings")
            .field("ca_pem", &self.ca_pem.as_ref().map(Vec::len))
            .field("ca_only", &self.ca_only)
            .field("proxy", &shown(&self.proxy))
            .field("proxy_http", &shown(&self.proxy_http))
            .field("proxy_https", &shown(&self.proxy_https))
            .field("no_proxy", &self.no_proxy)
            .field("via", &self.via)
            .field("internal_hosts", &self.internal_hosts)
            .field("upstreams", &self.upstreams)
            .finish()
    }
}

/// A URL without its userinfo: everything up to the last `@`, whatever the rest looks like.
fn masked(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        (None, Some((_, host))) => format!("***@{host}"),
        (_, None) => url.to_owned(),
    }
}

/// The settings with their lists read.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) settings: NetworkSettings,
    no_proxy: Hosts,
    internal: Hosts,
    upstreams: Hosts,
    any_proxy: bool,
}

impl Network {
    pub(crate) fn new(settings: NetworkSettings) -> Self {
        Self {
            no_proxy: Hosts::no_proxy(&settings.no_proxy),
            internal: Hosts::internal(&settings.internal_hosts),
            upstreams: Hosts::internal(&settings.upstreams),
            any_proxy: settings.proxy.is_some()
                || settings.proxy_http.is_some()
                || settings.proxy_https.is_some(),
            settings,
        }
    }

    /// The forward proxy for a URL. ssh and the like never have one: their programs speak to no HTTP proxy.
    pub(crate) fn proxy_for(&self, url: &Url) -> Option<&str> {
        if !self.any_proxy {
            return None;
        }
        let own = match url.scheme() {
            "http" => &self.settings.proxy_http,
            "https" => &self.settings.proxy_https,
            _ => return None,
        };
        let proxy = own.as_deref().or(self.settings.proxy.as_deref())?;
        let (host, port) = host_port(url)?;
        (!self.no_proxy.contains(host, port)).then_some(proxy)
    }

    /// Whether the host of a URL is listed as internal.
    pub(crate) fn is_internal(&self, url: &Url) -> bool {
        host_port(url).is_some_and(|(host, port)| self.internal.contains(host, port))
    }

    /// Whether an upstream has the host and port of a URL.
    pub(crate) fn is_upstream(&self, url: &Url) -> bool {
        host_port(url).is_some_and(|(host, port)| self.upstreams.contains(host, port))
    }
}

/// The host and the port, by scheme where none is written.
pub(crate) fn host_port(url: &Url) -> Option<(&str, u16)> {
    let host = url.host_str().filter(|host| !host.is_empty())?;
    Some((host, port_of(url)))
}

/// The port of a URL, by scheme where none is written.
pub fn port_of(url: &Url) -> u16 {
    url.port_or_known_default().unwrap_or(match url.scheme() {
        "git" => 9418,
        "svn" => 3690,
        _ => 22,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_by_scheme_and_host() {
        let network = Network::new(NetworkSettings {
            proxy: Some("http://all.example:3128".to_owned()),
            proxy_http: Some("http://plain.example:3128".to_owned()),
            no_proxy: vec!["corp.example".to_owned()],
            ..NetworkSettings::default()
        });
        for (url, want) in [
            ("https://a.example/x", Some("http://all.example:3128")),
            ("http://a.example/x", Some("http://plain.example:3128")),
            ("https://git.corp.example/x", None),
            ("ssh://git@a.example/x", None),
        ] {
            assert_eq!(network.proxy_for(&url.parse().unwrap()), want, "{url}");
        }
    }

    #[test]
    fn debug_hides_secrets() {
        let network = NetworkSettings {
            proxy: Some("http://me:secret@proxy.example:3128".to_owned()),
            proxy_https: Some("me:secret@proxy.example".to_owned()),
            ..NetworkSettings::default()
        };
        let shown = format!("{network:?}");
        assert!(!shown.contains("secret"), "{shown}");
        assert!(shown.contains("proxy.example"), "{shown}");
    }
}
