//! Many replicas as one: one fetch, one truth, and no harm when one dies.

use std::time::{Duration, Instant};

use testkit::{
    fixture::Module,
    gate::Modgate,
    lab::Lab,
    services::{Postgres, Redis, S3},
    sumdb::{LabSumDb, Lie},
};

use crate::{
    DISK, MEMORY, all_right,
    common::{eventually, module, record},
    gate, gate_with, in_bucket, large, redis, s3,
};

pub(crate) struct Site {
    pub(crate) lab: Lab,
    pub(crate) bucket: S3,
    pub(crate) records: Postgres,
    hot: Redis,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let (lab, bucket, records, hot) =
            tokio::join!(Lab::start(), S3::start(), Postgres::start(), Redis::start());
        Self {
            lab,
            bucket,
            records,
            hot,
        }
    }

    pub(crate) fn config(&self, coordinate: &str) -> String {
        format!(
            "{MEMORY}{}{DISK}{}[records]\nurl = \"{}\"\n[replicas]\ncoordinate = \"{coordinate}\"\n",
            redis(&self.hot),
            s3(&self.bucket, ""),
            self.records.url(),
        )
    }

    /// Each replica with records of its own.
    pub(crate) fn own_records(&self, coordinate: &str) -> String {
        format!(
            "{MEMORY}{}{DISK}{}[replicas]\ncoordinate = \"{coordinate}\"\n",
            redis(&self.hot),
            s3(&self.bucket, ""),
        )
    }

    /// The same without a bucket.
    pub(crate) fn redis_alone(&self) -> String {
        format!(
            "{MEMORY}{}{DISK}[replicas]\ncoordinate = \"redis\"\n",
            redis(&self.hot)
        )
    }

    pub(crate) async fn replicas(&self, coordinate: &str, count: usize) -> Vec<Modgate> {
        let config = self.config(coordinate);
        let mut replicas = Vec::new();
        for _ in 0..count {
            replicas.push(gate(&self.lab, &self.bucket, &config, None).await);
        }
        replicas
    }
}

/// Many clients of all replicas for the same path at once; all have the right bytes.
pub(crate) async fn crowd(replicas: &[Modgate], path: &str, clients: usize, want: &[u8]) {
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..clients {
        let replica = &replicas[n % replicas.len()];
        let (client, url) = (replica.client(), format!("{}{path}", replica.url()));
        asking.spawn(async move {
            let reply = client.get(url).send().await.unwrap();
            (reply.status().as_u16(), reply.bytes().await.unwrap())
        });
    }
    while let Some(reply) = asking.join_next().await {
        let (status, body) = reply.unwrap();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        assert!(body == want, "other bytes");
    }
}

/// What the replicas had to say that is no request.
fn warnings(replicas: &[Modgate]) -> String {
    let logs = replicas
        .iter()
        .map(Modgate::logs)
        .collect::<Vec<_>>()
        .join("\n");
    let lines = logs
        .lines()
        .filter(|line| !line.contains("\"message\":\"request\""));
    lines.collect::<Vec<_>>().join("\n")
}

async fn one_fetch(coordinate: &str) {
    let site = Site::start().await;
    let (cold, big) = (module("cold"), large("big"));
    site.lab.add(cold.clone());
    site.lab.add(big.clone());
    let replicas = site.replicas(coordinate, 3).await;
    crowd(&replicas, &cold.url_path("zip"), 300, &cold.zip()).await;
    assert_eq!(
        site.lab.count(&cold.url_path("zip")),
        1,
        "{coordinate}:\n{}",
        warnings(&replicas)
    );
    crowd(&replicas, &big.url_path("zip"), 30, &big.zip()).await;
    assert_eq!(site.lab.count(&big.url_path("zip")), 1, "{coordinate}");
    let list = format!("/{}/@v/list", cold.path());
    crowd(&replicas, &list, 30, b"v1.0.0\n").await;
    assert_eq!(site.lab.count(&list), 1, "{coordinate}");
}

#[tokio::test]
async fn three_replicas_and_300_clients_cost_one_fetch_by_postgres() {
    one_fetch("postgres").await;
}

#[tokio::test]
async fn three_replicas_and_300_clients_cost_one_fetch_by_redis() {
    one_fetch("redis").await;
}

#[tokio::test]
async fn three_replicas_and_300_clients_cost_one_fetch_by_object_storage() {
    one_fetch("storage").await;
}

#[tokio::test]
async fn what_one_replica_learns_the_others_know_within_two_seconds() {
    let site = Site::start().await;
    let one = module("one");
    site.lab.add(one.clone());
    let replicas = site.replicas("postgres", 2).await;
    all_right(&replicas[0], &one).await;
    // Kept by one, served by the other without upstream, and in its list.
    site.lab.stop().await;
    let latest = format!("/{}/@latest", one.path());
    eventually("the latest of what only the other has", async || {
        let reply = replicas[1].get(&latest).await;
        reply.status == 200 && reply.text().contains("\"v1.0.0\"")
    })
    .await;
    all_right(&replicas[1], &one).await;
    let list = format!("/{}/@v/list", one.path());
    assert_eq!(replicas[1].get(&list).await.text(), "v1.0.0\n");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("modgate.toml");
    std::fs::write(&file, site.config("postgres")).unwrap();
    let mut retire = crate::common::command();
    retire
        .args([
            "retire",
            "lab.example/one@v1.0.0",
            "--reason",
            "leaks",
            "--config",
        ])
        .arg(&file)
        .env("S3_KEY", site.bucket.access_key())
        .env("S3_SECRET", site.bucket.secret_key())
        .env("MODGATE_CHAIN", "off");
    let done = retire.output().unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let told = Instant::now();
    for replica in &replicas {
        eventually("retired everywhere", async || {
            replica.get(&one.url_path("zip")).await.status == 410
        })
        .await;
    }
    eprintln!("retired everywhere after {:?}", told.elapsed());
}

#[tokio::test]
async fn a_tree_head_and_a_fork_are_known_to_all_by_postgres() {
    let site = Site::start().await;
    a_tree_head_and_a_fork(&site, &site.config("postgres")).await;
}

#[tokio::test]
async fn a_tree_head_and_a_fork_are_known_to_all_by_redis() {
    let site = Site::start().await;
    a_tree_head_and_a_fork(&site, &site.own_records("redis")).await;
}

#[tokio::test]
async fn a_tree_head_and_a_fork_are_known_to_all_by_object_storage() {
    let site = Site::start().await;
    a_tree_head_and_a_fork(&site, &site.own_records("storage")).await;
}

async fn a_tree_head_and_a_fork(site: &Site, config: &str) {
    let known = module("known");
    let sumdb = LabSumDb::start("sum.lab.example").await.unwrap();
    record(&sumdb, &known);
    site.lab.add(known.clone());
    site.lab.pass_sumdb(&sumdb.url());
    let mut replicas = Vec::new();
    for _ in 0..2 {
        replicas.push(
            gate_with(
                &site.lab,
                &site.bucket,
                config,
                &sumdb.key().to_string(),
                None,
            )
            .await,
        );
    }
    all_right(&replicas[0], &known).await;
    let size = replicas[0].metric("modgate_sumdb_tree_size").await;
    assert!(size > 0.0);
    eventually("the other replica has the head", async || {
        replicas[1].metric("modgate_sumdb_tree_size").await >= size
    })
    .await;

    // Behind a static server the bucket is a GOPROXY with its database.
    let bucket = site.bucket.bucket_dir();
    let kept = |name: &str| {
        let files = crate::common::files(bucket);
        let name = format!("sumdb/sum.lab.example/{name}");
        files.iter().any(|file| file.ends_with(&name))
    };
    eventually("what was proven is kept", async || {
        kept("supported") && kept("lookup/lab.example/known@v1.0.0")
    })
    .await;

    // One sees another history: nobody verifies any more, until an operator says so at either of them.
    let fork = replicas[0].data_dir().join("sumdb/sum.lab.example/fork");
    let other = replicas[1].data_dir().join("sumdb/sum.lab.example/fork");
    sumdb.lie(Lie::ForkedTree { at: 0 }).await;
    let new = module("new");
    record(&sumdb, &new);
    site.lab.add(new.clone());
    let refused = replicas[0].get(&new.url_path("zip")).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    eventually("the other replica knows of the fork", async || {
        other.exists()
    })
    .await;
    assert!(fork.exists());
    std::fs::remove_file(&other).unwrap();
    eventually(
        "the operator's word reaches the other replica",
        async || replicas[0].metric("modgate_sumdb_forked").await < 1.0 && !fork.exists(),
    )
    .await;
}

#[tokio::test]
async fn a_replica_that_dies_while_it_fetches_costs_seconds_and_nothing_else() {
    let site = Site::start().await;
    let big = large("big");
    site.lab.add(big.clone());
    let mut replicas = site.replicas("postgres", 2).await;
    let path = big.url_path("zip");
    let hold = site.lab.hold_mid_body(&path);
    let dying = {
        let (client, url) = (replicas[0].client(), format!("{}{path}", replicas[0].url()));
        tokio::spawn(async move { client.get(url).send().await?.bytes().await })
    };
    hold.arrived(1).await;
    let waiting = {
        let (client, url) = (replicas[1].client(), format!("{}{path}", replicas[1].url()));
        tokio::spawn(async move { client.get(url).send().await?.bytes().await })
    };
    replicas[0].kill9().await;
    let died = Instant::now();
    hold.release();
    assert!(dying.await.unwrap().is_err());
    let body = waiting.await.unwrap().unwrap();
    assert!(body == big.zip(), "other bytes");
    eprintln!("a dead holder cost {:?}", died.elapsed());
    assert!(
        died.elapsed() < Duration::from_secs(15),
        "{:?}",
        died.elapsed()
    );
}

/// Runs a command with the configuration of the replicas, beside one of them.
pub(crate) fn beside(site: &Site, replica: &Modgate, config: &str, arguments: &[&str]) {
    printed(site, replica, config, arguments);
}

/// The same, and what it printed.
fn printed(site: &Site, replica: &Modgate, config: &str, arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("modgate.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = crate::common::command();
    command
        .args(arguments)
        .args(["--sumdb", "off", "--upstream", &site.lab.url()])
        .arg("--config")
        .arg(&file)
        .arg("--data")
        .arg(replica.data_dir())
        .env("S3_KEY", site.bucket.access_key())
        .env("S3_SECRET", site.bucket.secret_key());
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

async fn removed_by_one(site: &Site, config: &str) {
    // Too long for Redis, so that both have them on their disks.
    let (gone, stays) = (large("gone"), large("stays"));
    site.lab.add(gone.clone());
    site.lab.add(stays.clone());
    let mut replicas = Vec::new();
    for _ in 0..2 {
        replicas.push(gate(&site.lab, &site.bucket, config, None).await);
    }
    let on_disk = |replica: &Modgate, module: &Module, ending: &str| {
        let path = module.url_path(ending);
        let path = path.trim_start_matches('/');
        replica.data_dir().join("go").join(path)
    };
    for replica in &replicas {
        all_right(replica, &gone).await;
        all_right(replica, &stays).await;
        eventually("it is on each disk", async || {
            let has = |module| on_disk(replica, module, "zip").exists();
            has(&gone) && has(&stays)
        })
        .await;
    }
    // Repaired is not removed.
    std::fs::write(in_bucket(&site.bucket, &stays, "zip"), "altered").unwrap();
    beside(site, &replicas[0], config, &["fsck", "--repair"]);
    eventually("it is in the index", async || {
        beside(
            site,
            &replicas[0],
            config,
            &["gc", "--match", "lab.example/gone", "--yes"],
        );
        !in_bucket(&site.bucket, &gone, "zip").exists()
    })
    .await;
    for replica in &replicas {
        eventually("it is on no disk", async || {
            let left = |ending: &&str| on_disk(replica, &gone, ending).exists();
            !["info", "mod", "zip"].iter().any(left)
        })
        .await;
    }
    beside(site, &replicas[1], config, &["fsck", "--repair"]);
    assert!(!in_bucket(&site.bucket, &gone, "zip").exists());
    site.lab.stop().await;
    for replica in &replicas {
        let refused = replica.get(&gone.url_path("zip")).await;
        assert!(refused.status >= 400, "it is served on");
        all_right(replica, &stays).await;
        assert!(on_disk(replica, &stays, "zip").exists());
    }
}

#[tokio::test]
async fn what_is_removed_by_one_is_on_no_disk_and_does_not_come_back() {
    let site = Site::start().await;
    removed_by_one(&site, &site.config("postgres")).await;
}

/// Each replica has an index of its own.
#[tokio::test]
async fn what_is_removed_by_one_is_on_no_disk_where_the_index_is_not_shared() {
    let site = Site::start().await;
    removed_by_one(&site, &site.own_records("redis")).await;
}

/// More than an hour may lie between, after which what changed is told to nobody any more.
#[tokio::test]
async fn what_was_removed_while_a_replica_did_not_run_goes_from_its_disk() {
    let site = Site::start().await;
    let config = site.config("postgres");
    let (gone, again) = (large("gone"), large("again"));
    site.lab.add(gone.clone());
    site.lab.add(again.clone());
    let folder = tempfile::tempdir().unwrap();
    let data = || Some(folder.path().join("data"));
    let on_disk = |module: &Module, ending: &str| {
        let path = module.url_path(ending);
        let path = path.trim_start_matches('/');
        folder.path().join("data/go").join(path)
    };
    let running = gate(&site.lab, &site.bucket, &config, None).await;
    let mut away = gate(&site.lab, &site.bucket, &config, data()).await;
    for module in [&gone, &again] {
        all_right(&away, module).await;
    }
    away.terminate().await;
    assert!(on_disk(&gone, "zip").exists() && on_disk(&again, "zip").exists());
    for module in [&gone, &again] {
        let gc = ["gc", "--match", module.path(), "--yes"];
        beside(&site, &running, &config, &gc);
        assert!(!in_bucket(&site.bucket, module, "zip").exists());
    }
    all_right(&running, &again).await;
    eventually("it is in the index", async || {
        let dry = ["gc", "--match", again.path()];
        printed(&site, &running, &config, &dry).contains("would remove 1 versions")
    })
    .await;
    site.records.run_sql(&["DELETE FROM changes"]).await;

    let away = gate(&site.lab, &site.bucket, &config, data()).await;
    eventually("it is not on the disk", async || {
        let left = |ending: &&str| on_disk(&gone, ending).exists();
        !["info", "mod", "zip", "ziphash"].iter().any(left)
    })
    .await;
    assert!(on_disk(&again, "zip").exists());
    site.lab.stop().await;
    all_right(&away, &again).await;
    let refused = away.get(&gone.url_path("zip")).await;
    assert!(refused.status >= 400, "it is served on");
}
