//! A full disk: a small file system of its own, in memory. Mounting needs root, or `sudo` without a password.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use testkit::{
    fixture,
    gate::{Modgate, Options},
    lab::Fault,
};

use crate::common::{bin, code, kept_zips, module, no_temporary_files, verified_lab};

const MIB: u64 = 1 << 20;

/// A mounted file system, unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(bytes: u64) -> SmallDisk {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={bytes},mode=0777");
        run(
            &["mount", "-t", "tmpfs", "-o", &options, "modgate-test"],
            folder.path(),
        );
        SmallDisk(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills it until `left` bytes are free.
    fn fill(&self, left: u64) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.ballast())
            .unwrap();
        while file.write(&[7; 4096]).is_ok_and(|written| written > 0) {}
        let size = file.metadata().unwrap().len();
        file.set_len(size.saturating_sub(left)).unwrap();
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since a gateway that is being killed may still have files open.
        run(&["umount", "--lazy"], self.path());
    }
}

fn run(command: &[&str], folder: &Path) {
    let attempt = |program: &[&str]| {
        Command::new(program[0])
            .args(&program[1..])
            .arg(folder)
            .output()
    };
    let first = attempt(command);
    if first.as_ref().is_ok_and(|output| output.status.success()) {
        return;
    }
    let sudo = attempt(&[&["sudo", "-n"], command].concat());
    assert!(
        sudo.is_ok_and(|output| output.status.success()) || std::thread::panicking(),
        "THIS TEST MUST MOUNT A SMALL FILE SYSTEM AND CANNOT: run it as root, or let `sudo -n mount` work ({first:?})"
    );
}

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
