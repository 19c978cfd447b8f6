//! A forward proxy on loopback for programs that resolve names and follow redirects by themselves (hg, svn, bzr,
//! fossil): each connection that they want is checked like one of our own, and goes to the address that was checked.
//!
//! It knows one password, made at start, so that nobody else on the machine can use it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use egress::Egress;
use reqwest::Url;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Most connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 128;
/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// Longest wait for a head, for the name service, and for each address.
const WITHIN: Duration = Duration::from_secs(20);
/// Longest life of a connection: longer than any program may run.
const LIFE: Duration = Duration::from_hours(24);
/// The user it knows.
const USER: &str = "modgate";

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
        let known = Arc::new(format!(
            "Basic {}",
            STANDARD.encode(format!("{USER}:{password}"))
        ));
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
                    let _ = timeout(LIFE, serve(stream, &egress, &known)).await;
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

    /// Its URL with user and password: for children, never for logs.
    pub(crate) fn url(&self) -> String {
        format!("http://{USER}:{}@{}", self.password, self.address)
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
    /// What is sent to the server at first; nothing for a tunnel.
    head: Option<String>,
    authorization: Option<String>,
}

async fn serve(mut stream: TcpStream, egress: &Egress, known: &str) -> io::Result<()> {
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
    if wanted.authorization.as_deref() != Some(known) {
        let status =
            "407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"modgate\"";
        return refuse(&mut stream, status, "user and password are needed").await;
    }
    let mut server = match open(egress, &wanted.url).await {
        Ok(server) => server,
        Err((status, text)) => return refuse(&mut stream, status, &text).await,
    };
    match wanted.head {
        Some(head) => server.write_all(head.as_bytes()).await?,
        None => {
            stream
                .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .await?
        }
    }
    server.write_all(&rest).await?;
    tokio::io::copy_bidirectional(&mut stream, &mut server).await?;
    Ok(())
}

/// A connection to the first checked address that answers.
async fn open(egress: &Egress, url: &Url) -> Result<TcpStream, (&'static str, String)> {
    let bad = |text: String| ("502 Bad Gateway", text);
    let addresses = match timeout(WITHIN, egress.pin(url)).await {
        Ok(Ok(addresses)) => addresses.unwrap_or_default(),
        Ok(Err(error)) => return Err(("403 Forbidden", error.text)),
        Err(_) => return Err(bad("the name service did not answer".to_owned())),
    };
    let port = url.port_or_known_default().unwrap_or(443);
    let mut last = "no address".to_owned();
    for address in addresses {
        match timeout(WITHIN, TcpStream::connect((address, port))).await {
            Ok(Ok(server)) => return Ok(server),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => "no connection in time".clone_into(&mut last),
        }
    }
    Err(bad(last))
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
            head: None,
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
    let query = url
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let mut own = format!("{method} {}{query} HTTP/1.1\r\n", url.path());
    for (name, value) in kept {
        own = format!("{own}{name}:{value}\r\n");
    }
    Some(Wanted {
        head: Some(format!("{own}Connection: close\r\n\r\n")),
        url,
        authorization,
    })
}

async fn refuse(stream: &mut TcpStream, status: &str, text: &str) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use egress::{Ask, Credentials, NetworkSettings};

    use super::*;

    /// What comes of a URL asked by a relay that knows its own names.
    async fn get(proxy: &str, url: &str) -> String {
        let network = NetworkSettings {
            proxy: Some(proxy.to_owned()),
            internal_hosts: vec!["*.example".to_owned(), "127.0.0.1".to_owned()],
            ..NetworkSettings::default()
        };
        let ask = Ask {
            url: url.parse().unwrap(),
            timeout: Duration::from_secs(10),
            plain_http: true,
            credentials: false,
        };
        match Egress::new(network, Credentials::default())
            .get_guarded(ask, 1000)
            .await
        {
            Ok(page) => format!("{} {}", page.status, String::from_utf8_lossy(&page.body)),
            Err(error) => error.text,
        }
    }

    #[tokio::test]
    async fn only_checked_addresses_and_only_with_the_password() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let mut heads = Vec::new();
            while let Ok((mut stream, _)) = server.accept().await {
                let (head, _) = head(&mut stream).await.unwrap();
                heads.push(head.clone());
                refuse(&mut stream, "200 OK", "hello").await.unwrap();
                if head.contains("last") {
                    break;
                }
            }
            heads
        });
        let lookup: egress::Lookup =
            Arc::new(|_| Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) }));
        let network = NetworkSettings {
            internal_hosts: vec!["git.example".to_owned()],
            ..NetworkSettings::default()
        };
        let relay = Relay::start(Egress::with_lookup(network, Credentials::default(), lookup))
            .await
            .unwrap();
        let proxy = relay.url();
        assert!(!format!("{relay:?}").contains(&relay.password));
        assert_eq!(
            get(&proxy, &format!("http://git.example:{port}/a?b")).await,
            "200 hello"
        );
        let evil = get(&proxy, &format!("http://evil.example:{port}/a")).await;
        assert_eq!(
            evil,
            "403 evil.example has the address 127.0.0.1, which is not public"
        );
        let literal = get(&proxy, &format!("http://127.0.0.1:{port}/a")).await;
        assert!(literal.starts_with("403"), "{literal}");
        let tunnel = get(&proxy, "https://evil.example/").await;
        assert!(tunnel.contains("the proxy refused"), "{tunnel}");
        let stranger = proxy.replace(&relay.password, "guess");
        assert!(
            get(&stranger, &format!("http://git.example:{port}/a"))
                .await
                .starts_with("407")
        );
        assert_eq!(
            get(&proxy, &format!("http://git.example:{port}/last")).await,
            "200 hello"
        );
        let heads = served.await.unwrap();
        assert_eq!(heads.len(), 2);
        assert!(
            heads[0].starts_with("GET /a?b HTTP/1.1\r\n"),
            "{}",
            heads[0]
        );
        assert!(!heads[0].to_lowercase().contains("proxy-"), "{}", heads[0]);
    }

    #[test]
    fn what_is_no_request_for_a_proxy() {
        for bad in [
            "",
            "GET / HTTP/1.1\r\n\r\n",
            "GET https://h/ HTTP/1.1\r\n\r\n",
            "GET file:///etc HTTP/1.1\r\n\r\n",
            "CONNECT\r\n\r\n",
            "CONNECT : HTTP/1.1\r\n\r\n",
        ] {
            assert!(wanted(bad).is_none(), "{bad}");
        }
        let tunnel = wanted("CONNECT h.example:8443 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(tunnel.url.as_str(), "https://h.example:8443/");
    }
}
