//! Tree heads of checksum databases. They go forward only, each from the very one it was proven against.

use crate::{
    changes::{Announce as _, ChangeKind},
    db::{Records, read, write},
    error::RecordsError,
};

/// What is kept of one checksum database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its name.
    pub name: String,
    /// Records in its tree.
    pub size: u64,
    /// The signed note.
    pub note: Vec<u8>,
    /// Evidence that it has shown two histories, until an operator clears it.
    pub fork: Option<Vec<u8>>,
}

type Row = (String, i64, Vec<u8>, Option<Vec<u8>>);

fn head((name, size, note, fork): Row) -> Head {
    Head {
        name,
        size: size.unsigned_abs(),
        note,
        fork,
    }
}

impl Records {
    /// The kept heads of all databases.
    pub async fn heads(&self) -> Result<Vec<Head>, RecordsError> {
        let rows: Vec<Row> = read!(&self.db, "reading tree heads", conn => {
            sqlx::query_as("SELECT name, size, note, fork FROM tree_heads").fetch_all(conn).await?
        })?;
        Ok(rows.into_iter().map(head).collect())
    }

    /// The kept head of a database.
    pub async fn head(&self, name: &str) -> Result<Option<Head>, RecordsError> {
        let row: Option<Row> = read!(&self.db, "reading a tree head", conn => {
            sqlx::query_as("SELECT name, size, note, fork FROM tree_heads WHERE name = $1")
                .bind(name)
                .fetch_optional(conn)
                .await?
        })?;
        Ok(row.map(head))
    }

    /// Moves a head forward from the note that it was proven against, `None` for the first one. Returns whether that
    /// is still what was kept; if not, whoever asks must let its head meet the one that is.
    pub async fn advance_head(
        &self,
        name: &str,
        from: Option<&[u8]>,
        size: u64,
        note: &[u8],
    ) -> Result<bool, RecordsError> {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        write!(&self.db, "moving a tree head", tx => {
            let moved = match from {
                None => sqlx::query(
                    "INSERT INTO tree_heads (name, size, note) VALUES ($1, $2, $3) \
                     ON CONFLICT (name) DO UPDATE SET size = excluded.size, note = excluded.note \
                     WHERE tree_heads.size = 0",
                )
                .bind(name)
                .bind(size)
                .bind(note)
                .execute(&mut *tx)
                .await?,
                Some(from) => sqlx::query(
                    "UPDATE tree_heads SET size = $2, note = $3 \
                     WHERE name = $1 AND note = $4 AND size <= $2",
                )
                .bind(name)
                .bind(size)
                .bind(note)
                .bind(from)
                .execute(&mut *tx)
                .await?,
            };
            let moved = moved.rows_affected() > 0;
            if moved {
                tx.announce(ChangeKind::Head, name).await?;
            }
            moved
        })
    }

    /// Keeps the evidence of two histories. The first stands. Returns whether this is it.
    pub async fn set_fork(&self, name: &str, evidence: &[u8]) -> Result<bool, RecordsError> {
        write!(&self.db, "keeping the evidence of a fork", tx => {
            // A database of which no head was kept yet has the row all the same, with an empty tree.
            let set = sqlx::query(
                "INSERT INTO tree_heads (name, size, note, fork) VALUES ($1, 0, $2, $3) \
                 ON CONFLICT (name) DO UPDATE SET fork = excluded.fork WHERE tree_heads.fork IS NULL",
            )
            .bind(name)
            .bind(Vec::<u8>::new())
            .bind(evidence);
            let first = set.execute(&mut *tx).await?.rows_affected() > 0;
            if first {
                tx.announce(ChangeKind::Head, name).await?;
            }
            first
        })
    }

    /// Takes the evidence away: an operator has looked at it. Returns whether there was any.
    pub async fn clear_fork(&self, name: &str) -> Result<bool, RecordsError> {
        write!(&self.db, "clearing the evidence of a fork", tx => {
            let clear = sqlx::query(
                "UPDATE tree_heads SET fork = NULL WHERE name = $1 AND fork IS NOT NULL",
            )
            .bind(name);
            let cleared = clear.execute(&mut *tx).await?.rows_affected() > 0;
            if cleared {
                tx.announce(ChangeKind::Head, name).await?;
            }
            cleared
        })
    }
}
