//! What an operator can set per upstream.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

pub use egress::NetworkSettings;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_secrets() {
        let settings = UpstreamSettings {
            headers: vec![("Authorization".to_owned(), "secret".to_owned())],
            ..UpstreamSettings::default()
        };
        let shown = format!("{settings:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}
