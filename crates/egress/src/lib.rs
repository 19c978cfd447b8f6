//! Everything that leaves the machine: network settings, credentials, HTTP clients, and the guard in front of
//! addresses that strangers name.
//!
//! Two kinds of addresses are asked. Those that an administrator wrote (upstreams) are trusted, whatever they resolve
//! to ([`Egress::trusted`]). Those that strangers name (go-import pages, redirects) must be public, or belong to a host
//! listed as internal ([`Egress::open`], [`Egress::get_guarded`], and [`Egress::pin`] for child processes).

mod address;
mod client;
pub mod credential;
mod error;
mod guard;
mod hosts;
mod network;
mod page;
mod redirect;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url};

pub use address::is_public;
pub use credential::{
    Credential, CredentialError, Credentials, Grant, Hidden, Kind, Secret, UrlPrefix,
};
pub use error::{EgressError, EgressErrorKind, explain};
pub use guard::{GuardError, Lookup};
pub use hosts::{is_internal_host, is_no_proxy};
pub use network::{NetworkSettings, port_of};
pub use page::{Answer, Ask, Page, Post};
pub use redirect::{MAX_REDIRECTS, redirect};

use client::{Clients, Identity, Key};
use network::Network;

/// The way out. Cheap to clone and to make: clients are set up on first use.
#[derive(Clone)]
pub struct Egress(Arc<Inner>, Agent);

/// As what it asks, to those who read the name of a program.
#[derive(Debug, Clone, Copy)]
enum Agent {
    Ours,
    Git,
}

struct Inner {
    network: Network,
    credentials: Credentials,
    clients: Clients,
}

impl Egress {
    /// With the system's name resolution.
    pub fn new(network: NetworkSettings, credentials: Credentials) -> Self {
        Self::make(network, credentials, None)
    }

    /// With another name resolution, as tests need.
    pub fn with_lookup(network: NetworkSettings, credentials: Credentials, lookup: Lookup) -> Self {
        Self::make(network, credentials, Some(lookup))
    }

    fn make(network: NetworkSettings, credentials: Credentials, lookup: Option<Lookup>) -> Self {
        let inner = Inner {
            network: Network::new(network),
            credentials,
            clients: Clients::new(lookup),
        };
        Self(Arc::new(inner), Agent::Ours)
    }

    /// The same, for questions in git's own protocol: some hosts answer these only to who begins its name as git does.
    #[must_use]
    pub fn as_git(&self) -> Self {
        Self(Arc::clone(&self.0), Agent::Git)
    }

    /// The settings it was made with.
    pub fn network(&self) -> &NetworkSettings {
        &self.0.network.settings
    }

    /// The credentials it was made with.
    pub fn credentials(&self) -> &Credentials {
        &self.0.credentials
    }

    /// The forward proxy for an http or https URL, with its userinfo: for clients, never for logs. Other schemes have
    /// none.
    pub fn proxy_for(&self, url: &Url) -> Option<&str> {
        self.0.network.proxy_for(url)
    }

    /// The same for a URL that a stranger named: the proxy resolves the name, not this machine, whose answer nobody would
    /// check. What is listed as internal needs no check.
    pub fn guarded_proxy_for(&self, url: &Url) -> Option<String> {
        let proxy = self.proxy_for(url)?;
        if self.is_internal(url) {
            return Some(proxy.to_owned());
        }
        Some(proxy.replacen("socks5://", "socks5h://", 1))
    }

    /// Whether the URL's host is listed as internal.
    pub fn is_internal(&self, url: &Url) -> bool {
        self.0.network.is_internal(url)
    }

    /// Whether an upstream has the URL's host and port.
    pub fn is_upstream(&self, url: &Url) -> bool {
        self.0.network.is_upstream(url)
    }

    /// The client for an address that an administrator wrote; it follows no redirects. A client certificate in `grant`
    /// is presented; the headers of `grant` are the caller's to send.
    pub async fn trusted(
        &self,
        url: &Url,
        grant: Option<&Grant>,
        connect_timeout: Duration,
    ) -> Result<Client, EgressError> {
        let proxy = self.proxy_for(url).map(str::to_owned);
        self.client(proxy, false, grant, connect_timeout).await
    }

    /// The client for an address that a stranger named, such as a redirect; it follows no redirects. It is refused
    /// unless its addresses are public or its host is listed as internal.
    pub async fn guarded(
        &self,
        url: &Url,
        connect_timeout: Duration,
    ) -> Result<Client, EgressError> {
        self.guarded_with(url, None, connect_timeout).await
    }

    async fn guarded_with(
        &self,
        url: &Url,
        grant: Option<&Grant>,
        connect_timeout: Duration,
    ) -> Result<Client, EgressError> {
        if self.is_internal(url) {
            return self.trusted(url, grant, connect_timeout).await;
        }
        let host = url.host_str().unwrap_or("");
        let Some(proxy) = self.guarded_proxy_for(url) else {
            guard::check_literal(host)?;
            return self.client(None, true, grant, connect_timeout).await;
        };
        guard::check_name(host)?;
        self.client(Some(proxy), false, grant, connect_timeout)
            .await
    }

    async fn client(
        &self,
        proxy: Option<String>,
        guarded: bool,
        grant: Option<&Grant>,
        connect_timeout: Duration,
    ) -> Result<Client, EgressError> {
        let identity = match grant.and_then(Grant::client_certificate) {
            Some(certificate) => Some(Identity::look(certificate).await?),
            None => None,
        };
        let key = Key {
            connect_timeout,
            proxy,
            guarded,
            identity,
        };
        self.0.clients.get(self.network(), key).await
    }

    /// For child processes: the checked addresses of a stranger's URL, to connect to these and no others. `None` if a
    /// forward proxy is used for it, which resolves by itself.
    ///
    /// Waits for the name service as long as that takes: bound it by a time limit.
    pub async fn pin(&self, url: &Url) -> Result<Option<Vec<IpAddr>>, EgressError> {
        let host = guard::plain_host(url)
            .ok_or_else(|| EgressError::new(EgressErrorKind::Refused, "the URL names no host"))?;
        let internal = self.is_internal(url);
        if self.proxy_for(url).is_some() {
            if !internal {
                guard::check_name(&host)?;
            }
            return Ok(None);
        }
        let addresses = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => (self.0.clients.lookup())(host.clone())
                .await
                .map_err(|error| no_such_host(&host, &error))?,
        };
        if addresses.is_empty() {
            let text = format!("{host}: no such host");
            return Err(EgressError::new(EgressErrorKind::Connect, text));
        }
        if !internal {
            guard::check(&host, &addresses)?;
        }
        Ok(Some(addresses))
    }
}

fn no_such_host(host: &str, error: &std::io::Error) -> EgressError {
    tracing::debug!(%host, %error, "no addresses");
    EgressError::new(EgressErrorKind::Connect, format!("{host}: no such host"))
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress")
            .field("network", self.network())
            .field("credentials", self.credentials())
            .finish_non_exhaustive()
    }
}
