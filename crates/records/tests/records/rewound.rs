//! A database that came back with less than was read from it.

use records::{Change, ChangeKind, Records, RecordsErrorKind, RecordsSettings};
use tokio::time::timeout;

use super::{Database, SOON};

const EMPTY: &str = "DELETE FROM changes";

/// What an empty database that takes the place of another one has: numbers from the start.
async fn begin_anew(database: &Database) {
    database.execute(EMPTY).await;
    let anew = match &database.settings {
        RecordsSettings::Sqlite { .. } => "DELETE FROM sqlite_sequence WHERE name = 'changes'",
        RecordsSettings::Postgres { .. } => "ALTER TABLE changes ALTER COLUMN seq RESTART WITH 1",
    };
    database.execute(anew).await;
}

pub(crate) async fn changes_after_a_rewound_count_are_told_after_a_gap(database: Database) {
    let (one, other) = (database.open().await, database.open().await);
    for key in ["a", "b", "c"] {
        one.announce(ChangeKind::Forget, key).await.unwrap();
    }
    let mut seq = other.last_change().await.unwrap();
    // Fewer than were read, none at all, and more.
    for keys in [&["d"][..], &[], &["e", "f", "g", "h"]] {
        begin_anew(&database).await;
        for key in keys {
            one.announce(ChangeKind::Forget, key).await.unwrap();
        }
        let news = other.changes_since(seq).await.unwrap();
        assert!(news.gap && news.more, "{keys:?}: {news:?}");
        let news = other.changes_since(news.seq).await.unwrap();
        let told = news.changes.iter().map(|Change { key, .. }| key.as_str());
        assert_eq!(told.collect::<Vec<_>>(), keys);
        assert!(!news.gap && !news.more, "{keys:?}: {news:?}");
        assert_eq!(news.seq, other.last_change().await.unwrap());
        let quiet = other.changes_since(news.seq).await.unwrap();
        assert!(quiet.changes.is_empty() && !quiet.gap, "{quiet:?}");
        seq = news.seq;
        if keys.is_empty() {
            // None is the place before all: what comes is news.
            one.announce(ChangeKind::Forget, "first").await.unwrap();
            let news = other.changes_since(seq).await.unwrap();
            assert_eq!((news.changes.len(), news.gap), (1, false));
            seq = news.seq;
        }
    }
}

/// Also under a clock that ran ahead before.
pub(crate) async fn the_newest_change_is_never_pruned(database: Database) {
    let records = database.open().await;
    records.announce(ChangeKind::Forget, "old").await.unwrap();
    database
        .execute("UPDATE changes SET at_ms = at_ms + 86400000")
        .await;
    records.announce(ChangeKind::Forget, "new").await.unwrap();
    let seq = records.last_change().await.unwrap();
    records.prune_changes().await.unwrap();
    assert_eq!(records.last_change().await.unwrap(), seq);
    assert!(!records.changes_since(seq).await.unwrap().gap);
}

pub(crate) async fn a_database_without_its_tables_is_not_well(database: Database) {
    let records = database.open().await;
    records.probe().await.unwrap();
    database.execute("DROP TABLE tombstones").await;
    let probed = timeout(SOON, records.probe()).await.unwrap();
    let error = probed.unwrap_err();
    assert!(error.to_string().contains("tombstones"), "{error}");
    if records.shared() {
        assert_eq!(error.kind, RecordsErrorKind::Refused);
        assert!(error.to_string().contains("tables are gone"), "{error}");
    }
}

#[tokio::test]
async fn a_read_only_database_is_not_well() {
    let database = Database::postgres().await;
    let records = database.open().await;
    records.close().await;
    database
        .execute("ALTER DATABASE modgate SET default_transaction_read_only = on")
        .await;
    let records = Records::open(&database.settings).await.unwrap();
    let error = records.probe().await.unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
    // By its own name, and without a line of its source.
    let error = records.announce(ChangeKind::Forget, "key").await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("(SQLSTATE 25006); a standby is"), "{error}");
    // Sessions stay as they began.
    let postgres = database.postgres.as_ref().unwrap();
    postgres
        .run_sql(&[
            "SET default_transaction_read_only = off",
            "ALTER DATABASE modgate RESET default_transaction_read_only",
        ])
        .await;
    records.probe().await.unwrap();
}
