//! Asking upstream anew for what changes: lists, `@latest`, queries; and the lists of what is kept.

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use gomod::{ModulePath, Version, info::Info, list};
use store::Key;

use crate::{
    answer::{Answer, Content, Life},
    artifact,
    changeable::{self, Changeable, MAX_BODY_BYTES},
    gateway::Gateway,
    record::Outcome,
    refusal::{Code, Fault, Refusal},
    source::{self, What, Wish},
    versions::{Wanted, key},
};

impl Gateway {
    /// What clients get, from what upstream said. `None` if a retired version is all there is to say. Reads the disk.
    pub(crate) fn compose(&self, wanted: &Wanted, raw: &[u8]) -> Option<Bytes> {
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
    pub(crate) fn kept_versions(&self, module: &ModulePath) -> list::ParsedList {
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

    pub(crate) fn refresh(self: &Arc<Self>, wanted: Wanted, key: Key) {
        if self.negatives.get(key.as_str()).is_none() {
            drop(self.join_changeable(wanted, key));
        }
    }

    pub(crate) async fn fly_changeable(
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
            let wish = Wish::Changing(wanted.what.clone());
            let asked = source::fetch(&settings, &wanted.route, &wanted.module, &wish).await;
            let (upstream, raw) = match asked {
                Ok(found) => {
                    let upstream = Arc::clone(&found.upstream);
                    (Some(upstream), found.into_bytes(MAX_BODY_BYTES).await?)
                }
                Err(refusal) => {
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
                            let path = wish.path(&wanted.module);
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
