//! A bucket with what somebody else put there, and one that is gone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;

use bytes::Bytes;
use common::*;
use futures_util::TryStreamExt;
use store::{
    Committed, Content, Digest, Found, KeepError, TiersSettings,
    tier::{InBucket, ObjectSettings, Secret, Service, Tier, TierErrorKind, TierSettings},
};
use testkit::services::S3;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

fn object(settings: ObjectSettings) -> Tier {
    Tier::new(&TierSettings::Object(settings)).unwrap()
}

#[tokio::test]
async fn what_somebody_else_put_there_makes_room_for_what_was_judged() {
    let s3 = S3::start().await;
    let tier = object(object_settings(&s3));
    let bucket = s3.bucket_dir().join("go-modules");
    // As long as ours, longer, and in place of what comes in parts.
    let cases = [
        ("go/a/@v/v1.0.0.mod", 5000, 5000),
        ("go/a/@v/v1.0.0.info", 50, 70),
        ("go/a/@v/v1.0.0.zip", 20 << 20, 1000),
    ];
    for (at, len, foreign_len) in cases {
        let (ours, foreign) = (bytes(len, 12), bytes(foreign_len, 13));
        put_foreign(&s3, &format!("go-modules/{at}"), &foreign).await;
        let put = async |body: &Bytes| {
            let digest = Digest::of(body);
            tier.put(&key(at), &body.clone().into(), &digest).await
        };
        assert_eq!(put(&ours).await.unwrap(), Committed::New, "{at}");
        assert_eq!(fs::read(bucket.join(at)).unwrap(), ours, "{at}");
        let aside = bucket.join("_quarantine").join(at);
        assert_eq!(fs::read(aside).unwrap(), foreign, "{at}: nothing is lost");
        assert!(!bucket.join("_claims").join(at).exists(), "{at}");
        // From now on it is like any other.
        let head = tier.head(&key(at)).await.unwrap().unwrap();
        assert!(head.digest.unwrap().same_bytes(&Digest::of(&ours)), "{at}");
        let differs = put(&foreign).await.unwrap_err();
        assert_eq!(differs.kind, TierErrorKind::Differs, "{at}");
    }
    assert_eq!(tier.snapshot().corrupt, 3);
}

#[tokio::test]
async fn two_who_replace_a_foreign_object_with_other_bytes_end_in_one() {
    let s3 = S3::start().await;
    for (ending, len) in [("mod", 3000), ("zip", 10 << 20)] {
        let mut both_won = 0;
        for round in 0..5 {
            let at = format!("go/a/@v/v1.0.{round}.{ending}");
            if !one_wins(&s3, &at, len).await {
                both_won += 1;
            }
        }
        assert!(both_won < 3, "{ending}: both won {both_won} times");
    }
}

/// False if both won: this server lets two writes on the same condition both through once in thirty times under load.
async fn one_wins(s3: &S3, at: &str, len: usize) -> bool {
    put_foreign(s3, &format!("go-modules/{at}"), &bytes(1000, 1)).await;
    let bodies = [bytes(len, 2), bytes(len, 3)];
    let put = async |body: &Bytes| {
        let tier = object(object_settings(s3));
        tier.put(&key(at), &body.clone().into(), &Digest::of(body))
            .await
    };
    let (one, two) = tokio::join!(put(&bodies[0]), put(&bodies[1]));
    let (kept, other) = match (one, two) {
        (Ok(Committed::New), Err(other)) => (&bodies[0], other),
        (Err(other), Ok(Committed::New)) => (&bodies[1], other),
        (Ok(Committed::New), Ok(Committed::New)) => return false,
        both => panic!("{at}: {both:?}"),
    };
    assert_eq!(other.kind, TierErrorKind::Differs, "{at}: {other}");
    let there = fs::read(s3.bucket_dir().join("go-modules").join(at)).unwrap();
    assert_eq!(there, *kept, "{at}");
    true
}

#[tokio::test]
async fn a_bucket_that_is_gone_is_no_absence() {
    let s3 = S3::start().await;
    let at = "go/a/@v/v1.0.0.mod";
    let replica = running(&over(&s3));
    keep(&replica, at, &bytes(1000, 1)).await;
    let tier = object(object_settings(&s3));
    // An object that is not there, and then no bucket.
    assert!(tier.head(&key("go/none")).await.unwrap().is_none());
    tier.remove(&key("go/none")).await.unwrap();
    let away = s3.bucket_dir().with_extension("away");
    fs::rename(s3.bucket_dir(), &away).unwrap();
    let refused = |what: &str, error: store::tier::TierError| {
        assert_eq!(error.kind, TierErrorKind::Refused, "{what}: {error}");
        assert!(
            error.to_string().contains("NoSuchBucket"),
            "{what}: {error}"
        );
    };
    refused("remove", tier.remove(&key(at)).await.unwrap_err());
    refused("head", tier.head(&key(at)).await.unwrap_err());
    refused("fetch", tier.fetch(&key(at), 1 << 20).await.unwrap_err());
    let Tier::Object(listed) = &tier else {
        unreachable!()
    };
    refused("open", listed.open(&key(at), None, None).await.unwrap_err());
    refused("list", listed.list(None).try_next().await.unwrap_err());
    let found = running(&over(&s3)).find(&key(at)).await;
    assert!(matches!(found, Found::Unknown(_)), "{found:?}");
    // Nobody takes it for removed, and lets go of what is here.
    let said = replica
        .follow(&key(at), &key(at), store::Said::Nothing)
        .await;
    assert!(matches!(said, Err(KeepError::Storage(_))), "{said:?}");
    assert!(replica.folder.path().join(at).exists());
    fs::rename(&away, s3.bucket_dir()).unwrap();
    assert!(tier.head(&key(at)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_listing_goes_on_over_names_that_nobody_here_gives() {
    let s3 = S3::start().await;
    let tier = object(object_settings(&s3));
    for at in ["go/a/@v/v1.0.0.mod", "go/z/@v/v1.0.0.mod"] {
        let body = bytes(100, 1);
        tier.put(&key(at), &body.clone().into(), &Digest::of(&body))
            .await
            .unwrap();
    }
    let folder = s3.bucket_dir().join("go-modules/go/m");
    fs::create_dir_all(&folder).unwrap();
    let strange = ["go/m/de\u{7f}l", "go/m/.hidden", "go/m/back\\slash"];
    for at in strange {
        fs::write(s3.bucket_dir().join("go-modules").join(at), "x").unwrap();
    }
    let Tier::Object(listed) = &tier else {
        unreachable!()
    };
    let (mut keys, mut strays) = (Vec::new(), Vec::new());
    let mut entries = listed.entries(Some(&key("go")));
    while let Some(entry) = entries.try_next().await.unwrap() {
        match entry {
            InBucket::Object(listed) => keys.push(listed.key.to_string()),
            InBucket::Stray(name) => strays.push(name),
        }
    }
    assert_eq!(keys, ["go/a/@v/v1.0.0.mod", "go/z/@v/v1.0.0.mod"]);
    strays.sort();
    let mut wanted = strange.map(|at| format!("go-modules/{at}"));
    wanted.sort();
    assert_eq!(strays, wanted);
    let listed: Vec<_> = listed.list(None).try_collect().await.unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
}

/// The address of a server that answers by the first line of each request: a status, and a page.
async fn server(answer: fn(&str) -> (&'static str, &'static str)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 16 << 10];
                while let Ok(read @ 1..) = client.read(&mut head).await {
                    let request = String::from_utf8_lossy(&head[..read]);
                    let (status, page) = answer(request.lines().next().unwrap_or(""));
                    let length = page.len();
                    let answer =
                        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{page}");
                    client.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    endpoint
}

/// What its object tier is made of.
fn at(endpoint: String) -> ObjectSettings {
    ObjectSettings {
        endpoint: Some(endpoint),
        access_key: Some(Secret::new("a")),
        secret_key: Some(Secret::new("b")),
        allow_http: true,
        ..ObjectSettings::new(Service::S3, "modgate")
    }
}

/// A balancer that has lost the service behind it, say.
#[tokio::test]
async fn a_404_that_is_not_the_services_own_is_no_absence() {
    let mod_key = key("go/a/@v/v1.0.0.mod");
    let balancer = server(|_| ("404 Not Found", "default backend - 404")).await;
    let balancer = object(at(balancer));
    let error = balancer.fetch(&mod_key, 1 << 20).await.unwrap_err();
    assert_eq!(error.kind, TierErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("default backend"), "{error}");
    // Its HEAD has no text, and this one's is none.
    balancer.head(&mod_key).await.unwrap_err();

    let sparing = object(at(server(|_| ("404 Not Found", "")).await));
    assert!(sparing.fetch(&mod_key, 1 << 20).await.unwrap().is_none());
}

#[tokio::test]
async fn a_service_without_conditional_writes_is_told_at_the_start() {
    const LIST: &str = "<?xml version=\"1.0\"?><ListBucketResult><Name>modgate</Name><KeyCount>0</KeyCount>\
        <MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>";
    let endpoint = server(|line| match line {
        line if line.starts_with("PUT") => (
            "501 Not Implemented",
            "<Error><Code>NotImplemented</Code></Error>",
        ),
        line if line.contains("list-type") => ("200 OK", LIST),
        _ => ("404 Not Found", ""),
    });
    let tiers = running(&TiersSettings {
        below: vec![TierSettings::Object(at(endpoint.await))],
        ..TiersSettings::default()
    });
    until(20, "refuses", async || tiers.snapshot().tiers[0].refuses).await;
    let body = bytes(1000, 1);
    let (mod_key, digest) = (key("go/a/@v/v1.0.0.mod"), Digest::of(&body));
    let kept = tiers
        .persist(&Content::Bytes(body), &mod_key, &digest)
        .await;
    let Err(KeepError::Storage(error)) = kept else {
        panic!("{kept:?}");
    };
    assert_eq!(error.kind, TierErrorKind::Refused, "{error}");
}

/// As versitygw does in a bucket that keeps versions, once an object was removed.
#[tokio::test]
async fn a_service_that_contradicts_itself_is_told() {
    let endpoint = server(|line| {
        if line.starts_with("PUT") {
            ("412 Precondition Failed", "")
        } else {
            ("404 Not Found", "")
        }
    });
    let tier = object(at(endpoint.await));
    let body = bytes(1000, 1);
    let mod_key = key("go/a/@v/v1.0.0.mod");
    let error = tier
        .put(&mod_key, &body.clone().into(), &Digest::of(&body))
        .await
        .unwrap_err();
    assert_eq!(error.kind, TierErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("keep versions"), "{error}");
    assert!(tier.snapshot().refuses);
}

#[tokio::test]
async fn why_nobody_can_be_asked_is_told() {
    let tier = object(at("http://no-such-name.invalid".to_owned()));
    let error = tier.probe().await.unwrap_err().to_string();
    assert!(error.contains("lookup address"), "{error}");
}
