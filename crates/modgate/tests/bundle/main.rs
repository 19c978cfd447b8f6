//! `modgate export` and `modgate import`: what one gateway has is carried to another that has no line.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../front_door/common.rs"]
#[expect(dead_code, reason = "what the front door's tests need more of")]
mod common;
mod folders;

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use common::{bin, module, record, verified_lab};
use serde_json::Value;
use testkit::{
    fixture::{self, Module},
    gate::{Modgate, Options},
    go::Go,
    lab::Lab,
    sumdb::LabSumDb,
};

/// A command on a data folder.
fn command(arguments: &[&str], data: &Path, more: &[&str]) -> Output {
    let mut command = common::command();
    command.args(arguments).arg("--data").arg(data).args(more);
    for name in [
        "GOPROXY",
        "GOSUMDB",
        "GOPRIVATE",
        "GONOSUMDB",
        "GONOSUMCHECK",
    ] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

fn json(done: &Output) -> Value {
    let parsed = serde_json::from_slice(&done.stdout);
    parsed.unwrap_or_else(|_| panic!("{done:?}"))
}

fn said(done: &Output) -> String {
    let (out, err) = (&done.stdout, &done.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

/// A gateway without any line, over this data folder.
async fn without_a_line(data: &Path, sumdb: &LabSumDb) -> Modgate {
    let options = Options {
        upstream: Some("off".to_owned()),
        sumdb: Some(sumdb.key().to_string()),
        data: Some(data.to_owned()),
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

/// A real client of it, which knows the database's key and nothing else.
fn client(gate: &Modgate, sumdb: &LabSumDb) -> Go {
    Go::new().proxy(&gate.url()).sumdb(&sumdb.key().to_string())
}

struct Folders {
    whole: tempfile::TempDir,
}

impl Folders {
    fn new() -> Self {
        Self {
            whole: tempfile::tempdir().unwrap(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.whole.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }
}

/// A project that builds: its main package and its go.mod.
fn project(modules: &[Module]) -> (String, String) {
    let go_mod = fixture::project_go_mod(&modules[..1]).replace("go 1.21", "go 1.16");
    let main = format!(
        "package main\n\nimport _ {:?}\n\nfunc main() {{}}\n",
        modules[0].path()
    );
    (go_mod, main)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_builds_behind_a_gateway_without_a_line() {
    let modules = fixture::project(12);
    let (lab, sumdb) = verified_lab(&modules).await;
    sumdb.add_others(300);
    let folders = Folders::new();
    let (go_mod, main) = project(&modules);
    std::fs::write(folders.at("go.mod"), &go_mod).unwrap();
    let bundle = folders.text("modules.bundle");
    let (key, upstream) = (sumdb.key().to_string(), lab.url());
    let from = ["--upstream", &upstream, "--sumdb", &key, "--json"];

    // Nothing is kept and no server runs: the command is one, and fetches what the build list has.
    let what = [
        "export",
        "--out",
        &bundle,
        "--go-mod",
        &folders.text("go.mod"),
    ];
    let done = command(&what, &folders.at("a"), &from);
    assert!(done.status.success(), "{}", said(&done));
    let report = json(&done);
    assert_eq!(report["versions"], 12, "{report}");
    assert_eq!(report["unproven"].as_array().unwrap().len(), 0, "{report}");
    assert_eq!(report["tree_size"], 312, "{report}");

    let upstream = ["--upstream", "off", "--sumdb", &key, "--json"];
    let done = command(&["import", &bundle], &folders.at("b"), &upstream);
    assert!(done.status.success(), "{}", said(&done));
    let report = json(&done);
    assert_eq!(report["kept"], 36, "{report}");
    assert_eq!(report["unproven"].as_array().unwrap().len(), 0, "{report}");
    lab.stop().await;
    let before = sumdb.requests();
    let mut gate = without_a_line(&folders.at("b"), &sumdb).await;
    let go = client(&gate, &sumdb).module(&go_mod).file("main.go", &main);
    for arguments in [
        &["mod", "tidy"][..],
        &["mod", "download", "-x", "all"],
        &["build", "./..."],
        &["mod", "verify"],
        &["list", "-m", "-versions", modules[3].path()],
    ] {
        let done = go.run(arguments).await;
        assert!(done.ok, "{arguments:?}: {}", done.stderr);
    }
    let sums = std::fs::read_to_string(go.work().join("go.sum")).unwrap();
    assert!(sums.contains(&modules[11].h1()), "{sums}");
    assert_eq!(sumdb.requests(), before, "the database was asked");

    // A second time nothing is new.
    gate.terminate().await;
    let done = command(&["import", &bundle], &folders.at("b"), &upstream);
    assert_eq!(json(&done)["present"], 36, "{}", said(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_is_asked_and_later_bundles_continue_earlier_ones() {
    let (first, second) = (module("first"), module("second"));
    let (lab, sumdb) = verified_lab(std::slice::from_ref(&first)).await;
    sumdb.add_others(700);
    let folders = Folders::new();
    let key = sumdb.key().to_string();
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some(key.clone()),
        data: Some(folders.at("a")),
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    let listen = gate.addr().to_string();
    let server = ["--sumdb", &key, "--listen", &listen, "--json"];
    let offline = ["--upstream", "off", "--sumdb", &key, "--json"];
    let export = |out: &str, what: &[&str]| {
        let arguments = [&["export", "--out", out][..], what].concat();
        let done = command(&arguments, &folders.at("a"), &server);
        assert!(done.status.success(), "{}", said(&done));
        json(&done)
    };
    let one = folders.text("1.bundle");
    let report = export(&one, &["lab.example/first@v1.0.0"]);
    assert_eq!(report["tree_size"], 701, "{report}");
    let done = command(&["import", &one], &folders.at("b"), &offline);
    assert!(done.status.success(), "{}", said(&done));
    let mut carried = without_a_line(&folders.at("b"), &sumdb).await;
    let go = client(&carried, &sumdb);
    let done = go
        .run(&["mod", "download", "lab.example/first@v1.0.0"])
        .await;
    assert!(done.ok, "{}", done.stderr);
    carried.terminate().await;

    // The log grew: what is carried next continues what is known there, to the gateway and to its clients.
    sumdb.add_others(500);
    record(&sumdb, &second);
    lab.add(second.clone());
    sumdb.add_others(400);
    let (two, since) = (folders.text("2.bundle"), "2001-01-01T00:00:00Z");
    assert_eq!(gate.get(&second.url_path("zip")).await.status, 200);
    common::eventually("it is in the index", async || {
        let done = command(
            &["export", "--out", &two, "--since", since],
            &folders.at("a"),
            &server,
        );
        done.status.success() && json(&done)["versions"] == 2
    })
    .await;
    let done = command(&["import", &two], &folders.at("b"), &offline);
    assert!(done.status.success(), "{}", said(&done));
    let mut carried = without_a_line(&folders.at("b"), &sumdb).await;
    // The same client: it knows the older head, and wants a proof of the newer one.
    let go = go.proxy(&carried.url());
    let done = go
        .run(&["mod", "download", "lab.example/second@v1.0.0"])
        .await;
    assert!(done.ok, "{}", done.stderr);
    carried.terminate().await;

    // Another gateway knows an older tree, and nothing that the exporter remembers continues it.
    let memory = records::RecordsSettings::Sqlite {
        path: folders.at("a").join("records.db"),
    };
    let memory = records::Records::open(&memory).await.unwrap();
    let fact = format!("export.trees/{}", sumdb.key().name());
    assert_eq!(
        memory.fact(&fact).await.unwrap().as_deref(),
        Some("701,1602")
    );
    memory.set_fact(&fact, "").await.unwrap();
    memory.close().await;
    let done = command(&["import", &one], &folders.at("c"), &offline);
    assert!(done.status.success(), "{}", said(&done));
    let three = folders.text("3.bundle");
    export(&three, &["lab.example/second"]);
    let done = command(&["import", &three], &folders.at("c"), &offline);
    assert!(!done.status.success());
    assert!(said(&done).contains("--continues 701"), "{}", said(&done));
    export(&three, &["lab.example/second", "--continues", "701"]);
    let done = command(&["import", &three], &folders.at("c"), &offline);
    assert!(done.status.success(), "{}", said(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_altered_or_not_proven_is_refused() {
    let modules = [module("a"), module("b")];
    let (lab, sumdb) = verified_lab(&modules).await;
    sumdb.add_others(20);
    let own = module("own");
    lab.add(own.clone());
    let folders = Folders::new();
    let (key, upstream, bundle) = (sumdb.key().to_string(), lab.url(), folders.text("x.bundle"));
    let private = folders.text("modgate.toml");
    let route = format!(
        "private = [\"lab.example/own\"]\n[[route]]\nmatch = [\"lab.example/own\"]\nchain = {upstream:?}\n"
    );
    std::fs::write(&private, route).unwrap();
    let with = [
        "--config",
        &private,
        "--upstream",
        &upstream,
        "--sumdb",
        &key,
        "--json",
    ];
    let named = [
        "lab.example/a@v1.0.0",
        "lab.example/b@v1.0.0",
        "lab.example/own@v1.0.0",
    ];
    let arguments = [&["export", "--out", &bundle][..], &named].concat();
    let done = command(&arguments, &folders.at("a"), &with);
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(
        json(&done)["unproven"],
        serde_json::json!(["lab.example/own@v1.0.0"])
    );
    // Its name went to no checksum database.
    assert!(
        sumdb.requests().keys().all(|path| !path.contains("own")),
        "{:?}",
        sumdb.requests()
    );

    // One that cannot be had: nothing is written.
    let gone = folders.text("gone.bundle");
    let done = command(
        &["export", "--out", &gone, "lab.example/none@v1.0.0"],
        &folders.at("a"),
        &with,
    );
    assert!(
        !done.status.success() && !Path::new(&gone).exists(),
        "{}",
        said(&done)
    );

    let offline = [
        "--config",
        &private,
        "--upstream",
        "off",
        "--sumdb",
        &key,
        "--json",
    ];
    let refused = |bytes: &[u8], why: &str| {
        let path = folders.text("bad.bundle");
        std::fs::write(&path, bytes).unwrap();
        let done = command(&["import", &path], &folders.at("bad"), &offline);
        assert!(!done.status.success(), "{}", said(&done));
        assert!(said(&done).contains(why), "{why}: {}", said(&done));
        assert_eq!(common::kept_zips(&folders.at("bad")), 0);
    };
    let good = std::fs::read(&bundle).unwrap();
    let mut altered = good.clone();
    let at = good
        .windows(4)
        .position(|four| four == b"PK\x03\x04")
        .unwrap();
    altered[at + 60] ^= 1;
    refused(&altered, "altered");
    refused(&good[..good.len() / 2], "refused");

    // The same with all hashes in the bundle made to fit: only the proof shows it.
    let other = Module::new("lab.example/a", "v1.0.0").file("evil.go", "package a\n");
    let forged = repack(&good, |name, content| match name {
        "go/lab.example/a/@v/v1.0.0.zip" => Some(other.zip()),
        _ => Some(content),
    });
    let path = folders.text("forged.bundle");
    std::fs::write(&path, &forged).unwrap();
    let done = command(&["import", &path], &folders.at("forged"), &offline);
    assert!(!done.status.success());
    let report = json(&done);
    assert_eq!(report["refused"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(
        report["refused"][0]["code"], "checksum_mismatch",
        "{report}"
    );
    assert_eq!(
        common::kept_zips(&folders.at("forged")),
        2,
        "the others are good"
    );

    // Without a record, with a tile of another tree, with a head by another key.
    let without = repack(&good, |name, content| {
        (!name.contains("/lookup/lab.example/a@")).then_some(content)
    });
    std::fs::write(&path, &without).unwrap();
    let done = command(&["import", &path], &folders.at("without"), &offline);
    let report = json(&done);
    assert_eq!(report["refused"].as_array().unwrap().len(), 3, "{report}");
    assert!(said(&done).contains("no proof"), "{report}");
    let tiles = repack(&good, |name, mut content| {
        if name.contains("/tile/") {
            content[0] ^= 1;
        }
        Some(content)
    });
    refused(&tiles, "does not verify");
    let stranger = LabSumDb::start("sum.stranger.example").await.unwrap();
    let strange = stranger.key().to_string();
    let done = command(
        &["import", &bundle],
        &folders.at("strange"),
        &["--upstream", "off", "--sumdb", &strange],
    );
    assert!(!done.status.success());
    assert!(said(&done).contains("proofs are of"), "{}", said(&done));

    // The good one, and what is private in it: by its own hash, and told.
    let done = command(&["import", &bundle], &folders.at("b"), &offline);
    assert!(done.status.success(), "{}", said(&done));
    let report = json(&done);
    assert_eq!(
        report["unproven"],
        serde_json::json!(["lab.example/own@v1.0.0"])
    );
    assert_eq!(common::kept_zips(&folders.at("b")), 3);
    // Where it is not private it has to have a proof.
    let public = ["--upstream", "off", "--sumdb", &key, "--json"];
    let done = command(&["import", &bundle], &folders.at("public"), &public);
    let report = json(&done);
    assert_eq!(report["refused"].as_array().unwrap().len(), 3, "{report}");
    assert_eq!(common::kept_zips(&folders.at("public")), 2);
}

/// Makes a bundle anew of what `change` leaves of another, with hashes that fit.
fn repack(bundle: &[u8], change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::write(&from, bundle).unwrap();
    let read = care::bundle::Bundle::open(&from).unwrap();
    let mut writer = care::bundle::Writer::create(&to).unwrap();
    for listed in &read.manifest().files {
        let (_, at) = read.place(listed).unwrap();
        let at = usize::try_from(at).unwrap();
        let content = bundle[at..at + usize::try_from(listed.size).unwrap()].to_vec();
        let Some(content) = change(&listed.name, content) else {
            continue;
        };
        let is_zip = Path::new(&listed.name).extension() == Some("zip".as_ref());
        let h1 = if is_zip {
            h1_of(&listed.name, &content)
        } else {
            listed.h1.clone()
        };
        let key = store::Key::new(listed.name.clone()).unwrap();
        let size = content.len() as u64;
        writer
            .add(&key, size, &mut content.as_slice(), h1, listed.proven)
            .unwrap();
    }
    let (made_at, sumdb) = (
        read.manifest().made_at.clone(),
        read.manifest().sumdb.clone(),
    );
    writer.finish(made_at, sumdb).unwrap();
    std::fs::read(&to).unwrap()
}

fn h1_of(name: &str, zip: &[u8]) -> Option<String> {
    let (_, module, version, _) = care::parse_key(name).unwrap();
    let (limits, want) = (gomod::zip::Limits::default(), gomod::zip::Want::Hash);
    let zip = std::io::Cursor::new(zip);
    let len = zip.get_ref().len() as u64;
    let checked = gomod::zip::check(zip, len, &module, &version, &limits, want);
    checked.unwrap().h1.map(|h1| h1.to_string())
}
