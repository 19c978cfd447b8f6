//! Small facts by name, such as what earlier bundles were proven by.

use crate::{
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

    /// Sets a fact.
    pub async fn set_fact(&self, name: &str, value: &str) -> Result<(), RecordsError> {
        write!(&self.db, "writing a fact", tx => {
            sqlx::query(
                "INSERT INTO facts (name, value) VALUES ($1, $2) \
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            )
            .bind(name)
            .bind(value)
            .execute(&mut *tx)
            .await?;
        })
    }
}
