//! Retired versions.

use crate::{
    changes::{Announce as _, ChangeKind},
    db::{Records, read, write},
    error::RecordsError,
};

/// One retired version.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct TombstoneRow {
    /// The module's path.
    pub module: String,
    /// The version.
    pub version: String,
    /// What its retirer said.
    pub reason: String,
    /// When: RFC 3339, UTC.
    pub time: String,
}

/// Writes over one that says something else.
const SET: &str = "INSERT INTO tombstones (module, version, reason, time) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (module, version) DO UPDATE SET reason = excluded.reason, time = excluded.time \
     WHERE tombstones.reason <> excluded.reason OR tombstones.time <> excluded.time";
/// Leaves what is there.
const ADD: &str = "INSERT INTO tombstones (module, version, reason, time) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (module, version) DO NOTHING";

impl Records {
    /// All tombstones.
    pub async fn tombstones(&self) -> Result<Vec<TombstoneRow>, RecordsError> {
        read!(&self.db, "reading the tombstones", conn => {
            sqlx::query_as("SELECT module, version, reason, time FROM tombstones")
                .fetch_all(conn)
                .await?
        })
    }

    /// Sets a tombstone; returns whether that changed anything.
    pub async fn retire(&self, tombstone: &TombstoneRow) -> Result<bool, RecordsError> {
        write!(&self.db, "retiring a version", tx => {
            let set = sqlx::query(SET)
                .bind(&tombstone.module)
                .bind(&tombstone.version)
                .bind(&tombstone.reason)
                .bind(&tombstone.time);
            let changed = set.execute(&mut *tx).await?.rows_affected() > 0;
            if changed {
                tx.announce(ChangeKind::Tombstones, &tombstone.module).await?;
            }
            changed
        })
    }

    /// Takes a tombstone away; returns whether it was there.
    pub async fn unretire(&self, module: &str, version: &str) -> Result<bool, RecordsError> {
        write!(&self.db, "taking a tombstone away", tx => {
            let delete = sqlx::query("DELETE FROM tombstones WHERE module = $1 AND version = $2")
                .bind(module)
                .bind(version);
            let changed = delete.execute(&mut *tx).await?.rows_affected() > 0;
            if changed {
                tx.announce(ChangeKind::Tombstones, module).await?;
            }
            changed
        })
    }

    /// Takes tombstones over from elsewhere, under a name by which that happens once. Those that are here stay.
    /// Returns whether it happened now.
    pub async fn take_over_tombstones(
        &self,
        once: &str,
        tombstones: &[TombstoneRow],
    ) -> Result<bool, RecordsError> {
        let taken = write!(&self.db, "taking tombstones over", tx => {
            let first = sqlx::query("INSERT INTO facts (name, value) VALUES ($1, '') ON CONFLICT (name) DO NOTHING")
                .bind(once)
                .execute(&mut *tx)
                .await?
                .rows_affected()
                > 0;
            if first {
                for tombstone in tombstones {
                    sqlx::query(ADD)
                        .bind(&tombstone.module)
                        .bind(&tombstone.version)
                        .bind(&tombstone.reason)
                        .bind(&tombstone.time)
                        .execute(&mut *tx)
                        .await?;
                }
                tx.announce(ChangeKind::Tombstones, "").await?;
            }
            first
        })?;
        if taken {
            self.no_longer_fresh();
        }
        Ok(taken)
    }
}
