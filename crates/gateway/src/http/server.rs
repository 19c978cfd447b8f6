//! Connections: accepting, TLS, limits, and an orderly end.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    thread,
    time::Duration,
};

use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    net::{TcpSocket, TcpStream},
    runtime,
    sync::{Semaphore, oneshot},
    time::{Instant, interval_at, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    door::Door,
    guard::{ConnectionLimits, LOOK, Patience, Pulse, Verdict},
    guarded::Guarded,
    socket::Socket,
    tls, unsent,
};
use crate::results::Cut;

/// Connections that the system holds for each worker until they are accepted.
const BACKLOG: u32 = 4096;
/// Of each worker: they open files that are not in memory, and read them.
const BLOCKING_THREADS: usize = 64;

/// Bounds of the server.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at once; more wait in the system's queue.
    pub max_connections: usize,
    /// The head of a request, in bytes.
    pub max_header_bytes: usize,
    /// Times of one connection.
    pub connection: ConnectionLimits,
}

/// Binds the address once for each worker of [`serve`]: the system divides the connections among them. The port is open
/// when this returns.
pub fn bind(mut address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    let shared = workers > 1;
    if shared && address.port() != 0 {
        // A port that another process has would be shared with it without a word, so it is asked for alone first.
        socket(address)?.bind(address)?;
    }
    let mut listeners = Vec::new();
    for _ in 0..workers {
        let socket = socket(address)?;
        if shared {
            socket.set_reuseport(true)?;
        }
        socket.bind(address)?;
        // What is accepted takes it over. Without it small answers would wait for the client's acknowledgements.
        socket.set_nodelay(true)?;
        let listener = socket.listen(BACKLOG)?.into_std()?;
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

/// Accepts and answers until `stop`. What is returned ends when the running answers have, and cuts them off when it is
/// dropped: how long to wait is for the caller to limit.
///
/// Each listener has a thread and a runtime of its own, so that an answer from what is kept wakes no other thread.
pub fn serve(
    listeners: Vec<TcpListener>,
    door: Arc<Door>,
    tls: Option<Arc<ServerConfig>>,
    limits: ServerLimits,
    stop: CancellationToken,
) -> io::Result<impl Future<Output = ()>> {
    let worker = Arc::new(Worker {
        door,
        tls: tls.map(TlsAcceptor::from),
        http1: http1_builder(&limits),
        http2: http2_builder(&limits),
        places: Arc::new(Semaphore::new(limits.max_connections)),
        limits: limits.connection,
        stop,
        cut: CancellationToken::new(),
    });
    let cut = worker.cut.clone().drop_guard();
    let mut ends = Vec::new();
    for (number, listener) in listeners.into_iter().enumerate() {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        let (ended, end) = oneshot::channel::<()>();
        let worker = Arc::clone(&worker);
        thread::Builder::new()
            .name(format!("http-{number}"))
            .spawn(move || {
                if let Err(error) = runtime.block_on(worker.serve(listener)) {
                    tracing::error!(%error, "cannot accept connections");
                }
                runtime.shutdown_background();
                drop(ended);
            })?;
        ends.push(end);
    }
    Ok(async move {
        for end in ends {
            // Nothing is ever sent.
            let _ = end.await;
        }
        drop(cut);
    })
}

/// What all workers have.
struct Worker {
    door: Arc<Door>,
    tls: Option<TlsAcceptor>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    places: Arc<Semaphore>,
    limits: ConnectionLimits,
    stop: CancellationToken,
    /// Nobody waits for running answers any more.
    cut: CancellationToken,
}

impl Worker {
    async fn serve(self: &Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => break,
                accepted = self.accept(&listener) => accepted,
            };
            if let Some((stream, client, place)) = accepted {
                let connection = self.connection(address, client, place);
                connections.spawn(connection.run(stream));
            }
        }
        // Whoever was let in before the port closes is answered, and not reset.
        for (stream, client) in waiting(listener)? {
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                break;
            };
            let connection = self.connection(address, client, place);
            connections.spawn(connection.run(stream));
        }
        connections.close();
        self.cut.run_until_cancelled(connections.wait()).await;
        Ok(())
    }

    fn connection(
        self: &Arc<Self>,
        address: SocketAddr,
        client: SocketAddr,
        place: Place,
    ) -> Connection {
        let recorder = Arc::clone(self.door.recorder());
        Connection {
            worker: Arc::clone(self),
            client,
            // Where it is not one for all, it is asked for.
            local: (!address.ip().is_unspecified()).then_some(address),
            pulse: Arc::new(Pulse::new(recorder)),
            _place: place,
        }
    }

    /// The next connection, and its place among those that may be. One waits here for its place; more wait in the
    /// system's queue.
    async fn accept(
        &self,
        listener: &tokio::net::TcpListener,
    ) -> Option<(TcpStream, SocketAddr, Place)> {
        match listener.accept().await {
            Ok((stream, client)) => {
                let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
                Some((stream, client, place))
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // Out of files or memory: asking again at once would only burn the CPU.
                tokio::time::sleep(Duration::from_millis(50)).await;
                None
            }
        }
    }
}

/// Closes the port, and gives the connections that the system holds for it. What is not accepted it would reset.
fn waiting(listener: tokio::net::TcpListener) -> io::Result<Vec<(TcpStream, SocketAddr)>> {
    let listener = listener.into_std()?;
    let mut waiting = Vec::new();
    // The first error is that there are no more.
    while let Ok((stream, client)) = listener.accept() {
        stream.set_nonblocking(true)?;
        waiting.push((TcpStream::from_std(stream)?, client));
    }
    Ok(waiting)
}

type Place = tokio::sync::OwnedSemaphorePermit;

fn http1_builder(limits: &ServerLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Head and idle times are kept by `guard`, at less cost than a timer per request.
    builder
        .header_read_timeout(None)
        .max_buf_size(limits.max_header_bytes.max(8192));
    builder
}

fn http2_builder(limits: &ServerLimits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30))
        .max_send_buf_size(1 << 20);
    builder
}

struct Connection {
    worker: Arc<Worker>,
    client: SocketAddr,
    /// The address it came to, if that is known.
    local: Option<SocketAddr>,
    pulse: Arc<Pulse>,
    _place: Place,
}

impl Connection {
    async fn run(mut self, stream: TcpStream) {
        if self.local.is_none() {
            self.local = stream.local_addr().ok();
        }
        let open = &self.worker.door.metrics().connections;
        open.inc();
        match &self.worker.tls {
            None => {
                let near = self.client.ip().to_canonical().is_loopback();
                let with = near.then(|| open.clone());
                let socket = Socket::plain(stream, &self.pulse.announced, with);
                self.http(socket, false).await;
            }
            // In a box, as is what is large below: a connection is moved a few times before it begins.
            Some(acceptor) => Box::pin(self.https(acceptor, stream)).await,
        }
        self.worker.door.metrics().connections.dec();
    }

    async fn https(&self, acceptor: &TlsAcceptor, stream: TcpStream) {
        let handshake = async {
            if tls::begins_in_plain(&stream).await? {
                tls::refuse_plain(stream).await?;
                return Ok(None);
            }
            acceptor.accept(stream).await.map(Some)
        };
        // A handshake is part of the head as far as patience goes.
        match timeout(self.worker.limits.header_timeout, handshake).await {
            Ok(Ok(None)) => {
                tracing::debug!(client = %self.client, "plain HTTP where TLS is spoken")
            }
            Ok(Ok(Some(stream))) => {
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    self.pulse.is_shared();
                }
                self.http(Socket::tls(stream), true).await;
            }
            Ok(Err(error)) => {
                tracing::debug!(client = %self.client, %error, "TLS handshake failed")
            }
            Err(_) => self.cut(Cut::SlowHandshake),
        }
    }

    fn cut(&self, why: Cut) {
        self.worker.door.metrics().connections_cut.count(why);
    }

    async fn http(&self, socket: Socket, encrypted: bool) {
        let service = || {
            service_fn(move |request| {
                let door = &self.worker.door;
                door.answer(request, self.client, encrypted, &self.pulse)
            })
        };
        self.pulse.ready();
        let socket = Guarded::new(socket, Arc::clone(&self.pulse));
        let mut connection = Box::new(self.worker.http1.serve_connection(socket, service()));
        let mut pinned = Pin::new(&mut *connection);
        let ended = self.watched(pinned.as_mut(), http1::Connection::graceful_shutdown);
        let Some(Err(error)) = ended.await else {
            return;
        };
        if !error.is_parse_version_h2() {
            tracing::debug!(client = %self.client, %error, "connection ended");
            return;
        }
        let parts = connection.into_parts();
        let socket = parts.io.rewound(parts.read_buf);
        let mut connection = Box::pin(self.worker.http2.serve_connection(socket, service()));
        let ended = self.watched(connection.as_mut(), http2::Connection::graceful_shutdown);
        if let Some(Err(error)) = ended.await {
            tracing::debug!(client = %self.client, %error, "connection ended");
        }
    }

    /// Drives a connection to its end, or until its client has stood still for too long, which gives nothing.
    async fn watched<C: Future>(
        &self,
        mut connection: Pin<&mut C>,
        shut_down: impl Fn(Pin<&mut C>),
    ) -> Option<C::Output> {
        let mut look = interval_at(Instant::now() + LOOK, LOOK);
        let mut patience = Patience::default();
        let mut stopping = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => return Some(ended),
                _ = look.tick() => {
                    // Looked at now and then, not waited for: all connections would queue for one lock at every request.
                    if self.worker.stop.is_cancelled() && !stopping {
                        stopping = true;
                        shut_down(connection.as_mut());
                    }
                    let unsent = || self.local.map_or(0, |local| unsent::bytes(local, self.client));
                    match self.pulse.look(&self.worker.limits, &mut patience, unsent) {
                        Verdict::Fine => {}
                        Verdict::Idle if stopping => return None,
                        Verdict::Idle if patience.closing => {}
                        Verdict::Idle => {
                            patience.closing = true;
                            shut_down(connection.as_mut());
                        }
                        Verdict::SlowHead => {
                            self.cut(Cut::SlowHead);
                            return None;
                        }
                        Verdict::Stalled => {
                            self.cut(Cut::Stalled);
                            return None;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_is_shared_among_workers_alone() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = bind(any, 3).unwrap();
        let address = listeners[0].local_addr().unwrap();
        for listener in &listeners {
            assert_eq!(listener.local_addr().unwrap(), address);
        }
        let _client = std::net::TcpStream::connect(address).unwrap();
        let accepted = listeners.iter().find_map(|listener| listener.accept().ok());
        assert!(accepted.unwrap().0.nodelay().unwrap(), "taken over");
        for workers in [1, 3] {
            let other = bind(address, workers).unwrap_err();
            assert_eq!(other.kind(), io::ErrorKind::AddrInUse, "{workers}");
        }
    }

    #[tokio::test]
    async fn who_was_let_in_before_the_port_closed_is_accepted() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = bind(address, 1).unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        let clients = [(); 3].map(|()| std::net::TcpStream::connect(address).unwrap());
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let waiting = waiting(listener).unwrap();
        for client in clients {
            let from = client.local_addr().unwrap();
            assert!(waiting.iter().any(|(_, client)| *client == from));
        }
        assert!(std::net::TcpStream::connect(address).is_err(), "closed");
    }
}
