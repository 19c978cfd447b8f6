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
use tokio::{sync::watch, task::JoinHandle};

use crate::common::{bin, gate, module, no_temporary_files, record, verified_lab};

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

/// Watches how much memory a gateway has, from now on.
struct Memory {
    before: (u64, u64),
    peak: Arc<(AtomicU64, AtomicU64)>,
    sampler: JoinHandle<()>,
}

impl Memory {
    fn watch(gate: &Arc<Modgate>) -> Memory {
        let peak = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let sampler = tokio::spawn({
            let (gate, peak) = (Arc::clone(gate), Arc::clone(&peak));
            async move {
                let mut ticks = tokio::time::interval(Duration::from_millis(5));
                loop {
                    ticks.tick().await;
                    peak.0.fetch_max(gate.rss_anon_kib(), Ordering::Relaxed);
                    peak.1.fetch_max(gate.rss_kib(), Ordering::Relaxed);
                }
            }
        });
        let before = (gate.rss_anon_kib(), gate.rss_kib());
        Memory {
            before,
            peak,
            sampler,
        }
    }

    /// How much RssAnon and VmRSS rose at most, in KiB.
    fn rise(self) -> (u64, u64) {
        self.sampler.abort();
        let rise = |peak: &AtomicU64, before| peak.load(Ordering::Relaxed).saturating_sub(before);
        let (anon, all) = (
            rise(&self.peak.0, self.before.0),
            rise(&self.peak.1, self.before.1),
        );
        println!(
            "RssAnon rose by {anon} KiB from {} KiB, VmRSS by {all} KiB from {} KiB",
            self.before.0, self.before.1
        );
        (anon, all)
    }
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
    let memory = Memory::watch(&gate);

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
    let (anon, all) = memory.rise();
    assert!(anon <= 32 << 10, "RssAnon rose by {anon} KiB");
    // Windows of the file that is sent are mapped, a few per client, and never the whole of it.
    assert!(all <= 32 << 10, "VmRSS rose by {all} KiB");
    no_temporary_files(&gate).await;
}

/// A hundred thousand files in one zip: their names are what costs memory, and only while the zip is checked.
#[tokio::test(flavor = "multi_thread")]
async fn a_zip_of_a_hundred_thousand_files_is_checked_in_48_mib() {
    let mut many = module("many");
    for n in 0..100_000 {
        many = many.file(
            &format!("dir{}/sub{}/file{n}.go", n % 100, n % 1000),
            "package a\n",
        );
    }
    let (lab, sumdb) = verified_lab(&[module("small"), many.clone()]).await;
    let gate = Arc::new(gate(&lab, &sumdb.key().to_string(), "").await);
    assert_eq!(gate.get(&module("small").url_path("zip")).await.status, 200);
    let memory = Memory::watch(&gate);
    let reply = gate.get(&many.url_path("zip")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.body == many.zip());
    let (anon, _) = memory.rise();
    assert!(anon <= 48 << 10, "RssAnon rose by {anon} KiB");
}
