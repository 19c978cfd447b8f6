//! What is kept goes to the bucket, and comes from it again.

use std::os::unix::fs::FileExt as _;

use object_store::{
    ObjectStore as _, ObjectStoreExt as _,
    aws::{AmazonS3, AmazonS3Builder},
};
use reqwest::Method;
use testkit::{
    chaos::Chaos,
    fixture::Module,
    lab::Lab,
    services::{Redis, S3},
};

use crate::{
    DISK, MEMORY, all_right,
    common::{code, eventually, module},
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

fn client(bucket: &S3) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(bucket.endpoint())
        .with_region(S3::REGION)
        .with_bucket_name(S3::BUCKET)
        .with_access_key_id(bucket.access_key())
        .with_secret_access_key(bucket.secret_key())
        .with_allow_http(true)
        .build()
        .unwrap()
}

/// An object as somebody else writes it: without a digest.
async fn put_foreign(bucket: &S3, module: &Module, ending: &str, body: &'static [u8]) {
    let store = client(bucket);
    let at = format!("go-modules/go{}", module.url_path(ending));
    let at = object_store::path::Path::parse(at).unwrap();
    store.put(&at, body.into()).await.unwrap();
}

#[tokio::test]
async fn what_somebody_else_put_in_the_bucket_holds_up_no_version() {
    let (lab, bucket) = (Lab::start().await, S3::start().await);
    let (small, big) = (module("small"), large("big"));
    lab.add(small.clone());
    lab.add(big.clone());
    for module in [&small, &big] {
        for ending in ["info", "mod", "zip"] {
            put_foreign(&bucket, module, ending, b"something else").await;
        }
    }
    let gate = gate(&lab, &bucket, &format!("{MEMORY}{}", s3(&bucket, "")), None).await;
    for module in [&small, &big] {
        all_right(&gate, module).await;
        assert!(std::fs::read(in_bucket(&bucket, module, "zip")).unwrap() == module.zip());
        let aside = in_bucket(&bucket, module, "zip");
        let aside = aside
            .strip_prefix(bucket.bucket_dir().join("go-modules"))
            .unwrap();
        let aside = bucket
            .bucket_dir()
            .join("go-modules/_quarantine")
            .join(aside);
        assert_eq!(std::fs::read(aside).unwrap(), b"something else");
    }
    // And another replica serves them from the bucket.
    lab.stop().await;
    let second = self::gate(&lab, &bucket, &format!("{MEMORY}{}", s3(&bucket, "")), None).await;
    all_right(&second, &small).await;
    all_right(&second, &big).await;
}

#[tokio::test]
async fn what_is_damaged_in_the_bucket_and_had_nowhere_else_is_no_refusal_of_the_owner_and_not_absent()
 {
    let (lab, bucket) = (Lab::start().await, S3::start().await);
    let (small, big) = (module("small"), large("big"));
    lab.add(small.clone());
    lab.add(big.clone());
    let config = format!("{MEMORY}{DISK}{}", s3(&bucket, ""));
    let first = gate(&lab, &bucket, &config, None).await;
    for module in [&small, &big] {
        all_right(&first, module).await;
        let kept = in_bucket(&bucket, module, "zip");
        let file = std::fs::OpenOptions::new().write(true).open(kept).unwrap();
        file.write_all_at(b"altered", 30).unwrap();
    }
    drop(first);
    let off = format!("[[route]]\nmatch = [\"*/*\"]\nchain = \"off\"\n{config}");
    let off = gate(&lab, &bucket, &off, None).await;
    for module in [&small, &big] {
        let path = module.url_path("zip");
        // A large one that is read along breaks off.
        let _ = off.ask(Method::GET, &path, &[]).await;
        for path in [path.clone(), path.clone(), format!("/cached-only{path}")] {
            let refused = off.get(&path).await;
            assert_eq!(refused.status, 503, "{path}: {}", refused.text());
            assert_eq!(code(&refused), "storage_unavailable");
            assert!(
                refused.text().contains("modgate fsck"),
                "{}",
                refused.text()
            );
        }
    }
    let absent = off.get(&module("absent").url_path("zip")).await;
    assert_eq!(code(&absent), "lookup_disabled");
    drop(off);

    // Nor does it become absent because upstream has it no more.
    let empty = Lab::start().await;
    let second = gate(&empty, &bucket, &config, None).await;
    let refused = second.get(&small.url_path("zip")).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    drop(second);
    // Where it has, that is served, and kept again.
    let third = gate(&lab, &bucket, &config, None).await;
    all_right(&third, &small).await;
}

#[tokio::test]
async fn a_part_of_a_large_object_is_one_request_once_the_object_was_compared() {
    let (lab, bucket) = (Lab::start().await, S3::start().await);
    let big = large("big");
    lab.add(big.clone());
    let line = Chaos::before(bucket.addr()).await;
    let storage = s3(&bucket, "").replace(&bucket.endpoint(), &format!("http://{}", line.addr()));
    let gate = gate(&lab, &bucket, &format!("{MEMORY}{storage}"), None).await;
    all_right(&gate, &big).await;
    let zip = big.zip();
    let part = async |from: usize| {
        line.take_requests();
        let range = format!("bytes={from}-{}", from + 99);
        let path = big.url_path("zip");
        let reply = gate.get_with(&path, &[("range", &range)]).await;
        assert_eq!(reply.status, 206, "{}", reply.text());
        assert!(reply.body == zip[from..from + 100]);
        line.take_requests()
    };
    // The whole, compared; then the part of that very object.
    let first = part(5_000_000).await;
    assert_eq!(first.len(), 2, "{first:#?}");
    assert!(
        !first[0].to_lowercase().contains("\r\nrange:"),
        "{first:#?}"
    );
    for from in [1000, 7_000_000] {
        let asked = part(from).await;
        assert_eq!(asked.len(), 1, "{asked:#?}");
        let head = asked[0].to_lowercase();
        assert!(
            head.contains("\r\nrange:") && head.contains("\r\nif-match:"),
            "{head}"
        );
    }
    // Altered where it lies: another object, which is compared again before a byte of it goes out.
    let path = in_bucket(&bucket, &big, "zip");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    put_whole(&bucket, &big, bytes).await;
    let reply = gate
        .get_with(&big.url_path("zip"), &[("range", "bytes=0-4095")])
        .await;
    assert!(
        reply.status != 206 || reply.body == zip[..4096],
        "{}",
        reply.status
    );
    all_right(&gate, &big).await;
}

/// Other bytes under the digest that stands there.
async fn put_whole(bucket: &S3, module: &Module, bytes: Vec<u8>) {
    let store = client(bucket);
    let at = format!("go-modules/go{}", module.url_path("zip"));
    let at = object_store::path::Path::parse(at).unwrap();
    let options = object_store::GetOptions {
        head: true,
        ..object_store::GetOptions::default()
    };
    let attributes = store.get_opts(&at, options).await.unwrap().attributes;
    let options = object_store::PutOptions {
        attributes,
        ..object_store::PutOptions::default()
    };
    store.put_opts(&at, bytes.into(), options).await.unwrap();
}

#[tokio::test]
async fn redis_above_a_disk_alone_gets_what_the_disk_gets() {
    let (lab, bucket, hot) = (Lab::start().await, S3::start().await, Redis::start().await);
    let small = module("small");
    lab.add(small.clone());
    let config = format!("{MEMORY}{}{DISK}", redis(&hot));
    let first = gate(&lab, &bucket, &config, None).await;
    all_right(&first, &small).await;
    eventually("all three files are in Redis", async || {
        first
            .metric("modgate_tier_writes_total{tier=\"redis\"}")
            .await
            >= 3.0
    })
    .await;
    // Another one with a disk of its own has them from there, without upstream.
    lab.stop().await;
    let second = gate(&lab, &bucket, &config, None).await;
    all_right(&second, &small).await;
}
