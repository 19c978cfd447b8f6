//! Answers that change: lists, `@latest`, queries. Fresh for a while, then stale, never lost.
//!
//! What upstream said stands on disk under `fresh/`, as the time of asking in milliseconds and the chain that was asked
//! on a line of their own and then the body; what is served (a list is united with what is kept, and tombstones are taken out) is composed
//! from that and held in memory.

use std::{
    borrow::Cow,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use moka::sync::Cache;
use store::{Key, Store};

use crate::settings::{ChainName, Route};

/// So far the clocks of replicas may be apart, in milliseconds.
const MAX_AHEAD_MS: u64 = 5_000;
/// Bound of the composed answers in memory, in bytes.
const MAX_MEMORY_BYTES: u64 = 16 << 20;
/// A folder of many versions takes tens of milliseconds to read. Another replica may have added to what is kept.
const KEPT_LIFE: Duration = Duration::from_secs(2);
/// The longest list or info that is taken from upstream, in bytes.
pub(crate) const MAX_BODY_BYTES: usize = 16 << 20;

/// One changeable answer.
#[derive(Debug)]
pub(crate) struct Changeable {
    /// What upstream said last.
    pub(crate) raw: Bytes,
    /// What clients get.
    pub(crate) served: Bytes,
    /// When upstream said it, in milliseconds since 1970.
    asked_ms: u64,
    /// Whose word it is; none in what was kept before that was noted.
    chain: Option<ChainName>,
}

impl Changeable {
    pub(crate) fn new(raw: Bytes, served: Bytes, chain: ChainName) -> Self {
        Self {
            raw,
            served,
            asked_ms: now_ms(),
            chain: Some(chain),
        }
    }

    /// What was shared, and asked for then.
    pub(crate) fn shared(asked_ms: u64, shared: Vec<u8>) -> Self {
        let shared = Bytes::from(shared);
        let line = shared.iter().position(|byte| *byte == b'\n');
        let named = line.and_then(|line| {
            let chain = ChainName::read(std::str::from_utf8(&shared[..line]).ok()?)?;
            Some((chain, shared.slice(line + 1..)))
        });
        let (chain, raw) = named.map_or((None, shared), |(chain, raw)| (Some(chain), raw));
        Self {
            served: raw.clone(),
            raw,
            asked_ms,
            chain,
        }
    }

    /// As it is shared with other replicas: after the chain on a line of its own.
    pub(crate) fn to_share(&self) -> Vec<u8> {
        let chain = self.chain.as_ref().map(ChainName::as_str);
        let line = chain.map(|chain| format!("{chain}\n")).unwrap_or_default();
        [line.as_bytes(), &self.raw].concat()
    }

    /// Whether it is the word of this route's chain. What another chain said says nothing here: a module may have become
    /// private since.
    pub(crate) fn is_of(&self, route: &Route) -> bool {
        match &self.chain {
            Some(chain) => route.chain_name().takes(chain),
            None => !route.is_private(),
        }
    }

    /// Whether it may be said of this route's module when its chain cannot be asked: what a public chain said never of a
    /// private module, nor the other way round.
    pub(crate) fn may_stand_in(&self, route: &Route) -> bool {
        let private = self.chain.as_ref().is_some_and(ChainName::is_private);
        private == route.is_private()
    }

    /// Whose word it is, where that was noted.
    pub(crate) fn chain(&self) -> Option<&ChainName> {
        self.chain.as_ref()
    }

    /// When it was asked for, in milliseconds since 1970.
    pub(crate) fn asked_ms(&self) -> u64 {
        self.asked_ms
    }

    /// How old it is.
    pub(crate) fn age(&self) -> Duration {
        age(self.asked_ms)
    }

    /// The same with other bytes to serve.
    pub(crate) fn recomposed(self, served: Bytes) -> Self {
        Self { served, ..self }
    }
}

/// Changeable answers in memory, by key.
#[derive(Debug)]
pub(crate) struct Changeables {
    known: Cache<String, Arc<Changeable>>,
    /// What can be said of what is kept alone, where nobody may be asked or nobody answers.
    kept: Cache<String, Option<Bytes>>,
    /// How often all that is composed was forgotten.
    era: AtomicU64,
}

impl Changeables {
    pub(crate) fn new() -> Self {
        let weigh = |key: &String, value: &Arc<Changeable>| {
            u32::try_from(key.len() + value.raw.len() + value.served.len() + 64).unwrap_or(u32::MAX)
        };
        let weigh_kept = |key: &String, said: &Option<Bytes>| {
            let len = said.as_ref().map_or(0, Bytes::len);
            u32::try_from(key.len() + len + 64).unwrap_or(u32::MAX)
        };
        Self {
            known: Cache::builder()
                .max_capacity(MAX_MEMORY_BYTES)
                .weigher(weigh)
                .build(),
            kept: Cache::builder()
                .max_capacity(MAX_MEMORY_BYTES / 4)
                .weigher(weigh_kept)
                .time_to_live(KEPT_LIFE)
                .build(),
            era: AtomicU64::new(0),
        }
    }

    /// What can be said of what is kept alone: read once for all who ask at the same time and soon after. Waits for the
    /// disk.
    pub(crate) fn kept(&self, key: &str, read: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        self.kept.get_with_by_ref(key, read)
    }

    pub(crate) fn get(&self, key: &str, private: bool) -> Option<Arc<Changeable>> {
        self.known.get(&*place(key, private))
    }

    /// The tombstones and rules in effect have this number; to be taken before they are looked at.
    pub(crate) fn era(&self) -> u64 {
        self.era.load(SeqCst)
    }

    /// Holds what was composed in `era`, unless that is over.
    pub(crate) fn insert(&self, key: &str, private: bool, value: Arc<Changeable>, era: u64) {
        let place = place(key, private);
        self.known.insert(place.clone().into_owned(), value);
        if self.era() != era {
            self.known.invalidate(&*place);
        }
    }

    /// Forgets what is composed under `key`; what upstream said stays on disk.
    pub(crate) fn forget(&self, key: &str) {
        for private in [false, true] {
            self.known.invalidate(&*place(key, private));
        }
        self.kept.invalidate(key);
    }

    /// Forgets all that is composed: tombstones or rules changed.
    pub(crate) fn recompose(&self) {
        self.era.fetch_add(1, SeqCst);
        self.known.invalidate_all();
        self.kept.invalidate_all();
    }
}

/// What upstream said last, from disk. Waits for the disk.
pub(crate) fn load(store: &Store, key: &Key) -> io::Result<Option<Changeable>> {
    let bytes = store.read_small(key, MAX_BODY_BYTES as u64 + 32)?;
    Ok(bytes.and_then(read))
}

/// Reads what [`save`] wrote.
fn read(bytes: Vec<u8>) -> Option<Changeable> {
    let line = bytes.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&bytes[..line]).ok()?;
    let (asked_ms, chain) = match head.split_once(' ') {
        Some((asked_ms, chain)) => (asked_ms, Some(ChainName::read(chain)?)),
        None => (head, None),
    };
    let asked_ms = asked_ms.parse().ok()?;
    let raw = Bytes::from(bytes).slice(line + 1..);
    Some(Changeable {
        served: raw.clone(),
        raw,
        asked_ms,
        chain,
    })
}

/// Where an answer is in memory: those of private modules apart, so that a request that began before a module became private leaves
/// nothing behind.
fn place(key: &str, private: bool) -> Cow<'_, str> {
    if private {
        return format!("private {key}").into();
    }
    key.into()
}

/// Writes what upstream said. Waits for the disk.
pub(crate) fn save(store: &Store, key: &Key, value: &Changeable) {
    let mut bytes = match &value.chain {
        Some(chain) => format!("{} {}\n", value.asked_ms, chain.as_str()),
        None => format!("{}\n", value.asked_ms),
    }
    .into_bytes();
    bytes.extend_from_slice(&value.raw);
    if let Err(error) = store.replace_small(key, &bytes) {
        tracing::warn!(%key, %error, "cannot keep an answer; it is served from memory");
    }
}

/// How long ago that was, in milliseconds since 1970.
pub(crate) fn age(asked_ms: u64) -> Duration {
    let now = now_ms();
    if asked_ms > now + MAX_AHEAD_MS {
        // Of a replica whose clock is ahead, or from before this clock was set back: nobody knows.
        return Duration::MAX;
    }
    Duration::from_millis(now.saturating_sub(asked_ms))
}

pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_names_its_chain() {
        let name = "public https://proxy.example";
        let chain = ChainName::read(name).unwrap();
        let said = Changeable::new("v1.0.0\n".into(), "".into(), chain.clone());
        assert_eq!(said.to_share(), format!("{name}\nv1.0.0\n").as_bytes());
        let heard = Changeable::shared(7, said.to_share());
        assert_eq!(
            (&heard.raw[..], heard.chain),
            (&b"v1.0.0\n"[..], Some(chain))
        );
        // As it was shared before.
        let heard = Changeable::shared(7, b"v1.0.0\n".to_vec());
        assert_eq!((&heard.raw[..], heard.chain), (&b"v1.0.0\n"[..], None));
    }
}
