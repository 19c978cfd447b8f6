//! Chains that end in `direct`: the company's own modules, from its own forge.

use forge::{Fault, Forge, History, Login, change};
use testkit::{
    gate::{Modgate, Options},
    go::Go,
    lab::Lab,
};

use crate::common::{bin, code};

const CI: Login = Login {
    user: "ci",
    secret: "s3cret-of-ci",
};

fn history() -> History {
    let mut history = History::new();
    let first = [
        change::file("go.mod", "module corp.test/lib\n\ngo 1.21\n"),
        change::file("lib.go", "package lib\n\nconst Word = \"one\"\n"),
    ];
    history.commit("main", "one", first);
    history.tag("v1.0.0", "one");
    let second = [change::file("more.go", "package lib\n")];
    history.commit("main", "two", second);
    history
}

/// A gateway whose general chain is the lab, and whose private modules are on the forge.
async fn gateway(forge: &Forge, lab: &Lab, login: bool) -> Modgate {
    let host = forge.https();
    let mut config = format!(
        "private = [\"corp.test/*\"]\n\
         [freshness]\nlist = \"0s\"\nquery = \"0s\"\nstale_while_revalidate = \"0s\"\n\
         [negative]\nabsent = \"0s\"\ntrouble = \"0s\"\n\
         [network]\nca_file = \"{}\"\nca_only = true\n\
         [direct]\nrefs_life = \"0s\"\n\
         [[vcs]]\nprefix = \"corp.test\"\nrepo = \"{host}/{{1}}.git\"\n",
        forge.ca_file().display()
    );
    if login {
        config += &[
            "[[credential]]\nmatch = \"",
            &host,
            "\"\nusername = \"",
            CI.user,
            "\"\npassword = { env = \"FORGE_TOKEN\" }\n",
        ]
        .concat();
    }
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some("off".to_owned()),
        config: Some(config),
        env: vec![("FORGE_TOKEN".to_owned(), CI.secret.to_owned())],
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

fn go(gate: &Modgate) -> Go {
    Go::new()
        .proxy(&gate.url())
        .env("GONOSUMDB", "corp.test/*")
        .module("module test.example/app\n\ngo 1.21\n")
}

const ZIP: &str = "/corp.test/lib/@v/v1.0.0.zip";

#[tokio::test(flavor = "multi_thread")]
async fn private_modules_come_from_their_forge_and_from_nowhere_else() {
    let (forge, lab) = (Forge::start().await, Lab::start().await);
    forge.add("lib", &history());
    forge.guard("127.0.0.1/lib.git", CI);
    let gate = gateway(&forge, &lab, true).await;

    let client = go(&gate).file(
        "main.go",
        "package main\n\nimport \"corp.test/lib\"\n\nfunc main() { println(lib.Word) }\n",
    );
    let got = client.run(&["get", "corp.test/lib@v1.0.0"]).await;
    assert!(got.ok, "{}", got.stderr);
    let built = client.run(&["run", "."]).await;
    assert!(built.ok && built.stderr.contains("one"), "{}", built.stderr);
    let listed = client
        .run(&["list", "-m", "-versions", "corp.test/lib"])
        .await;
    assert_eq!(listed.stdout.trim(), "corp.test/lib v1.0.0");
    let branch = client.run(&["list", "-m", "corp.test/lib@main"]).await;
    assert!(branch.stdout.contains("v1.0.1-0."), "{branch:?}");
    // Absent is absent, and nobody else is asked.
    let absent = gate.get("/corp.test/lib/@v/v1.9.9.info").await;
    assert_eq!(
        (absent.status, code(&absent).as_str()),
        (404, "version_not_found")
    );
    assert_eq!(gate.get("/corp.test/none/@v/list").await.status, 404);

    assert!(
        lab.requests()
            .iter()
            .all(|request| !format!("{request:?}").contains("corp.test"))
    );
    assert!(!gate.logs().contains(CI.secret));
    assert!(!gate.get("/metrics").await.text().contains(CI.secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_served_once_stays_whatever_happens_to_the_repository() {
    let (forge, lab) = (Forge::start().await, Lab::start().await);
    forge.add("lib", &history());
    let gate = gateway(&forge, &lab, false).await;
    let first = gate.get(ZIP).await;
    assert_eq!(first.status, 200, "{}", first.text());
    for part in ["info", "mod"] {
        let path = format!("/corp.test/lib/@v/v1.0.0.{part}");
        assert_eq!(gate.get(&path).await.status, 200);
    }
    let info = gate.get("/corp.test/lib/@v/v1.0.0.info").await;

    // Its tag is moved by force.
    let mut moved = history();
    moved.commit(
        "main",
        "evil",
        [change::file(
            "lib.go",
            "package lib\n\nconst Word = \"evil\"\n",
        )],
    );
    moved.tag("v1.0.0", "evil");
    std::fs::remove_dir_all(forge.repository("lib")).unwrap();
    forge.add("lib", &moved);
    assert_eq!(gate.get("/corp.test/lib/@v/list").await.text(), "v1.0.0\n");
    assert_eq!(gate.get(ZIP).await.body, first.body);
    // A version is of one commit, whoever names it.
    assert_eq!(gate.get("/corp.test/lib/@latest").await.text(), info.text());
    // What is on the new commit has a name too: not that of the version, whose files are others.
    let tip = gate.get("/corp.test/lib/@v/main.info").await.text();
    assert!(tip.contains("\"Version\":\"v0.0.0-"), "{tip}");
    let client = go(&gate);
    let got = client
        .run(&["mod", "download", "-json", "corp.test/lib@main"])
        .await;
    assert!(got.ok, "{}", got.stderr);
    let version = tip.split('"').nth(3).unwrap();
    let evil = gate.get(&format!("/corp.test/lib/@v/{version}.zip")).await;
    assert_eq!(evil.status, 200, "{}", evil.text());
    assert_ne!(evil.body, first.body);
    let moved = gate
        .metric("modgate_incidents_total{result=\"moved_tag\"")
        .await;
    assert!((moved - 1.0).abs() < 0.1, "{moved}");
    gate.logged("a tag moved", 1).await;

    // It vanishes.
    forge.forget("127.0.0.1/lib.git");
    let client = go(&gate);
    let got = client
        .run(&["mod", "download", "corp.test/lib@v1.0.0"])
        .await;
    assert!(got.ok, "{}", got.stderr);
    assert_eq!(gate.get(ZIP).await.body, first.body);
    assert_eq!(gate.get("/corp.test/lib/@v/list").await.text(), "v1.0.0\n");
}

/// A go.mod that go cannot read is no reason not to download the version: go takes it from version control, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_go_mod_that_does_not_parse_is_served_as_it_is() {
    let (forge, lab) = (Forge::start().await, Lab::start().await);
    let odd = [
        "module corp.test/lib\ngo foo\n",
        "module corp.test/lib\ngo \"1.24\"\n",
        "module corp.test/lib\ngo v1.24\n",
        "module corp.test/lib\ngo 1\n",
        "module corp.test/lib\ngo 1.21\ngo 1.20\n",
        "module corp.test/lib\nrequire (\n",
        "module corp.test/lib\nmodule corp.test/lib\n",
        "module `corp.test/lib`\n",
        "module corp.test/lib\n\0\n",
        "<!-- no page -->\nmodule corp.test/lib\n",
    ];
    let mut history = history();
    for (n, go_mod) in odd.iter().enumerate() {
        let name = format!("odd {n}");
        history.commit("main", &name, [change::file("go.mod", go_mod)]);
        history.tag(&format!("v1.{}.0", n + 1), &name);
    }
    let other_major = [change::file("go.mod", "module corp.test/lib/v2\ngo foo\n")];
    history.commit("main", "other", other_major);
    history.tag("v1.99.0", "other");
    forge.add("lib", &history);
    let gate = gateway(&forge, &lab, false).await;
    let client = go(&gate);
    for (n, go_mod) in odd.iter().enumerate() {
        let version = format!("v1.{}.0", n + 1);
        let got = client
            .run(&[
                "mod",
                "download",
                "-json",
                &format!("corp.test/lib@{version}"),
            ])
            .await;
        assert!(got.ok, "{go_mod}: {}", got.stdout);
        for ending in ["info", "mod", "zip"] {
            let reply = gate
                .get(&format!("/corp.test/lib/@v/{version}.{ending}"))
                .await;
            assert_eq!(reply.status, 200, "{go_mod} {ending}: {}", reply.text());
            if ending == "mod" {
                assert_eq!(reply.body, go_mod.as_bytes());
            }
        }
    }
    for ending in ["info", "mod", "zip"] {
        let reply = gate
            .get(&format!("/corp.test/lib/@v/v1.99.0.{ending}"))
            .await;
        let got = (reply.status, code(&reply));
        assert_eq!(got, (404, "version_not_found".to_owned()), "{ending}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_leaves_out_is_not_absent() {
    let (forge, lab) = (Forge::start().await, Lab::start().await);
    forge.add("lib", &history());
    let honest = gateway(&forge, &lab, false).await;
    let gate = gateway(&forge, &lab, false).await;
    let repository = "127.0.0.1/lib.git";
    let path = |part: &str| format!("/corp.test/lib/@v/{part}");
    let parts = ["v1.0.0.info", "v1.0.0.mod", "v1.0.0.zip", "main.info"];
    for filter in ["blob:none", "blob:limit=30", "tree:0"] {
        forge.fault(repository, Some(Fault::Filter(filter)));
        for part in parts {
            let got = gate.get(&path(part)).await;
            let said = (got.status, code(&got));
            assert_eq!(said.0, 502, "{filter} {part}: {}", got.text());
            assert_eq!(said.1, "upstream_unavailable", "{filter} {part}");
            assert!(
                got.text().contains("did not send all objects"),
                "{}",
                got.text()
            );
        }
    }
    // Nothing of it was kept.
    forge.fault(repository, None);
    for part in parts {
        let (got, want) = (gate.get(&path(part)).await, honest.get(&path(part)).await);
        assert_eq!((got.status, want.status), (200, 200), "{part}");
        assert_eq!(got.body, want.body, "{part}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_files_of_a_version_are_of_one_commit() {
    let (forge, lab) = (Forge::start().await, Lab::start().await);
    let move_tag = |text: &str| {
        let mut moved = history();
        let go_mod = format!("module corp.test/lib\n\ngo 1.21\n\n// {text}\n");
        moved.commit("main", text, [change::file("go.mod", go_mod)]);
        moved.tag("v1.0.0", text);
        let _ = std::fs::remove_dir_all(forge.repository("lib"));
        forge.add("lib", &moved);
    };
    let has = |reply: &testkit::gate::Reply, text: &str| {
        reply
            .body
            .windows(text.len())
            .any(|at| at == text.as_bytes())
    };
    // What was told in `.info` decides, also where `.mod` is asked for first and alone.
    for (first, rest) in [("info", ["mod", "zip"]), ("mod", ["info", "zip"])] {
        let gate = gateway(&forge, &lab, false).await;
        let path = |part: &str| format!("/corp.test/lib/@v/v1.0.0.{part}");
        move_tag("honest");
        let got = gate.get(&path(first)).await;
        assert_eq!(got.status, 200, "{}", got.text());
        let hash = gate.get(&path("info")).await.text();
        move_tag("evil");
        for part in rest {
            let got = gate.get(&path(part)).await;
            assert_eq!(got.status, 200, "{part}: {}", got.text());
        }
        assert_eq!(gate.get(&path("info")).await.text(), hash);
        let go_mod = gate.get(&path("mod")).await;
        assert!(has(&go_mod, "// honest"), "{}", go_mod.text());
        let client = go(&gate);
        let got = client
            .run(&["mod", "download", "-json", "corp.test/lib@v1.0.0"])
            .await;
        assert!(got.ok, "{}", got.stdout);
        let inside = client.mod_cache().join("corp.test/lib@v1.0.0/go.mod");
        let inside = std::fs::read_to_string(inside).unwrap();
        assert_eq!(inside, go_mod.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_gone_is_a_refusal_and_no_other_commit() {
    let (forge, lab) = (Forge::start().await, Lab::start().await);
    forge.add("lib", &history());
    let gate = gateway(&forge, &lab, false).await;
    assert_eq!(gate.get("/corp.test/lib/@v/v1.0.0.info").await.status, 200);
    // The history is another one, and the mirror is gone too.
    let mut other = History::new();
    other.commit(
        "main",
        "evil",
        [change::file("go.mod", "module corp.test/lib\n")],
    );
    other.tag("v1.0.0", "evil");
    std::fs::remove_dir_all(forge.repository("lib")).unwrap();
    forge.add("lib", &other);
    std::fs::remove_dir_all(gate.data_dir().join("vcs")).unwrap();
    for part in ["mod", "zip"] {
        let refused = gate.get(&format!("/corp.test/lib/@v/v1.0.0.{part}")).await;
        let got = (refused.status, code(&refused));
        assert_eq!(
            got,
            (403, "direct_refused".to_owned()),
            "{}",
            refused.text()
        );
        assert!(refused.text().contains("moved"), "{}", refused.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_login_is_said_and_is_no_absence() {
    let (forge, lab) = (Forge::start().await, Lab::start().await);
    forge.add("lib", &history());
    forge.guard("127.0.0.1/lib.git", CI);
    let gate = gateway(&forge, &lab, false).await;
    for what in ["@v/list", "@v/v1.0.0.info", "@latest", "@v/v1.0.0.zip"] {
        let refused = gate.get(&format!("/corp.test/lib/{what}")).await;
        let code = code(&refused);
        let got = (refused.status, code.as_str());
        assert_eq!(
            got,
            (502, "repository_unauthorized"),
            "{what}: {}",
            refused.text()
        );
        assert!(refused.text().contains("127.0.0.1"), "{}", refused.text());
    }
}
