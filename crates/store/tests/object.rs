//! Object storage as a tier, against a real S3 server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    time::Duration,
};

use bytes::Bytes;
use common::*;
use futures_util::TryStreamExt;
use store::{
    Committed, Content, Digest, Found, KeepError, PullError, TiersSettings,
    tier::{ObjectSettings, Secret, Source, Tier, TierErrorKind, TierSettings},
};
use testkit::services::S3;

const ZIP: &str = "go/git.sr.ht/~user/!upper.case+x/@v/v1.0.0+incompatible.zip";

fn object(settings: ObjectSettings) -> Tier {
    Tier::new(&TierSettings::Object(settings)).unwrap()
}

#[tokio::test]
async fn whether_conditional_writes_are_heeded_is_found_out() {
    let s3 = S3::start().await;
    for _ in 0..2 {
        let Tier::Object(tier) = object(object_settings(&s3)) else {
            unreachable!()
        };
        assert!(tier.heeds_conditions().await.unwrap());
    }
    // One that passes over what it does not know.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten().take(2) {
            let mut request = [0; 8192];
            let _ = stream.read(&mut request).unwrap();
            let answer =
                "HTTP/1.1 200 OK\r\netag: \"x\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let settings = ObjectSettings {
        endpoint: Some(format!("http://{address}")),
        ..object_settings(&s3)
    };
    let Tier::Object(tier) = object(settings) else {
        unreachable!()
    };
    assert!(!tier.heeds_conditions().await.unwrap());
}

#[tokio::test]
async fn a_bucket_is_laid_out_as_the_disk_is() {
    let s3 = S3::start().await;
    let tier = object(object_settings(&s3));
    for at in [ZIP, "go/example.com/a%b/@v/v1.0.0.mod", "go/a/@v/list"] {
        let body = bytes(1000, 1);
        let digest = Digest::of(&body).with_h1("h1:abc/+=");
        let source = Source::from(body.clone());
        assert_eq!(
            tier.put(&key(at), &source, &digest).await.unwrap(),
            Committed::New
        );
        let file = s3.bucket_dir().join("go-modules").join(at);
        assert_eq!(fs::read(file).unwrap(), body, "{at}");
        let head = tier.head(&key(at)).await.unwrap().unwrap();
        assert_eq!(
            head.digest,
            Some(digest.clone()),
            "{at}: the digest travels with it"
        );
        assert_eq!(
            tier.put(&key(at), &source, &digest).await.unwrap(),
            Committed::Present
        );
        let other = bytes(1000, 2);
        let differs = tier
            .put(&key(at), &other.clone().into(), &Digest::of(&other))
            .await;
        assert_eq!(differs.unwrap_err().kind, TierErrorKind::Differs);
        assert_eq!(
            tier.head(&key(at)).await.unwrap().unwrap().digest,
            Some(digest),
            "the first stays"
        );
    }
    let Tier::Object(listed) = &tier else {
        unreachable!()
    };
    let mut keys: Vec<String> = listed
        .list(None)
        .map_ok(|listed| listed.key.to_string())
        .try_collect()
        .await
        .unwrap();
    keys.sort();
    assert_eq!(
        keys,
        ["go/a/@v/list", "go/example.com/a%b/@v/v1.0.0.mod", ZIP]
    );
    tier.remove(&key(ZIP)).await.unwrap();
    tier.remove(&key(ZIP)).await.unwrap();
    assert!(tier.head(&key(ZIP)).await.unwrap().is_none());
    let snapshot = tier.snapshot();
    assert_eq!(
        (snapshot.writes, snapshot.present, snapshot.differs),
        (3, 3, 3)
    );
    assert!(snapshot.up);
}

#[tokio::test]
async fn writers_of_large_objects_end_in_one_or_are_told() {
    let s3 = S3::start().await;
    let (one, two) = (running(&over(&s3)), running(&over(&s3)));
    let body = bytes(20 << 20, 3);
    let (first, second) = tokio::join!(keep_large(&one, ZIP, &body), keep_large(&two, ZIP, &body));
    let ((), ()) = (first, second);
    let file = s3.bucket_dir().join("go-modules").join(ZIP);
    assert_eq!(fs::read(&file).unwrap(), body);
    let claims = s3.bucket_dir().join("go-modules/_claims").join(ZIP);
    assert!(!claims.exists(), "the claim is gone");

    // Others with other bytes, at once and later.
    let at = "go/a/@v/v1.0.0.zip";
    let others = [bytes(20 << 20, 4), bytes(20 << 20, 5)];
    let put = async |running: &Running, body: &Bytes| {
        let content = Content::Spooled(spooled(running.store(), body).await);
        let digest = content.digest().await.unwrap();
        running.keep(content, &key(at), &digest).await
    };
    let (a, b) = tokio::join!(put(&one, &others[0]), put(&two, &others[1]));
    let kept = match (a, b) {
        (Ok(_), Err(KeepError::Differs(_))) => &others[0],
        (Err(KeepError::Differs(_)), Ok(_)) => &others[1],
        other => panic!("{other:?}"),
    };
    assert_eq!(
        fs::read(s3.bucket_dir().join("go-modules").join(at)).unwrap(),
        *kept
    );
    let late = put(&one, &bytes(20 << 20, 6)).await;
    assert!(matches!(late, Err(KeepError::Differs(_))), "{late:?}");
}

#[tokio::test]
async fn a_large_object_is_pulled_compared_and_kept_on_the_disk() {
    let s3 = S3::start().await;
    let body = bytes(9 << 20, 7);
    keep_large(&running(&over(&s3)), ZIP, &body).await;
    let replica = running(&over(&s3));
    let pull = pull(&replica, ZIP).await;
    assert_eq!(pull.size(), body.len() as u64);
    let writer = replica.store().spool(Some(pull.size())).await.unwrap();
    let follower = writer.spool();
    let reading = tokio::spawn(read(follower.frames()));
    let (mut good, digest) = pull.into_spool(writer).await.unwrap();
    assert!(digest.same_bytes(&Digest::of(&body)));
    good.release();
    assert_eq!(reading.await.unwrap().unwrap(), body);
    replica
        .settle(Content::Spooled(good), &key(ZIP), &digest)
        .await
        .unwrap();
    drop(s3);
    assert_eq!(kept(&replica, ZIP).await, body, "from the disk alone");
}

#[tokio::test]
async fn without_a_disk_it_goes_straight_to_the_client_and_parts_too() {
    let s3 = S3::start().await;
    let replica = running(&without_disk(&s3));
    let (large, small) = (bytes(3 << 20, 8), bytes(70_000, 9));
    keep_large(&replica, ZIP, &large).await;
    keep(&replica, "go/a/@v/v1.0.0.mod", &small).await;
    assert!(
        !replica.folder.path().join("go").exists(),
        "nothing stays in the data folder"
    );
    let replica = running(&without_disk(&s3));
    let frames = pull(&replica, ZIP).await.frames().unwrap();
    assert_eq!(frames.remaining(), Some(large.len() as u64));
    assert_eq!(read(frames).await.unwrap(), large);
    assert_eq!(kept(&replica, "go/a/@v/v1.0.0.mod").await, small);
    let part = replica
        .part(&key(ZIP), 1000..2_000_000, None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(part.remaining(), Some(1_999_000));
    assert_eq!(read(part).await.unwrap(), large[1000..2_000_000]);
    assert!(
        replica
            .part(&key("go/none"), 0..1, None)
            .await
            .unwrap()
            .is_none()
    );
    assert!(!replica.folder.path().join("go").exists());
}

#[tokio::test]
async fn a_large_object_that_is_asked_for_again_comes_into_memory() {
    let s3 = S3::start().await;
    let tiers = running(&TiersSettings {
        memory_max_entry: 4 << 20,
        ..without_disk(&s3)
    });
    let (zip, longer) = ("go/a.example/@v/v1.0.0.zip", "go/a.example/@v/v1.1.0.zip");
    let (body, long_body) = (bytes(3 << 20, 1), bytes(5 << 20, 2));
    keep_large(&tiers, zip, &body).await;
    keep_large(&tiers, longer, &long_body).await;
    let read_once = async |at: &str| {
        read(pull(&tiers, at).await.frames().unwrap())
            .await
            .unwrap()
    };
    // Read once is no reason, nor is beginning to read it again.
    assert_eq!(read_once(zip).await, body);
    drop(pull(&tiers, zip).await.frames().unwrap());
    assert_eq!(read_once(zip).await, body);
    until(10, "in memory", async || {
        matches!(tiers.find(&key(zip)).await, Found::Kept(_))
    })
    .await;
    assert_eq!(kept(&tiers, zip).await, body);
    for _ in 0..3 {
        assert_eq!(read_once(longer).await, long_body, "too long for it");
    }
}

#[tokio::test]
async fn altered_bytes_are_never_whole_and_then_absent() {
    let s3 = S3::start().await;
    let (large, small) = (bytes(3 << 20, 10), bytes(5000, 11));
    let replica = running(&without_disk(&s3));
    keep_large(&replica, ZIP, &large).await;
    for at in ["go/a/@v/v1.0.0.mod", "go/a/@v/v1.1.0.mod"] {
        keep(&replica, at, &small).await;
    }
    let bucket = s3.bucket_dir().join("go-modules");
    let alter = |at: &str, byte: usize| {
        let file = bucket.join(at);
        let mut body = fs::read(&file).unwrap();
        body[byte] ^= 1;
        fs::write(&file, body).unwrap();
    };
    alter(ZIP, 100);
    alter("go/a/@v/v1.0.0.mod", 0);
    // Cut short where it lies.
    fs::write(bucket.join("go/a/@v/v1.1.0.mod"), &small[..100]).unwrap();

    let replica = running(&over(&s3));
    for at in ["go/a/@v/v1.0.0.mod", "go/a/@v/v1.1.0.mod"] {
        let found = replica.find(&key(at)).await;
        assert!(matches!(found, Found::Absent), "{at}: {found:?}");
        assert!(bucket.join("_quarantine").join(at).exists());
        // Fetched anew it is kept again.
        keep(&replica, at, &small).await;
        assert_eq!(fs::read(bucket.join(at)).unwrap(), small);
    }

    // Straight to a client.
    let frames = pull(&replica, ZIP).await.frames().unwrap();
    assert!(read(frames).await.is_err());
    until(10, "as good as absent", async || {
        matches!(replica.find(&key(ZIP)).await, Found::Absent)
    })
    .await;
    keep_large(&replica, ZIP, &large).await;
    assert_eq!(
        fs::read(bucket.join(ZIP)).unwrap(),
        large,
        "replaced by the good one"
    );
    let replica = running(&over(&s3));
    alter(ZIP, 3_000_000);
    // Into a spool: its readers are cut off, and it is absent at once.
    let pull = pull(&replica, ZIP).await;
    let writer = replica.store().spool(Some(pull.size())).await.unwrap();
    let reading = tokio::spawn(read(writer.spool().frames()));
    let error = pull.into_spool(writer).await.unwrap_err();
    assert!(matches!(error, PullError::Corrupt { .. }), "{error}");
    assert!(reading.await.unwrap().is_err());
    let found = replica.find(&key(ZIP)).await;
    assert!(matches!(found, Found::Absent), "{found:?}");
    assert_eq!(
        fs::read(bucket.join("_quarantine").join(ZIP))
            .unwrap()
            .len(),
        large.len()
    );
    assert!(replica.snapshot().tiers[0].corrupt >= 1);
    assert!(
        replica
            .part(&key(ZIP), 0..10, None)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn what_somebody_else_put_there_is_judged_first_and_then_adopted() {
    let s3 = S3::start().await;
    let body = bytes(5000, 12);
    put_foreign(&s3, "go-modules/go/a/@v/v1.0.0.zip", &body).await;
    let replica = running(&over(&s3));
    let at = "go/a/@v/v1.0.0.zip";
    let foreign = pull(&replica, at).await;
    assert_eq!(foreign.digest(), None);
    assert!(
        pull(&replica, at).await.frames().is_none(),
        "nothing to compare it with"
    );
    let writer = replica.store().spool(None).await.unwrap();
    let (good, digest) = foreign.into_spool(writer).await.unwrap();
    assert!(digest.same_bytes(&Digest::of(&body)));
    // Judged by its ecosystem's hash meanwhile.
    let digest = digest.with_h1("h1:x=");
    let committed = replica
        .keep(Content::Spooled(good), &key(at), &digest)
        .await
        .unwrap();
    assert_eq!(committed, Committed::Present);
    let tier = object(object_settings(&s3));
    assert_eq!(
        tier.head(&key(at)).await.unwrap().unwrap().digest,
        Some(digest)
    );
}

#[tokio::test]
async fn a_client_is_sent_to_the_storage_only_where_that_is_wanted() {
    let s3 = S3::start().await;
    let settings = ObjectSettings {
        redirect: Some(Duration::from_mins(1)),
        ..object_settings(&s3)
    };
    let below = vec![TierSettings::Object(settings)];
    let replica = running(&store::TiersSettings { below, ..over(&s3) });
    let body = bytes(100_000, 14);
    keep(&replica, ZIP, &body).await;
    let address = replica.address(&key(ZIP)).await.unwrap();
    assert!(!address.contains(s3.secret_key()));
    let (status, got) = get(&address).await;
    assert_eq!((status, got), (200, body.to_vec()));
    assert_eq!(replica.address(&key("go/none")).await, None);
    assert_eq!(running(&over(&s3)).address(&key(ZIP)).await, None);
}

#[tokio::test]
async fn refusals_are_told_apart_from_outages_and_show_no_secret() {
    let s3 = S3::start().await;
    let wrong_secret = ObjectSettings {
        secret_key: Some(Secret::new("not-the-secret")),
        ..object_settings(&s3)
    };
    let text = format!("{wrong_secret:?}");
    assert!(!text.contains("not-the-secret"));
    let body = bytes(10, 1);
    for (settings, what) in [
        (wrong_secret, "wrong secret"),
        (
            ObjectSettings {
                bucket: "no-such-bucket".into(),
                ..object_settings(&s3)
            },
            "no bucket",
        ),
    ] {
        let tier = object(settings);
        let error = tier
            .put(&key("go/a"), &body.clone().into(), &Digest::of(&body))
            .await
            .unwrap_err();
        assert_eq!(error.kind, TierErrorKind::Refused, "{what}: {error}");
        assert!(!error.to_string().contains("not-the-secret"));
        assert!(tier.snapshot().up, "{what}: it answers");
    }
}

/// A plain request without any credentials.
async fn get(url: &str) -> (u16, Vec<u8>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut connection = tokio::net::TcpStream::connect(host).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
    (status, answer[end + 4..].to_vec())
}

#[tokio::test]
async fn a_bucket_that_is_configured_wrongly_is_told_at_the_start() {
    let s3 = S3::start().await;
    let with = |change: &dyn Fn(&mut ObjectSettings)| {
        let mut settings = object_settings(&s3);
        change(&mut settings);
        running(&TiersSettings {
            below: vec![TierSettings::Object(settings)],
            ..TiersSettings::default()
        })
    };
    let refused = [
        with(&|settings| settings.region = Some("nowhere-1".into())),
        with(&|settings| settings.bucket = "No_Such_Bucket".into()),
    ];
    for tiers in refused {
        until(20, "refuses", async || tiers.snapshot().tiers[0].refuses).await;
    }
    let scheme = with(&|settings| {
        let endpoint = s3.endpoint().replace("http://", "https://");
        settings.endpoint = Some(endpoint);
    });
    until(20, "taken out", async || !scheme.snapshot().tiers[0].up).await;
}
