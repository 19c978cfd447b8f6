//! What a gateway remembers in its records: retired versions, tree heads, the index of what it keeps.

use std::path::Path;

use records::{Filter, Object, Records, RecordsSettings};
use sha2::{Digest as _, Sha256};
use testkit::{
    fixture,
    gate::{Modgate, Options},
    lab::Lab,
};

use crate::common::{self, bin, eventually, gate, module};

pub(crate) async fn records(data: &Path) -> Records {
    let path = data.join("records.db");
    Records::open(&RecordsSettings::Sqlite { path })
        .await
        .unwrap()
}

/// A gateway on this folder.
async fn start_in(data: &Path, lab: &Lab) -> Modgate {
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some("off".to_owned()),
        data: Some(data.to_owned()),
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_in_the_index() {
    let lab = Lab::start().await;
    // One that goes through memory, and one through a spool.
    let large = fixture::big("lab.example/large", "v1.0.0", 3);
    for module in [module("a"), large.clone()] {
        lab.add(module);
    }
    let mut gate = gate(&lab, "off", "").await;
    for module in [module("a"), large] {
        for ending in ["info", "mod", "zip"] {
            assert_eq!(gate.get(&module.url_path(ending)).await.status, 200);
        }
    }
    let kept = async |data: &Path| -> Vec<Object> {
        let records = records(data).await;
        records.objects("", 100, &Filter::default()).await.unwrap()
    };
    eventually("it is in the index", async || {
        kept(gate.data_dir()).await.len() == 6
    })
    .await;
    for object in kept(gate.data_dir()).await {
        let path = gate.data_dir().join(&object.key);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(object.size, bytes.len() as u64);
        assert_eq!(object.sha256, <[u8; 32]>::from(Sha256::digest(&bytes)));
        let hash = std::fs::read_to_string(path.with_extension("ziphash")).ok();
        assert_eq!(object.h1, hash.filter(|_| object.key.ends_with("zip")));
    }
    // What came last is noted before the end.
    lab.add(module("b"));
    assert_eq!(gate.get(&module("b").url_path("zip")).await.status, 200);
    assert!(gate.terminate().await.success());
    assert_eq!(kept(gate.data_dir()).await.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn retired_versions_from_before_there_were_records_are_taken_over() {
    let lab = Lab::start().await;
    lab.add(module("a"));
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("tombstones.json");
    let old =
        r#"{"lab.example/a@v1.0.0": {"reason": "leaks tokens", "time": "2026-01-02T03:04:05Z"}}"#;
    std::fs::write(&file, old).unwrap();
    let start = async || start_in(data.path(), &lab).await;
    let zip = module("a").url_path("zip");
    for _ in 0..2 {
        let mut gate = start().await;
        let reply = gate.get(&zip).await;
        assert_eq!(reply.status, 410);
        assert!(reply.text().contains("leaks tokens"), "{}", reply.text());
        assert!(!file.exists());
        assert!(gate.terminate().await.success());
    }
    let records = records(data.path()).await;
    assert!(records.unretire("lab.example/a", "v1.0.0").await.unwrap());
    // The same once more, as from a backup of the folder: it was taken over already.
    std::fs::write(&file, old).unwrap();
    assert_eq!(start().await.get(&zip).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_gone_are_missed() {
    const MISSED: &str = "there are no records of what is kept";
    let lab = Lab::start().await;
    lab.add(module("a"));
    let data = tempfile::tempdir().unwrap();
    let start = async || start_in(data.path(), &lab).await;
    // Nothing is kept yet, and then there are records.
    for _ in 0..2 {
        let mut gate = start().await;
        assert_eq!(gate.get(&module("a").url_path("zip")).await.status, 200);
        assert!(!gate.logs().contains(MISSED));
        assert!(gate.terminate().await.success());
    }
    // As a disk leaves it that lost power, and as somebody who cleans up.
    std::fs::write(data.path().join("records.db"), "").unwrap();
    let mut gate = start().await;
    gate.logged(MISSED, 1).await;
    assert!(gate.terminate().await.success());
    std::fs::remove_file(data.path().join("records.db")).unwrap();
    start().await.logged(MISSED, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_version_is_gone_at_once() {
    let lab = Lab::start().await;
    lab.add(module("a"));
    let gate = gate(&lab, "off", "").await;
    let zip = module("a").url_path("zip");
    assert_eq!(gate.get(&zip).await.status, 200);
    let command = |args: &[&str]| {
        let done = common::command()
            .args(args)
            .arg("--data")
            .arg(gate.data_dir())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{told}");
        done.stdout
    };
    // The server sees that the records are written.
    let becomes = async |status: u16| {
        eventually("it is seen", async || gate.get(&zip).await.status == status).await;
    };
    for _ in 0..2 {
        command(&["retire", "lab.example/a@v1.0.0", "--reason", "leaks tokens"]);
        becomes(410).await;
        for ending in ["info", "mod", "zip"] {
            let reply = gate.get(&module("a").url_path(ending)).await;
            assert_eq!(reply.status, 410);
            assert!(reply.text().contains("leaks tokens"), "{}", reply.text());
        }
        assert_eq!(gate.get("/lab.example/a/@v/list").await.text(), "");
        let json = [("accept", "application/json")];
        let json = gate.get_with(&zip, &json).await;
        let json: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
        assert_eq!(json["error"], "resource_gone");
        let listed = command(&["retired", "--json"]);
        let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
        let listed = &listed["retired"][0];
        assert_eq!(listed["module"], "lab.example/a");
        assert_eq!(listed["reason"], "leaks tokens");
        let table = String::from_utf8(command(&["retired"])).unwrap();
        assert!(table.contains("lab.example/a@v1.0.0  20"), "{table}");
        command(&["unretire", "lab.example/a@v1.0.0"]);
        becomes(200).await;
        assert_eq!(gate.get("/lab.example/a/@v/list").await.text(), "v1.0.0\n");
    }
    let logs = gate.logged("not retired any more", 2).await;
    let told = logs.lines().find(|line| line.contains("it answers 410"));
    let told = told.unwrap();
    assert!(told.contains("lab.example/a@v1.0.0") && told.contains("leaks tokens"));
}
