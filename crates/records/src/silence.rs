//! A PostgreSQL that does not answer: it is asked in the background whether it does again, and until then nobody waits
//! out the same time limit once more.
//!
//! One may answer who reads and leave who writes waiting: its standby is away that must have what is written, or
//! somebody holds a lock. So each has a silence of its own.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{Connection as _, Executor as _, PgConnection, PgPool};
use tokio::time::{sleep, timeout};

use crate::db::{Lent, TABLES};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// Takes what those who write take of every table.
const LOCKS: &str = "LOCK TABLE schema_versions, objects, tombstones, tree_heads, answers, facts, changes, leases, \
     removals IN ROW EXCLUSIVE MODE";
/// Leaves nothing, and is written all the same.
const ROW: &str = "WITH own AS (SELECT 'probe ' || pg_backend_pid() AS key) \
     INSERT INTO leases (key, holder, token, expires_ms) SELECT key, 'probe', 0, 0 FROM own";
const NO_ROW: &str = "DELETE FROM leases WHERE key = 'probe ' || pg_backend_pid()";

/// What a question does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// Whether a server is silent to those who read, and to those who write.
#[derive(Debug, Default)]
pub(crate) struct Silences {
    reads: Arc<Silence>,
    writes: Arc<Silence>,
}

impl Silences {
    fn of(&self, access: Access) -> &Arc<Silence> {
        match access {
            Access::Read => &self.reads,
            Access::Write => &self.writes,
        }
    }

    /// Whether there is no sense in such a question now.
    pub(crate) fn last(&self, access: Access) -> bool {
        self.reads.lasts() || (access == Access::Write && self.writes.lasts())
    }

    /// How many questions were answered so far.
    pub(crate) fn answered(&self) -> [u64; 2] {
        [&self.reads, &self.writes].map(|silence| silence.answered.load(Ordering::Relaxed))
    }

    /// It answered, with an error perhaps.
    pub(crate) fn end(&self, access: Access) {
        self.of(access).end();
        self.reads.end();
    }

    /// It did not answer within `limit`, and had answered so many questions before that. If it answered others since, it
    /// was only asked for much. That it leaves whoever reads waiting too is found out as soon.
    pub(crate) fn begin(&self, answered: [u64; 2], pool: &PgPool, limit: Duration) {
        for (access, answered) in [Access::Read, Access::Write].into_iter().zip(answered) {
            self.of(access).begin(access, answered, pool, limit);
        }
    }
}

#[derive(Debug, Default)]
struct Silence {
    lasts: AtomicBool,
    answered: AtomicU64,
}

impl Silence {
    fn lasts(&self) -> bool {
        self.lasts.load(Ordering::Relaxed)
    }

    fn end(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.lasts.store(false, Ordering::Relaxed);
    }

    fn begin(self: &Arc<Self>, access: Access, answered: u64, pool: &PgPool, limit: Duration) {
        let unanswered = self.answered.load(Ordering::Relaxed) == answered;
        if unanswered && !self.lasts.swap(true, Ordering::Relaxed) {
            let silence = Arc::downgrade(self);
            tokio::spawn(ask_again(silence, access, pool.clone(), limit));
        }
    }
}

async fn ask_again(silence: Weak<Silence>, access: Access, pool: PgPool, limit: Duration) {
    loop {
        let asked = async {
            let mut lent = Lent::new(pool.acquire().await?);
            ask(access, lent.connection(), limit).await?;
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

/// What whoever asks next will need.
async fn ask(
    access: Access,
    connection: &mut PgConnection,
    limit: Duration,
) -> Result<(), sqlx::Error> {
    if access == Access::Read {
        sqlx::query(TABLES).fetch_one(connection).await?;
        return Ok(());
    }
    let mut begun = connection.begin().await?;
    // The server gives up soon after this does: it would hold a connection for each question.
    let soon = limit.as_millis() + 1000;
    let soon = format!("SET LOCAL statement_timeout = {soon}");
    begun.execute(sqlx::AssertSqlSafe(soon)).await?;
    for statement in [LOCKS, ROW, NO_ROW] {
        begun.execute(statement).await?;
    }
    begun.commit().await
}
