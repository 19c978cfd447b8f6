//! What was removed on purpose. Changes are read by those who run, and are gone after an hour; this stays for replicas that
//! come back later, with what was removed still on their disks.

use sqlx::{PgConnection, SqliteConnection};

use crate::{
    changes::Cursor,
    db::{Db, Records, read, write},
    error::RecordsError,
};

/// A removal is kept for 90 days, and the newest for ever.
const KEPT_MS: i64 = 90 * 24 * 3_600_000;
/// Removals that are read at once.
const PAGE: i64 = 1000;

/// Writes a removal within a transaction that announced it, so that they are numbered in the order of commits.
pub(crate) trait Remove {
    fn note_removal(&mut self, key: &str) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

impl Remove for SqliteConnection {
    /// Nobody shares these records.
    async fn note_removal(&mut self, _: &str) -> Result<(), sqlx::Error> {
        Ok(())
    }
}

impl Remove for PgConnection {
    async fn note_removal(&mut self, key: &str) -> Result<(), sqlx::Error> {
        let insert = sqlx::query("INSERT INTO removals (key) VALUES ($1)").bind(key);
        insert.execute(&mut *self).await?;
        Ok(())
    }
}

impl Records {
    /// The next keys that were removed after one that was read before, and the last of these; nothing if there are no
    /// more. What was kept again since is in the index. All are read anew if the one of before is not there: it is older
    /// than what is kept, or the database is another one.
    pub async fn removals_after(
        &self,
        read: Cursor,
    ) -> Result<Option<(Vec<String>, Cursor)>, RecordsError> {
        let mut rows = self.removals_from(read.seq).await?;
        if rows.first().map(cursor) == Some(read) {
            rows.remove(0);
        } else if read != Cursor::default() {
            rows = self.removals_from(0).await?;
        }
        let last = rows.last().map(cursor);
        let keys = rows.into_iter().map(|(_, _, key)| key).collect();
        Ok(last.map(|last| (keys, last)))
    }

    async fn removals_from(&self, seq: i64) -> Result<Vec<(i64, i64, String)>, RecordsError> {
        read!(&self.db, "reading what was removed", conn => {
            sqlx::query_as("SELECT seq, at_ms, key FROM removals WHERE seq >= $1 ORDER BY seq LIMIT $2")
                .bind(seq)
                .bind(PAGE)
                .fetch_all(conn)
                .await?
        })
    }
}

fn cursor((seq, at_ms, _): &(i64, i64, String)) -> Cursor {
    Cursor {
        seq: *seq,
        at_ms: *at_ms,
    }
}

/// Drops old ones.
pub(crate) async fn prune(db: &Db) -> Result<u64, RecordsError> {
    write!(db, "pruning what was removed", tx => {
        sqlx::query("DELETE FROM removals WHERE at_ms < (SELECT max(at_ms) FROM removals) - $1")
            .bind(KEPT_MS)
            .execute(tx)
            .await?
            .rows_affected()
    })
}
