//! What is served while the checksum database cannot be reached, and how that is made up for.

use testkit::{
    fixture::{self, Module},
    gate::{Modgate, Options},
    lab::{Fault, Lab},
    sumdb::{LabSumDb, Lie},
};

use crate::common::{bin, code, eventually, files, kept_zips, module, verified_lab};

fn options(lab: &Lab, sumdb: &LabSumDb, data: &std::path::Path) -> Options {
    let config = format!(
        "[upstream.\"{}\"]\nfirst_byte_timeout = \"400ms\"\nretries = 0\n\
         [negative]\nabsent = \"100ms\"\ntrouble = \"100ms\"\n\
         [sumdb]\nname = \"{}\"\nunreachable = \"serve-unverified\"\n",
        sumdb.url(),
        sumdb.gosumdb()
    );
    Options {
        upstream: Some(lab.url()),
        config: Some(config),
        data: Some(data.to_owned()),
        ..Options::default()
    }
}

/// Served with a warning, and not for caches to keep.
async fn unverified(gate: &Modgate, module: &Module, ending: &str) -> Vec<u8> {
    let reply = gate.get(&module.url_path(ending)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let warning = reply.header("warning");
    assert!(warning.contains("not verified"), "{warning}");
    let cached = reply.header("cache-control");
    assert!(!cached.contains("immutable"), "{cached}");
    reply.body.to_vec()
}

/// The notes of what is to be verified.
async fn noted(gate: &Modgate, count: usize) {
    let folder = gate.data_dir().join("unverified");
    eventually("all of it is noted", async || files(&folder).len() == count).await;
}

/// Large ones too, which stream; one that the database does not know stands in nobody's way; and a kill in between
/// forgets nothing.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_all_is_verified_but_what_is_unknown() {
    let known = [
        fixture::big("lab.example/big", "v1.0.0", 3),
        module("small"),
    ];
    let unknown = module("aaa");
    let (lab, sumdb) = verified_lab(&known).await;
    lab.add(unknown.clone());
    sumdb.lie(Lie::Unreachable).await;
    let data = tempfile::tempdir().unwrap();
    let mut gate = Modgate::start(bin(), options(&lab, &sumdb, data.path())).await;
    for module in [&unknown, &known[0], &known[1]] {
        for ending in ["zip", "mod"] {
            unverified(&gate, module, ending).await;
        }
    }
    noted(&gate, 6).await;
    gate.kill9().await;
    assert_eq!(kept_zips(data.path()), 0);

    sumdb.be_honest().await;
    let gate = Modgate::start(bin(), options(&lab, &sumdb, data.path())).await;
    gate.logged("verified what was served unverified before", 4)
        .await;
    gate.logged("does not know what was served unverified", 2)
        .await;
    assert_eq!(kept_zips(data.path()), 2);
    noted(&gate, 0).await;
    let incidents = "modgate_incidents_total{result=\"served_unverified_unknown\"}";
    assert!((gate.metric(incidents).await - 2.0).abs() < 0.1);
    let reply = gate.get(&unknown.url_path("zip")).await;
    assert_eq!(code(&reply), "checksum_unknown");
}

/// What counts is what was served then, not what upstream sends now.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_altered_once_is_an_incident_though_upstream_is_honest_again() {
    let big = fixture::big("lab.example/big", "v1.0.0", 3);
    let (lab, sumdb) = verified_lab(std::slice::from_ref(&big)).await;
    sumdb.lie(Lie::Unreachable).await;
    let data = tempfile::tempdir().unwrap();
    let gate = Modgate::start(bin(), options(&lab, &sumdb, data.path())).await;
    lab.fault(".zip", Fault::AlteredZip, Some(1));
    let altered = unverified(&gate, &big, "zip").await;
    assert!(altered != big.zip());
    noted(&gate, 1).await;
    let honest = unverified(&gate, &big, "zip").await;
    assert!(honest == big.zip());

    sumdb.be_honest().await;
    let logs = gate
        .logged("SECURITY: what was served unverified is not", 1)
        .await;
    assert!(logs.contains("clients have it"));
    let incidents = "modgate_incidents_total{result=\"served_unverified_altered\"}";
    assert!((gate.metric(incidents).await - 1.0).abs() < 0.1);
    eventually("the true one is kept", async || kept_zips(data.path()) == 1).await;
    let reply = gate.get(&big.url_path("zip")).await;
    assert!(reply.body == big.zip() && reply.header("warning").is_empty());
    noted(&gate, 0).await;
}

/// Where nothing is compared, a go.mod must at least be one, and a zip's hash is kept beside it as Go's cache has it.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_a_login_page_is_no_go_mod() {
    let lab = Lab::start().await;
    // It need not parse, as for go.
    let odd = module("odd").file("go.mod", "module lab.example/odd\ngo foo\n");
    let (a, wrong, big) = (
        module("a"),
        module("wrong").file("go.mod", "module lab.example/wrong/v2\n"),
        fixture::big("lab.example/big", "v1.0.0", 2),
    );
    for module in [&a, &wrong, &big, &odd] {
        lab.add(module.clone());
    }
    let config = "[negative]\ntrouble = \"50ms\"\n";
    let gate = crate::common::gate(&lab, "off", config).await;
    lab.fault("/a/@v/v1.0.0.mod", Fault::Html, Some(1));
    for module in [&a, &wrong] {
        let reply = gate.get(&module.url_path("mod")).await;
        assert_eq!(
            (reply.status, &*code(&reply)),
            (502, "upstream_invalid"),
            "{}",
            reply.text()
        );
    }
    let reply = gate.get(&odd.url_path("mod")).await;
    assert_eq!((reply.status, &reply.body[..]), (200, &odd.mod_file()[..]));
    let kept = |module: &Module, ending: &str| {
        let path = module.url_path(ending);
        std::fs::read(gate.data_dir().join("go").join(&path[1..]))
    };
    assert!(kept(&a, "mod").is_err() && kept(&wrong, "mod").is_err());
    eventually("the true one is served", async || {
        gate.get(&a.url_path("mod")).await.status == 200
    })
    .await;
    for module in [&a, &big] {
        let reply = gate.get(&module.url_path("zip")).await;
        assert!(reply.body == module.zip());
    }
}
