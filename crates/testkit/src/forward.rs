//! Forward proxies that want a password, and lead to one address whatever they are asked for.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The user that they know, and his password.
pub const USER: &str = "outbound";
/// The password; not as it stands in a URL.
pub const PASSWORD: &str = "pr0xy:secret";

/// A running forward proxy. It stops when it is dropped.
#[derive(Debug)]
pub struct Forward {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Forward {
    /// One of HTTP, by CONNECT.
    ///
    /// # Panics
    /// If no port could be opened.
    pub async fn http(target: SocketAddr) -> Self {
        Self::start(target, connect).await
    }

    /// One of SOCKS5.
    ///
    /// # Panics
    /// If no port could be opened.
    pub async fn socks(target: SocketAddr) -> Self {
        Self::start(target, socks).await
    }

    /// Where it listens: `HOST:PORT`.
    pub fn address(&self) -> String {
        self.addr.to_string()
    }

    /// What it was asked for, `HOST:PORT` each; `refused` for a wrong password.
    ///
    /// # Panics
    /// If a connection panicked.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panicked").clone()
    }

    async fn start<Done>(
        target: SocketAddr,
        open: impl Fn(TcpStream) -> Done + Clone + Send + 'static,
    ) -> Self
    where
        Done: Future<Output = io::Result<(TcpStream, Option<String>)>> + Send,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (open, kept) = (open.clone(), Arc::clone(&kept));
                tokio::spawn(async move {
                    // An error is a client that went away.
                    let Ok((mut client, wanted)) = open(stream).await else {
                        return;
                    };
                    let known = wanted.is_some();
                    let line = wanted.unwrap_or_else(|| "refused".to_owned());
                    kept.lock().expect("nobody panicked").push(line);
                    if known && let Ok(mut server) = TcpStream::connect(target).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { addr, asked, task }
    }
}

/// The head of a CONNECT, and its answer.
async fn connect(mut client: TcpStream) -> io::Result<(TcpStream, Option<String>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let pair = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let known = head
        .lines()
        .any(|line| line.ends_with(&format!("Basic {pair}")));
    if !known {
        let no = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        client.write_all(no).await?;
        return Ok((client, None));
    }
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok((client, Some(target)))
}

/// RFC 1928 and 1929, up to the connection.
async fn socks(mut client: TcpStream) -> io::Result<(TcpStream, Option<String>)> {
    client.read_u8().await?;
    let ways = counted(&mut client).await?;
    if !ways.contains(&2) {
        client.write_all(&[5, 0xff]).await?;
        return Ok((client, None));
    }
    client.write_all(&[5, 2]).await?;
    client.read_u8().await?;
    let (user, password) = (counted(&mut client).await?, counted(&mut client).await?);
    let known = user == USER.as_bytes() && password == PASSWORD.as_bytes();
    client.write_all(&[1, u8::from(!known)]).await?;
    if !known {
        return Ok((client, None));
    }
    let mut head = [0; 4];
    client.read_exact(&mut head).await?;
    let host = match head[3] {
        1 => {
            let mut address = [0; 4];
            client.read_exact(&mut address).await?;
            Ipv4Addr::from(address).to_string()
        }
        4 => {
            let mut address = [0; 16];
            client.read_exact(&mut address).await?;
            format!("[{}]", std::net::Ipv6Addr::from(address))
        }
        _ => String::from_utf8_lossy(&counted(&mut client).await?).into_owned(),
    };
    let port = client.read_u16().await?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    Ok((client, Some(format!("{host}:{port}"))))
}

/// What has its length before it.
async fn counted(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut text = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut text).await?;
    Ok(text)
}
