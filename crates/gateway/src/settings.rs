//! What a [`Gateway`](crate::Gateway) is told; the binary fills it from the configuration.

use std::{sync::Arc, time::Duration};

use gomod::{ModulePath, pattern::Patterns};
use tlog::note::VerifierKey;
use upstream::{Upstreams, chain::Chain};
use vcs::Direct;

use crate::via::Via;

/// Everything that may change while the gateway runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which chain and mode a module has.
    pub routes: Arc<Routes>,
    /// The upstreams of all chains, with their health.
    pub upstreams: Arc<Upstreams>,
    /// Version control itself, where a chain ends in `direct`.
    pub direct: Arc<Direct>,
    /// The checksum database; none: nothing is verified.
    pub sumdb: Option<SumDbSettings>,
    /// Lives of answers that change.
    pub freshness: Freshness,
    /// Lives of "no".
    pub negative: Negative,
    /// The largest module zip, in bytes: 500 MiB is what the Go client takes (protocol.md section 6).
    pub max_zip_bytes: u64,
    /// Background fetches of the `async` modes that may wait.
    pub async_queue: usize,
    /// Background fetches at once.
    pub async_workers: usize,
}

impl Settings {
    /// The same for a request that came by other proxies.
    pub(crate) fn by_way_of(self: Arc<Self>, via: &Via) -> Arc<Self> {
        if via.as_str().is_empty() {
            return self;
        }
        let upstreams = Arc::new(self.upstreams.by_way_of(via.as_str()));
        Arc::new(Self {
            upstreams,
            ..(*self).clone()
        })
    }
}

/// How a miss is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Fetch, then answer.
    #[default]
    Sync,
    /// Answer 404 now, fetch in the background.
    Async,
    /// Send the client to the first healthy upstream.
    Redirect,
    /// The same, and fetch in the background.
    AsyncRedirect,
    /// What is kept, nothing else.
    None,
}

/// One rule: which modules, which chain, which mode.
#[derive(Clone, Debug)]
pub struct RouteRule {
    /// The modules, by GOPRIVATE's patterns.
    pub matches: Patterns,
    /// Their patterns as written.
    pub patterns: Vec<String>,
    /// Their chain; none: as if there were no rule.
    pub chain: Option<Arc<Chain>>,
    /// Their mode.
    pub mode: Mode,
}

/// Private or public, chain and mode, for every module path.
#[derive(Debug)]
pub struct Routes {
    /// Private modules.
    pub private: Patterns,
    /// The first that matches wins.
    pub rules: Vec<RouteRule>,
    /// For all other public modules.
    pub chain: Arc<Chain>,
    /// The mode where no rule says one.
    pub mode: Mode,
    /// What private modules use that no rule names: `direct` alone.
    pub direct: Arc<Chain>,
}

/// Where a module is fetched from. Made by [`Routes::resolve`] alone, so that the chain of a private module
/// is always one that its owner wrote for it.
#[derive(Clone, Debug)]
pub struct Route {
    chain: Arc<Chain>,
    mode: Mode,
    private: bool,
    via: Via,
}

impl Route {
    /// The same for a request that came by other proxies.
    #[must_use]
    pub(crate) fn by_way_of(self, via: &Via) -> Self {
        let via = via.clone();
        Self { via, ..self }
    }

    /// The proxies by which the request came.
    pub(crate) fn via(&self) -> &Via {
        &self.via
    }

    /// The chain to walk.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// How a miss is answered.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the name must stay inside.
    pub fn is_private(&self) -> bool {
        self.private
    }
}

impl Routes {
    /// Whether a module's name must stay inside: it is private, or a prefix of what is.
    pub fn is_private(&self, module: &ModulePath) -> bool {
        self.private.leads_to(module)
    }

    /// The route of a module. A private path goes by the chain of a rule that names it, else by `direct` alone; never
    /// by the general chain, and never by a rule for everything (`*`).
    pub fn resolve(&self, module: &ModulePath) -> Route {
        let private = self.is_private(module);
        let rule = self.rules.iter().find(|rule| {
            if private {
                rule.names(module)
            } else {
                rule.matches.matches(module)
            }
        });
        let fallback = if private { &self.direct } else { &self.chain };
        Route {
            chain: Arc::clone(
                rule.and_then(|rule| rule.chain.as_ref())
                    .unwrap_or(fallback),
            ),
            mode: match rule.map_or(self.mode, |rule| rule.mode) {
                // A private name in a Location header would be shown to a public host.
                Mode::Redirect if private => Mode::Sync,
                Mode::AsyncRedirect if private => Mode::Async,
                mode => mode,
            },
            private,
            via: Via::default(),
        }
    }
}

impl RouteRule {
    /// Whether the rule matches by a pattern that says more than "any host".
    fn names(&self, module: &ModulePath) -> bool {
        self.patterns.iter().any(|pattern| {
            let host = pattern.split('/').next().unwrap_or_default();
            host.bytes().any(|byte| byte.is_ascii_alphanumeric())
                && Patterns::parse(pattern).is_ok_and(|patterns| patterns.leads_to(module))
        })
    }
}

/// The checksum database to verify against and to serve.
#[derive(Clone, Debug)]
pub struct SumDbSettings {
    /// Its name and key.
    pub key: VerifierKey,
    /// Where it is asked; none: through the chain's `/sumdb/`, else `https://<name>`.
    pub url: Option<Arc<Chain>>,
    /// Its own address, for when no upstream of the chain passes it on.
    pub own: Arc<Chain>,
    /// Modules that are not verified, by GONOSUMDB's patterns.
    pub exempt: Patterns,
    /// What happens to versions it does not know.
    pub allow_unknown: bool,
    /// What happens while it cannot be reached.
    pub serve_unverified: bool,
}

/// Lives of answers that change.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    /// `list`.
    pub list: Duration,
    /// `@latest`.
    pub latest: Duration,
    /// Queries: branches, commits.
    pub query: Duration,
    /// How long past its life an answer is still given at once while it is asked for anew.
    pub stale_while_revalidate: Duration,
    /// How long past its life an answer is given when upstream fails; none: for ever.
    pub stale_if_error: Option<Duration>,
}

/// Lives of "no", per cause.
#[derive(Clone, Copy, Debug)]
pub struct Negative {
    /// Not there.
    pub absent: Duration,
    /// Gone (410).
    pub gone: Duration,
    /// Upstream trouble.
    pub trouble: Duration,
}
