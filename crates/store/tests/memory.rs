//! A large object goes up and down without being in memory. Alone in its program, since it measures the program.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;

use common::*;
use store::Content;
use testkit::services::S3;

const LEN: u64 = 192 << 20;
const MAX_GROWTH: u64 = 48 << 20;

/// Memory of this process that no file stands behind, in bytes.
fn anonymous() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes << 10
}

#[tokio::test]
async fn a_large_object_is_never_whole_in_memory() {
    let s3 = S3::start().await;
    let tiers = running(&without_disk(&s3));
    let zip = "go/example.com/large/@v/v1.0.0.zip";
    let mut writer = tiers.store().spool(Some(LEN)).await.unwrap();
    writer.hash_along();
    for part in 0..LEN >> 20 {
        writer
            .write(vec![bytes(1 << 20, u8::try_from(part).unwrap())])
            .await
            .unwrap();
    }
    let before = anonymous();
    let highest = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let watched = std::sync::Arc::clone(&highest);
    let watch = std::thread::spawn(move || {
        while std::sync::Arc::strong_count(&watched) > 1 {
            watched.fetch_max(anonymous(), std::sync::atomic::Ordering::Relaxed);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        watched.load(std::sync::atomic::Ordering::Relaxed)
    });
    let mut spooled = writer.finish();
    spooled.release();
    let content = Content::Spooled(spooled);
    let digest = content.digest().await.unwrap();
    tiers.keep(content, &key(zip), &digest).await.unwrap();
    // Down into a spool, and down to a client.
    let down = pull(&tiers, zip).await;
    let writer = tiers.store().spool(Some(down.size())).await.unwrap();
    let (good, again) = down.into_spool(writer).await.unwrap();
    assert!(again.same_bytes(&digest));
    drop(good);
    let mut frames = pull(&tiers, zip).await.frames().unwrap();
    let mut len = 0;
    while let Some(block) = std::future::poll_fn(|cx| frames.poll_next(cx)).await {
        len += block.unwrap().bytes.len() as u64;
    }
    assert_eq!(len, LEN);
    drop(highest);
    let highest = watch.join().unwrap();
    let growth = highest.saturating_sub(before);
    assert!(growth < MAX_GROWTH, "{growth} bytes more than {before}");
}
