//! Tiers that are away: what is served all the same, what is refused, and how it heals.

use std::time::{Duration, Instant};

use testkit::{
    lab::Lab,
    services::{Redis, S3},
    small_disk::SmallDisk,
    tls::{Certificate, Pem},
};

use crate::{
    DISK, MEMORY, all_right,
    common::{code, eventually, module},
    gate, gate_of, in_bucket, large, redis, s3, soon,
};

#[tokio::test]
async fn a_redis_that_is_killed_or_paused_fails_no_request() {
    let (lab, bucket, mut hot) = (Lab::start().await, S3::start().await, Redis::start().await);
    let modules = ["a", "b", "c", "d"].map(module);
    for module in &modules {
        lab.add(module.clone());
    }
    let config = format!("{MEMORY}{}{DISK}{}", redis(&hot), s3(&bucket, ""));
    let gate = gate(&lab, &bucket, &config, None).await;
    all_right(&gate, &modules[0]).await;
    hot.pause();
    all_right(&gate, &modules[1]).await;
    hot.resume();
    hot.kill();
    all_right(&gate, &modules[2]).await;
    all_right(&gate, &modules[0]).await;
    hot.restart().await;
    let back = Instant::now();
    eventually("the tier is put back", async || {
        gate.metric("modgate_tier_up{tier=\"redis\"}").await > 0.0
    })
    .await;
    eprintln!(
        "redis: put back {:?} after it was there again",
        back.elapsed()
    );
    all_right(&gate, &modules[3]).await;
}

#[tokio::test]
async fn a_bucket_that_is_away_hits_are_served_and_new_modules_refused_where_it_is_written_through()
{
    let (lab, mut bucket) = (Lab::start().await, S3::start().await);
    let (kept, new, big) = (module("kept"), module("new"), large("big"));
    for module in [&kept, &new, &big] {
        lab.add(module.clone());
    }
    let config = format!("{MEMORY}{DISK}{}", s3(&bucket, ""));
    let gate = gate(&lab, &bucket, &config, None).await;
    all_right(&gate, &kept).await;
    for paused in [true, false] {
        if paused {
            bucket.pause();
        } else {
            bucket.kill();
        }
        all_right(&gate, &kept).await;
        for module in [&new, &big] {
            let refused = soon(&gate, &module.url_path("zip")).await;
            assert_eq!(refused.status, 503, "{}", refused.text());
            assert_eq!(code(&refused), "storage_unavailable");
            assert_ne!(refused.header("retry-after"), "");
        }
        if paused {
            bucket.resume();
        } else {
            bucket.restart().await;
        }
        let back = Instant::now();
        eventually("the tier is put back", async || {
            gate.metric("modgate_tier_up{tier=\"s3\"}").await > 0.0
        })
        .await;
        eprintln!("s3: put back {:?} after it was there again", back.elapsed());
    }
    all_right(&gate, &new).await;
    all_right(&gate, &big).await;
    assert!(in_bucket(&bucket, &big, "zip").exists());
}

#[tokio::test]
async fn a_bucket_that_is_away_new_modules_are_journalled_and_survive_a_kill() {
    let (lab, mut bucket) = (Lab::start().await, S3::start().await);
    let (small, big) = (module("small"), large("big"));
    lab.add(small.clone());
    lab.add(big.clone());
    let data = tempfile::tempdir().unwrap();
    let config = format!("{MEMORY}{}", s3(&bucket, "persist = \"async\""));
    let mut first = gate(&lab, &bucket, &config, Some(data.path().to_owned())).await;
    bucket.kill();
    all_right(&first, &small).await;
    all_right(&first, &big).await;
    // Six files, and the hashes of two zips.
    eventually("the journal has it all", async || {
        first.metric("modgate_journal_entries").await >= 6.0
    })
    .await;
    first.kill9().await;
    lab.stop().await;
    let second = gate(&lab, &bucket, &config, Some(data.path().to_owned())).await;
    // Read out of the journal.
    all_right(&second, &small).await;
    all_right(&second, &big).await;
    bucket.restart().await;
    let back = Instant::now();
    let zips = [
        in_bucket(&bucket, &small, "zip"),
        in_bucket(&bucket, &big, "zip"),
    ];
    let mut written = false;
    while back.elapsed() < Duration::from_secs(40) && !written {
        written = zips.iter().all(|zip| zip.exists())
            && second.metric("modgate_journal_entries").await < 1.0;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(written, "the journal was not written: {}", second.logs());
    eprintln!(
        "s3: the journal was written {:?} after it was there again",
        back.elapsed()
    );
    assert!(std::fs::read(&zips[1]).unwrap() == big.zip());
}

#[tokio::test]
async fn a_damaged_journal_is_told_and_costs_no_version() {
    let (lab, mut bucket) = (Lab::start().await, S3::start().await);
    let new = module("new");
    lab.add(new.clone());
    let data = tempfile::tempdir().unwrap();
    let config = format!("{MEMORY}{}", s3(&bucket, "persist = \"async\""));
    let mut first = gate(&lab, &bucket, &config, Some(data.path().to_owned())).await;
    bucket.kill();
    all_right(&first, &new).await;
    eventually("the journal has it all", async || {
        first.metric("modgate_journal_entries").await >= 4.0
    })
    .await;
    first.kill9().await;
    let journal = data.path().join("journal");
    for entry in std::fs::read_dir(&journal).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "json") {
            std::fs::write(path, "garbage").unwrap();
        }
    }
    bucket.restart().await;
    let second = gate(&lab, &bucket, &config, Some(data.path().to_owned())).await;
    let corrupt = second.metric("modgate_journal_corrupt_total").await;
    assert!(corrupt >= 4.0, "{corrupt}");
    let ready = second.get("/readyz").await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    assert!(
        ready.text().contains("quarantine/journal"),
        "{}",
        ready.text()
    );
    assert_eq!(std::fs::read_dir(&journal).unwrap().count(), 0);
    let aside = data.path().join("quarantine/journal");
    assert!(std::fs::read_dir(aside).unwrap().count() >= 8);
    // Fetched anew.
    all_right(&second, &new).await;
    eventually("it is in the bucket", async || {
        in_bucket(&bucket, &new, "zip").exists()
    })
    .await;
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_told_at_the_start() {
    let (lab, bucket) = (Lab::start().await, S3::start().await);
    let new = module("new");
    lab.add(new.clone());
    let config = format!("{MEMORY}{DISK}{}", s3(&bucket, ""));
    let config = config.replace("bucket = \"modgate\"", "bucket = \"no-such-bucket\"");
    let gate = gate(&lab, &bucket, &config, None).await;
    let log = gate.logged("storage tier refuses", 1).await;
    assert!(log.contains("no-such-bucket"), "{log}");
    let ready = gate.get("/readyz").await;
    assert_eq!(ready.status, 200, "what is at hand is served");
    assert!(ready.text().contains("s3: refuses"), "{}", ready.text());
    let refused = soon(&gate, &new.url_path("zip")).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(code(&refused), "storage_unavailable");
    // Somebody makes it.
    std::fs::create_dir(bucket.bucket_dir().with_file_name("no-such-bucket")).unwrap();
    all_right(&gate, &new).await;
    assert!(gate.get("/readyz").await.text().contains("s3: up"));
}

#[tokio::test]
async fn a_key_that_the_bucket_refuses_is_told_at_the_start_and_by_no_client() {
    let (lab, bucket) = (Lab::start().await, S3::start().await);
    let new = module("new");
    lab.add(new.clone());
    let config = format!("{MEMORY}{DISK}{}", s3(&bucket, "")).replace("S3_SECRET", "OTHER_SECRET");
    let wrong = ("OTHER_SECRET".to_owned(), "not-the-secret".to_owned());
    let gate = gate_of(&lab, &bucket, &config, vec![wrong]).await;
    gate.logged("storage tier refuses", 1).await;
    let ready = gate.get("/readyz").await;
    assert_eq!(ready.status, 200, "what is at hand is served");
    assert!(ready.text().contains("s3: refuses"), "{}", ready.text());
    let refused = soon(&gate, &new.url_path("zip")).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(code(&refused), "storage_unavailable");
    let said = refused.text() + &ready.text() + &gate.logs();
    assert!(!said.contains("not-the-secret"), "{said}");
}

#[tokio::test]
async fn a_full_disk_serves_large_zips_from_the_bucket_and_says_so() {
    let (lab, bucket) = tokio::join!(Lab::start(), S3::start());
    let (below, new) = (large("below"), large("new"));
    lab.add(below.clone());
    lab.add(new.clone());
    let config = format!("{MEMORY}{DISK}{}", s3(&bucket, ""));
    let mut first = gate(&lab, &bucket, &config, None).await;
    all_right(&first, &below).await;
    assert!(first.terminate().await.success());

    let disk = SmallDisk::new(32 << 20);
    let second = gate(&lab, &bucket, &config, Some(disk.path().join("data"))).await;
    disk.fill(0);
    for _ in 0..2 {
        all_right(&second, &below).await;
    }
    let refused = second.get(&new.url_path("zip")).await;
    assert_eq!(refused.status, 507, "{}", refused.text());
    assert!(refused.text().contains("[modgate: storage_full]"));
    assert!(second.metric("modgate_disk_tier_refused_total").await > 0.0);
    disk.make_room();
    eventually("there is room again", async || {
        second.get(&new.url_path("zip")).await.status == 200
    })
    .await;
    all_right(&second, &new).await;
}

#[tokio::test]
async fn a_redis_over_tls_is_trusted_by_the_own_authority() {
    let pem = Pem::new(Certificate::Good);
    let (lab, bucket, hot) = tokio::join!(Lab::start(), S3::start(), Redis::start_tls(&pem));
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &pem.ca).unwrap();
    let config = format!(
        "{MEMORY}{}{DISK}{}[replicas]\ncoordinate = \"redis\"\n[network]\nca_file = \"{}\"\n",
        redis(&hot),
        s3(&bucket, ""),
        ca.display()
    );
    let (first, second) = tokio::join!(
        gate(&lab, &bucket, &config, None),
        gate(&lab, &bucket, &config, None)
    );
    let new = module("new");
    lab.add(new.clone());
    all_right(&first, &new).await;
    all_right(&second, &new).await;
    // Neither the tier nor what coordinates was asked in vain.
    let metrics = second.get("/metrics").await.text();
    let errors = "modgate_tier_errors_total{tier=\"redis\"} 0";
    assert!(metrics.contains(errors), "{metrics}");
    assert!(
        !metrics.contains("modgate_tier_hits_total{tier=\"redis\"} 0"),
        "{metrics}"
    );
    for gate in [&first, &second] {
        let log = gate.logged("listening", 1).await;
        assert!(
            !log.contains("UnknownIssuer") && !log.contains("cannot be reached"),
            "{log}"
        );
    }
}

#[tokio::test]
async fn a_redis_that_refuses_is_told_once_and_costs_nothing() {
    let (lab, bucket, hot) = tokio::join!(Lab::start(), S3::start(), Redis::start());
    let wrong = redis(&hot).replace("redis://", "redis://user:wrong@");
    let config = format!("{MEMORY}{wrong}{DISK}{}", s3(&bucket, ""));
    let gate = gate(&lab, &bucket, &config, None).await;
    for name in ["a", "b", "c"] {
        let new = module(name);
        lab.add(new.clone());
        all_right(&gate, &new).await;
    }
    let log = gate.logged("storage tier refuses", 1).await;
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("storage tier refuses"))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("password"), "{told:?}");
    assert!(gate.get("/readyz").await.text().contains("redis: refuses"));
    let refuses = gate.metric("modgate_tier_refuses{tier=\"redis\"}").await;
    assert!(refuses > 0.0, "{refuses}");
}
