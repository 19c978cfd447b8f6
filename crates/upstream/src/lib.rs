//! A chain of upstreams: walking it, health, circuit breaker, retry and hedging.
//!
//! This crate knows HTTP and GOPROXY's list syntax, but nothing of Go modules: paths are opaque.

mod body;
mod breaker;
pub mod chain;
mod client;
mod failure;
mod health;
mod peer;
pub mod settings;
mod turns;
mod walk;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

pub use body::{Body, BodyError};
pub use chain::{BaseUrl, Chain, ChainError, Entry, Fall, Target};
pub use failure::{Attempt, Cause, Failure, FailureKind, Trouble};
pub use health::Snapshot;
pub use settings::{NetworkSettings, UpstreamSettings};
pub use turns::Turn;
pub use walk::Walk;

use egress::Egress;
use health::Health;
use http::HeaderValue;
use peer::{Asked, Peer};
use tokio::sync::mpsc;
use turns::Turns;

/// How long [`Upstreams::mark_bad`] lasts.
const BAD_FOR: Duration = Duration::from_mins(1);
/// Most marks kept; beyond that, some make room.
const MAX_BAD: u64 = 10_000;
/// How long a hint is believed of an upstream that was not asked yet, and most of them.
const HINTED_FOR: Duration = Duration::from_secs(10);
const MAX_HINTED: u64 = 1000;

/// How the names begin that gateways of this kind give themselves in `Via`.
const GATEWAY: &str = "modgate-";

/// Whether the value of a `Via` header names a gateway of this kind.
pub fn names_gateway(via: &str) -> bool {
    via.contains(GATEWAY)
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The path after the base URL: starts with `/`, already escaped for a URL.
    pub path: String,
    /// Whether a second upstream may be asked as soon as the first is slower than usual, rather
    /// than only when it was silent for as long as connecting may take (if its settings allow).
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
/// TLS roots are set up on first use. Clones share it all.
#[derive(Clone)]
pub struct Upstreams {
    shared: Arc<Shared>,
    /// The value of `Via`; none if empty.
    via: Arc<str>,
}

struct Shared {
    default: UpstreamSettings,
    by_url: HashMap<String, UpstreamSettings>,
    egress: Egress,
    /// By real URL. Grows only with the chains configured.
    peers: RwLock<HashMap<String, Arc<Peer>>>,
    /// By real URL: what was known before a change of the configuration of upstreams that were not
    /// asked since.
    legacy: Mutex<HashMap<String, (UpstreamSettings, Arc<Health>)>>,
    /// (masked name, path) whose content was bad lately.
    bad: moka::sync::Cache<(Arc<str>, String), ()>,
    /// Masked names of those that others found ill before they were asked here.
    hinted: moka::sync::Cache<Arc<str>, ()>,
    turns: Turns,
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
            via: egress.network().via.as_str().into(),
            shared: Arc::new(Shared {
                default,
                by_url,
                egress,
                peers: RwLock::default(),
                legacy: Mutex::default(),
                bad: moka::sync::Cache::builder()
                    .max_capacity(MAX_BAD)
                    .time_to_live(BAD_FOR)
                    .build(),
                hinted: moka::sync::Cache::builder()
                    .max_capacity(MAX_HINTED)
                    .time_to_live(HINTED_FOR)
                    .build(),
                turns: Turns::default(),
            }),
        }
    }

    /// The same for a request that came by the proxies of this `Via` header: they are named to the upstreams too, so
    /// that a loop through any of them is seen.
    #[must_use]
    pub fn by_way_of(&self, via: &str) -> Self {
        let own = &self.shared.egress.network().via;
        Self {
            shared: Arc::clone(&self.shared),
            via: [via, own]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(", ")
                .into(),
        }
    }

    /// Takes over what `before` knows of the upstreams: their counts, and the health of those with the same settings.
    pub fn inherit(&self, before: &Self) {
        let mut legacy = lock(&before.shared.legacy).clone();
        let peers = before.shared.read_peers();
        legacy.extend(peers.iter().map(|(url, peer)| (url.clone(), peer.legacy())));
        drop(peers);
        *lock(&self.shared.legacy) = legacy;
        for (marked, ()) in &before.shared.bad {
            self.shared.bad.insert((*marked).clone(), ());
        }
        if let Some(listener) = before.shared.turns.listener() {
            self.shared.turns.listen(listener);
        }
    }

    /// Tells from now on which upstreams fall ill or recover, by what this gateway sees itself. A full channel loses
    /// some.
    pub fn tell_turns(&self, listener: mpsc::Sender<Turn>) {
        self.shared.turns.listen(listener);
    }

    /// What another gateway tells of an upstream. One that is `ill` is passed over until a probe, which goes out with the
    /// next request or at once, finds it well; one that is well again is probed sooner. Must be called within a Tokio
    /// runtime.
    pub fn hint(&self, turn: &Turn) {
        let peers = self.shared.read_peers();
        let mut known = false;
        for peer in peers.values().filter(|peer| *peer.name() == turn.upstream) {
            known = true;
            peer.hint(turn.ill);
        }
        if !known && turn.ill {
            self.shared.hinted.insert(Arc::clone(&turn.upstream), ());
        } else {
            self.shared.hinted.invalidate(&turn.upstream);
        }
    }

    /// Walks the chain until an upstream has the file.
    ///
    /// Must be called within a Tokio runtime. Dropping the future drops the requests.
    pub async fn fetch(&self, chain: &Chain, ask: &Ask) -> Result<Fetched, Failure> {
        self.walk(chain, ask).next().await
    }

    /// A walk along the chain that can go on when what an upstream sent turns out bad.
    pub fn walk(&self, chain: &Chain, ask: &Ask) -> Walk {
        let asked = Asked {
            path: ask.path.clone(),
            via: HeaderValue::from_str(&self.via)
                .ok()
                .filter(|via| !via.is_empty()),
        };
        Walk::new(&self.shared, chain, Arc::new(asked), ask.hedge)
    }

    /// Whether an upstream of the chain is another gateway of this kind, as far as its answers tell. One that has not
    /// answered yet is asked for `path`, which costs it nothing; one that is silent is none.
    pub async fn lead_to_gateway(&self, chain: &Chain, path: &str) -> bool {
        let asked = Asked {
            path: path.to_owned(),
            via: HeaderValue::from_str(&self.via).ok(),
        };
        for entry in chain.entries() {
            if let Target::Http(base) = &entry.target
                && self.shared.peer(base).is_gateway(&asked).await
            {
                return true;
            }
        }
        false
    }

    /// Records that what `upstream` (as in [`Fetched::upstream`]) sent for `path` was bad: for
    /// 60 s the other entries of a chain are asked first for it, and it counts as a failure in
    /// the upstream's health.
    pub fn mark_bad(&self, upstream: &str, path: &str) {
        let peers = self.shared.read_peers();
        let peer = peers.values().find(|peer| &**peer.name() == upstream);
        let Some(peer) = peer.map(Arc::clone) else {
            return;
        };
        drop(peers);
        let asked = Asked {
            path: path.to_owned(),
            via: HeaderValue::from_str(&self.via).ok(),
        };
        self.shared.mark_bad(&peer, path);
        peer.bad_content(&Arc::new(asked));
    }

    /// The state of each upstream used so far, sorted by name.
    pub fn snapshot(&self) -> Vec<Snapshot> {
        let peers = self.shared.read_peers();
        let mut all: Vec<Snapshot> = peers.values().map(|peer| peer.snapshot()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        // Those that differ by user and password alone are one to whoever may not see them.
        all.dedup_by(|next, one| {
            let same = next.name == one.name;
            if same {
                one.join(next);
            }
            same
        });
        all
    }

    /// The first HTTP entry to which a client may be sent: its breaker is closed, and it is asked without user, headers
    /// or credential.
    pub async fn open_to_clients(&self, chain: &Chain) -> Option<BaseUrl> {
        for entry in chain.entries() {
            match &entry.target {
                Target::Http(base) => {
                    if self.shared.peer(base).is_open_to_clients().await {
                        return Some(base.clone());
                    }
                }
                Target::Direct | Target::Off => return None,
            }
        }
        None
    }
}

impl Shared {
    /// The upstream's state, made on first use.
    fn peer(&self, base: &BaseUrl) -> Arc<Peer> {
        if let Some(peer) = self.read_peers().get(base.expose()) {
            return Arc::clone(peer);
        }
        let settings = self.by_url.get(base.key()).unwrap_or(&self.default);
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(base.expose()) {
            return Arc::clone(peer);
        }
        let before = lock(&self.legacy).remove(base.expose());
        let before = before.as_ref().map(|(settings, health)| (settings, health));
        let peer = Arc::new(Peer::new(
            base.clone(),
            settings.clone(),
            self.egress.clone(),
            before,
            self.turns.clone(),
        ));
        if self.hinted.remove(peer.name()).is_some() {
            peer.hint(true);
        }
        peers.insert(base.expose().to_owned(), Arc::clone(&peer));
        peer
    }

    fn read_peers(&self) -> RwLockReadGuard<'_, HashMap<String, Arc<Peer>>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark_bad(&self, peer: &Peer, path: &str) {
        self.bad
            .insert((Arc::clone(peer.name()), path.to_owned()), ());
    }

    /// Whether `base` is marked bad for `path`.
    fn is_bad(&self, base: &BaseUrl, path: &str) -> bool {
        self.bad.contains_key(&(base.shown(), path.to_owned()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstreams")
            .field("peers", &self.read_peers().values())
            .finish_non_exhaustive()
    }
}
