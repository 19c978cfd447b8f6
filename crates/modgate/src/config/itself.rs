//! Recognises URLs that lead back to this very gateway.
//!
//! People point their Go at modgate; what Go is set to is also the default of
//! the chain. Loops through other proxies are cut at request time.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket},
    sync::mpsc,
    thread,
    time::Duration,
};

/// How long a name may take to resolve before it counts as somebody else's.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Under which addresses this gateway is reached.
#[derive(Debug, Clone)]
pub(super) struct Itself {
    pub(super) listen: SocketAddr,
    /// As it is written in the configuration.
    pub(super) public_url: Option<String>,
    /// Whether who writes an address means somebody else by it: a command that does not listen has no such address.
    pub(super) may_be_named: bool,
}

/// A chain without the entries that name the gateway itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cleaned {
    /// What is left, in GOPROXY's syntax.
    pub(super) chain: String,
    /// What was left out, without user and password.
    pub(super) left_out: Vec<String>,
}

impl Cleaned {
    /// Whether an upstream is left, and not only `direct` or `off`.
    pub(super) fn has_upstream(&self) -> bool {
        self.chain
            .split([',', '|'])
            .map(str::trim)
            .take_while(|entry| !matches!(*entry, "direct" | "off"))
            .any(|entry| !entry.is_empty())
    }
}

impl Itself {
    /// Takes the entries that name the gateway out of a chain. What stands before
    /// one keeps its own separator.
    pub(super) fn clean(&self, chain: &str) -> Cleaned {
        let mut kept = String::with_capacity(chain.len());
        let mut left_out = Vec::new();
        for piece in chain.split_inclusive([',', '|']) {
            let entry = piece.trim_end_matches([',', '|']).trim();
            if self.is(entry) {
                left_out.push(upstream_key(entry));
            } else {
                kept.push_str(piece);
            }
        }
        if !left_out.is_empty() {
            kept.truncate(kept.trim_end_matches([',', '|', ' ']).len());
        }
        Cleaned {
            chain: kept,
            left_out,
        }
    }

    /// Whether a URL leads to this gateway.
    pub(super) fn is(&self, url: &str) -> bool {
        let Some(there) = Authority::of(url) else {
            return false;
        };
        let public = self.public_url.as_deref().and_then(Authority::of);
        if public.as_ref() == Some(&there) {
            return true;
        }
        self.listen.port() != 0
            && there.port == self.listen.port()
            && addresses(&there.host).into_iter().any(|ip| self.is_own(ip))
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        let listen = self.listen.ip();
        ip == listen
            || (ip.is_loopback() && listen.is_loopback())
            || (listen.is_unspecified() && is_of_this_machine(ip))
    }
}

/// Host in lower case and port of a URL.
#[derive(Debug, PartialEq, Eq)]
struct Authority {
    host: String,
    port: u16,
}

impl Authority {
    /// `None` for what is no HTTP URL. Without a scheme it is `https`, as in GOPROXY.
    fn of(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        let default_port = match scheme.to_ascii_lowercase().as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let authority = &rest[..end];
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, default_port),
        };
        let host = host.trim_matches(['[', ']']).trim_end_matches('.');
        if host.is_empty() {
            return None;
        }
        Some(Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

/// The addresses of a host; none if it does not resolve in time.
fn addresses(host: &str) -> Vec<IpAddr> {
    if let Ok(ip) = host.parse() {
        return vec![ip];
    }
    if host == "localhost" || host.ends_with(".localhost") {
        return vec![IpAddr::from([127, 0, 0, 1])];
    }
    let (send, receive) = mpsc::sync_channel(1);
    let name = host.to_owned();
    // The system's resolver has no time limit of its own that could be set.
    thread::spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        let _ = send.send(found.map(|list| list.map(|address| address.ip()).collect()));
    });
    match receive.recv_timeout(RESOLVE_TIMEOUT) {
        Ok(Ok(found)) => found,
        _ => Vec::new(),
    }
}

/// Only an address of this machine can be bound.
fn is_of_this_machine(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

/// The name of an upstream in settings: its URL with scheme and host in lower
/// case, without user, password, default port and the slash at its end.
pub fn upstream_key(url: &str) -> String {
    let (scheme, rest) = url
        .trim()
        .split_once("://")
        .unwrap_or(("https", url.trim()));
    let scheme = scheme.to_ascii_lowercase();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority
        .rsplit('@')
        .next()
        .unwrap_or(authority)
        .to_ascii_lowercase();
    let default_port = if scheme == "http" { ":80" } else { ":443" };
    let host = host.strip_suffix(default_port).unwrap_or(&host);
    format!("{scheme}://{host}{}", path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn itself(listen: &str) -> Itself {
        Itself {
            listen: listen.parse().unwrap(),
            public_url: Some("https://Modgate.corp.example/".to_owned()),
            may_be_named: false,
        }
    }

    #[test]
    fn own_addresses_are_recognised() {
        for (listen, url, own) in [
            ("127.0.0.1:3000", "http://127.0.0.1:3000", true),
            ("127.0.0.1:3000", "http://u:p@localhost:3000/x", true),
            ("127.0.0.1:3000", "http://LOCALHOST:3000/", true),
            ("127.0.0.1:3000", "http://[::1]:3000", true),
            ("127.0.0.1:3000", "127.0.0.1:3000", true),
            ("127.0.0.1:3000", "http://127.0.0.1:3001", false),
            ("127.0.0.1:3000", "http://10.0.0.1:3000", false),
            ("127.0.0.1:80", "http://127.0.0.1", true),
            ("127.0.0.1:443", "127.0.0.1", true),
            ("0.0.0.0:3000", "http://127.0.0.1:3000", true),
            ("[::]:3000", "http://localhost:3000", true),
            ("0.0.0.0:3000", "http://192.0.2.1:3000", false),
            ("127.0.0.1:0", "http://127.0.0.1:0", false),
            ("127.0.0.1:3000", "https://modgate.corp.example", true),
            ("127.0.0.1:3000", "https://modgate.corp.example:443/x", true),
            ("127.0.0.1:3000", "https://modgate.corp.example:8443", false),
            ("127.0.0.1:3000", "direct", false),
            ("127.0.0.1:3000", "file:///srv/go", false),
            ("127.0.0.1:3000", "http://:3000", false),
            ("127.0.0.1:3000", "http://127.0.0.1:99999", false),
        ] {
            assert_eq!(itself(listen).is(url), own, "{listen} {url}");
        }
    }

    #[test]
    fn chains_keep_their_separators() {
        let itself = itself("127.0.0.1:3000");
        for (chain, left, out) in [
            ("http://localhost:3000,direct", "direct", 1),
            (
                "https://a.example,http://localhost:3000|direct",
                "https://a.example,direct",
                1,
            ),
            (
                "https://a.example|http://localhost:3000",
                "https://a.example",
                1,
            ),
            ("http://localhost:3000", "", 1),
            ("http://localhost:3000,http://127.0.0.1:3000", "", 2),
            (
                "https://a.example,, direct",
                "https://a.example,, direct",
                0,
            ),
        ] {
            let cleaned = itself.clean(chain);
            assert_eq!(cleaned.chain, left, "{chain}");
            assert_eq!(cleaned.left_out.len(), out, "{chain}");
        }
        assert!(!itself.clean("http://localhost:3000,direct").has_upstream());
        assert!(
            itself
                .clean("http://localhost:3000,b.example")
                .has_upstream()
        );
    }

    #[test]
    fn keys_of_upstreams_are_normal() {
        for (url, key) in [
            ("https://goproxy.cn", "https://goproxy.cn"),
            ("https://u:p@Goproxy.CN:443/", "https://goproxy.cn"),
            ("goproxy.cn", "https://goproxy.cn"),
            ("http://a.example:80/Go/", "http://a.example/Go"),
            ("http://a.example:8080", "http://a.example:8080"),
        ] {
            assert_eq!(upstream_key(url), key);
        }
    }
}
