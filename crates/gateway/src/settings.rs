//! What a [`Gateway`](crate::Gateway) is told; the binary fills it from the configuration.

use std::{sync::Arc, time::Duration};

use gomod::{ModulePath, pattern::Patterns};
use tlog::note::VerifierKey;
use upstream::{
    Upstreams,
    chain::{Chain, Target},
};
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
    rules: Vec<(RouteRule, Option<ChainName>)>,
    /// For all others.
    chain: Arc<Chain>,
    name: ChainName,
    mode: Mode,
}

impl Ways {
    fn new(
        rules: impl Iterator<Item = RouteRule>,
        chain: Arc<Chain>,
        mode: Mode,
        private: bool,
    ) -> Self {
        let named = |rule: RouteRule| {
            let name = rule.chain.as_ref();
            let name = name.map(|chain| ChainName::new(chain, private));
            (rule, name)
        };
        Self {
            rules: rules.map(named).collect(),
            name: ChainName::new(&chain, private),
            chain,
            mode,
        }
    }
}

/// Whose word an answer is that changes: `public` or `private`, and who is asked, in no order and without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChainName(Arc<str>);

impl ChainName {
    fn new(chain: &Chain, private: bool) -> Self {
        let entries = chain.entries().iter();
        let mut words: Vec<&str> = entries
            .map(|entry| match &entry.target {
                Target::Http(base) => base.key(),
                Target::Direct => "direct",
                Target::Off => "off",
            })
            .collect();
        words.sort_unstable();
        let whose = if private { "private" } else { "public" };
        Self(format!("{whose} {}", words.join(" ")).into())
    }

    /// Reads what [`ChainName::as_str`] gave.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let named = text.starts_with("public ") || text.starts_with("private ");
        named.then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_private(&self) -> bool {
        self.0.starts_with("private ")
    }

    /// Whether what `other` said may be said in its place. One that asks nobody goes by what others said.
    pub(crate) fn takes(&self, other: &Self) -> bool {
        let whose = self.0.strip_suffix("off").filter(|rest| {
            // Nothing stands between `public ` or `private ` and `off`.
            rest.split_ascii_whitespace().count() == 1
        });
        self == other || whose.is_some_and(|whose| other.0.starts_with(whose))
    }
}

/// Where a module is fetched from. Made by [`Routes::resolve`] alone, so that the chain of a private module
/// is always one that its owner wrote for it.
#[derive(Clone, Debug)]
pub struct Route {
    chain: Arc<Chain>,
    name: ChainName,
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

    /// The same without version control. `None` if nothing is left.
    pub(crate) fn of_upstreams(&self) -> Option<Self> {
        let chain = Arc::new(self.chain.upstreams()?);
        Some(Self {
            chain,
            ..self.clone()
        })
    }

    /// The chain to walk.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// Whose word its answers are.
    pub(crate) fn chain_name(&self) -> &ChainName {
        &self.name
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
        let inside = Ways::new(inside, Arc::new(Chain::direct()), mode.inside(), true);
        let outside = Ways::new(rules.into_iter(), chain, mode, false);
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
        let rule = ways.rules.iter().find(|(rule, _)| {
            if private {
                rule.matches.leads_to(module)
            } else {
                rule.matches.matches(module)
            }
        });
        let own = rule.and_then(|(rule, name)| rule.chain.as_ref().zip(name.as_ref()));
        let (chain, name) = own.unwrap_or((&ways.chain, &ways.name));
        Route {
            chain: Arc::clone(chain),
            name: name.clone(),
            mode: rule.map_or(ways.mode, |(rule, _)| rule.mode),
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
    fn an_answer_is_the_word_of_its_chain() {
        let name = |chain: &str, private| ChainName::new(&chain.parse().unwrap(), private);
        let here = name("https://a.example,https://me:token@b.example|direct", false);
        assert_eq!(
            here.as_str(),
            "public direct https://a.example https://b.example"
        );
        assert_eq!(ChainName::read(here.as_str()), Some(here.clone()));
        assert_eq!(ChainName::read("v1.0.0"), None);
        for (chain, private, takes) in [
            ("https://b.example,https://a.example,direct", false, true),
            ("https://a.example,https://b.example,direct", true, false),
            ("https://a.example,https://b.example", false, false),
            ("https://a.example,https://b.example,off", false, false),
            ("off", false, true),
            ("off", true, false),
        ] {
            assert_eq!(name(chain, private).takes(&here), takes, "{chain}");
        }
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
