//! Repositories over ssh.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Lab, info, list, small, zip};
use egress::Kind as Credential;
use egress::{Credentials, Egress, NetworkSettings};
use tokio::net::{TcpListener, TcpStream};
use vcs::discover::{Kind, Mapping};
use vcs::{Direct, ErrorKind};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_too_many_at_its_door_is_asked_again() {
    let lab = Lab::start().await;
    lab.forge.add("small", &small());
    let (user, server) = ("ssh://", lab.forge.ssh());
    let (name, server) = server.trim_start_matches(user).split_once('@').unwrap();
    // It closes some connections, as sshd does by MaxStartups, and passes the others on.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = listener.local_addr().unwrap();
    let closes = Arc::new(AtomicUsize::new(2));
    let (left, to) = (Arc::clone(&closes), server.to_owned());
    tokio::spawn(async move {
        loop {
            let (mut came, _) = listener.accept().await.unwrap();
            let less = |left: usize| left.checked_sub(1);
            if left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
                .is_ok()
            {
                continue;
            }
            let to = to.clone();
            tokio::spawn(async move {
                let mut on = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut came, &mut on).await;
            });
        }
    });
    let known = fs::read_to_string(lab.forge.known_hosts()).unwrap();
    let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
    let known = known.replace(&port(server), &door.port().to_string());
    let known_hosts = lab.folder.path().join("known_hosts");
    fs::write(&known_hosts, known).unwrap();
    let mut settings = lab.settings();
    settings.mappings = vec![Mapping {
        prefix: "corp.test".to_owned(),
        repo: format!("ssh://{name}@{door}/{{1}}.git"),
        vcs: Kind::Git,
        subdir: String::new(),
    }];
    settings.refs_life = std::time::Duration::ZERO;
    let network = NetworkSettings {
        internal_hosts: vec!["127.0.0.1".to_owned()],
        ..lab.without_proxy()
    };
    let mut credential = lab.ssh_credential();
    credential.matches = format!("ssh://{door}").parse().unwrap();
    if let Credential::Ssh(key) = &mut credential.kind {
        key.known_hosts = Some(known_hosts);
    }
    let direct = Direct::new(
        settings,
        Egress::new(network, Credentials::new(vec![credential])),
    );
    assert_eq!(list(&direct, "corp.test/small").await.unwrap().len(), 2);
    assert_eq!(closes.load(Ordering::SeqCst), 0);
    // Not for ever.
    closes.store(100, Ordering::SeqCst);
    let error = list(&direct, "corp.test/small").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
    assert!(error.hint.unwrap().contains("MaxStartups"));
    assert_eq!(closes.load(Ordering::SeqCst), 97);
}
