//! The configuration of tiers and replicas, as it is written, against the services that it names.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, path::Path, process::Stdio, sync::Arc, time::Duration};

use bytes::Bytes;
use modgate::{
    config::{Config, Env, Sources},
    wire,
};
use records::Records;
use replicas::Replicas;
use store::{Content, Digest, Found, Key, Store, Tiers};
use testkit::{
    fixture::Module,
    gate::{Modgate, Options},
    lab::Lab,
    services::{Postgres, Redis, S3},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

/// How long what is to come may take.
const LIMIT: Duration = Duration::from_secs(20);

/// How long a lease lives in these tests.
const LEASE: Duration = Duration::from_secs(5);

/// A configuration with a data folder of its own, and the test's keys of object storage.
fn config(folder: &tempfile::TempDir, toml: &str) -> Config {
    let file = folder.path().join("modgate.toml");
    std::fs::write(&file, toml).unwrap();
    let sources = Sources {
        file: Some(file),
        env: Env::of([
            ("MODGATE_CHAIN", "direct"),
            ("MODGATE_DATA", folder.path().join("data").to_str().unwrap()),
            ("S3_KEY", "testkey"),
            ("S3_SECRET", "testsecret"),
        ]),
        ..Sources::default()
    };
    Config::load(&sources).unwrap().config
}

fn bucket(s3: &S3) -> String {
    assert_eq!(
        (s3.access_key(), s3.secret_key()),
        ("testkey", "testsecret")
    );
    format!(
        "[[storage]]\ntier = \"s3\"\nbucket = \"{}\"\nprefix = \"go-modules\"\nendpoint = \"{}\"\n\
         region = \"{}\"\naccess_key = {{ env = \"S3_KEY\" }}\nsecret_key = {{ env = \"S3_SECRET\" }}\n",
        S3::BUCKET,
        s3.endpoint(),
        S3::REGION,
    )
}

fn tiers(config: &Config) -> Arc<Tiers> {
    let store = Arc::new(Store::open(&wire::store(config)).unwrap());
    Tiers::open(&wire::tiers(config), store).unwrap()
}

#[tokio::test]
async fn what_one_keeps_in_a_bucket_another_finds() {
    let (redis, s3) = (Redis::start().await, S3::start().await);
    let hot = format!("[[storage]]\ntier = \"redis\"\nurl = \"{}\"\n", redis.url());
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = "[[storage]]\ntier = \"disk\"\nmax_size = \"1GiB\"\n";
    let keeps = tiers(&config(&one, &format!("{hot}{disk}{}", bucket(&s3))));
    let key = Key::new("go/example.com/m/@v/v1.0.0.mod".to_owned()).unwrap();
    let bytes = Bytes::from_static(b"module example.com/m\n");
    let content = Content::Bytes(bytes.clone());
    keeps
        .keep(content, &key, &Digest::of(&bytes))
        .await
        .unwrap();
    let object = s3.bucket_dir().join("go-modules").join(key.as_str());
    assert_eq!(std::fs::read(object).unwrap(), bytes);
    let file = one.path().join("data").join(key.as_str());
    assert_eq!(std::fs::read(file).unwrap(), bytes);

    // Neither a disk nor a Redis: it can only come from the bucket.
    let finds = tiers(&config(&other, &bucket(&s3)));
    let Found::Kept(kept) = finds.find(&key).await else {
        panic!("it is in the bucket");
    };
    assert_eq!(kept.whole(), Some(&bytes));
}

/// Two replicas with this configuration: while one holds a lease, the other does not.
async fn agree(toml: &str) {
    let mut joined = Vec::new();
    for name in ["one", "other"] {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder, toml);
        std::fs::create_dir_all(&config.data).unwrap();
        let records = wire::records(&config).unwrap();
        let records = Arc::new(Records::open(&records).await.unwrap());
        let coordinate = wire::coordinate(&config).unwrap();
        let replicas = Replicas::start(coordinate, &records, None, name);
        joined.push((folder, records, replicas));
    }
    let [(.., one), (.., other)] = &joined[..] else {
        unreachable!("two were joined");
    };
    let lease = one.leases.acquire("k", LEASE).await.unwrap();
    let lease = lease.expect("nobody has it");
    assert!(other.leases.acquire("k", LEASE).await.unwrap().is_none());
    lease.release().await;
    assert!(other.leases.acquire("k", LEASE).await.unwrap().is_some());
    for (.., replicas) in &joined {
        replicas.leave(LEASE).await;
    }
}

#[tokio::test]
async fn replicas_agree_by_postgres() {
    let postgres = Postgres::start().await;
    agree(&format!(
        "[records]\nurl = \"{}\"\n[replicas]\ncoordinate = \"postgres\"",
        postgres.url()
    ))
    .await;
}

/// A database that cannot be reached at first: whoever connects is cut off, once.
async fn behind_a_cut(postgres: &Postgres) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (front, behind) = (listener.local_addr().unwrap(), postgres.addr());
    let carrying = tokio::spawn(async move {
        drop(listener.accept().await.unwrap());
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (front, carrying)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_waits_for_its_database_and_for_no_wrong_one() {
    let postgres = Postgres::start().await;
    let start = async |url: &str| {
        let options = Options {
            upstream: Some("off".to_owned()),
            config: Some(format!("[records]\nurl = \"{url}\"\n")),
            ..Options::default()
        };
        Modgate::try_start(Path::new(env!("CARGO_BIN_EXE_modgate")), options).await
    };
    let waits = "waiting up to 60 s";
    let (front, carrying) = behind_a_cut(&postgres).await;
    let reached = postgres.url();
    let away = reached.replace(&postgres.addr().to_string(), &front.to_string());
    let mut gate = start(&away).await.unwrap();
    let logs = gate.logs();
    assert!(
        logs.contains(waits) && logs.contains("the records are there"),
        "{logs}"
    );
    assert_eq!(gate.get("/readyz").await.status, 200);
    gate.terminate().await;
    carrying.abort();
    // Nobody makes it while we wait.
    let failed = start(&postgres.url_of("nobodys")).await.unwrap_err();
    assert!(failed.status.is_some_and(|status| !status.success()));
    assert!(
        failed.logs.contains("nobodys") && !failed.logs.contains(waits),
        "{}",
        failed.logs
    );
}

/// As the first process of a container, which no signal ends that it does not listen for.
#[tokio::test]
async fn a_server_that_waits_for_its_database_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "postgres://m@{}/m?sslmode=disable",
        silent.local_addr().unwrap()
    );
    let file = folder.path().join("modgate.toml");
    let toml = format!("listen = \"127.0.0.1:0\"\nchain = \"off\"\n[records]\nurl = \"{url}\"\n");
    std::fs::write(&file, toml).unwrap();
    let mut server = tokio::process::Command::new(env!("CARGO_BIN_EXE_modgate"));
    server.arg("serve").arg("--config").arg(&file).arg("--data");
    server.arg(folder.path().join("data"));
    server.env_remove("MODGATE_TEST_OFFLINE").kill_on_drop(true);
    let server = server.stderr(Stdio::piped()).spawn().unwrap();
    silent.accept().await.unwrap();
    let pid = server.id().unwrap().to_string();
    let mut kill = tokio::process::Command::new("kill");
    let told = kill.args(["-TERM", &pid]).status();
    assert!(told.await.unwrap().success());
    let done = timeout(LIMIT, server.wait_with_output()).await.unwrap();
    let done = done.unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(
        said.contains("told to stop before the records could be reached"),
        "{said}"
    );
}

#[tokio::test]
async fn replicas_agree_by_redis() {
    let redis = Redis::start().await;
    agree(&format!(
        "[[storage]]\ntier = \"redis\"\nurl = \"{}\"\n[[storage]]\ntier = \"disk\"\n\
         [replicas]\ncoordinate = \"redis\"",
        redis.url()
    ))
    .await;
}

#[tokio::test]
async fn replicas_agree_by_storage() {
    let s3 = S3::start().await;
    agree(&format!(
        "{}[replicas]\ncoordinate = \"storage\"",
        bucket(&s3)
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_with_a_path_has_what_is_kept() {
    let lab = Lab::start().await;
    let module = Module::new("lab.example/a", "v1.0.0");
    lab.add(module.clone());
    let disk = tempfile::tempdir().unwrap();
    let file = disk.path().join("modgate.toml");
    let kept = disk.path().join("modules");
    let toml = format!("[[storage]]\ntier = \"disk\"\npath = {kept:?}\n");
    std::fs::write(&file, &toml).unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_modgate"));
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some("off".to_owned()),
        config: Some(toml),
        ..Options::default()
    };
    let gate = Modgate::start(bin, options).await;
    let url = module.url_path("mod");
    assert_eq!(gate.get(&url).await.status, 200);
    let under = |folder: &Path| {
        folder
            .join("go")
            .join(url.trim_start_matches('/'))
            .is_file()
    };
    // It is renamed to its place just after it is released to the client.
    eventually(|| async { under(&kept) }).await;
    assert!(!under(gate.data_dir()));

    // Commands find what the server has.
    let mut retire = tokio::process::Command::new(bin);
    retire
        .args([
            "retire",
            "lab.example/a@v1.0.0",
            "--reason",
            "leaks",
            "--config",
        ])
        .arg(file)
        .arg("--data")
        .arg(gate.data_dir())
        // It is no setting, and would be refused as one.
        .env_remove("MODGATE_TEST_OFFLINE");
    let done = retire.output().await.unwrap();
    assert!(done.status.success(), "{done:?}");
    eventually(|| async { gate.get(&url).await.status == 410 }).await;
}

/// Waits until something is so, which nothing tells.
async fn eventually<F: Future<Output = bool>>(so: impl Fn() -> F) {
    let waited = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, waited)
        .await
        .expect("it is so in time");
}
