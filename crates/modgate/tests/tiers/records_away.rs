//! The database of the records is away while a server runs.

use std::time::{Duration, Instant};

use records::{Records, RecordsSettings};
use testkit::{
    fixture::Module,
    gate::{Modgate, Options},
    lab::Lab,
    services::{Postgres, S3},
};

use crate::{
    DISK, all_right,
    common::{self, module},
    gate, s3,
};

/// Less than the time limits, of 5 s each, of all questions to the records: some 25.
const ONCE: Duration = Duration::from_secs(30);

/// Not every one of the questions that an answer takes, and not every answer, waits out the time limit.
#[tokio::test]
async fn records_that_do_not_answer_are_waited_for_once() {
    let (lab, mut database) = tokio::join!(Lab::start(), Postgres::start());
    let modules = ["one", "two", "three"].map(module);
    for module in &modules {
        lab.add(module.clone());
    }
    let config = format!(
        "[records]\nurl = \"{}\"\n[replicas]\ncoordinate = \"postgres\"\n",
        database.url()
    );
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some("off".to_owned()),
        config: Some(config),
        ..Options::default()
    };
    let gate = Modgate::start(common::bin(), options).await;
    database.kill();
    let began = Instant::now();
    for module in &modules {
        let list = format!("/{}/@v/list", module.path());
        for path in [list, module.url_path("info"), module.url_path("zip")] {
            let reply = gate.get(&path).await;
            assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        }
    }
    assert!(began.elapsed() < ONCE, "{:?}", began.elapsed());
    let asked = Instant::now();
    let ready = gate.get("/readyz").await;
    assert!(ready.text().contains("records: "), "{}", ready.text());
    assert!(asked.elapsed() < Duration::from_secs(4));
    // Longer than anybody waits for what is noted.
    tokio::time::sleep(Duration::from_secs(12)).await;

    database.restart().await;
    common::eventually("the records are asked again", async || {
        let ready = gate.get("/readyz").await.text();
        ready.contains(&format!(
            "\"detail\":\"{}\"",
            database.url().replace("modgate@", "")
        ))
    })
    .await;
    in_the_index(&database, &modules).await;
}

async fn in_the_index(database: &Postgres, modules: &[Module]) {
    let index = RecordsSettings::postgres(database.url().parse().unwrap());
    let index = Records::open(&index).await.unwrap();
    for module in modules {
        for ending in ["info", "zip"] {
            let key = format!("go{}", module.url_path(ending));
            common::eventually("it is in the index", async || {
                index.object(&key).await.unwrap().is_some()
            })
            .await;
        }
    }
}

/// Of what is in no index `modgate gc` knows nothing.
#[tokio::test]
async fn what_a_bucket_keeps_meanwhile_is_in_the_index_later() {
    let (lab, bucket, mut database) = tokio::join!(Lab::start(), S3::start(), Postgres::start());
    let new = module("new");
    lab.add(new.clone());
    let config = format!(
        "{DISK}{}[records]\nurl = \"{}\"\n[replicas]\ncoordinate = \"postgres\"\n",
        s3(&bucket, ""),
        database.url()
    );
    let gate = gate(&lab, &bucket, &config, None).await;
    database.kill();
    all_right(&gate, &new).await;
    database.restart().await;
    in_the_index(&database, &[new]).await;
}

/// Somebody sees to that, which may take longer than a server needs to come back.
#[tokio::test]
async fn what_a_full_database_did_not_take_is_in_the_index_later() {
    let (lab, bucket, database) = tokio::join!(Lab::start(), S3::start(), Postgres::start());
    let new = module("new");
    lab.add(new.clone());
    let config = format!(
        "{DISK}{}[records]\nurl = \"{}\"\n[replicas]\ncoordinate = \"postgres\"\n[log]\nlevel = \"debug\"\n",
        s3(&bucket, ""),
        database.url()
    );
    let gate = gate(&lab, &bucket, &config, None).await;
    database
        .run_sql(&[
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END $$",
            "CREATE TRIGGER no_room BEFORE INSERT ON objects EXECUTE FUNCTION no_room()",
        ])
        .await;
    all_right(&gate, &new).await;
    // More often than it tries what cannot be mended.
    gate.logged("cannot note what is kept; trying again", 6)
        .await;
    database.run_sql(&["DROP TRIGGER no_room ON objects"]).await;
    in_the_index(&database, &[new]).await;
}
