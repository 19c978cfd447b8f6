//! From the relay to the server: to a checked address, or by the forward proxy that the administrator set.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use egress::{Egress, EgressErrorKind};
use reqwest::Url;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use tokio::time::timeout;

use super::head;

/// Longest wait for the name service, and for each address.
const WITHIN: Duration = Duration::from_secs(20);

/// What it means that the forward proxy refuses its login.
pub(super) const OTHER_LOGIN: &str = "the forward proxy wants another user or password";

/// A refusal: a status, and why.
pub(super) type Refused = (&'static str, String);

/// A connection on which the server can be talked to.
pub(super) struct Onward {
    pub(super) stream: TcpStream,
    /// What a forward proxy of HTTP must be told with a request that it is to pass on: the header of its login, or
    /// nothing. None if there is no such proxy between.
    pub(super) proxy: Option<String>,
}

/// Opens the way to a URL; as a tunnel, or for one plain request.
pub(super) async fn open(egress: &Egress, url: &Url, tunnel: bool) -> Result<Onward, Refused> {
    let addresses = match timeout(WITHIN, egress.pin(url)).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) if error.kind == EgressErrorKind::Refused => {
            return Err(("403 Forbidden", error.text));
        }
        Ok(Err(error)) => return Err(bad(error.text)),
        Err(_) => return Err(bad("the name service did not answer")),
    };
    let port = egress::port_of(url);
    let host = url.host_str().unwrap_or_default();
    let Some(proxy) = egress.guarded_proxy_for(url) else {
        let mut last = bad("no address");
        for address in addresses.unwrap_or_default() {
            match timeout(WITHIN, TcpStream::connect((address, port))).await {
                Ok(Ok(stream)) => {
                    return Ok(Onward {
                        stream,
                        proxy: None,
                    });
                }
                Ok(Err(error)) => last = bad(error.to_string()),
                Err(_) => last = bad("no connection in time"),
            }
        }
        return Err(last);
    };
    // What it says may have its password in it.
    let proxy: Url = proxy
        .parse()
        .map_err(|_| bad("the forward proxy has no URL"))?;
    let way = by_proxy(&proxy, (host, port), tunnel);
    timeout(WITHIN, way)
        .await
        .unwrap_or_else(|_| Err(bad("the forward proxy did not answer")))
}

async fn by_proxy(proxy: &Url, to: (&str, u16), tunnel: bool) -> Result<Onward, Refused> {
    let host = proxy.host_str().unwrap_or_default();
    let host = host.trim_matches(['[', ']']);
    let socks = proxy.scheme().starts_with("socks5");
    if !socks && proxy.scheme() != "http" {
        return Err(bad(
            "a forward proxy over https cannot be used for this version control system",
        ));
    }
    let port = proxy.port_or_known_default();
    let port = port.unwrap_or(if socks { 1080 } else { 80 });
    let mut stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| bad(unreachable(&error)))?;
    let login = login(proxy);
    let lost = |_| bad("the forward proxy closed the connection");
    if socks {
        greet(&mut stream, login.as_ref(), to).await?;
        return Ok(Onward {
            stream,
            proxy: None,
        });
    }
    let header = login.map_or_else(String::new, |(user, password)| {
        let pair = STANDARD.encode(format!("{user}:{password}"));
        format!("Proxy-Authorization: Basic {pair}\r\n")
    });
    if !tunnel {
        return Ok(Onward {
            stream,
            proxy: Some(header),
        });
    }
    let (host, port) = to;
    let ask = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{header}\r\n");
    stream.write_all(ask.as_bytes()).await.map_err(lost)?;
    let (answer, rest) = head(&mut stream).await.map_err(lost)?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if status == "407" {
        return Err(bad(OTHER_LOGIN));
    }
    if status != "200" || !rest.is_empty() {
        return Err(bad(format!("the forward proxy answered {status}")));
    }
    Ok(Onward {
        stream,
        proxy: None,
    })
}

/// Why a forward proxy cannot be reached: not in the words that mean of a repository's own host that nobody listens there.
fn unreachable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nobody listens at the address of the forward proxy".to_owned()
        }
        _ => format!("the forward proxy cannot be reached: {error}"),
    }
}

/// Whether a forward proxy answers a plain request that it wants another login; nothing of its answer is taken. The program
/// would believe that it is about its own login.
pub(super) async fn wants_login(stream: &mut ReadHalf<'_>) -> bool {
    const STATUS: &[u8] = b" 407 ";
    const VERSION: usize = "HTTP/1.1".len();
    let mut begun = [0; VERSION + STATUS.len()];
    // Less than this comes at once from no server.
    matches!(stream.peek(&mut begun).await, Ok(length) if length == begun.len())
        && begun[VERSION..] == *STATUS
}

/// User and password of a URL, decoded.
fn login(url: &Url) -> Option<(String, String)> {
    let password = url.password()?;
    let plain = |text: &str| {
        let mut out = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            let mut digits = bytes.clone();
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            match (byte, digit(digits.next()), digit(digits.next())) {
                (b'%', Some(high), Some(low)) => {
                    out.extend(u8::try_from(high * 16 + low));
                    bytes = digits;
                }
                _ => out.push(byte),
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    Some((plain(url.username()), plain(password)))
}

/// SOCKS5 (RFC 1928, 1929) up to the connection. The proxy gets the name, and resolves it.
async fn greet(
    stream: &mut TcpStream,
    login: Option<&(String, String)>,
    (host, port): (&str, u16),
) -> Result<(), Refused> {
    const PASSWORD: u8 = 2;
    let lost = |_| bad("the SOCKS proxy closed the connection");
    let text = |text: &str| -> Result<Vec<u8>, Refused> {
        let length = u8::try_from(text.len()).map_err(|_| bad("too long for SOCKS"))?;
        Ok([&[length][..], text.as_bytes()].concat())
    };
    let ways: &[u8] = if login.is_some() {
        &[5, 2, 0, PASSWORD]
    } else {
        &[5, 1, 0]
    };
    stream.write_all(ways).await.map_err(lost)?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await.map_err(lost)?;
    match (chosen[1], login) {
        (0, _) => {}
        (PASSWORD, Some((user, password))) => {
            let ask = [&[1][..], &text(user)?, &text(password)?].concat();
            stream.write_all(&ask).await.map_err(lost)?;
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).await.map_err(lost)?;
            if answer[1] != 0 {
                return Err(bad(OTHER_LOGIN));
            }
        }
        _ => return Err(bad("the SOCKS proxy wants a login")),
    }
    let host = host.trim_matches(['[', ']']);
    let ask = [&[5, 1, 0, 3][..], &text(host)?, &port.to_be_bytes()].concat();
    stream.write_all(&ask).await.map_err(lost)?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.map_err(lost)?;
    if answer[1] != 0 {
        return Err(bad(format!(
            "the SOCKS proxy gives no connection (code {})",
            answer[1]
        )));
    }
    // The address that it is bound to tells nothing.
    let length = match answer[3] {
        1 => 4,
        4 => 16,
        _ => usize::from(stream.read_u8().await.map_err(lost)?),
    };
    let mut bound = vec![0; length + 2];
    stream.read_exact(&mut bound).await.map_err(lost)?;
    Ok(())
}

fn bad(text: impl Into<String>) -> Refused {
    ("502 Bad Gateway", text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins() {
        for (url, want) in [
            ("http://h", None),
            ("http://u@h", None),
            ("http://u:p@h", Some(("u", "p"))),
            ("http://u%40x:p%3a%25%zz%@h", Some(("u@x", "p:%%zz%"))),
        ] {
            let got = login(&url.parse().unwrap());
            let got = got.as_ref().map(|(user, word)| (&**user, &**word));
            assert_eq!(got, want, "{url}");
        }
    }
}
