//! Repositories over ssh.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod common;

use std::fmt::Write as _;
use std::fs;

use common::{Lab, info, list, small, zip};
use egress::{Credentials, Egress, NetworkSettings};
use vcs::Direct;
use vcs::discover::{Kind, Mapping};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_thousand_tags() {
    let lab = Lab::start().await;
    let built = lab.forge.add("small", &small());
    let mut text = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
    let mut tags: Vec<String> = (0..30_000).map(|at| format!("v2.0.{at}")).collect();
    tags.push("v0.9.0".to_owned());
    tags.sort();
    for tag in tags {
        writeln!(text, "{} refs/tags/{tag}", built.hash("one")).unwrap();
    }
    fs::write(built.folder.join("packed-refs"), text).unwrap();
    let mut settings = lab.settings();
    settings.mappings = vec![Mapping {
        prefix: "corp.test".to_owned(),
        repo: format!("{}/{{1}}.git", lab.forge.ssh()),
        vcs: Kind::Git,
        subdir: String::new(),
    }];
    let network = NetworkSettings {
        internal_hosts: vec!["127.0.0.1".to_owned()],
        ..lab.without_proxy()
    };
    let credentials = Credentials::new(vec![lab.ssh_credential()]);
    let direct = Direct::new(settings, Egress::new(network, credentials));
    let (old, new) = ("corp.test/small", "corp.test/small/v2");
    // The go.mod of these is of no major version.
    assert_eq!(list(&direct, old).await.unwrap().len(), 3);
    assert_eq!(list(&direct, new).await.unwrap().len(), 30_000);
    for version in ["v0.9.0", "v1.1.0"] {
        info(&direct, old, version).await.unwrap();
        zip(&direct, old, version).await.unwrap();
    }
    let main = info(&direct, old, "main").await.unwrap();
    assert_eq!(main.version.as_str(), built.fill("v1.1.1-0.{three:p}"));
    let two = info(&direct, old, built.hash("two")).await.unwrap();
    assert_eq!(two.version.as_str(), "v1.1.0");
}
