//! A small web: servers with and without TLS, and forward proxies that ask for a password.
// Each test binary uses its part; clippy does not see that helpers outside `#[test]` are tests.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod http2;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use egress::{Ask, Credential, Credentials, Egress, Hidden, Kind, Lookup, NetworkSettings, Secret};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// A certificate authority.
pub struct Ca {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

/// A certificate and its key, in PEM.
pub struct Leaf {
    pub cert: String,
    pub key: String,
    pub der: rcgen::Certificate,
    pair: rcgen::KeyPair,
}

impl Ca {
    pub fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Self {
            issuer: rcgen::CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    pub fn pem(&self) -> Vec<u8> {
        self.issuer.pem().into_bytes()
    }

    pub fn leaf(&self, names: &[&str]) -> Leaf {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = rcgen::CertificateParams::new(names).unwrap();
        let pair = rcgen::KeyPair::generate().unwrap();
        let der = params.signed_by(&pair, &self.issuer).unwrap();
        Leaf {
            cert: der.pem(),
            key: pair.serialize_pem(),
            der,
            pair,
        }
    }

    /// A TLS server with the authority's own certificate.
    pub fn own_acceptor(&self) -> TlsAcceptor {
        let key = PrivateKeyDer::try_from(self.issuer.key().serialize_der()).unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![self.issuer.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A TLS server for these names, which asks for a client certificate of the same authority if `client_auth`.
    pub fn acceptor(&self, names: &[&str], client_auth: bool) -> TlsAcceptor {
        let leaf = self.leaf(names);
        let key = PrivateKeyDer::try_from(leaf.pair.serialize_der()).unwrap();
        let builder = ServerConfig::builder();
        let builder = if client_auth {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder(Arc::new(roots))
                    .build()
                    .unwrap(),
            )
        } else {
            builder.with_no_client_auth()
        };
        let config = builder
            .with_single_cert(vec![leaf.der.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A running server; stops when dropped. Keeps the heads of its requests.
pub struct Server {
    pub addr: SocketAddr,
    pub heads: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers each request with what `script` makes of its head.
    pub async fn start(
        tls: Option<TlsAcceptor>,
        script: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, script) = (Arc::clone(&heads), Arc::new(script));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, kept, script) = (tls.clone(), Arc::clone(&kept), Arc::clone(&script));
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, &kept, &*script).await;
                            }
                        }
                        None => answer(stream, &kept, &*script).await,
                    }
                });
            }
        });
        Self { addr, heads, task }
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    pub fn head(&self) -> String {
        self.heads
            .lock()
            .unwrap()
            .last()
            .cloned()
            .unwrap_or_default()
    }

    pub fn count(&self) -> usize {
        self.heads.lock().unwrap().len()
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    heads: &Mutex<Vec<String>>,
    script: &(impl Fn(&str) -> String + ?Sized),
) {
    let head = read_head(&mut stream).await;
    heads.lock().unwrap().push(head.clone());
    let _ = stream.write_all(script(&head).as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

pub fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

pub fn to(url: &str) -> String {
    format!(
        "HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

/// A forward proxy on loopback that knows `ci:pa:ss` and sends all tunnels to one address.
pub struct Proxy {
    pub addr: SocketAddr,
    /// What it was asked for.
    pub asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// HTTP CONNECT with Basic authentication.
    pub async fn connect(target: SocketAddr) -> Self {
        Self::start(target, |mut stream, asked, target| async move {
            let head = read_head(&mut stream).await;
            asked
                .lock()
                .unwrap()
                .push(head.lines().next().unwrap_or("").to_owned());
            if !head
                .to_lowercase()
                .contains("proxy-authorization: basic y2k6cge6c3m=")
            {
                let no = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
                let _ = stream.write_all(no).await;
                return;
            }
            let Ok(mut inner) = TcpStream::connect(target).await else {
                return;
            };
            if head.starts_with("CONNECT ") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            } else {
                let _ = inner.write_all(head.as_bytes()).await;
            }
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut inner).await;
        })
        .await
    }

    /// SOCKS5 with a user and password.
    pub async fn socks(target: SocketAddr) -> Self {
        Self::start(target, |mut stream, asked, target| async move {
            let mut head = [0; 2];
            stream.read_exact(&mut head).await.unwrap();
            let mut methods = vec![0; head[1].into()];
            stream.read_exact(&mut methods).await.unwrap();
            if !methods.contains(&2) {
                let _ = stream.write_all(&[5, 0xff]).await;
                return;
            }
            stream.write_all(&[5, 2]).await.unwrap();
            let mut pair = [0; 1 + 1 + 2 + 1 + 5];
            stream.read_exact(&mut pair).await.unwrap();
            let good = &pair == b"\x01\x02ci\x05pa:ss";
            stream.write_all(&[1, u8::from(!good)]).await.unwrap();
            if !good {
                return;
            }
            let mut ask = [0; 5];
            stream.read_exact(&mut ask).await.unwrap();
            assert_eq!(ask[..4], [5, 1, 0, 3], "a name, for the proxy to resolve");
            let mut name = vec![0; usize::from(ask[4]) + 2];
            stream.read_exact(&mut name).await.unwrap();
            name.truncate(name.len() - 2);
            asked.lock().unwrap().push(String::from_utf8(name).unwrap());
            stream
                .write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
                .await
                .unwrap();
            let mut inner = TcpStream::connect(target).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut inner).await;
        })
        .await
    }

    async fn start<F: Future<Output = ()> + Send + 'static>(
        target: SocketAddr,
        serve: impl Fn(TcpStream, Arc<Mutex<Vec<String>>>, SocketAddr) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&kept), target));
            }
        });
        Self { addr, asked, task }
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A name service that knows these names; each further question for a name gets the next of its answers.
pub fn names(table: &[(&str, &[&str])]) -> Lookup {
    let table: HashMap<String, Vec<IpAddr>> = table
        .iter()
        .map(|(name, answers)| {
            let answers = answers.iter().map(|answer| answer.parse().unwrap());
            ((*name).to_owned(), answers.collect())
        })
        .collect();
    let asked: Mutex<HashMap<String, usize>> = Mutex::default();
    Arc::new(move |host| {
        let mut asked = asked.lock().unwrap();
        let turn = asked.entry(host.clone()).or_default();
        let answer = table
            .get(&host)
            .map(|answers| answers[*turn % answers.len()]);
        *turn += 1;
        Box::pin(async move {
            answer
                .map(|answer| vec![answer])
                .ok_or_else(|| std::io::Error::other("failed to lookup address"))
        })
    })
}

pub fn ask(url: &str) -> Ask {
    Ask {
        url: url.parse().unwrap(),
        timeout: Duration::from_secs(10),
        plain_http: true,
        credentials: true,
    }
}

/// The body, or the error.
pub async fn get(egress: &Egress, url: &str) -> String {
    match egress.get_guarded(ask(url), 1000).await {
        Ok(page) => String::from_utf8(page.body.to_vec()).unwrap(),
        Err(error) => format!("{:?}: {error}", error.kind),
    }
}

pub fn basic(prefix: &str, user: &str, password: &str) -> Credential {
    Credential {
        matches: prefix.parse().unwrap(),
        kind: Kind::Basic {
            username: user.to_owned(),
            password: Secret::Plain(Hidden::new(password)),
        },
    }
}

pub fn credentials(list: Vec<Credential>) -> Credentials {
    Credentials::new(list)
}

/// Settings that list these hosts as internal.
pub fn internal(hosts: &[&str]) -> NetworkSettings {
    NetworkSettings {
        internal_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        ..NetworkSettings::default()
    }
}
