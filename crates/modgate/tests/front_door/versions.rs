//! Lists, `@latest` and queries: what the go command would choose, what is said while upstream fails, how long a "no" lasts.

use testkit::{
    fixture::Module,
    gate::{Modgate, Options},
    go::Go,
    lab::{Fault, Lab},
};

use crate::common::{bin, code, command, eventually, gate, verified_lab};

const PSEUDO: [&str; 2] = [
    "v0.0.0-20240101000000-aaaaaaaaaaaa",
    "v0.0.0-20240201000000-bbbbbbbbbbbb",
];

fn version(reply: &testkit::gate::Reply) -> String {
    let info: serde_json::Value = serde_json::from_slice(&reply.body)
        .unwrap_or_else(|error| panic!("{error}: {} {}", reply.status, reply.text()));
    info["Version"].as_str().unwrap().to_owned()
}

fn at(version: &str) -> Module {
    Module::new("lab.example/a", version).file("a.go", "package a\n")
}

/// A version of a module that knows nothing of modules.
fn legacy(version: &str) -> Module {
    at(version).file("go.mod", "module lab.example/a\n")
}

fn retire(gate: &Modgate, what: &str, reason: &str) {
    let done = command()
        .args(["retire", what, "--reason", reason, "--data"])
        .arg(gate.data_dir())
        .output()
        .unwrap();
    assert!(done.status.success());
}

/// A folder of a client's cache as upstream: no `@latest`, and its list has pseudo-versions.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_as_upstream_has_a_latest_version() {
    let source = Lab::start().await;
    for version in PSEUDO {
        source.add(at(version));
    }
    let go = Go::new()
        .proxy(&source.url())
        .sumdb("off")
        .module("module x\n");
    for version in PSEUDO {
        let version = format!("lab.example/a@{version}");
        assert!(go.run(&["mod", "download", &version]).await.ok);
    }
    let lab = Lab::start().await;
    lab.serve_folder(go.mod_cache().join("cache/download"));
    let listed = reqwest_list(&lab).await;
    assert!(listed.contains(PSEUDO[0]), "as go writes it: {listed}");
    let gate = gate(&lab, "off", "").await;
    assert_eq!(gate.get("/lab.example/a/@v/list").await.text(), "");
    for path in ["/lab.example/a/@latest", "/lab.example/a/@v/latest.info"] {
        assert_eq!(version(&gate.get(path).await), PSEUDO[1], "{path}");
    }
    let go = Go::new()
        .proxy(&gate.url())
        .sumdb("off")
        .module("module x\n");
    let got = go.run(&["list", "-m", "lab.example/a@latest"]).await;
    assert!(got.stdout.contains(PSEUDO[1]), "{}", got.stderr);
}

async fn reqwest_list(lab: &Lab) -> String {
    let url = format!("{}/lab.example/a/@v/list", lab.url());
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

/// Without `@latest` the list tells; if that fails it is an outage, not absence, in every mode.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_latest_in_trouble_is_no_absence() {
    for mode in ["sync", "async", "redirect"] {
        let lab = Lab::start().await;
        lab.add(at("v1.0.0"));
        lab.add(at("v1.1.0"));
        let config = format!(
            "mode = \"{mode}\"\n[negative]\nabsent = \"0s\"\ntrouble = \"0s\"\n[upstream.\"{}\"]\nretries = 0\n",
            lab.url()
        );
        let gate = gate(&lab, "off", &config).await;
        let latest = "/lab.example/a/@latest";
        lab.fault("/@latest", Fault::Status(404), None);
        lab.fault("/@v/list", Fault::Status(500), Some(1));
        let reply = gate.get(latest).await;
        assert_eq!(
            (reply.status, &*code(&reply)),
            (502, "upstream_unavailable"),
            "{mode}"
        );
        lab.fault(".info", Fault::Reset, Some(1));
        let reply = gate.get(latest).await;
        assert_eq!(
            (reply.status, &*code(&reply)),
            (502, "upstream_unavailable"),
            "{mode}: {}",
            reply.text()
        );
        assert_eq!(version(&gate.get(latest).await), "v1.1.0", "{mode}");
        let none = gate.get("/lab.example/none/@latest").await;
        assert_eq!(code(&none), "module_not_found", "{mode}");
    }
}

/// What go chooses: `+incompatible` versions count only if the highest of the others has no go.mod.
#[tokio::test(flavor = "multi_thread")]
async fn incompatible_versions_count_as_go_counts_them() {
    for (newest, chosen) in [
        (at("v1.2.0"), "v1.2.0"),
        (legacy("v1.2.0"), "v3.0.0+incompatible"),
        (at("v1.3.0-rc.1"), "v1.1.0"),
    ] {
        let lab = Lab::start().await;
        let all = [
            legacy("v1.0.0"),
            legacy("v1.1.0"),
            newest.clone(),
            legacy("v2.0.0+incompatible"),
            legacy("v3.0.0+incompatible"),
        ];
        for module in all {
            lab.add(module);
        }
        lab.fault("/@latest", Fault::Status(404), None);
        let gate = gate(&lab, "off", "").await;
        let shown = newest.version();
        for path in ["/@latest", "/@v/latest.info"] {
            let reply = gate.get(&format!("/lab.example/a{path}")).await;
            assert_eq!(version(&reply), chosen, "{shown} {path}");
        }
        let go = Go::new()
            .proxy(&gate.url())
            .sumdb("off")
            .module("module x\n");
        let got = go.run(&["list", "-m", "lab.example/a@latest"]).await;
        assert!(
            got.stdout.contains(&format!(" {chosen}\n")),
            "{shown}: {}",
            got.stdout
        );
        // What is kept by now hides nothing of what upstream lists.
        let listed = gate.get("/lab.example/a/@v/list").await.text();
        assert_eq!(listed, reqwest_list(&lab).await, "{shown}");
        let got = go.run(&["list", "-m", "lab.example/a@v2"]).await;
        assert!(
            got.stdout.ends_with(" v2.0.0+incompatible\n"),
            "{shown}: {}",
            got.stderr
        );
        let reply = gate.get("/lab.example/a/@v/v2.info").await;
        assert_eq!(version(&reply), "v2.0.0+incompatible", "{shown}");
    }
}

/// A `+incompatible` version that upstream does not list is served by its name, and not listed for all the others then.
#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_incompatible_version_stays_hidden() {
    let lab = Lab::start().await;
    lab.add(legacy("v1.0.1"));
    let hidden = legacy("v3.0.1+incompatible");
    let never_listed = |name: &str, version: &str| {
        let path = format!("lab.example/{name}");
        Module::new(&path, version).file("go.mod", format!("module {path}\n"))
    };
    let others = [
        never_listed("b", "v1.0.1"),
        never_listed("b", "v2.0.0+incompatible"),
        never_listed("b", "v3.0.1+incompatible"),
        Module::new("lab.example/b/v3", "v3.1.0").file("a.go", "package a\n"),
    ];
    let config = |chain: &str| format!("chain = \"{chain}\"\n[sumdb]\nname = \"off\"\n");
    let options = Options {
        config: Some(config(&lab.url())),
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    let list = async |name: &str| {
        let reply = gate.get(&format!("/lab.example/{name}/@v/list")).await;
        (reply.status, reply.text())
    };
    let shown = || (200, "v1.0.1\n".to_owned());
    assert_eq!(list("a").await, shown());
    // As a repository has it: there by name, and not in the list.
    lab.add(hidden.clone());
    for other in &others {
        lab.add(other.clone());
    }
    for module in others.iter().chain([&hidden]) {
        for ending in ["info", "mod", "zip"] {
            assert_eq!(gate.get(&module.url_path(ending)).await.status, 200);
        }
    }
    assert_eq!(list("a").await, shown());
    let latest = gate.get("/lab.example/a/@v/latest.info").await;
    assert_eq!(version(&latest), "v1.0.1");
    // What is kept is all there is: a module of its own tells that the major has a go.mod.
    gate.rewrite_config(&config("off"));
    gate.logged("configuration read again", 1).await;
    let kept = "v1.0.1\nv2.0.0+incompatible\n".to_owned();
    assert_eq!(list("b").await, (200, kept));
}

/// `latest` and `v1` without what the newest version retracts; that it cannot be read is trouble, not "nothing retracted".
#[tokio::test(flavor = "multi_thread")]
async fn retracted_versions_are_not_chosen() {
    let lab = Lab::start().await;
    for version in ["v1.0.0", "v1.1.0"] {
        lab.add(at(version));
    }
    let retracting = "module lab.example/a\n\ngo 1.21\n\nretract [v1.1.0, v1.2.0]\n";
    lab.add(at("v1.2.0").file("go.mod", retracting));
    let config = format!(
        "[negative]\ntrouble = \"0s\"\n[upstream.\"{}\"]\nretries = 0\n",
        lab.url()
    );
    let gate = gate(&lab, "off", &config).await;
    lab.fault("v1.2.0.mod", Fault::Status(503), Some(1));
    let reply = gate.get("/lab.example/a/@v/latest.info").await;
    assert_eq!(
        (reply.status, &*code(&reply)),
        (502, "upstream_unavailable")
    );
    for query in ["latest", "upgrade", "v1", "v1.0"] {
        let reply = gate.get(&format!("/lab.example/a/@v/{query}.info")).await;
        assert_eq!(version(&reply), "v1.0.0", "{query}");
    }
    // As go, which does not ask for a patch of no version.
    for query in ["v1.1", "v2", "patch"] {
        let reply = gate.get(&format!("/lab.example/a/@v/{query}.info")).await;
        assert_eq!(code(&reply), "version_not_found", "{query}");
    }
    for query in ["upgrade", "patch"] {
        assert_eq!(lab.count(&format!("/{query}.info")), 0, "{query}");
    }
    let listed = gate.get("/lab.example/a/@v/list").await;
    assert_eq!(listed.text(), "v1.0.0\nv1.1.0\nv1.2.0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_with_odd_names_are_asked_as_they_are() {
    let a = at(PSEUDO[0]);
    let (lab, sumdb) = verified_lab(std::slice::from_ref(&a)).await;
    lab.resolve("lab.example/a", "main", PSEUDO[0]);
    let key = sumdb.key().to_string();
    let gate = gate(&lab, &key, "").await;
    let go = Go::new()
        .proxy(&gate.url())
        .sumdb(&key)
        .module("module x\n");
    let got = go.run(&["get", "lab.example/a@main"]).await;
    assert!(got.ok && got.stderr.contains(PSEUDO[0]), "{}", got.stderr);
    lab.reset_counts();
    assert_eq!(
        gate.get("/lab.example/a/@v/fix%2312.info").await.status,
        404
    );
    assert_eq!(lab.count("/lab.example/a/@v/fix%2312.info"), 1);
    assert_eq!(gate.get("/lab.example/a/@v/50%25.info").await.status, 404);
    assert_eq!(lab.count("/lab.example/a/@v/50%25.info"), 1);
}

/// A retired version never turns a query into another version, and never is the latest.
#[tokio::test(flavor = "multi_thread")]
async fn a_retired_version_is_no_answer_to_latest_and_queries() {
    let lab = Lab::start().await;
    for version in ["v1.0.0", "v1.1.0", PSEUDO[0], PSEUDO[1]] {
        lab.add(at(version));
    }
    lab.resolve("lab.example/a", "0123456789ab", "v1.1.0");
    lab.resolve("lab.example/a", "main", PSEUDO[1]);
    let only_pseudo = Module::new("lab.example/b", PSEUDO[0]);
    lab.add(only_pseudo.clone());
    lab.add(Module::new("lab.example/b", PSEUDO[1]));
    let gate = gate(&lab, "off", "").await;
    let (latest, main) = ("/lab.example/a/@latest", "/lab.example/a/@v/main.info");
    assert_eq!(version(&gate.get(latest).await), "v1.1.0");
    assert_eq!(version(&gate.get(main).await), PSEUDO[1]);
    for version in PSEUDO {
        let path = Module::new("lab.example/b", version).url_path("info");
        assert_eq!(gate.get(&path).await.status, 200);
    }
    retire(&gate, "lab.example/a@v1.1.0", "leaks tokens");
    retire(&gate, &format!("lab.example/a@{}", PSEUDO[1]), "leaks more");
    retire(&gate, &format!("lab.example/b@{}", PSEUDO[1]), "leaks");
    eventually("it is seen", async || gate.get(main).await.status == 410).await;
    for (query, reason) in [("main", "leaks more"), ("0123456789ab", "leaks tokens")] {
        for _ in 0..2 {
            let reply = gate.get(&format!("/lab.example/a/@v/{query}.info")).await;
            assert_eq!((reply.status, &*code(&reply)), (410, "resource_gone"));
            assert!(reply.text().contains(reason), "{}", reply.text());
        }
    }
    assert_eq!(version(&gate.get(latest).await), "v1.0.0");
    assert_eq!(
        version(&gate.get("/lab.example/a/@v/v1.info").await),
        "v1.0.0"
    );
    // From what is kept alone, too.
    lab.stop().await;
    eventually("the last retirement is seen", async || {
        let offline = gate.get("/cached-only/lab.example/b/@latest").await;
        version(&offline) == PSEUDO[0]
    })
    .await;
}

/// Nobody is given a version that was retired while it was waited for.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_version_that_is_retired_is_told() {
    let lab = Lab::start().await;
    lab.add(at("v1.0.0"));
    let gate = gate(&lab, "off", "").await;
    let holds = [".mod", ".zip"].map(|ending| lab.hold(ending));
    let [info, go_mod, zip] = ["info", "mod", "zip"].map(|ending| at("v1.0.0").url_path(ending));
    let (go_mod, zip, ()) = tokio::join!(gate.get(&go_mod), gate.get(&zip), async {
        for hold in &holds {
            hold.arrived(1).await;
        }
        retire(&gate, "lab.example/a@v1.0.0", "leaks");
        eventually("it is seen", async || gate.get(&info).await.status == 410).await;
        drop(holds);
    });
    for reply in [go_mod, zip] {
        assert_eq!((reply.status, &*code(&reply)), (410, "resource_gone"));
        assert!(reply.text().contains("leaks"), "{}", reply.text());
    }
}

/// A module of which pseudo-versions alone are kept is there, with nothing tagged: without upstream as with it.
#[tokio::test(flavor = "multi_thread")]
async fn kept_pseudo_versions_are_found_without_upstream() {
    let lab = Lab::start().await;
    lab.add(at(PSEUDO[0]));
    let config = |chain: &str| {
        format!("chain = {chain}\n[sumdb]\nname = \"off\"\n[negative]\ntrouble = \"0s\"\n")
    };
    let options = Options {
        config: Some(config(&format!("\"{}\"", lab.url()))),
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    for ending in ["info", "mod", "zip"] {
        let path = at(PSEUDO[0]).url_path(ending);
        assert_eq!(gate.get(&path).await.status, 200);
        let kept = gate.data_dir().join("go").join(&path[1..]);
        eventually("it is kept", async || kept.exists()).await;
    }
    lab.stop().await;
    let ask = async |prefix: &str| {
        let list = gate.get(&format!("{prefix}/lab.example/a/@v/list")).await;
        assert_eq!((list.status, &*list.text()), (200, ""), "{prefix}");
        for what in ["@latest", "@v/latest.info"] {
            let reply = gate.get(&format!("{prefix}/lab.example/a/{what}")).await;
            assert_eq!(version(&reply), PSEUDO[0], "{prefix} {what}");
        }
        let none = gate.get(&format!("{prefix}/lab.example/b/@v/list")).await;
        assert_ne!(none.status, 200, "{prefix}");
    };
    ask("").await;
    ask("/cached-only").await;
    for (n, chain) in ["\"off\"", "\"off\"\nmode = \"none\""].iter().enumerate() {
        gate.rewrite_config(&config(chain));
        gate.logged("configuration read again", n + 1).await;
        ask("").await;
    }
}

/// go asks twice over https, and a toolchain's zip without anything before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_no_list() {
    let lab = Lab::start().await;
    let folder = tempfile::tempdir().unwrap();
    let versions = folder.path().join("lab.example/a/@v");
    std::fs::create_dir_all(&versions).unwrap();
    let file = versions.join("list");
    lab.serve_folder(folder.path());
    let config = "[freshness]\nlist = \"0s\"\nstale_while_revalidate = \"0s\"\n[negative]\ntrouble = \"0s\"\n";
    let known = gate(&lab, "off", config).await;
    let unknown = gate(&lab, "off", config).await;
    let list = "/lab.example/a/@v/list";
    std::fs::write(&file, "v1.0.0\njunk\n").unwrap();
    assert_eq!(known.get(list).await.text(), "v1.0.0\n");
    for text in [
        "Your session has expired. Please log in at https://sso.example\n",
        r#"{"errors":[{"status":503,"message":"repository offline"}]}"#,
        "\u{feff}<!DOCTYPE html><html>login</html>",
    ] {
        std::fs::write(&file, text).unwrap();
        let stale = known.get(list).await;
        assert_eq!((stale.status, &*stale.text()), (200, "v1.0.0\n"), "{text}");
        assert!(stale.header("warning").starts_with("110 "), "{text}");
        assert_eq!(code(&unknown.get(list).await), "upstream_invalid", "{text}");
    }
    std::fs::write(&file, "").unwrap();
    assert_eq!(known.get(list).await.text(), "");
}
