//! What the tests of tiers share.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test program uses its own part; a test fails by panicking"
)]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use store::{
    Content, Digest, Found, FrameError, Frames, Key, Pull, Spooled, Store, StoreSettings, Tiers,
    TiersSettings,
    tier::{ObjectSettings, Persist, RedisSettings, Secret, Service, TierSettings},
};
use tempfile::TempDir;
use testkit::services::{Redis, S3};

pub(crate) fn key(text: &str) -> Key {
    Key::new(text.to_owned()).unwrap()
}

pub(crate) fn object_settings(s3: &S3) -> ObjectSettings {
    ObjectSettings {
        prefix: "go-modules".into(),
        endpoint: Some(s3.endpoint()),
        region: Some(S3::REGION.into()),
        access_key: Some(Secret::new(s3.access_key())),
        secret_key: Some(Secret::new(s3.secret_key())),
        allow_http: true,
        timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(5),
        ..ObjectSettings::new(Service::S3, S3::BUCKET)
    }
}

pub(crate) fn redis_settings(redis: &Redis) -> RedisSettings {
    RedisSettings::new(Secret::new(redis.url()))
}

pub(crate) fn open_store(folder: &TempDir) -> Arc<Store> {
    let settings = StoreSettings {
        folder: folder.path().to_owned(),
        hot_bytes: 16 << 20,
        hot_ttl: None,
    };
    Arc::new(Store::open(&settings).unwrap())
}

/// Tiers with their background work, which ends with this.
pub(crate) struct Running {
    pub(crate) tiers: Arc<Tiers>,
    work: tokio::task::JoinHandle<()>,
    pub(crate) folder: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl std::ops::Deref for Running {
    type Target = Arc<Tiers>;
    fn deref(&self) -> &Arc<Tiers> {
        &self.tiers
    }
}

pub(crate) fn running(settings: &TiersSettings) -> Running {
    running_in(settings, TempDir::new().unwrap())
}

pub(crate) fn running_in(settings: &TiersSettings, folder: TempDir) -> Running {
    let store = open_store(&folder);
    let tiers = Tiers::open(settings, store).unwrap();
    let work = tokio::spawn(Arc::clone(&tiers).run());
    Running {
        tiers,
        work,
        folder,
    }
}

/// Object storage below the disk.
pub(crate) fn over(s3: &S3) -> TiersSettings {
    TiersSettings {
        below: vec![TierSettings::Object(object_settings(s3))],
        ..TiersSettings::default()
    }
}

/// Object storage without a disk tier.
pub(crate) fn without_disk(s3: &S3) -> TiersSettings {
    TiersSettings {
        disk: None,
        ..over(s3)
    }
}

/// Object storage that is written to later.
pub(crate) fn later(s3: &S3) -> TiersSettings {
    let settings = ObjectSettings {
        persist: Persist::Async,
        timeout: Duration::from_millis(500),
        ..object_settings(s3)
    };
    TiersSettings {
        below: vec![TierSettings::Object(settings)],
        ..TiersSettings::default()
    }
}

/// The data folder as `kill -9` leaves it now: nothing is flushed.
pub(crate) fn left_by(running: &Running) -> TempDir {
    let left = TempDir::new().unwrap();
    let (from, to) = (running.folder.path(), left.path());
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(to)
        .status()
        .unwrap();
    assert!(copied.success());
    left
}

/// Bytes that look like no others of another seed.
pub(crate) fn bytes(len: usize, seed: u8) -> Bytes {
    let mut state = u64::from(seed) + 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// A finished download.
pub(crate) async fn spooled(store: &Arc<Store>, bytes: &Bytes) -> Spooled {
    let mut writer = store.spool(Some(bytes.len() as u64)).await.unwrap();
    writer.hash_along();
    writer.write(vec![bytes.clone()]).await.unwrap();
    writer.finish()
}

pub(crate) async fn keep(tiers: &Arc<Tiers>, at: &str, bytes: &Bytes) {
    tiers
        .keep(Content::Bytes(bytes.clone()), &key(at), &Digest::of(bytes))
        .await
        .unwrap();
}

pub(crate) async fn keep_large(tiers: &Arc<Tiers>, at: &str, bytes: &Bytes) {
    let mut spooled = spooled(tiers.store(), bytes).await;
    spooled.release();
    let content = Content::Spooled(spooled);
    let digest = content.digest().await.unwrap();
    tiers.keep(content, &key(at), &digest).await.unwrap();
}

/// The whole of a body.
pub(crate) async fn read(mut frames: Frames) -> Result<Vec<u8>, FrameError> {
    let mut all = Vec::new();
    while let Some(block) = std::future::poll_fn(|cx| frames.poll_next(cx)).await {
        all.extend_from_slice(&block?.bytes);
    }
    Ok(all)
}

/// What is kept at `at`, which must be here.
pub(crate) async fn kept(tiers: &Arc<Tiers>, at: &str) -> Vec<u8> {
    match tiers.find(&key(at)).await {
        Found::Kept(kept) => read(kept.frames(0, u64::MAX)).await.unwrap(),
        other => panic!("{at}: {other:?}"),
    }
}

pub(crate) async fn pull(tiers: &Arc<Tiers>, at: &str) -> Pull {
    match tiers.find(&key(at)).await {
        Found::Pull(pull) => pull,
        other => panic!("{at}: {other:?}"),
    }
}

/// Waits until `done`, at most `seconds`.
pub(crate) async fn until(seconds: u64, what: &str, mut done: impl AsyncFnMut() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(seconds);
    while !done().await {
        assert!(
            tokio::time::Instant::now() < limit,
            "not within {seconds} s: {what}"
        );
        // The state of another process, of which no event tells.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An object as somebody else writes it: without a digest.
pub(crate) async fn put_foreign(s3: &S3, at: &str, body: &Bytes) {
    use object_store::ObjectStoreExt as _;
    let bucket = object_store::aws::AmazonS3Builder::new()
        .with_endpoint(s3.endpoint())
        .with_region(S3::REGION)
        .with_bucket_name(S3::BUCKET)
        .with_access_key_id(s3.access_key())
        .with_secret_access_key(s3.secret_key())
        .with_allow_http(true)
        .build()
        .unwrap();
    let at = object_store::path::Path::parse(at).unwrap();
    bucket.put(&at, body.clone().into()).await.unwrap();
}
