//! Which version is the latest, and whose word that is: of a branch that somebody asked for never, of what was retired no longer.

use testkit::{
    fixture::Module,
    gate::{Modgate, Reply},
    go::Go,
    lab::{Fault, Lab},
};

use crate::common::{code, command, eventually, gate};

const COMMIT: &str = "v0.0.0-20240101000000-aaaaaaaaaaaa";
const LATER: &str = "v0.0.0-20240201000000-bbbbbbbbbbbb";
const LATEST: &str = "/lab.example/a/@latest";
const LIST: &str = "/lab.example/a/@v/list";

fn at(version: &str) -> Module {
    Module::new("lab.example/a", version).file("a.go", "package a\n")
}

/// The version that an answer names, or the code of a refusal.
fn said(reply: &Reply) -> String {
    match serde_json::from_slice::<serde_json::Value>(&reply.body) {
        Ok(info) => info["Version"].as_str().unwrap().to_owned(),
        Err(_) => code(reply),
    }
}

/// Every answer is asked for anew.
const ANEW: &str = "[freshness]\nlist = \"0s\"\nlatest = \"0s\"\nquery = \"0s\"\nstale_while_revalidate = \"0s\"\n\
                    [negative]\nabsent = \"0s\"\ngone = \"0s\"\ntrouble = \"0s\"\n";

/// Fetches all of a version, and waits until it is kept.
async fn keep(gate: &Modgate, module: &Module) {
    for ending in ["info", "mod", "zip"] {
        let path = module.url_path(ending);
        assert_eq!(gate.get(&path).await.status, 200, "{path}");
        let kept = gate.data_dir().join("go").join(&path[1..]);
        eventually("it is kept", async || kept.exists()).await;
    }
}

/// What go says to a query of what these lists have.
#[tokio::test(flavor = "multi_thread")]
async fn queries_are_answered_as_go_answers_them() {
    let itself = |version: &str| {
        let file = format!("module lab.example/a\n\ngo 1.21\n\nretract {version}\n");
        at(version).file("go.mod", file)
    };
    let cases = [
        // Pre-releases of v1.1.0 are below v1.1.
        (vec![at("v1.0.0"), at("v1.1.0-rc.1")], None, None),
        (vec![at("v1.0.0-rc.1"), at("v1.1.1-rc.1")], None, None),
        // All that there is, is retracted.
        (vec![itself("v1.1.0")], Some("v1.1.0"), None),
        (vec![itself("v1.1.0")], None, Some("v1.1.0")),
        // The tags are, and no `@latest` tells of the commits that the list has.
        (vec![itself("v1.1.0"), at(COMMIT)], None, Some(COMMIT)),
    ];
    for (modules, says, latest) in cases {
        let upstream = tempfile::tempdir().unwrap();
        let folder = upstream.path().join("lab.example/a/@v");
        std::fs::create_dir_all(&folder).unwrap();
        let mut list = String::new();
        for module in &modules {
            let version = module.version();
            list.extend([version, "\n"]);
            let info = format!(r#"{{"Version":"{version}","Time":"2024-01-01T00:00:00Z"}}"#);
            std::fs::write(folder.join(format!("{version}.info")), info).unwrap();
            std::fs::write(folder.join(format!("{version}.mod")), module.mod_file()).unwrap();
            if says == Some(version) {
                let info = folder.join(format!("{version}.info"));
                std::fs::copy(info, folder.join("../@latest")).unwrap();
            }
        }
        std::fs::write(folder.join("list"), &list).unwrap();
        let lab = Lab::start().await;
        lab.serve_folder(upstream.path());
        let gate = gate(&lab, "off", "").await;
        let go = |proxy: &str| Go::new().proxy(proxy).sumdb("off").module("module x\n");
        for query in ["latest", "v0", "v1", "v1.0", "v1.1", "v2"] {
            let path = format!("/lab.example/a/@v/{query}.info");
            let said = said(&gate.get(&path).await);
            let asked = format!("lab.example/a@{query}");
            for proxy in [lab.url(), gate.url()] {
                let go = go(&proxy).run(&["list", "-m", &asked]).await;
                let chosen = go.stdout.trim().strip_prefix("lab.example/a ");
                assert_eq!(
                    chosen.unwrap_or("version_not_found"),
                    said,
                    "{query} of {list}: {}",
                    go.stderr
                );
            }
        }
        if let Some(latest) = latest {
            assert_eq!(said(&gate.get(LATEST).await), latest, "{list}");
        }
    }
}

/// The module is on a branch alone, so that there is no latest version of it; who asked for the branch makes none.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_somebody_asked_for_is_not_the_latest() {
    let lab = Lab::start().await;
    lab.add(at(COMMIT));
    lab.add(at(LATER));
    lab.resolve("lab.example/a", "dev", LATER);
    let gate = gate(&lab, "off", ANEW).await;
    let latest = async || {
        let mut all = Vec::new();
        for path in [LATEST, "/lab.example/a/@v/latest.info"] {
            all.push(said(&gate.get(path).await));
        }
        assert_eq!(all[0], all[1]);
        all.remove(0)
    };
    for absent in [404, 410] {
        let no = if absent == 404 {
            "module_not_found"
        } else {
            "resource_gone"
        };
        lab.heal();
        lab.fault("/@latest", Fault::Status(absent), None);
        assert_eq!(latest().await, no);
        let dev = gate.get("/lab.example/a/@v/dev.info").await;
        assert_eq!(said(&dev), LATER);
        keep(&gate, &at(LATER)).await;
        // Longer than what is kept is remembered.
        tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
        assert_eq!(latest().await, no);
    }
    // What the chain itself called the latest stays so while it is kept, whatever becomes of the repository.
    lab.heal();
    lab.remove("lab.example/a", LATER);
    assert_eq!(said(&gate.get(LATEST).await), COMMIT);
    lab.fault("/@latest", Fault::Status(404), None);
    assert_eq!(latest().await, "module_not_found", "nothing of it is kept");
    keep(&gate, &at(COMMIT)).await;
    for absent in [404, 410] {
        lab.heal();
        lab.fault("/lab.example/", Fault::Status(absent), None);
        assert_eq!(latest().await, COMMIT, "{absent}");
    }
    // A tagged version that is kept goes before.
    lab.heal();
    lab.add(at("v0.1.0"));
    keep(&gate, &at("v0.1.0")).await;
    lab.fault("/lab.example/", Fault::Status(404), None);
    eventually("it is looked for again", async || {
        said(&gate.get(LATEST).await) == "v0.1.0"
    })
    .await;
}

/// As go, which finds no matching version then: `@latest` still says what there is, for go to read its go.mod.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_retracts_itself_is_not_the_latest() {
    let lab = Lab::start().await;
    let retracting = "module lab.example/a\n\ngo 1.21\n\nretract [v0.0.0-0, v0.0.1]\n";
    lab.add(at(COMMIT).file("go.mod", retracting));
    let gate = gate(&lab, "off", ANEW).await;
    let latest = "/lab.example/a/@v/latest.info";
    lab.fault(".mod", Fault::Status(503), None);
    assert_eq!(said(&gate.get(latest).await), "upstream_unavailable");
    lab.heal();
    assert_eq!(said(&gate.get(latest).await), "version_not_found");
    assert_eq!(said(&gate.get(LATEST).await), COMMIT);
    let go = Go::new()
        .proxy(&gate.url())
        .sumdb("off")
        .module("module x\n");
    let none = go.run(&["list", "-m", "lab.example/a@latest"]).await;
    assert!(
        !none.ok && none.stderr.contains("no matching versions"),
        "{none:?}"
    );
}

/// Nobody can be asked: then the newest of what is kept is the best that can be said.
#[tokio::test(flavor = "multi_thread")]
async fn in_an_outage_a_kept_commit_is_the_latest() {
    let lab = Lab::start().await;
    lab.add(at(COMMIT));
    let gate = gate(&lab, "off", ANEW).await;
    keep(&gate, &at(COMMIT)).await;
    lab.fault("/@latest", Fault::Status(503), None);
    assert_eq!(said(&gate.get(LATEST).await), COMMIT);
    lab.stop().await;
    assert_eq!(said(&gate.get(LATEST).await), COMMIT);
}

fn retirement(gate: &Modgate, what: &str) {
    let (verb, version) = what.split_once(' ').unwrap();
    let mut command = command();
    command.args([verb, &format!("lab.example/a@{version}"), "--data"]);
    command.arg(gate.data_dir());
    if verb == "retire" {
        command.args(["--reason", "leaks tokens"]);
    }
    assert!(command.output().unwrap().status.success());
}

/// What was said while a version was retired is not said after that: not as fresh, nor as stale.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_retired_any_more_is_back_at_once() {
    let query = "/lab.example/a/@v/0123456789ab.info";
    for (has_latest, asked_before) in [(true, true), (true, false), (false, true), (false, false)] {
        let case = format!("@latest: {has_latest}, asked before: {asked_before}");
        let lab = Lab::start().await;
        for version in ["v1.0.0", "v1.1.0"] {
            lab.add(at(version));
        }
        lab.resolve("lab.example/a", "0123456789ab", "v1.1.0");
        if !has_latest {
            lab.fault("/@latest", Fault::Status(404), None);
        }
        let gate = gate(&lab, "off", "").await;
        let all = async || {
            let list = gate.get(LIST).await.text();
            let (latest, query) = (gate.get(LATEST).await, gate.get(query).await);
            (said(&latest), said(&query), list)
        };
        let of = |latest: &str, query: &str, list: &str| {
            (latest.to_owned(), query.to_owned(), list.to_owned())
        };
        let whole = of("v1.1.0", "v1.1.0", "v1.0.0\nv1.1.0\n");
        let without = of("v1.0.0", "resource_gone", "v1.0.0\n");
        if asked_before {
            assert_eq!(all().await, whole, "{case}");
        }
        for round in 1..=2 {
            retirement(&gate, "retire v1.1.0");
            gate.logged("it answers 410", round).await;
            eventually(&case, async || said(&gate.get(LATEST).await) == without.0).await;
            assert_eq!(all().await, without, "{case}");
            retirement(&gate, "unretire v1.1.0");
            gate.logged("not retired any more", round).await;
            eventually(&case, async || said(&gate.get(LATEST).await) == whole.0).await;
            for _ in 0..3 {
                assert_eq!(all().await, whole, "{case}");
            }
        }
    }
}

/// The latest commit is retired and nothing is tagged: that is said, and the commit before it is as good as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_retired_commit_is_not_the_latest() {
    let lab = Lab::start().await;
    lab.add(at(LATER));
    let gate = gate(&lab, "off", ANEW).await;
    retirement(&gate, &format!("retire {LATER}"));
    eventually("it is retired", async || {
        gate.get(LATEST).await.status == 410
    })
    .await;
    let text = gate.get(LATEST).await.text();
    assert!(text.contains("leaks tokens"), "{text}");
    lab.add(at(COMMIT));
    keep(&gate, &at(COMMIT)).await;
    eventually("what is kept is looked at again", async || {
        said(&gate.get(LATEST).await) == COMMIT
    })
    .await;
}

/// Of what an upstream has withdrawn, only what is kept whole is listed: whoever chooses another one is told that it is not there.
#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_version_is_listed_if_all_of_it_is_kept() {
    for (kept, listed) in [
        (&["mod"][..], false),
        (&["info"], false),
        // A build with a complete go.sum asks no `.info`.
        (&["mod", "zip"], false),
        // `go list -m -u` asks no zip.
        (&["info", "mod"], false),
        (&["info", "mod", "zip"], true),
    ] {
        let lab = Lab::start().await;
        for version in ["v1.0.0", "v1.1.0", "v1.2.0"] {
            lab.add(at(version));
        }
        let gate = gate(&lab, "off", ANEW).await;
        for ending in kept {
            let path = at("v1.2.0").url_path(ending);
            assert_eq!(gate.get(&path).await.status, 200, "{path}");
            let file = gate.data_dir().join("go").join(&path[1..]);
            eventually("it is kept", async || file.exists()).await;
        }
        lab.remove("lab.example/a", "v1.2.0");
        let last = if listed { "v1.2.0" } else { "v1.1.0" };
        let all = format!("v1.0.0\nv1.1.0\n{}", if listed { "v1.2.0\n" } else { "" });
        assert_eq!(gate.get(LIST).await.text(), all, "{kept:?}");
        for query in ["latest", "v1"] {
            let path = format!("/lab.example/a/@v/{query}.info");
            assert_eq!(said(&gate.get(&path).await), last, "{query} {kept:?}");
        }
        let go = Go::new().proxy(&gate.url()).sumdb("off");
        let got = go
            .module("module x\n")
            .run(&["get", "lab.example/a@latest"])
            .await;
        assert!(got.ok && got.stderr.contains(last), "{}", got.stderr);
        // Nor where the module is gone.
        lab.fault("/@v/list", Fault::Status(410), None);
        eventually("what go took is kept", async || {
            gate.get(LIST).await.text() == format!("{last}\n")
        })
        .await;
    }
}
