//! Backups on a schedule, and which of them stay.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::Path, time::Duration};

use care::backup::{self, Backup, Target};
use records::{Object, Records, RecordsSettings};

async fn records(folder: &Path) -> Records {
    let path = folder.join("records.db");
    Records::open(&RecordsSettings::Sqlite { path })
        .await
        .unwrap()
}

async fn note(records: &Records, number: u64) {
    let object = Object {
        key: format!("go/lab.example/m{number}/@v/v1.0.0.mod"),
        size: number,
        sha256: [7; 32],
        h1: None,
        kept_at_ms: 1,
        used_at_ms: 1,
        pinned: false,
    };
    records.note(&[object]).await.unwrap();
}

/// One that is due at once.
async fn due(records: &Records, target: &Target, keep: usize, work: &Path) -> Backup {
    let (backup, _) = backup::on_schedule(records, target, Duration::ZERO, keep, work)
        .await
        .unwrap();
    backup.unwrap()
}

fn folders(target: &Path) -> usize {
    std::fs::read_dir(target).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_one_comes_from_time_to_time_and_what_is_too_old_goes() {
    let folder = tempfile::tempdir().unwrap();
    let (to, work) = (folder.path().join("to"), folder.path().join("work"));
    std::fs::create_dir_all(&work).unwrap();
    let (records, target) = (records(folder.path()).await, Target::Folder(to.clone()));
    let mut all = Vec::new();
    for number in 0..15 {
        note(&records, number).await;
        all.push(due(&records, &target, 2, &work).await);
    }
    let whole: Vec<usize> = (0..15).filter(|at| all[*at].base.is_none()).collect();
    assert_eq!(
        whole,
        [0, 7, 14],
        "a whole one, six that build upon it, and again"
    );
    for at in 1..15 {
        let base = (!whole.contains(&at)).then(|| all[at - 1].id.clone());
        assert_eq!(all[at].base, base);
    }
    // Two whole ones stay, and all that build upon them.
    let left: Vec<String> = backup::list(&target)
        .await
        .unwrap()
        .into_iter()
        .map(|b| b.id)
        .collect();
    let wanted: Vec<String> = all[7..].iter().map(|backup| backup.id.clone()).collect();
    assert_eq!(left, wanted);
    assert_eq!(
        folders(&to),
        left.len(),
        "nothing is left of those that went"
    );

    // What stays can be restored, to the last of each row.
    for at in [7, 13, 14] {
        let restored = backup::restore(&records, &target, Some(all[at].at_ms), &work).await;
        let restored = restored.unwrap();
        assert_eq!(restored.backup.id, all[at].id);
        assert_eq!(restored.backup.rows, all[at].rows);
        let last = format!("go/lab.example/m{at}/@v/v1.0.0.mod");
        assert!(records.object(&last).await.unwrap().is_some());
        let later = format!("go/lab.example/m{}/@v/v1.0.0.mod", at + 1);
        assert!(records.object(&later).await.unwrap().is_none());
    }
    let gone = backup::restore(&records, &target, Some(all[6].at_ms), &work).await;
    assert!(gone.is_err());

    // One that is not finished counts for nothing, and one whole one stays whatever is said.
    std::fs::remove_file(to.join(&all[14].id).join("backup.json")).unwrap();
    assert_eq!(backup::prune(&target, 0).await.unwrap(), 0);
    assert_eq!(backup::list(&target).await.unwrap().len(), 7);
    records.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_before_it_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work");
    std::fs::create_dir_all(&work).unwrap();
    let target = Target::Folder(folder.path().join("to"));
    let records = records(folder.path()).await;
    let hour = Duration::from_hours(1);
    let (first, next) = backup::on_schedule(&records, &target, hour, 3, &work)
        .await
        .unwrap();
    assert!(first.is_some_and(|first| first.base.is_none()));
    assert_eq!(next, hour);
    let (second, left) = backup::on_schedule(&records, &target, hour, 3, &work)
        .await
        .unwrap();
    assert!(second.is_none(), "one an hour");
    assert!(left > Duration::from_mins(59) && left <= hour, "{left:?}");
    assert_eq!(backup::list(&target).await.unwrap().len(), 1);
    records.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_one_is_named_where_it_is_needed_and_passed_over_where_it_is_later() {
    let folder = tempfile::tempdir().unwrap();
    let (to, work) = (folder.path().join("to"), folder.path().join("work"));
    std::fs::create_dir_all(&work).unwrap();
    let (records, target) = (records(folder.path()).await, Target::Folder(to.clone()));
    note(&records, 1).await;
    let first = backup::write(&records, &target, false, &work)
        .await
        .unwrap();
    note(&records, 2).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = backup::write(&records, &target, false, &work)
        .await
        .unwrap();
    std::fs::write(to.join(&second.id).join("backup.json"), "{").unwrap();
    for at in [None, Some(second.at_ms)] {
        let refused = backup::restore(&records, &target, at, &work).await;
        let why = refused.unwrap_err().to_string();
        assert!(why.contains(&second.id) && why.contains("--at"), "{why}");
    }
    let before = Some(second.at_ms - 1);
    let restored = backup::restore(&records, &target, before, &work)
        .await
        .unwrap();
    assert_eq!(restored.backup.id, first.id);
}

/// What a clock ahead of this one wrote: every backup there becomes one of so many days later.
fn from_the_future(to: &Path, backup: &Backup) -> String {
    let old = to.join(&backup.id);
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(old.join("backup.json")).unwrap()).unwrap();
    let id = format!("2099{}", &backup.id[4..]);
    json["id"] = id.clone().into();
    json["at_ms"] = 4_070_908_800_000_i64.into();
    json["check"] = "".into();
    let bare: Backup = serde_json::from_value(json.clone()).unwrap();
    let sum = <sha2::Sha256 as sha2::Digest>::digest(serde_json::to_vec(&bare).unwrap());
    json["check"] = hex::encode(sum).into();
    std::fs::rename(&old, to.join(&id)).unwrap();
    let json = serde_json::to_vec(&json).unwrap();
    std::fs::write(to.join(&id).join("backup.json"), json).unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_a_slow_clock_comes_after_what_is_there_and_can_be_restored() {
    let folder = tempfile::tempdir().unwrap();
    let (to, work) = (folder.path().join("to"), folder.path().join("work"));
    std::fs::create_dir_all(&work).unwrap();
    let (records, target) = (records(folder.path()).await, Target::Folder(to.clone()));
    note(&records, 1).await;
    let first = backup::write(&records, &target, false, &work)
        .await
        .unwrap();
    let future = from_the_future(&to, &first);
    for (number, incremental) in [(2, true), (3, true), (4, false)] {
        note(&records, number).await;
        let before = backup::list(&target).await.unwrap().pop().unwrap();
        let written = backup::write(&records, &target, incremental, &work)
            .await
            .unwrap();
        assert!(written.id > before.id, "{} after {}", written.id, before.id);
        assert_eq!(written.base, incremental.then_some(before.id));
        // The last one is what is taken, and so it is by its own time.
        for at in [None, Some(written.at_ms)] {
            let restored = backup::restore(&records, &target, at, &work).await;
            let restored = restored.unwrap();
            assert_eq!(restored.backup.id, written.id, "{at:?}");
            assert_eq!(restored.backup.rows, number);
        }
    }
    assert!(backup::list(&target).await.unwrap()[0].id == future);
    records.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_folder_name_it() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work");
    let to = folder.path().join("to");
    std::fs::create_dir_all(&work).unwrap();
    std::fs::create_dir_all(&to).unwrap();
    let records = records(folder.path()).await;
    note(&records, 1).await;
    // A file, not a folder.
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = backup::write(&records, &Target::Folder(file.clone()), true, &work).await;
    let why = refused.unwrap_err().to_string();
    assert!(why.contains(file.to_str().unwrap()), "{why}");
    // A file that is called as a backup is nobody's business.
    let target = Target::Folder(to.clone());
    std::fs::write(to.join("20991126T045300.000Z-0a1b2c"), "").unwrap();
    let none = backup::restore(&records, &target, None, &work).await;
    let why = none.unwrap_err().to_string();
    assert!(why.contains(to.to_str().unwrap()), "{why}");
    let written = backup::write(&records, &target, true, &work).await.unwrap();
    let restored = backup::restore(&records, &target, None, &work).await;
    assert_eq!(restored.unwrap().backup.id, written.id);
    records.close().await;
}
