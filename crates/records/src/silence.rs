//! A PostgreSQL that does not answer: it is asked in the background whether it does again, and until then nobody waits
//! out the same time limit once more.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{Connection as _, PgPool};
use tokio::time::{sleep, timeout};

use crate::db::Lent;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// Whether a server is silent.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    lasts: AtomicBool,
    answered: AtomicU64,
}

impl Silence {
    pub(crate) fn lasts(&self) -> bool {
        self.lasts.load(Ordering::Relaxed)
    }

    /// How many questions were answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// It answered, with an error perhaps.
    pub(crate) fn end(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.lasts.store(false, Ordering::Relaxed);
    }

    /// It did not answer within `limit`, and had answered so many questions before that. If it answered others since, it
    /// was only asked for much.
    pub(crate) fn begin(self: &Arc<Self>, answered: u64, pool: &PgPool, limit: Duration) {
        if self.answered() == answered && !self.lasts.swap(true, Ordering::Relaxed) {
            tokio::spawn(ask_again(Arc::downgrade(self), pool.clone(), limit));
        }
    }
}

async fn ask_again(silence: Weak<Silence>, pool: PgPool, limit: Duration) {
    loop {
        let asked = async {
            let mut lent = Lent::new(pool.acquire().await?);
            lent.connection().ping().await?;
            lent.give_back();
            Ok(())
        };
        let answered = match timeout(limit, asked).await {
            Err(_) | Ok(Err(sqlx::Error::PoolTimedOut)) => false,
            // An error is for whoever asks next.
            Ok(Ok(()) | Err(_)) => true,
        };
        let Some(silence) = silence.upgrade().filter(|silence| silence.lasts()) else {
            return;
        };
        if answered {
            silence.end();
            return;
        }
        drop(silence);
        sleep(PAUSE).await;
    }
}
