//! Versions that `modgate gc` removed, and what a replica that was not there then still has of them.

use std::path::PathBuf;

use records::{Records, RecordsSettings};
use testkit::{fixture::Module, gate::Modgate};

use crate::{
    all_right,
    common::{eventually, files},
    gate, in_bucket, large,
    replicas::{Site, beside},
};

fn written_later(site: &Site) -> String {
    let config = site.config("postgres");
    config.replace("timeout = \"1s\"", "timeout = \"1s\"\npersist = \"async\"")
}

fn on_disk(replica: &Modgate, module: &Module) -> PathBuf {
    let path = module.url_path("zip");
    let path = path.trim_start_matches('/');
    replica.data_dir().join("go").join(path)
}

async fn in_the_index(site: &Site, module: &Module) {
    let settings = RecordsSettings::postgres(site.records.url().parse().unwrap());
    let index = Records::open(&settings).await.unwrap();
    let key = format!("go{}", module.url_path("zip"));
    eventually("it is in the index", async || {
        index.object(&key).await.unwrap().is_some()
    })
    .await;
}

/// From there it would come back, and be in no index.
#[tokio::test]
async fn what_was_removed_while_it_waited_for_the_bucket_does_not_go_there() {
    let mut site = Site::start().await;
    let config = written_later(&site);
    let gone = large("gone");
    site.lab.add(gone.clone());
    let folder = tempfile::tempdir().unwrap();
    let data = || Some(folder.path().join("data"));
    let running = gate(&site.lab, &site.bucket, &config, None).await;
    let mut away = gate(&site.lab, &site.bucket, &config, data()).await;
    site.bucket.kill();
    all_right(&away, &gone).await;
    in_the_index(&site, &gone).await;
    away.kill9().await;
    site.bucket.restart().await;
    let gc = ["gc", "--match", gone.path(), "--yes"];
    beside(&site, &running, &config, &gc);

    let away = gate(&site.lab, &site.bucket, &config, data()).await;
    eventually("it is here no more", async || {
        let waits = files(&away.data_dir().join("journal"));
        waits.is_empty() && !on_disk(&away, &gone).exists()
    })
    .await;
    assert!(!in_bucket(&site.bucket, &gone, "zip").exists());
}

/// The index knows nothing of it yet, and nobody else has it.
#[tokio::test]
async fn what_is_fetched_again_while_the_records_are_away_is_not_removed_at_the_next_start() {
    let mut site = Site::start().await;
    let config = written_later(&site);
    let again = large("again");
    site.lab.add(again.clone());
    let folder = tempfile::tempdir().unwrap();
    let data = || Some(folder.path().join("data"));
    let mut replica = gate(&site.lab, &site.bucket, &config, data()).await;
    all_right(&replica, &again).await;
    in_the_index(&site, &again).await;
    eventually("it is in the bucket", async || {
        in_bucket(&site.bucket, &again, "zip").exists()
    })
    .await;
    let gc = ["gc", "--match", again.path(), "--yes"];
    beside(&site, &replica, &config, &gc);
    let mark = folder.path().join("data/removals.followed");
    eventually("the removal was followed", async || {
        mark.exists() && !on_disk(&replica, &again).exists()
    })
    .await;
    site.bucket.kill();
    site.records.kill();
    all_right(&replica, &again).await;
    replica.kill9().await;
    site.records.restart().await;
    site.lab.stop().await;

    let replica = gate(&site.lab, &site.bucket, &config, data()).await;
    site.bucket.restart().await;
    eventually("it is in the bucket", async || {
        in_bucket(&site.bucket, &again, "zip").exists()
    })
    .await;
    all_right(&replica, &again).await;
}

/// What somebody put in the place of one file is no matter of the others.
#[tokio::test]
async fn what_cannot_be_removed_or_noted_holds_nothing_up() {
    let site = Site::start().await;
    let config = site.config("postgres");
    let (stays, gone) = (large("a-stays"), large("gone"));
    let folder = tempfile::tempdir().unwrap();
    let data = || Some(folder.path().join("data"));
    let running = gate(&site.lab, &site.bucket, &config, None).await;
    let mut away = gate(&site.lab, &site.bucket, &config, data()).await;
    for module in [&stays, &gone] {
        site.lab.add(module.clone());
        all_right(&away, module).await;
        in_the_index(&site, module).await;
    }
    away.terminate().await;
    for module in [&stays, &gone] {
        let gc = ["gc", "--match", module.path(), "--yes"];
        beside(&site, &running, &config, &gc);
    }
    let odd = on_disk(&away, &stays);
    std::fs::remove_file(&odd).unwrap();
    std::fs::create_dir(&odd).unwrap();
    std::fs::create_dir_all(folder.path().join("data/removals.followed")).unwrap();

    let away = gate(&site.lab, &site.bucket, &config, data()).await;
    eventually("it is here no more", async || {
        !on_disk(&away, &gone).exists()
    })
    .await;
}
