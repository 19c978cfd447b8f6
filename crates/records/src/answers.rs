//! Answers that change: what upstream last said of lists, `@latest` and queries, shared by replicas.

use crate::{
    changes::{Announce as _, ChangeKind},
    db::{Records, read, write},
    error::RecordsError,
};

/// An answer, and when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Milliseconds of Unix time.
    pub asked_ms: i64,
    /// As whoever put it wrote it.
    pub raw: Vec<u8>,
}

impl Records {
    /// The newest answer under a key.
    pub async fn answer(&self, key: &str) -> Result<Option<KeptAnswer>, RecordsError> {
        let row: Option<(i64, Vec<u8>)> = read!(&self.db, "reading an answer", conn => {
            sqlx::query_as("SELECT asked_ms, raw FROM answers WHERE key = $1")
                .bind(key)
                .fetch_optional(conn)
                .await?
        })?;
        Ok(row.map(|(asked_ms, raw)| KeptAnswer { asked_ms, raw }))
    }

    /// Keeps an answer, unless one is there that was asked for later. Returns whether it is kept.
    pub async fn put_answer(
        &self,
        key: &str,
        asked_ms: i64,
        raw: &[u8],
    ) -> Result<bool, RecordsError> {
        write!(&self.db, "keeping an answer", tx => {
            let put = sqlx::query(
                "INSERT INTO answers (key, asked_ms, raw) VALUES ($1, $2, $3) \
                 ON CONFLICT (key) DO UPDATE SET asked_ms = excluded.asked_ms, raw = excluded.raw \
                 WHERE answers.asked_ms < excluded.asked_ms",
            )
            .bind(key)
            .bind(asked_ms)
            .bind(raw);
            let newest = put.execute(&mut *tx).await?.rows_affected() > 0;
            if newest {
                tx.announce(ChangeKind::Answer, key).await?;
            }
            newest
        })
    }

    /// How many answers there are.
    pub async fn count_answers(&self) -> Result<u64, RecordsError> {
        let count: i64 = read!(&self.db, "counting answers", conn => {
            sqlx::query_scalar("SELECT count(*) FROM answers").fetch_one(conn).await?
        })?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// The next `limit` answers after `after` that were asked for before a time, the oldest first: when, and their keys.
    pub async fn old_answers(
        &self,
        before_ms: i64,
        after: &(i64, String),
        limit: u32,
    ) -> Result<Vec<(i64, String)>, RecordsError> {
        read!(&self.db, "looking through answers", conn => {
            let rows = sqlx::query_as(
                "SELECT asked_ms, key FROM answers \
                 WHERE asked_ms < $1 AND (asked_ms > $2 OR (asked_ms = $2 AND key > $3)) \
                 ORDER BY asked_ms, key LIMIT $4",
            );
            let rows = rows.bind(before_ms).bind(after.0).bind(&after.1).bind(i64::from(limit));
            rows.fetch_all(conn).await?
        })
    }

    /// Drops an answer, unless it was asked for anew. Returns whether it is gone.
    pub async fn drop_answer(&self, key: &str, asked_ms: i64) -> Result<bool, RecordsError> {
        write!(&self.db, "dropping an answer", tx => {
            let drop = sqlx::query("DELETE FROM answers WHERE key = $1 AND asked_ms = $2");
            drop.bind(key).bind(asked_ms).execute(tx).await?.rows_affected() > 0
        })
    }
}
