//! What `modgate fsck --repair` believes: copies, the index, upstream.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use records::{Object, Records, RecordsSettings};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;
use testkit::services::{Redis, S3};

use crate::{DISK, Site, alter, bucket, kinds, module};

impl Site {
    fn repair(&self) -> Value {
        self.json(&["fsck", "--repair", "--json"])
    }

    async fn records(&self) -> Records {
        let path = self.gate.data_dir().join("records.db");
        let opened = Records::open(&RecordsSettings::Sqlite { path }).await;
        opened.unwrap()
    }

    /// What the index has of a file.
    async fn row(&self, name: &str, part: &str) -> Object {
        let records = self.records().await;
        let key = format!("go{}", module(name).url_path(part));
        let row = records.object(&key).await.unwrap().unwrap();
        records.close().await;
        row
    }

    /// Has another SHA-256 in the index.
    async fn spoil_row(&self, name: &str, part: &str) -> Object {
        let mut row = self.row(name, part).await;
        row.sha256[0] ^= 1;
        let records = self.records().await;
        records.note(std::slice::from_ref(&row)).await.unwrap();
        records.close().await;
        row
    }
}

fn object(s3: &S3, name: &str, part: &str) -> PathBuf {
    let path = module(name).url_path(part);
    let below = s3.bucket_dir().join("p/go");
    below.join(path.trim_start_matches('/'))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_copy_in_the_bucket_counts_though_redis_has_one_too() {
    let (s3, redis) = (S3::start().await, Redis::start().await);
    let hot = format!("[[storage]]\ntier = \"redis\"\nurl = \"{}\"\n", redis.url());
    let site = Site::start(&["a"], &format!("{hot}{DISK}{}", bucket(&s3, "p"))).await;
    let in_redis = || {
        let client = redis::Client::open(redis.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg("*.mod")
            .query(&mut connection)
            .unwrap();
        !keys.is_empty()
    };
    let waited = async {
        while !in_redis() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::LIMIT, waited).await.unwrap();
    let before = site.row("a", "mod").await;
    site.lab.stop().await;
    alter(&site.kept("a", "mod"));
    let report = site.repair();
    assert_eq!(kinds(&report), ["altered disk"], "{report}");
    assert_eq!(report["findings"][0]["repaired"], "from s3", "{report}");
    for path in [site.kept("a", "mod"), object(&s3, "a", "mod")] {
        assert_eq!(std::fs::read(path).unwrap(), module("a").mod_file());
    }
    assert_eq!(site.row("a", "mod").await, before);

    // Where Redis alone has a good one, it is that.
    alter(&site.kept("a", "mod"));
    alter(&object(&s3, "a", "mod"));
    let report = site.repair();
    assert_eq!(report["repaired"], 2, "{report}");
    let bytes = std::fs::read(object(&s3, "a", "mod")).unwrap();
    assert_eq!(bytes, module("a").mod_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_of_upstream_are_taken_for_nothing_that_was_kept() {
    let s3 = S3::start().await;
    let site = Site::start(&["a", "b"], &format!("{DISK}{}", bucket(&s3, "p"))).await;
    let before = site.row("a", "info").await;
    site.lab.add(module("a").time("2001-02-03T04:05:06Z"));
    std::fs::remove_file(site.kept("a", "info")).unwrap();
    alter(&object(&s3, "a", "info"));
    let altered = std::fs::read(object(&s3, "a", "info")).unwrap();
    let report = site.repair();
    assert_eq!(kinds(&report), ["altered s3"], "{report}");
    assert_eq!(report["good"], false, "{report}");
    let detail = report["findings"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("upstream has another version"), "{detail}");
    assert_eq!(site.row("a", "info").await, before);
    // It is never served, and stays for people to look at.
    assert_eq!(std::fs::read(object(&s3, "a", "info")).unwrap(), altered);
    assert!(!site.kept("a", "info").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_row_takes_no_copy_away() {
    let s3 = S3::start().await;
    let site = Site::start(&["a", "b"], &format!("{DISK}{}", bucket(&s3, "p"))).await;
    let (right_mod, right_zip) = (site.row("a", "mod").await, site.row("a", "zip").await);
    let wrong = site.spoil_row("a", "mod").await;
    site.spoil_row("a", "zip").await;
    site.lab.stop().await;
    // The zip is right by its own hash; of the other nobody else knows anything now.
    let report = site.repair();
    assert_eq!(
        kinds(&report),
        ["index_differs index", "index_differs index"],
        "{report}"
    );
    assert_eq!(report["repaired"], 1, "{report}");
    assert_eq!(site.row("a", "zip").await, right_zip);
    assert_eq!(site.row("a", "mod").await, wrong);
    for path in [site.kept("a", "mod"), object(&s3, "a", "mod")] {
        assert_eq!(std::fs::read(path).unwrap(), module("a").mod_file());
    }
    site.serves_again("a", "mod", 200).await;

    site.lab.restart().await;
    let report = site.repair();
    assert_eq!(kinds(&report), ["index_differs index"], "{report}");
    assert_eq!(report["repaired"], 1, "{report}");
    assert_eq!(site.row("a", "mod").await, right_mod);
    let report = site.json(&["fsck", "--json"]);
    assert_eq!(kinds(&report), Vec::<String>::new(), "{report}");
}

/// As somebody does who calls `sudo modgate fsck` beside a server that runs as a user of its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_root_makes_beside_the_server_belongs_to_the_owner_of_the_data_folder() {
    const OWNER: u32 = 65534;
    let site = Site::start(&["a"], "").await;
    let data = site.gate.data_dir();
    if fs::metadata(data).unwrap().uid() != 0 {
        eprintln!("only root can do this");
        return;
    }
    fs::remove_dir_all(data.join("care")).unwrap();
    chown(data, Some(OWNER), Some(OWNER)).unwrap();
    alter(&site.kept("a", "mod"));
    let report = site.repair();
    assert_eq!(kinds(&report), ["altered disk"], "{report}");
    for path in [
        data.join("care"),
        data.join("care/lock"),
        site.kept("a", "mod"),
    ] {
        let owner = fs::metadata(&path).unwrap().uid();
        assert_eq!(owner, OWNER, "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_in_the_place_of_one_ends_no_check() {
    let site = Site::start(&["a", "b"], "").await;
    let (pipe, folder) = (site.kept("a", "zip"), site.kept("b", "zip"));
    for path in [&pipe, &folder] {
        fs::remove_file(path).unwrap();
    }
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    fs::create_dir(&folder).unwrap();
    let report = site.repair();
    let told: Vec<_> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["kind"] == "unreadable")
        .map(|finding| finding["detail"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told.len(), 2, "{report}");
    for path in [&pipe, &folder] {
        let said = format!("{} is a folder, a pipe", path.display());
        assert!(told.iter().any(|detail| detail.contains(&said)), "{told:?}");
    }
    // Once it is removed, what it stood for comes back.
    fs::remove_file(&pipe).unwrap();
    fs::remove_dir(&folder).unwrap();
    site.repair();
    assert!(pipe.is_file() && folder.is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_just_now_and_is_not_in_the_index_is_counted() {
    let site = Site::start(&["a"], "").await;
    let records = site.records().await;
    let key = format!("go{}", module("a").url_path("mod"));
    records.forget_quietly(&key).await.unwrap();
    records.close().await;
    let report = site.json(&["fsck", "--json"]);
    assert_eq!(
        (&report["checked"], &report["young"]),
        (&2.into(), &1.into()),
        "{report}"
    );
    let told = String::from_utf8(site.run(&["fsck"]).stdout).unwrap();
    assert!(
        told.contains("1 more came within the last minute"),
        "{told}"
    );

    // By a clock that was ahead, or is behind now, it is young no more.
    let file = fs::File::options()
        .write(true)
        .open(site.kept("a", "mod"))
        .unwrap();
    file.set_modified(SystemTime::now() + Duration::from_hours(1))
        .unwrap();
    let report = site.repair();
    assert_eq!(kinds(&report), ["not_indexed index"], "{report}");
    assert_eq!(
        (&report["repaired"], &report["young"]),
        (&1.into(), &0.into()),
        "{report}"
    );
}
