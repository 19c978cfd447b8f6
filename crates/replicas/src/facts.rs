//! Facts that replicas share though each has records of its own: retired versions, and tree heads of checksum databases.
//!
//! They stand in one document, in the bucket where there is one, else in Redis. Each replica compares it with what it
//! knows, when something changed here and every [`POLL`]: what the document has comes into effect here, and what only
//! this replica knows is written into it. Each has a whole copy, so a document that was lost comes back. Nothing waits
//! for it: while it cannot be reached what is said here is in effect here, and the others are told later.

mod document;
mod heads;
mod place;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use records::Records;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use crate::{Coordinate, ReplicasError};
use document::{Document, FORM, SharedHead};
pub use heads::SharedHeads;
use place::{Place, Read, Version};

/// Between two looks at the document.
pub(crate) const POLL: Duration = Duration::from_millis(800);
/// A start waits no longer for it.
const START: Duration = Duration::from_secs(5);
/// Tries to write it, against others that do.
const TRIES: u32 = 8;
/// Between two of them, times how many there were.
const PAUSE: Duration = Duration::from_millis(20);

/// The shared facts as this replica knows them.
#[derive(Debug)]
pub struct SharedFacts {
    place: Place,
    records: Arc<Records>,
    /// The document as it was seen last. Held while it is compared.
    seen: tokio::sync::Mutex<Option<Seen>>,
    heads: Mutex<BTreeMap<String, SharedHead>>,
    /// Whether something may be known here that is not in the document.
    news: AtomicBool,
    changed: Notify,
    trouble: Mutex<Option<String>>,
}

/// The document as it was seen.
#[derive(Debug)]
struct Seen {
    document: Document,
    version: Version,
    /// Whether it was seen so twice. While it is being written, a service may give the version of one state with the
    /// content of another: who believed that would not see the new one.
    sure: bool,
}

/// What a comparison came to.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Whether this replica wrote the document.
    pub(crate) wrote: bool,
    /// Whether other versions are retired here now.
    pub(crate) retired: bool,
}

impl SharedFacts {
    /// Those that are shared by `place`; none if nothing needs to be, or can: the records are shared, or this process is
    /// alone.
    pub fn by(place: &Coordinate, records: &Arc<Records>) -> Option<Arc<Self>> {
        let place = Place::of(place).filter(|_| !records.shared())?;
        Some(Arc::new(Self {
            place,
            records: Arc::clone(records),
            seen: tokio::sync::Mutex::default(),
            heads: Mutex::default(),
            news: AtomicBool::new(true),
            changed: Notify::new(),
            trouble: Mutex::default(),
        }))
    }

    /// Takes over what the others said while this replica did not run, if that can be had soon.
    pub async fn begin(&self) {
        let begun = timeout(START, self.compare()).await;
        if let Err(error) = begun.unwrap_or_else(|_| Err(ReplicasError::timeout("starting"))) {
            self.look();
            tracing::warn!(%error, "what other replicas retired meanwhile is not known yet: it is looked for again and again");
        }
    }

    /// Tells the others what was said here, and hears what they said. An error means that they do not know it yet:
    /// whoever compares next tells them.
    pub async fn tell(&self) -> Result<(), ReplicasError> {
        self.news.store(true, Ordering::Release);
        self.compare().await.map(drop)
    }

    /// Compares soon: something changed here or elsewhere.
    pub(crate) fn look(&self) {
        self.news.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Waits until [`look`](Self::look) is called, or for the next look at the document.
    pub(crate) async fn pause(&self) {
        let _ = timeout(POLL, self.changed.notified()).await;
    }

    /// Why the document cannot be compared just now.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    pub(crate) async fn compare(&self) -> Result<Compared, ReplicasError> {
        let compared = self.try_to_compare().await;
        *lock(&self.trouble) = compared.as_ref().err().map(ToString::to_string);
        if compared.is_err() {
            self.news.store(true, Ordering::Release);
        }
        compared
    }

    async fn try_to_compare(&self) -> Result<Compared, ReplicasError> {
        let mut seen = self.seen.lock().await;
        let mut compared = Compared::default();
        // Also when nobody can be asked: what a command says from here on is a word.
        let mut news = self.news.swap(false, Ordering::AcqRel);
        if news {
            self.records.agreement().await?;
        }
        for again in 0..TRIES {
            sleep(PAUSE * again).await;
            let known = seen.as_ref().filter(|seen| seen.sure);
            match self.place.read(known.map(|seen| &seen.version)).await? {
                Read::Same => {}
                Read::Absent => news |= seen.take().is_some(),
                Read::Document(document, version) => {
                    let sure = seen
                        .as_ref()
                        .is_some_and(|seen| seen.version == version && seen.document == document);
                    news |= !sure;
                    *seen = Some(Seen {
                        document,
                        version,
                        sure,
                    });
                }
            }
            if !news {
                return Ok(compared);
            }
            let (there, version) = match &*seen {
                Some(seen) => (seen.document.clone(), Some(seen.version.clone())),
                None => (Document::default(), None),
            };
            let agreement = self.records.agreement().await?;
            let mut joined = there.clone();
            joined.form = FORM;
            joined.join_retired(&agreement.agreed);
            joined.join_heads(&self.heads());
            let mut wanted = joined.clone();
            wanted.say(&agreement);
            let agreed = |document: &Document| {
                let mut news = document.retired.clone();
                news.retain(|name, agreed| agreement.agreed.get(name) != Some(agreed));
                news
            };
            // One that is empty is not made.
            if wanted == there || (wanted.is_empty() && version.is_none()) {
                self.take_heads(&wanted);
                compared.retired = self.records.agree(&agreed(&wanted)).await?;
                return Ok(compared);
            }
            wanted.written = there.written.saturating_add(1);
            // Read next is what is there, whatever it is.
            *seen = None;
            match self.place.write(&wanted, version.as_ref()).await {
                Ok(true) => {
                    self.news.store(true, Ordering::Release);
                    self.take_heads(&wanted);
                    compared.wrote = true;
                    compared.retired = self.records.agree(&agreed(&wanted)).await?;
                    return Ok(compared);
                }
                // Another replica was faster.
                Ok(false) => {}
                Err(error) => {
                    // What the others said holds, though they cannot be told.
                    self.take_heads(&joined);
                    self.records.agree(&agreed(&joined)).await?;
                    return Err(error);
                }
            }
        }
        Err(ReplicasError::new("telling", "too many others do"))
    }

    fn heads(&self) -> MutexGuard<'_, BTreeMap<String, SharedHead>> {
        lock(&self.heads)
    }

    /// Takes over what the document says of checksum databases. What was said here meanwhile stays.
    fn take_heads(&self, document: &Document) {
        let mut heads = self.heads();
        let mut joined = document.clone();
        joined.join_heads(&heads);
        *heads = joined.heads;
    }

    /// The head of a database, and evidence of a fork, as far as they are known here.
    fn head(&self, name: &str) -> Option<records::Head> {
        self.heads().get(name).map(|head| records::Head {
            name: name.to_owned(),
            size: head.size,
            note: head.note.clone().into_bytes(),
            fork: head.fork.evidence.clone().map(String::into_bytes),
        })
    }

    /// Changes what is known of a database, and tells the others soon. Returns whether `edit` changed anything.
    fn edit_head(&self, name: &str, edit: impl FnOnce(&mut SharedHead) -> bool) -> bool {
        let changed = edit(self.heads().entry(name.to_owned()).or_default());
        if changed {
            self.look();
        }
        changed
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
