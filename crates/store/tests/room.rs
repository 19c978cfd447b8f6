//! Room on the disk tier, over a real S3 server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{fs, time::Duration};

use common::*;
use store::{DiskSettings, Found, TiersSettings};
use tempfile::TempDir;
use testkit::services::S3;

const FILE: usize = 100_000;

fn bounded(s3: &S3) -> TiersSettings {
    TiersSettings {
        disk: Some(DiskSettings {
            max_size: Some(1_000_000),
            ..DiskSettings::default()
        }),
        ..over(s3)
    }
}

fn at(version: usize) -> String {
    format!("go/example.com/a/@v/v1.{version}.0.zip")
}

fn on_disk(running: &Running) -> Vec<usize> {
    let there = |version: &usize| running.folder.path().join(at(*version)).exists();
    (0..200).filter(there).collect()
}

/// Keeps one and waits until there is room again.
async fn keep_one(running: &Running, version: usize) {
    keep(
        running,
        &at(version),
        &bytes(FILE, u8::try_from(version).unwrap()),
    )
    .await;
    until(20, "room", async || {
        on_disk(running).len() * FILE <= 1_000_000
    })
    .await;
}

#[tokio::test]
async fn a_scan_pushes_out_nothing_that_is_used_and_nothing_is_lost() {
    let s3 = S3::start().await;
    let tiers = running(&bounded(&s3));
    for version in 0..5 {
        keep_one(&tiers, version).await;
        kept(&tiers, &at(version)).await;
    }
    for version in 5..60 {
        keep_one(&tiers, version).await;
    }
    let left = on_disk(&tiers);
    assert!(
        left.starts_with(&[0, 1, 2, 3, 4]),
        "what was used stays: {left:?}"
    );
    assert!(left.len() <= 10 && left.len() > 5, "{left:?}");
    assert!(
        left.contains(&59),
        "the newest of the others stays: {left:?}"
    );
    let snapshot = tiers.snapshot();
    assert_eq!(snapshot.evicted, 60 - left.len() as u64);
    assert_eq!(snapshot.evicted_bytes, snapshot.evicted * FILE as u64);
    for version in 0..60 {
        let body = kept(&tiers, &at(version)).await;
        assert_eq!(body, bytes(FILE, u8::try_from(version).unwrap()));
    }
}

#[tokio::test]
async fn what_the_storage_lacks_is_given_to_it_first_and_never_leaves_without() {
    let mut s3 = S3::start().await;
    let folder = TempDir::new().unwrap();
    {
        // From the time before there was object storage, and more than the bound.
        let alone = running_in(&TiersSettings::default(), TempDir::new().unwrap());
        for version in 0..20 {
            keep(
                &alone,
                &at(version),
                &bytes(FILE, u8::try_from(version).unwrap()),
            )
            .await;
        }
        fs::rename(alone.folder.path().join("go"), folder.path().join("go")).unwrap();
    }
    s3.kill();
    let tiers = running_in(&bounded(&s3), folder);
    until(20, "it was tried", async || {
        tiers.snapshot().tiers[0].errors > 0
    })
    .await;
    assert_eq!(on_disk(&tiers).len(), 20);
    s3.restart().await;
    until(20, "put back", async || tiers.snapshot().tiers[0].up).await;
    keep(&tiers, &at(20), &bytes(FILE, 20)).await;
    until(20, "room", async || on_disk(&tiers).len() <= 10).await;
    for version in 0..=20 {
        let body = kept(&tiers, &at(version)).await;
        assert_eq!(
            body,
            bytes(FILE, u8::try_from(version).unwrap()),
            "{version}"
        );
    }
}

#[tokio::test]
async fn a_file_that_rotted_goes_to_quarantine_instead() {
    let s3 = S3::start().await;
    let tiers = running(&bounded(&s3));
    keep_one(&tiers, 0).await;
    // Gone from the storage, and rotten here: as bad as it gets.
    let bucket = s3.bucket_dir().join("go-modules");
    let good = bytes(FILE, 0);
    let client =
        store::tier::Tier::new(&store::tier::TierSettings::Object(object_settings(&s3))).unwrap();
    client.remove(&key(&at(0))).await.unwrap();
    let file = tiers.folder.path().join(at(0));
    let mut rotten = good.to_vec();
    rotten[5] ^= 1;
    // In place, so that what is noted at the file stays.
    fs::write(&file, &rotten).unwrap();
    for version in 1..12 {
        keep_one(&tiers, version).await;
    }
    until(20, "in quarantine", async || {
        tiers.snapshot().disk_corrupt == 1
    })
    .await;
    assert!(!bucket.join(at(0)).exists(), "rot is not written on");
    assert_eq!(
        fs::read(tiers.folder.path().join("quarantine").join(at(0))).unwrap(),
        rotten
    );
    let found = tiers.find(&key(&at(0))).await;
    assert!(matches!(found, Found::Absent), "{found:?}");
}

#[tokio::test]
async fn what_nobody_asks_for_leaves_after_its_time_and_what_is_too_long_never_comes() {
    let s3 = S3::start().await;
    let tiers = running(&TiersSettings {
        disk: Some(DiskSettings {
            ttl: Some(Duration::from_secs(1)),
            max_entry: Some(FILE as u64),
            ..DiskSettings::default()
        }),
        ..over(&s3)
    });
    keep(&tiers, &at(0), &bytes(FILE, 0)).await;
    assert_eq!(on_disk(&tiers), [0]);
    until(20, "gone", async || on_disk(&tiers).is_empty()).await;
    assert_eq!(kept(&tiers, &at(0)).await, bytes(FILE, 0));
    // From the bucket it comes back to the disk.
    until(20, "promoted", async || on_disk(&tiers) == [0]).await;

    keep(&tiers, &at(1), &bytes(FILE + 1, 1)).await;
    let large = bytes(3 << 20, 2);
    keep_large(&tiers, &at(2), &large).await;
    assert!(!on_disk(&tiers).iter().any(|version| *version > 0));
    assert_eq!(kept(&tiers, &at(1)).await, bytes(FILE + 1, 1));
    assert!(!tiers.disk_takes(large.len() as u64));
    assert_eq!(
        read(pull(&tiers, &at(2)).await.frames().unwrap())
            .await
            .unwrap(),
        large
    );
    assert!(!on_disk(&tiers).iter().any(|version| *version > 0));

    // Where nothing below keeps, the disk takes everything and nothing leaves it.
    let alone = running(&TiersSettings {
        disk: Some(DiskSettings {
            ttl: Some(Duration::from_millis(1)),
            max_entry: Some(1),
            ..DiskSettings::default()
        }),
        ..TiersSettings::default()
    });
    keep(&alone, &at(0), &bytes(FILE, 0)).await;
    assert_eq!(on_disk(&alone), [0]);
}

#[tokio::test]
async fn files_that_change_stay_and_come_into_no_bucket() {
    let s3 = S3::start().await;
    let mut settings = bounded(&s3);
    if let Some(disk) = &mut settings.disk {
        disk.changes = Some(|key| key.as_str().ends_with("/list"));
    }
    let tiers = running(&settings);
    let list = "go/example.com/a/@v/list";
    let write = |text: &str| {
        let store = tiers.store();
        store.replace_small(&key(list), text.as_bytes()).unwrap();
    };
    write("v1.0.0\n");
    for version in 0..20 {
        keep_one(&tiers, version).await;
    }
    write("v1.0.0\nv1.1.0\n");
    for version in 20..40 {
        keep_one(&tiers, version).await;
    }
    assert!(tiers.folder.path().join(list).exists());
    assert!(!s3.bucket_dir().join("go-modules").join(list).exists());
    let snapshot = tiers.snapshot();
    assert_eq!((snapshot.tiers[0].differs, snapshot.disk_corrupt), (0, 0));
}
