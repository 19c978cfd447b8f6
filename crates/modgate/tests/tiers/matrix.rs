//! Each service away in each way, alone and two at a time, while clients download: what is asserted is that no byte is
//! wrong, nothing hangs, what is at hand is served, what was served whole is kept, and that all is as before soon after.
//! The times until then are printed.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use testkit::{
    chaos::Chaos,
    fixture::Module,
    gate::Modgate,
    go::Go,
    lab::Lab,
    services::{Postgres, Redis, S3},
    small_disk::SmallDisk,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{DISK, MEMORY, common::module, gate, redis, s3};

/// No answer takes longer, whatever is away.
const LIMIT: Duration = Duration::from_secs(20);
/// After a fault has ended, a new version is served within this time.
const RECOVERY: Duration = Duration::from_secs(15);
/// How long clients go on at least while something is away.
const DURING: Duration = Duration::from_millis(1500);
/// Answers with errors, in the protocols of the three.
const REDIS_ERROR: &[u8] = b"-ERR internal error\r\n";
const S3_ERROR: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/xml\r\nConnection: close\r\n\
    Content-Length: 77\r\n\r\n<Error><Code>InternalError</Code><Message>We are in trouble</Message></Error>";
const POSTGRES_ERROR: &[u8] =
    b"E\0\0\0\x33SERROR\0VERROR\0C53100\0Mno space left on device\0\0Z\0\0\0\x05I";

/// The disks that are filled.
const DISK_BYTES: u64 = 32 << 20;

/// What all clients read over and over.
const AT_HAND: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Redis,
    S3,
    Postgres,
    Disk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Killed,
    Paused,
    Slow,
    Silent,
    Cut,
    Altered,
    Errors,
    Filled,
}

use Fault::{Altered, Cut, Errors, Filled, Killed, Paused, Silent, Slow};
use Service as Of;

type Cell = &'static [(Service, Fault)];

struct Name(Cell);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (service, fault)) in self.0.iter().enumerate() {
            let and = if at == 0 { "" } else { " + " };
            write!(f, "{and}{service:?} {fault:?}")?;
        }
        Ok(())
    }
}

/// What is read while something is away.
#[derive(Debug)]
enum Got {
    Whole,
    /// A refusal that says when to come again.
    Refused(String),
    /// The connection broke off.
    Cut,
}

/// Reads a file and makes sure that what comes is right, or no answer.
async fn read(client: &reqwest::Client, url: String, want: &Bytes) -> Got {
    let asked = async {
        let reply = client.get(&url).send().await?;
        let (status, after) = (reply.status(), reply.headers().contains_key("retry-after"));
        reqwest::Result::Ok((status, after, reply.bytes().await?))
    };
    let reply = tokio::time::timeout(LIMIT, asked).await;
    match reply.unwrap_or_else(|_| panic!("{url}: no end within {LIMIT:?}")) {
        Ok((status, _, body)) if status.is_success() => {
            assert!(body == *want, "{url}: other bytes");
            Got::Whole
        }
        Ok((status, after, body)) => {
            let text = String::from_utf8_lossy(&body).into_owned();
            assert!(status.is_server_error() && after, "{url}: {status}: {text}");
            Got::Refused(text)
        }
        Err(_) => Got::Cut,
    }
}

/// The files of a version. They are asked for in the order of the go command.
fn files(module: &Module) -> [(String, Bytes); 2] {
    [("mod", module.mod_file()), ("zip", module.zip())]
        .map(|(ending, want)| (module.url_path(ending), want.into()))
}

struct Site {
    lab: Lab,
    hot: Redis,
    bucket: S3,
    records: Postgres,
    /// In front of each of the three.
    lines: [Chaos; 3],
    config: String,
    gate: Modgate,
    /// What the data folder and the bucket lie on.
    disks: [SmallDisk; 2],
    at_hand: Vec<Module>,
    /// The files that somebody was given whole, by their path.
    kept: BTreeMap<String, Bytes>,
    number: usize,
}

impl Site {
    /// Everything is well, and the modules `below_N` are in the bucket alone.
    async fn start(cells: usize) -> Self {
        let disks = [SmallDisk::new(DISK_BYTES), SmallDisk::new(DISK_BYTES)];
        let (lab, hot, bucket, records) = tokio::join!(
            Lab::start(),
            Redis::start(),
            S3::start_in(disks[1].path()),
            Postgres::start()
        );
        let lines = [
            Chaos::before(hot.addr()).await,
            Chaos::before(bucket.addr()).await,
            Chaos::before(records.addr()).await,
        ];
        let tables = format!("{MEMORY}{}{DISK}{}", redis(&hot), s3(&bucket, ""));
        let shared = format!(
            "[records]\nurl = \"{}\"\n[replicas]\ncoordinate = \"postgres\"\n",
            records.url()
        );
        let services = [hot.addr(), bucket.addr(), records.addr()];
        let mut config = format!("{tables}{shared}");
        for (service, line) in services.iter().zip(&lines) {
            config = config.replace(&service.to_string(), &line.addr().to_string());
        }
        for number in 0..cells {
            lab.add(module(&format!("below{number}")));
        }
        let without_redis = format!("{MEMORY}{DISK}{}{shared}", s3(&bucket, ""));
        let mut before = gate(&lab, &bucket, &without_redis, None).await;
        for number in 0..cells {
            for (path, _) in files(&module(&format!("below{number}"))) {
                assert_eq!(before.get(&path).await.status, 200);
            }
        }
        assert!(before.terminate().await.success());
        let site = Self {
            gate: gate(&lab, &bucket, &config, Some(disks[0].path().join("data"))).await,
            disks,
            at_hand: (0..AT_HAND).map(|n| module(&format!("hand{n}"))).collect(),
            lab,
            hot,
            bucket,
            records,
            lines,
            config,
            kept: (0..cells)
                .flat_map(|number| files(&module(&format!("below{number}"))))
                .collect(),
            number: 0,
        };
        for module in site.at_hand.clone() {
            site.lab.add(module.clone());
            let info = site.gate.get(&module.url_path("info")).await;
            assert_eq!(info.status, 200, "{}", info.text());
            for (path, want) in files(&module) {
                let got = read(&site.gate.client(), site.gate.url() + &path, &want).await;
                assert!(matches!(got, Got::Whole), "{got:?}");
            }
        }
        site
    }

    fn line(&self, service: Service) -> &Chaos {
        &self.lines[match service {
            Of::Redis => 0,
            Of::S3 => 1,
            Of::Postgres => 2,
            Of::Disk => panic!("there is no line to a disk"),
        }]
    }

    async fn begin(&mut self, (service, fault): (Service, Fault)) {
        match (fault, service) {
            (Slow, _) => self.line(service).latency(Duration::from_millis(150)),
            (Silent, _) => self.line(service).silence(),
            (Cut, _) => self.line(service).cut(),
            (Altered, _) => self.line(service).alter(),
            (Errors, Of::Redis) => self.line(service).answer(REDIS_ERROR),
            (Errors, Of::S3) => self.line(service).answer(S3_ERROR),
            (Errors, Of::Postgres) => self.line(service).answer(POSTGRES_ERROR),
            (Filled, Of::Redis) => self.redis("CONFIG SET maxmemory 1").await,
            (Filled, Of::S3) => self.disks[1].fill(0),
            (Filled, Of::Disk) => self.disks[0].fill(0),
            // As hosted ones are when their disk is full.
            (Filled, Of::Postgres) => self.read_only("on").await,
            (Killed, Of::Redis) => self.hot.kill(),
            (Killed, Of::S3) => self.bucket.kill(),
            (Killed, Of::Postgres) => self.records.kill(),
            (Paused, Of::Redis) => self.hot.pause(),
            (Paused, Of::S3) => self.bucket.pause(),
            (Paused, Of::Postgres) => self.records.pause(),
            (Killed | Paused | Errors, Of::Disk) => panic!("{fault:?} is nothing for a disk"),
        }
    }

    async fn redis(&self, command: &str) {
        let mut connection = TcpStream::connect(self.hot.addr()).await.unwrap();
        let command = format!("{command}\r\n");
        connection.write_all(command.as_bytes()).await.unwrap();
        let mut said = [0; 5];
        connection.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"+OK\r\n");
    }

    async fn read_only(&self, on: &str) {
        let set = format!("ALTER SYSTEM SET default_transaction_read_only = {on}");
        // The way back must be open.
        let write = "SET default_transaction_read_only = off";
        let reload = "SELECT pg_reload_conf()";
        self.records.run_sql(&[write, &set, reload]).await;
    }

    async fn end(&mut self, (service, fault): (Service, Fault)) {
        match (fault, service) {
            (Killed, Of::Redis) => self.hot.restart().await,
            (Killed, Of::S3) => self.bucket.restart().await,
            (Killed, Of::Postgres) => self.records.restart().await,
            (Paused, Of::Redis) => self.hot.resume(),
            (Paused, Of::S3) => self.bucket.resume(),
            (Paused, Of::Postgres) => self.records.resume(),
            (Filled, Of::Redis) => self.redis("CONFIG SET maxmemory 0").await,
            (Filled, Of::S3) => self.disks[1].make_room(),
            (Filled, Of::Disk) => self.disks[0].make_room(),
            (Filled, Of::Postgres) => self.read_only("off").await,
            _ => self.line(service).heal(),
        }
    }

    /// Reads a version: whether all of it came whole, or how the last file that did not went.
    async fn version(&mut self, name: &str) -> Got {
        let mut version = Got::Whole;
        for (path, want) in files(&module(name)) {
            match read(&self.gate.client(), self.gate.url() + &path, &want).await {
                Got::Whole => {
                    self.kept.insert(path, want);
                }
                other => version = other,
            }
        }
        version
    }

    /// One cell of the matrix; the line of the table.
    async fn cell(&mut self, cell: Cell) -> String {
        let number = self.number;
        self.number += 1;
        let [new, later] = ["new", "later"].map(|kind| format!("{kind}{number}"));
        for name in [&new, &later] {
            self.lab.add(module(name));
        }
        let (stop, reads) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let mut load = JoinSet::new();
        for client in 0..3 {
            let (http, url, stop) = (self.gate.client(), self.gate.url(), stop.clone());
            let (reads, modules) = (Arc::clone(&reads), self.at_hand.clone());
            load.spawn(async move {
                let paths: Vec<_> = modules.iter().flat_map(files).collect();
                for (path, want) in paths.iter().cycle().skip(client) {
                    if stop.is_cancelled() {
                        break;
                    }
                    let got = read(&http, format!("{url}{path}"), want).await;
                    assert!(matches!(got, Got::Whole), "{path} is at hand: {got:?}");
                    reads.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            });
        }
        for fault in cell {
            self.begin(*fault).await;
        }
        let began = Instant::now();
        // A real client, for what is at hand.
        let go = Go::new().proxy(&self.gate.url());
        let names: Vec<_> = self
            .at_hand
            .iter()
            .map(|module| format!("{}@v1.0.0", module.path()))
            .collect();
        let mut arguments = vec!["mod", "download"];
        arguments.extend(names.iter().map(String::as_str));
        let downloaded = go.run(&arguments).await;
        assert!(downloaded.ok, "{}: {}", Name(cell), downloaded.stderr);
        let below = self.version(&format!("below{number}")).await;
        let fresh = self.version(&new).await;
        for got in [&below, &fresh] {
            if let Got::Refused(text) = got {
                let expected = ["[modgate: storage_unavailable]", "[modgate: storage_full]"];
                assert!(expected.iter().any(|code| text.contains(code)), "{text}");
                assert!(!text.contains("127.0.0.1"), "it names an address: {text}");
            }
        }
        tokio::time::sleep_until((began + DURING).into()).await;
        for fault in cell {
            self.end(*fault).await;
        }
        let ended = Instant::now();
        loop {
            let [below, fresh] = [format!("below{number}"), later.clone()];
            let whole = [self.version(&below).await, self.version(&fresh).await];
            if whole.iter().all(|got| matches!(got, Got::Whole)) {
                break;
            }
            assert!(
                ended.elapsed() < RECOVERY,
                "{}: {whole:?}\n{}",
                Name(cell),
                self.gate.logs()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let took = ended.elapsed();
        stop.cancel();
        while let Some(done) = load.join_next().await {
            done.unwrap();
        }
        let short = |got: &Got| match got {
            Got::Whole => "served".to_owned(),
            Got::Refused(text) => {
                let code = text.lines().next().and_then(|line| line.rsplit_once('['));
                code.map_or_else(String::new, |(_, code)| {
                    code.trim_end_matches(']').replace("modgate: ", "")
                })
            }
            Got::Cut => "cut".to_owned(),
        };
        format!(
            "| {} | {} | {} | {} | {} ms |",
            Name(cell),
            reads.load(Ordering::Relaxed),
            short(&below),
            short(&fresh),
            took.as_millis()
        )
    }

    /// Nothing that was served is lost: another replica without anything of its own has it, without upstream.
    async fn nothing_is_lost(&mut self) {
        self.lab.stop().await;
        let second = gate(&self.lab, &self.bucket, &self.config, None).await;
        for (path, want) in &self.kept {
            let got = read(&second.client(), second.url() + path, want).await;
            assert!(matches!(got, Got::Whole), "{path} is lost: {got:?}");
        }
    }
}

async fn matrix(cells: &[Cell]) {
    let mut site = Site::start(cells.len()).await;
    let mut table = vec![
        "| away | reads at hand | in the bucket alone | new | all as before after |".to_owned(),
        "| --- | --- | --- | --- | --- |".to_owned(),
    ];
    for cell in cells {
        table.push(site.cell(cell).await);
    }
    site.nothing_is_lost().await;
    eprintln!("{}", table.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_or_records_away() {
    matrix(&[
        &[(Of::Redis, Killed)],
        &[(Of::Redis, Paused)],
        &[(Of::Redis, Slow)],
        &[(Of::Redis, Silent)],
        &[(Of::Redis, Cut)],
        &[(Of::Redis, Altered)],
        &[(Of::Redis, Errors)],
        &[(Of::Redis, Filled)],
        &[(Of::Postgres, Killed)],
        &[(Of::Postgres, Paused)],
        &[(Of::Postgres, Slow)],
        &[(Of::Postgres, Silent)],
        &[(Of::Postgres, Cut)],
        &[(Of::Postgres, Errors)],
        &[(Of::Postgres, Filled)],
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn object_storage_or_disk_away() {
    matrix(&[
        &[(Of::S3, Killed)],
        &[(Of::S3, Paused)],
        &[(Of::S3, Slow)],
        &[(Of::S3, Silent)],
        &[(Of::S3, Cut)],
        &[(Of::S3, Altered)],
        &[(Of::S3, Errors)],
        &[(Of::S3, Filled)],
        &[(Of::Disk, Filled)],
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_away_at_once() {
    matrix(&[
        &[(Of::Redis, Killed), (Of::S3, Killed)],
        &[(Of::Redis, Paused), (Of::S3, Paused)],
        &[(Of::Redis, Altered), (Of::S3, Cut)],
        &[(Of::Redis, Cut), (Of::S3, Altered)],
        &[(Of::S3, Killed), (Of::Postgres, Killed)],
        &[(Of::S3, Paused), (Of::Postgres, Paused)],
        &[(Of::S3, Slow), (Of::Postgres, Slow)],
        &[(Of::Redis, Killed), (Of::Postgres, Killed)],
        &[(Of::Redis, Silent), (Of::Postgres, Silent)],
        &[(Of::Redis, Errors), (Of::S3, Errors)],
        &[(Of::Redis, Filled), (Of::S3, Filled)],
        &[(Of::S3, Errors), (Of::Postgres, Errors)],
        &[(Of::Redis, Errors), (Of::Postgres, Filled)],
        &[(Of::S3, Filled), (Of::Postgres, Filled)],
        &[(Of::Disk, Filled), (Of::Redis, Killed)],
        &[(Of::Disk, Filled), (Of::Redis, Altered)],
        &[(Of::Disk, Filled), (Of::S3, Killed)],
        &[(Of::Disk, Filled), (Of::S3, Slow)],
        &[(Of::Disk, Filled), (Of::S3, Filled)],
        &[(Of::Disk, Filled), (Of::Postgres, Cut)],
    ])
    .await;
}
