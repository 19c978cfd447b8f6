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
async fn a_package_is_no_module_whoever_cannot_be_asked() {
    let lab = Lab::start().await;
    lab.add(library());
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    // Version control cannot be reached from here, and has no such host: nothing was asked for yet.
    let mut gate = start(data, &format!("{},direct", lab.url())).await;
    assert_eq!(list(&gate, "lib/pkg/name").await, "404 module_not_found");
    assert_eq!(list(&gate, "lib/other").await, "404 module_not_found");
    let other = list(&gate, "another/pkg").await;
    assert_eq!(
        other, "502 upstream_unavailable",
        "nothing is known above it"
    );
    tidy(&gate, "a.example/main").await;
    let zip = data.join("go").join(&library().url_path("zip")[1..]);
    eventually("it is kept", async || zip.exists()).await;
    assert!(gate.terminate().await.success());

    // The upstream is dead: what the kept zip shows to be a folder is no module; of the rest nothing is known.
    lab.stop().await;
    let mut gate = start(data, &lab.url()).await;
    assert_eq!(list(&gate, "lib/pkg/name").await, "404 module_not_found");
    assert_eq!(list(&gate, "lib/pkg").await, "404 module_not_found");
    let other = list(&gate, "lib/other").await;
    assert_eq!(other, "502 upstream_unavailable");
    tidy(&gate, "a.example/second").await;
    assert!(gate.terminate().await.success());

    // Nobody is asked at all.
    let gate = start(data, "off").await;
    assert_eq!(list(&gate, "lib/pkg/name").await, "404 not_cached");
    assert_eq!(list(&gate, "lib/other").await, "404 not_cached");
    assert_eq!(list(&gate, "another").await, "403 lookup_disabled");
    tidy(&gate, "a.example/third").await;
}
