//! The reader of a mirror's objects between questions: `.info`, `.mod` and `.zip` of a version come one after the other, and
//! starting a `git cat-file` takes longer than its answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use super::objects::Objects;

/// How long one waits for the next question.
const LIFE: Duration = Duration::from_secs(1);

/// A place for one reader.
#[derive(Debug, Default)]
pub(crate) struct Idle(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    reader: Option<Objects>,
    /// Which making of the mirror it reads.
    generation: u64,
    /// How many have waited here.
    count: u64,
}

impl Idle {
    /// The reader that waits, if it reads this making of the mirror.
    pub(crate) fn take(&self, generation: u64) -> Option<Objects> {
        let mut waiting = lock(&self.0);
        let same = waiting.generation == generation;
        waiting.reader.take().filter(|_| same)
    }

    /// Leaves a reader for the next question, for a while. One that owes an answer ends.
    pub(crate) fn put(&self, reader: Objects, generation: u64) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if reader.owes() {
            return;
        }
        let mut waiting = lock(&self.0);
        waiting.reader = Some(reader);
        waiting.generation = generation;
        waiting.count += 1;
        let (count, place) = (waiting.count, Arc::downgrade(&self.0));
        drop(waiting);
        runtime.spawn(async move {
            tokio::time::sleep(LIFE).await;
            if let Some(place) = place.upgrade() {
                let mut waiting = lock(&place);
                if waiting.count == count {
                    waiting.reader = None;
                }
            }
        });
    }
}

fn lock(place: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}
