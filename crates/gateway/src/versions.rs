//! `list`, `@latest` and queries: what upstream says, united with what is kept, less what was retired.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use gomod::{
    ModulePath, Query, QueryKind, Request, Version, gomod_file,
    info::{self, Info},
    list,
};
use store::Key;
use upstream::Ask;

use crate::{
    answer::{Answer, Content, Life, Media},
    artifact::{self, Artifact, Part},
    changeable::{self, Changeable, MAX_BODY_BYTES},
    failure,
    gateway::{Gateway, Refused},
    pipeline::Want,
    record::Outcome,
    refusal::{Code, Fault, Refusal},
    settings::{Mode, Route},
};

const STALE: &str = "Response is Stale: upstream is in trouble";

/// One changeable thing.
#[derive(Clone, Debug)]
struct Wanted {
    module: ModulePath,
    what: What,
    route: Route,
}

#[derive(Clone, Debug)]
enum What {
    List,
    Latest,
    Query(Query),
}

impl Wanted {
    fn key(&self) -> String {
        key(&self.module, &self.what)
    }

    fn name(&self) -> String {
        match &self.what {
            What::List => self.module.to_string(),
            What::Latest => format!("{}@latest", self.module),
            What::Query(query) => format!("{}@{query}", self.module),
        }
    }

    fn media(&self) -> Media {
        media(&self.what)
    }
}

fn media(what: &What) -> Media {
    match what {
        What::List => Media::Text,
        What::Latest | What::Query(_) => Media::Json,
    }
}

fn key(module: &ModulePath, what: &What) -> String {
    let module = module.escaped();
    match what {
        What::List => format!("fresh/{module}/@v/list"),
        What::Latest => format!("fresh/{module}/@latest"),
        What::Query(query) => format!("fresh/{module}/@v/{}.info", query.escaped()),
    }
}

impl Gateway {
    fn life(&self, what: &What) -> Duration {
        let freshness = self.settings.load().freshness;
        match what {
            What::List => freshness.list,
            What::Latest => freshness.latest,
            What::Query(_) => freshness.query,
        }
    }

    /// A changeable answer that is fresh and in memory.
    pub(crate) fn warm_changeable(&self, request: &Request) -> Option<Answer> {
        let (module, what) = match request {
            Request::List(module) => (module, What::List),
            Request::Latest(module) => (module, What::Latest),
            Request::Query(module, query) if query.kind() == QueryKind::Revision => {
                (module, What::Query(query.clone()))
            }
            _ => return None,
        };
        let known = self.changeables.get(&key(module, &what))?;
        let life = self.life(&what);
        if known.age() > life {
            return None;
        }
        let mut answer = Answer::new(
            Content::Bytes(known.served.clone()),
            media(&what),
            Life::For(life),
            Outcome::Hit,
        );
        answer.private = self.is_private(module);
        Some(answer)
    }

    pub(crate) async fn list(
        self: &Arc<Self>,
        module: ModulePath,
        want: Want,
    ) -> Result<Answer, Refused> {
        let route = self.settings.load().routes.resolve(&module);
        self.changeable(
            Wanted {
                module,
                what: What::List,
                route,
            },
            want,
        )
        .await
    }

    pub(crate) async fn latest(
        self: &Arc<Self>,
        module: ModulePath,
        want: Want,
    ) -> Result<Answer, Refused> {
        let route = self.settings.load().routes.resolve(&module);
        self.changeable(
            Wanted {
                module,
                what: What::Latest,
                route,
            },
            want,
        )
        .await
    }

    pub(crate) async fn query(
        self: &Arc<Self>,
        module: ModulePath,
        query: Query,
        want: Want,
    ) -> Result<Answer, Refused> {
        let route = self.settings.load().routes.resolve(&module);
        match query.kind() {
            QueryKind::Revision => {
                self.changeable(
                    Wanted {
                        module,
                        what: What::Query(query),
                        route,
                    },
                    want,
                )
                .await
            }
            QueryKind::Latest | QueryKind::Prefix => self.from_list(module, &query, want).await,
        }
    }

    /// Fresh, or stale and asked for anew, or asked for now, or stale because upstream fails.
    async fn changeable(self: &Arc<Self>, wanted: Wanted, want: Want) -> Result<Answer, Refused> {
        let key = artifact::key(wanted.key(), || wanted.name())?;
        let known = self.known(&wanted, &key).await?;
        let life = self.life(&wanted.what);
        let freshness = self.settings.load().freshness;
        let private = wanted.route.is_private();
        let answer = |bytes: Bytes, outcome| {
            let mut answer = Answer::new(
                Content::Bytes(bytes),
                wanted.media(),
                Life::For(life),
                outcome,
            );
            answer.private = private;
            answer
        };
        let may_fetch = Self::may_fetch(&wanted.name(), &wanted.route, want);
        if let Some(known) = &known {
            let age = known.age();
            if age <= life {
                return Ok(answer(known.served.clone(), Outcome::Hit));
            }
            if may_fetch.is_err() {
                return Ok(answer(known.served.clone(), Outcome::Stale));
            }
            if age <= life + freshness.stale_while_revalidate {
                self.refresh(wanted.clone(), key);
                return Ok(answer(known.served.clone(), Outcome::Stale));
            }
        }
        if let Err(refusal) = may_fetch {
            let kept = self.kept_only(&wanted).await?;
            return kept
                .map(|kept| answer(kept, Outcome::Hit))
                .ok_or_else(|| refusal.into());
        }
        if matches!(
            wanted.route.mode(),
            Mode::Async | Mode::AsyncRedirect | Mode::Redirect
        ) && known.is_none()
        {
            // Lists are small and answer what exists at all: they are fetched in every mode that fetches.
            tracing::debug!(module = %wanted.module, "a list is fetched at once in every download mode");
        }
        let refused = match self.negatives.get(key.as_str()) {
            Some(refusal) => Refused {
                refusal,
                repeated: true,
                upstream: None,
            },
            None => match self.fly_changeable(wanted.clone(), key).await {
                Ok(mut fetched) => {
                    fetched.private = private;
                    return Ok(fetched);
                }
                Err(refusal) => refusal.into(),
            },
        };
        let trouble = matches!(
            refused.refusal.code.fault(),
            Fault::Upstream | Fault::Gateway
        ) || refused.refusal.code == Code::DirectUnavailable;
        let stale = match known.filter(|known| {
            freshness
                .stale_if_error
                .is_none_or(|limit| known.age() <= life + limit)
        }) {
            Some(known) if trouble => Some(known.served.clone()),
            // What is kept exists, whatever upstream says or does not say now.
            _ => self.kept_only(&wanted).await?,
        };
        let Some(stale) = stale else {
            return Err(refused);
        };
        let mut answer = answer(stale, Outcome::Stale);
        answer.life = Life::For(Duration::ZERO);
        answer.warning = trouble.then_some(STALE);
        Ok(answer)
    }

    /// What is known of it: in memory, else from disk.
    async fn known(
        self: &Arc<Self>,
        wanted: &Wanted,
        key: &Key,
    ) -> Result<Option<Arc<Changeable>>, Refusal> {
        if let Some(known) = self.changeables.get(key.as_str()) {
            return Ok(Some(known));
        }
        let (asked, key) = (wanted.clone(), key.clone());
        self.on_disk(move |gateway| {
            let loaded = changeable::load(&gateway.store, &key)?;
            let served = gateway.compose(&asked, &loaded.raw)?;
            let known = Arc::new(loaded.recomposed(served));
            gateway.changeables.insert(key.as_str(), Arc::clone(&known));
            Some(known)
        })
        .await
    }

    /// What can be said from kept versions alone: a list, or the latest of them.
    async fn kept_only(self: &Arc<Self>, wanted: &Wanted) -> Result<Option<Bytes>, Refusal> {
        let asked = wanted.clone();
        self.on_disk(move |gateway| match asked.what {
            What::List => gateway.compose(&asked, b"").filter(|list| !list.is_empty()),
            What::Latest => {
                let kept = gateway.kept_versions(&asked.module);
                let named =
                    list::latest(kept.versions.iter().filter(|version| {
                        gateway.tombstones.find(&asked.module, version).is_none()
                    }));
                let latest = named.or(kept.pseudo.last())?;
                let artifact = Artifact {
                    module: asked.module.clone(),
                    version: latest.clone(),
                    part: Part::Info,
                };
                gateway
                    .store
                    .read_small(&artifact.key().ok()?, info::MAX_BYTES as u64)
                    .ok()?
                    .map(Bytes::from)
            }
            What::Query(_) => None,
        })
        .await
    }

    /// What clients get, from what upstream said. `None` if a retired version is all there is to say. Reads the disk.
    fn compose(&self, wanted: &Wanted, raw: &[u8]) -> Option<Bytes> {
        match &wanted.what {
            What::List => {
                let mut all = list::parse(raw, &wanted.module).versions;
                all.extend(self.kept_versions(&wanted.module).versions);
                all.sort_unstable();
                all.dedup();
                all.retain(|version| self.tombstones.find(&wanted.module, version).is_none());
                Some(list::format(&all).into())
            }
            What::Latest | What::Query(_) => {
                let version = Info::parse(raw, &wanted.module).ok()?.version;
                self.tombstones
                    .find(&wanted.module, &version)
                    .is_none()
                    .then(|| Bytes::copy_from_slice(raw))
            }
        }
    }

    /// Versions of which something is kept. Reads the disk.
    fn kept_versions(&self, module: &ModulePath) -> list::ParsedList {
        let folder = Key::new(format!("go/{}/@v", module.escaped()));
        let names = folder
            .map_err(std::io::Error::other)
            .and_then(|folder| self.store.names(&folder))
            .unwrap_or_default();
        let versions: Vec<Version> = names
            .iter()
            .filter_map(|name| {
                name.strip_suffix(".info")
                    .or_else(|| name.strip_suffix(".mod"))
            })
            .filter_map(|stem| Version::from_escaped(stem).ok())
            .collect();
        list::from_names(versions.iter().map(Version::as_str), module)
    }

    fn refresh(self: &Arc<Self>, wanted: Wanted, key: Key) {
        if self.negatives.get(key.as_str()).is_none() {
            drop(self.join_changeable(wanted, key));
        }
    }

    async fn fly_changeable(
        self: &Arc<Self>,
        wanted: Wanted,
        key: Key,
    ) -> Result<Answer, Arc<Refusal>> {
        let (mut waiter, joined) = self.join_changeable(wanted, key);
        let mut answer = waiter.told().await?;
        if joined {
            self.metrics.coalesced.inc();
            answer.outcome = Outcome::Coalesced;
        }
        Ok(answer)
    }

    fn join_changeable(
        self: &Arc<Self>,
        wanted: Wanted,
        key: Key,
    ) -> (crate::flight::Waiter<Answer>, bool) {
        let gateway = Arc::clone(self);
        let name = key.as_str().to_owned();
        self.flights.join(&name, move |teller| async move {
            let told = gateway
                .fetch_changeable(&wanted, &key)
                .await
                .map_err(Arc::new);
            if let Err(refusal) = &told {
                gateway.negatives.remember(
                    key.as_str(),
                    refusal,
                    &gateway.settings.load().negative,
                );
            }
            teller.tell(told);
        })
    }

    /// Asks upstream, and keeps what it says. Boxed: the latest version may need a list, which comes here again.
    fn fetch_changeable<'a>(
        self: &'a Arc<Self>,
        wanted: &'a Wanted,
        key: &'a Key,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Refusal>> + Send + 'a>> {
        Box::pin(async move {
            let settings = self.settings.load_full();
            let module = wanted.module.escaped();
            let path = match &wanted.what {
                What::List => format!("/{module}/@v/list"),
                What::Latest => format!("/{module}/@latest"),
                What::Query(query) => {
                    format!("/{module}/@v/{}.info", query.escaped().replace(' ', "%20"))
                }
            };
            let absent = if matches!(wanted.what, What::Query(_)) {
                Code::VersionNotFound
            } else {
                Code::ModuleNotFound
            };
            let asked = settings
                .upstreams
                .fetch(
                    wanted.route.chain(),
                    &Ask {
                        path: path.clone(),
                        hedge: false,
                    },
                )
                .await;
            let (upstream, raw) = match asked {
                Ok(fetched) => {
                    let upstream = Arc::clone(&fetched.upstream);
                    let body = fetched.body.into_bytes(MAX_BODY_BYTES).await;
                    let body = body.map_err(|error| {
                        Refusal::new(
                            Code::UpstreamUnavailable,
                            wanted.name(),
                            format!("the answer of {upstream} broke off: {error}"),
                        )
                    })?;
                    (Some(upstream), body)
                }
                Err(error) => {
                    let refusal = failure::refusal(&wanted.name(), absent, &error);
                    if !matches!(wanted.what, What::Latest)
                        || refusal.code.fault() == Fault::Upstream
                    {
                        return Err(refusal);
                    }
                    // An upstream without `@latest`, a folder say: its list tells.
                    (
                        None,
                        self.latest_of_list(wanted).await.map_err(|_| refusal)?,
                    )
                }
            };
            let raw = match (&wanted.what, &upstream) {
                (What::List, Some(upstream)) => Self::sane_list(upstream, raw, wanted)?,
                (What::Latest | What::Query(_), Some(upstream)) => {
                    match Info::parse(&raw, &wanted.module) {
                        Ok(info)
                            if self
                                .tombstones
                                .find(&wanted.module, &info.version)
                                .is_some() =>
                        {
                            self.latest_of_list(wanted).await?
                        }
                        Ok(_) => raw,
                        Err(error) => {
                            settings.upstreams.mark_bad(upstream, &path);
                            return Err(Refusal::new(
                                Code::UpstreamInvalid,
                                wanted.name(),
                                format!("{upstream} sent {error}"),
                            ));
                        }
                    }
                }
                (_, None) => raw,
            };
            let (asked, key) = (wanted.clone(), key.clone());
            let served = self
                .on_disk(move |gateway| {
                    let served = gateway.compose(&asked, &raw)?;
                    let known = Arc::new(Changeable::new(raw, served.clone()));
                    gateway.changeables.insert(key.as_str(), Arc::clone(&known));
                    let (gateway, tasks) = (gateway.store.clone(), gateway.tasks.clone());
                    tasks.spawn_blocking(move || changeable::save(&gateway, &key, &known));
                    Some(served)
                })
                .await?;
            let served = served.ok_or_else(|| {
                Refusal::new(
                    Code::ResourceGone,
                    wanted.name(),
                    "the version it stands for was retired here",
                )
            })?;
            let mut answer = Answer::new(
                Content::Bytes(served),
                wanted.media(),
                Life::For(self.life(&wanted.what)),
                Outcome::Miss,
            );
            answer.upstream = upstream;
            Ok(answer)
        })
    }

    /// A login page with status 200 is no list.
    fn sane_list(upstream: &str, raw: Bytes, wanted: &Wanted) -> Result<Bytes, Refusal> {
        if raw.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<') {
            let why = format!(
                "{upstream} sent an HTML page instead of a list: a login or error page in between?"
            );
            return Err(Refusal::new(Code::UpstreamInvalid, wanted.name(), why));
        }
        Ok(raw)
    }

    /// The info of the latest version of the list: highest release, else pre-release, else newest pseudo-version.
    async fn latest_of_list(self: &Arc<Self>, wanted: &Wanted) -> Result<Bytes, Refusal> {
        let listed = Wanted {
            what: What::List,
            ..wanted.clone()
        };
        let key = artifact::key(listed.key(), || listed.name())?;
        let known = self.known(&listed, &key).await?;
        let fresh = known.filter(|known| known.age() <= self.life(&What::List));
        let raw = if let Some(known) = fresh {
            known
        } else {
            self.fly_changeable(listed.clone(), key.clone())
                .await
                .map_err(|refusal| (*refusal).clone())?;
            self.known(&listed, &key).await?.ok_or_else(|| {
                Refusal::new(Code::ModuleNotFound, wanted.name(), "nothing is listed")
            })?
        };
        let versions = list::parse(&raw.served, &wanted.module).versions;
        let pseudo = list::parse(&raw.raw, &wanted.module).pseudo;
        let latest = list::latest(versions.iter()).or_else(|| {
            pseudo
                .iter()
                .rev()
                .find(|version| self.tombstones.find(&wanted.module, version).is_none())
        });
        let version = latest.ok_or_else(|| {
            Refusal::new(Code::ModuleNotFound, wanted.name(), "no version is listed")
        })?;
        self.info_bytes(wanted.module.clone(), version.clone())
            .await
    }

    /// `latest` and `v1` as the client would pick them: from the list, without retracted versions.
    async fn from_list(
        self: &Arc<Self>,
        module: ModulePath,
        query: &Query,
        want: Want,
    ) -> Result<Answer, Refused> {
        let listed = self.list(module.clone(), want).await?;
        let Content::Bytes(body) = &listed.content else {
            return Err(Refusal::new(Code::InternalError, "", "a list that is no text").into());
        };
        let versions = list::parse(body, &module).versions;
        let retractions = match list::latest(versions.iter()) {
            Some(newest) => self.retractions(&module, newest, want).await,
            None => Vec::new(),
        };
        let usable = versions.iter().filter(|version| {
            !retractions
                .iter()
                .any(|retraction| retraction.covers(version))
        });
        let picked = if query.kind() == QueryKind::Latest {
            list::latest(usable)
        } else {
            list::latest_with_prefix(query.as_str(), usable)
        };
        let Some(version) = picked.cloned() else {
            if query.kind() == QueryKind::Latest {
                return self.latest(module, want).await;
            }
            return Err(Refusal::new(
                Code::VersionNotFound,
                format!("{module}@{query}"),
                "no listed version matches",
            )
            .into());
        };
        let mut answer = self
            .artifact(
                Artifact {
                    module,
                    version,
                    part: Part::Info,
                },
                want,
            )
            .await?;
        answer.life = Life::For(self.life(&What::List));
        Ok(answer)
    }

    async fn retractions(
        self: &Arc<Self>,
        module: &ModulePath,
        newest: &Version,
        want: Want,
    ) -> Vec<gomod_file::Retraction> {
        let artifact = Artifact {
            module: module.clone(),
            version: newest.clone(),
            part: Part::Mod,
        };
        match self
            .artifact(
                artifact,
                Want {
                    cached_only: want.cached_only,
                    whole: true,
                },
            )
            .await
        {
            Ok(answer) => body(&answer)
                .map(|file| gomod_file::retractions(&file))
                .unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    async fn info_bytes(
        self: &Arc<Self>,
        module: ModulePath,
        version: Version,
    ) -> Result<Bytes, Refusal> {
        let artifact = Artifact {
            module,
            version,
            part: Part::Info,
        };
        let name = artifact.to_string();
        let answer = self
            .artifact(artifact, Want::default())
            .await
            .map_err(|refused| (*refused.refusal).clone())?;
        body(&answer)
            .ok_or_else(|| Refusal::new(Code::InternalError, name, "an info that is no text"))
    }

    /// A version more is kept: lists change.
    pub(crate) fn changed(&self, module: &ModulePath) {
        self.changeables.forget(&key(module, &What::List));
        self.background.list_changed(module);
    }

    /// Makes the `list` of a module's folder true, for clients that use the folder as it is (protocol.md section 7). Reads and writes the disk.
    pub(crate) fn write_list(&self, module: &ModulePath) {
        let kept = self.kept_versions(module);
        let mut versions = kept.versions;
        versions.extend(kept.pseudo);
        versions.sort_unstable();
        let written = Key::new(format!("go/{}/@v/list", module.escaped()))
            .map_err(std::io::Error::other)
            .and_then(|key| self.store.replace_small(&key, &list::format(&versions)));
        if let Err(error) = written {
            tracing::warn!(%module, %error, "cannot write the folder's list");
        }
    }
}

fn body(answer: &Answer) -> Option<Bytes> {
    match &answer.content {
        Content::Bytes(bytes) => Some(bytes.clone()),
        Content::Kept(kept) => kept.whole().cloned(),
        Content::Spool(_) | Content::Elsewhere(_) => None,
    }
}
