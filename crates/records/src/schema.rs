//! The schema, brought up to date under a lock at start.
//!
//! Old and new versions of modgate run side by side while replicas are replaced one by one. So a migration only adds:
//! tables, indexes, columns with a default. One that could not be lived with by an older version says so in
//! `compatible_from`, and older versions then refuse to start on it, and say which version the schema has.
//!
//! sqlx's own runner takes no lock on SQLite, and refuses a schema that is newer than it knows; hence this one.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    db::{Db, read_now, write_now},
    error::{RecordsError, RecordsErrorKind},
};

/// One step of the schema.
#[derive(Debug)]
struct Migration {
    version: i64,
    /// The oldest version of the schema whose readers and writers can live with this one.
    compatible_from: i64,
    sqlite: &'static str,
    postgres: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        compatible_from: 1,
        sqlite: include_str!("../migrations/sqlite/0001_records.sql"),
        postgres: include_str!("../migrations/postgres/0001_records.sql"),
    },
    Migration {
        version: 2,
        compatible_from: 1,
        sqlite: include_str!("../migrations/sqlite/0002_removals.sql"),
        postgres: include_str!("../migrations/postgres/0002_removals.sql"),
    },
];

const DOING: &str = "bringing the schema up to date";
const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_versions (
    version BIGINT NOT NULL PRIMARY KEY, compatible_from BIGINT NOT NULL)";
const NEWEST: &str = "SELECT CAST(coalesce(max(version), 0) AS BIGINT), \
     CAST(coalesce(max(compatible_from), 0) AS BIGINT) FROM schema_versions";
/// `modgate` in ASCII.
const LOCK: &str = "SELECT pg_advisory_xact_lock(30803245189555301)";

/// How often it is tried while others, who do the same, hold the lock.
const TRIES: usize = 3;
/// How long after one that was not answered in time.
const AGAIN: Duration = Duration::from_millis(200);

/// Brings the schema to what this version needs. Many may start at once, on a disk that is slow to sync.
pub(crate) async fn migrate(db: &Db) -> Result<(), RecordsError> {
    for _ in 1..TRIES {
        match migrate_once(db).await {
            Err(error) if error.kind == RecordsErrorKind::Timeout => {
                tracing::warn!(%error, "trying again");
                sleep(AGAIN).await;
            }
            done => return done,
        }
    }
    migrate_once(db).await
}

async fn migrate_once(db: &Db) -> Result<(), RecordsError> {
    let ours = MIGRATIONS.last().map_or(0, |last| last.version);
    // The usual start: nothing to do, nothing written. Without the file or the table the question fails.
    let found: Result<(i64, i64), _> =
        read_now!(db, DOING, conn => sqlx::query_as(NEWEST).fetch_one(conn).await?);
    if let Ok((version, compatible_from)) = found
        && version >= ours
    {
        return known(version, compatible_from, ours);
    }
    let (version, compatible_from) = write_now!(db, DOING, tx => {
        if matches!(db, Db::Postgres { .. }) {
            sqlx::query(LOCK).execute(&mut *tx).await?;
        }
        sqlx::query(TABLE).execute(&mut *tx).await?;
        let (found, mut compatible_from): (i64, i64) =
            sqlx::query_as(NEWEST).fetch_one(&mut *tx).await?;
        let mut version = found;
        for migration in MIGRATIONS.iter().filter(|migration| migration.version > found) {
            let text = match db {
                Db::Sqlite { .. } => migration.sqlite,
                Db::Postgres { .. } => migration.postgres,
            };
            sqlx::raw_sql(text).execute(&mut *tx).await?;
            sqlx::query("INSERT INTO schema_versions (version, compatible_from) VALUES ($1, $2)")
                .bind(migration.version)
                .bind(migration.compatible_from)
                .execute(&mut *tx)
                .await?;
            version = migration.version;
            compatible_from = compatible_from.max(migration.compatible_from);
        }
        (version, compatible_from)
    })?;
    known(version, compatible_from, ours)
}

fn known(version: i64, compatible_from: i64, ours: i64) -> Result<(), RecordsError> {
    if compatible_from > ours {
        let text = format!(
            "the schema has version {version}, which needs a modgate that knows at least version {compatible_from}; this one knows {ours}"
        );
        return Err(RecordsError::new(RecordsErrorKind::Refused, DOING, text));
    }
    Ok(())
}
