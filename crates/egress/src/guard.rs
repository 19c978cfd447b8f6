//! The guard: no request that a stranger names goes to an address inside.
//!
//! A name is checked by the resolver whose answer is then connected to, so that a name which answers differently the
//! second time (DNS rebinding) gains nothing.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::is_public;
use crate::hosts::normal;

/// Asks the name service for the addresses of a host.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The system's resolver.
pub(crate) fn system() -> Lookup {
    Arc::new(|host| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// Why an address that a stranger named is not asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardError {
    host: String,
    address: Option<IpAddr>,
}

impl GuardError {
    /// What an operator who wants it all the same can do.
    pub fn hint(&self) -> String {
        format!(
            "if `{}` is a host of yours, list it in network.internal_hosts",
            self.host
        )
    }
}

impl fmt::Display for GuardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.host;
        match self.address {
            Some(address) if address.to_string() != *host => {
                write!(f, "{host} has the address {address}, which is not public")
            }
            Some(_) => write!(f, "{host} is not a public address"),
            None => write!(f, "{host} is a name for inside"),
        }
    }
}

impl Error for GuardError {}

/// Checks all addresses of a host: one that is not public spoils them all.
pub(crate) fn check(host: &str, addresses: &[IpAddr]) -> Result<(), GuardError> {
    match addresses.iter().find(|address| !is_public(**address)) {
        Some(address) => Err(GuardError {
            host: normal(host),
            address: Some(*address),
        }),
        None => Ok(()),
    }
}

/// Checks an address in place of a name: no resolver sees it.
pub(crate) fn check_literal(host: &str) -> Result<(), GuardError> {
    match normal(host).parse() {
        Ok(address) => check(host, &[address]),
        Err(_) => Ok(()),
    }
}

/// Checks a name that a forward proxy is to resolve: what it comes to is the proxy's affair, but names which only
/// exist inside are refused here.
pub(crate) fn check_name(host: &str) -> Result<(), GuardError> {
    const INSIDE: [&str; 6] = [
        ".localhost",
        ".local",
        ".internal",
        ".home.arpa",
        ".lan",
        ".intranet",
    ];
    check_literal(host)?;
    let name = normal(host);
    let literal = name.parse::<IpAddr>().is_ok();
    if !literal && (!name.contains('.') || INSIDE.iter().any(|end| name.ends_with(end))) {
        return Err(GuardError {
            host: name,
            address: None,
        });
    }
    Ok(())
}

/// The host of a URL as the name service wants it.
pub(crate) fn plain_host(url: &Url) -> Option<String> {
    let host = url.host_str().filter(|host| !host.is_empty())?;
    Some(normal(host))
}

/// The resolver of clients for what strangers name.
pub(crate) struct Guarded(pub(crate) Lookup);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let found = (self.0)(host.clone());
        Box::pin(async move {
            let found = found.await?;
            check(&host, &found)?;
            Ok(addresses(found))
        })
    }
}

/// The resolver of all other clients.
pub(crate) struct Unguarded(pub(crate) Lookup);

impl Resolve for Unguarded {
    fn resolve(&self, name: Name) -> Resolving {
        let found = (self.0)(name.as_str().to_owned());
        Box::pin(async move { Ok(addresses(found.await?)) })
    }
}

fn addresses(found: Vec<IpAddr>) -> Addrs {
    // The client puts the port of the URL in place of 0.
    Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_for_a_proxy() {
        for refused in [
            "localhost",
            "a.localhost",
            "printer.local",
            "metadata.google.internal",
            "METADATA.google.internal.",
            "metadata",
            "127.0.0.1",
            "[::1]",
            "[::ffff:10.0.0.1]",
        ] {
            assert!(check_name(refused).is_err(), "{refused}");
        }
        for fine in ["github.com", "1.1.1.1", "[2606:4700::1111]"] {
            assert!(check_name(fine).is_ok(), "{fine}");
        }
    }

    #[test]
    fn one_bad_address_spoils_all() {
        let addresses = ["1.1.1.1", "10.0.0.1"].map(|a| a.parse().unwrap());
        let error = check("evil.example", &addresses).unwrap_err();
        assert_eq!(
            error.to_string(),
            "evil.example has the address 10.0.0.1, which is not public"
        );
        assert!(check("evil.example", &addresses[..1]).is_ok());
    }
}
