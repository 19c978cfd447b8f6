//! HTTP/2 frame by frame, for what no client library does: windows that stay shut, heads without their end.

use std::time::{Duration, Instant};

use testkit::{fixture, gate::Modgate, lab::Lab};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    clients::{SLACK, limited},
    common::{eventually, module},
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// A connection that speaks HTTP/2 without TLS, and answers settings and pings as it must.
struct Frames {
    stream: TcpStream,
    unread: Vec<u8>,
}

struct Frame {
    kind: u8,
    flags: u8,
    payload: Vec<u8>,
}

impl Frames {
    async fn to(gate: &Modgate, window: u32) -> Frames {
        let stream = TcpStream::connect(gate.addr()).await.unwrap();
        let unread = Vec::new();
        let mut frames = Frames { stream, unread };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        frames.stream.write_all(preface).await.unwrap();
        let [a, b, c, d] = window.to_be_bytes();
        frames.send(SETTINGS, 0, 0, &[0, 4, a, b, c, d]).await;
        frames
    }

    /// What is sent to a connection that is closed is lost; the reader sees the end.
    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![len[1], len[2], len[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        let _ = self.stream.write_all(&frame).await;
    }

    async fn ask(&mut self, stream: u32, path: &str) {
        let head = head(path);
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, &head)
            .await;
    }

    /// The next frame; `None` when the connection is closed.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            while self.unread.len() < 9 || self.unread.len() < 9 + self.payload_len() {
                let read = self.stream.read_buf(&mut self.unread).await;
                if matches!(read, Ok(0) | Err(_)) {
                    return None;
                }
            }
            let rest = self.unread.split_off(9 + self.payload_len());
            let bytes = std::mem::replace(&mut self.unread, rest);
            let (kind, flags, payload) = (bytes[3], bytes[4], bytes[9..].to_vec());
            match kind {
                SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]).await,
                PING if flags & ACK == 0 => self.send(PING, ACK, 0, &payload).await,
                _ => {
                    return Some(Frame {
                        kind,
                        flags,
                        payload,
                    });
                }
            }
        }
    }

    fn payload_len(&self) -> usize {
        let [a, b, c] = [self.unread[0], self.unread[1], self.unread[2]].map(usize::from);
        a << 16 | b << 8 | c
    }

    /// The body of the answer that is under way.
    async fn body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let frame = self.next().await.expect("it stays open");
            if frame.kind == DATA {
                body.extend(&frame.payload);
            }
            if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
                return body;
            }
        }
    }

    /// Waits for the end of the connection, and gives how much of bodies came before it.
    async fn closed(&mut self) -> usize {
        let mut bytes = 0;
        let end = timeout(Duration::from_secs(20), async {
            while let Some(frame) = self.next().await {
                if frame.kind == DATA {
                    bytes += frame.payload.len();
                }
            }
        });
        end.await.expect("the gateway closes it");
        bytes
    }
}

/// The header block of a GET, without compression: three entries of the static table and two named by it.
fn head(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    assert!(path.len() < 127, "longer ones are written otherwise");
    block.extend(path.as_bytes());
    block.extend([0x01, 1, b'x']);
    block
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_no_slow_heads() {
    let lab = Lab::start().await;
    let limits = "header_timeout = \"500ms\"\nidle_timeout = \"3s\"\n";
    let gate = limited(&lab, limits, None).await;
    let mut frames = Frames::to(&gate, 65_535).await;
    frames.ask(1, "/healthz").await;
    assert_eq!(frames.body().await, b"ok\n");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(1800) {
        frames.send(PING, 0, 0, b"12345678").await;
        let pong = frames.next().await.expect("it stays open");
        assert_eq!((pong.kind, pong.flags), (PING, ACK));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    frames.ask(3, "/healthz").await;
    assert_eq!(frames.body().await, b"ok\n");
    // With nothing to do it ends in order.
    let begin = Instant::now();
    assert_eq!(frames.closed().await, 0);
    let took = begin.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(3) + SLACK);
    assert!(gate.metric("modgate_connections_cut_total").await < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_stays_shut_is_cut() {
    let lab = Lab::start().await;
    let big = fixture::big("lab.example/big", "v1.0.0", 2);
    lab.add(big.clone());
    let limits = "write_stall_timeout = \"1s\"\nidle_timeout = \"1s\"\n";
    let gate = limited(&lab, limits, None).await;
    // What streams, what is kept, and what hyper has taken whole while the window has room for one byte.
    for (asked, window) in [("zip", 0), ("zip", 0), ("info", 0), ("info", 1), ("zip", 1)] {
        let cuts = gate.metric("result=\"stalled\"").await;
        let mut frames = Frames::to(&gate, window).await;
        frames.ask(1, &big.url_path(asked)).await;
        assert_eq!(frames.closed().await, window as usize, "{asked} {window}");
        let stalled = async || gate.metric("result=\"stalled\"").await > cuts;
        eventually("it is counted", stalled).await;
        assert_eq!(gate.get(&big.url_path(asked)).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_is_cut() {
    let lab = Lab::start().await;
    let limits = "write_stall_timeout = \"1s\"\nidle_timeout = \"1s\"\n";
    let gate = limited(&lab, limits, None).await;
    let mut frames = Frames::to(&gate, 65_535).await;
    frames.ask(1, "/healthz").await;
    assert_eq!(frames.body().await, b"ok\n");
    // The rest of it never comes.
    let begin = Instant::now();
    frames.send(HEADERS, END_STREAM, 3, &head("/healthz")).await;
    frames.closed().await;
    assert!(begin.elapsed() < Duration::from_secs(2) + SLACK);
}

/// Whoever waits for upstream is no client that does not read.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_is_not_cut() {
    let lab = Lab::start().await;
    let big = fixture::big("lab.example/big", "v1.0.0", 2);
    lab.add(big.clone());
    lab.add(module("a"));
    let limits = "write_stall_timeout = \"1s\"\n";
    let gate = limited(&lab, limits, None).await;
    let (slow, half) = (lab.hold(".info"), lab.hold_mid_body(".zip"));
    let mut frames = Frames::to(&gate, 8 << 20).await;
    frames.ask(1, &module("a").url_path("info")).await;
    let get = |path: String| {
        let get = gate.client().get(gate.url() + &path).send();
        tokio::spawn(async move { get.await.unwrap().bytes().await.unwrap() })
    };
    let info = get(module("a").url_path("info"));
    let zip = get(big.url_path("zip"));
    slow.arrived(1).await;
    half.arrived(1).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    slow.release();
    half.release();
    assert_eq!(frames.body().await, module("a").info());
    assert!(info.await.unwrap() == module("a").info());
    assert!(zip.await.unwrap() == big.zip());
    assert!(gate.metric("modgate_connections_cut_total").await < 0.5);
}
