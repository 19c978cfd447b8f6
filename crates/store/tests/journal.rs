//! What waits in the journal: over an outage, a kill, and a bad disk.

mod common;

use std::{fs, time::Duration};

use common::*;
use store::{
    Content, Digest, Found, KeepError, TiersSettings,
    tier::{ObjectSettings, TierSettings},
};
use testkit::services::S3;

const MOD: &str = "go/example.com/a/@v/v1.0.0.mod";
const ZIP: &str = "go/example.com/a/@v/v1.0.0.zip";

#[tokio::test]
async fn the_journal_bridges_an_outage_and_is_bounded() {
    let s3 = S3::start().await;
    let settings = TiersSettings {
        journal_max_entries: 3,
        ..later(&s3)
    };
    let tiers = running(&settings);
    s3.pause();
    let body = bytes(1000, 6);
    let at = |version| format!("go/example.com/a/@v/v1.{version}.0.mod");
    for version in 0..3 {
        keep(&tiers, &at(version), &body).await;
    }
    keep(&tiers, &at(0), &body).await;
    let other = bytes(1000, 7);
    let differs = tiers
        .keep(
            Content::Bytes(other.clone()),
            &key(&at(0)),
            &Digest::of(&other),
        )
        .await;
    assert!(matches!(differs, Err(KeepError::Differs(_))), "{differs:?}");
    let full = tiers
        .keep(
            Content::Bytes(body.clone()),
            &key(&at(3)),
            &Digest::of(&body),
        )
        .await;
    assert!(
        matches!(full, Err(KeepError::Storage(_))),
        "full means through: {full:?}"
    );
    let backlog = tiers.snapshot().journal.unwrap();
    assert_eq!((backlog.entries, backlog.bytes, backlog.full), (3, 3000, 1));
    s3.resume();
    assert!(tiers.flush(Duration::from_secs(30)).await);
    let backlog = tiers.snapshot().journal.unwrap();
    assert_eq!((backlog.entries, backlog.bytes, backlog.done), (0, 0, 3));
    for version in 0..3 {
        assert_eq!(
            fs::read(s3.bucket_dir().join("go-modules").join(at(version))).unwrap(),
            body
        );
    }
    assert_eq!(
        fs::read_dir(tiers.folder.path().join("journal"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn a_crash_loses_nothing_that_was_journalled() {
    let s3 = S3::start().await;
    s3.pause();
    // Without a disk tier the journal is all there is.
    let settings = TiersSettings {
        disk: None,
        ..later(&s3)
    };
    let (small, large) = (bytes(1000, 8), bytes(10 << 20, 9));
    let zip = "go/example.com/a/@v/v1.0.0.zip";
    let before = running(&settings);
    keep(&before, MOD, &small).await;
    keep_large(&before, zip, &large).await;
    let left = left_by(&before);
    let journal = left.path().join("journal");
    drop(before);
    // And halves lie about.
    fs::write(journal.join("00000000000000aa.data"), "half").unwrap();
    fs::write(journal.join("00000000000000ab.json"), "{}").unwrap();

    let after = running_in(&settings, left);
    assert_eq!(kept(&after, zip).await, large, "read from the journal");
    assert_eq!(kept(&after, MOD).await, small);
    assert_eq!(after.snapshot().journal.unwrap().entries, 2);
    assert!(!journal.join("00000000000000aa.data").exists());
    s3.resume();
    assert!(after.flush(Duration::from_secs(30)).await);
    for (at, body) in [(MOD, &small), (zip, &large)] {
        assert_eq!(
            &fs::read(s3.bucket_dir().join("go-modules").join(at)).unwrap(),
            body
        );
    }
}

#[tokio::test]
async fn a_bad_entry_and_a_differing_one_leave_the_journal_and_are_told() {
    let mut s3 = S3::start().await;
    let (ours, theirs) = (bytes(1000, 10), bytes(1000, 11));
    let second = "go/example.com/b/@v/v1.0.0.mod";
    s3.kill();
    let before = running(&later(&s3));
    keep(&before, MOD, &ours).await;
    keep(&before, second, &ours).await;
    let left = left_by(&before);
    drop(before);
    s3.restart().await;
    // The first entry rots; for the second another replica is first, with other bytes.
    fs::write(left.path().join("journal/0000000000000000.data"), &theirs).unwrap();
    keep(&running(&without_disk(&s3)), second, &theirs).await;

    let after = running_in(&later(&s3), left);
    assert!(after.flush(Duration::from_secs(30)).await);
    let bucket = s3.bucket_dir().join("go-modules");
    until(20, "from the disk", async || bucket.join(MOD).exists()).await;
    assert_eq!(
        fs::read(bucket.join(MOD)).unwrap(),
        ours,
        "rot is not written on"
    );
    assert_eq!(fs::read(bucket.join(second)).unwrap(), theirs);
    assert_eq!(kept(&after, second).await, theirs, "ours is gone");
    let snapshot = after.snapshot();
    assert_eq!(snapshot.tiers[0].differs, 1);
    assert_eq!(snapshot.journal.unwrap().corrupt, 2);
    let aside = after.folder.path().join("quarantine");
    assert_eq!(fs::read_dir(aside.join("journal")).unwrap().count(), 4);
    assert!(aside.join(second).exists());
}

#[tokio::test]
async fn an_altered_entry_is_served_neither_before_nor_after_it_is_noticed() {
    let s3 = S3::start().await;
    s3.pause();
    let settings = TiersSettings {
        disk: None,
        ..later(&s3)
    };
    let (small, large) = (bytes(1000, 8), bytes(10 << 20, 9));
    let before = running(&settings);
    keep(&before, MOD, &small).await;
    keep_large(&before, ZIP, &large).await;
    let left = left_by(&before);
    drop(before);
    for (entry, len) in [("0000000000000000", 1000), ("0000000000000001", 10 << 20)] {
        let other = bytes(len, 77);
        fs::write(left.path().join(format!("journal/{entry}.data")), other).unwrap();
    }

    let after = running_in(&settings, left);
    for at in [MOD, ZIP] {
        // The bucket does not answer: it may be there.
        let found = after.find(&key(at)).await;
        assert!(matches!(found, Found::Unknown(_)), "{at}: {found:?}");
        assert!(after.store().at_hand(at.to_owned()).is_none(), "{at}");
    }
    let snapshot = after.snapshot();
    assert_eq!(snapshot.journal.unwrap().entries, 0);
    assert_eq!(snapshot.disk_corrupt, 2);
    // What is fetched anew takes its place.
    keep(&after, MOD, &small).await;
    assert_eq!(kept(&after, MOD).await, small);
    s3.resume();
    assert!(after.flush(Duration::from_secs(30)).await);
    let bucket = s3.bucket_dir().join("go-modules");
    assert_eq!(fs::read(bucket.join(MOD)).unwrap(), small);
    assert!(!bucket.join(ZIP).exists());
}

#[tokio::test]
async fn an_entry_that_differs_leaves_memory_with_the_journal() {
    let mut s3 = S3::start().await;
    s3.kill();
    let settings = TiersSettings {
        disk: None,
        ..later(&s3)
    };
    let ours = bytes(1000, 10);
    let before = running(&settings);
    keep(&before, MOD, &ours).await;
    let left = left_by(&before);
    drop(before);
    let after = running_in(&settings, left);
    assert_eq!(kept(&after, MOD).await, ours, "from now on in memory");
    // Another replica was first, with other bytes: those count.
    s3.restart().await;
    let theirs = bytes(1000, 11);
    keep(&running(&without_disk(&s3)), MOD, &theirs).await;
    assert!(after.flush(Duration::from_secs(30)).await);
    assert_eq!(kept(&after, MOD).await, theirs);
}

#[tokio::test]
async fn entries_find_their_bucket_under_another_name_and_without_it_hold_up_nothing() {
    let mut s3 = S3::start().await;
    s3.kill();
    let body = bytes(1000, 12);
    let before = running(&later(&s3));
    keep(&before, MOD, &body).await;
    let (named, left) = (left_by(&before), left_by(&before));
    drop(before);
    let renamed = |prefix: &str| {
        let settings = ObjectSettings {
            name: "s3:modgate/other".into(),
            prefix: prefix.to_owned(),
            ..object_settings(&s3)
        };
        TiersSettings {
            below: vec![TierSettings::Object(settings)],
            ..TiersSettings::default()
        }
    };
    let (other, same) = (renamed("other"), renamed("go-modules"));
    // Its bucket is configured no more: served, told, and not waited for.
    let after = running_in(&other, left);
    let backlog = after.snapshot().journal.unwrap();
    assert_eq!((backlog.entries, backlog.stranded), (1, 1));
    assert_eq!(kept(&after, MOD).await, body);
    assert!(after.flush(Duration::from_secs(5)).await);
    drop(after);

    s3.restart().await;
    // As it was written down before places were.
    let json = named.path().join("journal/0000000000000000.json");
    let written = fs::read_to_string(&json).unwrap();
    assert!(written.contains("s3:modgate/go-modules"), "{written}");
    let older = written.replace("s3:modgate/go-modules", "s3:modgate/other");
    fs::write(&json, older).unwrap();
    let after = running_in(&same, named);
    assert_eq!(after.snapshot().journal.unwrap().stranded, 0);
    assert!(after.flush(Duration::from_secs(30)).await);
    let bucket = s3.bucket_dir().join("go-modules");
    assert_eq!(fs::read(bucket.join(MOD)).unwrap(), body);
}

#[tokio::test]
async fn damaged_entries_are_counted_set_aside_and_made_up_for() {
    let mut s3 = S3::start().await;
    s3.kill();
    let at = |version| format!("go/example.com/a/@v/v1.{version}.0.mod");
    let before = running(&later(&s3));
    for version in 0..6 {
        keep(&before, &at(version), &bytes(1000, version)).await;
    }
    keep_large(&before, ZIP, &bytes(3 << 20, 9)).await;
    let left = left_by(&before);
    drop(before);
    let journal = left.path().join("journal");
    let entry = |id: u64, ending: &str| journal.join(format!("{id:016x}.{ending}"));
    fs::write(entry(0, "data"), "short").unwrap();
    fs::write(entry(1, "json"), "garbage").unwrap();
    fs::remove_file(entry(2, "data")).unwrap();
    fs::write(entry(3, "data"), bytes(2000, 3)).unwrap();
    fs::write(entry(4, "data"), bytes(1000, 99)).unwrap();
    // Not through the link to the disk's own file.
    fs::remove_file(entry(6, "data")).unwrap();
    fs::write(entry(6, "data"), "short").unwrap();
    // The disk does not have this one any more.
    fs::remove_file(left.path().join(at(3))).unwrap();

    let after = running_in(&later(&s3), left);
    let backlog = after.snapshot().journal.unwrap();
    assert_eq!(backlog.corrupt, 5, "what can be seen at once: {backlog:?}");
    let aside = after.folder.path().join("quarantine/journal");
    for (id, ending) in [
        (0, "json"),
        (0, "data"),
        (1, "json"),
        (1, "data"),
        (2, "json"),
        (3, "data"),
    ] {
        let name = format!("{id:016x}.{ending}");
        assert!(aside.join(&name).exists(), "{name}");
        assert!(!journal.join(&name).exists(), "{name}");
    }
    s3.restart().await;
    let bucket = s3.bucket_dir().join("go-modules");
    // From the disk, which still has them: also the one whose bytes were other ones.
    for version in [0, 2, 4, 5] {
        until(20, "in the bucket", async || {
            bucket.join(at(version)).exists()
        })
        .await;
        let there = fs::read(bucket.join(at(version))).unwrap();
        assert_eq!(there, bytes(1000, version), "{version}");
    }
    until(20, "in the bucket", async || bucket.join(ZIP).exists()).await;
    assert_eq!(fs::read(bucket.join(ZIP)).unwrap(), bytes(3 << 20, 9));
    assert!(after.flush(Duration::from_secs(30)).await);
    assert_eq!(after.snapshot().journal.unwrap().corrupt, 6);
    // Nobody knows which one this was; on the disk it is still served.
    assert_eq!(kept(&after, &at(1)).await, bytes(1000, 1));
    let found = after.find(&key(&at(3))).await;
    assert!(matches!(found, Found::Absent), "{found:?}");
    assert_eq!(fs::read_dir(&journal).unwrap().count(), 0);
}

#[tokio::test]
async fn an_entry_whose_bytes_go_while_it_waits_holds_up_nothing() {
    let s3 = S3::start().await;
    s3.pause();
    let settings = TiersSettings {
        disk: None,
        ..later(&s3)
    };
    let tiers = running(&settings);
    keep(&tiers, MOD, &bytes(1000, 8)).await;
    let journal = tiers.folder.path().join("journal");
    fs::remove_file(journal.join("0000000000000000.data")).unwrap();
    s3.resume();
    assert!(tiers.flush(Duration::from_secs(30)).await);
    let backlog = tiers.snapshot().journal.unwrap();
    assert_eq!((backlog.corrupt, backlog.done), (1, 0));
    assert_eq!(fs::read_dir(&journal).unwrap().count(), 0);
}
