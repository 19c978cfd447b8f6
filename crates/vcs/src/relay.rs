//! A forward proxy on loopback for programs that resolve names and follow redirects by themselves (hg, svn, bzr,
//! fossil): each connection that they want is checked like one of our own, and goes to the address that was checked.
//!
//! It knows one password, made at start, so that nobody else on the machine can use it. The user says what the program
//! may: a repository of a stranger leads to no host inside, and one over https to none without.
//!
//! fossil forgets its proxy when it is redirected. So it is told http alone, and what it asks is asked for it (`carried`):
//! it sees no certificate and no redirect.

mod carried;
mod onward;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use egress::Egress;
use reqwest::Url;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Most connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 128;
/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// Longest wait for a head.
const WITHIN: Duration = Duration::from_secs(20);
/// Longest life of a connection: longer than any program may run.
const LIFE: Duration = Duration::from_hours(24);
/// The users it knows, with what they may: go to hosts that are listed as internal, and ask without encryption.
const USERS: [(&str, Rights); 8] = [
    ("modgate", Rights::new(false, false)),
    ("modgate-plain", Rights::new(false, true)),
    ("modgate-inside", Rights::new(true, false)),
    ("modgate-inside-plain", Rights::new(true, true)),
    ("modgate-carried", Rights::new(false, false).carried()),
    ("modgate-carried-plain", Rights::new(false, true).carried()),
    ("modgate-carried-inside", Rights::new(true, false).carried()),
    (
        "modgate-carried-inside-plain",
        Rights::new(true, true).carried(),
    ),
];

/// What a program may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rights {
    inside: bool,
    plain: bool,
    carried: bool,
}

impl Rights {
    /// Whether it may go to hosts that are listed as internal, and ask over http.
    pub(crate) const fn new(inside: bool, plain: bool) -> Self {
        Self {
            inside,
            plain,
            carried: false,
        }
    }

    /// The same for a program that asks over http whatever its repository speaks: without the right to http that is https.
    pub(crate) const fn carried(mut self) -> Self {
        self.carried = true;
        self
    }
}

/// A running relay; ends when dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    password: String,
    task: AbortHandle,
}

impl Relay {
    /// Starts one on a free port.
    pub(crate) async fn start(egress: Egress) -> io::Result<Self> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        // Letters that mean nothing in a URL.
        let password = URL_SAFE_NO_PAD.encode(random);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let known = USERS.map(|(user, rights)| {
            let pair = STANDARD.encode(format!("{user}:{password}"));
            (format!("Basic {pair}"), rights)
        });
        let known = Arc::new(known);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let task = tokio::spawn(async move {
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                let Ok((stream, _)) = listener.accept().await else {
                    // Out of descriptors, or the other end is gone already: neither lasts.
                    tokio::task::yield_now().await;
                    continue;
                };
                let (egress, known) = (egress.clone(), Arc::clone(&known));
                tokio::spawn(async move {
                    let _ = timeout(LIFE, serve(stream, &egress, &known[..])).await;
                    drop(place);
                });
            }
        });
        Ok(Self {
            address,
            password,
            task: task.abort_handle(),
        })
    }

    /// Its URL with user and password, for a program that may do this much: for children, never for logs.
    pub(crate) fn url(&self, rights: Rights) -> String {
        let user = USERS.iter().find(|(_, known)| *known == rights);
        let user = user.map_or("nobody", |(user, _)| user);
        format!("http://{user}:{}@{}", self.password, self.address)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What a program wants.
struct Wanted {
    url: Url,
    /// Of a request, but for a tunnel: the method, and the headers for the server.
    plain: Option<(String, String)>,
    authorization: Option<String>,
}

async fn serve(
    mut stream: TcpStream,
    egress: &Egress,
    known: &[(String, Rights)],
) -> io::Result<()> {
    let wanted = match timeout(WITHIN, head(&mut stream)).await {
        Ok(Ok((head, rest))) => wanted(&head).map(|wanted| (wanted, rest)),
        _ => return Ok(()),
    };
    let Some((wanted, rest)) = wanted else {
        return refuse(
            &mut stream,
            "400 Bad Request",
            "this is no request for a proxy",
        )
        .await;
    };
    let user = wanted.authorization.as_deref();
    let Some((_, rights)) = known.iter().find(|(known, _)| Some(&**known) == user) else {
        return challenge(&mut stream).await;
    };
    let url = &wanted.url;
    let host = url.host_str().unwrap_or_default();
    if egress.is_internal(url) && !rights.inside {
        let text = format!("{host} is a host inside, and was named by one outside");
        return refuse(&mut stream, "403 Forbidden", &text).await;
    }
    if rights.carried {
        return carried::serve(&mut stream, egress, &wanted, rest, *rights).await;
    }
    if wanted.plain.is_some() && !rights.plain {
        let text = format!("{host} is not asked over http: the repository is one of https");
        return refuse(&mut stream, "403 Forbidden", &text).await;
    }
    let mut server = match onward::open(egress, url, wanted.plain.is_none()).await {
        Ok(server) => server,
        Err((status, text)) => return refuse(&mut stream, status, &text).await,
    };
    match &wanted.plain {
        Some((method, headers)) => {
            let query = url.query().map(|query| format!("?{query}"));
            let (query, path) = (query.unwrap_or_default(), url.path());
            // Another proxy wants the whole URL, and its login.
            let (target, login) = match &server.proxy {
                Some(login) => {
                    let port = egress::port_of(url);
                    (format!("http://{host}:{port}{path}{query}"), login.as_str())
                }
                None => (format!("{path}{query}"), ""),
            };
            let head = format!("{method} {target} HTTP/1.1\r\n{login}{headers}");
            server.stream.write_all(head.as_bytes()).await?;
        }
        None => {
            stream
                .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .await?;
        }
    }
    server.stream.write_all(&rest).await?;
    let proxied = server.proxy.is_some();
    let (mut from_program, mut to_program) = stream.split();
    let (mut from_server, mut to_server) = server.stream.split();
    let up = async {
        tokio::io::copy(&mut from_program, &mut to_server).await?;
        to_server.shutdown().await
    };
    let down = async {
        if proxied && onward::wants_login(&mut from_server).await {
            refuse(&mut to_program, "502 Bad Gateway", onward::OTHER_LOGIN).await?;
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        tokio::io::copy(&mut from_server, &mut to_program).await?;
        to_program.shutdown().await
    };
    tokio::try_join!(up, down).map(|_| ())
}

/// The head of a request, and what came behind it.
async fn head(stream: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    const END: &[u8] = b"\r\n\r\n";
    let mut got = Vec::new();
    loop {
        if stream.read_buf(&mut got).await? == 0 || got.len() > MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if let Some(at) = got.windows(END.len()).position(|window| window == END) {
            let rest = got.split_off(at + END.len());
            let head = String::from_utf8(got).map_err(|_| io::ErrorKind::InvalidData)?;
            return Ok((head, rest));
        }
    }
}

fn wanted(head: &str) -> Option<Wanted> {
    let mut lines = head.trim_end().split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target, _) = (words.next()?, words.next()?, words.next()?);
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
    let authorization = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"))
        .map(|(_, value)| value.trim().to_owned());
    if method == "CONNECT" {
        let url = format!("https://{target}/").parse::<Url>().ok()?;
        return Some(Wanted {
            url,
            plain: None,
            authorization,
        });
    }
    let url = target
        .parse::<Url>()
        .ok()
        .filter(|url| url.scheme() == "http" && url.has_host())?;
    // What is for the proxy alone stays here. One request a connection: the next may want another server.
    let kept = headers.iter().filter(|(name, _)| {
        let name = name.to_ascii_lowercase();
        !name.starts_with("proxy-") && name != "connection" && name != "keep-alive"
    });
    let mut own = String::new();
    for (name, value) in kept {
        own = format!("{own}{name}:{value}\r\n");
    }
    Some(Wanted {
        plain: Some((method.to_owned(), format!("{own}Connection: close\r\n\r\n"))),
        url,
        authorization,
    })
}

/// Text for a line of a head.
fn line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// A refusal. Why comes with the status, since the programs tell their users nothing else.
async fn refuse(
    stream: &mut (impl AsyncWrite + Unpin),
    status: &str,
    text: &str,
) -> io::Result<()> {
    let why = line(text);
    let answer = format!(
        "HTTP/1.1 {status}: {why}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// What those get who do not say the password.
async fn challenge(stream: &mut TcpStream) -> io::Result<()> {
    stream
        .write_all(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"modgate\"\r\n\
              Content-Length: 0\r\nConnection: close\r\n\r\n",
        )
        .await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests;
