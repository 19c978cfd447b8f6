//! `list`, `@latest` and queries: what upstream says, united with what is kept, less what was retired.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use gomod::{ModulePath, Query, QueryKind, Request, info::Info};
use store::Key;

use crate::{
    answer::{Answer, Content, Life, Media, STALE},
    artifact,
    changeable::{self, Changeable},
    fresh::NOTE_USE,
    gateway::{Gateway, Refused},
    kept_versions::Kept,
    pipeline::Want,
    record::Outcome,
    refresh::trouble,
    refusal::{Code, Refusal},
    settings::{Mode, Route},
    source::What,
};

/// One changeable thing.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) module: ModulePath,
    pub(crate) what: What,
    pub(crate) route: Route,
}

impl Wanted {
    pub(crate) fn key(&self) -> String {
        key(&self.module, &self.what)
    }

    /// The name of asking its chain for it: what one chain says, or has not, is no answer of another.
    pub(crate) fn asking(&self) -> String {
        format!("{} of {}", self.key(), self.route.chain_name().as_str())
    }

    pub(crate) fn name(&self) -> String {
        match &self.what {
            What::List => self.module.to_string(),
            What::Latest => format!("{}@latest", self.module),
            What::Query(query) => format!("{}@{query}", self.module),
        }
    }

    pub(crate) fn media(&self) -> Media {
        media(&self.what)
    }
}

fn media(what: &What) -> Media {
    match what {
        What::List => Media::Text,
        What::Latest | What::Query(_) => Media::Json,
    }
}

pub(crate) fn key(module: &ModulePath, what: &What) -> String {
    let module = module.escaped();
    match what {
        What::List => format!("fresh/{module}/@v/list"),
        What::Latest => format!("fresh/{module}/@latest"),
        What::Query(query) => format!("fresh/{module}/@v/{}.info", query.escaped()),
    }
}

impl Gateway {
    pub(crate) fn life(&self, what: &What) -> Duration {
        let freshness = self.settings.load().freshness;
        match what {
            What::List => freshness.list,
            What::Latest => freshness.latest,
            What::Query(_) => freshness.query,
        }
    }

    /// Whether an answer of that age may be said while upstream fails.
    pub(crate) fn may_be_stale(&self, age: Duration, life: Duration) -> bool {
        let limit = self.settings.load().freshness.stale_if_error;
        limit.is_none_or(|limit| age < life + limit)
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
        let private = self.is_private(module);
        // Memory has nothing of another configuration's chain.
        let known = self.changeables.get(&key(module, &what), private)?;
        let life = self.life(&what);
        if known.age() >= life {
            return None;
        }
        let mut answer = Answer::new(
            Content::Bytes(known.served.clone()),
            media(&what),
            Life::For(life.saturating_sub(known.age())),
            Outcome::Hit,
        );
        answer.private = private;
        Some(answer)
    }

    pub(crate) async fn list(
        self: &Arc<Self>,
        module: ModulePath,
        want: Want,
    ) -> Result<Answer, Refused> {
        let route = self.route(&module, &want);
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
        let route = self.route(&module, &want);
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
        let route = self.route(&module, &want);
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
            QueryKind::Patch => {
                let why = "the latest patch of which version it does not say";
                Err(
                    Refusal::new(Code::VersionNotFound, format!("{module}@{query}"), why)
                        .hint("ask a beginning instead: v1.2")
                        .into(),
                )
            }
        }
    }

    /// Fresh, or stale and asked for anew, or asked for now, or stale because upstream fails.
    async fn changeable(self: &Arc<Self>, wanted: Wanted, want: Want) -> Result<Answer, Refused> {
        let key = artifact::key(wanted.key(), || wanted.name())?;
        let known = self.known(&wanted, &key).await?;
        let life = self.life(&wanted.what);
        let freshness = self.settings.load().freshness;
        let private = wanted.route.is_private();
        let answer = |bytes: Bytes, life: Duration, outcome| {
            let mut answer = Answer::new(
                Content::Bytes(bytes),
                wanted.media(),
                Life::For(life),
                outcome,
            );
            answer.private = private;
            answer
        };
        let may_fetch = Self::may_fetch(&wanted.name(), &wanted.route, &want);
        if let Some(known) = &known {
            let (age, served) = (known.age(), known.served.clone());
            // Of what another chain said nothing is fresh.
            let own = known.is_of(&wanted.route);
            if own && age < life {
                return Ok(answer(served, life.saturating_sub(age), Outcome::Hit));
            }
            if may_fetch.is_err() {
                return Ok(answer(served, Duration::ZERO, Outcome::Stale));
            }
            if own && age < life + freshness.stale_while_revalidate {
                let mut stale = answer(served, Duration::ZERO, Outcome::Stale);
                let last = self.negatives.last(&wanted.asking());
                stale.warning = last.is_some_and(|last| trouble(&last)).then_some(STALE);
                self.refresh(wanted.clone(), key);
                return Ok(stale);
            }
        }
        if let Err(refusal) = may_fetch {
            let kept = self.kept_only(&wanted).await?;
            return kept
                .map(|kept| answer(kept, Duration::ZERO, Outcome::Hit))
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
        let refused = match self.negatives.get(&wanted.asking()) {
            Some(refusal) => Refused::again(refusal),
            None => match self.fly_changeable(wanted.clone(), key).await {
                Ok(mut fetched) => {
                    fetched.private = private;
                    return Ok(fetched);
                }
                Err(refusal) => refusal.into(),
            },
        };
        let trouble = trouble(&refused.refusal);
        let stale = match known.filter(|known| self.may_be_stale(known.age(), life)) {
            Some(known) if trouble => Some(known.served.clone()),
            said if matches!(wanted.what, What::Latest) && refused.refusal.definite => {
                self.latest_though_denied(&wanted, said).await?
            }
            // What is kept exists, whatever upstream says or does not say now.
            _ => self.kept_only(&wanted).await?,
        };
        let Some(stale) = stale else {
            return Err(self.unless_denied((&wanted).into(), refused).await);
        };
        let mut answer = answer(stale, Duration::ZERO, Outcome::Stale);
        answer.warning = trouble.then_some(STALE);
        Ok(answer)
    }

    /// What the route's chain said of it before, or another in its place: in memory, else from disk.
    pub(crate) async fn known(
        self: &Arc<Self>,
        wanted: &Wanted,
        key: &Key,
    ) -> Result<Option<Arc<Changeable>>, Refusal> {
        let private = wanted.route.is_private();
        if let Some(known) = self.changeables.get(key.as_str(), private) {
            return Ok(Some(known));
        }
        if self.records.shared() {
            return Ok(self.load_shared(wanted, key).await);
        }
        let (asked, key) = (wanted.clone(), key.clone());
        self.on_disk(move |gateway| {
            let loaded = changeable::load(&gateway.store, &key).unwrap_or_else(|error| {
                tracing::warn!(%key, %error, "cannot read a kept answer");
                None
            });
            let loaded = loaded?;
            if loaded.age() > NOTE_USE {
                // One that is not noted may go a little early.
                let _ = gateway.store.touch(&key);
            }
            gateway.take(&asked, &key, loaded)
        })
        .await
    }

    /// What was said before, if it may stand in for the route's chain. Only its own word comes into memory. Reads the disk.
    pub(crate) fn take(
        &self,
        wanted: &Wanted,
        key: &Key,
        said: Changeable,
    ) -> Option<Arc<Changeable>> {
        if !said.may_stand_in(&wanted.route) {
            return None;
        }
        let era = self.changeables.era();
        let served = self.compose(wanted, &said.raw)?;
        let known = Arc::new(said.recomposed(served));
        if known.is_of(&wanted.route) && self.is_current(wanted, &known) {
            let private = wanted.route.is_private();
            self.changeables
                .insert(key.as_str(), private, Arc::clone(&known), era);
        }
        Some(known)
    }

    /// Whether it is the word of the chain that the module has now: the configuration may have been read again meanwhile.
    pub(crate) fn is_current(&self, wanted: &Wanted, said: &Changeable) -> bool {
        said.is_of(&self.settings.load().routes.resolve(&wanted.module))
    }

    /// What can be said from kept versions alone: a list, or the latest of them.
    async fn kept_only(self: &Arc<Self>, wanted: &Wanted) -> Result<Option<Bytes>, Refusal> {
        let asked = wanted.clone();
        self.on_disk(move |gateway| {
            let read = || match asked.what {
                What::List => gateway.list_kept(&asked.module),
                What::Latest => gateway.latest_kept(&asked.module, Kept::All),
                What::Query(_) => None,
            };
            gateway.changeables.kept(&asked.key(), read)
        })
        .await
    }

    /// The latest version where the whole chain says that there is none. What is kept exists: so the latest of the tagged
    /// versions, or the commit that the chain itself called the latest before. But the commits of which something is kept
    /// may be anybody's: one of a branch is not made the latest.
    async fn latest_though_denied(
        self: &Arc<Self>,
        wanted: &Wanted,
        said: Option<Arc<Changeable>>,
    ) -> Result<Option<Bytes>, Refusal> {
        let asked = wanted.clone();
        self.on_disk(move |gateway| {
            let tagged = || gateway.latest_kept(&asked.module, Kept::Tagged);
            let tagged = gateway
                .changeables
                .kept(&format!("tagged {}", asked.key()), tagged);
            tagged.or_else(|| {
                let said = said.filter(|said| said.is_of(&asked.route))?;
                let version = Info::parse(&said.raw, &asked.module).ok()?.version;
                let kept = gateway.kept_versions(&asked.module).pseudo;
                kept.contains(&version).then(|| said.served.clone())
            })
        })
        .await
    }
}
