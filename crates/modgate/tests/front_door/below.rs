//! A package's path, where nobody can be asked about it any more: go takes the module above it.

use testkit::{
    fixture::Module,
    gate::{Modgate, Options},
    go::Go,
    lab::Lab,
};

use crate::common::{bin, code, eventually};

fn library() -> Module {
    Module::new("lab.example/lib", "v1.2.0").file("pkg/name/a.go", "package name\n")
}

async fn start(data: &std::path::Path, chain: &str) -> Modgate {
    let options = Options {
        upstream: Some(chain.to_owned()),
        sumdb: Some("off".to_owned()),
        data: Some(data.to_owned()),
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

/// The go command finds the module of a package by asking for every prefix of its path.
async fn tidy(gate: &Modgate, name: &str) {
    let client = Go::new()
        .proxy(&gate.url())
        .sumdb("off")
        .module(&format!("module {name}\n\ngo 1.21\n"))
        .file(
            "main.go",
            "package main\n\nimport _ \"lab.example/lib/pkg/name\"\n\nfunc main() {}\n",
        );
    for args in [&["mod", "tidy"][..], &["build", "./..."]] {
        let output = client.run(args).await;
        assert!(output.ok, "{name}: {output:?}");
    }
}

/// What the gateway says of a list: the code of a refusal, or that it has one.
async fn list(gate: &Modgate, path: &str) -> String {
    let reply = gate.get(&format!("/lab.example/{path}/@v/list")).await;
    match reply.status {
        200 => "listed".to_owned(),
        status => format!("{status} {}", code(&reply)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_is_no_module_where_go_would_not_ask() {
    let lab = Lab::start().await;
    lab.add(library());
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    // Version control cannot be reached from here, and has no such host: nothing was asked for yet.
    let chain = format!("{},direct", lab.url());
    let mut gate = start(data, &chain).await;
    assert_eq!(list(&gate, "lib/pkg/name").await, "404 module_not_found");
    assert_eq!(list(&gate, "lib/other").await, "404 module_not_found");
    for unknown in ["another/pkg", "lib/v2"] {
        let said = list(&gate, unknown).await;
        assert_eq!(said, "502 upstream_unavailable", "{unknown}");
    }
    tidy(&gate, "a.example/main").await;
    let zip = data.join("go").join(&library().url_path("zip")[1..]);
    eventually("it is kept", async || zip.exists()).await;
    // However long a path is, it costs little.
    lab.reset_counts();
    let long = format!("lib/{}", ["x"; 40].join("/"));
    assert_eq!(list(&gate, &long).await, "502 upstream_unavailable");
    assert!(lab.requests().len() <= 6, "{:?}", lab.requests());
    let denied = data.join("fresh/lab.example/lib/@denied");
    eventually("what upstreams denied is noted", async || {
        let noted = std::fs::read_to_string(&denied).unwrap_or_default();
        noted.contains(" lab.example/lib/pkg/name/@v/list\n")
    })
    .await;
    assert!(gate.terminate().await.success());

    // In an outage that is said again, and of what was not asked before nobody knows.
    lab.stop().await;
    let mut gate = start(data, &chain).await;
    assert_eq!(list(&gate, "lib/pkg/name").await, "404 module_not_found");
    let said = list(&gate, "lib/new").await;
    assert_eq!(said, "502 upstream_unavailable");
    tidy(&gate, "a.example/outage").await;
    assert!(gate.terminate().await.success());

    // Nobody is asked at all.
    let gate = start(data, "off").await;
    assert_eq!(list(&gate, "lib/pkg/name").await, "404 not_cached");
    for none in ["another", "lib/v2"] {
        assert_eq!(list(&gate, none).await, "403 lookup_disabled", "{none}");
    }
    tidy(&gate, "a.example/second").await;
}

/// What is a module below another one stays in trouble as long as it cannot be asked for: go would take the one above.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_makes_no_module_a_folder() {
    let lab = Lab::start().await;
    let inner = |version| Module::new("lab.example/lib/pkg", version).file("a.go", "package pkg\n");
    lab.add(library());
    lab.add(inner("v0.1.0"));
    lab.add(inner("v0.1.5"));
    lab.add(inner("v0.2.0"));
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let chain = format!("{},direct", lab.url());
    let mut gate = start(data, &chain).await;
    for module in [library(), inner("v0.1.0")] {
        for ending in ["info", "mod", "zip"] {
            let path = module.url_path(ending);
            assert_eq!(gate.get(&path).await.status, 200);
            let kept = data.join("go").join(&path[1..]);
            eventually("it is kept", async || kept.exists()).await;
        }
    }
    // Listed, and without a latest version of its own.
    assert_eq!(list(&gate, "lib/pkg").await, "listed");
    lab.fault("/lib/pkg/@latest", testkit::lab::Fault::Status(404), None);
    let latest = gate.get("/lab.example/lib/pkg/@latest").await;
    assert!(
        latest.text().contains("v0.2.0"),
        "the list tells: {}",
        latest.text()
    );
    let absent = gate.get("/lab.example/lib/pkg/@v/main.info").await;
    assert_eq!(
        absent.status,
        502,
        "a branch that only a repository knows: {}",
        absent.text()
    );
    assert!(gate.terminate().await.success());
    lab.stop().await;
    for chain in [chain, lab.url()] {
        let mut gate = start(data, &chain).await;
        for asked in [
            "lib/pkg/@v/v0.1.5.info",
            "lib/pkg/@v/main.info",
            "lib/pkg/name/@v/list",
            "lib/new/@latest",
        ] {
            let reply = gate.get(&format!("/lab.example/{asked}")).await;
            assert!(reply.status >= 500, "{asked}: {}", reply.text());
        }
        assert!(gate.terminate().await.success());
    }
    // A rule for one module, whatever is kept of another.
    let options = Options {
        config: Some(format!(
            "chain = \"{}\"\n[sumdb]\nname = \"off\"\n[[route]]\nmatch = [\"lab.example/lib/inner\"]\nchain = \"off\"\n",
            lab.url()
        )),
        data: Some(data.to_owned()),
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    assert_eq!(list(&gate, "lib/inner").await, "403 lookup_disabled");
}
