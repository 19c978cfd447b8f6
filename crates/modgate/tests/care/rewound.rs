//! A PostgreSQL that comes back with less than the server has read of it.

use serde_json::Value;
use testkit::services::Postgres;

use crate::{LIMIT, Site};

/// Waits until that is said of the records.
async fn records_are(site: &Site, ok: bool, text: &str) {
    let told = async {
        loop {
            let ready = site.gate.get("/readyz").await.text();
            let ready: Value = serde_json::from_str(&ready).unwrap();
            let checks = ready["checks"].as_array().unwrap();
            let check = checks.iter().find(|check| check["name"] == "records");
            let check = check.unwrap();
            if check["ok"] == ok && check["detail"].to_string().contains(text) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let told = tokio::time::timeout(LIMIT, told).await;
    assert!(
        told.is_ok(),
        "it is not said that the records are {ok}: {text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_retired_is_read_anew_from_a_database_that_has_less() {
    let postgres = Postgres::start().await;
    let storage = format!("[records]\nurl = \"{}\"\n", postgres.url());
    let site = Site::start(&["a", "b"], &storage).await;
    let to = site.folder.path().join("backups");
    let to = to.to_str().unwrap();
    let run = |arguments: &[&str]| {
        let done = site.run(arguments);
        assert!(done.status.success(), "{done:?}");
    };
    run(&["backup", to]);
    run(&["retire", "lab.example/a@v1.0.0", "--reason", "bad"]);
    run(&["unretire", "lab.example/a@v1.0.0"]);
    run(&["retire", "lab.example/a@v1.0.0", "--reason", "bad"]);
    site.serves_again("a", "mod", 410).await;
    records_are(&site, true, "").await;

    // Gone: said, and what was read stays in effect.
    postgres
        .run_sql(&["DROP SCHEMA public CASCADE", "CREATE SCHEMA public"])
        .await;
    records_are(&site, false, "tables are gone").await;
    site.gate.logged("tables are gone", 1).await;
    site.serves_again("a", "mod", 410).await;

    // Back with less, and with changes that begin from 1.
    run(&["restore", to]);
    records_are(&site, true, "").await;
    site.serves_again("a", "mod", 200).await;
    run(&["retire", "lab.example/b@v1.0.0", "--reason", "bad"]);
    site.serves_again("b", "mod", 410).await;

    // As a standby is that was not made the first.
    postgres
        .run_sql(&["ALTER DATABASE modgate SET default_transaction_read_only = on",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'modgate'"])
        .await;
    records_are(&site, false, "read-only").await;
}
