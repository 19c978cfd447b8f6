//! What clients ask of a healthy gateway: whole projects, lists, and the protocol around its edges.

use testkit::{
    fixture::{self, Module},
    gate::{Modgate, Options},
    go::Go,
    lab::Lab,
    sumdb::Lie,
};

use crate::common::{self, bin, gate, kept_zips, module, verified_lab};

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

/// What developers do wrong most, and what they are told.
#[tokio::test(flavor = "multi_thread")]
async fn a_developer_is_told_what_to_do() {
    let lab = Lab::start().await;
    lab.add(module("a"));
    let gate = gate(&lab, "off", "").await;
    for (path, told) in [
        ("", "lab.example/none"),
        ("", "check the path; a private module"),
        ("/goproxy", "the gateway's address alone, without a path"),
    ] {
        let go = Go::new()
            .proxy(&(gate.url() + path))
            .sumdb("off")
            .module("module x\n");
        let got = go.run(&["list", "-m", "lab.example/none@latest"]).await;
        assert!(!got.ok && got.stderr.contains(told), "{}", got.stderr);
    }
}

/// The go command gives up at the first 404, so what it would ask for next is fetched as well.
#[tokio::test(flavor = "multi_thread")]
async fn in_the_async_mode_a_client_that_comes_again_gets_all_of_a_version() {
    let lab = Lab::start().await;
    for name in ["a", "b"] {
        lab.add(module(name));
    }
    let gate = gate(&lab, "off", "mode = \"async\"\n").await;
    let go = Go::new()
        .proxy(&gate.url())
        .sumdb("off")
        .module("module x\n");
    for (n, name) in ["a", "b"].iter().enumerate() {
        let version = format!("lab.example/{name}@v1.0.0");
        if n == 0 {
            let first = go.run(&["mod", "download", &version]).await;
            assert!(
                !first.ok && first.stderr.contains("fetch_queued"),
                "{first:?}"
            );
        } else {
            // With a go.sum it asks no `.info`.
            assert_eq!(gate.get(&module(name).url_path("mod")).await.status, 404);
        }
        common::eventually("the zip is kept", async || {
            kept_zips(gate.data_dir()) == n + 1
        })
        .await;
        if n == 0 {
            let second = go.run(&["mod", "download", &version]).await;
            assert!(second.ok, "{}", second.stderr);
        }
    }
    // Of what does not exist nothing more is asked for.
    let none = "/lab.example/none/@v/v1.0.0";
    assert_eq!(gate.get(&format!("{none}.info")).await.status, 404);
    common::eventually("it is asked for", async || lab.count("/none/") > 0).await;
    gate.logged("a background fetch failed", 1).await;
    assert_eq!(lab.count("/none/"), 1);
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
    let id = whole.header("x-request-id");
    assert_eq!(id.len(), 16, "{id}");
    gate.logged(&format!("\"request_id\":\"{id}\""), 1).await;
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
    let done = common::command()
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
