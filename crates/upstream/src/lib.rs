//! A chain of upstreams: walking it, health, circuit breaker, retry and hedging.
//!
//! This crate knows HTTP and GOPROXY's list syntax, but nothing of Go modules: paths are opaque.

mod body;
mod breaker;
pub mod chain;
mod client;
mod failure;
mod peer;
pub mod settings;
mod walk;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

pub use body::{Body, BodyError};
pub use chain::{BaseUrl, Chain, ChainError, Entry, Fall, Target};
pub use failure::{Attempt, Cause, Failure, FailureKind, Trouble};
pub use peer::Snapshot;
pub use settings::{NetworkSettings, UpstreamSettings};

use egress::Egress;
use peer::Peer;

/// How long [`Upstreams::mark_bad`] lasts.
const BAD_FOR: Duration = Duration::from_mins(1);
/// Most marks kept; beyond that, some make room.
const MAX_BAD: u64 = 10_000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The path after the base URL: starts with `/`, already escaped for a URL.
    pub path: String,
    /// Whether a second upstream may be asked when the first is slow (if its settings allow).
    pub hedge: bool,
}

/// A file on its way: the head of a 200 answer has come.
#[derive(Debug)]
pub struct Fetched {
    /// The masked name of the upstream it comes from.
    pub upstream: Arc<str>,
    /// `Content-Length` in bytes, if the upstream gave one; the body is held to it.
    pub length: Option<u64>,
    /// The body.
    pub body: Body,
}

/// All upstreams, with their settings, health and connections. Cheap to make: connections and
/// TLS roots are set up on first use.
pub struct Upstreams {
    default: UpstreamSettings,
    by_url: HashMap<String, UpstreamSettings>,
    egress: Egress,
    /// By real URL. Grows only with the chains configured.
    peers: RwLock<HashMap<String, Arc<Peer>>>,
    /// (masked name, path) whose content was bad lately.
    bad: moka::sync::Cache<(Arc<str>, String), ()>,
}

impl Upstreams {
    /// All requests go by `egress`, with the credential that it has for an upstream's URL unless the upstream's own
    /// settings say more. `by_url` is keyed by the base URL without userinfo and without trailing slash
    /// ([`BaseUrl::key`]); upstreams without an entry get `default`.
    pub fn new(
        egress: Egress,
        default: UpstreamSettings,
        by_url: HashMap<String, UpstreamSettings>,
    ) -> Self {
        Self {
            default,
            by_url,
            egress,
            peers: RwLock::new(HashMap::new()),
            bad: moka::sync::Cache::builder()
                .max_capacity(MAX_BAD)
                .time_to_live(BAD_FOR)
                .build(),
        }
    }

    /// Walks the chain until an upstream has the file.
    ///
    /// Must be called within a Tokio runtime. Dropping the future drops the requests.
    pub async fn fetch(&self, chain: &Chain, ask: &Ask) -> Result<Fetched, Failure> {
        walk::Walk::new(self, chain, ask).run().await
    }

    /// Records that what `upstream` (as in [`Fetched::upstream`]) sent for `path` was bad: for
    /// 60 s the other entries of a chain are asked first for it, and it counts as a failure in
    /// the upstream's health.
    pub fn mark_bad(&self, upstream: &str, path: &str) {
        let peers = self.read_peers();
        let Some(peer) = peers.values().find(|peer| &**peer.name() == upstream) else {
            return;
        };
        self.bad
            .insert((Arc::clone(peer.name()), path.to_owned()), ());
        peer.bad_content();
    }

    /// The state of each upstream used so far, sorted by name.
    pub fn snapshot(&self) -> Vec<Snapshot> {
        let mut all: Vec<Snapshot> = self.read_peers().values().map(|p| p.snapshot()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The first HTTP entry whose breaker is closed, else the first HTTP entry, if any.
    pub fn first_healthy(&self, chain: &Chain) -> Option<BaseUrl> {
        let bases = || {
            chain
                .entries()
                .iter()
                .filter_map(|entry| match &entry.target {
                    Target::Http(base) => Some(base),
                    Target::Direct | Target::Off => None,
                })
        };
        bases()
            .find(|base| self.peer(base).is_closed())
            .or_else(|| bases().next())
            .cloned()
    }

    /// The upstream's state, made on first use.
    fn peer(&self, base: &BaseUrl) -> Arc<Peer> {
        if let Some(peer) = self.read_peers().get(base.expose()) {
            return Arc::clone(peer);
        }
        let settings = self.by_url.get(base.key()).unwrap_or(&self.default);
        let peer = Peer::new(base.clone(), settings.clone(), self.egress.clone());
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            peers
                .entry(base.expose().to_owned())
                .or_insert_with(|| Arc::new(peer)),
        )
    }

    fn read_peers(&self) -> RwLockReadGuard<'_, HashMap<String, Arc<Peer>>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `base` is marked bad for `path`.
    fn is_bad(&self, base: &BaseUrl, path: &str) -> bool {
        self.bad.contains_key(&(base.shown(), path.to_owned()))
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstreams")
            .field("peers", &self.read_peers().values())
            .finish_non_exhaustive()
    }
}
