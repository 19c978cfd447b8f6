//! Asking upstream anew for what changes: lists, `@latest`, queries.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use gomod::{ModulePath, Version, gomod_file, info::Info, list};
use records::ChangeKind;
use store::Key;

use crate::{
    answer::{Answer, Content, Life},
    artifact::{self, Artifact, Part},
    changeable::{Changeable, MAX_BODY_BYTES},
    flight::Teller,
    gateway::Gateway,
    pin::differs,
    pipeline::{Want, retired},
    record::Outcome,
    refusal::{Code, Fault, Refusal},
    source::{Search, What, Wish},
    tombstone::Tombstone,
    versions::{Wanted, key},
};

impl Gateway {
    /// What clients get, from what upstream said. `None` if a retired version is all there is to say. Reads the disk.
    pub(crate) fn compose(&self, wanted: &Wanted, raw: &[u8]) -> Option<Bytes> {
        match &wanted.what {
            What::List => {
                let kept = self.kept_versions(&wanted.module).whole;
                Some(self.united(&wanted.module, raw, kept))
            }
            What::Latest | What::Query(_) => {
                let info = Info::parse(raw, &wanted.module).ok()?;
                let retired = self.tombstones.find(&wanted.module, &info.version);
                if retired.is_some() {
                    return None;
                }
                // A version is of one commit, though its tag was moved since.
                let kept = (!info.version.is_pseudo())
                    .then(|| self.kept_info(&wanted.module, &info.version))
                    .flatten()
                    .filter(|kept| match wanted.what {
                        What::Query(_) => differs(&info, kept, &wanted.module),
                        _ => true,
                    });
                Some(kept.unwrap_or_else(|| Bytes::copy_from_slice(raw)))
            }
        }
    }

    /// An upstream's list and the versions that are kept. Reads the disk.
    pub(crate) fn united(&self, module: &ModulePath, raw: &[u8], mut kept: Vec<Version>) -> Bytes {
        let mut all = list::parse(raw, module).versions;
        // Upstream knows which `+incompatible` versions go shows: that somebody asked for another by its name makes that no
        // more visible, and what else is kept makes none of them less so.
        let upstream_knows = !all.is_empty();
        if upstream_knows {
            kept.retain(|version| !version.is_incompatible());
        }
        all.extend(kept);
        all.sort_unstable();
        all.dedup();
        all.retain(|version| self.tombstones.find(module, version).is_none());
        if !upstream_knows {
            self.hide_incompatible(module, &mut all);
        }
        list::format(&all).into()
    }

    /// Takes out the `+incompatible` versions that go does not show (protocol.md 2.3), as far as it is known here; clients
    /// look themselves. Reads the disk.
    pub(crate) fn hide_incompatible(&self, module: &ModulePath, versions: &mut Vec<Version>) {
        if list::decides_incompatible(versions.iter())
            .is_some_and(|version| self.keeps_go_mod(module, version))
        {
            versions.retain(|version| !version.is_incompatible());
        }
        // Of each major, the highest. The versions with a go.mod are those of a module of their own.
        let mut highest: BTreeMap<String, Version> = BTreeMap::new();
        for version in versions.iter().filter(|version| version.is_incompatible()) {
            highest.insert(version.major().to_owned(), version.clone());
        }
        highest.retain(|major, highest| {
            let of_major = ModulePath::parse(&format!("{module}/v{major}"));
            of_major.is_ok_and(|of_major| {
                let kept = self.kept_versions(&of_major).versions;
                kept.last().is_some_and(|version| {
                    version > highest && self.keeps_go_mod(&of_major, version)
                })
            })
        });
        versions
            .retain(|version| !version.is_incompatible() || !highest.contains_key(version.major()));
    }

    /// Whether a go.mod of this version is kept, and not one made up for a module that has none. Reads the disk.
    fn keeps_go_mod(&self, module: &ModulePath, version: &Version) -> bool {
        let artifact = Artifact {
            module: module.clone(),
            version: version.clone(),
            part: Part::Mod,
        };
        let kept = self.kept_file(&artifact, gomod_file::MAX_BYTES as u64);
        kept.is_some_and(|file| file != gomod_file::synthesized(module))
    }

    /// The tombstone of the version that an answer names.
    fn names_retired(&self, wanted: &Wanted, raw: &[u8]) -> Option<Tombstone> {
        if self.tombstones.is_empty() {
            return None;
        }
        let info = Info::parse(raw, &wanted.module).ok()?;
        self.tombstones.find(&wanted.module, &info.version)
    }

    pub(crate) fn refresh(self: &Arc<Self>, wanted: Wanted, key: Key) {
        let name = wanted.asking();
        if self.negatives.get(&name).is_none() {
            let gateway = Arc::clone(self);
            let fetch = move |teller| gateway.tell_changeable(wanted, key, teller);
            drop(self.flights.join(&name, fetch));
        }
    }

    pub(crate) async fn fly_changeable(
        self: &Arc<Self>,
        wanted: Wanted,
        key: Key,
    ) -> Result<Answer, Arc<Refusal>> {
        let fetch = |teller| Arc::clone(self).tell_changeable(wanted.clone(), key.clone(), teller);
        let via = wanted.route.via();
        let asks_gateway = self.asks_gateway(&wanted.route);
        let (told, _, joined) = self
            .flights
            .first_word(&wanted.asking(), via, asks_gateway, fetch)
            .await;
        let mut answer = told?;
        if joined {
            self.metrics.coalesced.inc();
            answer.outcome = Outcome::Coalesced;
        }
        Ok(answer)
    }

    /// The work of a flight.
    async fn tell_changeable(self: Arc<Self>, wanted: Wanted, key: Key, teller: Teller<Answer>) {
        let era = self.changeables.era();
        let told = self.fetch_changeable(&wanted, &key).await.map_err(Arc::new);
        match &told {
            Ok(_) => self.negatives.forget(&wanted.asking()),
            Err(refusal) => {
                let lives = self.settings.load().negative;
                self.negatives.remember(&wanted.asking(), refusal, &lives);
                if refusal.definite {
                    self.was_denied((&wanted).into());
                }
            }
        }
        if self.changeables.era() != era {
            // What was retired then may not be any more.
            self.negatives.forget(&wanted.asking());
        }
        teller.tell_last(told);
    }

    /// Asks upstream, and keeps what it says. Boxed: the latest version may need a list, which comes here again.
    fn fetch_changeable<'a>(
        self: &'a Arc<Self>,
        wanted: &'a Wanted,
        key: &'a Key,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Refusal>> + Send + 'a>> {
        Box::pin(async move {
            let (_lease, known) = self.changeable_turn(wanted, key).await;
            if let Some(known) = known {
                return Ok(Answer::new(
                    Content::Bytes(known.served.clone()),
                    wanted.media(),
                    Life::For(self.life(&wanted.what)),
                    Outcome::Coalesced,
                ));
            }
            let era = self.changeables.era();
            let some_retired = self.tombstones.concern(&wanted.module);
            let (upstream, raw) = match self.ask_changeable(wanted).await {
                Ok((upstream, raw)) => match self.names_retired(wanted, &raw) {
                    None => (Some(upstream), raw),
                    Some(tombstone) => {
                        let gone = retired(wanted.name(), &tombstone);
                        // What else is the latest, the list tells; but another version is not what a query asks for.
                        if !matches!(wanted.what, What::Latest) {
                            return Err(gone);
                        }
                        let listed = self.latest_of_list(wanted).await;
                        let raw =
                            listed.map_err(|inner| if trouble(&inner) { inner } else { gone })?;
                        (None, raw)
                    }
                },
                Err(refusal) => {
                    let unknown = trouble(&refusal) && !refusal.denied;
                    if !matches!(wanted.what, What::Latest) || unknown {
                        return Err(refusal);
                    }
                    // An upstream without `@latest`, a folder say: its list tells, as it does go before that asks version control. If that fails it is not known that
                    // there is nothing.
                    let listed = self.latest_of_list(wanted).await;
                    let raw =
                        listed.map_err(|inner| if trouble(&inner) { inner } else { refusal })?;
                    (None, raw)
                }
            };
            // Chosen from a list without what was retired, which may come back: not what the chain said.
            let some_retired = some_retired || self.tombstones.concern(&wanted.module);
            let passing = upstream.is_none() && some_retired;
            let asked = wanted.clone();
            let composed = self
                .on_disk(move |gateway| {
                    let served = gateway.compose(&asked, &raw)?;
                    let chain = asked.route.chain_name().clone();
                    Some(Arc::new(Changeable::new(raw, served, chain)))
                })
                .await?;
            // Retired this very moment.
            let known = composed.ok_or_else(|| {
                let why = "the version it stands for was retired here";
                Refusal::new(Code::ResourceGone, wanted.name(), why)
            })?;
            // Of a chain that is none any more it is an answer for who asked, and no more.
            if self.is_current(wanted, &known) {
                let private = wanted.route.is_private();
                self.changeables
                    .insert(key.as_str(), private, Arc::clone(&known), era);
                if !passing {
                    self.save(key, &known).await;
                }
                if !(matches!(wanted.what, What::List) && known.raw.trim_ascii().is_empty()) {
                    self.was_seen(&wanted.module);
                }
            }
            let mut answer = Answer::new(
                Content::Bytes(known.served.clone()),
                wanted.media(),
                Life::For(self.life(&wanted.what)),
                Outcome::Miss,
            );
            answer.upstream = upstream;
            Ok(answer)
        })
    }

    /// What the chain says, from the first of it that says something sensible.
    pub(crate) async fn ask_changeable(
        self: &Arc<Self>,
        wanted: &Wanted,
    ) -> Result<(Arc<str>, Bytes), Refusal> {
        let settings = self.settings.load_full().by_way_of(wanted.route.via());
        let wish = Wish::Changing(wanted.what.clone());
        let search = Search::new(&settings, &wanted.route, &wanted.module, &wish);
        let mut search = search.pinned(self, &wanted.route);
        loop {
            let (upstream, raw) = search.whole(MAX_BODY_BYTES).await?;
            let sense = match wanted.what {
                What::List => sane_list(&raw),
                What::Latest | What::Query(_) => Info::parse(&raw, &wanted.module)
                    .map(drop)
                    .map_err(|error| error.to_string()),
            };
            let Err(nonsense) = sense else {
                return Ok((upstream, raw));
            };
            let why = format!("{upstream} sent {nonsense}");
            let bad = Refusal::new(Code::UpstreamInvalid, wanted.name(), why);
            search.reject(bad.sent_by(&upstream), false)?;
        }
    }

    /// The info of the latest version of the list: highest release, else pre-release, else newest pseudo-version.
    async fn latest_of_list(self: &Arc<Self>, wanted: &Wanted) -> Result<Bytes, Refusal> {
        let listed = Wanted {
            what: What::List,
            ..wanted.clone()
        };
        let key = artifact::key(listed.key(), || listed.name())?;
        let known = self.known(&listed, &key).await?;
        let fresh = known
            .filter(|known| known.is_of(&wanted.route) && known.age() < self.life(&What::List));
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
        let want = Want {
            at_once: true,
            via: wanted.route.via().clone(),
            ..Want::default()
        };
        let versions = list::parse(&raw.served, &wanted.module).versions;
        let retracted = self.retracted(&wanted.module, &versions, &want).await;
        // That they cannot be read now is no reason to have no latest version: who takes it reads them too.
        let retracted = retracted.unwrap_or_default();
        let (out, allowed) = versions
            .into_iter()
            .partition(|version| retracted.has(version));
        let allowed = self.go_chooses_from(&wanted.module, allowed, &want).await?;
        let pseudo = list::parse(&raw.raw, &wanted.module).pseudo;
        let mut pseudo = pseudo.iter().rev();
        // Where all are retracted it is still known what was the latest.
        let latest = list::latest(allowed.iter())
            .or_else(|| {
                pseudo.find(|version| {
                    self.tombstones.find(&wanted.module, version).is_none()
                        && !retracted.has(version)
                })
            })
            .or_else(|| list::latest(out.iter()));
        let version = latest.ok_or_else(|| {
            Refusal::new(Code::ModuleNotFound, wanted.name(), "no version is listed")
        })?;
        let artifact = Artifact {
            module: wanted.module.clone(),
            version: version.clone(),
            part: Part::Info,
        };
        let info = self.small(artifact, want).await;
        info.map_err(|refused| (*refused.refusal).clone())
    }

    /// What clients get as the module's list is made anew. Returns the list's key.
    pub(crate) fn list_changed(&self, module: &ModulePath) -> String {
        let list = key(module, &What::List);
        self.changeables.forget(&list);
        list
    }

    /// A version more is kept: what clients get as its list changes.
    pub(crate) fn changed(&self, module: &ModulePath) {
        self.was_seen(module);
        let list = self.list_changed(module);
        if self.records.shared() {
            let records = Arc::clone(&self.records);
            self.tasks.spawn(async move {
                if let Err(error) = records.announce(ChangeKind::Answer, &list).await {
                    tracing::debug!(%error, "other replicas see the version when they ask upstream");
                }
            });
        }
    }
}

/// Whether it is not the end of the matter: something failed that may work again.
pub(crate) fn trouble(refusal: &Refusal) -> bool {
    matches!(refusal.code.fault(), Fault::Upstream | Fault::Gateway)
}

/// A list has nothing in it, or a version; a login page or an error with status 200 has something else. Junk among
/// versions is skipped, as clients do.
fn sane_list(raw: &[u8]) -> Result<(), String> {
    let raw = raw.trim_ascii();
    let version = |line: &[u8]| {
        let line = line.trim_ascii_start();
        line.first() == Some(&b'v') && line.get(1).is_some_and(u8::is_ascii_digit)
    };
    if raw.is_empty() || raw.split(|byte| *byte == b'\n').any(version) {
        return Ok(());
    }
    let text = raw.strip_prefix("\u{feff}".as_bytes()).unwrap_or(raw);
    let what = if text.trim_ascii_start().starts_with(b"<") {
        "an HTML page"
    } else {
        "a text without a version"
    };
    Err(format!(
        "{what} instead of a list: a login or error page in between?"
    ))
}

#[cfg(test)]
mod tests {
    use super::sane_list;

    #[test]
    fn a_list_has_versions_or_nothing() {
        for list in [
            "",
            " \r\n\n",
            "v1.0.0",
            "\nv1.0.0 2024-05-01T12:00:00Z\r\n",
            "junk\nv2.0.0\n",
            "v1\n",
        ] {
            assert_eq!(sane_list(list.as_bytes()), Ok(()), "{list}");
        }
        for (page, what) in [
            ("\n<html>", "HTML"),
            ("\u{feff}<!DOCTYPE html>\n", "HTML"),
            ("Your session has expired.\n", "text"),
            (r#"{"errors":[{"status":503}]}"#, "text"),
            ("\0", "text"),
        ] {
            let said = sane_list(page.as_bytes()).unwrap_err();
            assert!(said.contains(what), "{said}");
        }
    }
}
