//! What replicas share though each has records of its own.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use object_store::{ObjectStoreExt as _, path::Path};
use records::{Records, RecordsSettings, TombstoneRow};
use replicas::{Replicas, SharedFacts, SharedHeads};
use tokio::time::{sleep, timeout};

use super::{SOON, Service, World, bucket};

const LIMIT: Duration = Duration::from_secs(1);

/// A replica that may be started again with the records it had.
struct One {
    records: Arc<Records>,
    facts: Arc<SharedFacts>,
    replicas: Replicas,
}

fn file(world: &World, name: &str) -> PathBuf {
    world.folder.path().join(format!("{name}.db"))
}

async fn known(world: &World, name: &str) -> (Arc<Records>, Arc<SharedFacts>) {
    let path = file(world, name);
    let records = Records::open(&RecordsSettings::Sqlite { path }).await;
    let records = Arc::new(records.unwrap());
    let facts = SharedFacts::by(&world.coordinate(LIMIT), &records).unwrap();
    (records, facts)
}

async fn start(world: &World, name: &str) -> One {
    let (records, facts) = known(world, name).await;
    facts.begin().await;
    let coordinate = world.coordinate(LIMIT);
    let replicas = Replicas::start(coordinate, &records, Some(Arc::clone(&facts)), name);
    One {
        records,
        facts,
        replicas,
    }
}

impl One {
    async fn stop(self) {
        self.replicas.leave(LIMIT).await;
        self.records.close().await;
    }

    async fn retire(&self, version: &str) {
        retire(&self.records, version, "bad").await;
        // The watch on the file of SQLite belongs to the server.
        self.replicas.announcements.look();
    }

    async fn unretire(&self, version: &str) {
        assert!(self.records.unretire("a.example/m", version).await.unwrap());
        self.replicas.announcements.look();
    }

    async fn retired(&self) -> BTreeSet<String> {
        retired(&self.records).await
    }

    /// How long it took until these are retired here.
    async fn has(&self, versions: &[&str]) -> Duration {
        let start = Instant::now();
        let wanted: BTreeSet<String> = versions.iter().map(ToString::to_string).collect();
        let look = async {
            while self.retired().await != wanted {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let has = timeout(SOON, look).await.is_ok();
        assert!(has, "{:?}, not {wanted:?}", self.retired().await);
        start.elapsed()
    }

    /// The shared facts are there again, or away.
    async fn reaches(&self, so: bool) {
        let look = async {
            while self.facts.trouble().is_none() != so {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, look).await.unwrap();
    }
}

async fn retire(records: &Records, version: &str, reason: &str) {
    let tombstone = TombstoneRow {
        module: "a.example/m".to_owned(),
        version: version.to_owned(),
        reason: reason.to_owned(),
        time: "2026-01-02T03:04:05Z".to_owned(),
    };
    assert!(records.retire(&tombstone).await.unwrap());
}

async fn retired(records: &Records) -> BTreeSet<String> {
    let rows = records.tombstones().await.unwrap();
    rows.into_iter().map(|row| row.version).collect()
}

pub(crate) async fn what_one_retires_all_have_within_two_seconds(world: World) {
    let (one, other) = (start(&world, "one").await, start(&world, "other").await);
    one.retire("v1").await;
    let took = other.has(&["v1"]).await;
    println!("retired in {took:?}");
    other.unretire("v1").await;
    let took = one.has(&[]).await;
    println!("unretired in {took:?}");
    let late = start(&world, "late").await;
    assert_eq!(late.retired().await.len(), 0);
    late.retire("v2").await;
    for replica in [&one, &other] {
        replica.has(&["v2"]).await;
    }
}

pub(crate) async fn who_was_away_undoes_nothing_and_says_what_it_said_meanwhile(world: World) {
    let (one, away) = (start(&world, "one").await, start(&world, "away").await);
    for version in ["v1", "v2"] {
        one.retire(version).await;
    }
    away.has(&["v1", "v2"]).await;
    away.stop().await;
    one.unretire("v1").await;
    one.retire("v3").await;
    // Beside nobody: a command that cannot reach the others.
    let (records, _) = known(&world, "away").await;
    assert!(records.unretire("a.example/m", "v2").await.unwrap());
    retire(&records, "v4", "bad").await;
    records.close().await;
    one.has(&["v2", "v3"]).await;
    one.facts.tell().await.unwrap();

    let away = start(&world, "away").await;
    // Before anybody is served.
    assert_eq!(Vec::from_iter(away.retired().await), ["v3", "v4"]);
    one.has(&["v3", "v4"]).await;

    // Records of an older modgate, which has not agreed on anything with anybody.
    let path = file(&world, "old");
    let old = Records::open(&RecordsSettings::Sqlite { path }).await;
    let old = old.unwrap();
    for version in ["v1", "v3", "v5"] {
        retire(&old, version, "before").await;
    }
    old.close().await;
    let old = start(&world, "old").await;
    let wanted = ["v3", "v4", "v5"];
    assert_eq!(Vec::from_iter(old.retired().await), wanted);
    for replica in [&one, &away] {
        replica.has(&wanted).await;
    }
    let all = one.records.tombstones().await.unwrap();
    let third = all.iter().find(|row| row.version == "v3").unwrap();
    assert_eq!(third.reason, "bad", "what was agreed stands");
}

pub(crate) async fn a_bucket_that_is_gone_is_no_empty_one(world: World) {
    let (one, other) = (start(&world, "one").await, start(&world, "other").await);
    one.retire("v1").await;
    other.has(&["v1"]).await;
    let Service::Cloud(cloud) = &world.service else {
        unreachable!("only those can lose it")
    };
    cloud.remove_bucket();
    for replica in [&one, &other] {
        replica.reaches(false).await;
    }
    one.retire("v2").await;
    let told = one.facts.tell().await.unwrap_err();
    assert!(told.to_string().contains("no such bucket"), "{told}");
    other.has(&["v1"]).await;
    cloud.make_bucket();
    for replica in [&one, &other] {
        replica.reaches(true).await;
        replica.has(&["v1", "v2"]).await;
    }
}

pub(crate) async fn a_lost_document_comes_back(world: World) {
    let (one, other) = (start(&world, "one").await, start(&world, "other").await);
    for version in ["v1", "v2"] {
        one.retire(version).await;
    }
    other.has(&["v1", "v2"]).await;
    one.unretire("v1").await;
    other.has(&["v2"]).await;
    lose(&world).await;
    let look = async {
        loop {
            let late = start(&world, "late").await;
            if late.retired().await.contains("v2") {
                return late;
            }
            late.stop().await;
        }
    };
    let late = timeout(SOON, look).await.unwrap();
    for replica in [&one, &other, &late] {
        replica.has(&["v2"]).await;
    }

    // Also if nobody runs when it is lost, and who knows less comes first.
    late.stop().await;
    one.unretire("v2").await;
    one.retire("v3").await;
    other.has(&["v3"]).await;
    one.facts.tell().await.unwrap();
    one.stop().await;
    other.stop().await;
    lose(&world).await;
    let late = start(&world, "late").await;
    assert_eq!(Vec::from_iter(late.retired().await), ["v2"]);
    let other = start(&world, "other").await;
    assert_eq!(Vec::from_iter(other.retired().await), ["v3"]);
    late.has(&["v3"]).await;
}

/// What stands where the document does is gone.
async fn lose(world: &World) {
    match &world.service {
        Service::Postgres(_) => unreachable!("all share the records"),
        Service::Redis(redis) => {
            let client = redis::Client::open(redis.url()).unwrap();
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            let flush = redis::Cmd::new().arg("FLUSHALL").clone();
            let () = flush.query_async(&mut connection).await.unwrap();
        }
        Service::Cloud(_) => unreachable!("it loses its bucket"),
        Service::Storage(s3) => {
            let path = Path::from("go-modules/_modgate/facts");
            bucket(s3).delete(&path).await.unwrap();
        }
    }
}

pub(crate) async fn while_the_service_is_away_words_wait(mut world: World) {
    let (one, other) = (start(&world, "one").await, start(&world, "other").await);
    one.retire("v1").await;
    other.has(&["v1"]).await;
    world.pause();
    one.reaches(false).await;
    one.retire("v2").await;
    one.unretire("v1").await;
    assert!(one.facts.tell().await.is_err());
    assert_eq!(Vec::from_iter(one.retired().await), ["v2"]);
    assert_eq!(Vec::from_iter(other.retired().await), ["v1"]);
    // A start goes on with what is known.
    let late = start(&world, "late").await;
    world.resume();
    for replica in [&one, &other, &late] {
        replica.has(&["v2"]).await;
        replica.reaches(true).await;
    }
    world.restart().await;
    one.retire("v3").await;
    for replica in [&other, &late] {
        replica.has(&["v2", "v3"]).await;
    }
}

pub(crate) async fn what_is_wrong_with_the_service_is_said(world: World) {
    let one = start(&world, "one").await;
    one.retire("v1").await;
    one.facts.tell().await.unwrap();
    let said = match &world.service {
        Service::Postgres(_) => unreachable!("all share the records"),
        Service::Redis(redis) => {
            let client = redis::Client::open(redis.url()).unwrap();
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            let key = "test:{modgate}:facts";
            let mut other = redis::pipe();
            other.cmd("DEL").arg(key).cmd("LPUSH").arg(key).arg("x");
            let () = other.query_async(&mut connection).await.unwrap();
            "something else than modgate wrote stands under one of its keys"
        }
        Service::Storage(s3) => {
            std::fs::rename(s3.bucket_dir(), s3.bucket_dir().with_extension("gone")).unwrap();
            "there is no such bucket"
        }
        Service::Cloud(_) => unreachable!("it loses its bucket elsewhere"),
    };
    let error = one.facts.tell().await.unwrap_err().to_string();
    assert!(error.contains(said), "{error}");
    one.retire("v2").await;
    assert_eq!(one.retired().await.len(), 2);
    // Nor is a lease to be waited for that nobody can have.
    if let Service::Storage(s3) = &world.service {
        one.replicas.leases.acquire("go/x", SOON).await.unwrap_err();
        std::fs::rename(s3.bucket_dir().with_extension("gone"), s3.bucket_dir()).unwrap();
    } else {
        lose(&world).await;
    }
    one.reaches(true).await;
    let late = start(&world, "late").await;
    late.has(&["v1", "v2"]).await;
}

pub(crate) async fn many_that_say_something_at_once_are_all_heard(world: World) {
    let mut replicas = Vec::new();
    for name in ["one", "two", "three"] {
        replicas.push(start(&world, name).await);
    }
    let mut wanted = Vec::new();
    for n in 0..5 {
        for (at, replica) in replicas.iter().enumerate() {
            let version = format!("v{at}.{n}.0");
            replica.retire(&version).await;
            wanted.push(version);
        }
    }
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    for replica in &replicas {
        replica.has(&wanted).await;
    }
}

pub(crate) async fn heads_go_forward_and_a_fork_is_known_until_it_is_cleared(world: World) {
    const NAME: &str = "sum.example";
    let (one, other) = (start(&world, "one").await, start(&world, "other").await);
    let heads = |replica: &One| SharedHeads::Facts(Arc::clone(&replica.facts));
    let (here, there) = (heads(&one), heads(&other));
    let is = async |heads: &SharedHeads, size: u64, note: &str, fork: Option<&str>| {
        let start = Instant::now();
        let look = async {
            loop {
                let head = heads.head(NAME).await.unwrap();
                let is = head.is_some_and(|head| {
                    (head.size, &head.note[..], head.fork.as_deref())
                        == (size, note.as_bytes(), fork.map(str::as_bytes))
                });
                if is {
                    return start.elapsed();
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, look).await.unwrap()
    };
    assert!(here.advance_head(NAME, None, 9, b"nine").await.unwrap());
    let took = is(&there, 9, "nine", None).await;
    println!("a head in {took:?}");
    // Not proven against what is there, or backwards.
    for (from, size) in [(None, 12), (Some(&b"ten"[..]), 12), (Some(b"nine"), 8)] {
        assert!(!there.advance_head(NAME, from, size, b"x").await.unwrap());
    }
    let moved = there.advance_head(NAME, Some(b"nine"), 12, b"twelve").await;
    assert!(moved.unwrap());
    is(&here, 12, "twelve", None).await;

    here.set_fork(NAME, b"two heads").await.unwrap();
    is(&there, 12, "twelve", Some("two heads")).await;
    // That the document is lost ends no fork.
    lose(&world).await;
    there.set_fork(NAME, b"later").await.unwrap();
    one.facts.tell().await.unwrap();
    other.facts.tell().await.unwrap();
    is(&there, 12, "twelve", Some("two heads")).await;
    there.clear_fork(NAME).await.unwrap();
    is(&here, 12, "twelve", None).await;
}
