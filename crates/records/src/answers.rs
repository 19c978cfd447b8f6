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

    /// Drops answers that were asked for before a time; nobody asks for their modules any more.
    pub async fn prune_answers(&self, before_ms: i64) -> Result<u64, RecordsError> {
        write!(&self.db, "pruning answers", tx => {
            sqlx::query("DELETE FROM answers WHERE asked_ms < $1")
                .bind(before_ms)
                .execute(tx)
                .await?
                .rows_affected()
        })
    }
}
