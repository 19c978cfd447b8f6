//! From a parsed request to its answer.

use std::sync::Arc;

use bytes::Bytes;
use gomod::{ModulePath, Request, SumDbAsk, Version};
use store::Key;
use tokio::task::spawn_blocking;

use crate::{
    answer::{Answer, Content, Life, Media},
    artifact::{Artifact, Part, key_text},
    denials::Asked,
    flight::Waiter,
    gateway::{Gateway, Refused},
    keep::damaged,
    record::Outcome,
    refusal::{Code, Refusal},
    settings::{Mode, Route},
    source::What,
    tombstone::Tombstone,
    versions::Wanted,
    via::Via,
};

/// Zips up to this length are sent only when they are verified: then a bad one is a clear error, not a broken
/// connection. Longer ones stream.
pub(crate) const WHOLE_ZIP_BYTES: u64 = 1 << 20;

/// How a request wants its answer.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
pub(crate) struct Want {
    /// Only what is kept.
    pub(crate) cached_only: bool,
    /// Only when it is whole: `HEAD`, ranges, conditions.
    pub(crate) whole: bool,
    /// Fetched at once in every download mode that fetches: other answers are made from it.
    pub(crate) at_once: bool,
    /// Whether it came encrypted, as far as this gateway can know.
    pub(crate) encrypted: bool,
    /// The proxies by which it came.
    pub(crate) via: Via,
}

impl Gateway {
    /// The answer, if it or the file it comes from is in memory: no waiting, no disk.
    pub(crate) fn warm(&self, request: &Request) -> Option<Answer> {
        match request {
            Request::Info(module, version) => self.warm_artifact(module, version, Part::Info),
            Request::Mod(module, version) => self.warm_artifact(module, version, Part::Mod),
            Request::Zip(module, version) => self.warm_artifact(module, version, Part::Zip),
            Request::List(_) | Request::Latest(_) | Request::Query(..) => {
                self.warm_changeable(request)
            }
            Request::SumDb { .. } => None,
        }
    }

    fn warm_artifact(&self, module: &ModulePath, version: &Version, part: Part) -> Option<Answer> {
        if !self.tombstones.is_empty() && self.tombstones.find(module, version).is_some() {
            return None;
        }
        let key = key_text(module, version, part);
        let mut answer = Answer::kept(self.store.at_hand(key)?, part.media());
        answer.private = self.is_private(module);
        Some(answer)
    }

    pub(crate) fn is_private(&self, module: &ModulePath) -> bool {
        let settings = self.settings.load();
        settings.routes.is_private(module)
    }

    /// The answer, or why there is none.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request,
        want: Want,
    ) -> Result<Answer, Refused> {
        let (asked, wanted) = (request.clone(), want.clone());
        match self.answer_one(request, want).await {
            Err(refused) => Err(self.unless_absent(asked, refused, &wanted).await),
            answered => answered,
        }
    }

    /// A refusal as it is to somebody who looks for the module of a package.
    async fn unless_absent(
        self: &Arc<Self>,
        request: Request,
        mut refused: Refused,
        want: &Want,
    ) -> Refused {
        let (module, what) = match request {
            Request::Info(module, version) => {
                let asked = Asked::info(&module, &version, &self.route(&module, want));
                refused = self.unless_info_denied(asked.clone(), refused).await;
                return self.unless_below(&module, asked, refused, want).await;
            }
            Request::List(module) => (module, What::List),
            Request::Latest(module) => (module, What::Latest),
            Request::Query(module, query) => (module, What::Query(query)),
            Request::Mod(..) | Request::Zip(..) | Request::SumDb { .. } => return refused,
        };
        let route = self.route(&module, want);
        let wanted = Wanted {
            module,
            what,
            route,
        };
        let asked = Asked::from(&wanted);
        self.unless_below(&wanted.module, asked, refused, want)
            .await
    }

    async fn answer_one(self: &Arc<Self>, request: Request, want: Want) -> Result<Answer, Refused> {
        match request {
            Request::Info(module, version) => {
                self.artifact(
                    Artifact {
                        module,
                        version,
                        part: Part::Info,
                    },
                    want,
                )
                .await
            }
            Request::Mod(module, version) => {
                self.artifact(
                    Artifact {
                        module,
                        version,
                        part: Part::Mod,
                    },
                    want,
                )
                .await
            }
            Request::Zip(module, version) => {
                self.artifact(
                    Artifact {
                        module,
                        version,
                        part: Part::Zip,
                    },
                    want,
                )
                .await
            }
            Request::List(module) => self.list(module, want).await,
            Request::Latest(module) => self.latest(module, want).await,
            Request::Query(module, query) => self.query(module, query, want).await,
            Request::SumDb { name, ask } => self.sum_db(name.as_str(), ask, want).await,
        }
    }

    /// One file of one version: kept, or fetched, verified and kept.
    pub(crate) async fn artifact(
        self: &Arc<Self>,
        artifact: Artifact,
        want: Want,
    ) -> Result<Answer, Refused> {
        self.not_retired(&artifact)?;
        let key = artifact.key()?;
        let route = self.route(&artifact.module, &want);
        let kept = if want.cached_only || route.mode() != Mode::Sync {
            self.kept(&artifact, &key, &want).await?
        } else if self.tiers.is_alone() {
            // What is only not in the system's memory needs no fetch, which is a task on other threads. What cannot be read
            // may be had from upstream. In other tiers a fetch looks itself.
            let kept = self.store.get(&key).await.ok().flatten();
            kept.map(|kept| Answer::kept(kept, artifact.part.media()))
        } else {
            None
        };
        if let Some(mut answer) = kept {
            answer.private = route.is_private();
            return Ok(answer);
        }
        if let Err(refused) = Self::may_fetch(&artifact.to_string(), &route, &want) {
            // What is damaged is not absent.
            return Err(if self.tiers.is_damaged(&key).await {
                damaged(&artifact).into()
            } else {
                refused.into()
            });
        }
        if let Some(refusal) = self.negatives.get(key.as_str()) {
            return Err(Refused::again(refusal));
        }
        match route.mode() {
            _ if want.at_once => {}
            Mode::Sync | Mode::None => {}
            Mode::Async => {
                let (code, why) = if self.fetch_later(artifact.clone(), route) {
                    let why = "not kept here yet, being fetched in the background; ask again soon";
                    (Code::FetchQueued, why)
                } else {
                    let why = "not kept here yet, and the queue of background fetches is full; ask again soon";
                    (Code::NotCached, why)
                };
                return Err(Refusal::new(code, artifact.to_string(), why).into());
            }
            mode @ (Mode::Redirect | Mode::AsyncRedirect) => {
                let path = artifact.upstream_path();
                if let Some(url) = self.elsewhere(&route, &path, want.encrypted).await {
                    if mode == Mode::AsyncRedirect {
                        self.fetch_later(artifact, route);
                    }
                    return Ok(Answer::new(
                        Content::Elsewhere(url),
                        Media::Text,
                        Life::Immutable,
                        Outcome::Redirect,
                    ));
                }
            }
        }
        let answer = self.fly(artifact.clone(), route, want).await?;
        // It may have been retired while it was waited for.
        self.not_retired(&artifact)?;
        Ok(answer)
    }

    /// What is kept of an artifact, in whichever tier, without a fetch.
    async fn kept(
        self: &Arc<Self>,
        artifact: &Artifact,
        key: &Key,
        want: &Want,
    ) -> Result<Option<Answer>, Refused> {
        if self.tiers.is_alone() {
            let kept = self.store.get(key).await.map_err(|error| {
                tracing::error!(%key, %error, "cannot read what is kept");
                let why = format!("reading what is kept: {error}");
                Refusal::new(Code::StorageError, artifact.to_string(), why)
            })?;
            return Ok(kept.map(|kept| Answer::kept(kept, artifact.part.media())));
        }
        let (gateway, looked, at) = (Arc::clone(self), artifact.clone(), key.clone());
        let name = format!("kept {key}");
        let (mut waiter, joined) = self.flights.join(&name, move |teller| async move {
            gateway.tell_only_kept(&looked, &at, &teller).await;
        });
        let told = waiter.told().await;
        match self.landed(told, waiter, joined, key, want).await {
            Ok(answer) => Ok(Some(answer)),
            Err(refused) if refused.refusal.code == Code::NotCached => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    /// Joins or starts the fetch, and waits for as much of it as the answer needs.
    pub(crate) async fn fly(
        self: &Arc<Self>,
        artifact: Artifact,
        route: Route,
        want: Want,
    ) -> Result<Answer, Refused> {
        let key = artifact.key()?;
        let private = route.is_private();
        let fetch = |teller| Arc::clone(self).fetch(artifact.clone(), route.clone(), teller);
        let asks_gateway = self.asks_gateway(&route);
        let (told, waiter, joined) = self
            .flights
            .first_word(key.as_str(), route.via(), asks_gateway, fetch)
            .await;
        let mut answer = self.landed(told, waiter, joined, &key, &want).await?;
        answer.private = private;
        Ok(answer)
    }

    /// Whether an upstream of the route's chain is another gateway. What is asked to find out is of the protocol, names no
    /// module, and is answered by a gateway without asking on.
    pub(crate) async fn asks_gateway(&self, route: &Route) -> bool {
        let upstreams = Arc::clone(&self.settings.load().upstreams);
        upstreams
            .lead_to_gateway(route.chain(), "/sumdb/sum.golang.org/supported")
            .await
    }

    /// The answer of a flight, as soon as there is as much of it as is wanted.
    async fn landed(
        &self,
        told: Result<Answer, Arc<Refusal>>,
        mut waiter: Waiter<Answer>,
        joined: bool,
        key: &Key,
        want: &Want,
    ) -> Result<Answer, Refused> {
        let mut answer = told?;
        if joined && answer.outcome == Outcome::Miss {
            self.metrics.coalesced.inc();
            answer.outcome = Outcome::Coalesced;
        }
        if let Content::Spool(spool) = &answer.content {
            let small = spool.expected().is_some_and(|len| len <= WHOLE_ZIP_BYTES);
            let ready = if want.whole || small {
                spool.released().await.map(drop)
            } else {
                spool.started().await
            };
            if ready.is_err() {
                // The spool knows only a text; the fetch knows the refusal.
                return waiter.ended().await.map_err(Into::into);
            }
        }
        if want.whole && answer.warning.is_none() {
            waiter.ended().await?;
            if let Ok(Some(kept)) = self.store.get(key).await {
                answer.content = Content::Kept(kept);
            }
        }
        Ok(answer)
    }

    fn not_retired(&self, artifact: &Artifact) -> Result<(), Refusal> {
        let tombstone = self.tombstones.find(&artifact.module, &artifact.version);
        tombstone.map_or(Ok(()), |tombstone| {
            Err(retired(artifact.to_string(), &tombstone))
        })
    }

    /// The route of a module for a request.
    pub(crate) fn route(&self, module: &ModulePath, want: &Want) -> Route {
        let route = self.settings.load().routes.resolve(module);
        route.by_way_of(&want.via)
    }

    /// Whether a miss may be fetched at all.
    pub(crate) fn may_fetch(what: &str, route: &Route, want: &Want) -> Result<(), Refusal> {
        if want.cached_only {
            return Err(Refusal::new(
                Code::NotCached,
                what,
                "not kept here, and the request says not to fetch",
            ));
        }
        if route.mode() == Mode::None {
            return Err(Refusal::new(
                Code::NotCached,
                what,
                "not kept here, and the download mode for it is `none`",
            ));
        }
        Ok(())
    }

    /// Where a redirect mode sends a client: to an upstream that is well and needs nothing that only this gateway has. The
    /// go command follows none from https to http.
    async fn elsewhere(&self, route: &Route, path: &str, encrypted: bool) -> Option<String> {
        if route.is_private() {
            return None;
        }
        let upstreams = Arc::clone(&self.settings.load().upstreams);
        let base = upstreams.open_to_clients(route.chain()).await?;
        let url = base.expose().trim_end_matches('/');
        if encrypted && !url.starts_with("https://") {
            return None;
        }
        Some(format!("{url}{}", path.replace('!', "%21")))
    }

    /// Runs disk work off the runtime's threads.
    pub(crate) async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let gateway = Arc::clone(self);
        let done = spawn_blocking(move || work(&gateway)).await;
        done.map_err(|error| Refusal::new(Code::InternalError, "", error.to_string()))
    }

    async fn sum_db(
        self: &Arc<Self>,
        name: &str,
        ask: SumDbAsk,
        want: Want,
    ) -> Result<Answer, Refused> {
        let served = self.sumdb.load_full().filter(|sumdb| sumdb.name() == name);
        let Some(sumdb) = served else {
            let text = format!("the checksum database {name} is not served here");
            return Err(Refusal::new(Code::DatabaseNotServed, "", text).into());
        };
        let settings = self.settings.load_full().by_way_of(&want.via);
        match ask {
            // A client that is told yes asks for all of the database here, and what is not kept would end its build; told no, it
            // goes on to the next of its GOPROXY, or to the database itself.
            SumDbAsk::Supported if want.cached_only => {
                let why = "only what is kept may be answered, which is not all of the database";
                Err(Refusal::new(Code::NotCached, name, why).into())
            }
            SumDbAsk::Supported => {
                sumdb.not_forked().await?;
                Ok(Answer::new(
                    Content::Bytes(Bytes::new()),
                    Media::Text,
                    Life::For(std::time::Duration::from_mins(5)),
                    Outcome::Hit,
                ))
            }
            SumDbAsk::Latest => Ok(sumdb.latest(&settings, want.cached_only).await?),
            SumDbAsk::Lookup(module, version) => {
                // The name of a toolchain is no secret, and clients refuse one without its record.
                let private = settings.routes.is_private(&module);
                if !module.is_toolchain() && (private || sumdb.exempts(&module)) {
                    let kind = if private {
                        "a private module"
                    } else {
                        "exempt from the checksum database by `sumdb.exempt`"
                    };
                    let why = format!("{kind}: its name is not told to the checksum database");
                    let what = format!("{module}@{version}");
                    return Err(Refusal::new(Code::RecordNotFound, what, why)
                        .hint("set GONOSUMDB for such modules on the client; with GOPRIVATE alone go would not ask this gateway for them")
                        .into());
                }
                Ok(sumdb
                    .lookup(&settings, &module, &version, want.cached_only)
                    .await?)
            }
            SumDbAsk::Tile(path) => Ok(sumdb.tile(&settings, &path, want.cached_only).await?),
        }
    }
}

/// Why a retired version is not served.
pub(crate) fn retired(what: String, tombstone: &Tombstone) -> Refusal {
    let why = format!("retired here: {}", tombstone.reason);
    Refusal::new(Code::ResourceGone, what, why).hint(format!(
        "an administrator of this gateway retired it at {}; use another version",
        tombstone.time
    ))
}
