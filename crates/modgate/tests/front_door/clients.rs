//! Clients that are slow, silent or too many.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use testkit::{
    fixture,
    gate::{Modgate, Options},
    lab::Lab,
    tls::{Certificate, Pem},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::common::{bin, eventually};

/// Limits are kept to within a half second; the rest is for a busy machine.
pub(crate) const SLACK: Duration = Duration::from_secs(4);

pub(crate) async fn limited(lab: &Lab, limits: &str, tls: Option<Pem>) -> Modgate {
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some("off".to_owned()),
        config: Some(format!("[limits]\n{limits}")),
        tls,
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

/// Waits until the gateway closes or resets the connection.
async fn closed(stream: &mut TcpStream) -> Duration {
    let begin = Instant::now();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest));
    let _reset_or_end = read.await.expect("the gateway closes it");
    begin.elapsed()
}

async fn cut(gate: &Modgate, why: &str) {
    let metric = format!("modgate_connections_cut_total{{result=\"{why}\"}}");
    eventually("it is counted", async || gate.metric(&metric).await >= 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_dribble_and_idle_connections_are_cut() {
    let lab = Lab::start().await;
    let limits = "header_timeout = \"500ms\"\nidle_timeout = \"1s\"\n";
    let gate = limited(&lab, limits, None).await;
    let begin = Instant::now();
    let mut dribbling = TcpStream::connect(gate.addr()).await.unwrap();
    let mut cut_off = false;
    for byte in b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: "
        .iter()
        .chain([b'x'; 400].iter())
    {
        if dribbling.write_all(&[*byte]).await.is_err() {
            cut_off = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(cut_off && begin.elapsed() < Duration::from_millis(500) + SLACK);
    cut(&gate, "slow_head").await;

    // Silent from the start, and silent after an answer.
    let mut silent = TcpStream::connect(gate.addr()).await.unwrap();
    assert!(closed(&mut silent).await < Duration::from_secs(1) + SLACK);
    let mut idle = TcpStream::connect(gate.addr()).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    idle.write_all(request).await.unwrap();
    let took = closed(&mut idle).await;
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(1) + SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_come_is_cut() {
    let lab = Lab::start().await;
    let tls = Some(Pem::new(Certificate::Good));
    let gate = limited(&lab, "header_timeout = \"500ms\"\n", tls).await;
    let mut silent = TcpStream::connect(gate.addr()).await.unwrap();
    assert!(closed(&mut silent).await < Duration::from_millis(500) + SLACK);
    cut(&gate, "slow_handshake").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut_and_harms_no_other() {
    let lab = Lab::start().await;
    let huge = fixture::huge("lab.example/huge", "v1.0.0", 32);
    lab.add_huge(&huge);
    let gate = limited(&lab, "write_stall_timeout = \"1s\"\n", None).await;
    let path = huge.module().url_path("zip");
    // One who joins the download and one who comes later, for a file that is kept.
    for _ in 0..2 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut deaf = socket.connect(gate.addr()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        deaf.write_all(request.as_bytes()).await.unwrap();
        let whole = gate.get(&path).await;
        assert_eq!(whole.body.len() as u64, huge.zip_bytes());
        let stalled = "modgate_connections_cut_total{result=\"stalled\"}";
        let before = gate.metric(stalled).await;
        eventually("it is cut", async || gate.metric(stalled).await > before).await;
        let mut rest = Vec::new();
        let _ = deaf.read_to_end(&mut rest).await;
        assert!((rest.len() as u64) < huge.zip_bytes());
    }
    assert_eq!(lab.count(".zip"), 1);
}

/// The system holds megabytes for a client, and takes nothing new until a good part of them is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_is_not_cut() {
    let lab = Lab::start().await;
    let huge = fixture::huge("lab.example/huge", "v1.0.0", 32);
    lab.add_huge(&huge);
    let gate = limited(&lab, "write_stall_timeout = \"2s\"\n", None).await;
    let path = huge.module().url_path("zip");
    assert_eq!(gate.get(&path).await.status, 200);
    let mut slow = TcpStream::connect(gate.addr()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    slow.write_all(request.as_bytes()).await.unwrap();
    let mut block = vec![0; 10 << 10];
    let mut read = 0;
    for _ in 0..80 {
        read += slow.read_exact(&mut block).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.unwrap();
    assert!((read + rest.len()) as u64 > huge.zip_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let lab = Lab::start().await;
    let gate = limited(&lab, "max_connections = 2\n", None).await;
    let ask = async || {
        let mut stream = TcpStream::connect(gate.addr()).await.unwrap();
        let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        stream
    };
    // Which two are accepted first is chance: each worker has a queue of its own.
    let mut streams = vec![ask().await, ask().await, ask().await];
    let mut served = Vec::new();
    let begins = |stream: &TcpStream| stream.try_read(&mut [0]).is_ok_and(|read| read == 1);
    while served.len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if let Some(at) = streams.iter().position(begins) {
            served.push(streams.remove(at));
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!begins(&streams[0]), "there is no place for it");
    drop(served.pop());
    assert_eq!(streams[0].read_u8().await.unwrap(), b'H');
}

/// Services start with a low soft limit of open files, which it must raise by itself.
#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_the_soft_limit_of_open_files() {
    let lab = Lab::start().await;
    let folder = tempfile::tempdir().unwrap();
    let start = async |name: &str, limits: &str| {
        let wrapper = folder.path().join(name);
        let script = format!("#!/bin/sh\n{limits} && exec '{}' \"$@\"\n", bin().display());
        std::fs::write(&wrapper, script).unwrap();
        std::fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).unwrap();
        let options = Options {
            upstream: Some(lab.url()),
            sumdb: Some("off".to_owned()),
            ..Options::default()
        };
        Modgate::start(&wrapper, options).await
    };
    let gate = start("soft", "ulimit -Sn 100").await;
    let mut streams = Vec::new();
    for _ in 0..200 {
        streams.push(TcpStream::connect(gate.addr()).await.unwrap());
    }
    for stream in &mut streams {
        let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(20), stream.read_u8());
        assert_eq!(answer.await.expect("an answer").unwrap(), b'H');
    }
    let gate = start("hard", "ulimit -n 300").await;
    gate.logged("the limit of open files is too low", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_paths_have_a_limit() {
    let lab = Lab::start().await;
    let limits = "max_header_bytes = \"8KiB\"\nmax_path_bytes = \"256B\"\n";
    let gate = limited(&lab, limits, None).await;
    let raw = async |request: String| {
        let reply = gate.raw(request).await;
        String::from_utf8_lossy(&reply).into_owned()
    };
    let end = "Host: x\r\nConnection: close\r\n\r\n";
    let long = "a".repeat(300);
    let reply = raw(format!("GET /{long}/@v/list HTTP/1.1\r\n{end}")).await;
    assert!(
        reply.starts_with("HTTP/1.1 414 ") && reply.contains("path_too_long"),
        "{reply}"
    );
    let long = "a".repeat(64 << 10);
    let reply = raw(format!("GET /healthz HTTP/1.1\r\nX: {long}\r\n{end}")).await;
    assert!(reply.starts_with("HTTP/1.1 431 "), "{reply}");
    assert_eq!(gate.get("/healthz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_host() {
    let lab = Lab::start().await;
    let gate = limited(&lab, "", None).await;
    for (hosts, version, status) in [
        ("", "1.1", 400),
        ("Host: a\r\nHost: b\r\n", "1.1", 400),
        ("Host: a\r\nHost: a\r\n", "1.1", 400),
        ("Host: a\r\n", "1.1", 200),
        ("", "1.0", 200),
    ] {
        let request = format!("GET /healthz HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n");
        let reply = gate.raw(request).await;
        let reply = String::from_utf8_lossy(&reply);
        let line = format!("HTTP/{version} {status} ");
        assert!(reply.starts_with(&line), "{hosts:?}: {reply}");
        assert_eq!(
            reply.contains("[modgate: bad_request]"),
            status == 400,
            "{reply}"
        );
    }
}
