//! A bad line to the tiers: what it alters, cuts and slows costs no wrong byte and no kept version.

mod common;

use std::{fs, time::Duration};

use common::*;
use store::{
    Content, Digest, Found, KeepError, TiersSettings,
    tier::{ObjectSettings, RedisSettings, Secret, TierErrorKind, TierSettings},
};
use testkit::{
    chaos::Chaos,
    services::{Redis, S3},
};

const MOD: &str = "go/example.com/a/@v/v1.0.0.mod";
const ZIP: &str = "go/example.com/a/@v/v1.0.0.zip";

fn behind(line: &Chaos, s3: &S3) -> TiersSettings {
    let settings = ObjectSettings {
        endpoint: Some(format!("http://{}", line.addr())),
        timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
        ..object_settings(s3)
    };
    TiersSettings {
        below: vec![TierSettings::Object(settings)],
        ..TiersSettings::default()
    }
}

#[tokio::test]
async fn a_line_that_alters_gets_no_wrong_byte_through_and_loses_nothing() {
    let s3 = S3::start().await;
    let line = Chaos::before(s3.addr()).await;
    let (small, large) = (bytes(50_000, 1), bytes(4 << 20, 2));
    let writer = running(&over(&s3));
    keep(&writer, MOD, &small).await;
    keep_large(&writer, ZIP, &large).await;

    line.alter();
    let reader = running(&behind(&line, &s3));
    let found = reader.find(&key(MOD)).await;
    assert!(
        matches!(found, Found::Absent | Found::Unknown(_)),
        "{found:?}"
    );
    if let Found::Pull(pull) = reader.find(&key(ZIP)).await {
        let frames = pull.frames().unwrap();
        assert!(read(frames).await.is_err());
    }
    if let Found::Pull(pull) = reader.find(&key(ZIP)).await {
        let writer = reader.store().spool(Some(pull.size())).await.unwrap();
        assert!(pull.into_spool(writer).await.is_err());
    }
    assert!(reader.snapshot().tiers[0].corrupt >= 1);
    let bucket = s3.bucket_dir().join("go-modules");
    assert_eq!(
        fs::read(bucket.join(MOD)).unwrap(),
        small,
        "what lies there is good, and stays"
    );
    assert_eq!(fs::read(bucket.join(ZIP)).unwrap(), large);

    // Whoever fetched it anew writes it, and all is well at once.
    line.heal();
    until(20, "up", async || reader.snapshot().tiers[0].up).await;
    keep(&reader, MOD, &small).await;
    let other = running(&behind(&line, &s3));
    assert_eq!(kept(&other, MOD).await, small);
    let pull = pull(&other, ZIP).await;
    assert_eq!(read(pull.frames().unwrap()).await.unwrap(), large);
}

#[tokio::test]
async fn a_line_that_breaks_in_the_middle_is_gone_on_with() {
    let s3 = S3::start().await;
    let line = Chaos::before(s3.addr()).await;
    let large = bytes(8 << 20, 5);
    keep_large(&running(&over(&s3)), ZIP, &large).await;
    let reader = running(&behind(&line, &s3));
    let pulled = pull(&reader, ZIP).await;
    line.cut_after(3 << 20);
    let writer = reader.store().spool(Some(pulled.size())).await.unwrap();
    let following = tokio::spawn(read(writer.spool().frames()));
    match pulled.into_spool(writer).await {
        // Asked for the rest on another connection.
        Ok((mut spooled, _)) => {
            spooled.release();
            assert_eq!(following.await.unwrap().unwrap(), large);
        }
        Err(error) => {
            assert!(following.await.unwrap().is_err(), "{error}");
        }
    }
    line.heal();
    until(20, "whole", async || {
        let Found::Pull(pull) = reader.find(&key(ZIP)).await else {
            return false;
        };
        read(pull.frames().unwrap())
            .await
            .is_ok_and(|body| body == large)
    })
    .await;
}

#[tokio::test]
async fn a_slow_line_is_taken_out_and_put_back() {
    let (redis, s3) = (Redis::start().await, S3::start().await);
    let line = Chaos::before(redis.addr()).await;
    let settings = TiersSettings {
        above: vec![TierSettings::Redis(RedisSettings::new(Secret::new(
            format!("redis://{}", line.addr()),
        )))],
        ..over(&s3)
    };
    let tiers = running(&settings);
    let body = bytes(1000, 6);
    keep(&tiers, MOD, &body).await;
    until(5, "in Redis", async || {
        tiers.snapshot().tiers[0].writes == 1
    })
    .await;
    line.latency(Duration::from_secs(3));
    until(20, "taken out", async || {
        let found = tiers.find(&key("go/none")).await;
        assert!(matches!(found, Found::Absent), "{found:?}");
        !tiers.snapshot().tiers[0].up
    })
    .await;
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        let found = tiers.find(&key("go/none")).await;
        assert!(matches!(found, Found::Absent), "{found:?}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "nobody waits for it"
    );
    line.heal();
    until(30, "put back", async || tiers.snapshot().tiers[0].up).await;
    line.cut();
    for version in 0..5 {
        let at = format!("go/example.com/b/@v/v1.{version}.0.mod");
        tiers
            .keep(Content::Bytes(body.clone()), &key(&at), &Digest::of(&body))
            .await
            .unwrap();
    }
    line.heal();
    until(30, "put back", async || tiers.snapshot().tiers[0].up).await;
}

#[tokio::test]
async fn a_replica_shows_the_same_validator_as_any_other() {
    let s3 = S3::start().await;
    let (first, second) = (running(&over(&s3)), running(&over(&s3)));
    let body = bytes(5000, 7);
    keep(&first, MOD, &body).await;
    let validator = async |tiers: &Running| match tiers.find(&key(MOD)).await {
        Found::Kept(kept) => kept.validator().clone(),
        other => panic!("{other:?}"),
    };
    let from_disk = validator(&first).await;
    assert_eq!(
        validator(&second).await,
        from_disk,
        "from the storage, in memory"
    );
    let file = second.folder.path().join(MOD);
    until(5, "promoted", async || file.exists()).await;
    let folder = tempfile::TempDir::new().unwrap();
    fs::rename(second.folder.path().join("go"), folder.path().join("go")).unwrap();
    assert_eq!(
        validator(&running_in(&over(&s3), folder)).await,
        from_disk,
        "promoted"
    );
}

#[tokio::test]
async fn what_is_forgotten_is_gone_from_everywhere_and_does_not_come_back() {
    let (redis, mut s3) = (Redis::start().await, S3::start().await);
    let settings = ObjectSettings {
        persist: store::tier::Persist::Async,
        ..object_settings(&s3)
    };
    let settings = TiersSettings {
        above: vec![TierSettings::Redis(redis_settings(&redis))],
        below: vec![TierSettings::Object(settings)],
        ..TiersSettings::default()
    };
    s3.kill();
    let tiers = running(&settings);
    let body = bytes(5000, 8);
    keep(&tiers, MOD, &body).await;
    keep(&tiers, ZIP, &body).await;
    until(5, "in Redis", async || {
        tiers.snapshot().tiers[0].writes == 2
    })
    .await;
    assert!(
        tiers.forget(&key(MOD)).await.is_err(),
        "the storage could not be told"
    );
    assert_eq!(tiers.snapshot().journal.unwrap().entries, 1);
    s3.restart().await;
    assert!(tiers.flush(Duration::from_secs(30)).await);
    until(20, "put back", async || tiers.snapshot().tiers[1].up).await;
    tiers.forget(&key(MOD)).await.unwrap();
    tiers.forget(&key(ZIP)).await.unwrap();
    for at in [MOD, ZIP] {
        let found = tiers.find(&key(at)).await;
        assert!(matches!(found, Found::Absent), "{at}: {found:?}");
        assert!(!s3.bucket_dir().join("go-modules").join(at).exists());
    }
}

#[tokio::test]
async fn a_proxy_that_takes_no_long_uploads_is_a_refusal_and_no_outage() {
    let s3 = S3::start().await;
    let line = Chaos::before(s3.addr()).await;
    let tiers = running(&behind(&line, &s3));
    line.answer(
        b"HTTP/1.1 413 Request Entity Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    );
    for seed in 0..5 {
        let body = bytes(100_000, seed);
        let digest = Digest::of(&body);
        let key = key(&format!("go/example.com/a/@v/v1.0.{seed}.mod"));
        let kept = tiers.persist(&Content::Bytes(body), &key, &digest).await;
        let Err(KeepError::Storage(error)) = kept else {
            panic!("{kept:?}");
        };
        assert_eq!(error.kind, TierErrorKind::Refused, "{error}");
    }
    let tier = &tiers.snapshot().tiers[0];
    assert!(tier.up && tier.refuses, "{tier:?}");
    // What is shorter goes through.
    line.heal();
    keep(&tiers, MOD, &bytes(1000, 6)).await;
}

/// Its own advice, which asks for rights and room, does not lead there.
#[tokio::test]
async fn a_clock_that_is_wrong_is_told_as_that() {
    let s3 = S3::start().await;
    let line = Chaos::before(s3.addr()).await;
    let tiers = running(&behind(&line, &s3));
    line.answer(
        b"HTTP/1.1 403 Forbidden\r\ncontent-length: 48\r\nconnection: close\r\n\r\n\
        <Error><Code>RequestTimeTooSkewed</Code></Error>",
    );
    let found = tiers.find(&key(MOD)).await;
    let Found::Unknown(error) = found else {
        panic!("{found:?}");
    };
    assert!(error.to_string().contains("clock"), "{error}");
}
