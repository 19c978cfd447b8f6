//! A full disk: a small file system of its own, in memory. Mounting needs root, or `sudo` without a password.

use testkit::{
    fixture,
    gate::{Modgate, Options},
    lab::Fault,
    small_disk::SmallDisk,
};

use crate::common::{bin, code, kept_zips, module, no_temporary_files, verified_lab};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_survived_and_left_behind() {
    let kept = fixture::big("lab.example/kept", "v1.0.0", 2);
    let big = fixture::big("lab.example/big", "v1.0.0", 4);
    let small = module("small");
    let (lab, sumdb) = verified_lab(&[kept.clone(), big.clone(), small.clone()]).await;
    let disk = SmallDisk::new(16 * MIB);
    let data = disk.path().join("data");
    let options = || Options {
        upstream: Some(lab.url()),
        sumdb: Some(sumdb.key().to_string()),
        data: Some(data.clone()),
        ..Options::default()
    };
    let mut gate = Modgate::start(bin(), options()).await;
    let right = async |gate: &Modgate, module: &fixture::Module| {
        let reply = gate.get(&module.url_path("zip")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.body == module.zip(), "{}: wrong bytes", module.path());
    };
    right(&gate, &kept).await;
    // It is on the disk when it can be asked for by part.
    let part = gate
        .get_with(&kept.url_path("zip"), &[("range", "bytes=0-9")])
        .await;
    assert_eq!(part.status, 206);

    // No room at all: whether upstream says a length or not, it is refused before the first byte.
    disk.fill(0);
    for fault in [Fault::Latency(std::time::Duration::ZERO), Fault::NoLength] {
        lab.fault("/big/", fault, Some(1));
        let full = gate.get(&big.url_path("zip")).await;
        assert_eq!((full.status, &*code(&full)), (507, "storage_full"));
        assert!(!full.header("retry-after").is_empty() && full.text().contains("still served"));
        no_temporary_files(&gate).await;
    }
    // Hits go on, and what is small is served and not kept.
    right(&gate, &kept).await;
    for _ in 0..2 {
        right(&gate, &small).await;
        for ending in ["info", "mod"] {
            assert_eq!(gate.get(&small.url_path(ending)).await.status, 200);
        }
    }
    assert_eq!(kept_zips(&data), 1);
    assert!(lab.count("/small/@v/v1.0.0.zip") == 2);
    let ready = gate.get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("cannot write"), "{}", ready.text());
    assert!(gate.metric("modgate_disk_free_bytes").await < 4096.0);
    gate.logged("could not be kept", 1).await;

    // The disk fills in the middle of a stream: the client sees it break off.
    disk.fill(2 * MIB);
    lab.fault("/big/", Fault::NoLength, Some(1));
    let cut = gate
        .ask(reqwest::Method::GET, &big.url_path("zip"), &[])
        .await;
    assert!(cut.is_err(), "a short success: {:?}", cut.map(|r| r.status));
    no_temporary_files(&gate).await;

    // A start on the full disk serves what is kept.
    disk.fill(0);
    assert!(gate.terminate().await.success());
    let gate = Modgate::start(bin(), options()).await;
    right(&gate, &kept).await;
    assert_eq!(gate.get(&big.url_path("zip")).await.status, 507);

    // Room again: everything is served and kept, with no restart.
    disk.make_room();
    right(&gate, &big).await;
    right(&gate, &small).await;
    lab.stop().await;
    for module in [&big, &small, &kept] {
        let range = [("range", "bytes=0-9")];
        let part = gate.get_with(&module.url_path("zip"), &range).await;
        assert_eq!((part.status, part.body.len()), (206, 10));
    }
    assert_eq!(kept_zips(&data), 3);
    no_temporary_files(&gate).await;
}
