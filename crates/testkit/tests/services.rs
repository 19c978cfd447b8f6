//! The services of the tests do what tests rely on: they answer, stand still, end, and come back with what they had.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::services::{Postgres, Redis, S3};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a service is given to answer where it must not.
const NO_ANSWER: Duration = Duration::from_millis(300);

/// Sends a line and returns the first that comes back.
async fn say(addr: SocketAddr, line: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(line.as_bytes()).await?;
    stream.write_all(b"\r\n").await?;
    let mut answer = vec![0; 128];
    let length = stream.read(&mut answer).await?;
    answer.truncate(length);
    Ok(String::from_utf8_lossy(&answer).trim_end().to_owned())
}

#[tokio::test]
async fn redis_stands_still_and_comes_back_with_what_it_had() {
    let mut redis = Redis::start().await;
    let addr = redis.addr();
    assert_eq!(redis.url(), format!("redis://{addr}"));
    assert_eq!(say(addr, "SET colour green").await.unwrap(), "+OK");

    redis.pause();
    let silent = tokio::time::timeout(NO_ANSWER, say(addr, "PING")).await;
    assert!(silent.is_err(), "{silent:?}");
    redis.resume();
    assert_eq!(say(addr, "PING").await.unwrap(), "+PONG");

    redis.pause();
    redis.kill();
    TcpStream::connect(addr).await.unwrap_err();
    redis.restart().await;
    assert_eq!(redis.addr(), addr);
    assert_eq!(say(addr, "GET colour").await.unwrap(), "$5\r\ngreen");

    drop(redis);
    TcpStream::connect(addr).await.unwrap_err();
}

#[tokio::test]
async fn postgres_stands_still_and_comes_back_with_what_it_had() {
    let mut postgres = Postgres::start().await;
    let addr = postgres.addr();
    let url = format!("postgres://modgate@{addr}/modgate");
    assert_eq!(postgres.url(), url);
    postgres.create_database("other").await;

    postgres.pause();
    let silent = tokio::time::timeout(NO_ANSWER, postgres.create_database("third")).await;
    assert!(silent.is_err());
    postgres.resume();

    postgres.restart().await;
    let psql = |database: &str| {
        let mut psql = tokio::process::Command::new("psql");
        psql.args(["--tuples-only", "--no-align", "--command", "select 42"]);
        psql.arg(postgres.url_of(database));
        psql
    };
    for database in ["modgate", "other"] {
        let output = psql(database).output().await.unwrap();
        assert_eq!(output.stdout, b"42\n", "{database}: {output:?}");
    }
    postgres.kill();
    TcpStream::connect(addr).await.unwrap_err();
}

#[tokio::test]
async fn object_storage_answers_stands_still_and_comes_back() {
    let mut s3 = S3::start().await;
    assert!(s3.bucket_dir().is_dir());
    let object = format!("{}/{}/a", s3.endpoint(), S3::BUCKET);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let refused = client.get(&object).send().await.unwrap();
    assert_eq!(refused.status(), 403, "without a signature");

    s3.pause();
    let silent = client.get(&object).timeout(NO_ANSWER).send().await;
    assert!(silent.unwrap_err().is_timeout());
    s3.resume();
    assert_eq!(client.get(&object).send().await.unwrap().status(), 403);

    s3.kill();
    assert!(client.get(&object).send().await.unwrap_err().is_connect());
    s3.restart().await;
    assert_eq!(client.get(&object).send().await.unwrap().status(), 403);
}

#[test]
fn a_service_ends_with_a_test_that_panics() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let panicked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let redis = Redis::start().await;
            sender.send(redis.addr()).unwrap();
            panic!("on purpose");
        });
    })
    .join();
    assert!(panicked.is_err());
    std::net::TcpStream::connect(receiver.recv().unwrap()).unwrap_err();
}

/// Set in the program that is killed.
const TO_BE_KILLED: &str = "TESTKIT_TO_BE_KILLED";

/// Not a test of its own: what the program does that the next test kills.
#[tokio::test]
async fn starts_a_service_and_stays() {
    if std::env::var_os(TO_BE_KILLED).is_some() {
        let redis = Redis::start().await;
        let mut out = std::io::stdout().lock();
        let line = format!("listens {}\n", redis.addr());
        std::io::Write::write_all(&mut out, line.as_bytes()).unwrap();
        std::io::Write::flush(&mut out).unwrap();
        drop(out);
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
async fn a_service_ends_with_a_program_that_is_killed() {
    use tokio::io::AsyncBufReadExt as _;
    let mut program = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "starts_a_service_and_stays", "--nocapture"])
        .env(TO_BE_KILLED, "1")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = tokio::io::BufReader::new(program.stdout.take().unwrap()).lines();
    let addr: SocketAddr = loop {
        let line = lines.next_line().await.unwrap().expect("it listens");
        if let Some((_, addr)) = line.split_once("listens ") {
            break addr.parse().unwrap();
        }
    };
    let mut stream = TcpStream::connect(addr).await.unwrap();
    program.kill().await.unwrap();
    // A connection ends when the service does.
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
}
