//! Small facts by name, such as the epoch of the configuration.

use crate::{
    changes::{Announce as _, ChangeKind},
    db::{Records, read, write},
    error::RecordsError,
};

impl Records {
    /// A fact.
    pub async fn fact(&self, name: &str) -> Result<Option<String>, RecordsError> {
        read!(&self.db, "reading a fact", conn => {
            sqlx::query_scalar("SELECT value FROM facts WHERE name = $1")
                .bind(name)
                .fetch_optional(conn)
                .await?
        })
    }

    /// Sets a fact, and tells everybody that `kind` changed if it was not so before.
    pub async fn set_fact(
        &self,
        name: &str,
        value: &str,
        kind: ChangeKind,
    ) -> Result<bool, RecordsError> {
        write!(&self.db, "writing a fact", tx => {
            let set = sqlx::query(
                "INSERT INTO facts (name, value) VALUES ($1, $2) \
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE facts.value <> excluded.value",
            )
            .bind(name)
            .bind(value);
            let changed = set.execute(&mut *tx).await?.rows_affected() > 0;
            if changed {
                tx.announce(kind, name).await?;
            }
            changed
        })
    }
}
