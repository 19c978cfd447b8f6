//! What whole chains denied of paths below kept modules: said again, as stale as it is, while nobody can be asked.
//!
//! The go command finds the module of a package by asking for every prefix of its path, and fails unless those that are no modules are absent
//! (protocol.md section 3). While upstreams answer they say so. In an outage everything of the module may be kept, and nothing would say that its
//! folders are no modules: what does not exist leaves nothing behind. So what a whole chain, with everybody in it asked and nobody in trouble,
//! answered with 404 or 410 is noted on disk, and what its upstreams denied where go would have asked nobody else (`below`). It is used in an outage alone, as stale lists are, and for the very question and chain that
//! was denied; never where anything is known of the path itself, and of exact versions for their `.info` alone, by which go looks for a
//! package's module when it is told the version.
//!
//! There is one small file for each module above, with a bounded number of lines, and only for modules of which versions are kept: who asks
//! for what does not exist costs no more room, however often. What is denied before the first version is kept waits for that in memory,
//! since go asks for lists first.

mod kept;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use gomod::{ModulePath, Version};
use moka::{ops::compute::Op, sync::Cache};
use store::Key;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{runtime::Handle, sync::Notify};

use crate::{
    artifact::Part,
    below::above,
    changeable::{self, Changeable, age, now_ms},
    gateway::{Gateway, Refused},
    refusal::{Code, Refusal},
    settings::{ChainName, Route},
    source::{What, Wish},
    versions::{Wanted, key},
};

use self::kept::Kept;

/// Most prefixes of a path that are looked at, the longest first.
const MAX_PREFIXES: usize = 16;
/// Denials below one path that wait in memory for a version of it, and those below all paths.
const MAX_RECENT_PER_PATH: usize = 50;
const MAX_RECENT: u64 = 20_000;
/// How long they wait.
const RECENT_LIFE: Duration = Duration::from_hours(1);
/// Longer names are not noted.
const MAX_NAME_BYTES: usize = 400;
/// What may wait to be noted. More is not.
const MAX_WAITING: usize = 1000;
/// Paths that are remembered to have been seen.
const MAX_SEEN: u64 = 20_000;
/// A denial, or that there is none, is read from disk once for all who ask within this time.
const READ_LIFE: Duration = Duration::from_secs(2);

/// One denial.
#[derive(Clone, Debug)]
struct Denial {
    module: ModulePath,
    /// What was asked for.
    name: String,
    chain: ChainName,
    at_ms: u64,
}

#[derive(Debug)]
enum News {
    Denied(Denial),
    /// There is such a module.
    Seen(ModulePath),
}

/// Denials on their way to the disk.
#[derive(Debug)]
pub(crate) struct Denials {
    /// By the path above that may come to be kept.
    recent: Cache<String, Arc<Vec<Denial>>>,
    seen: Cache<String, ()>,
    read: Cache<String, Option<u64>>,
    waiting: Mutex<Vec<News>>,
    come: Notify,
}

impl Denials {
    pub(crate) fn new() -> Self {
        let weigh = |_: &String, denials: &Arc<Vec<Denial>>| {
            u32::try_from(denials.len()).unwrap_or(u32::MAX)
        };
        Self {
            recent: Cache::builder()
                .max_capacity(MAX_RECENT)
                .weigher(weigh)
                .time_to_live(RECENT_LIFE)
                .build(),
            seen: Cache::builder()
                .max_capacity(MAX_SEEN)
                .time_to_live(RECENT_LIFE)
                .build(),
            read: Cache::builder()
                .max_capacity(MAX_RECENT)
                .time_to_live(READ_LIFE)
                .build(),
            waiting: Mutex::default(),
            come: Notify::new(),
        }
    }

    /// Waits until there is something to note.
    pub(crate) async fn wait(&self) {
        self.come.notified().await;
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<News>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if too much waits.
    fn note_later(&self, news: News) -> bool {
        let mut waiting = self.waiting();
        let room = waiting.len() < MAX_WAITING;
        if room {
            waiting.push(news);
            self.come.notify_one();
        }
        room
    }

    fn remember(&self, above: &ModulePath, denial: &Denial) {
        let entry = self.recent.entry(above.to_string());
        entry.and_compute_with(|entry| {
            let mut denials = entry.map_or_else(Vec::new, |entry| entry.value().to_vec());
            denials.retain(|other| other.name != denial.name);
            if denials.len() >= MAX_RECENT_PER_PATH {
                denials.remove(0);
            }
            denials.push(denial.clone());
            Op::Put(Arc::new(denials))
        });
    }
}

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    module: ModulePath,
    /// As it stands on a line.
    name: String,
    /// As people say it.
    what: String,
    absent: Code,
    chain: ChainName,
}

impl From<&Wanted> for Asked {
    fn from(wanted: &Wanted) -> Self {
        let key = wanted.key();
        Self {
            module: wanted.module.clone(),
            name: key.strip_prefix("fresh/").unwrap_or(&key).to_owned(),
            what: wanted.name(),
            absent: Wish::Changing(wanted.what.clone()).absent(),
            chain: wanted.route.chain_name().clone(),
        }
    }
}

impl Asked {
    /// The `.info` of an exact version.
    pub(crate) fn info(module: &ModulePath, version: &Version, route: &Route) -> Self {
        Self {
            module: module.clone(),
            name: format!("{}/@v/{}.info", module.escaped(), version.escaped()),
            what: format!("{module}@{version}"),
            absent: Wish::Part(Part::Info, version.clone()).absent(),
            chain: route.chain_name().clone(),
        }
    }
}

fn prefixes(path: &ModulePath) -> impl Iterator<Item = ModulePath> {
    above(path).take(MAX_PREFIXES)
}

fn kept_key(above: &ModulePath) -> Option<Key> {
    Key::new(format!("fresh/{}/@denied", above.escaped())).ok()
}

impl Gateway {
    /// The whole chain denied it, or as much of it as go would have asked.
    pub(crate) fn was_denied(&self, asked: Asked) {
        let denial = Denial {
            module: asked.module,
            name: asked.name,
            chain: asked.chain,
            at_ms: now_ms(),
        };
        if denial.name.len() > MAX_NAME_BYTES || denial.name.contains(['\n', '\r']) {
            return;
        }
        for above in self.of_same_chain(&denial.module, &denial.chain) {
            self.denials.remember(&above, &denial);
        }
        self.denials.note_later(News::Denied(denial));
    }

    /// There is such a module: a version is kept, or an upstream says something of it.
    pub(crate) fn was_seen(&self, module: &ModulePath) {
        let (denials, path) = (&self.denials, module.as_str());
        if denials.seen.contains_key(path) && !denials.recent.contains_key(path) {
            return;
        }
        if denials.note_later(News::Seen(module.clone())) {
            denials.seen.insert(path.to_owned(), ());
        }
    }

    /// The paths above that have this chain. None if the path itself has another one by now.
    fn of_same_chain(&self, path: &ModulePath, chain: &ChainName) -> Vec<ModulePath> {
        let routes = Arc::clone(&self.settings.load().routes);
        let same = |path: &ModulePath| routes.resolve(path).chain_name() == chain;
        if !same(path) {
            return Vec::new();
        }
        prefixes(path).filter(same).collect()
    }

    /// Notes what waits.
    pub(crate) async fn note_denials(self: &Arc<Self>) {
        let news = std::mem::take(&mut *self.denials.waiting());
        if news.is_empty() {
            return;
        }
        let noted = self.on_disk(move |gateway| {
            for news in news {
                match news {
                    News::Denied(denial) => gateway.note_denied(&denial),
                    News::Seen(module) => gateway.note_seen(&module),
                }
            }
        });
        if let Err(refusal) = noted.await {
            tracing::error!(%refusal, "cannot note what was denied");
        }
    }

    /// Reads and writes the disk, as all below.
    fn note_denied(&self, denial: &Denial) {
        let above = self.of_same_chain(&denial.module, &denial.chain);
        let kept = above.iter().find(|above| self.has_versions(above));
        if let Some(above) = kept
            && self.is_unknown(&denial.module)
        {
            self.change_denials(above, Some(&denial.chain), |kept| kept.add(denial));
        }
    }

    fn note_seen(&self, module: &ModulePath) {
        for above in prefixes(module) {
            self.change_denials(&above, None, |kept| kept.drop_all_of(module));
        }
        if !self.has_versions(module) {
            return;
        }
        // What was denied below it before it was kept.
        let below = self.denials.recent.remove(module.as_str());
        for denial in below.iter().flat_map(|below| below.iter()) {
            self.note_denied(denial);
        }
    }

    fn has_versions(&self, module: &ModulePath) -> bool {
        let kept = self.kept_versions(module);
        !(kept.versions.is_empty() && kept.pseudo.is_empty())
    }

    /// Whether nothing is known of a path itself: no file is kept, and no chain ever said anything. What cannot be looked at may be
    /// something.
    fn is_unknown(&self, module: &ModulePath) -> bool {
        let unknown = || -> io::Result<bool> {
            let said =
                |what| self.last_said(&Key::new(key(module, &what)).map_err(io::Error::other)?);
            let listed = said(What::List)?.is_some_and(|list| !list.raw.trim_ascii().is_empty());
            if listed || said(What::Latest)?.is_some() || !self.kept_names(module)?.is_empty() {
                return Ok(false);
            }
            let folder = format!("fresh/{}/@v", module.escaped());
            let names = self
                .store
                .names(&Key::new(folder).map_err(io::Error::other)?)?;
            Ok(names.iter().all(|name| name == "list"))
        };
        unknown().unwrap_or_else(|error| {
            tracing::debug!(%module, %error, "what is known of it cannot be looked at");
            false
        })
    }

    fn last_said(&self, key: &Key) -> io::Result<Option<Changeable>> {
        if !self.records.shared() {
            return changeable::load(&self.store, key);
        }
        let answer = Handle::current().block_on(self.records.answer(key.as_str()));
        Ok(answer.map_err(io::Error::other)?.map(|answer| {
            let asked_ms = u64::try_from(answer.asked_ms).unwrap_or_default();
            Changeable::shared(asked_ms, answer.raw)
        }))
    }

    /// Changes what is kept below a path. What another chain denied goes where `chain` is given.
    fn change_denials(
        &self,
        above: &ModulePath,
        chain: Option<&ChainName>,
        change: impl FnOnce(&mut Kept) -> bool,
    ) {
        let Some(key) = kept_key(above) else { return };
        let before = match self.last_said(&key) {
            Ok(before) => before,
            Err(error) => {
                tracing::debug!(%key, %error, "cannot change what was denied");
                return;
            }
        };
        let owner = before.as_ref().and_then(Changeable::chain);
        let Some(chain) = chain.or(owner).cloned() else {
            return;
        };
        let own = before.as_ref().filter(|_| owner == Some(&chain));
        let mut kept = Kept::parse(own.map_or(&[][..], |own| &own.raw[..]));
        if !change(&mut kept) {
            return;
        }
        let denied = Changeable::new(kept.text().into(), Bytes::new(), chain);
        if self.records.shared() {
            let asked_ms = i64::try_from(denied.asked_ms()).unwrap_or(i64::MAX);
            let shared = denied.to_share();
            let put = self.records.put_answer(key.as_str(), asked_ms, &shared);
            if let Err(error) = Handle::current().block_on(put) {
                tracing::debug!(%key, %error, "cannot share what was denied");
            }
        } else if !kept.is_empty() {
            changeable::save(&self.store, &key, &denied);
        } else if let Err(error) = self.store.remove(&key) {
            tracing::warn!(%key, %error, "cannot remove what was denied");
        }
    }

    /// A refusal since nobody can be asked: what the whole chain denied before is denied again, where stale answers of that age
    /// may be said.
    pub(crate) async fn unless_denied(self: &Arc<Self>, asked: Asked, refused: Refused) -> Refused {
        let code = refused.refusal.code;
        if !matches!(code, Code::UpstreamUnavailable | Code::UpstreamTimeout) {
            return refused;
        }
        let (absent, what) = (asked.absent, asked.what.clone());
        let denied = self.on_disk(move |gateway| {
            let read = || gateway.denied_at(&asked);
            let name = format!("{} of {}", asked.name, asked.chain.as_str());
            gateway.denials.read.get_with(name, read)
        });
        let denied = denied.await.ok().flatten();
        let life = self.life(&What::List);
        let Some(at_ms) = denied.filter(|at_ms| self.may_be_stale(age(*at_ms), life)) else {
            return refused;
        };
        let why = format!(
            "not found when that was asked last, at {}; now nobody can be asked ({})",
            time_of(at_ms),
            refused.refusal.why
        );
        let mut refusal = Refusal::new(absent, what, why);
        refusal.stale = true;
        refusal.upstream.clone_from(&refused.upstream);
        Refused {
            repeated: refused.repeated,
            ..refusal.into()
        }
    }

    /// The same for the `.info` of an exact version; and if it is the chain that denies it now, that is noted.
    pub(crate) async fn unless_info_denied(
        self: &Arc<Self>,
        asked: Asked,
        refused: Refused,
    ) -> Refused {
        if refused.refusal.definite && !refused.repeated {
            self.was_denied(asked);
            return refused;
        }
        self.unless_denied(asked, refused).await
    }

    /// When the chain denied it.
    fn denied_at(&self, asked: &Asked) -> Option<u64> {
        let noted = prefixes(&asked.module).filter_map(|above| {
            let said = self.last_said(&kept_key(&above)?).ok()??;
            let own = said.chain() == Some(&asked.chain);
            own.then(|| Kept::parse(&said.raw).find(&asked.name))?
        });
        let at_ms = noted.max()?;
        self.is_unknown(&asked.module).then_some(at_ms)
    }
}

fn time_of(at_ms: u64) -> String {
    let seconds = i64::try_from(at_ms / 1000).unwrap_or_default();
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    let text = time.and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_utc() {
        assert_eq!(time_of(1_700_000_000_123), "2023-11-14T22:13:20Z");
    }
}
