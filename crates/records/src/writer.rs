//! Notes that nobody waits for: a bounded queue, and one task that writes what is in it, many in a transaction.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    changes,
    db::{Db, Records},
    error::RecordsError,
    objects::{self, Object},
    removals,
};

/// Notes that wait at most.
const QUEUE: usize = 4096;
/// Notes in a transaction at most.
const BATCH: usize = 512;
/// Others that come within this time go into the same transaction.
const GATHER: Duration = Duration::from_millis(20);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Changes are pruned after so many batches.
const PRUNE_EVERY: u32 = 1000;
/// For what is queued when the process ends.
const LAST_WRITES: Duration = Duration::from_secs(2);

#[derive(Debug)]
enum Note {
    Kept(Object),
    Used(String, i64),
    Flush(oneshot::Sender<()>),
}

/// How the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterState {
    /// Notes that wait.
    pub waiting: usize,
    /// Notes that were dropped because the queue was full.
    pub dropped: u64,
    /// Batches that could not be written and were tried again.
    pub failures: u64,
}

#[derive(Debug, Default)]
struct Counts {
    dropped: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Note>,
    counts: Arc<Counts>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(crate) fn start(db: &Arc<Db>) -> Self {
        let (queue, notes) = mpsc::channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let task = tokio::spawn(write_all(Arc::clone(db), notes, Arc::clone(&counts)));
        Self {
            queue,
            counts,
            task: Mutex::new(Some(task)),
        }
    }

    fn put(&self, note: Note) -> bool {
        let queued = self.queue.try_send(note).is_ok();
        if !queued {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
        queued
    }

    async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Note::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }

    pub(crate) async fn close(&self) {
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(task) = task else { return };
        if timeout(LAST_WRITES, self.flush()).await.is_err() {
            tracing::warn!(
                "some notes of the index were not written; `modgate fsck` makes up for it"
            );
        }
        task.abort();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

impl Records {
    /// Notes an object soon. False if the queue is full: the note is dropped and counted, and `modgate fsck` finds it.
    pub fn note_later(&self, object: Object) -> bool {
        self.writer.put(Note::Kept(object))
    }

    /// Notes a use soon, the same way.
    pub fn used_later(&self, key: String, at_ms: i64) -> bool {
        self.writer.put(Note::Used(key, at_ms))
    }

    /// Waits until all that is queued now is written.
    pub async fn flush(&self) {
        self.writer.flush().await;
    }

    /// How the queue is.
    pub fn writer(&self) -> WriterState {
        WriterState {
            waiting: self.writer.queue.max_capacity() - self.writer.queue.capacity(),
            dropped: self.writer.counts.dropped.load(Ordering::Relaxed),
            failures: self.writer.counts.failures.load(Ordering::Relaxed),
        }
    }
}

async fn write_all(db: Arc<Db>, mut notes: mpsc::Receiver<Note>, counts: Arc<Counts>) {
    let mut batch = Vec::new();
    let mut batches = 0_u32;
    while notes.recv_many(&mut batch, BATCH).await > 0 {
        if batch.len() < BATCH && !batch.iter().any(|note| matches!(note, Note::Flush(_))) {
            sleep(GATHER).await;
            while batch.len() < BATCH
                && let Ok(note) = notes.try_recv()
            {
                batch.push(note);
            }
        }
        let (mut kept, mut used, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
        for note in batch.drain(..) {
            match note {
                Note::Kept(object) => kept.push(object),
                Note::Used(key, at_ms) => used.push((key, at_ms)),
                Note::Flush(done) => flushes.push(done),
            }
        }
        let mut pause = FIRST_PAUSE;
        while let Err(error) = write_batch(&db, &kept, &used).await {
            counts.failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, "cannot note what is kept; trying again");
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        for done in flushes {
            let _ = done.send(());
        }
        batches = batches.wrapping_add(1);
        if batches.is_multiple_of(PRUNE_EVERY)
            && let Err(error) = prune(&db).await
        {
            tracing::warn!(%error, "cannot prune old changes");
        }
    }
}

async fn prune(db: &Db) -> Result<(), RecordsError> {
    changes::prune(db).await?;
    removals::prune(db).await?;
    Ok(())
}

async fn write_batch(db: &Db, kept: &[Object], used: &[(String, i64)]) -> Result<(), RecordsError> {
    objects::note(db, kept).await?;
    objects::note_use(db, used).await
}
