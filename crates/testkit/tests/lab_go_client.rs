//! The real `go` command against the lab itself: what the lab serves is what a GOPROXY serves, and a client notices
//! when it is spoiled. So a test with a gateway in between tells the gateway's faults, not the lab's.

use testkit::fixture::{self, Module};
use testkit::go::Go;
use testkit::lab::{Certificate, Fault, Lab};
use testkit::sumdb::LabSumDb;

const SUMDB: &str = "sum.lab.example";

fn module() -> Module {
    Module::new("lab.example/Upper/m", "v1.0.0-RC.1").file("m.go", "package m\n")
}

/// A lab with the modules, and a checksum database that knows them and that the lab relays.
async fn lab_with_sumdb(modules: Vec<Module>) -> (Lab, LabSumDb) {
    let lab = Lab::start().await;
    let sumdb = LabSumDb::start(SUMDB).await.expect("a database starts");
    sumdb.add_others(300);
    for module in modules {
        sumdb.add(
            module.path(),
            module.version(),
            &module.h1(),
            &module.go_mod_h1(),
        );
        lab.add(module);
    }
    lab.pass_sumdb(&sumdb.url());
    (lab, sumdb)
}

#[tokio::test]
async fn download_has_the_hashes_of_the_fixture() {
    let lab = Lab::start().await;
    let module = module();
    lab.add(module.clone());
    let go = Go::new().proxy(&lab.url());
    let output = go
        .run(&[
            "mod",
            "download",
            "-json",
            "lab.example/Upper/m@v1.0.0-RC.1",
        ])
        .await;
    assert!(output.ok, "{output:?}");
    let json: serde_json::Value = serde_json::from_str(&output.stdout).expect("go writes JSON");
    assert_eq!(json["Sum"], module.h1());
    assert_eq!(json["GoModSum"], module.go_mod_h1());
    for ending in ["info", "mod", "zip"] {
        assert_eq!(lab.count(&module.url_path(ending)), 1, "{ending}");
    }
}

#[tokio::test]
async fn versions_and_queries_are_resolved() {
    let lab = Lab::start().await;
    let pseudo = "v1.10.1-0.20240102030405-0123456789ab";
    for version in ["v1.9.0", "v1.10.0", "v1.11.0-rc.1", pseudo] {
        lab.add(Module::new("lab.example/m", version).file("m.go", "package m\n"));
    }
    lab.resolve("lab.example/m", "main", pseudo);
    let go = Go::new().proxy(&lab.url());
    let list = go
        .run(&["list", "-m", "-versions", "lab.example/m@v1.9.0"])
        .await;
    assert!(list.ok, "{list:?}");
    assert_eq!(
        list.stdout, "lab.example/m v1.9.0 v1.10.0 v1.11.0-rc.1\n",
        "a list has no pseudo-versions"
    );
    for (query, version) in [("latest", "v1.10.0"), ("main", pseudo)] {
        let output = go
            .run(&["list", "-m", &format!("lab.example/m@{query}")])
            .await;
        assert_eq!(
            output.stdout,
            format!("lab.example/m {version}\n"),
            "{output:?}"
        );
    }
}

#[tokio::test]
async fn project_downloads_with_a_checksum_database() {
    let modules = fixture::project(20);
    let go_mod = fixture::project_go_mod(&modules);
    let (lab, sumdb) = lab_with_sumdb(modules).await;
    let go = Go::new()
        .proxy(&lab.url())
        .sumdb(&sumdb.key().to_string())
        .module(&go_mod);
    let output = go.run(&["mod", "download"]).await;
    assert!(output.ok, "{output:?}");
    assert_eq!(lab.count(".zip"), 20);
    assert_eq!(lab.count("/lookup/"), 20, "lookups come through the proxy");
}

#[tokio::test]
async fn checksum_database_refuses_altered_files() {
    for (substring, fault) in [(".zip", Fault::AlteredZip), (".mod", Fault::AlteredMod)] {
        let (lab, sumdb) = lab_with_sumdb(vec![module()]).await;
        lab.fault(substring, fault.clone(), None);
        let ask = ["mod", "download", "lab.example/Upper/m@v1.0.0-RC.1"];

        let go = Go::new().proxy(&lab.url());
        let output = go.run(&ask).await;
        assert!(
            output.ok,
            "{fault:?} is in order but for its hash: {output:?}"
        );

        let go = Go::new().proxy(&lab.url()).sumdb(&sumdb.gosumdb());
        let output = go.run(&ask).await;
        assert!(!output.ok, "{fault:?}");
        assert!(output.stderr.contains("SECURITY ERROR"), "{output:?}");

        lab.heal();
        let output = go.run(&["clean", "-modcache"]).await;
        assert!(output.ok, "{output:?}");
        let output = go.run(&ask).await;
        assert!(output.ok, "{output:?}");
    }
}

#[tokio::test]
async fn client_refuses_broken_transfers() {
    let lab = Lab::start().await;
    lab.add(module());
    for fault in [
        Fault::Status(503),
        Fault::Reset,
        Fault::Truncate,
        Fault::Short,
        Fault::Corrupt,
        Fault::RedirectLoop,
        Fault::Html,
    ] {
        lab.fault(".zip", fault.clone(), None);
        let go = Go::new().proxy(&lab.url());
        let output = go
            .run(&["mod", "download", "lab.example/Upper/m@v1.0.0-RC.1"])
            .await;
        assert!(!output.ok, "{fault:?}");
        lab.heal();
    }
}

#[tokio::test]
async fn tls_lab_is_trusted_by_its_authority_only() {
    let lab = Lab::start_tls().await;
    lab.add(module());
    let ask = ["mod", "download", "lab.example/Upper/m@v1.0.0-RC.1"];
    let go = Go::new().proxy(&lab.url()).file("ca.pem", lab.ca_pem());
    let output = go.run(&ask).await;
    assert!(!output.ok && output.stderr.contains("x509"), "{output:?}");

    let ca = go.work().join("ca.pem");
    let go = go.env("SSL_CERT_FILE", &ca.to_string_lossy());
    let output = go.run(&ask).await;
    assert!(output.ok, "{output:?}");
}

#[tokio::test]
async fn bad_certificates_are_refused_each_for_its_reason() {
    for (certificate, reason) in [
        (Certificate::Expired, "expired"),
        (Certificate::SelfSigned, "unknown authority"),
        (Certificate::OtherName, "127.0.0.1"),
    ] {
        let lab = Lab::start_tls_with(certificate).await;
        lab.add(module());
        let go = Go::new().proxy(&lab.url()).file("ca.pem", lab.ca_pem());
        let ca = go.work().join("ca.pem");
        let go = go.env("SSL_CERT_FILE", &ca.to_string_lossy());
        let output = go
            .run(&["mod", "download", "lab.example/Upper/m@v1.0.0-RC.1"])
            .await;
        assert!(!output.ok, "{certificate:?}");
        for part in ["x509", reason] {
            assert!(output.stderr.contains(part), "{certificate:?}: {output:?}");
        }
        assert!(lab.requests().is_empty(), "{certificate:?}");
    }
}

#[tokio::test]
async fn http2_is_spoken_and_fails_a_stream_at_a_time() {
    let lab = Lab::start_h2().await;
    lab.add(module());
    let ask = ["mod", "download", "lab.example/Upper/m@v1.0.0-RC.1"];
    let go = Go::new().proxy(&lab.url()).file("ca.pem", lab.ca_pem());
    let ca = go.work().join("ca.pem");
    let go = go.env("SSL_CERT_FILE", &ca.to_string_lossy());
    for fault in [Fault::Truncate, Fault::Reset] {
        lab.fault(".zip", fault.clone(), None);
        let output = go.run(&ask).await;
        assert!(
            !output.ok && output.stderr.contains("stream"),
            "{fault:?}: {output:?}"
        );
        lab.heal();
    }
    let output = go.run(&ask).await;
    assert!(output.ok, "{output:?}");
    let agents = lab.requests();
    assert!(
        agents
            .iter()
            .all(|asked| asked.headers["user-agent"] == "Go-http-client/2.0"),
        "{agents:?}"
    );
}

#[tokio::test]
async fn modules_of_a_project_need_one_another() {
    let lab = Lab::start().await;
    for module in fixture::project(300) {
        lab.add(module);
    }
    let go = Go::new()
        .proxy(&lab.url())
        .module("module project.example/root\n\ngo 1.21\n\nrequire lab.example/m000 v1.0.0\n")
        .file(
            "main.go",
            "package main\n\nimport _ \"lab.example/m000\"\n\nfunc main() {}\n",
        );
    let output = go.run(&["mod", "tidy"]).await;
    assert!(output.ok, "{output:?}");
    let output = go.run(&["list", "-deps", "."]).await;
    assert!(output.ok, "{output:?}");
    let needed = output
        .stdout
        .lines()
        .filter(|line| line.starts_with("lab.example/"));
    assert_eq!(needed.count(), 300);
}

#[tokio::test]
async fn download_cache_is_served_as_a_folder() {
    let lab = Lab::start().await;
    lab.add(module());
    let ask = ["mod", "download", "lab.example/Upper/m@v1.0.0-RC.1"];
    let first = Go::new().proxy(&lab.url());
    let output = first.run(&ask).await;
    assert!(output.ok, "{output:?}");

    let mirror = Lab::start().await;
    mirror.serve_folder(first.mod_cache().join("cache/download"));
    let output = Go::new().proxy(&mirror.url()).run(&ask).await;
    assert!(output.ok, "{output:?}");
}

#[tokio::test]
async fn old_go_downloads_too() {
    let (lab, sumdb) = lab_with_sumdb(vec![module()]).await;
    let go = Go::old()
        .await
        .proxy(&lab.url())
        .sumdb(&sumdb.key().to_string());
    let output = go.run(&["version"]).await;
    assert!(output.stdout.contains("go1.21.13"), "{output:?}");
    let output = go
        .run(&["mod", "download", "lab.example/Upper/m@v1.0.0-RC.1"])
        .await;
    assert!(output.ok, "{output:?}");
}
