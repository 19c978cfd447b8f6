//! Google Cloud Storage and Azure Blob Storage as tiers: what is another way there than with S3.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::*;
use futures_util::TryStreamExt;
use store::{
    Committed, Digest, Key, TiersSettings,
    tier::{ObjectSettings, Secret, Service, Source, Tier, TierErrorKind, TierSettings},
};
use testkit::services::{Cloud, Interface};

const SMALL: &str = "go/ex.test/!upper~x/@v/v1.0.0+incompatible.mod";
const LARGE: &str = "go/ex.test/large/@v/v1.0.0.zip";
/// More than goes in one request.
const LARGE_BYTES: usize = 17 << 20;

fn settings(cloud: &Cloud) -> ObjectSettings {
    let (service, access_key, secret_key) = match cloud.interface() {
        // The key of a service account is the access key here.
        Interface::Google => (Service::Gcs, cloud.secret_key(), None),
        Interface::Azure => (Service::Azure, Cloud::BUCKET, Some(cloud.secret_key())),
    };
    ObjectSettings {
        prefix: "go-modules".into(),
        endpoint: Some(cloud.endpoint()),
        access_key: Some(Secret::new(access_key)),
        secret_key: secret_key.map(Secret::new),
        allow_http: true,
        timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(10),
        ..ObjectSettings::new(service, Cloud::BUCKET)
    }
}

fn tier(cloud: &Cloud) -> Tier {
    Tier::new(&TierSettings::Object(settings(cloud))).unwrap()
}

fn diskless(cloud: &Cloud) -> TiersSettings {
    TiersSettings {
        disk: None,
        below: vec![TierSettings::Object(settings(cloud))],
        ..TiersSettings::default()
    }
}

async fn both() -> [Cloud; 2] {
    [
        Cloud::start(Interface::Google).await,
        Cloud::start(Interface::Azure).await,
    ]
}

async fn put(tier: &Tier, at: &Key, body: &Bytes) -> Result<Committed, TierErrorKind> {
    let digest = Digest::of(body).with_h1("h1:abc/+=");
    let put = tier.put(at, &Source::from(body.clone()), &digest).await;
    put.map_err(|error| error.kind)
}

#[tokio::test]
async fn what_one_replica_keeps_another_one_reads() {
    for cloud in both().await {
        let (one, other) = (running(&diskless(&cloud)), running(&diskless(&cloud)));
        let (small, large) = (bytes(1000, 1), bytes(LARGE_BYTES, 2));
        keep(&one, SMALL, &small).await;
        keep_large(&one, LARGE, &large).await;
        assert_eq!(
            cloud.object(&format!("go-modules/{SMALL}")),
            Some(small.clone())
        );
        assert_eq!(kept(&other, SMALL).await, small, "{cloud:?}");
        let tier = tier(&cloud);
        for (at, body) in [(SMALL, &small), (LARGE, &large)] {
            let at = key(at);
            let head = tier.head(&at).await.unwrap().unwrap();
            assert!(head.digest.unwrap().same_bytes(&Digest::of(body)));
            assert_eq!(put(&tier, &at, body).await, Ok(Committed::Present));
            let differs = put(&tier, &at, &bytes(body.len(), 3)).await;
            assert_eq!(differs, Err(TierErrorKind::Differs), "the first stays");
        }
        let Tier::Object(object) = &tier else {
            unreachable!()
        };
        let range = object.open(&key(LARGE), Some(10..20), None).await.unwrap();
        let range: Vec<Bytes> = range.unwrap().stream.try_collect().await.unwrap();
        assert_eq!(range.concat(), large[10..20]);
    }
}

#[tokio::test]
async fn what_somebody_else_put_there_or_altered_gives_way() {
    for cloud in both().await {
        let tier = tier(&cloud);
        let (at, body) = (key(SMALL), bytes(1000, 1));
        let path = format!("go-modules/{SMALL}");
        cloud.put(&path, "somebody else's", 0);
        assert_eq!(put(&tier, &at, &body).await, Ok(Committed::New));
        assert_eq!(cloud.object(&path), Some(body.clone()));
        cloud.alter(&path, bytes(1000, 2));
        let refused = tier.fetch(&at, 1 << 20).await.unwrap_err();
        assert_eq!(refused.kind, TierErrorKind::Corrupt, "{cloud:?}");
        let aside = cloud.object(&format!("go-modules/_quarantine/{SMALL}"));
        assert_eq!(aside, Some(bytes(1000, 2)));
        assert_eq!(put(&tier, &at, &body).await, Ok(Committed::New));
        assert_eq!(cloud.object(&path), Some(body));
    }
}

#[tokio::test]
async fn a_claim_that_was_left_behind_long_ago_is_taken_over() {
    for cloud in both().await {
        let claim = format!("go-modules/_claims/{LARGE}");
        cloud.put(&claim, "the hash of other bytes", 2);
        let (tier, body) = (tier(&cloud), bytes(LARGE_BYTES, 1));
        let taken = put(&tier, &key(LARGE), &body).await;
        assert_eq!(taken, Ok(Committed::New), "{cloud:?}");
        assert_eq!(cloud.object(&claim), None);
    }
}

/// Azure clears away what one writer sent when another one finishes.
#[tokio::test]
async fn two_that_send_the_same_bytes_at_once_are_no_trouble() {
    let cloud = Cloud::start(Interface::Azure).await;
    let (tier, body) = (tier(&cloud), bytes(LARGE_BYTES, 1));
    cloud.overtake();
    assert_eq!(put(&tier, &key(LARGE), &body).await, Ok(Committed::Present));
    assert_eq!(cloud.object(&format!("go-modules/{LARGE}")), Some(body));
    assert_eq!(cloud.object(&format!("go-modules/_claims/{LARGE}")), None);
}

#[tokio::test]
async fn a_bucket_that_is_gone_says_nothing_of_objects() {
    for cloud in both().await {
        let tier = tier(&cloud);
        let at = key(SMALL);
        assert_eq!(put(&tier, &at, &bytes(10, 1)).await, Ok(Committed::New));
        assert!(tier.head(&key(LARGE)).await.unwrap().is_none());
        tier.remove(&key(LARGE)).await.unwrap();
        cloud.remove_bucket();
        let refused = TierErrorKind::Refused;
        assert_eq!(tier.head(&at).await.unwrap_err().kind, refused);
        assert_eq!(tier.fetch(&at, 1000).await.unwrap_err().kind, refused);
        assert_eq!(put(&tier, &at, &bytes(10, 1)).await, Err(refused));
        let removed = tier.remove(&at).await;
        assert_eq!(removed.unwrap_err().kind, refused, "{cloud:?}");
    }
}

#[tokio::test]
async fn a_bucket_is_listed_page_after_page() {
    let cloud = Cloud::start(Interface::Google).await;
    let tier = tier(&cloud);
    for version in 0..7 {
        let at = key(&format!("go/ex.test/a/@v/v1.0.{version}.mod"));
        assert_eq!(put(&tier, &at, &bytes(10, 1)).await, Ok(Committed::New));
    }
    cloud.put("go-modules/go/ex.test//a", "no key", 0);
    let Tier::Object(object) = &tier else {
        unreachable!()
    };
    let listed: Vec<_> = object.list(None).try_collect().await.unwrap();
    assert_eq!(listed.len(), 7);
}
