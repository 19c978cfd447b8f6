//! A zip near the limit of 500 MiB: it streams, and costs no memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use testkit::{
    fixture,
    gate::{Modgate, Options},
    lab::Lab,
    sumdb::LabSumDb,
};
use tokio::sync::watch;

use crate::common::{bin, module, no_temporary_files, record};

const MIB: u64 = 1 << 20;

/// Reads a zip as it comes: tells how many bytes came, and gives the SHA-256 of all of them.
async fn read(gate: reqwest::Client, url: String, came: watch::Sender<u64>) -> Vec<u8> {
    let mut reply = gate.get(url).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    let mut digest = Sha256::new();
    while let Some(block) = reply.chunk().await.unwrap() {
        digest.update(&block);
        came.send_modify(|bytes| *bytes += block.len() as u64);
    }
    digest.finalize().to_vec()
}

/// RssAnon is what counts here: heap and stacks. VmRSS has mapped files too, and kept files are sent from mappings of
/// the page cache; those pages are the system's to take back at any moment, and a cgroup does not hold them against
/// the process when memory is short.
#[tokio::test(flavor = "multi_thread")]
async fn a_zip_of_500_mib_streams_to_two_clients_in_32_mib() {
    let huge = fixture::huge("lab.example/huge", "v1.0.0", 499);
    let (lab, sumdb) = (
        Lab::start().await,
        LabSumDb::start("sum.lab.example").await.unwrap(),
    );
    let small = module("small");
    record(&sumdb, &small);
    let own = huge.module();
    sumdb.add(own.path(), own.version(), huge.h1(), &own.go_mod_h1());
    lab.add(small.clone());
    lab.add_huge(&huge);
    lab.pass_sumdb(&sumdb.url());
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some(sumdb.key().to_string()),
        ..Options::default()
    };
    let gate = Arc::new(Modgate::start(bin(), options).await);
    // Whatever is set up once is set up now: clients, tree heads, threads.
    assert_eq!(gate.get(&small.url_path("zip")).await.status, 200);
    assert_eq!(gate.get(&small.url_path("info")).await.status, 200);
    let before = gate.rss_anon_kib();
    let peak = Arc::new(AtomicU64::new(0));
    let sampler = tokio::spawn({
        let (gate, peak) = (Arc::clone(&gate), Arc::clone(&peak));
        async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            loop {
                ticks.tick().await;
                peak.fetch_max(gate.rss_anon_kib(), Ordering::Relaxed);
            }
        }
    });

    let half = lab.hold_mid_body(".zip");
    let url = format!("{}{}", gate.url(), own.url_path("zip"));
    let (mut clients, mut came) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (sender, receiver) = watch::channel(0);
        clients.push(tokio::spawn(read(gate.client(), url.clone(), sender)));
        came.push(receiver);
    }
    // Both have nearly all that upstream has sent, which is one half, before it sends more.
    half.arrived(1).await;
    for came in &mut came {
        came.wait_for(|bytes| *bytes > 240 * MIB).await.unwrap();
    }
    half.release();
    for client in clients {
        let digest = client.await.unwrap();
        assert_eq!(digest, huge.zip_sha256());
    }
    for came in &came {
        assert_eq!(*came.borrow(), huge.zip_bytes());
    }
    assert_eq!(
        lab.count(".zip"),
        2,
        "one fetch for both, one for the small one"
    );
    // And a third from the disk.
    let (sender, _came) = watch::channel(0);
    read(gate.client(), url, sender).await;
    assert_eq!(lab.count(".zip"), 2);
    sampler.abort();
    let rise = peak.load(Ordering::Relaxed).saturating_sub(before);
    println!("RssAnon rose by {rise} KiB from {before} KiB");
    assert!(
        rise <= 32 << 10,
        "RssAnon rose by {rise} KiB from {before} KiB"
    );
    no_temporary_files(&gate).await;
}
