//! Whole commands of the real client: `go build`, with and without a go.sum, and a toolchain.

use testkit::{fixture, fixture::Module, go::Go};

use crate::common::{gate, verified_lab};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_built_and_built_again_from_its_go_sum() {
    let modules = fixture::project(7);
    let (lab, sumdb) = verified_lab(&modules).await;
    let key = sumdb.key().to_string();
    let gate = gate(&lab, &key, "").await;
    let program = |go: Go| {
        let import = modules[0].path();
        go.proxy(&gate.url())
            .sumdb(&key)
            .module(&fixture::project_go_mod(&modules))
            .file(
                "main.go",
                &format!("package main\n\nimport _ \"{import}\"\n\nfunc main() {{ println(\"built\") }}\n"),
            )
    };
    let sumdb_requests = "modgate_requests_total{kind=\"sumdb\"";
    for old in [false, true] {
        let client = async || if old { Go::old().await } else { Go::new() };
        let first = program(client().await);
        let built = first.run(&["build", "-mod=mod", "-o", "built", "."]).await;
        assert!(built.ok, "{}\n{}", built.stderr, gate.logs());
        let sums = std::fs::read_to_string(first.work().join("go.sum")).unwrap();
        assert!(sums.contains(&modules[0].h1()), "{sums}");
        let go_mod = std::fs::read_to_string(first.work().join("go.mod")).unwrap();

        // With a complete go.sum a new machine asks for no list, no info and no record.
        let asked = gate.metric(sumdb_requests).await;
        let second = program(client().await)
            .module(&go_mod)
            .file("go.sum", &sums);
        let run = second.run(&["run", "."]).await;
        assert!(run.ok && run.stderr.contains("built"), "{}", run.stderr);
        assert!((gate.metric(sumdb_requests).await - asked).abs() < 0.1);

        // A go.sum that says otherwise is found out by the client, as ever.
        let wrong = sums.replace(&modules[0].h1(), &modules[1].h1());
        let third = program(client().await)
            .module(&go_mod)
            .file("go.sum", &wrong);
        let refused = third.run(&["build", "-o", "built", "."]).await;
        assert!(
            !refused.ok && refused.stderr.contains("checksum mismatch"),
            "{}",
            refused.stderr
        );
    }
}

/// `GOTOOLCHAIN` asks for the zip alone, and for its record: nothing switches that off.
#[tokio::test(flavor = "multi_thread")]
async fn a_toolchain_is_downloaded_through_the_gateway() {
    let host = std::process::Command::new("go")
        .args(["env", "GOHOSTOS", "GOHOSTARCH"])
        .output()
        .unwrap();
    let host = String::from_utf8(host.stdout).unwrap();
    let (os, arch) = host.trim().split_once('\n').unwrap();
    let toolchain = Module::new(
        "golang.org/toolchain",
        &format!("v0.0.1-go1.99.1.{os}-{arch}"),
    )
    .file("bin/go", "#!/bin/sh\necho this is go 1.99.1: \"$@\"\n")
    .file("bin/gofmt", "#!/bin/sh\n")
    .file(&format!("pkg/tool/{os}_{arch}/compile"), "#!/bin/sh\n")
    .file("lib/wasm/go_js_wasm_exec", "#!/bin/sh\n")
    .file("src/_go.mod", "module std\n");
    let (lab, sumdb) = verified_lab(std::slice::from_ref(&toolchain)).await;
    let key = sumdb.key().to_string();
    let gate = gate(&lab, &key, "").await;
    for run in ["cold", "offline"] {
        if run == "offline" {
            lab.stop().await;
        }
        let go = Go::new()
            .proxy(&gate.url())
            .sumdb(&key)
            .env("GOTOOLCHAIN", "go1.99.1")
            .module("module x\n");
        let version = go.run(&["version"]).await;
        assert!(
            version.ok && version.stdout.contains("this is go 1.99.1: version"),
            "{run}: {}{}\n{}",
            version.stdout,
            version.stderr,
            gate.logs()
        );
    }
    assert_eq!(lab.count("toolchain/@v/"), 1, "{:?}", lab.requests());
}
