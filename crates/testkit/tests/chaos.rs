//! The bad line is as bad as it is told to be, and no worse.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::chaos::Chaos;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How long nothing must come.
const NOTHING: Duration = Duration::from_millis(200);

/// A service that says back what it hears.
async fn echo() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    (addr, server)
}

async fn said_back(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).await?;
    Ok(back)
}

#[tokio::test]
async fn a_healthy_line_changes_nothing() {
    let (service, _server) = echo().await;
    let chaos = Chaos::before(service).await;
    let mut stream = TcpStream::connect(chaos.addr()).await.unwrap();
    let text = vec![7; 1 << 20];
    let (mut from, mut to) = stream.split();
    let mut back = Vec::new();
    let (sent, read) = tokio::join!(
        async {
            to.write_all(&text).await?;
            to.shutdown().await
        },
        from.read_to_end(&mut back)
    );
    sent.unwrap();
    assert_eq!(read.unwrap(), text.len(), "to the end, without a reset");
    assert_eq!(back, text);
    assert_eq!(chaos.connections(), 1);
}

#[tokio::test]
async fn faults_hold_for_running_connections_and_are_healed() {
    let (service, _server) = echo().await;
    let chaos = Chaos::before(service).await;
    let mut stream = TcpStream::connect(chaos.addr()).await.unwrap();
    let text = [7; 100];
    assert_eq!(said_back(&mut stream, &text).await.unwrap(), text);

    chaos.latency(Duration::from_millis(50));
    let begin = Instant::now();
    assert_eq!(said_back(&mut stream, &text).await.unwrap(), text);
    assert!(
        begin.elapsed() >= Duration::from_millis(100),
        "there and back"
    );
    chaos.heal();

    chaos.bandwidth(1000);
    let begin = Instant::now();
    said_back(&mut stream, &text).await.unwrap();
    said_back(&mut stream, &text).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(100));
    chaos.heal();

    chaos.alter();
    let back = said_back(&mut stream, &text).await.unwrap();
    assert_eq!((&back[..99], back[99]), (&text[..99], 6));
    assert_eq!(said_back(&mut stream, b"short").await.unwrap(), b"short");
    chaos.heal();

    chaos.silence();
    let silent = tokio::time::timeout(NOTHING, said_back(&mut stream, &text)).await;
    assert!(silent.is_err());
    chaos.heal();
    let mut back = [0; 100];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, text, "held, not lost");
}

#[tokio::test]
async fn a_cut_line_resets() {
    let (service, _server) = echo().await;
    let chaos = Chaos::before(service).await;
    let mut old = TcpStream::connect(chaos.addr()).await.unwrap();
    said_back(&mut old, b"x").await.unwrap();
    chaos.cut();
    let error = old.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let mut new = TcpStream::connect(chaos.addr()).await.unwrap();
    said_back(&mut new, b"x").await.unwrap_err();

    chaos.heal();
    chaos.cut_after(60);
    let mut stream = TcpStream::connect(chaos.addr()).await.unwrap();
    stream.write_all(&[7; 100]).await.unwrap();
    let mut back = Vec::new();
    let error = stream.read_to_end(&mut back).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(back.len() <= 60, "{}", back.len());
}
