//! Paths below a module: what the go command asks for on its way from a package to its module.
//!
//! For a package it asks a proxy for every prefix of its path at once, takes the longest that is a module, and goes on to the next entry of
//! its chain only if none is (protocol.md section 3). So it never asks `direct`, or stops at `off`, for a package's path where a proxy has
//! the module. Here each path has a walk of its own, and repositories that cannot be reached, or `off`, would be fatal for what go would
//! not have asked. (Where upstreams themselves cannot be asked see `denials`.)
//!
//! So such a refusal becomes "not found" as it would be for go: where all upstreams denied the path and have a module above it, or where
//! nobody is asked and something is kept above it. Never where anything is known of the path itself, or for `/v2`, which is another
//! version of the module above and no folder of it. An outage of an upstream is no such case: what it has is not known.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use gomod::ModulePath;
use moka::sync::Cache;
use tokio::time::timeout;

use crate::{
    answer::{Answer, Content, Life, Media},
    artifact,
    denials::Asked,
    gateway::{Gateway, Refused},
    pipeline::Want,
    record::Outcome,
    refresh::trouble,
    refusal::{Code, Refusal},
    settings::Route,
    source::What,
    versions::Wanted,
};

/// Most prefixes of a path that are looked at, the longest first.
const MAX_PREFIXES: usize = 5;
/// How long upstreams are asked for all of them.
const WITHIN: Duration = Duration::from_secs(10);
/// How long it is remembered which of them upstreams have.
const LIFE: Duration = Duration::from_secs(30);
const MAX_REMEMBERED: u64 = 10_000;

/// What upstreams said of modules above somebody's path.
#[derive(Debug)]
pub(crate) struct Above(Cache<String, bool>);

impl Above {
    pub(crate) fn new() -> Self {
        Self(
            Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(LIFE)
                .build(),
        )
    }
}

impl Gateway {
    /// A refusal as it is where go would have asked nobody else. `asked` is what was asked for of `path`.
    pub(crate) async fn unless_below(
        self: &Arc<Self>,
        path: &ModulePath,
        asked: Asked,
        refused: Refused,
        want: &Want,
    ) -> Refused {
        let off = refused.refusal.code == Code::LookupDisabled;
        let unasked = refused.refusal.denied && trouble(&refused.refusal);
        if !(off || unasked) || path.split_major().1.starts_with('/') {
            return refused;
        }
        let route = self.route(path, want);
        let below = async {
            if self.is_known(path, &route).await? {
                return Ok(None);
            }
            self.module_above(path, &route, off, want).await
        };
        match below.await {
            Ok(Some(above)) => {
                let code = if off {
                    Code::NotCached
                } else {
                    // In an outage these upstreams cannot say it again, and the rest of the chain never could.
                    self.was_denied(asked);
                    Code::ModuleNotFound
                };
                let why = format!("no module, but a path below {above}");
                let mut refusal = Refusal::new(code, &refused.refusal.what, why);
                refusal.upstream.clone_from(&refused.upstream);
                refusal.into()
            }
            Ok(None) => refused,
            Err(error) => {
                tracing::debug!(%path, %error, "what is above it cannot be looked at");
                refused
            }
        }
    }

    /// Whether it is a module as far as is known here: something of it is kept, or was listed once.
    async fn is_known(self: &Arc<Self>, path: &ModulePath, route: &Route) -> Result<bool, Refusal> {
        let list = Wanted {
            module: path.clone(),
            what: What::List,
            route: route.clone(),
        };
        let key = artifact::key(list.key(), || list.name())?;
        if self.known(&list, &key).await?.is_some() {
            return Ok(true);
        }
        self.keeps_some(path).await
    }

    async fn keeps_some(self: &Arc<Self>, module: &ModulePath) -> Result<bool, Refusal> {
        let module = module.clone();
        self.on_disk(move |gateway| {
            let kept = gateway.kept_versions(&module);
            !(kept.versions.is_empty() && kept.pseudo.is_empty())
        })
        .await
    }

    /// The longest path above that is a module, of the same chain. `off`: as far as it is kept.
    async fn module_above(
        self: &Arc<Self>,
        path: &ModulePath,
        route: &Route,
        off: bool,
        want: &Want,
    ) -> Result<Option<ModulePath>, Refusal> {
        let same = above(path).take(MAX_PREFIXES).filter(|above| {
            let other = self.route(above, want);
            other.chain_name() == route.chain_name()
        });
        if off {
            for above in same {
                if self.keeps_some(&above).await? {
                    return Ok(Some(above));
                }
            }
            return Ok(None);
        }
        let Some(route) = route.of_upstreams() else {
            return Ok(None);
        };
        let asked = same.map(|above| {
            let route = route.clone();
            async move {
                let has = self.upstreams_have(&above, route).await;
                has.then_some(above)
            }
        });
        let found = timeout(WITHIN, join_all(asked)).await;
        Ok(found
            .ok()
            .and_then(|found| found.into_iter().flatten().next()))
    }

    /// Whether the route's upstreams list a module.
    async fn upstreams_have(self: &Arc<Self>, module: &ModulePath, route: Route) -> bool {
        let wanted = Wanted {
            module: module.clone(),
            what: What::List,
            route,
        };
        let name = format!("above {}", wanted.asking());
        if let Some(known) = self.above.0.get(&name) {
            return known;
        }
        let (gateway, key) = (Arc::clone(self), name.clone());
        let (mut waiter, _) = self.flights.join(&name, move |teller| async move {
            let told = gateway.ask_changeable(&wanted).await;
            match &told {
                Ok(_) => gateway.above.0.insert(key, true),
                Err(refusal) if !trouble(refusal) => gateway.above.0.insert(key, false),
                Err(_) => {}
            }
            let told = told.map(|(_, list)| {
                let life = Life::For(Duration::ZERO);
                Answer::new(Content::Bytes(list), Media::Text, life, Outcome::Miss)
            });
            teller.tell(told.map_err(Arc::new));
        });
        waiter.told().await.is_ok()
    }
}

/// The paths above a path that may be modules, the longest first.
pub(crate) fn above(path: &ModulePath) -> impl Iterator<Item = ModulePath> {
    let path = path.as_str();
    let ends = path.rmatch_indices('/').map(|(end, _)| end);
    let prefixes = ends.map(|end| &path[..end]);
    prefixes.filter_map(|prefix| ModulePath::parse(prefix).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_first() {
        let of = |path: &str| -> Vec<String> {
            let path = ModulePath::parse(path).unwrap();
            above(&path).map(|path| path.to_string()).collect()
        };
        assert_eq!(
            of("a.example/m/v2/pkg/name"),
            [
                "a.example/m/v2/pkg",
                "a.example/m/v2",
                "a.example/m",
                "a.example"
            ]
        );
        // `/v1` ends no module's path.
        assert_eq!(of("a.example/m/v1/x"), ["a.example/m", "a.example"]);
        assert_eq!(of("a.example"), [""; 0]);
    }
}
