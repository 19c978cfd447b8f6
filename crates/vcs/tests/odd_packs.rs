//! Servers that answer the question for commits with something else: each is a failure in bounded time and memory, and leaves
//! nothing behind.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests too"
)]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Lab, info};
use egress::{Credentials, Egress, NetworkSettings};
use gomod::pattern::Patterns;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use vcs::discover::{Kind, Mapping};
use vcs::{Direct, ErrorKind};

/// What comes after the head of the answer: at first, and then again and again.
type Odd = (Vec<u8>, Vec<u8>);

fn line(text: &[u8]) -> Vec<u8> {
    let mut line = format!("{:04x}", text.len() + 4).into_bytes();
    line.extend_from_slice(text);
    line
}

/// References that are told well, and how often commits were asked for.
async fn serve(odd: Odd) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::default());
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, odd.clone(), Arc::clone(&count)));
        }
    });
    (address, asked)
}

async fn answer(mut stream: TcpStream, (first, rest): Odd, asked: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while !head.ends_with(b"0000") && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let Ok(1..) = stream.read_buf(&mut head).await else {
            return;
        };
    }
    let post = head.starts_with(b"POST");
    let kind = if post { "result" } else { "advertisement" };
    let said = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/x-git-upload-pack-{kind}\r\n\r\n"
    );
    let mut all = said.into_bytes();
    if post {
        asked.fetch_add(1, Ordering::Relaxed);
        all.extend_from_slice(&first);
    } else {
        let hash = "1".repeat(40);
        all.extend(line(b"# service=git-upload-pack\n"));
        all.extend_from_slice(b"0000");
        all.extend(line(format!("{hash} HEAD\0agent=odd\n").as_bytes()));
        all.extend(line(format!("{hash} refs/tags/v1.0.0\n").as_bytes()));
        all.extend_from_slice(b"0000");
    }
    if stream.write_all(&all).await.is_err() {
        return;
    }
    while post && !rest.is_empty() && stream.write_all(&rest).await.is_ok() {}
}

/// Files that a fetch leaves when it was not ended well.
fn halves(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                halves(&path)
            } else {
                let locked = path.extension().is_some_and(|ending| ending == "lock");
                usize::from(locked || name.starts_with("tmp_"))
            }
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_answers_about_commits() {
    let pack = |band: u8, bytes: &[u8]| line(&[&[band], bytes].concat());
    let begin = line(b"packfile\n");
    let junk = pack(1, &vec![b'J'; 60_000]);
    let shallow: Vec<u8> = (0..1000)
        .flat_map(|at| line(format!("shallow {at:040x}\n").as_bytes()))
        .collect();
    let more: Vec<u8> = (1000..30_000)
        .flat_map(|at| line(format!("shallow {at:040x}").as_bytes()))
        .collect();
    for (what, first, rest) in [
        ("nothing", vec![], vec![]),
        ("a mark alone", b"0000".to_vec(), vec![]),
        ("no lines", b"<html>".to_vec(), vec![]),
        ("an error", line(b"ERR upload-pack: not our ref 11"), vec![]),
        ("no end of junk", begin.clone(), junk.clone()),
        (
            "an end too early",
            [&begin[..], &pack(1, b"PACK")].concat(),
            vec![],
        ),
        (
            "it cannot go on",
            [&begin[..], &pack(3, b"out of memory")].concat(),
            vec![],
        ),
        (
            "an empty pack",
            [&begin[..], &pack(1, b"PACK\0\0\0\x02\0\0\0\0"), b"0000"].concat(),
            vec![],
        ),
        (
            "no end of borders",
            [&line(b"shallow-info\n")[..], &shallow, &more].concat(),
            shallow.clone(),
        ),
        (
            "borders elsewhere",
            [&line(b"shallow-info\n")[..], &line(b"shallow ../../x")].concat(),
            vec![],
        ),
        ("no end of progress", begin.clone(), pack(2, &[b'.'; 1000])),
    ] {
        let lab = Lab::start().await;
        let (server, asked) = serve((first, rest)).await;
        let mut settings = lab.settings();
        settings.process_timeout = Duration::from_secs(3);
        settings.insecure = Patterns::parse("corp.test/*,127.0.0.1").unwrap();
        settings.mappings = vec![Mapping {
            prefix: "corp.test".to_owned(),
            repo: format!("http://{server}/{{1}}.git"),
            vcs: Kind::Git,
            subdir: String::new(),
        }];
        let network = NetworkSettings {
            internal_hosts: vec!["127.0.0.1".to_owned()],
            ..lab.without_proxy()
        };
        let direct = Direct::new(settings, Egress::new(network, Credentials::default()));
        let begun = Instant::now();
        let error = info(&direct, "corp.test/odd", "v1.0.0").await.unwrap_err();
        assert!(
            matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Timeout),
            "{what}: {error:?}"
        );
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "{what}: {error:?}"
        );
        assert!(asked.load(Ordering::Relaxed) > 0, "{what}");
        // It is swept out by the next question at the latest.
        let _ = info(&direct, "corp.test/odd", "v1.0.0").await;
        assert_eq!(halves(&lab.mirrors()), 0, "{what}");
    }
}
