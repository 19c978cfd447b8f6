//! Cleaning up that does not come to its end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use care::{
    Storage,
    gc::{self, Options},
};
use records::{Filter, Object, Records, RecordsSettings};
use store::Folder;

/// Versions on the disk and in the index.
async fn storage(data: &std::path::Path, modules: &[&str]) -> Storage {
    let path = data.join("records.db");
    let records = Records::open(&RecordsSettings::Sqlite { path })
        .await
        .unwrap();
    let mut rows = Vec::new();
    for module in modules {
        for part in ["info", "mod", "zip"] {
            let key = format!("go/lab.example/{module}/@v/v1.0.0.{part}");
            let file = data.join(&key);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "bytes").unwrap();
            rows.push(Object {
                key,
                size: 5,
                sha256: [7; 32],
                h1: None,
                kept_at_ms: 1,
                used_at_ms: 1,
                pinned: false,
            });
        }
    }
    records.note(&rows).await.unwrap();
    Storage {
        folder: Folder::new(data),
        disk: true,
        tiers: Vec::new(),
        records: Arc::new(records),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_killed_has_marked_the_lists_and_is_finished_by_the_next() {
    let data = tempfile::tempdir().unwrap();
    let storage = storage(data.path(), &["a", "b", "c"]).await;
    let all = Options {
        max_size: Some(0),
        really: true,
        ..Options::default()
    };
    let (killed, options) = (storage.clone(), all.clone());
    let ended =
        tokio::spawn(async move { gc::run(&killed, &options, &|_| panic!("killed")).await });
    assert!(ended.await.unwrap_err().is_panic());
    let marker = data.path().join("lists.unwritten");
    assert!(marker.exists(), "a start would not look at the lists");

    let report = gc::run(&storage, &all, &|_| {}).await.unwrap();
    assert_eq!(report.removed.len(), 2, "{report:?}");
    let left = storage.records.totals(&Filter::default()).await.unwrap();
    assert_eq!(left.count, 0);
    // A file that is gone already, as after a kill before the index knew.
    let file = "go/lab.example/d/@v/v1.0.0.mod";
    let again = self::storage(data.path(), &["d"]).await;
    std::fs::remove_file(data.path().join(file)).unwrap();
    let report = gc::run(&again, &all, &|_| {}).await.unwrap();
    assert_eq!(report.removed.len(), 1, "{report:?}");
    assert!(again.records.object(file).await.unwrap().is_none());
    storage.records.close().await;
    again.records.close().await;
}
