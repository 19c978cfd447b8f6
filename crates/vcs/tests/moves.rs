//! Repositories that move: by the page of the module, or by a redirect of the forge.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod common;

use common::{Lab, MODULE, URL, add, info, list, small, zip};
use egress::{Credentials, Egress};
use forge::{Fault, change};
use std::time::Duration;
use vcs::{Direct, ErrorKind};

/// Another address of the same repository, or one that went on from it.
const NEW: &str = "git.golden.test/renamed.git";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_names_another_repository() {
    let lab = Lab::start().await;
    add(&lab, &small());
    let mut settings = lab.settings();
    settings.refs_life = Duration::ZERO;
    // Pages are asked again as soon as that may help.
    settings.discovery_negative_life = Duration::ZERO;
    let direct = Direct::new(settings, Egress::new(lab.network(), Credentials::default()));
    let before = zip(&direct, MODULE, "v1.0.0").await.unwrap();
    let mut grown = small();
    grown.commit("main", "four", [change::file("b.go", "package a\n")]);
    grown.tag("v1.2.0", "four");
    lab.forge.add("renamed", &grown);
    lab.forge.import(MODULE, &format!("git https://{NEW}"));
    // The old one is as it was: what it has not is looked for where the module is now.
    info(&direct, MODULE, "v1.2.0").await.unwrap();
    assert_eq!(list(&direct, MODULE).await.unwrap().len(), 3);
    assert_eq!(zip(&direct, MODULE, "v1.0.0").await.unwrap(), before);
    zip(&direct, MODULE, "v1.2.0").await.unwrap();
    // Back, and what was there is gone or out of order.
    lab.forge.import(MODULE, &format!("git https://{URL}"));
    for fault in [Fault::Status(404), Fault::Status(401), Fault::Status(503)] {
        lab.forge.fault(NEW, Some(fault.clone()));
        assert_eq!(list(&direct, MODULE).await.unwrap().len(), 2, "{fault:?}");
        lab.forge.fault(NEW, None);
        lab.forge.import(MODULE, &format!("git https://{NEW}"));
        info(&direct, MODULE, "v1.2.0").await.unwrap();
        lab.forge.import(MODULE, &format!("git https://{URL}"));
    }
    // Both are gone.
    lab.forge.forget(URL);
    lab.forge.forget(NEW);
    let error = list(&direct, MODULE).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forge_redirects_what_was_renamed() {
    let lab = Lab::start().await;
    let built = add(&lab, &small());
    let mut settings = lab.settings();
    settings.refs_life = Duration::ZERO;
    let direct = Direct::new(settings, Egress::new(lab.network(), Credentials::default()));
    let before = zip(&direct, MODULE, "v1.0.0").await.unwrap();
    let mut grown = small();
    grown.commit("main", "four", [change::file("b.go", "package a\n")]);
    grown.tag("v1.2.0", "four");
    lab.forge.add("renamed", &grown);
    let to = format!("https://{NEW}");
    lab.forge.fault(URL, Some(Fault::Redirect(to)));
    assert_eq!(list(&direct, MODULE).await.unwrap().len(), 3);
    assert_eq!(zip(&direct, MODULE, "v1.0.0").await.unwrap(), before);
    let said = info(&direct, MODULE, "v1.2.0").await.unwrap();
    // Its name stays, as for go.
    let json = String::from_utf8(said.info_json().to_vec()).unwrap();
    assert!(json.contains(&format!("https://{URL}")), "{json}");
    zip(&direct, MODULE, "v1.2.0").await.unwrap();
    let main = info(&direct, MODULE, "main").await.unwrap();
    assert_eq!(main.version.as_str(), "v1.2.0");
    info(&direct, MODULE, built.hash("two")).await.unwrap();
    lab.forge.fault(NEW, Some(Fault::Status(503)));
    let error = list(&direct, MODULE).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
    lab.forge.fault(NEW, Some(Fault::Status(404)));
    let error = list(&direct, MODULE).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_is_converted_to_other_hashes() {
    let lab = Lab::start().await;
    let mut settings = lab.settings();
    settings.refs_life = Duration::ZERO;
    let direct = Direct::new(settings, Egress::new(lab.network(), Credentials::default()));
    for history in [small(), small().sha256(), small()] {
        let folder = lab.forge.repository("small");
        if folder.exists() {
            std::fs::remove_dir_all(folder).unwrap();
        }
        let built = add(&lab, &history);
        for (query, commit) in [("v1.0.0", "one"), ("main", "three")] {
            let said = info(&direct, MODULE, query).await.unwrap();
            assert_eq!(said.origin.unwrap().hash, built.hash(commit), "{query}");
        }
        zip(&direct, MODULE, "v1.1.0").await.unwrap();
    }
}
