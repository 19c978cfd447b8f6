//! Three replicas behind a balancer that asks the next one when one fails: killed, restarted in turn, and with clocks
//! that are wrong or jump.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use testkit::{fixture::Module, gate::Modgate};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    common::{eventually, module},
    gate_of,
    replicas::{Site, crowd},
};

/// Others that are asked before a client sees an error, and the pause before each.
const TRIES: usize = 8;
const PAUSE: Duration = Duration::from_millis(100);
const CLIENTS: usize = 4;
/// New modules under load.
const NEW: usize = 60;

/// What clients ask: the replicas in turn.
#[derive(Debug, Default)]
struct Balancer {
    urls: Mutex<Vec<String>>,
    turn: AtomicUsize,
    retried: AtomicUsize,
}

impl Balancer {
    fn of(replicas: &[Modgate]) -> Arc<Self> {
        Arc::new(Self {
            urls: Mutex::new(replicas.iter().map(Modgate::url).collect()),
            ..Self::default()
        })
    }

    fn replace(&self, at: usize, url: String) {
        self.urls.lock().unwrap()[at] = url;
    }

    /// A body, whoever it comes from.
    async fn get(&self, client: &reqwest::Client, path: &str) -> Result<Bytes, String> {
        let mut last = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                self.retried.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
            let url = {
                let urls = self.urls.lock().unwrap();
                urls[self.turn.fetch_add(1, Ordering::Relaxed) % urls.len()].clone()
            };
            let asked = async {
                let reply = client.get(format!("{url}{path}")).send().await?;
                reply.error_for_status()?.bytes().await
            };
            match asked.await {
                Ok(body) => return Ok(body),
                Err(error) => last = format!("{path}: {error:?}"),
            }
        }
        Err(last)
    }
}

/// Clients that read what is kept, and one new module after the other. How many requests there were.
struct Load {
    clients: JoinSet<Result<usize, String>>,
    stop: CancellationToken,
    /// New modules that somebody has asked for.
    asked: Arc<AtomicUsize>,
}

impl Load {
    fn start(balancer: &Arc<Balancer>, kept: &Module, new: &[Module]) -> Self {
        let (stop, asked) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let mut clients = JoinSet::new();
        let new: Arc<[Module]> = new.into();
        for _ in 0..CLIENTS {
            let (balancer, kept, new) = (Arc::clone(balancer), kept.clone(), Arc::clone(&new));
            let (stop, asked) = (stop.clone(), Arc::clone(&asked));
            clients.spawn(async move {
                let http = reqwest::Client::builder().no_proxy().build().unwrap();
                let mut requests = 0;
                while !stop.is_cancelled() {
                    let next = new.get(asked.fetch_add(1, Ordering::Relaxed));
                    for module in [next, Some(&kept)].into_iter().flatten() {
                        let body = balancer.get(&http, &module.url_path("zip")).await?;
                        assert!(body == module.zip(), "{}: other bytes", module.path());
                        requests += 1;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Ok(requests)
            });
        }
        Self {
            clients,
            stop,
            asked,
        }
    }

    async fn new_ones(&self, count: usize) {
        eventually("new modules are asked for", async || {
            self.asked.load(Ordering::Relaxed) >= count
        })
        .await;
    }

    async fn end(mut self) -> usize {
        self.stop.cancel();
        let mut requests = 0;
        while let Some(done) = self.clients.join_next().await {
            requests += done.unwrap().unwrap();
        }
        requests
    }
}

/// A site with a module that is kept and many that nobody has.
async fn site() -> (Site, Module, Vec<Module>) {
    let site = Site::start().await;
    let kept = module("kept");
    let new: Vec<_> = (0..NEW).map(|n| module(&format!("new{n}"))).collect();
    for module in new.iter().chain([&kept]) {
        site.lab.add(module.clone());
    }
    (site, kept, new)
}

/// How often zips were fetched again from upstream.
fn fetched_again(site: &Site, modules: &[Module]) -> usize {
    let fetched = modules
        .iter()
        .map(|module| site.lab.count(&module.url_path("zip")));
    fetched.map(|times| times.saturating_sub(1)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_is_killed_under_load() {
    let (site, kept, new) = site().await;
    let mut replicas = site.replicas("postgres", 3).await;
    let balancer = Balancer::of(&replicas);
    let load = Load::start(&balancer, &kept, &new);
    load.new_ones(NEW / 3).await;
    replicas[0].kill9().await;
    load.new_ones(NEW).await;
    let requests = load.end().await;
    // Only what the dead one was fetching.
    let again = fetched_again(&site, &new);
    assert!(again <= CLIENTS, "{again} zips were fetched again");
    let retried = balancer.retried.load(Ordering::Relaxed);
    eprintln!(
        "kill -9 of one of three: {requests} requests, {retried} retries, 0 errors, {again} fetched again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_three_are_restarted_in_turn_under_load() {
    let (site, kept, new) = site().await;
    let mut replicas = site.replicas("postgres", 3).await;
    let balancer = Balancer::of(&replicas);
    let load = Load::start(&balancer, &kept, &new);
    for (at, replica) in replicas.iter_mut().enumerate() {
        load.new_ones((at + 1) * NEW / 4).await;
        assert!(replica.terminate().await.success());
        *replica = site.replicas("postgres", 1).await.remove(0);
        balancer.replace(at, replica.url());
    }
    load.new_ones(NEW).await;
    let requests = load.end().await;
    assert_eq!(fetched_again(&site, &new), 0);
    let retried = balancer.retried.load(Ordering::Relaxed);
    eprintln!("restarted in turn: {requests} requests, {retried} retries, 0 errors");
}

/// libfaketime, which tells a program another time.
fn fake_time() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap();
    let libraries = folders.map(|folder| {
        let folder = folder.unwrap().path();
        folder.join("faketime/libfaketimeMT.so.1")
    });
    let mut found = libraries.filter(|library| library.exists());
    found
        .next()
        .unwrap_or_else(|| panic!("missing: libfaketime (package faketime)"))
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_wrong_or_jump_change_nothing() {
    let (site, _, new) = site().await;
    let folder = tempfile::tempdir().unwrap();
    let clock = |name: &str, offset: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, offset).unwrap();
        let value = |path: PathBuf| path.to_str().unwrap().to_owned();
        [
            ("LD_PRELOAD", value(fake_time())),
            ("FAKETIME_TIMESTAMP_FILE", value(file)),
            // A wall clock that is set anew; the time since the machine was started goes on as ever.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
        ]
    };
    // Less than the quarter of an hour after which object storage no longer believes a signature.
    let mut replicas = site.replicas("postgres", 1).await;
    for (name, offset) in [("ahead", "+10m"), ("jumps", "+0")] {
        let env = clock(name, offset).map(|(name, value)| (name.to_owned(), value));
        replicas.push(
            gate_of(
                &site.lab,
                &site.bucket,
                &site.config("postgres"),
                env.to_vec(),
            )
            .await,
        );
    }
    let date = async |replica: &Modgate| {
        let reply = replica.get("/healthz").await;
        let text = reply.header("date").replace("GMT", "+0000");
        OffsetDateTime::parse(&text, &Rfc2822).unwrap()
    };
    let ahead = date(&replicas[1]).await - date(&replicas[0]).await;
    assert!(ahead > Duration::from_mins(9), "the time is not faked");
    let once = async |module: &Module| {
        crowd(&replicas, &module.url_path("zip"), 60, &module.zip()).await;
        assert_eq!(site.lab.count(&module.url_path("zip")), 1);
        let list = format!("/{}/@v/list", module.path());
        crowd(&replicas, &list, 6, b"v1.0.0\n").await;
    };
    once(&new[0]).await;
    for (number, offset) in (1..).zip(["-10m", "+10m", "+0"]) {
        clock("jumps", offset);
        let begin = Instant::now();
        once(&new[number]).await;
        // What a lease lasts is not measured by anybody's wall clock: nobody waits for one that seems to last.
        assert!(
            begin.elapsed() < Duration::from_secs(4),
            "{offset}: {:?}",
            begin.elapsed()
        );
    }
}
