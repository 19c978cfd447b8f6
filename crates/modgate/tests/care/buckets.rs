//! Care where the bucket is gone, slow, or has what somebody else put there.

use std::time::Duration;

use serde_json::Value;
use testkit::{chaos::Chaos, services::S3};

use crate::{DISK, Site, bucket, kinds, module};

/// Where a file of a version lies in the bucket.
fn object(s3: &S3, name: &str, part: &str) -> std::path::PathBuf {
    let path = module(name).url_path(part);
    s3.bucket_dir()
        .join("p/go")
        .join(path.trim_start_matches('/'))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_gone_is_told_and_nothing_counts_as_removed() {
    let s3 = S3::start().await;
    let storage = format!("{DISK}{}", bucket(&s3, "p"));
    let site = Site::start(&["a", "b"], &storage).await;
    let away = s3.bucket_dir().with_extension("away");
    std::fs::rename(s3.bucket_dir(), &away).unwrap();
    let to = site.folder.path().join("new.toml");
    std::fs::write(
        &to,
        format!("data = \"{}\"", site.folder.path().join("other").display()),
    )
    .unwrap();
    let copies = ["copy", "--to-config", to.to_str().unwrap()];
    for arguments in [&["gc", "--max-size", "0B", "--yes"][..], &["fsck"], &copies] {
        let done = site.run(arguments);
        assert_eq!(done.status.code(), Some(1), "{arguments:?}: {done:?}");
        let told = [done.stdout, done.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains("NoSuchBucket"), "{arguments:?}: {told}");
        assert!(!told.contains("lost"), "{arguments:?}: {told}");
    }
    std::fs::rename(&away, s3.bucket_dir()).unwrap();
    let report = site.json(&["fsck", "--json"]);
    assert_eq!(
        (&report["checked"], kinds(&report)),
        (&6.into(), Vec::new()),
        "{report}"
    );
    assert!(
        site.run(&["gc", "--max-size", "0B", "--yes"])
            .status
            .success()
    );
    assert!(!object(&s3, "a", "zip").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_with_strange_names_are_named_and_left_alone() {
    let s3 = S3::start().await;
    let site = Site::start(&["a", "z"], &bucket(&s3, "p")).await;
    let strange = s3.bucket_dir().join("p/go/lab.example/m\u{7f}n");
    std::fs::write(&strange, "x").unwrap();
    // What is to be found beyond it.
    site.lab.stop().await;
    let away = object(&s3, "z", "mod");
    std::fs::remove_file(&away).unwrap();
    let done = site.run(&["fsck", "--repair", "--json"]);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(kinds(&report), ["lost index", "stray s3"], "{report}");
    assert_eq!(report["findings"][1]["key"], "p/go/lab.example/m\u{7f}n");
    assert!(strange.exists());
    let folder = site.folder.path().join("other");
    let to = site.folder.path().join("new.toml");
    std::fs::write(&to, format!("data = \"{}\"", folder.display())).unwrap();
    let done = site.json(&["copy", "--json", "--to-config", to.to_str().unwrap()]);
    assert!(done["copied"].as_u64() >= Some(5), "{done}");
    assert!(
        folder.join("go/lab.example/z/@v/v1.0.0.zip").exists(),
        "{done}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_asked_for_several_objects_at_once_and_for_a_missing_one_once() {
    let s3 = S3::start().await;
    let names = ["a", "b", "c", "d"];
    let site = Site::start(&names, &format!("{DISK}{}", bucket(&s3, "p"))).await;
    for name in ["a", "b"] {
        std::fs::remove_file(object(&s3, name, "zip")).unwrap();
    }
    let line = Chaos::before(s3.addr()).await;
    line.latency(Duration::from_millis(50));
    let config = format!("{DISK}{}", bucket(&s3, "p"));
    let behind = config.replace(&s3.endpoint(), &format!("http://{}", line.addr()));
    std::fs::write(site.folder.path().join("modgate.toml"), behind).unwrap();
    let mut fsck = site.command(&["fsck", "--json"]);
    let done = tokio::task::spawn_blocking(move || fsck.output().unwrap()).await;
    let report: Value = serde_json::from_slice(&done.unwrap().stdout).unwrap();
    assert_eq!(kinds(&report), ["missing s3", "missing s3"], "{report}");
    assert!(line.connections() > 4, "{} at once", line.connections());
    let asked = line.take_requests();
    let of = |part: &str| asked.iter().filter(|head| head.contains(part)).count();
    assert_eq!(of("lab.example/a/%40v/v1.0.0.zip"), 1, "{asked:#?}");
    assert_eq!(of("lab.example/d/%40v/v1.0.0.zip"), 1, "{asked:#?}");
}
