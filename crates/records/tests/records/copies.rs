//! The schema beside a newer one, and copies of all of it.

use records::{
    ChangeKind, Filter, Object, Records, RecordsErrorKind, RecordsSettings, SNAPSHOT,
    verify_snapshot,
};

use super::{Database, keys, object, tombstone};

/// A newer version has been here first, as while replicas are replaced one by one.
pub(crate) async fn a_newer_schema_is_lived_with_if_it_says_so(database: Database) {
    let old = database.open().await;
    database
        .execute("ALTER TABLE objects ADD COLUMN origin TEXT NOT NULL DEFAULT ''")
        .await;
    database
        .execute("INSERT INTO schema_versions (version, compatible_from) VALUES (3, 1)")
        .await;
    // The one that runs, and one that starts.
    old.note(&[object("go/running", 1)]).await.unwrap();
    let started = database.open().await;
    started.note(&[object("go/started", 1)]).await.unwrap();
    assert_eq!(
        keys(&old.objects("", 9, &Filter::default()).await.unwrap()),
        ["go/running", "go/started"]
    );

    database
        .execute("INSERT INTO schema_versions (version, compatible_from) VALUES (4, 4)")
        .await;
    let error = Records::open(&database.settings).await.unwrap_err();
    assert_eq!(error.kind, RecordsErrorKind::Refused);
    assert!(error.to_string().contains("version 4"), "{error}");
}

async fn fill(records: &Records) {
    let objects: Vec<Object> = (0..700)
        .map(|index| Object {
            h1: (index % 2 == 0).then(|| format!("h1:{index}")),
            pinned: index == 3,
            ..object(&format!("go/m/@v/v{index}"), index)
        })
        .collect();
    records.note(&objects).await.unwrap();
    records
        .retire(&tombstone("a.example/m", "v1.0.0", "bad \"quotes\"\n"))
        .await
        .unwrap();
    records
        .advance_head("sum.example", None, 10, b"ten\0")
        .await
        .unwrap();
    records.set_fork("sum.example", b"evidence").await.unwrap();
    records.put_answer("list", 7, b"v1.0.0\n").await.unwrap();
    records.set_fact("config", "7").await.unwrap();
}

pub(crate) async fn a_snapshot_restores_what_was(database: Database) {
    let records = database.open().await;
    fill(&records).await;
    let folder = tempfile::tempdir().unwrap();
    let snapshot = records.snapshot_to(folder.path()).await.unwrap();
    assert_eq!(snapshot.rows, 704);
    assert_eq!(verify_snapshot(&snapshot.path).await.unwrap(), snapshot);

    records.forget("go/m/@v/v3").await.unwrap();
    records.note(&[object("go/later", 1)]).await.unwrap();
    records.unretire("a.example/m", "v1.0.0").await.unwrap();
    let before = records.last_change().await.unwrap();
    records.restore_from(folder.path()).await.unwrap();
    let news = records.changes_since(before).await.unwrap();
    assert_eq!(news.changes[0].kind, ChangeKind::Everything);
    let copy = tempfile::tempdir().unwrap();
    assert_eq!(
        records.snapshot_to(copy.path()).await.unwrap().sha256,
        snapshot.sha256
    );

    // And into the other kind of database.
    let elsewhere = match &database.settings {
        RecordsSettings::Sqlite { .. } => Database::postgres().await,
        RecordsSettings::Postgres { .. } => Database::sqlite(),
    };
    let other = elsewhere.open().await;
    other.restore_from(folder.path()).await.unwrap();
    assert_eq!(
        other.snapshot_to(copy.path()).await.unwrap().sha256,
        snapshot.sha256
    );
    assert!(other.object("go/m/@v/v3").await.unwrap().unwrap().pinned);
}

pub(crate) async fn an_altered_snapshot_is_refused(database: Database) {
    let records = database.open().await;
    fill(&records).await;
    let folder = tempfile::tempdir().unwrap();
    let snapshot = records.snapshot_to(folder.path()).await.unwrap();
    let good = std::fs::read_to_string(&snapshot.path).unwrap();
    let cut = good.rsplit_once("{\"end\"").unwrap().0.to_owned();
    for bad in [
        good.replace("h1:2\"", "h1:3\""),
        cut,
        good[..good.len() - 1].to_owned(),
        good.replace("\"form\":1", "\"form\":2"),
        String::new(),
    ] {
        assert_ne!(bad, good);
        std::fs::write(&snapshot.path, bad).unwrap();
        let error = records.restore_from(folder.path()).await.unwrap_err();
        assert_eq!(error.kind, RecordsErrorKind::Corrupt, "{error}");
    }
    assert_eq!(records.totals(&Filter::default()).await.unwrap().count, 700);
    std::fs::remove_file(folder.path().join(SNAPSHOT)).unwrap();
    records.restore_from(folder.path()).await.unwrap_err();
}
