//! Care where there is more than a disk: copies in Redis, records in PostgreSQL, uses that no disk knows of.

use std::time::Duration;

use records::{Records, RecordsSettings};
use serde_json::Value;
use testkit::{
    gate::Options,
    services::{Postgres, Redis, S3},
};

use crate::{DISK, Modgate, Site, alter, bin, bucket, kinds, module};

/// The value of a zip in Redis, and its name there.
fn zip_in(redis: &Redis, name: &str) -> Option<(String, Vec<u8>)> {
    let mut connection = redis::Client::open(redis.url())
        .unwrap()
        .get_connection()
        .unwrap();
    let pattern = format!("*lab.example/{name}/@v/v1.0.0.zip");
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(pattern)
        .query(&mut connection)
        .unwrap();
    let key = keys.into_iter().next()?;
    let value = redis::cmd("GET").arg(&key).query(&mut connection).unwrap();
    Some((key, value))
}

fn set(redis: &Redis, key: &str, value: &[u8]) {
    let mut connection = redis::Client::open(redis.url())
        .unwrap()
        .get_connection()
        .unwrap();
    redis::cmd("SET")
        .arg(key)
        .arg(value)
        .exec(&mut connection)
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_copies_in_redis_are_found_and_go() {
    let (s3, redis) = (S3::start().await, Redis::start().await);
    let hot = format!("[[storage]]\ntier = \"redis\"\nurl = \"{}\"\n", redis.url());
    let storage = format!("{hot}{DISK}{}", bucket(&s3, "p"));
    let site = Site::start(&["a", "b", "c"], &storage).await;
    for name in ["a", "b", "c"] {
        // Written after the answer.
        let waited = async {
            while zip_in(&redis, name).is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(crate::LIMIT, waited).await.unwrap();
    }
    let report = site.json(&["fsck", "--json"]);
    assert_eq!(kinds(&report), Vec::<String>::new(), "{report}");

    // One that its own digest gives away, and a whole one of another version in its place.
    let (key, mut value) = zip_in(&redis, "a").unwrap();
    *value.last_mut().unwrap() ^= 1;
    set(&redis, &key, &value);
    let (key, _) = zip_in(&redis, "b").unwrap();
    set(&redis, &key, &zip_in(&redis, "c").unwrap().1);
    let done = site.run(&["fsck", "--repair", "--json"]);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        kinds(&report),
        ["altered redis", "altered redis"],
        "{report}"
    );
    assert!(done.status.success() && report["repaired"] == 2, "{report}");
    for name in ["a", "b"] {
        let value = zip_in(&redis, name).map(|(_, value)| value);
        assert!(
            value.is_none_or(|value| value.ends_with(&module(name).zip())),
            "{name}"
        );
        site.serves(name, "zip").await;
    }
    let report = site.json(&["fsck", "--json"]);
    assert_eq!(kinds(&report), Vec::<String>::new(), "{report}");

    // Redis away is told, and nothing is thrown away for it.
    drop(redis);
    let report = site.json(&["fsck", "--json"]);
    assert_eq!(report["good"], false, "{report}");
    assert!(
        kinds(&report).iter().all(|kind| kind == "unreadable redis"),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn care_is_taken_with_records_in_postgres() {
    let (postgres, backups) = (Postgres::start().await, tempfile::tempdir().unwrap());
    let storage = format!("[records]\nurl = \"{}\"\n", postgres.url());
    let site = Site::start(&["a", "b", "c"], &storage).await;
    assert!(!site.gate.data_dir().join("records.db").exists());
    alter(&site.kept("a", "zip"));
    std::fs::remove_file(site.kept("b", "mod")).unwrap();
    let done = site.run(&["fsck", "--repair", "--json"]);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(done.status.success() && report["repaired"] == 2, "{report}");
    site.serves("a", "zip").await;

    let to = backups.path().to_str().unwrap();
    let first = site.json(&["backup", "--json", to]);
    let retired = site.run(&["retire", "lab.example/b@v1.0.0", "--reason", "test"]);
    assert!(retired.status.success(), "{retired:?}");
    site.serves_again("b", "mod", 410).await;
    let second = site.json(&["backup", "--incremental", "--json", to]);
    assert_eq!(second["base"], first["id"], "{second}");

    assert!(site.run(&["pin", "lab.example/a"]).status.success());
    let done = site.json(&["gc", "--max-size", "0B", "--yes", "--json"]);
    assert_eq!(done["removed"].as_array().unwrap().len(), 2, "{done}");
    assert_eq!(done["pinned"], 1, "{done}");
    site.serves_again("c", "zip", 404).await;
    site.serves("a", "zip").await;

    // Back to the moment of the first: the index says what went, and that is found and fetched.
    let between = second["at_ms"].as_i64().unwrap() - 1;
    let at = care::backup::format_time(between);
    let restored = site.json(&["restore", "--json", "--at", &at, to]);
    assert_eq!(
        (&restored["id"], &restored["verified"]),
        (&first["id"], &true.into())
    );
    site.serves_again("b", "info", 404).await;
    let done = site.run(&["fsck", "--repair", "--json"]);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(done.status.success(), "{report}");
    assert!(
        kinds(&report).iter().all(|kind| kind == "lost index"),
        "{report}"
    );
    site.serves_again("b", "mod", 200).await;
    site.serves_again("c", "zip", 200).await;
}

async fn used_at(site: &Site, name: &str) -> i64 {
    let path = site.gate.data_dir().join("records.db");
    let records = Records::open(&RecordsSettings::Sqlite { path })
        .await
        .unwrap();
    let mut used = i64::MIN;
    for part in ["info", "mod", "zip"] {
        let key = format!("go{}", module(name).url_path(part));
        used = used.max(records.object(&key).await.unwrap().unwrap().used_at_ms);
    }
    records.close().await;
    used
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_disk_the_index_knows_what_is_used() {
    let s3 = S3::start().await;
    let mut site = Site::start(&["old", "used"], &bucket(&s3, "p")).await;
    let before = used_at(&site, "old")
        .await
        .max(used_at(&site, "used").await);
    // Another process, which knows nothing of them. Time has to pass between the two.
    assert!(site.gate.terminate().await.success());
    while care_now() < before + 1500 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let options = Options {
        upstream: Some("off".to_owned()),
        sumdb: Some("off".to_owned()),
        config: Some(bucket(&s3, "p")),
        data: Some(site.gate.data_dir().to_owned()),
        env: site.env.clone(),
        ..Options::default()
    };
    site.gate = Modgate::start(bin(), options).await;
    site.serves("used", "zip").await;
    assert!(site.gate.terminate().await.success());
    assert!(used_at(&site, "old").await <= before);
    let used = used_at(&site, "used").await;
    assert!(used >= before + 1500, "{used} {before}");

    let age = format!("{}ms", care_now() - used + 500);
    let plan = site.json(&["gc", "--older-than", &age, "--json"]);
    let removed = plan["removed"].as_array().unwrap();
    assert_eq!(removed.len(), 1, "{plan}");
    assert_eq!(removed[0]["module"], "lab.example/old", "{plan}");
}

fn care_now() -> i64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(now.as_millis()).unwrap()
}
