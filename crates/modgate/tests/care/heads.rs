//! `modgate copy` brings what the checksum database proved, so that all of it is served at the other place without a line.

use std::{path::Path, process::Output};

use records::{Records, RecordsSettings};
use testkit::{
    fixture::Module,
    gate::{Modgate, Options},
    go::Go,
    lab::Lab,
    services::{Postgres, S3},
    sumdb::{LabSumDb, Lie},
};

use crate::{LIMIT, bin, bucket, module};

fn record(sumdb: &LabSumDb, module: &Module) {
    let (path, version) = (module.path(), module.version());
    sumdb.add(path, version, &module.h1(), &module.go_mod_h1());
}

fn options(upstream: &str, sumdb: &LabSumDb, data: &Path, config: &str) -> Options {
    Options {
        upstream: Some(upstream.to_owned()),
        sumdb: Some(sumdb.key().to_string()),
        config: Some(config.to_owned()),
        data: Some(data.to_owned()),
        env: vec![
            ("S3_KEY".to_owned(), "testkey".to_owned()),
            ("S3_SECRET".to_owned(), "testsecret".to_owned()),
        ],
        ..Options::default()
    }
}

fn copy(data: &Path, sumdb: &LabSumDb, there: &Path) -> Output {
    let mut command = std::process::Command::new(bin());
    command
        .args(["copy", "--json", "--rate", "off", "--to-config"])
        .arg(there)
        .args(["--upstream", "off", "--sumdb", &sumdb.key().to_string()])
        .arg("--data")
        .arg(data)
        .env_remove("MODGATE_TEST_OFFLINE")
        .env("S3_KEY", "testkey")
        .env("S3_SECRET", "testsecret");
    command.output().unwrap()
}

fn copied(done: &Output) -> serde_json::Value {
    let report = serde_json::from_slice(&done.stdout);
    let report = report.unwrap_or_else(|_| panic!("{done:?}"));
    assert!(done.status.success(), "{report}");
    report
}

async fn is_served(gate: &Modgate, sumdb: &LabSumDb, name: &str) {
    let lookup = format!(
        "/sumdb/{}/lookup/lab.example/{name}@v1.0.0",
        sumdb.key().name()
    );
    let served = async {
        while gate.get(&lookup).await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(LIMIT, served).await;
    assert!(in_time.is_ok(), "{}", gate.get(&lookup).await.text());
    let go = Go::new().proxy(&gate.url()).sumdb(&sumdb.key().to_string());
    let wanted = format!("lab.example/{name}@v1.0.0");
    let done = go.run(&["mod", "download", &wanted]).await;
    assert!(done.ok, "{}", done.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_are_served_at_the_other_place_without_a_line() {
    let (lab, s3) = (Lab::start().await, S3::start().await);
    let sumdb = LabSumDb::start("sum.lab.example").await.unwrap();
    for name in ["first", "second"] {
        lab.add(module(name));
    }
    record(&sumdb, &module("first"));
    sumdb.add_others(300);
    lab.pass_sumdb(&sumdb.url());
    let postgres = Postgres::start().await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let shared = format!(
        "{}[records]\nurl = \"{}\"\n",
        bucket(&s3, "shared"),
        postgres.url()
    );
    let alone = bucket(&s3, "alone");
    let write = |name: &str, storage: &str| {
        let (key, data) = (sumdb.key().to_string(), at(name));
        let toml = format!("data = {data:?}\n{storage}[sumdb]\nname = {key:?}\n");
        std::fs::write(at(&format!("{name}.toml")), toml).unwrap();
    };
    write("shared", &shared);
    write("alone", &alone);
    write("disk", "");
    let places = [("shared", shared.as_str()), ("alone", &alone), ("disk", "")];

    let gate = Modgate::start(bin(), options(&lab.url(), &sumdb, &at("old"), "")).await;
    for (name, known) in [("first", 301), ("second", 702)] {
        if name == "second" {
            sumdb.add_others(400);
            record(&sumdb, &module(name));
        }
        is_served(&gate, &sumdb, name).await;
        // What is kept of it is written after the answer.
        let latest = at("old").join("sumdb/sum.lab.example/latest");
        let size = format!("\n{known}\n");
        while !std::fs::read_to_string(&latest).is_ok_and(|note| note.contains(&size)) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        for (place, _) in places {
            let there = at(&format!("{place}.toml"));
            // The second time they go forward, the third time they stay.
            for _ in 0..2 {
                let report = copied(&copy(&at("old"), &sumdb, &there));
                assert_eq!(report["tree_size"], known, "{place}: {report}");
            }
        }
    }
    drop(gate);
    lab.stop().await;
    sumdb.lie(Lie::Unreachable).await;
    for (place, storage) in places {
        let gate = Modgate::start(bin(), options("off", &sumdb, &at(place), storage)).await;
        for name in ["first", "second"] {
            is_served(&gate, &sumdb, name).await;
        }
    }

    // Servers there that were told another history.
    sumdb.be_honest().await;
    sumdb.lie(Lie::ForkedTree { at: 3 }).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let forked = http.get(format!("{}/latest", sumdb.url())).send().await;
    let forked = forked.unwrap().bytes().await.unwrap();
    let settings = RecordsSettings::postgres(postgres.url().parse().unwrap());
    let records = Records::open(&settings).await.unwrap();
    let known = records.head("sum.lab.example").await.unwrap().unwrap().note;
    let moved = records.advance_head("sum.lab.example", Some(&known), 702, &forked);
    assert!(moved.await.unwrap());
    let done = copy(&at("old"), &sumdb, &at("shared.toml"));
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(said.contains("two histories"), "{said}");
    let kept = records.head("sum.lab.example").await.unwrap().unwrap();
    assert!(kept.note == forked, "it was overwritten");
    records.close().await;
}
