//! The lab's port and its connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::answer::answer;
use super::{Command, Shared};
use crate::port::HeldPort;

/// Accepts connections, and stops and starts listening as it is told. All connections end with this future.
pub(super) async fn serve(
    port: HeldPort,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    mut switched: mpsc::Receiver<Command>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accept => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, tls.clone(), Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
            command = switched.recv() => {
                let Some(Command { listen, done }) = command else { return };
                let mut outcome = Ok(());
                if !listen {
                    listener = None;
                    connections.shutdown().await;
                } else if listener.is_none() {
                    match port.listen() {
                        Ok(bound) => listener = Some(bound),
                        Err(error) => outcome = Err(error),
                    }
                }
                let _ = done.send(outcome);
            }
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => http(stream, |stream| stream, shared).await,
        Some(tls) => {
            // A client that does not trust the certificate ends here; it says so itself.
            if let Ok(stream) = tls.accept(stream).await {
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    http2(stream, shared).await;
                } else {
                    http(stream, |stream| stream.get_ref().0, shared).await;
                }
            }
        }
    }
}

async fn http<Stream: AsyncRead + AsyncWrite + Unpin>(
    stream: Stream,
    socket: impl Fn(&Stream) -> &TcpStream,
    shared: Arc<Shared>,
) {
    let reset = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request| answer(Arc::clone(&shared), Arc::clone(&reset), request));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // An error here is a fault that was asked for, or a client that went away.
    let _ = (&mut connection).await;
    if reset.load(Ordering::Relaxed) {
        // With no time to linger, closing is a reset.
        let _ = socket(connection.into_parts().io.inner()).set_zero_linger();
    }
}

/// Here an answer that fails resets its stream; the connection and its other streams go on.
async fn http2<Stream>(stream: Stream, shared: Arc<Shared>)
where
    Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| answer(Arc::clone(&shared), Arc::default(), request));
    let _ = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
