//! The records against both databases, SQLite in a file and a real PostgreSQL: most of it is one suite, run twice.

#![expect(clippy::unwrap_used, reason = "tests")]

mod copies;
mod own;
mod rewound;
mod suite;

use std::time::Duration;

use records::{Object, Records, RecordsSettings, TombstoneRow};
use sqlx::{ConnectOptions as _, Connection as _};
use tempfile::TempDir;
use testkit::services::Postgres;

const SOON: Duration = Duration::from_secs(20);

/// A database of one of the two kinds, which can be opened more than once.
struct Database {
    settings: RecordsSettings,
    _folder: TempDir,
    postgres: Option<Postgres>,
}

impl Database {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            settings: RecordsSettings::Sqlite {
                path: folder.path().join("records.db"),
            },
            _folder: folder,
            postgres: None,
        }
    }

    async fn postgres() -> Self {
        let postgres = Postgres::start().await;
        Self {
            settings: RecordsSettings::postgres(postgres.url().parse().unwrap()),
            _folder: tempfile::tempdir().unwrap(),
            postgres: Some(postgres),
        }
    }

    async fn open(&self) -> Records {
        let records = Records::open(&self.settings).await.unwrap();
        // A file that is not there yet is made while the start goes on.
        records.probe().await.unwrap();
        records
    }

    /// What a newer version does to the schema.
    async fn execute(&self, sql: &'static str) {
        match &self.settings {
            RecordsSettings::Sqlite { path } => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                let mut connection = options.connect().await.unwrap();
                sqlx::query(sql).execute(&mut connection).await.unwrap();
            }
            RecordsSettings::Postgres { .. } => {
                let url = self.postgres.as_ref().unwrap().url();
                let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
                sqlx::query(sql).execute(&mut connection).await.unwrap();
            }
        }
    }
}

/// Each named test of a module against each database.
macro_rules! both {
    ($($module:ident::$test:ident)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                crate::$module::$test(crate::Database::sqlite()).await;
            })*
        }

        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                crate::$module::$test(crate::Database::postgres().await).await;
            })*
        }
    };
}

both! {
    suite::objects_are_noted_found_and_forgotten
    suite::objects_are_paged_and_filtered
    suite::a_queue_writes_many_at_once
    suite::tombstones_are_set_and_taken_away
    suite::what_is_agreed_comes_into_effect_and_what_is_said_since_stays
    suite::heads_only_go_forward
    suite::forks_stay_until_cleared
    suite::newer_answers_stand
    suite::old_answers_are_found
    suite::changes_are_told_in_order
    suite::changes_of_many_writers_are_never_missed
    suite::many_open_an_empty_one_at_once
    copies::a_newer_schema_is_lived_with_if_it_says_so
    copies::a_snapshot_restores_what_was
    copies::an_altered_snapshot_is_refused
    rewound::changes_after_a_rewound_count_are_told_after_a_gap
    rewound::the_newest_change_is_never_pruned
    rewound::a_database_without_its_tables_is_not_well
}

fn object(key: &str, kept_at_ms: i64) -> Object {
    Object {
        key: key.to_owned(),
        size: 10,
        sha256: [7; 32],
        h1: None,
        kept_at_ms,
        used_at_ms: kept_at_ms,
        pinned: false,
    }
}

fn tombstone(module: &str, version: &str, reason: &str) -> TombstoneRow {
    TombstoneRow {
        module: module.to_owned(),
        version: version.to_owned(),
        reason: reason.to_owned(),
        time: "2026-01-02T03:04:05Z".to_owned(),
    }
}

fn keys(objects: &[Object]) -> Vec<&str> {
    objects.iter().map(|object| object.key.as_str()).collect()
}
