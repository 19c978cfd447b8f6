//! `?go-get=1`: the gateway fronts a company's vanity paths for clients without GOPROXY.

use std::net::{Ipv4Addr, SocketAddr};

use testkit::{
    fixture::Module,
    gate::{Modgate, Options},
    go::Go,
    lab::Lab,
    tls::{Certificate, Pem},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::common::{bin, code};

/// A forward proxy under which every host name is the gateway. It ends when the set is dropped.
async fn every_name_is(gate: SocketAddr) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut tunnels = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            tunnels.spawn(tunnel(client, gate));
        }
    });
    (url, serving)
}

async fn tunnel(client: TcpStream, gate: SocketAddr) {
    let mut client = BufReader::new(client);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if client.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let mut server = TcpStream::connect(gate).await.unwrap();
    let told = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
    if told.is_ok() {
        // An error is an end that went away.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn go_builds_by_a_vanity_path_without_goproxy() {
    let lab = Lab::start().await;
    let text = "package kit\n\nconst Word = \"vanity\"\n";
    lab.add(Module::new("go.corp.example/team/kit", "v1.2.0").file("kit.go", text));
    lab.add(Module::new("go.corp.example/other", "v1.0.0").file("a.go", "package a\n"));
    let tls = Pem::new(Certificate::Good);
    let config = "public_url = \"https://modgate.corp.example\"\n\
                  [[vanity]]\nprefix = \"go.corp.example/team\"\n";
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some("off".to_owned()),
        config: Some(config.to_owned()),
        tls: Some(tls.clone()),
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    let (proxy, _serving) = every_name_is(gate.addr()).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &tls.ca).unwrap();
    let client = Go::new()
        .proxy("direct")
        .env("GOSUMDB", "off")
        .env("HTTPS_PROXY", &proxy)
        .env("SSL_CERT_FILE", ca.to_str().unwrap())
        .module("module test.example/app\n\ngo 1.21\n")
        .file(
            "main.go",
            "package main\n\nimport \"go.corp.example/team/kit\"\n\nfunc main() { println(kit.Word) }\n",
        );
    let got = client
        .run(&["get", "go.corp.example/team/kit@latest"])
        .await;
    assert!(got.ok, "{}\n{}", got.stderr, gate.logs());
    let built = client.run(&["run", "."]).await;
    assert!(built.ok && built.stderr.contains("vanity"), "{built:?}");

    // What is not listed is not told, though it is served to those who ask by the protocol.
    let other = client.run(&["get", "go.corp.example/other@v1.0.0"]).await;
    assert!(!other.ok, "{other:?}");
    let plain = gate.get("/go.corp.example/other/@v/v1.0.0.info").await;
    assert_eq!(plain.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_prefixes_have_a_page() {
    let lab = Lab::start().await;
    let config = "public_url = \"http://modgate.corp.example\"\n\
                  private = [\"127.0.0.1/secret/*\"]\n\
                  [[vanity]]\nprefix = \"vanity.corp.example\"\n";
    let gate = crate::common::gate(&lab, "off", config).await;
    let ask = async |path: &str, host: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        String::from_utf8_lossy(&gate.raw(request.as_bytes()).await).into_owned()
    };
    let page = ask("/x/y?go-get=1", "vanity.corp.example:3000").await;
    let tag =
        "<meta name=\"go-import\" content=\"vanity.corp.example mod http://modgate.corp.example\">";
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("text/html") && page.contains(tag), "{page}");
    let root = ask("/?go-get=1", "vanity.corp.example").await;
    assert!(root.contains(tag), "{root}");
    for (path, host) in [
        ("/x/y?go-get=1", "elsewhere.example"),
        ("/secret/x?go-get=1", "127.0.0.1"),
    ] {
        let refused = ask(path, host).await;
        assert!(refused.starts_with("HTTP/1.1 404"), "{refused}");
    }
    let refused = gate.get("/x/y?go-get=1").await;
    assert_eq!(code(&refused), "endpoint_not_found");
    // The prefix is told, and the name of nothing else.
    assert!(lab.requests().is_empty());
}
