//! Who is asked: the configured address, else upstreams of the chain that pass the database on, then its own.
//!
//! Nobody is trusted, so one source after the other is asked until what it says verifies; one whose answer did not is
//! asked last for a while. That a record is unknown is believed of the database itself alone (its own address, or the
//! configured one): a mirror may have less, and an outage is never absence.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tlog::tile::Tile;
use upstream::{
    Ask, Failure, FailureKind,
    chain::{Chain, Target},
};

use super::{
    SumDb,
    carried::{Carried, ask_carried},
};
use crate::{
    refusal::{Code, Refusal},
    settings::Settings,
};

/// How long it is believed that an upstream passes the database on, that it does not, and that it cannot tell.
const SUPPORTED: Duration = Duration::from_mins(10);
const NOT_SUPPORTED: Duration = Duration::from_mins(1);
const IN_TROUBLE: Duration = Duration::from_secs(1);
/// How long a source whose answer did not verify is asked last.
const ASIDE: Duration = Duration::from_mins(1);
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// One who may have the database's answers.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Somebody at the other end of a line.
    Line {
        chain: Arc<Chain>,
        /// What comes before the database's own paths.
        prefix: String,
        /// Whether it is the database itself, so that its "no" counts.
        authority: bool,
    },
    /// What somebody carried here.
    Carried(Arc<dyn Carried>),
}

impl Source {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Line { chain, .. } => chain.to_string(),
            Self::Carried(_) => "the bundle".to_owned(),
        }
    }
}

/// Why a source did not do.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// It says that there is no such thing.
    Absent,
    /// It cannot be reached, or fails.
    Trouble(String),
    /// What it says does not verify.
    Invalid(String),
    /// Nobody else need be asked.
    Final(Refusal),
}

impl Fault {
    pub(super) fn invalid(why: impl std::fmt::Display) -> Self {
        Self::Invalid(why.to_string())
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Final(refusal)
    }
}

/// One question to all sources, one after the other, and what they said.
#[derive(Debug)]
pub(super) struct Round {
    waiting: VecDeque<Source>,
    invalid: Option<String>,
    trouble: Vec<String>,
    /// Whether somebody said at least that it has not what was asked for.
    answered: bool,
}

impl Round {
    /// Whom to ask next.
    pub(super) fn next(&mut self) -> Option<Source> {
        self.waiting.pop_front()
    }

    /// Notes why a source did not do. An error ends the round.
    pub(super) fn note(
        &mut self,
        sumdb: &SumDb,
        source: &Source,
        what: &str,
        fault: Fault,
    ) -> Result<(), Refusal> {
        let name = source.name();
        match fault {
            Fault::Final(refusal) => return Err(refusal),
            Fault::Absent
                if matches!(
                    source,
                    Source::Line {
                        authority: true,
                        ..
                    }
                ) =>
            {
                let why = "the checksum database does not have it";
                return Err(Refusal::new(Code::RecordNotFound, what, why));
            }
            Fault::Absent if matches!(source, Source::Carried(_)) => {
                self.trouble.push(format!("{name} has no proof of {what}"));
            }
            Fault::Absent => {
                self.answered = true;
                self.trouble.push(format!("{name}: answered 404"));
            }
            Fault::Trouble(why) => self.trouble.push(format!("{name}: {why}")),
            Fault::Invalid(why) => {
                tracing::error!(database = sumdb.name(), source = name, %why, "SECURITY: an answer of the checksum database does not verify");
                sumdb.set_aside(name);
                self.invalid = Some(why);
            }
        }
        Ok(())
    }

    /// Why the round came to nothing: a lie weighs more than an outage.
    pub(super) fn refusal(self, sumdb: &SumDb) -> Refusal {
        if let Some(why) = self.invalid {
            return sumdb.invalid(why);
        }
        let what = format!("checksum database {}", sumdb.name());
        let trouble = if self.trouble.is_empty() {
            "no source for it".to_owned()
        } else {
            self.trouble.join("; ")
        };
        if sumdb.carried.get().is_some() {
            let code = Code::ChecksumDatabaseUnreachable;
            return Refusal::new(code, what, format!("not proven: {trouble}"))
                .hint("export it where there is a line, with its proof; what can have none belongs into `private` or `sumdb.exempt` here too");
        }
        if !self.answered {
            sumdb.heard(Some((Instant::now(), trouble.clone())));
        }
        Refusal::new(Code::ChecksumDatabaseUnreachable, what, format!("cannot be reached ({trouble})"))
            .hint("new versions are not served without it; an operator may set `sumdb.url` (also to a mirror's `/sumdb/NAME`), or `sumdb.unreachable = \"serve-unverified\"`")
    }
}

impl SumDb {
    /// Begins to ask: those first whose answers verified lately, else in the order of the configuration.
    pub(super) async fn round(self: &Arc<Self>, settings: &Settings) -> Round {
        let mut sources = self.sources(settings).await;
        {
            let now = Instant::now();
            let aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
            sources
                .sort_by_key(|source| aside.get(&source.name()).is_some_and(|until| now < *until));
        }
        Round {
            waiting: sources.into(),
            invalid: None,
            trouble: Vec::new(),
            answered: false,
        }
    }

    fn set_aside(&self, source: String) {
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        aside.insert(source, Instant::now() + ASIDE);
    }

    /// Asks a source for `path` (`/lookup/…`, `/tile/…`, `/latest`). What comes back is not verified.
    pub(super) async fn ask(
        &self,
        settings: &Settings,
        source: &Source,
        path: &str,
    ) -> Result<Bytes, Fault> {
        let (chain, prefix) = match source {
            Source::Line { chain, prefix, .. } => (chain, prefix),
            Source::Carried(carried) => return ask_carried(carried, path).await,
        };
        let ask = Ask {
            path: format!("{prefix}{path}"),
            hedge: false,
        };
        let fetched = settings.upstreams.fetch(chain, &ask).await;
        let answered = |failure: &Failure| matches!(failure.kind, FailureKind::Absent { .. });
        if fetched.as_ref().map_or_else(answered, |_| true) {
            self.heard(None);
        }
        match fetched {
            Ok(fetched) => match fetched.body.into_bytes(MAX_ANSWER_BYTES).await {
                Ok(body) => Ok(body),
                Err(error @ upstream::BodyError::TooLarge(_)) => Err(Fault::invalid(error)),
                Err(error) => Err(Fault::Trouble(error.to_string())),
            },
            Err(failure) => Err(match failure.kind {
                FailureKind::Absent { .. } => Fault::Absent,
                FailureKind::Trouble(cause)
                | FailureKind::Direct {
                    earlier: Some(cause),
                } => Fault::Trouble(cause.text),
                FailureKind::Off | FailureKind::Direct { earlier: None } => {
                    Fault::Trouble("no address".to_owned())
                }
            }),
        }
    }

    pub(super) async fn sources(self: &Arc<Self>, settings: &Settings) -> Vec<Source> {
        if let Some(carried) = self.carried.get() {
            return vec![carried.clone()];
        }
        let authority = |chain: &Arc<Chain>| Source::Line {
            chain: Arc::clone(chain),
            prefix: String::new(),
            authority: true,
        };
        if let Some(url) = &self.settings.url {
            return vec![authority(url)];
        }
        let mut sources = Vec::new();
        for entry in settings.routes.chain().entries() {
            let Target::Http(base) = &entry.target else {
                continue;
            };
            let chain = Arc::new(Chain::single(base.clone()));
            if self.supports(settings, &chain).await {
                sources.push(Source::Line {
                    chain,
                    prefix: format!("/sumdb/{}", self.name()),
                    authority: false,
                });
            }
        }
        sources.push(authority(&self.settings.own));
        sources
    }

    /// Whether an upstream passes the database on (protocol.md 4.3).
    async fn supports(self: &Arc<Self>, settings: &Settings, chain: &Arc<Chain>) -> bool {
        let name = chain.to_string();
        let known = self.known_support(&name);
        if let Some((until, supports)) = known
            && Instant::now() < until
        {
            return supports;
        }
        let (sumdb, settings, chain) = (Arc::clone(self), settings.clone(), Arc::clone(chain));
        let (mut waiter, _) = self
            .questions
            .join(&name.clone(), move |teller| async move {
                let ask = Ask {
                    path: format!("/sumdb/{}/supported", sumdb.name()),
                    hedge: false,
                };
                let (life, supports) = match settings.upstreams.fetch(&chain, &ask).await {
                    Ok(_) => (SUPPORTED, true),
                    Err(failure) if matches!(failure.kind, FailureKind::Absent { .. }) => {
                        (NOT_SUPPORTED, false)
                    }
                    // In trouble: what was known of it is the best guess; it is skipped if nothing was.
                    Err(_) => (IN_TROUBLE, known.is_some_and(|(_, supports)| supports)),
                };
                let mut table = sumdb
                    .supports
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                table.insert(name, (Instant::now() + life, supports));
                drop(table);
                teller.tell(Ok(supports));
            });
        waiter.told().await.unwrap_or(false)
    }

    fn known_support(&self, name: &str) -> Option<(Instant, bool)> {
        let table = self.supports.lock();
        table
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .copied()
    }

    /// The content of a tile from a source: as asked, or cut from its full form where the narrow one is no more.
    pub(super) async fn ask_tile(
        &self,
        settings: &Settings,
        source: &Source,
        tile: Tile,
    ) -> Result<Bytes, Fault> {
        match self.ask(settings, source, &format!("/{tile}")).await {
            Err(Fault::Absent) if !tile.is_full() => {
                let full = self
                    .ask(settings, source, &format!("/{}", tile.full()))
                    .await?;
                let cut = tile.cut(&tile.full(), &full).map(Bytes::copy_from_slice);
                cut.ok_or_else(|| Fault::invalid(format_args!("{} is too short", tile.full())))
            }
            asked => asked,
        }
    }
}
