//! Answers kept for a set time, asked for once however many wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::DirectError;

/// Most answers kept of one sort.
const MAX_KEPT: u64 = 10_000;

/// Answers by key. One that is being fetched is waited for; if the one who fetches gives up, the next in line goes on.
pub(crate) struct KeptAnswers<T>(moka::sync::Cache<String, Arc<Slot<T>>>);

type Slot<T> = Mutex<Option<Kept<T>>>;

struct Kept<T> {
    at: Instant,
    life: Duration,
    answer: Result<T, DirectError>,
}

impl<T: Clone + Send + Sync + 'static> KeptAnswers<T> {
    /// `idle` is how long an answer nobody asks for is held at most: no shorter than any life.
    pub(crate) fn new(idle: Duration) -> Self {
        Self(
            moka::sync::Cache::builder()
                .max_capacity(MAX_KEPT)
                // A cache cannot hold for ever.
                .time_to_idle(idle.clamp(Duration::from_secs(1), Duration::from_hours(24 * 365)))
                .build(),
        )
    }

    /// The answer for `key`, not older than `oldest` if that is given; else `make` it, with its life.
    pub(crate) async fn get(
        &self,
        key: &str,
        oldest: Option<Duration>,
        make: impl AsyncFnOnce() -> (Result<T, DirectError>, Duration),
    ) -> Result<T, DirectError> {
        let slot = self.0.get_with_by_ref(key, Arc::default);
        let mut slot = slot.lock().await;
        if let Some(kept) = &*slot {
            let life = oldest.map_or(kept.life, |oldest| oldest.min(kept.life));
            if kept.at.elapsed() < life {
                return kept.answer.clone();
            }
        }
        let (answer, life) = make().await;
        *slot = Some(Kept {
            at: Instant::now(),
            life,
            answer: answer.clone(),
        });
        answer
    }
}
