//! Commands on a data folder that has no room, or cannot be written to.

use std::process::Output;

use testkit::small_disk::SmallDisk;

use crate::{LIMIT, Site};

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

/// On a disk of its own, which is full then.
async fn full(server: bool) -> (SmallDisk, Site) {
    let disk = SmallDisk::new(24 << 20);
    let mut site = Site::start_in(disk.path().join("data"), &NAMES, "").await;
    if !server {
        assert!(site.gate.terminate().await.success());
    }
    disk.fill(0);
    (disk, site)
}

/// What makes room works without any, and what must be noted at once is noted.
fn commands_work(site: &Site) {
    let retired = site.run(&["retire", "lab.example/a@v1.0.0", "--reason", "bad"]);
    assert!(retired.status.success(), "{}", said(&retired));
    let listed = site.run(&["retired"]);
    assert!(said(&listed).contains("lab.example/a@v1.0.0"), "{listed:?}");
    let checked = site.json(&["fsck", "--json"]);
    assert_eq!(checked["good"], true, "{checked}");
    // What needs room says where and what to do.
    let to = site.gate.data_dir().parent().unwrap().join("backups");
    let to = to.to_str().unwrap();
    let backup = site.run(&["backup", to]);
    if !backup.status.success() {
        let why = said(&backup);
        let named = why.contains(site.gate.data_dir().to_str().unwrap()) || why.contains(to);
        assert!(named && why.contains("make room"), "{why}");
    }
    let done = site.json(&["gc", "--max-size", "0B", "--yes", "--json"]);
    assert_eq!(
        done["removed"].as_array().unwrap().len(),
        NAMES.len(),
        "{done}"
    );
    for name in NAMES {
        assert!(!site.kept(name, "zip").exists());
    }
    let checked = site.json(&["fsck", "--json"]);
    assert_eq!(
        (&checked["checked"], &checked["good"]),
        (&0.into(), &true.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn gc_makes_room_on_a_full_disk() {
    let (disk, site) = full(false).await;
    commands_work(&site);
    // The room is held back again for the next time.
    disk.make_room();
    assert!(site.run(&["retired"]).status.success());
    disk.fill(0);
    let again = site.run(&["unretire", "lab.example/a@v1.0.0"]);
    assert!(again.status.success(), "{}", said(&again));
}

#[tokio::test(flavor = "multi_thread")]
async fn gc_makes_room_on_a_full_disk_beside_a_server() {
    let (_disk, site) = full(true).await;
    commands_work(&site);
    site.serves_again("a", "mod", 410).await;
    site.serves_again("b", "zip", 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_read_only_is_said_to_be() {
    let disk = SmallDisk::new(24 << 20);
    let mut site = Site::start_in(disk.path().join("data"), &["a"], "").await;
    assert!(site.gate.terminate().await.success());
    disk.read_only();
    let data = site.gate.data_dir().to_str().unwrap();
    for command in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["fsck"],
        &["retired"],
        &["gc", "--max-size", "0B"],
    ] {
        let refused = site.run(command);
        let why = said(&refused);
        assert!(!refused.status.success(), "{command:?}: {why}");
        assert!(
            why.contains(data) && why.contains("writable"),
            "{command:?}: {why}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_killed_commands_left_goes() {
    let mut site = Site::start(&["a"], "").await;
    let left = site.gate.data_dir().join("care/.tmpKilled");
    let file = left.with_file_name(format!("{:032x}.tmp", 1));
    let leave = || {
        std::fs::create_dir_all(&left).unwrap();
        std::fs::write(left.join("records.jsonl"), "half").unwrap();
        std::fs::write(&file, "half").unwrap();
    };
    let is_there = || left.exists() || file.exists();
    let to = site.folder.path().join("backups");
    for command in [
        &["backup", to.to_str().unwrap()][..],
        &["restore", to.to_str().unwrap()],
        &["fsck"],
    ] {
        leave();
        let done = site.run(command);
        assert!(done.status.success(), "{}", said(&done));
        assert!(!is_there(), "{command:?}");
    }
    leave();
    assert!(site.gate.terminate().await.success());
    let data = site.gate.data_dir().to_owned();
    let _again = Site::start_in(data, &[], "").await;
    let gone = async {
        while is_there() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, gone).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_place_of_backups_is_said_by_name() {
    let site = Site::start(&["a"], "").await;
    let file = site.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let none = site.folder.path().join("none");
    for (command, place) in [("backup", &file), ("restore", &file), ("restore", &none)] {
        let place = place.to_str().unwrap();
        let refused = site.run(&[command, place]);
        assert!(!refused.status.success());
        let why = said(&refused);
        assert!(why.contains(place), "{command}: {why}");
    }
}
