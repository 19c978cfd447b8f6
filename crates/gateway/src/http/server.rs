//! Connections: accepting, TLS, limits, and an orderly end.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    time::{interval, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    door::Door,
    guard::{ConnectionLimits, Guarded, LOOK, Patience, Pulse, Verdict},
    socket::Socket,
};
use crate::metrics::Metrics;

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

/// Binds the address; the port is open when this returns.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

/// Accepts and answers until `stop`, then waits for running answers. How long is for the caller to limit.
pub async fn serve(
    listener: TcpListener,
    door: Arc<Door>,
    tls: Option<Arc<ServerConfig>>,
    limits: ServerLimits,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let connections = TaskTracker::new();
    let tls = tls.map(TlsAcceptor::from);
    let builder = Arc::new(http_builder(&limits));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, client, place)) = accepted else {
            continue;
        };
        let connection = Connection {
            door: Arc::clone(&door),
            builder: Arc::clone(&builder),
            limits: limits.connection,
            client,
            pulse: Arc::new(Pulse::new()),
            stop: stop.clone(),
        };
        let tls = tls.clone();
        connections.spawn(async move {
            let metrics = Arc::clone(connection.door.metrics());
            metrics.connections.inc();
            connection.run(stream, tls).await;
            metrics.connections.dec();
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

type Place = tokio::sync::OwnedSemaphorePermit;

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, Place)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, client)) => {
            // Without it small answers would wait for the client's acknowledgements. A socket that refuses is gone.
            let _ = stream.set_nodelay(true);
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

fn http_builder(limits: &ServerLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Head and idle times are kept by `guard`, at less cost than a timer per request.
    builder
        .http1()
        .header_read_timeout(None)
        .max_buf_size(limits.max_header_bytes.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30))
        .max_send_buf_size(1 << 20);
    builder
}

struct Connection {
    door: Arc<Door>,
    builder: Arc<auto::Builder<TokioExecutor>>,
    limits: ConnectionLimits,
    client: SocketAddr,
    pulse: Arc<Pulse>,
    stop: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let Some(tls) = tls else {
            let socket = Socket::plain(stream, &self.pulse.announced);
            return self.http(socket, false).await;
        };
        // A handshake is part of the head as far as patience goes.
        match timeout(self.limits.header_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    self.pulse.is_shared();
                }
                self.http(Socket::tls(stream), true).await;
            }
            Ok(Err(error)) => {
                tracing::debug!(client = %self.client, %error, "TLS handshake failed")
            }
            Err(_) => self.cut("slow_handshake"),
        }
    }

    fn cut(&self, why: &'static str) {
        Metrics::count(&self.door.metrics().connections_cut, why);
    }

    async fn http(self, socket: Socket, encrypted: bool) {
        let service = service_fn(|request| {
            self.door
                .answer(request, self.client, encrypted, &self.pulse)
        });
        self.pulse.ready();
        let connection = self
            .builder
            .serve_connection(Guarded::new(socket, Arc::clone(&self.pulse)), service);
        tokio::pin!(connection);
        let mut look = interval(LOOK);
        let mut patience = Patience::default();
        let mut stopping = false;
        loop {
            tokio::select! {
                biased;
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(client = %self.client, %error, "connection ended");
                    }
                    return;
                }
                _ = look.tick() => {
                    // Looked at now and then, not waited for: all connections would queue for one lock at every request.
                    if self.stop.is_cancelled() && !stopping {
                        stopping = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    match self.pulse.look(&self.limits, &mut patience) {
                        Verdict::Fine => {}
                        Verdict::Idle if stopping => return,
                        Verdict::Idle if patience.closing => {}
                        Verdict::Idle => {
                            patience.closing = true;
                            connection.as_mut().graceful_shutdown();
                        }
                        Verdict::SlowHead => return self.cut("slow_head"),
                        Verdict::Stalled => return self.cut("stalled"),
                    }
                }
            }
        }
    }
}
