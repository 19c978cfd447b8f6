//! A scripted HTTP server that can misbehave below HTTP, which no HTTP library lets one do.
// Each test binary uses its part; clippy does not see that helpers outside `#[test]` are tests.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use egress::{Credentials, Egress};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use upstream::{Ask, BodyError, Failure, NetworkSettings, UpstreamSettings, Upstreams};

/// What the server does with one request.
#[derive(Clone)]
pub enum Reply {
    /// 200 with this body.
    Ok(&'static str),
    /// 200 with this coding and body.
    Coded(&'static str, &'static [u8]),
    /// The same after a while.
    Slow(Duration, &'static str),
    /// A status with a short body.
    Status(u16),
    /// A status with `Retry-After`.
    Later(u16, &'static str),
    /// 302 to there.
    Redirect(String),
    /// No answer, the connection stays open.
    Hang,
    /// The connection is reset after the request was read.
    Reset,
    /// 200, ten bytes announced, four sent, then the connection closes.
    Short,
    /// 200, ten bytes announced, four sent, then silence.
    Stall,
}

/// A running server; stops when dropped.
pub struct Server {
    pub addr: SocketAddr,
    pub hits: Arc<AtomicUsize>,
    pub heads: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers request number n (from 0) with `script(n, path)`.
    pub fn start(script: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script)
    }

    pub fn start_at(
        addr: SocketAddr,
        script: impl Fn(usize, &str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = listen(addr);
        let addr = listener.local_addr().unwrap();
        let hits = Arc::new(AtomicUsize::new(0));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, kept, script) = (Arc::clone(&hits), Arc::clone(&heads), Arc::new(script));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, kept, script) = (seen.clone(), kept.clone(), script.clone());
                tokio::spawn(async move {
                    let mut stream = stream;
                    let head = read_head(&mut stream).await;
                    let path = head.split(' ').nth(1).unwrap_or("").to_owned();
                    kept.lock().unwrap().push(head);
                    let reply = script(seen.fetch_add(1, Ordering::SeqCst), &path);
                    answer(stream, reply).await;
                });
            }
        });
        Self {
            addr,
            hits,
            heads,
            task,
        }
    }

    pub fn always(reply: Reply) -> Self {
        Self::start(move |_, _| reply.clone())
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

pub fn listen(addr: SocketAddr) -> TcpListener {
    bound(addr).listen(64).unwrap()
}

/// It can be had beside one that only holds the port.
fn bound(addr: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(addr).unwrap();
    socket
}

/// An address at which nothing listens, and that nobody else gets.
pub fn nowhere() -> SocketAddr {
    let held = bound("127.0.0.1:0".parse().unwrap());
    let addr = held.local_addr().unwrap();
    // Until the end of the process, as no test says when it is done with it.
    std::mem::forget(held);
    addr
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

async fn answer(mut stream: TcpStream, reply: Reply) {
    let ten = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour";
    let text = match reply {
        Reply::Slow(wait, body) => {
            tokio::time::sleep(wait).await;
            ok(body)
        }
        Reply::Ok(body) => ok(body),
        Reply::Coded(coding, body) => {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
            return;
        }
        Reply::Status(n) => {
            format!("HTTP/1.1 {n} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        }
        Reply::Later(n, after) => format!(
            "HTTP/1.1 {n} X\r\nRetry-After: {after}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
        ),
        Reply::Redirect(to) => format!(
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
        Reply::Hang => return std::future::pending().await,
        Reply::Reset => {
            let _ = stream.set_zero_linger();
            return;
        }
        Reply::Short => ten.to_owned(),
        Reply::Stall => {
            let _ = stream.write_all(ten.as_bytes()).await;
            return std::future::pending().await;
        }
    };
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// Settings with limits short enough for tests.
pub fn quick() -> UpstreamSettings {
    UpstreamSettings {
        connect_timeout: Duration::from_millis(500),
        first_byte_timeout: Duration::from_millis(500),
        idle_timeout: Duration::from_millis(300),
        ..UpstreamSettings::default()
    }
}

pub fn with(
    network: NetworkSettings,
    credentials: Credentials,
    settings: UpstreamSettings,
) -> Upstreams {
    Upstreams::new(Egress::new(network, credentials), settings, HashMap::new())
}

pub fn upstreams(settings: UpstreamSettings) -> Upstreams {
    with(NetworkSettings::default(), Credentials::default(), settings)
}

/// A network in which redirects may lead to this machine.
pub fn internal() -> NetworkSettings {
    NetworkSettings {
        internal_hosts: vec!["127.0.0.1".to_owned()],
        ..NetworkSettings::default()
    }
}

pub fn ask() -> Ask {
    Ask {
        path: "/m/@v/v1.0.0.info".to_owned(),
        hedge: true,
    }
}

/// Fetches and reads the body.
pub async fn get(u: &Upstreams, chain: &str) -> Result<Result<String, BodyError>, Failure> {
    let fetched = u.fetch(&chain.parse().unwrap(), &ask()).await?;
    let body = fetched.body.into_bytes(1000).await;
    Ok(body.map(|b| String::from_utf8_lossy(&b).into_owned()))
}

/// The body, or the kind of failure and its texts, as one line.
pub async fn line(u: &Upstreams, chain: &str) -> String {
    match get(u, chain).await {
        Ok(Ok(body)) => body,
        Ok(Err(e)) => format!("body: {e}"),
        Err(f) => match f.kind {
            upstream::FailureKind::Absent { gone } => format!("absent gone={gone}"),
            upstream::FailureKind::Off => "off".to_owned(),
            upstream::FailureKind::Direct { earlier } => {
                format!("direct {}", earlier.map_or(String::new(), |t| t.text))
            }
            upstream::FailureKind::Trouble(t) => format!("{:?}: {}", t.cause, t.text),
        },
    }
}
