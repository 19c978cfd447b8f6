//! What an operator can set: per upstream, and for the network as a whole.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// Settings of one upstream.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Headers added to each request to this upstream, and to no other host.
    pub headers: Vec<(String, String)>,
    /// Statuses to be read as others, for example 403 as 404. Nothing can be read as 200.
    pub status_map: HashMap<u16, u16>,
    /// Longest wait for a connection, TLS handshake included, and for a free place under
    /// `max_concurrent`.
    pub connect_timeout: Duration,
    /// Longest wait for the head of the answer, connecting and redirects included.
    pub first_byte_timeout: Duration,
    /// Longest silence in the middle of a body.
    pub idle_timeout: Duration,
    /// Most requests in flight at once, bodies being read included.
    pub max_concurrent: usize,
    /// Most repetitions of a request after a reset connection, 502, 503 or 504.
    pub retries: u32,
    /// Whether the next upstream may be asked too when this one is slower than usual.
    pub hedge: bool,
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self {
            headers: Vec::new(),
            status_map: HashMap::new(),
            connect_timeout: Duration::from_secs(3),
            first_byte_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            max_concurrent: 64,
            retries: 2,
            hedge: true,
        }
    }
}

impl fmt::Debug for UpstreamSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of headers are usually tokens.
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("UpstreamSettings")
            .field("headers", &names)
            .field("status_map", &self.status_map)
            .field("connect_timeout", &self.connect_timeout)
            .field("first_byte_timeout", &self.first_byte_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_concurrent", &self.max_concurrent)
            .field("retries", &self.retries)
            .field("hedge", &self.hedge)
            .finish()
    }
}

/// Settings shared by all upstreams. The environment is not looked at: the caller fills these.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// PEM certificates trusted besides the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Forward proxy for all upstreams: `http://`, `https://`, `socks5://` or `socks5h://`.
    pub proxy: Option<String>,
    /// Hosts, domains or CIDR ranges asked without the proxy.
    pub no_proxy: Vec<String>,
    /// The value of `Via` on each request, for example `1.1 modgate-ab12`; none if empty.
    pub via: String,
}

impl fmt::Debug for NetworkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = self.proxy.as_deref().map(|proxy| {
            // Up to the last `@`, whatever the rest looks like.
            match (proxy.split_once("://"), proxy.rsplit_once('@')) {
                (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
                (None, Some((_, host))) => format!("***@{host}"),
                (_, None) => proxy.to_owned(),
            }
        });
        f.debug_struct("NetworkSettings")
            .field("ca_pem", &self.ca_pem.as_ref().map(Vec::len))
            .field("proxy", &proxy)
            .field("no_proxy", &self.no_proxy)
            .field("via", &self.via)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_secrets() {
        let settings = UpstreamSettings {
            headers: vec![("Authorization".to_owned(), "secret".to_owned())],
            ..UpstreamSettings::default()
        };
        let network = NetworkSettings {
            proxy: Some("http://me:secret@proxy.example:3128".to_owned()),
            ..NetworkSettings::default()
        };
        let shown = format!("{settings:?} {network:?}");
        assert!(!shown.contains("secret"), "{shown}");
        assert!(shown.contains("proxy.example"), "{shown}");
    }
}
