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

impl Mode {
    /// The mode for private modules: a private name in a Location header would be shown to a public host.
    fn inside(self) -> Self {
        match self {
            Self::Redirect => Self::Sync,
            Self::AsyncRedirect => Self::Async,
            mode => mode,
        }
    }
}

/// One rule: which modules, which chain, which mode.
#[derive(Clone, Debug)]
pub struct RouteRule {
    /// The modules, by GOPRIVATE's patterns.
    pub matches: Patterns,
    /// Their chain; none: as if there were no rule.
    pub chain: Option<Arc<Chain>>,
    /// Their mode.
    pub mode: Mode,
}

/// Private or public, chain and mode, for every module path.
///
/// Private modules have ways of their own, in which no general chain is to be found: a rule is among them with those of
/// its patterns alone that match nothing but private modules. So no rule for more than these (`*`, `*.com`) ever has
/// their names.
#[derive(Debug)]
pub struct Routes {
    private: Patterns,
    inside: Ways,
    outside: Ways,
}

/// The ways of private modules, or of public ones.
#[derive(Debug)]
struct Ways {
    /// The first that matches wins.
    rules: Vec<RouteRule>,
    /// For all others.
    chain: Arc<Chain>,
    mode: Mode,
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
    /// The routes where `private` are private modules, and `chain` with `mode` is for what no rule matches. Of the rules,
    /// the first that matches wins. Private modules that no rule names are fetched `direct`.
    pub fn new(private: Patterns, rules: Vec<RouteRule>, chain: Arc<Chain>, mode: Mode) -> Self {
        let inside = rules.iter().map(|rule| RouteRule {
            matches: rule.matches.within(&private),
            chain: rule.chain.clone(),
            mode: rule.mode.inside(),
        });
        let inside = Ways {
            rules: inside.collect(),
            chain: Arc::new(Chain::direct()),
            mode: mode.inside(),
        };
        let outside = Ways { rules, chain, mode };
        Self {
            private,
            inside,
            outside,
        }
    }

    /// The chain of public modules that no rule matches.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.outside.chain
    }

    /// Whether a module's name must stay inside: it is private, or a prefix of what is.
    pub fn is_private(&self, module: &ModulePath) -> bool {
        self.private.leads_to(module)
    }

    /// The route of a module. A private path goes by the chain of a rule that names private modules alone, else by
    /// `direct`; never by the general chain, and never by a rule for more than what is private.
    pub fn resolve(&self, module: &ModulePath) -> Route {
        let private = self.is_private(module);
        let ways = if private { &self.inside } else { &self.outside };
        let rule = ways.rules.iter().find(|rule| {
            if private {
                rule.matches.leads_to(module)
            } else {
                rule.matches.matches(module)
            }
        });
        Route {
            chain: Arc::clone(
                rule.and_then(|rule| rule.chain.as_ref())
                    .unwrap_or(&ways.chain),
            ),
            mode: rule.map_or(ways.mode, |rule| rule.mode),
            private,
            via: Via::default(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &str) -> Patterns {
        Patterns::parse(list).unwrap()
    }

    #[test]
    fn no_wide_rule_has_a_private_name() {
        let rule = |matches: &str, chain: &str| RouteRule {
            matches: patterns(matches),
            chain: Some(Arc::new(chain.parse().unwrap())),
            mode: Mode::AsyncRedirect,
        };
        let routes = Routes::new(
            patterns("git.corp.com/*,github.com/corp,*.lab.com"),
            vec![
                rule("*.com,github.com/*,git.*,*", "https://public.example"),
                rule("git.corp.com,x.lab.com/a", "https://inside.example"),
            ],
            Arc::new("https://general.example".parse().unwrap()),
            Mode::Redirect,
        );
        for (module, chain, mode) in [
            ("git.corp.com", "https://inside.example", Mode::Async),
            ("git.corp.com/team/x", "https://inside.example", Mode::Async),
            ("github.com", "direct", Mode::Sync),
            ("github.com/corp/x", "direct", Mode::Sync),
            ("x.lab.com", "https://inside.example", Mode::Async),
            ("x.lab.com/b", "direct", Mode::Sync),
            ("y.lab.com/a", "direct", Mode::Sync),
            (
                "github.com/other",
                "https://public.example",
                Mode::AsyncRedirect,
            ),
        ] {
            let route = routes.resolve(&ModulePath::parse(module).unwrap());
            let got = (route.chain().to_string(), route.mode());
            assert_eq!(got, (chain.to_owned(), mode), "{module}");
            assert_eq!(route.is_private(), !module.ends_with("other"), "{module}");
        }
    }
}
