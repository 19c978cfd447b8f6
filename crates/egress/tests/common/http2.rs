//! A server that speaks just enough HTTP/2 to turn requests away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// How a request is turned away.
#[derive(Clone, Copy, Debug)]
pub enum No {
    /// The connection is closed in good order, and the request was not looked at.
    GoAway,
    /// Its stream alone is refused.
    Refused,
}

/// A running server, which answers `file` after as many noes as it was told.
pub struct Http2 {
    addr: SocketAddr,
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Http2 {
    pub async fn start(tls: &TlsAcceptor, no: No, noes: usize) -> Self {
        let mut config = tls.config().as_ref().clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked: Arc<AtomicUsize> = Arc::default();
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, count) = (tls.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        let _ = speak(stream, no, noes, &count).await;
                    }
                });
            }
        });
        Self { addr, asked, task }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/", self.addr.port())
    }

    /// How many requests came.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Frames of RFC 9113, 4.1.
async fn speak(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    no: No,
    noes: usize,
    count: &AtomicUsize,
) -> std::io::Result<()> {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    const REFUSED_STREAM: u32 = 7;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [a, b, c, kind, _, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await?;
        if kind != HEADERS {
            continue;
        }
        let id = u32::from_be_bytes(id);
        if count.fetch_add(1, Ordering::SeqCst) >= noes {
            // `:status 200` of HPACK's static table.
            stream.write_all(&frame(HEADERS, 4, id, &[0x88])).await?;
            stream.write_all(&frame(DATA, 1, id, b"file")).await?;
            continue;
        }
        match no {
            // The last stream looked at was 0, so none; no error.
            No::GoAway => stream.write_all(&frame(GOAWAY, 0, 0, &[0; 8])).await?,
            No::Refused => {
                let code = REFUSED_STREAM.to_be_bytes();
                stream.write_all(&frame(RST_STREAM, 0, id, &code)).await?;
            }
        }
    }
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(id.to_be_bytes());
    frame.extend(payload);
    frame
}
