//! Tiers that are killed, paused and full, and a process that is killed: what is said of them holds.

#![expect(clippy::print_stdout, reason = "tells recovery times")]

mod common;

use std::{
    fs,
    time::{Duration, Instant},
};

use common::*;
use store::{
    Content, Digest, Found, KeepError, PullError, TiersSettings,
    tier::{ObjectSettings, TierErrorKind, TierSettings},
};
use tempfile::TempDir;
use testkit::{
    services::{Redis, S3},
    small_disk::SmallDisk,
};

const MOD: &str = "go/example.com/a/@v/v1.0.0.mod";

/// Redis above the disk, object storage below it.
fn all(redis: &Redis, s3: &S3) -> TiersSettings {
    TiersSettings {
        above: vec![TierSettings::Redis(redis_settings(redis))],
        ..over(s3)
    }
}

#[tokio::test]
async fn redis_is_filled_from_below_and_answers_by_itself() {
    let (redis, s3) = (Redis::start().await, S3::start().await);
    let body = bytes(50_000, 1);
    let writer = running(&all(&redis, &s3));
    keep(&writer, MOD, &body).await;
    until(5, "in Redis", async || {
        writer.snapshot().tiers[0].writes == 1
    })
    .await;
    // Another replica with nothing of its own, while the storage does not answer.
    s3.pause();
    let reader = running(&all(&redis, &s3));
    assert_eq!(kept(&reader, MOD).await, body);
    assert_eq!(reader.snapshot().tiers[0].hits, 1);
    assert_eq!(reader.snapshot().tiers[1].hits, 0);
    s3.resume();

    // What only the storage has goes up into Redis and onto the disk.
    let second = "go/example.com/a/@v/v1.1.0.mod";
    keep(&running(&over(&s3)), second, &body).await;
    assert_eq!(kept(&reader, second).await, body);
    let file = reader.folder.path().join(second);
    until(5, "promoted", async || {
        file.exists() && reader.snapshot().tiers[0].writes == 1
    })
    .await;
    // And so does what only the disk has.
    let third = "go/example.com/a/@v/v1.2.0.mod";
    let replica = running_in(&over(&s3), TempDir::new().unwrap());
    keep(&replica, third, &body).await;
    let settings = all(&redis, &s3);
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("go/example.com/a/@v")).unwrap();
    fs::copy(replica.folder.path().join(third), folder.path().join(third)).unwrap();
    let lifted = running_in(&settings, folder);
    // Not from memory: the system's cache answers before Redis is asked.
    if let Found::Kept(found) = lifted.find(&key(third)).await {
        assert_eq!(read(found.frames(0, u64::MAX)).await.unwrap(), body);
    } else {
        panic!("not found");
    }
}

#[tokio::test]
async fn without_redis_no_read_and_no_write_fails() {
    let (mut redis, s3) = (Redis::start().await, S3::start().await);
    let tiers = running(&all(&redis, &s3));
    let body = bytes(1000, 2);
    keep(&tiers, MOD, &body).await;
    redis.pause();
    let begun = Instant::now();
    for version in 0..20 {
        let at = format!("go/example.com/b/@v/v1.{version}.0.mod");
        keep(&tiers, &at, &body).await;
        let found = tiers
            .find(&key(&format!("go/example.com/none/@v/v1.{version}.0.mod")))
            .await;
        assert!(matches!(found, Found::Absent), "{found:?}");
    }
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(10),
        "it is taken out, not waited for each time: {took:?}"
    );
    assert!(!tiers.snapshot().tiers[0].up);
    redis.resume();
    let begun = Instant::now();
    until(20, "put back", async || tiers.snapshot().tiers[0].up).await;
    println!(
        "Redis paused, then resumed: put back after {:?}",
        begun.elapsed()
    );

    redis.kill();
    for version in 20..40 {
        keep(
            &tiers,
            &format!("go/example.com/b/@v/v1.{version}.0.mod"),
            &body,
        )
        .await;
    }
    let found = tiers.find(&key("go/example.com/none/@v/v2.0.0.mod")).await;
    assert!(matches!(found, Found::Absent), "{found:?}");
    until(5, "taken out", async || {
        let _ = tiers.find(&key("go/example.com/none/@v/v3.0.0.mod")).await;
        !tiers.snapshot().tiers[0].up
    })
    .await;
    redis.restart().await;
    let begun = Instant::now();
    until(20, "put back", async || tiers.snapshot().tiers[0].up).await;
    println!(
        "Redis killed, then started: put back after {:?}",
        begun.elapsed()
    );
    let at = "go/example.com/c/@v/v1.0.0.mod";
    let writes = tiers.snapshot().tiers[0].writes;
    keep(&tiers, at, &body).await;
    until(5, "used again", async || {
        tiers.snapshot().tiers[0].writes > writes
    })
    .await;
}

#[tokio::test]
async fn altered_values_in_redis_are_not_served() {
    let (redis, s3) = (Redis::start().await, S3::start().await);
    let body = bytes(1000, 3);
    let settings = all(&redis, &s3);
    let writer = running(&settings);
    keep(&writer, MOD, &body).await;
    until(5, "in Redis", async || {
        writer.snapshot().tiers[0].writes == 1
    })
    .await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let name = format!("modgate:{MOD}");
    let _: i64 = redis::cmd("SETRANGE")
        .arg(&name)
        .arg(500)
        .arg("altered")
        .query_async(&mut connection)
        .await
        .unwrap();
    let reader = running(&settings);
    assert_eq!(kept(&reader, MOD).await, body, "from the storage");
    assert_eq!(reader.snapshot().tiers[0].corrupt, 1);
    until(5, "good again", async || {
        reader.snapshot().tiers[0].writes == 1
    })
    .await;
    let aside: bool = redis::cmd("EXISTS")
        .arg(format!("{name}:quarantine"))
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(aside);
}

#[tokio::test]
async fn storage_away_means_hits_from_the_disk_and_unknown_for_the_rest() {
    let mut s3 = S3::start().await;
    let tiers = running(&over(&s3));
    let body = bytes(1000, 4);
    keep(&tiers, MOD, &body).await;
    for paused in [true, false] {
        if paused {
            s3.pause();
        } else {
            s3.kill();
        }
        assert_eq!(kept(&tiers, MOD).await, body);
        until(30, "taken out", async || {
            let found = tiers.find(&key("go/example.com/none/@v/v1.0.0.mod")).await;
            assert!(
                matches!(found, Found::Unknown(_)),
                "never absent: {found:?}"
            );
            !tiers.snapshot().tiers[0].up
        })
        .await;
        let begun = Instant::now();
        let at = "go/example.com/new/@v/v1.0.0.mod";
        let refused = tiers
            .keep(Content::Bytes(body.clone()), &key(at), &Digest::of(&body))
            .await;
        assert!(matches!(refused, Err(KeepError::Storage(_))), "{refused:?}");
        assert!(
            begun.elapsed() < Duration::from_millis(200),
            "refused at once: it is out"
        );
        assert!(
            !tiers.folder.path().join(at).exists(),
            "what the storage does not have is not kept here"
        );
        if paused {
            s3.resume();
        } else {
            s3.restart().await;
        }
        let begun = Instant::now();
        until(20, "put back", async || tiers.snapshot().tiers[0].up).await;
        println!(
            "object storage {}: put back after {:?}",
            if paused { "resumed" } else { "started" },
            begun.elapsed()
        );
        let found = tiers.find(&key("go/example.com/none/@v/v1.0.0.mod")).await;
        assert!(matches!(found, Found::Absent), "{found:?}");
    }
}

#[tokio::test]
async fn with_both_away_the_disk_serves_and_all_comes_back() {
    let (mut redis, mut s3) = (Redis::start().await, S3::start().await);
    let tiers = running(&all(&redis, &s3));
    let body = bytes(1000, 17);
    keep(&tiers, MOD, &body).await;
    for paused in [true, false] {
        if paused {
            redis.pause();
            s3.pause();
        } else {
            redis.kill();
            s3.kill();
        }
        until(30, "both taken out", async || {
            assert_eq!(kept(&tiers, MOD).await, body);
            let found = tiers.find(&key("go/example.com/none/@v/v1.0.0.mod")).await;
            assert!(
                matches!(found, Found::Unknown(_)),
                "never absent: {found:?}"
            );
            tiers.snapshot().tiers.iter().all(|tier| !tier.up)
        })
        .await;
        if paused {
            redis.resume();
            s3.resume();
        } else {
            redis.restart().await;
            s3.restart().await;
        }
        let begun = Instant::now();
        until(20, "both put back", async || {
            tiers.snapshot().tiers.iter().all(|tier| tier.up)
        })
        .await;
        println!(
            "Redis and object storage: put back after {:?}",
            begun.elapsed()
        );
        let at = format!("go/example.com/after/@v/v1.{}.0.mod", u8::from(paused));
        keep(&tiers, &at, &body).await;
        assert_eq!(kept(&running(&over(&s3)), &at).await, body);
    }
}

#[tokio::test]
async fn a_body_that_stops_breaks_the_pull_off() {
    let s3 = S3::start().await;
    let settings = || {
        let settings = ObjectSettings {
            idle_timeout: Duration::from_millis(500),
            ..object_settings(&s3)
        };
        TiersSettings {
            below: vec![TierSettings::Object(settings)],
            ..TiersSettings::default()
        }
    };
    let zip = "go/example.com/a/@v/v1.0.0.zip";
    let body = bytes(64 << 20, 5);
    keep_large(&running(&over(&s3)), zip, &body).await;
    let tiers = running(&settings());
    let pulled = pull(&tiers, zip).await;
    s3.pause();
    let writer = tiers.store().spool(Some(pulled.size())).await.unwrap();
    let reading = tokio::spawn(read(writer.spool().frames()));
    let error = pulled.into_spool(writer).await.unwrap_err();
    assert!(error.to_string().contains("s3"), "{error}");
    assert!(
        reading.await.unwrap().is_err(),
        "its reader sees it break off"
    );
    s3.resume();
    until(20, "good again", async || {
        match tiers.find(&key(zip)).await {
            Found::Pull(pull) => {
                let writer = tiers.store().spool(Some(pull.size())).await.unwrap();
                pull.into_spool(writer).await.is_ok()
            }
            _ => false,
        }
    })
    .await;
}

#[tokio::test]
async fn a_disk_that_takes_nothing_costs_no_answer() {
    let s3 = S3::start().await;
    let (small, large) = (bytes(1000, 12), bytes(3 << 20, 13));
    let zip = "go/example.com/a/@v/v1.0.0.zip";
    let filled = running(&without_disk(&s3));
    keep(&filled, MOD, &small).await;
    keep_large(&filled, zip, &large).await;
    let tiers = running(&over(&s3));
    // A folder that cannot be made stands for a disk that is full.
    fs::write(tiers.folder.path().join("go"), "in the way").unwrap();
    fs::remove_dir_all(tiers.folder.path().join("tmp")).unwrap();
    fs::write(tiers.folder.path().join("tmp"), "in the way").unwrap();
    assert_eq!(kept(&tiers, MOD).await, small);
    assert!(tiers.store().spool(Some(10)).await.is_err());
    let frames = pull(&tiers, zip).await.frames().unwrap();
    assert_eq!(read(frames).await.unwrap(), large);
    let new = "go/example.com/new/@v/v1.0.0.mod";
    keep(&tiers, new, &small).await;
    assert_eq!(kept(&tiers, new).await, small);
    until(5, "counted", async || tiers.snapshot().disk_refused >= 2).await;
    assert_eq!(
        fs::read(s3.bucket_dir().join("go-modules").join(new)).unwrap(),
        small
    );
}

#[tokio::test]
async fn a_full_disk_is_served_past_and_says_so() {
    let s3 = S3::start().await;
    let disk = SmallDisk::new(8 << 20);
    let (small, large) = (bytes(100_000, 15), bytes(3 << 20, 16));
    let zip = "go/example.com/a/@v/v1.0.0.zip";
    let filled = running(&without_disk(&s3));
    keep(&filled, MOD, &small).await;
    keep_large(&filled, zip, &large).await;
    let tiers = running_in(&over(&s3), TempDir::new_in(disk.path()).unwrap());
    disk.fill(20_000);
    assert_eq!(kept(&tiers, MOD).await, small);
    until(5, "said", async || tiers.snapshot().disk_refused == 1).await;
    let down = pull(&tiers, zip).await;
    let error = tiers.store().spool(Some(down.size())).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(read(down.frames().unwrap()).await.unwrap(), large);
    // A spool whose length nobody knew is told while it is written.
    let down = pull(&tiers, zip).await;
    let writer = tiers.store().spool(None).await.unwrap();
    let reading = tokio::spawn(read(writer.spool().frames()));
    let error = down.into_spool(writer).await.unwrap_err();
    assert!(matches!(error, PullError::Disk(_)), "{error}");
    assert!(reading.await.unwrap().is_err());
    // And what is new is kept where there is room.
    let new = "go/example.com/new/@v/v1.0.0.mod";
    keep(&tiers, new, &small).await;
    assert_eq!(
        fs::read(s3.bucket_dir().join("go-modules").join(new)).unwrap(),
        small
    );
    disk.make_room();
    keep(&tiers, "go/example.com/new/@v/v1.1.0.mod", &small).await;
    assert!(
        tiers
            .folder
            .path()
            .join("go/example.com/new/@v/v1.1.0.mod")
            .exists()
    );
}

#[tokio::test]
async fn a_full_redis_is_a_refusal_and_no_outage() {
    let (redis, s3) = (Redis::start().await, S3::start().await);
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let set = |name: &'static str, value: &'static str| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg(name).arg(value);
        set
    };
    set("maxmemory-policy", "noeviction")
        .exec_async(&mut connection)
        .await
        .unwrap();
    set("maxmemory", "1")
        .exec_async(&mut connection)
        .await
        .unwrap();
    let tiers = running(&all(&redis, &s3));
    let body = bytes(1000, 14);
    for version in 0..5 {
        keep(
            &tiers,
            &format!("go/example.com/a/@v/v1.{version}.0.mod"),
            &body,
        )
        .await;
    }
    until(5, "refused", async || tiers.snapshot().tiers[0].errors == 5).await;
    assert!(tiers.snapshot().tiers[0].up);
    let tier = store::tier::Tier::new(&TierSettings::Redis(redis_settings(&redis))).unwrap();
    let error = tier
        .put(&key("go/a"), &body.clone().into(), &Digest::of(&body))
        .await
        .unwrap_err();
    assert_eq!(error.kind, TierErrorKind::Full, "{error}");
}

/// A failover led to what is a copy now.
#[tokio::test]
async fn a_redis_that_takes_no_writes_is_told_by_its_own_reason() {
    let redis = Redis::start().await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut copy = redis::cmd("REPLICAOF");
    copy.arg("127.0.0.1").arg(1);
    copy.exec_async(&mut connection).await.unwrap();
    let tier = store::tier::Tier::new(&TierSettings::Redis(redis_settings(&redis))).unwrap();
    let body = bytes(1000, 15);
    let error = tier
        .put(&key("go/a"), &body.clone().into(), &Digest::of(&body))
        .await
        .unwrap_err();
    assert_eq!(error.kind, TierErrorKind::Refused, "{error}");
    assert!(
        error.to_string().contains("copy of another Redis"),
        "{error}"
    );
    assert!(tier.snapshot().refuses);
}
