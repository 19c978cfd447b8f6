//! What the chain denied is said again while nobody can be asked: `go get` of a package works in an outage as before.

use std::path::Path;

use testkit::{
    fixture::Module,
    gate::{Modgate, Options},
    go::Go,
    lab::{Fault, Lab},
};

use crate::common::{bin, code, eventually, files};

const PACKAGE: &str = "lab.example/lib/pkg/name";

fn library() -> Module {
    Module::new("lab.example/lib", "v1.2.0").file("pkg/name/a.go", "package name\n")
}

async fn start(data: &Path, config: &str) -> Modgate {
    let config = format!("{config}\n[negative]\nabsent = \"0s\"\ntrouble = \"0s\"\n");
    let options = Options {
        config: Some(config),
        sumdb: Some("off".to_owned()),
        data: Some(data.to_owned()),
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

fn chain(lab: &Lab) -> String {
    format!("chain = \"{}\"", lab.url())
}

/// A client with nothing in its caches.
async fn go_get(gate: &Modgate, package: &str) {
    let client = Go::new()
        .proxy(&gate.url())
        .sumdb("off")
        .module("module a.example/main\n\ngo 1.21\n");
    let output = client.run(&["get", package]).await;
    assert!(output.ok, "{output:?}");
}

fn denied(data: &Path) -> String {
    let file = data.join("fresh/lab.example/lib/@denied");
    std::fs::read_to_string(file).unwrap_or_default()
}

async fn is_kept(data: &Path, module: &Module) {
    for ending in ["info", "mod", "zip"] {
        let kept = data.join("go").join(&module.url_path(ending)[1..]);
        eventually("it is kept", async || kept.exists()).await;
    }
}

/// The status of what is asked for, and the code of a refusal.
async fn said(gate: &Modgate, path: &str) -> String {
    let reply = gate.get(path).await;
    match reply.status {
        200 => "200".to_owned(),
        status => format!("{status} {}", code(&reply)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn go_get_of_a_package_outlives_its_upstream() {
    let lab = Lab::start().await;
    lab.add(library());
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut gate = start(data, &chain(&lab)).await;
    go_get(&gate, PACKAGE).await;
    is_kept(data, &library()).await;
    eventually("what was denied is noted", async || {
        denied(data).contains(&format!(" {PACKAGE}/@v/list\n"))
    })
    .await;
    let branch = format!("/{PACKAGE}/@v/main.info");
    assert_eq!(said(&gate, &branch).await, "404 version_not_found");
    eventually("a branch too", async || {
        denied(data).contains(&format!(" {PACKAGE}/@v/main.info\n"))
    })
    .await;
    // By its version go looks for another answer: the `.info` of each path.
    let exact = format!("{PACKAGE}@v1.2.0");
    go_get(&gate, &exact).await;
    eventually("an exact version too", async || {
        denied(data).contains(&format!(" {PACKAGE}/@v/v1.2.0.info\n"))
    })
    .await;
    lab.stop().await;
    go_get(&gate, PACKAGE).await;
    assert!(gate.terminate().await.success());

    let gate = start(data, &chain(&lab)).await;
    go_get(&gate, PACKAGE).await;
    go_get(&gate, &exact).await;
    let reply = gate.get(&format!("/{PACKAGE}/@v/list")).await;
    assert_eq!((reply.status, &*code(&reply)), (404, "module_not_found"));
    assert!(reply.header("warning").contains("Stale"), "{reply:?}");
    let text = reply.text();
    let asked_last = "not found when that was asked last, at 20";
    assert!(text.contains(asked_last), "{text}");
    assert_eq!(said(&gate, &branch).await, "404 version_not_found");
    let counted = gate
        .metric("kind=\"list\",outcome=\"stale\",code=\"module_not_found\"")
        .await;
    assert!(counted >= 2.0, "{counted}");
    // Without such evidence an outage is an outage.
    for path in [
        "/lab.example/lib/pkg/other/@v/list",
        "/lab.example/other/@v/list",
        "/lab.example/lib/pkg/name/@latest",
        "/lab.example/lib/pkg/name/@v/dev.info",
        "/lab.example/lib/pkg/name/@v/v1.2.1.info",
        "/lab.example/lib/pkg/name/@v/v1.2.0.mod",
        "/lab.example/lib/pkg/name/@v/v1.2.0.zip",
    ] {
        assert_eq!(
            said(&gate, path).await,
            "502 upstream_unavailable",
            "{path}"
        );
    }
}

/// What is there by now is not denied, whatever was said of it before; nor what another chain has.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_or_has_another_chain_is_not_denied() {
    let lab = Lab::start().await;
    lab.add(library());
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut gate = start(data, &chain(&lab)).await;
    go_get(&gate, PACKAGE).await;
    is_kept(data, &library()).await;
    let denials = [
        "pkg/@v/list",
        "pkg/@latest",
        "pkg/name/@v/list",
        "new/@v/list",
    ];
    for path in denials {
        let path = format!("/lab.example/lib/{path}");
        assert_eq!(said(&gate, &path).await, "404 module_not_found", "{path}");
    }
    eventually("they are noted", async || {
        denied(data).lines().count() > denials.len()
    })
    .await;

    // While upstream answers, its word counts.
    let new = Module::new("lab.example/lib/new", "v0.1.0").file("a.go", "package a\n");
    lab.add(new.clone());
    lab.add(Module::new("lab.example/lib/pkg", "v0.1.0").file("a.go", "package a\n"));
    assert_eq!(said(&gate, "/lab.example/lib/pkg/@latest").await, "200");
    assert_eq!(said(&gate, &new.url_path("mod")).await, "200");
    eventually("they are gone", async || {
        let denied = denied(data);
        !denied.contains("lib/pkg/@") && !denied.contains("lib/new/@")
    })
    .await;
    assert!(denied(data).contains("pkg/name/@v/list"));
    // An answer that says nothing of it is trouble of another kind.
    lab.fault("/pkg/name/", Fault::Status(403), None);
    let refused = said(&gate, "/lab.example/lib/pkg/name/@v/list").await;
    assert_eq!(refused, "502 upstream_refused");
    lab.stop().await;
    let unavailable = "502 upstream_unavailable";
    let name = "/lab.example/lib/pkg/name/@v/list";
    assert_eq!(said(&gate, name).await, "404 module_not_found");
    assert_eq!(
        said(&gate, "/lab.example/lib/pkg/@v/list").await,
        unavailable
    );
    assert_eq!(said(&gate, "/lab.example/lib/new/@v/list").await, "200");
    assert!(gate.terminate().await.success());

    let other = Lab::start().await;
    other.stop().await;
    for config in [
        chain(&other),
        format!("{}\nprivate = [\"lab.example/lib/pkg\"]", chain(&lab)),
        format!(
            "{}\n[freshness]\nlist = \"0s\"\nstale_if_error = \"0s\"",
            chain(&lab)
        ),
    ] {
        let mut gate = start(data, &config).await;
        assert_eq!(said(&gate, name).await, unavailable, "{config}");
        assert!(gate.terminate().await.success());
    }
}

/// Who asks for what does not exist leaves little behind.
#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_ask_for_fills_no_disk() {
    let lab = Lab::start().await;
    lab.add(library());
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let mut gate = start(data, &chain(&lab)).await;
    for n in 0..300 {
        let path = format!("/lab.example/other/x{n}/@v/list");
        assert_eq!(said(&gate, &path).await, "404 module_not_found");
    }
    go_get(&gate, "lab.example/lib").await;
    is_kept(data, &library()).await;
    let before = files(&data.join("fresh")).len();
    for n in 0..300 {
        let path = format!("/lab.example/lib/x{n}/@v/list");
        assert_eq!(said(&gate, &path).await, "404 module_not_found");
    }
    eventually("the last one is noted", async || {
        denied(data).contains("/x299/")
    })
    .await;
    assert_eq!(denied(data).lines().count(), 201);
    assert!(gate.terminate().await.success());
    assert_eq!(files(&data.join("fresh")).len(), before + 1);
}
