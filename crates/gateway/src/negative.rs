//! "No", remembered for a short time: go's habit of asking twice and a stampede cost upstream one request.
//!
//! Of zips only that they are not there: a client asks for a zip after `.info` and `.mod` said that the version is
//! there, so any other failure is trouble, which should heal at once; a stampede shares one fetch anyway (`flight`).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use moka::sync::Cache;

use crate::{
    refusal::{Code, Fault, Refusal},
    settings::Negative,
};

const MAX_ENTRIES: u64 = 20_000;

/// Recent refusals by key.
#[derive(Debug)]
pub(crate) struct Negatives(Cache<String, (Instant, Arc<Refusal>)>);

impl Negatives {
    pub(crate) fn new() -> Self {
        Self(
            Cache::builder()
                .max_capacity(MAX_ENTRIES)
                .time_to_live(Duration::from_hours(1))
                .build(),
        )
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<Refusal>> {
        let (until, refusal) = self.0.get(key)?;
        (Instant::now() < until).then_some(refusal)
    }

    /// What was the matter last time, though it may be over.
    pub(crate) fn last(&self, key: &str) -> Option<Arc<Refusal>> {
        self.0.get(key).map(|(_, refusal)| refusal)
    }

    /// All is well again.
    pub(crate) fn forget(&self, key: &str) {
        self.0.invalidate(key);
    }

    pub(crate) fn remember(&self, key: &str, refusal: &Arc<Refusal>, lives: &Negative) {
        if refusal.looped {
            return;
        }
        let life = match (refusal.code, refusal.code.fault()) {
            (Code::ResourceGone, _) => lives.gone,
            (_, Fault::Upstream) => lives.trouble,
            (
                Code::ModuleNotFound
                | Code::VersionNotFound
                | Code::ModuleInvalid
                | Code::ChecksumUnknown
                | Code::RecordNotFound,
                _,
            ) => lives.absent,
            _ => return,
        };
        self.0
            .insert(key.to_owned(), (Instant::now() + life, Arc::clone(refusal)));
    }

    pub(crate) fn clear(&self) {
        self.0.invalidate_all();
    }
}
