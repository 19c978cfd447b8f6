//! Answers kept for a set time, asked for once however many wait, and weighed: a page may be large, and there are many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::html::Import;
use crate::DirectError;

/// Most that is kept of one sort, in bytes.
const MAX_BYTES: u64 = 16 << 20;
/// What an answer takes by itself, in bytes.
const FRAME: usize = 512;

/// What an answer takes in memory, in bytes, beyond its own frame.
pub(crate) trait Weight {
    fn bytes(&self) -> usize;
}

impl Weight for &'static str {
    fn bytes(&self) -> usize {
        0
    }
}

impl Weight for Arc<Vec<Import>> {
    fn bytes(&self) -> usize {
        let texts = self.iter().map(|import| {
            import.prefix.len() + import.vcs.len() + import.url.len() + import.subdir.len()
        });
        texts.sum::<usize>() + self.len() * size_of::<Import>()
    }
}

/// Answers by key. One that is being fetched is waited for; if the one who fetches gives up, the next in line goes on.
pub(crate) struct KeptAnswers<T>(moka::sync::Cache<String, Arc<Slot<T>>>);

struct Slot<T> {
    kept: Mutex<Option<Kept<T>>>,
    /// In bytes, once there is an answer.
    weight: AtomicU32,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self {
            kept: Mutex::new(None),
            weight: AtomicU32::new(0),
        }
    }
}

struct Kept<T> {
    at: Instant,
    life: Duration,
    answer: Result<T, DirectError>,
}

impl<T: Clone + Weight + Send + Sync + 'static> KeptAnswers<T> {
    /// `idle` is how long an answer nobody asks for is held at most: no shorter than any life.
    pub(crate) fn new(idle: Duration) -> Self {
        Self(
            moka::sync::Cache::builder()
                .max_capacity(MAX_BYTES)
                .weigher(|key: &String, slot: &Arc<Slot<T>>| {
                    let own = u32::try_from(key.len() + FRAME).unwrap_or(u32::MAX);
                    own.saturating_add(slot.weight.load(Ordering::Relaxed))
                })
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
        let mut held = slot.kept.lock().await;
        if let Some(kept) = &*held {
            let life = oldest.map_or(kept.life, |oldest| oldest.min(kept.life));
            if kept.at.elapsed() < life {
                return kept.answer.clone();
            }
        }
        let (answer, life) = make().await;
        let bytes = match &answer {
            Ok(answer) => answer.bytes(),
            Err(error) => error.text.len() + error.hint.as_ref().map_or(0, String::len),
        };
        let weight = u32::try_from(bytes).unwrap_or(u32::MAX);
        slot.weight.store(weight, Ordering::Relaxed);
        *held = Some(Kept {
            at: Instant::now(),
            life,
            answer: answer.clone(),
        });
        drop(held);
        // Put there again, it is weighed again.
        self.0.insert(key.to_owned(), slot);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_answers_are_few() {
        let kept = KeptAnswers::<Arc<Vec<Import>>>::new(Duration::from_mins(1));
        let large = || Import {
            prefix: "x".repeat(60_000),
            vcs: "git".to_owned(),
            url: String::new(),
            subdir: String::new(),
        };
        for number in 0..1000 {
            let make = async || (Ok(Arc::new(vec![large()])), Duration::from_mins(1));
            kept.get(&number.to_string(), None, make).await.unwrap();
        }
        kept.0.run_pending_tasks();
        let (count, weight) = (kept.0.entry_count(), kept.0.weighted_size());
        assert!((100..=279).contains(&count), "{count}");
        assert!((100 * 60_000..=MAX_BYTES).contains(&weight), "{weight}");
    }
}
