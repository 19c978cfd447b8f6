//! A bad line in front of a service: a TCP proxy that is slow, narrow, silent, cut, alters bytes or answers itself, as it is told and
//! while connections run.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// The most that is read at once.
const PIECE: usize = 16 << 10;

/// Pieces on their way in one direction of a connection.
const ON_THE_WAY: usize = 64;

/// Heads of requests that are remembered.
const HEADS: usize = 10_000;

/// Shorter pieces are not altered: they are heads and short replies, not content.
const CONTENT: usize = 64;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Faults {
    latency: Duration,
    bytes_per_second: Option<u32>,
    silent: bool,
    altered: bool,
    cut: bool,
    cut_after: Option<u64>,
    answer: Option<&'static [u8]>,
}

/// A proxy on a free port of 127.0.0.1, without faults at first. Dropped, it and its connections end.
#[derive(Debug)]
pub struct Chaos {
    addr: SocketAddr,
    faults: watch::Sender<Faults>,
    connections: Arc<AtomicUsize>,
    heads: Heads,
    server: JoinHandle<()>,
}

/// What clients asked for.
type Heads = Arc<Mutex<Vec<String>>>;

impl Chaos {
    /// Starts a proxy to this address, where nobody needs to listen yet.
    ///
    /// # Panics
    /// If no port could be opened.
    pub async fn before(service: SocketAddr) -> Chaos {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port can be opened");
        let addr = listener.local_addr().expect("a bound port has an address");
        let (faults, told) = watch::channel(Faults::default());
        let connections = Arc::new(AtomicUsize::new(0));
        let heads = Heads::default();
        let seen = (Arc::clone(&connections), Arc::clone(&heads));
        let server = tokio::spawn(serve(listener, service, told, seen));
        Chaos {
            addr,
            faults,
            connections,
            heads,
            server,
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections that were accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The heads of the HTTP requests that clients made since this was asked last.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything arrives this much later, in both directions.
    pub fn latency(&self, latency: Duration) {
        self.faults.send_modify(|faults| faults.latency = latency);
    }

    /// What the service says comes through at this rate, on each connection.
    pub fn bandwidth(&self, bytes_per_second: u32) {
        self.faults
            .send_modify(|faults| faults.bytes_per_second = Some(bytes_per_second));
    }

    /// Nothing comes through any more; connections stay open and are accepted.
    pub fn silence(&self) {
        self.faults.send_modify(|faults| faults.silent = true);
    }

    /// One bit is changed in the last byte of each piece of what the service says, before the line end if it ends in
    /// one. Pieces shorter than 64 bytes, and heads of HTTP that come alone, are right.
    pub fn alter(&self) {
        self.faults.send_modify(|faults| faults.altered = true);
    }

    /// To each piece that a client says it gets this answer, and nothing comes through in either direction: a service that
    /// answers with errors, in its own protocol.
    pub fn answer(&self, answer: &'static [u8]) {
        self.faults
            .send_modify(|faults| faults.answer = Some(answer));
    }

    /// All connections are reset (TCP RST), and new ones as soon as they are made.
    pub fn cut(&self) {
        self.faults.send_modify(|faults| faults.cut = true);
    }

    /// Each connection is reset (TCP RST) once the service has said so many bytes on it from now on.
    pub fn cut_after(&self, bytes: u64) {
        self.faults
            .send_modify(|faults| faults.cut_after = Some(bytes));
    }

    /// Everything is well again.
    pub fn heal(&self) {
        self.faults.send_replace(Faults::default());
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    listener: TcpListener,
    service: SocketAddr,
    faults: watch::Receiver<Faults>,
    (count, heads): (Arc<AtomicUsize>, Heads),
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        count.fetch_add(1, Ordering::SeqCst);
        connections.spawn(connection(
            client,
            service,
            faults.clone(),
            Arc::clone(&heads),
        ));
        while connections.try_join_next().is_some() {}
    }
}

/// Passes on what both sides say until both have said all, or the line is cut.
async fn connection(
    mut client: TcpStream,
    service: SocketAddr,
    faults: watch::Receiver<Faults>,
    heads: Heads,
) {
    let _ = client.set_nodelay(true);
    let mut cut = faults.clone();
    let connect = async {
        let mut server = TcpStream::connect(service).await?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let (up, line_up) = mpsc::channel(ON_THE_WAY);
        let (down, line_down) = mpsc::channel(ON_THE_WAY);
        // Who hears the client answers it too, but does not keep the line open for that.
        let back = down.downgrade();
        tokio::try_join!(
            hear(from_client, up, faults.clone(), Some((back, heads))),
            say(to_server, line_up, faults.clone(), false),
            hear(from_server, down, faults.clone(), None),
            say(to_client, line_down, faults.clone(), true),
        )
    };
    let whole = tokio::select! {
        passed = connect => passed.is_ok(),
        _ = cut.wait_for(|faults| faults.cut) => false,
    };
    if !whole {
        // With no time to linger, closing is a reset.
        let _ = client.set_zero_linger();
    }
}

/// A piece on its way, and when it arrives.
type Piece = (Instant, Vec<u8>);

/// What one side says is on its way to the other; of the client's side `back` is the way of answers to it.
async fn hear(
    mut from: ReadHalf<'_>,
    line: mpsc::Sender<Piece>,
    faults: watch::Receiver<Faults>,
    back: Option<(mpsc::WeakSender<Piece>, Heads)>,
) -> io::Result<()> {
    loop {
        let mut piece = vec![0; PIECE];
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        piece.truncate(length);
        if let Some((_, heads)) = &back {
            note(&piece, heads);
        }
        let now = *faults.borrow();
        let due = Instant::now() + now.latency;
        if let Some(answer) = now.answer {
            if let Some(back) = back.as_ref().and_then(|(back, _)| back.upgrade()) {
                let _ = back.send((due, answer.to_vec())).await;
            }
            continue;
        }
        if now.altered && back.is_none() {
            alter(&mut piece);
        }
        if line.send((due, piece)).await.is_err() {
            return Ok(());
        }
    }
}

async fn say(
    mut to: WriteHalf<'_>,
    mut line: mpsc::Receiver<Piece>,
    mut faults: watch::Receiver<Faults>,
    down: bool,
) -> io::Result<()> {
    let mut said = 0;
    while let Some((due, piece)) = line.recv().await {
        tokio::time::sleep_until(due).await;
        // The sender of the faults goes with the proxy, and so does this.
        let now = match faults.wait_for(|faults| !faults.silent).await {
            Ok(now) => *now,
            Err(_) => return Ok(()),
        };
        let limit = now.cut_after.filter(|_| down);
        let left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(said));
        let length = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
        to.write_all(&piece[..length]).await?;
        said = if limit.is_some() {
            said + length as u64
        } else {
            0
        };
        if length < piece.len() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if let (Some(rate), true) = (now.bytes_per_second, down) {
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            tokio::time::sleep(Duration::from_secs(1) * length / rate.max(1)).await;
        }
    }
    to.shutdown().await
}

/// Remembers the head of a request, which comes in one piece.
fn note(piece: &[u8], heads: &Heads) {
    let text = String::from_utf8_lossy(piece);
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        return;
    };
    let mut heads = heads.lock().unwrap_or_else(PoisonError::into_inner);
    if head
        .lines()
        .next()
        .is_some_and(|line| line.ends_with(" HTTP/1.1"))
        && heads.len() < HEADS
    {
        heads.push(head.to_owned());
    }
}

fn alter(piece: &mut [u8]) {
    if piece.len() < CONTENT || piece.ends_with(b"\r\n\r\n") {
        return;
    }
    let end = if piece.ends_with(b"\r\n") { 2 } else { 0 };
    let last = piece.len() - end - 1;
    piece[last] ^= 1;
}
