//! Lists of hosts as administrators write them.

use std::net::IpAddr;

/// Whether an entry of `network.internal_hosts` can be the name or address of any host.
pub fn is_internal_host(entry: &str) -> bool {
    Hosts::internal(&[entry.to_owned()]).all_can_match()
}

/// The same for an entry of `network.no_proxy`.
pub fn is_no_proxy(entry: &str) -> bool {
    Hosts::no_proxy(&[entry.to_owned()]).all_can_match()
}

/// A list of hosts: names, domains, addresses, networks, each with an optional port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts(Vec<Pattern>);

#[derive(Debug, Clone)]
struct Pattern {
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone)]
enum Host {
    Any,
    /// This name or address.
    Exact(String),
    /// Names below this one.
    Under(String),
    /// The name and all below it.
    Domain(String),
    /// A network, as an address and the number of its leading bits that count.
    Network(IpAddr, u8),
}

impl Hosts {
    /// `network.internal_hosts`: `host` is that host alone, `*.domain` all hosts below it.
    pub(crate) fn internal(entries: &[String]) -> Self {
        Self::read(entries, |name| match name.strip_prefix("*.") {
            Some(domain) => Host::Under(domain.to_owned()),
            None => Host::Exact(name.to_owned()),
        })
    }

    /// `NO_PROXY` as curl reads it: a name stands for the hosts below it too, with or without a
    /// leading dot; `*` is everything.
    pub(crate) fn no_proxy(entries: &[String]) -> Self {
        Self::read(entries, |name| match name {
            "*" => Host::Any,
            name => Host::Domain(
                name.trim_start_matches('*')
                    .trim_start_matches('.')
                    .to_owned(),
            ),
        })
    }

    fn read(entries: &[String], name: impl Fn(&str) -> Host) -> Self {
        let entries = entries
            .iter()
            .flat_map(|entry| entry.split(','))
            .map(str::trim)
            .filter(|entry| !entry.is_empty());
        Self(entries.map(|entry| pattern(entry, &name)).collect())
    }

    fn all_can_match(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|pattern| pattern.host.can_match())
    }

    /// Whether a host (IPv6 addresses with or without brackets) and port are listed.
    pub(crate) fn contains(&self, host: &str, port: u16) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let host = normal(host);
        let address = host.parse().ok();
        self.0
            .iter()
            .any(|pattern| pattern.matches(&host, address, port))
    }
}

impl Host {
    /// No name has a slash, a colon or a star, which stand in what was meant as a URL, a network or a port.
    fn can_match(&self) -> bool {
        let letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        match self {
            Self::Any | Self::Network(..) => true,
            Self::Exact(name) if name.parse::<IpAddr>().is_ok() => true,
            Self::Exact(name) | Self::Under(name) | Self::Domain(name) => {
                !name.is_empty() && !name.starts_with('.') && name.chars().all(letter)
            }
        }
    }
}

impl Pattern {
    fn matches(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        if self.port.is_some_and(|wanted| wanted != port) {
            return false;
        }
        let under = |domain: &str| {
            host.strip_suffix(domain)
                .is_some_and(|rest| rest.ends_with('.'))
        };
        match &self.host {
            Host::Any => true,
            Host::Exact(name) => name == host,
            Host::Under(domain) => under(domain),
            Host::Domain(domain) => domain == host || under(domain),
            Host::Network(network, bits) => {
                address.is_some_and(|address| in_network(address, *network, *bits))
            }
        }
    }
}

fn pattern(entry: &str, name: impl Fn(&str) -> Host) -> Pattern {
    let network = entry.split_once('/').and_then(|(address, bits)| {
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.parse().ok().filter(|bits| *bits <= most)?;
        Some(Host::Network(address, bits))
    });
    if let Some(host) = network {
        return Pattern { host, port: None };
    }
    let (host, port) = match entry.rsplit_once(':') {
        // An IPv6 address has colons of its own; with a port it stands in brackets.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    };
    let host = normal(host);
    let host = match host.parse::<IpAddr>() {
        Ok(address) => Host::Exact(address.to_string()),
        Err(_) => name(&host),
    };
    Pattern { host, port }
}

/// A host without brackets and final dot, in lower case.
pub(crate) fn normal(host: &str) -> String {
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            (a.to_bits() ^ n.to_bits()) & mask == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            (a.to_bits() ^ n.to_bits()) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    #[test]
    fn internal_hosts() {
        let hosts = Hosts::internal(&list(
            "git.corp.example, *.lab.example,10.0.0.5,[fd00::1]:8443,forge.example:8443",
        ));
        for (host, port, want) in [
            ("git.corp.example", 443, true),
            ("GIT.corp.example.", 22, true),
            ("x.git.corp.example", 443, false),
            ("a.lab.example", 443, true),
            ("a.b.lab.example", 443, true),
            ("lab.example", 443, false),
            ("evillab.example", 443, false),
            ("10.0.0.5", 80, true),
            ("10.0.0.6", 80, false),
            ("[fd00::1]", 8443, true),
            ("[fd00::1]", 443, false),
            ("forge.example", 8443, true),
            ("forge.example", 443, false),
        ] {
            assert_eq!(hosts.contains(host, port), want, "{host}:{port}");
        }
        assert!(!Hosts::internal(&list("*")).contains("a.example", 1));
    }

    #[test]
    fn no_proxy() {
        let hosts = Hosts::no_proxy(&list(
            "corp.example,.dot.example,10.0.0.0/8,fd00::/8,h.x:81",
        ));
        for (host, port, want) in [
            ("corp.example", 443, true),
            ("a.corp.example", 443, true),
            ("notcorp.example", 443, false),
            ("dot.example", 443, true),
            ("a.dot.example", 443, true),
            ("10.1.2.3", 443, true),
            ("11.1.2.3", 443, false),
            ("fd12::1", 443, true),
            ("h.x", 81, true),
            ("h.x", 80, false),
        ] {
            assert_eq!(hosts.contains(host, port), want, "{host}:{port}");
        }
        assert!(Hosts::no_proxy(&list("*")).contains("a.example", 1));
        assert!(Hosts::no_proxy(&list("0.0.0.0/0")).contains("1.2.3.4", 1));
    }
    #[test]
    fn an_entry_that_matches_nothing_is_known() {
        for entry in [
            "git.corp.example",
            "*.lab.example",
            "git.corp.example:8443",
            "Git.corp.example.",
            "10.0.0.5",
            "10.0.0.0/8",
            "fd00::1",
            "[fd00::1]:8443",
            "10.0.0.5:80",
            "my_host",
        ] {
            assert!(is_internal_host(entry) && is_no_proxy(entry), "{entry}");
        }
        for entry in ["*", ".corp.example", "*corp.example"] {
            assert!(!is_internal_host(entry) && is_no_proxy(entry), "{entry}");
        }
        for entry in [
            "",
            "git.corp.example/team",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/8:80",
            "a.example:99999",
            "a.example:",
            "a:b:c",
            "a.*.example",
            "[::1",
        ] {
            assert!(!is_internal_host(entry) && !is_no_proxy(entry), "{entry}");
        }
    }
}
