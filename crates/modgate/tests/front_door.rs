//! modgate through its front door: the compiled binary, the real `go`, a lab upstream and a lab checksum database.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use testkit::{
    fixture::{self, Module},
    gate::{Modgate, Options},
    go::Go,
    lab::{Fault, Lab},
    sumdb::{LabSumDb, Lie},
};

fn bin() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_modgate"))
}

async fn gate(lab: &Lab, sumdb: &str, config: &str) -> Modgate {
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some(sumdb.to_owned()),
        config: Some(config.to_owned()),
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

fn module(name: &str) -> Module {
    Module::new(&format!("lab.example/{name}"), "v1.0.0").file("a.go", "package a\n".repeat(200))
}

/// Zips that are kept, by a walk over the data folder.
fn kept_zips(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| {
            if path.is_dir() {
                kept_zips(&path)
            } else {
                usize::from(path.extension().is_some_and(|ending| ending == "zip"))
            }
        })
        .sum()
}

async fn verified_lab(modules: &[Module]) -> (Lab, LabSumDb) {
    let (lab, sumdb) = (
        Lab::start().await,
        LabSumDb::start("sum.lab.example").await.unwrap(),
    );
    for module in modules {
        sumdb.add(
            module.path(),
            module.version(),
            &module.h1(),
            &module.go_mod_h1(),
        );
        lab.add(module.clone());
    }
    lab.pass_sumdb(&sumdb.url());
    (lab, sumdb)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_project_cold_then_offline_then_as_a_folder() {
    let modules = fixture::project(60);
    let (lab, sumdb) = verified_lab(&modules).await;
    let key = sumdb.key().to_string();
    let mut gate = gate(&lab, &key, "").await;
    let project = fixture::project_go_mod(&modules);
    let client = || Go::new().proxy(&gate.url()).sumdb(&key).module(&project);
    let cold = client().run(&["mod", "download", "all"]).await;
    assert!(cold.ok, "{}\n{}", cold.stderr, gate.logs());
    let old = Go::old()
        .await
        .proxy(&gate.url())
        .sumdb(&key)
        .module(&project);
    let old = old.run(&["mod", "download", "all"]).await;
    assert!(old.ok, "{}", old.stderr);
    // Nothing behind the gateway any more: another new client gets all of it, verified, without a go.sum.
    lab.stop().await;
    sumdb.lie(Lie::Unreachable).await;
    let offline = client().run(&["mod", "download", "all"]).await;
    assert!(offline.ok, "{}\n{}", offline.stderr, gate.logs());
    assert_eq!(kept_zips(gate.data_dir()), 60);
    assert!(gate.terminate().await.success());
    let folder = format!("file://{}", gate.data_dir().join("go").display());
    let bare = Go::new().proxy(&folder).sumdb("off").module(&project);
    let bare = bare.run(&["mod", "download", "all"]).await;
    assert!(bare.ok, "{}", bare.stderr);
    let listed = Go::new().proxy(&folder).sumdb("off").module("module x\n");
    let listed = listed
        .run(&["list", "-m", "-versions", modules[0].path()])
        .await;
    assert!(
        listed.stdout.contains(modules[0].version()),
        "{}",
        listed.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_told_and_heals() {
    let lab = Lab::start().await;
    let limits = format!(
        "[upstream.\"{}\"]\nfirst_byte_timeout = \"400ms\"\nidle_timeout = \"400ms\"\nretries = 0\n",
        lab.url()
    );
    let gate = gate(&lab, "off", &limits).await;
    let faults = [
        (Fault::Status(404), 404, "version_not_found"),
        (Fault::Status(410), 410, "resource_gone"),
        (Fault::Status(403), 502, "upstream_refused"),
        (Fault::Status(500), 502, "upstream_unavailable"),
        (Fault::Status(503), 502, "upstream_unavailable"),
        (Fault::Reset, 502, "upstream_unavailable"),
        (Fault::Truncate, 502, "upstream_unavailable"),
        (Fault::StallMidBody, 502, "upstream_unavailable"),
        (Fault::Short, 502, "upstream_invalid"),
        (Fault::Corrupt, 502, "upstream_invalid"),
        (Fault::Html, 502, "upstream_invalid"),
        (Fault::RedirectLoop, 502, "upstream_unavailable"),
        (Fault::Hang, 504, "upstream_timeout"),
    ];
    for (n, (fault, status, code)) in faults.into_iter().enumerate() {
        let module = module(&format!("fault{n}"));
        lab.add(module.clone());
        let shown = format!("{fault:?}");
        lab.fault(&format!("fault{n}/"), fault, None);
        let reply = gate.get(&module.url_path("zip")).await;
        assert_eq!(reply.status, status, "{shown}: {}", reply.text());
        let first = reply.text().lines().next().unwrap_or_default().to_owned();
        assert!(
            first.ends_with(&format!("[modgate: {code}]")),
            "{shown}: {first}"
        );
        assert!(first.len() < 200);
        assert_eq!(kept_zips(gate.data_dir()), n, "{shown}");
        lab.heal();
        let healed = gate.get(&module.url_path("zip")).await;
        assert_eq!(
            (healed.status, healed.body.to_vec()),
            (200, module.zip()),
            "{shown}"
        );
        // It is kept a moment after it was answered: asked again by part, it comes from the disk.
        let part = gate
            .get_with(&module.url_path("zip"), &[("range", "bytes=0-9")])
            .await;
        assert_eq!((part.status, part.body.len()), (206, 10), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_content_never_passes() {
    let modules: Vec<_> = (0..4).map(|n| module(&format!("altered{n}"))).collect();
    let big = fixture::big("lab.example/altered", "v1.0.0", 3);
    let all: Vec<_> = modules.iter().cloned().chain([big.clone()]).collect();
    let (lab, sumdb) = verified_lab(&all).await;
    let gate = gate(&lab, &sumdb.key().to_string(), "").await;
    lab.fault(".zip", Fault::AlteredZip, None);
    lab.fault(".mod", Fault::AlteredMod, None);
    for module in &modules {
        for ending in ["zip", "mod"] {
            let reply = gate.get(&module.url_path(ending)).await;
            assert_eq!(reply.status, 502, "{}", reply.text());
            assert!(
                reply.text().contains("[modgate: checksum_mismatch]"),
                "{}",
                reply.text()
            );
        }
    }
    // A large one streams, and breaks off before its end.
    let streamed = gate
        .ask(reqwest::Method::GET, &big.url_path("zip"), &[])
        .await;
    assert!(
        streamed.is_err() || streamed.is_ok_and(|reply| reply.status != 200),
        "a short success"
    );
    assert_eq!(kept_zips(gate.data_dir()), 0);
    lab.heal();
    assert_eq!(
        gate.get(&big.url_path("zip")).await.body.to_vec(),
        big.zip()
    );
    assert!(
        gate.metric("modgate_verifications_total{result=\"mismatch\"}")
            .await
            >= 9.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_database_is_found_out() {
    let lies = [
        Lie::ForgedTiles,
        Lie::TruncatedTiles,
        Lie::WrongKey,
        Lie::OtherModulesRecord,
        Lie::OtherModulesHashes,
        Lie::ExtraLines,
        Lie::IdOutsideTree,
    ];
    for lie in lies {
        let shown = format!("{lie:?}");
        let (good, bad) = (module("good"), module("bad"));
        let (lab, sumdb) = verified_lab(&[good.clone(), bad.clone()]).await;
        sumdb.add_others(300);
        let gate = gate(&lab, &sumdb.key().to_string(), "").await;
        sumdb.lie(lie).await;
        let reply = gate.get(&bad.url_path("zip")).await;
        // A record with lines about others beside its own is no lie about this module.
        if shown != "ExtraLines" || reply.status != 200 {
            assert_eq!(reply.status, 502, "{shown}: {}", reply.text());
            assert_eq!(kept_zips(gate.data_dir()), 0, "{shown}");
        }
        sumdb.be_honest().await;
        let reply = gate.get(&good.url_path("zip")).await;
        assert_eq!(reply.status, 200, "{shown}: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_clients_cost_one_fetch() {
    let lab = Lab::start().await;
    let big = fixture::big("lab.example/big", "v1.0.0", 2);
    lab.add(big.clone());
    let gate = std::sync::Arc::new(gate(&lab, "off", "").await);
    let hold = lab.hold(".zip");
    let path = big.url_path("zip");
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let (gate, path) = (std::sync::Arc::clone(&gate), path.clone());
            tokio::spawn(async move { gate.get(&path).await })
        })
        .collect();
    hold.arrived(1).await;
    clients[0].abort();
    hold.release();
    for client in clients.into_iter().skip(1) {
        let reply = client.await.unwrap();
        assert_eq!((reply.status, reply.body.to_vec()), (200, big.zip()));
    }
    assert_eq!(lab.count(".zip"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_upstream_is_passed_over() {
    let (dead, lab) = (Lab::start().await, Lab::start().await);
    dead.stop().await;
    lab.add(module("a"));
    let options = Options {
        upstream: Some(format!("{},{}", dead.url(), lab.url())),
        sumdb: Some("off".to_owned()),
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    for ending in ["info", "mod", "zip"] {
        assert_eq!(gate.get(&module("a").url_path(ending)).await.status, 200);
    }
    let absent = gate.get("/lab.example/none/@v/v1.0.0.info").await;
    assert_eq!(
        absent.status,
        502,
        "an outage is no absence: {}",
        absent.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_protocol_around_the_edges() {
    let lab = Lab::start().await;
    lab.add(module("a"));
    let gate = gate(&lab, "off", "").await;
    let zip = module("a").url_path("zip");
    assert_eq!(gate.get(&format!("/cached-only{zip}")).await.status, 404);
    assert_eq!(
        gate.get_with(&zip, &[("disable-module-fetch", "true")])
            .await
            .status,
        404
    );
    assert_eq!(lab.count(".zip"), 0);
    let head = gate.head(&zip).await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, module("a").zip().len().to_string().as_str())
    );
    let whole = gate.get(&zip).await;
    let tag = whole.header("etag").to_owned();
    assert!(tag.starts_with('"') && whole.header("cache-control").contains("immutable"));
    assert_eq!(
        gate.get_with(&zip, &[("if-none-match", &tag)]).await.status,
        304
    );
    assert_eq!(
        gate.get_with(&zip, &[("range", "bytes=99999999-")])
            .await
            .status,
        416
    );
    assert_eq!(
        gate.ask(reqwest::Method::POST, &zip, &[])
            .await
            .unwrap()
            .status,
        405
    );
    let absent = "/lab.example/none/@v/v1.0.0.info";
    for _ in 0..3 {
        let json = gate
            .get_with(absent, &[("accept", "application/json")])
            .await;
        assert_eq!(json.status, 404);
        let value: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
        assert_eq!(
            (value["error"].as_str(), value["status"].as_u64()),
            (Some("version_not_found"), Some(404))
        );
    }
    assert_eq!(lab.count("/none/"), 1, "a no is remembered");
    for bad in [
        "/",
        "//x",
        "/lab.example/a/@v/%zz.info",
        "/lab.example/A/@v/list",
        "/..%2f..%2fetc/passwd",
        "/lab.example/a/@v/master.zip",
        "/x/@v/list",
    ] {
        let reply = gate.get(bad).await;
        assert!(
            bad == "/" || (400..500).contains(&reply.status),
            "{bad}: {}",
            reply.status
        );
    }
    assert_eq!(gate.get("/healthz").await.status, 200);
    assert_eq!(gate.get("/readyz").await.status, 200);
    let metrics = gate.get("/metrics").await;
    let mut lint = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("promtool is needed: install prometheus");
    std::io::Write::write_all(&mut lint.stdin.take().unwrap(), &metrics.body).unwrap();
    let lint = lint.wait_with_output().unwrap();
    assert!(
        lint.status.success(),
        "{}",
        String::from_utf8_lossy(&lint.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_united_and_survive_an_outage() {
    let lab = Lab::start().await;
    for version in ["v1.2.0", "v1.10.0", "v1.9.0"] {
        lab.add(Module::new("lab.example/a", version).file("a.go", "package a\n"));
    }
    let gate = gate(
        &lab,
        "off",
        "[freshness]\nlist = \"0s\"\nstale_while_revalidate = \"0s\"\n",
    )
    .await;
    let list = "/lab.example/a/@v/list";
    assert_eq!(gate.get(list).await.text(), "v1.2.0\nv1.9.0\nv1.10.0\n");
    assert_eq!(
        gate.get("/lab.example/a/@v/v1.info")
            .await
            .text()
            .matches("v1.10.0")
            .count(),
        1
    );
    assert_eq!(gate.get("/lab.example/a/@v/v1.9.0.info").await.status, 200);
    lab.stop().await;
    let stale = gate.get(list).await;
    assert_eq!((stale.status, stale.text().lines().count()), (200, 3));
    assert!(
        stale.header("warning").starts_with("110"),
        "{:?}",
        stale.headers
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_version_is_gone_at_once() {
    let lab = Lab::start().await;
    lab.add(module("a"));
    let gate = gate(&lab, "off", "").await;
    let zip = module("a").url_path("zip");
    assert_eq!(gate.get(&zip).await.status, 200);
    let command = |args: &[&str]| {
        let done = std::process::Command::new(bin())
            .args(args)
            .arg("--data")
            .arg(gate.data_dir())
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    // The server watches the file: asked until it has seen the change, at most 10 s.
    let becomes = async |status: u16| {
        for _ in 0..200 {
            let reply = gate.get(&zip).await;
            if reply.status == status {
                return reply.text();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("never {status}");
    };
    command(&["retire", "lab.example/a@v1.0.0", "--reason", "leaks tokens"]);
    assert!(becomes(410).await.contains("leaks tokens"));
    assert_eq!(gate.get("/lab.example/a/@v/list").await.text(), "");
    command(&["unretire", "lab.example/a@v1.0.0"]);
    becomes(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_serves_no_wrong_byte() {
    let lab = Lab::start().await;
    let big = fixture::big("lab.example/big", "v1.0.0", 2);
    lab.add(big.clone());
    let data = tempfile::tempdir().unwrap();
    for round in 0..12u64 {
        let options = || Options {
            upstream: Some(lab.url()),
            sumdb: Some("off".to_owned()),
            data: Some(data.path().to_owned()),
            ..Options::default()
        };
        let mut gate = Modgate::start(bin(), options()).await;
        let url = format!("{}{}", gate.url(), big.url_path("zip"));
        let client = tokio::spawn(async move { reqwest::get(url).await?.bytes().await });
        tokio::time::sleep(std::time::Duration::from_millis(round * 3)).await;
        gate.kill9().await;
        drop(client.await);
        lab.stop().await;
        let mut gate = Modgate::start(bin(), options()).await;
        let reply = gate.get(&big.url_path("zip")).await;
        assert!(
            reply.status != 200 || reply.body.to_vec() == big.zip(),
            "round {round}"
        );
        assert_eq!(
            std::fs::read_dir(data.path().join("tmp")).unwrap().count(),
            0
        );
        gate.kill9().await;
        lab.restart().await;
        let kept = data.path().join("go/lab.example/big/@v/v1.0.0.zip");
        if kept.exists() {
            std::fs::remove_file(kept).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_folder_one_owner_and_an_import() {
    let lab = Lab::start().await;
    lab.add(module("a"));
    let gate = gate(&lab, "off", "").await;
    let options = Options {
        upstream: Some("off".to_owned()),
        sumdb: Some("off".to_owned()),
        data: Some(gate.data_dir().to_owned()),
        ..Options::default()
    };
    let second = Modgate::try_start(bin(), options).await;
    assert!(
        second
            .unwrap_err()
            .logs
            .contains("in use by another modgate")
    );
    // A client's cache is taken over, and serves alone.
    let go = Go::new()
        .proxy(&lab.url())
        .sumdb("off")
        .module("module x\n");
    assert!(
        go.run(&["mod", "download", "lab.example/a@v1.0.0"])
            .await
            .ok
    );
    let data = tempfile::tempdir().unwrap();
    let done = std::process::Command::new(bin())
        .arg("import")
        .arg(go.mod_cache())
        .args(["--sumdb", "off", "--json", "--data"])
        .arg(data.path())
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        (
            report["kept"].as_u64(),
            report["refused"].as_array().map(Vec::len)
        ),
        (Some(3), Some(0)),
        "{report}"
    );
    assert_eq!(kept_zips(data.path()), 1);
}
