//! What is retired on one replica is retired on all, though each has records of its own.

use std::{path::Path, time::Instant};

use tempfile::TempDir;
use testkit::gate::Modgate;

use crate::{
    common::{eventually, module},
    gate,
    replicas::Site,
};

const ONE: &str = "lab.example/one@v1.0.0";

/// Runs a command with the configuration of the replicas on this data folder, beside its server or without one.
fn run(site: &Site, config: &str, data: &Path, arguments: &[&str]) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("modgate.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = crate::common::command();
    command
        .args(arguments)
        .args(["--config"])
        .arg(&file)
        .arg("--data")
        .arg(data)
        .env("S3_KEY", site.bucket.access_key())
        .env("S3_SECRET", site.bucket.secret_key());
    let done = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, told) = (text(done.stdout), text(done.stderr));
    assert!(done.status.success(), "{arguments:?}: {out}{told}");
    (out, told)
}

fn retire(site: &Site, config: &str, data: &Path, what: &str) -> String {
    run(site, config, data, &["retire", what, "--reason", "leaks"]).1
}

fn unretire(site: &Site, config: &str, data: &Path, what: &str) -> String {
    run(site, config, data, &["unretire", what]).1
}

async fn status(replica: &Modgate, name: &str) -> u16 {
    replica.get(&module(name).url_path("mod")).await.status
}

/// The answers of all replicas become these; within 2 s, where the machine has time for it.
async fn answers(replicas: &[Modgate], name: &str, wanted: u16) {
    let start = Instant::now();
    for replica in replicas {
        eventually("all answer so", async || {
            status(replica, name).await == wanted
        })
        .await;
    }
    eprintln!("{name} is {wanted} everywhere after {:?}", start.elapsed());
}

async fn known_to_all(site: &Site, config: &str) {
    for name in ["one", "two", "three"] {
        site.lab.add(module(name));
    }
    let folders: Vec<TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut replicas = Vec::new();
    for folder in &folders {
        let data = Some(folder.path().to_owned());
        replicas.push(gate(&site.lab, &site.bucket, config, data).await);
    }
    for name in ["one", "two", "three"] {
        answers(&replicas, name, 200).await;
    }
    let data = |at: usize| folders[at].path();
    retire(site, config, data(0), ONE);
    answers(&replicas, "one", 410).await;
    unretire(site, config, data(1), ONE);
    answers(&replicas, "one", 200).await;
    for what in [ONE, "lab.example/two@v1.0.0"] {
        retire(site, config, data(2), what);
    }
    for name in ["one", "two"] {
        answers(&replicas, name, 410).await;
    }

    // One does not run meanwhile. A command beside it knows all the same, and what it says holds.
    let mut away = replicas.pop().unwrap();
    away.terminate().await;
    unretire(site, config, data(0), ONE);
    answers(&replicas, "one", 200).await;
    let (listed, _) = run(site, config, data(2), &["retired", "--json"]);
    assert!(!listed.contains("lab.example/one"), "{listed}");
    assert!(listed.contains("lab.example/two"), "{listed}");
    retire(site, config, data(2), "lab.example/three@v1.0.0");
    answers(&replicas, "three", 410).await;
    unretire(site, config, data(1), "lab.example/two@v1.0.0");
    answers(&replicas, "two", 200).await;
    let back = Some(data(2).to_owned());
    replicas.push(gate(&site.lab, &site.bucket, config, back).await);
    // From its first answer on.
    for (name, wanted) in [("one", 200), ("two", 200), ("three", 410)] {
        assert_eq!(status(&replicas[2], name).await, wanted, "{name}");
        answers(&replicas, name, wanted).await;
    }
    // A new one knows it too.
    let new = gate(&site.lab, &site.bucket, config, None).await;
    assert_eq!(status(&new, "three").await, 410);
    assert_eq!(status(&new, "two").await, 200);
    let ready = new.get("/readyz").await.text();
    assert!(
        ready.contains("compared with the other replicas"),
        "{ready}"
    );
}

#[tokio::test]
async fn what_is_retired_is_known_to_all_by_object_storage() {
    let site = Site::start().await;
    known_to_all(&site, &site.own_records("storage")).await;
}

#[tokio::test]
async fn what_is_retired_is_known_to_all_by_redis() {
    let site = Site::start().await;
    known_to_all(&site, &site.own_records("redis")).await;
}

#[tokio::test]
async fn what_is_retired_is_known_to_all_by_redis_without_a_bucket() {
    let site = Site::start().await;
    known_to_all(&site, &site.redis_alone()).await;
}

/// What is retired while the bucket is away is so here at once, and for the others when it is back.
#[tokio::test]
async fn what_is_retired_while_the_bucket_is_away_is_told_when_it_is_back() {
    let mut site = Site::start().await;
    let config = site.own_records("redis");
    for name in ["one", "two"] {
        site.lab.add(module(name));
    }
    let folders: Vec<TempDir> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut replicas = Vec::new();
    for folder in &folders {
        let data = Some(folder.path().to_owned());
        replicas.push(gate(&site.lab, &site.bucket, &config, data).await);
    }
    for name in ["one", "two"] {
        answers(&replicas, name, 200).await;
    }
    let data = |at: usize| folders[at].path();
    retire(&site, &config, data(0), "lab.example/two@v1.0.0");
    answers(&replicas, "two", 410).await;
    site.bucket.kill();
    let told = retire(&site, &config, data(0), ONE);
    assert!(
        told.contains("the other replicas do not know of it yet"),
        "{told}"
    );
    answers(&replicas[..1], "one", 410).await;
    replicas[0]
        .logged("cannot compare what replicas share", 1)
        .await;
    let ready = replicas[0].get("/readyz").await.text();
    assert!(ready.contains("shared_facts"), "{ready}");
    assert_eq!(status(&replicas[1], "one").await, 200);
    for replica in &replicas {
        assert_eq!(status(replica, "two").await, 410, "it stays");
    }
    // One that starts meanwhile goes on with what it knows.
    let mut again = replicas.pop().unwrap();
    again.kill9().await;
    let back = Some(data(1).to_owned());
    replicas.push(gate(&site.lab, &site.bucket, &config, back).await);
    assert_eq!(status(&replicas[1], "two").await, 410);
    site.bucket.restart().await;
    eventually("all know it", async || {
        status(&replicas[1], "one").await == 410
    })
    .await;
}
