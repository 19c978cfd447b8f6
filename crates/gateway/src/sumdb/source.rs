//! Who is asked: the configured address, else upstreams of the chain that pass the database on, else its own.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tlog::tile::Tile;
use upstream::{
    Ask, FailureKind,
    chain::{Chain, Target},
};

use super::SumDb;
use crate::{
    refusal::{Code, Refusal},
    settings::Settings,
};

/// How long it is believed that an upstream passes the database on, and that it does not.
const SUPPORTED: Duration = Duration::from_mins(10);
const NOT_SUPPORTED: Duration = Duration::from_mins(1);
const MAX_ANSWER_BYTES: usize = 1 << 20;

impl SumDb {
    /// Asks for `path` (`/lookup/…`, `/tile/…`, `/latest`). What comes back is not verified.
    pub(super) async fn ask(&self, settings: &Settings, path: &str) -> Result<Bytes, Refusal> {
        let mut trouble = None;
        for (chain, prefix) in self.sources(settings).await {
            let asked = settings
                .upstreams
                .fetch(
                    &chain,
                    &Ask {
                        path: format!("{prefix}{path}"),
                        hedge: false,
                    },
                )
                .await;
            match asked {
                Ok(fetched) => {
                    let upstream = Arc::clone(&fetched.upstream);
                    match fetched.body.into_bytes(MAX_ANSWER_BYTES).await {
                        Ok(body) => return Ok(body),
                        Err(error) => trouble = Some(format!("{upstream}: {error}")),
                    }
                }
                Err(failure) => match failure.kind {
                    FailureKind::Absent { .. } => {
                        return Err(Refusal::new(
                            Code::RecordNotFound,
                            self.name().to_owned() + path,
                            "the checksum database does not have it",
                        ));
                    }
                    FailureKind::Trouble(cause)
                    | FailureKind::Direct {
                        earlier: Some(cause),
                    } => trouble = Some(format!("{}: {}", cause.upstream, cause.text)),
                    FailureKind::Off | FailureKind::Direct { earlier: None } => {}
                },
            }
        }
        let what = format!("checksum database {}", self.name());
        let why = format!(
            "cannot be reached ({})",
            trouble.unwrap_or_else(|| "no source for it".to_owned())
        );
        Err(Refusal::new(Code::ChecksumDatabaseUnreachable, what, why)
            .hint("new versions are not served without it; an operator may set `sumdb.url`, or `sumdb.unreachable = \"serve-unverified\"`"))
    }

    /// Where to ask, in order, each with the path before the database's own.
    async fn sources(&self, settings: &Settings) -> Vec<(Arc<Chain>, String)> {
        if let Some(url) = &self.settings.url {
            return vec![(Arc::clone(url), String::new())];
        }
        let mut sources = Vec::new();
        for entry in settings.routes.chain.entries() {
            let Target::Http(base) = &entry.target else {
                continue;
            };
            let chain = Chain::single(base.clone());
            if self.supports(settings, &chain).await {
                sources.push((Arc::new(chain), format!("/sumdb/{}", self.name())));
            }
        }
        sources.push((Arc::clone(&self.settings.own), String::new()));
        sources
    }

    /// Whether an upstream passes the database on (protocol.md 4.3).
    async fn supports(&self, settings: &Settings, chain: &Chain) -> bool {
        let name = chain.to_string();
        let known = self
            .supports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&name)
            .copied();
        if let Some((until, supports)) = known
            && Instant::now() < until
        {
            return supports;
        }
        let ask = Ask {
            path: format!("/sumdb/{}/supported", self.name()),
            hedge: false,
        };
        let (life, supports) = match settings.upstreams.fetch(chain, &ask).await {
            Ok(_) => (SUPPORTED, true),
            Err(failure) if matches!(failure.kind, FailureKind::Absent { .. }) => {
                (NOT_SUPPORTED, false)
            }
            // In trouble: what was known of it is the best guess; it is skipped if nothing was.
            Err(_) => return known.is_some_and(|(_, supports)| supports),
        };
        self.supports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, (Instant::now() + life, supports));
        supports
    }

    /// The content of a tile from the network: as asked, or cut from its full form where the narrow one is no more.
    pub(super) async fn ask_tile(&self, settings: &Settings, tile: Tile) -> Result<Bytes, Refusal> {
        match self.ask(settings, &format!("/{tile}")).await {
            Err(refusal) if refusal.code == Code::RecordNotFound && !tile.is_full() => {
                let full = self.ask(settings, &format!("/{}", tile.full())).await?;
                let cut = tile.cut(&tile.full(), &full).map(Bytes::copy_from_slice);
                cut.ok_or_else(|| self.invalid(format_args!("{} is too short", tile.full())))
            }
            asked => asked,
        }
    }
}
