//! The forge is what it says: hashes that never change, and servers that the real `go` and `git` can use.

use std::path::Path;
use std::process::Command;

use forge::truth::{Go, Questions};
use forge::{Fault, Forge, History, Login, catalog, change};

fn small() -> History {
    let mut history = History::new();
    history.commit("main", "one", [change::file("go.mod", "module x.test\n")]);
    history.tag("v1.0.0", "one");
    history
}

#[tokio::test]
async fn hashes_never_change() {
    let forge = Forge::start().await;
    let built = forge.add("small", &small());
    assert_eq!(
        built.fill("{one:12} {one:t}"),
        "0c3d9cdb57e1 20240101010000"
    );
    let mut all = catalog::all().into_iter();
    let ambiguous = all.find(|entry| entry.name == "ambiguous").unwrap();
    let (built, _) = ambiguous.install(&forge);
    assert_eq!(built.fill("{left:7}"), built.fill("{right:7}"));
    assert_ne!(built.hash("left"), built.hash("right"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_serves() {
    let forge = Forge::start().await;
    forge.add("small", &small());
    let name = "git.golden.test";
    forge.import(
        "golden.test/over/https",
        &format!("git https://{name}/small.git"),
    );
    forge.import(
        "golden.test/over/ssh",
        &format!("git {}/small.git", forge.ssh()),
    );
    forge.import(
        "plain.golden.test/over",
        &format!("git {}/small.git", forge.http()),
    );
    let ask = |module: &str| (module.to_owned(), vec!["v1.0.0".to_owned()]);
    let modules = [
        "golden.test/over/https",
        "golden.test/over/ssh",
        "plain.golden.test/over",
    ];
    let questions = Questions {
        modules: modules.map(ask).to_vec(),
        ..Questions::default()
    };
    let truth = Go::new(&forge).ask(&questions).await;
    assert_eq!(truth.revisions.len(), 3);
    for (asked, said) in &truth.revisions {
        assert_eq!(said.as_ref().unwrap().version, "v1.0.0", "{asked:?}");
        assert!(truth.artifacts[asked].sum.is_some(), "{asked:?}");
    }
    assert!(
        forge
            .requests()
            .iter()
            .any(|line| line.starts_with("proxy CONNECT golden.test:443"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guards_keep_strangers_out() {
    let forge = Forge::start().await;
    forge.add("small", &small());
    let login = Login {
        user: "ci",
        secret: "s3cret",
    };
    forge.guard("127.0.0.1/small.git", login);
    let remote = |url: &str, more: &[&str]| {
        let mut git = Command::new("git");
        for setting in more {
            git.args(["-c", setting]);
        }
        git.args(["ls-remote", url]);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null");
        git.env("GIT_TERMINAL_PROMPT", "0");
        git.env("GIT_SSL_CAINFO", forge.ca_file());
        git.output().unwrap().status.success()
    };
    let plain = format!("{}/small.git", forge.https());
    let url = plain.replace("//", "//ci:s3cret@");
    assert!(remote(&url, &[]));
    assert!(!remote(&plain, &[]));
    assert!(!remote(&plain.replace("//", "//ci:wrong@"), &[]));
    let through = "https://git.golden.test/small.git";
    let proxy = format!("http.proxy={}", forge.guarded_proxy());
    assert!(!remote(through, &[&proxy]));
    assert!(remote(
        through,
        &[&proxy.replace("//", "//outbound:pr0xy-secret@")]
    ));
    let ssh = |key: &Path| {
        let known_hosts = forge.known_hosts().display();
        format!(
            "core.sshCommand=ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile={known_hosts} -i {}",
            key.display()
        )
    };
    let url = format!("{}/small.git", forge.ssh());
    assert!(remote(&url, &[&ssh(forge.ssh_key())]));
    assert!(!remote(&url, &[&ssh(forge.ssh_stranger())]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_happen() {
    let forge = Forge::start().await;
    forge.add("small", &small());
    let url = format!("{}/small.git", forge.http());
    let folder = forge.repository("clone");
    let git = |args: &[&str]| {
        let mut git = tokio::process::Command::new("git");
        git.args(args).kill_on_drop(true);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null");
        git
    };
    let folder = folder.to_str().unwrap();
    assert!(
        git(&["init", "-q", "--bare", folder])
            .status()
            .await
            .unwrap()
            .success()
    );
    let fetch = || git(&["-C", folder, "fetch", "-q", &url, "main"]);
    let set = |fault| forge.fault("127.0.0.1/small.git", fault);
    for fault in [Fault::CutPack(0), Fault::CutPack(40), Fault::Status(500)] {
        set(Some(fault.clone()));
        assert!(!fetch().status().await.unwrap().success(), "{fault:?}");
    }
    set(Some(Fault::StallPack));
    let mut stalled = fetch().spawn().unwrap();
    forge
        .asked("POST http://127.0.0.1/small.git/git-upload-pack")
        .await;
    assert!(stalled.try_wait().unwrap().is_none());
    stalled.kill().await.unwrap();
    set(Some(Fault::ManyRefs(10)));
    let listed = git(&["ls-remote", &url]).output().await.unwrap();
    assert_eq!(
        String::from_utf8(listed.stdout).unwrap().lines().count(),
        10
    );
    let elsewhere = url.replace("127.0.0.1", "localhost");
    set(Some(Fault::Redirect(elsewhere)));
    assert!(git(&["ls-remote", &url]).status().await.unwrap().success());
    assert!(
        forge
            .requests()
            .iter()
            .any(|line| line.contains("//localhost/small.git/info/refs"))
    );
    set(None);
    assert!(fetch().status().await.unwrap().success());
}
