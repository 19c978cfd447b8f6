//! Clocks that run backwards, hashes that are no commit's, and names that look like hashes or versions.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod common;

use std::process::Command;
use std::sync::Arc;

use common::{Lab, MODULE, URL, add, info, small, zip};
use egress::{Credentials, Egress};
use forge::{Fault, History, change};
use vcs::{Direct, ErrorKind};

/// What is older than what came before it hides no tag.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_run_backwards() {
    let lab = Lab::start().await;
    let mut history = History::new();
    let first = change::file("go.mod", format!("module {MODULE}\n"));
    history.commit("main", "base", [first]);
    history.commit("main", "high", [change::file("a.go", "package a\n")]);
    history.tag("v1.1.0", "high");
    history.commit("main", "top", []);
    history.after(-20_000);
    for at in 0..6 {
        history.commit("main", &format!("old{at}"), []);
        history.after(-1000);
    }
    history.tag("v1.0.0", "old5");
    history.commit("main", "x", []);
    history.after(-1000);
    history.commit("main", "y", []);
    let built = add(&lab, &history);
    let direct = lab.direct();
    for name in ["x", "y"] {
        let said = info(&direct, MODULE, built.hash(name)).await.unwrap();
        let want = built.fill(&format!("v1.1.1-0.{{{name}:p}}"));
        assert_eq!(said.version.as_str(), want);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hashes_that_are_no_commits_and_names_that_look_like_hashes() {
    let lab = Lab::start().await;
    let mut history = History::new();
    let first = change::file("go.mod", format!("module {MODULE}\n"));
    history.commit("main", "one", [first]);
    history.annotated("v1.0.0", "one");
    history.commit("main", "two", [change::file("a.go", "package a\n")]);
    history.annotated("other", "two");
    history.commit("main", "three", [change::file("a.go", "package b\n")]);
    let built = add(&lab, &history);
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(&built.folder).args(args);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{args:?} {done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    let of_tag = |tag: &str| git(&["rev-parse", tag]);
    let (version, other) = (of_tag("v1.0.0"), of_tag("other"));
    let second = built.fill("v1.0.1-0.{two:p}");
    // A branch that is named like one commit and leads to another, and a tag that only looks like a version.
    let short = built.fill("{two:12}");
    let false_tag = built.fill("v1.0.1-0.20200101000000-{two:12}+meta");
    for (name, to) in [
        (format!("refs/heads/{short}"), "three"),
        (format!("refs/tags/{false_tag}"), "two"),
    ] {
        git(&["update-ref", &name, built.hash(to)]);
    }
    let direct = lab.direct();
    for (query, want) in [
        (&*version, "v1.0.0"),
        (&version[..12], "v1.0.0"),
        (&version[..7], "v1.0.0"),
        (&*other, &*second),
        (&other[..10], &*second),
        (built.hash("two"), &*second),
        (&*second, &*second),
    ] {
        let said = info(&direct, MODULE, query).await.unwrap();
        assert_eq!(said.version.as_str(), want, "{query}");
    }
    let truth = zip(&direct, MODULE, &second).await.unwrap();
    assert!(!truth.is_empty());
    let plus = format!("{second}+meta");
    let said = info(&direct, MODULE, &plus).await.unwrap();
    assert_eq!(said.version.as_str(), second);
    let error = info(&direct, MODULE, &false_tag).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error:?}");
    let tree = of_tag("HEAD^{tree}");
    for none in [&*tree, &tree[..12]] {
        let error = info(&direct, MODULE, none).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{none}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_tell_what_annotated_tags_are_about() {
    let lab = Lab::start().await;
    let mut history = small();
    history.annotated("v1.1.1", "two");
    history.annotated("v1.2.0", "three");
    history.commit("main", "four", [change::file("b.go", "package a\n")]);
    history.reference("refs/heads/tagged", "three");
    let built = add(&lab, &history);
    let three = built.hash("three");
    let told = async |direct: &Arc<Direct>| {
        let mut told = Vec::new();
        for query in ["v1.1.1", "v1.2.0", "latest", "main", "tagged", three] {
            let said = info(direct, MODULE, query).await.unwrap();
            told.push((said.version, said.time));
        }
        (told, zip(direct, MODULE, "v1.2.0").await.unwrap())
    };
    let truth = told(&lab.direct()).await;
    lab.forge.fault(URL, Some(Fault::Unpeeled));
    let mut settings = lab.settings();
    settings.folder = lab.folder.path().join("other");
    let direct = Direct::new(settings, Egress::new(lab.network(), Credentials::default()));
    assert_eq!(told(&direct).await, truth);
}
