//! A SOCKS5 proxy (RFC 1928, 1929) under which every host name is the forge, with a password.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::site::Site;

/// The way to ask for user and password.
const PASSWORD: u8 = 2;

/// What a proxy knows.
#[derive(Debug)]
pub(crate) struct Socks {
    pub(crate) site: Arc<Site>,
    /// The servers of https and http.
    pub(crate) https: SocketAddr,
    pub(crate) http: SocketAddr,
    /// `user:secret` it wants.
    pub(crate) login: String,
}

/// Serves a connection to its end. An error is a client that went away or spoke something else.
pub(crate) async fn serve(client: TcpStream, socks: Arc<Socks>) {
    let _ = talk(client, &socks).await;
}

async fn talk(mut client: TcpStream, socks: &Socks) -> io::Result<()> {
    let ways = text(&mut client, 1).await?;
    if !ways.contains(&PASSWORD) {
        return client.write_all(&[5, 0xff]).await;
    }
    client.write_all(&[5, PASSWORD]).await?;
    let user = text(&mut client, 1).await?;
    let secret = text(&mut client, 0).await?;
    let whose = format!(
        "{}:{}",
        String::from_utf8_lossy(&user),
        String::from_utf8_lossy(&secret)
    );
    let known = whose == socks.login;
    client.write_all(&[1, u8::from(!known)]).await?;
    if !known {
        socks.site.record(format!("socks refused {whose}"));
        return Ok(());
    }
    let mut head = [0; 4];
    client.read_exact(&mut head).await?;
    let host = match head[3] {
        3 => String::from_utf8_lossy(&text(&mut client, 0).await?).into_owned(),
        // An address means that the client resolved the name by itself.
        1 => {
            let mut address = [0; 4];
            client.read_exact(&mut address).await?;
            std::net::Ipv4Addr::from(address).to_string()
        }
        _ => return Ok(()),
    };
    let port = client.read_u16().await?;
    socks.site.record(format!("socks {host}:{port} by {whose}"));
    let server = if port == 80 { socks.http } else { socks.https };
    let mut server = TcpStream::connect(server).await?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// What has its length before it, after `skip` bytes.
async fn text(client: &mut TcpStream, skip: usize) -> io::Result<Vec<u8>> {
    let mut skipped = vec![0; skip];
    client.read_exact(&mut skipped).await?;
    let mut text = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut text).await?;
    Ok(text)
}
