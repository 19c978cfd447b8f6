//! What is kept goes to the bucket, and comes from it again.

use testkit::{
    lab::Lab,
    services::{Redis, S3},
};

use crate::{
    DISK, MEMORY, all_right,
    common::{eventually, module},
    gate, in_bucket, large, redis, s3,
};

#[tokio::test]
async fn kept_in_the_bucket_before_the_last_byte_and_served_without_data_folder_or_upstream() {
    let (lab, bucket, hot) = (Lab::start().await, S3::start().await, Redis::start().await);
    let (small, big) = (module("small"), large("big"));
    lab.add(small.clone());
    lab.add(big.clone());
    let config = format!("{MEMORY}{}{DISK}{}", redis(&hot), s3(&bucket, ""));
    let first = gate(&lab, &bucket, &config, None).await;
    for module in [&small, &big] {
        all_right(&first, module).await;
        for ending in ["info", "mod", "zip"] {
            // Through: there before the client had its last byte.
            assert!(in_bucket(&bucket, module, ending).exists(), "{ending}");
        }
    }
    assert!(std::fs::read(in_bucket(&bucket, &big, "zip")).unwrap() == big.zip());
    let ziphash = in_bucket(&bucket, &small, "ziphash");
    eventually("the hash lies beside the zip", async || ziphash.exists()).await;
    drop(first);

    // Another machine: no data folder, no upstream.
    lab.stop().await;
    for config in [&config, &format!("{MEMORY}{}", s3(&bucket, ""))] {
        let second = gate(&lab, &bucket, config, None).await;
        for module in [&small, &big] {
            all_right(&second, module).await;
            all_right(&second, module).await;
        }
        // A part of a large object, and its head.
        let zip = big.zip();
        let part = second
            .get_with(&big.url_path("zip"), &[("range", "bytes=5000000-5000099")])
            .await;
        assert_eq!(part.status, 206, "{}", part.text());
        assert!(part.body == zip[5_000_000..5_000_100]);
        assert_eq!(
            part.header("content-range"),
            format!("bytes 5000000-5000099/{}", zip.len())
        );
        let head = second.head(&big.url_path("zip")).await;
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, &*zip.len().to_string())
        );
        let tag = head.header("etag").to_owned();
        let same = second
            .get_with(&big.url_path("zip"), &[("if-none-match", &tag)])
            .await;
        assert_eq!(same.status, 304);
        let cached = second
            .get(&format!("/cached-only{}", small.url_path("zip")))
            .await;
        assert_eq!(cached.status, 200);
        let absent = second
            .get(&format!("/cached-only{}", module("absent").url_path("zip")))
            .await;
        assert_eq!(absent.status, 404, "{}", absent.text());
    }
}

#[tokio::test]
async fn a_plain_folder_of_the_bucket_is_a_goproxy() {
    let (lab, bucket) = (Lab::start().await, S3::start().await);
    let upper = testkit::fixture::Module::new("lab.example/Upper/x~y", "v1.0.0-RC1")
        .file("a.go", "package a\n");
    lab.add(upper.clone());
    let gate = gate(&lab, &bucket, &format!("{MEMORY}{}", s3(&bucket, "")), None).await;
    all_right(&gate, &upper).await;
    for ending in ["info", "mod", "zip"] {
        assert!(in_bucket(&bucket, &upper, ending).exists(), "{ending}");
    }
    // Nothing is left where there is no disk tier.
    assert!(!gate.data_dir().join("go/lab.example").exists());
}

#[tokio::test]
async fn altered_bytes_in_the_bucket_are_never_served_and_fetched_anew() {
    let (lab, bucket) = (Lab::start().await, S3::start().await);
    let (small, big) = (module("small"), large("big"));
    lab.add(small.clone());
    lab.add(big.clone());
    let config = format!("{MEMORY}{}", s3(&bucket, ""));
    let first = gate(&lab, &bucket, &config, None).await;
    all_right(&first, &small).await;
    all_right(&first, &big).await;
    drop(first);
    for module in [&small, &big] {
        let path = in_bucket(&bucket, module, "zip");
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    for disk in ["", DISK] {
        let config = format!("{MEMORY}{disk}{}", s3(&bucket, ""));
        let gate = gate(&lab, &bucket, &config, None).await;
        for module in [&small, &big] {
            let want = module.zip();
            let mut right = false;
            for _ in 0..10 {
                // Cut short or refused, but never another whole body.
                let reply = gate
                    .client()
                    .get(format!("{}{}", gate.url(), module.url_path("zip")))
                    .send()
                    .await
                    .unwrap();
                let status = reply.status().as_u16();
                let Ok(body) = reply.bytes().await else {
                    continue;
                };
                if status == 200 {
                    assert!(body == want, "altered bytes were served");
                    right = true;
                    break;
                }
            }
            assert!(
                right,
                "never healed: {} {disk}\n{}",
                module.path(),
                gate.logs()
            );
        }
    }
}
