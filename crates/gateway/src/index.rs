//! The index of what is kept, written after the fact: no answer and no fetch waits for it.
//!
//! What was committed is noted in the records, many at a time, with the SHA-256 that was noted at the file; where there is no such note it
//! is read once more, from the system's memory. While the records are away it waits. What is lost with a crash, or
//! when the queue is full, `modgate fsck` finds.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant, UNIX_EPOCH},
};

use records::{Object, Records};
use sha2::{Digest as _, Sha256};
use store::{
    Key, Store,
    seal::{self, Truth},
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{metrics::Metrics, results::Commit};

/// Commits that wait to be noted.
const QUEUE: usize = 4096;
/// Commits that are noted together.
const BATCH: usize = 64;
/// Others that come within this time are noted together, when whoever waited for the first has the machine no more.
const GATHER: Duration = Duration::from_millis(100);
/// Tries at least, and at most while somebody waits.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How long it is tried while nobody waits: a database may be away, full or closed to us for some time. What comes meanwhile is in the queue.
const PATIENCE: Duration = Duration::from_hours(1);
const BLOCK_BYTES: usize = 256 << 10;
/// How long the index is asked about one file, or waited for.
const ASK: Duration = Duration::from_secs(5);
/// Longest `h1:` text in a file.
const MAX_HASH_BYTES: u64 = 128;

enum Note {
    Kept(Key),
    /// All is known that is to be noted of it.
    Known(Object),
    Flush(oneshot::Sender<()>),
}

/// The way into the index.
#[derive(Debug)]
pub(crate) struct Index {
    queue: mpsc::Sender<Note>,
    metrics: Arc<Metrics>,
    off: AtomicBool,
    /// Held by who waits until all is noted.
    waited_for: Arc<()>,
}

impl Index {
    pub(crate) fn start(store: &Store, records: Arc<Records>, metrics: Arc<Metrics>) -> Self {
        let (queue, notes) = mpsc::channel(QUEUE);
        store.compare_with(known(Arc::clone(&records)));
        let reader = Reader {
            folder: store.folder().to_owned(),
            seals: store.has_seals(),
        };
        let waited_for = Arc::new(());
        let waits = Arc::downgrade(&waited_for);
        let noting = note_all(reader, records, notes, waits, Arc::clone(&metrics));
        tokio::spawn(noting);
        Self {
            queue,
            metrics,
            off: AtomicBool::new(false),
            waited_for,
        }
    }

    /// Notes nothing from now on.
    pub(crate) fn turn_off(&self) {
        self.off.store(true, Relaxed);
    }

    /// Notes what was committed, soon. A full queue drops it, counted.
    pub(crate) fn later(&self, key: Key) {
        if self.off.load(Relaxed) {
            return;
        }
        if self.queue.try_send(Note::Kept(key)).is_err() {
            self.metrics.commits.count(Commit::NotIndexed);
        }
    }

    /// The same for what could not be noted at once.
    pub(crate) fn again(&self, object: Object) {
        if self.off.load(Relaxed) {
            return;
        }
        if self.queue.try_send(Note::Known(object)).is_err() {
            self.metrics.commits.count(Commit::NotIndexed);
        }
    }

    /// The same for who has the time to wait for room in the queue.
    pub(crate) async fn put(&self, key: Key) {
        let _ = self.queue.send(Note::Kept(key)).await;
    }

    /// Waits for some time until all that waits now is noted, and returns whether it is. Nothing is given up for that.
    pub(crate) async fn noted(&self) -> bool {
        timeout(ASK, self.reached()).await.is_ok()
    }

    /// Waits until all that waits now is noted, or given up.
    pub(crate) async fn flush(&self) {
        let _waits = Arc::clone(&self.waited_for);
        self.reached().await;
    }

    async fn reached(&self) {
        let (done, noted) = oneshot::channel();
        if self.queue.send(Note::Flush(done)).await.is_ok() {
            let _ = noted.await;
        }
    }
}

/// What the index knows of a file whose seal is broken. Called on a thread that may wait.
fn known(records: Arc<Records>) -> Truth {
    let runtime = Handle::current();
    Box::new(move |key| {
        let asked = timeout(ASK, records.object(key.as_str()));
        let object = runtime.block_on(asked).map_err(io::Error::other)?;
        let object = object.map_err(io::Error::other)?;
        Ok(object.map(|object| object.sha256))
    })
}

/// Reads what was kept.
#[derive(Clone)]
struct Reader {
    /// The data folder.
    folder: PathBuf,
    /// Whether it is seen at a file that somebody wrote to it since.
    seals: bool,
}

async fn note_all(
    reader: Reader,
    records: Arc<Records>,
    mut notes: mpsc::Receiver<Note>,
    waited_for: Weak<()>,
    metrics: Arc<Metrics>,
) {
    let mut batch = Vec::new();
    while notes.recv_many(&mut batch, BATCH).await > 0 {
        let hurry = batch.iter().any(|note| matches!(note, Note::Flush(_)));
        if !hurry && batch.len() < BATCH {
            sleep(GATHER).await;
            while batch.len() < BATCH
                && let Ok(note) = notes.try_recv()
            {
                batch.push(note);
            }
        }
        let (mut keys, mut known, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
        for note in batch.drain(..) {
            match note {
                Note::Kept(key) => keys.push(key),
                Note::Known(object) => known.push(object),
                Note::Flush(done) => flushes.push(done),
            }
        }
        let count = (keys.len() + known.len()) as u64;
        if count > 0 {
            let reader = reader.clone();
            let read = spawn_blocking(move || reader.read_all(&keys)).await;
            known.extend(read.unwrap_or_default());
            if let Err(error) = note(&records, &waited_for, known).await {
                metrics.commits.add(Commit::NotIndexed, count);
                tracing::warn!(%error, count, "cannot note what is kept; `modgate fsck` makes up for it");
            }
        }
        for done in flushes {
            let _ = done.send(());
        }
    }
}

async fn note(
    records: &Records,
    waited_for: &Weak<()>,
    objects: Vec<Object>,
) -> Result<(), records::RecordsError> {
    let (began, mut pause, mut tries) = (Instant::now(), FIRST_PAUSE, 0);
    loop {
        let Err(error) = records.note(&objects).await else {
            return Ok(());
        };
        tries += 1;
        // The index itself has one.
        let patient = waited_for.strong_count() == 1 && began.elapsed() < PATIENCE;
        if tries >= TRIES && !(patient && error.kind.can_be_mended()) {
            return Err(error);
        }
        tracing::debug!(%error, "cannot note what is kept; trying again");
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl Reader {
    fn read_all(&self, keys: &[Key]) -> Vec<Object> {
        let mut block = vec![0; BLOCK_BYTES];
        keys.iter()
            .filter_map(|key| match self.read(key, &mut block) {
                Ok(object) => Some(object),
                Err(error) => {
                    tracing::warn!(%key, %error, "cannot read what was kept just now");
                    None
                }
            })
            .collect()
    }

    fn read(&self, key: &Key, block: &mut [u8]) -> io::Result<Object> {
        let path = self.folder.join(key.as_str());
        let mut file = File::open(&path)?;
        let metadata = file.metadata()?;
        if self.seals && !seal::holds(&metadata, key) {
            return Err(io::Error::other("somebody else wrote to it since"));
        }
        // When it was written, by the system's clock.
        let kept = metadata.modified()?;
        let kept = kept.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        let kept_at_ms = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        // Noted when it was kept, where the file system has such notes.
        let sha256 = match seal::noted(&file)? {
            Some(noted) => noted,
            None => sha256(&mut file, block)?,
        };
        let h1 = path
            .extension()
            .is_some_and(|ending| ending == "zip")
            .then(|| hash_beside(&path))
            .flatten();
        Ok(Object {
            key: key.as_str().to_owned(),
            size: metadata.len(),
            sha256,
            h1,
            kept_at_ms,
            used_at_ms: kept_at_ms,
            pinned: false,
        })
    }
}

fn sha256(file: &mut File, block: &mut [u8]) -> io::Result<[u8; 32]> {
    let mut sha256 = Sha256::new();
    loop {
        match file.read(block) {
            Ok(0) => return Ok(sha256.finalize().into()),
            Ok(read) => sha256.update(&block[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What stands in the `.ziphash` beside a zip.
fn hash_beside(zip: &Path) -> Option<String> {
    let mut text = String::new();
    let file = File::open(zip.with_extension("ziphash")).ok()?;
    file.take(MAX_HASH_BYTES).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned()).filter(|text| text.starts_with("h1:"))
}
