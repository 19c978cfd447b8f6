//! A web behind a forward proxy: all hosts are one server, which sees the whole URL asked.

use std::sync::{Arc, Mutex};

use egress::{Credentials, Egress, NetworkSettings};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// What a URL and the head of its request are answered with: a body, perhaps with a status in front (`404 …`, or
/// `302 URL`); nothing is 404.
type Script = dyn Fn(&str, &str) -> Option<String> + Send + Sync;

/// The web. Stops when dropped.
pub(crate) struct Web {
    proxy: String,
    ca: Vec<u8>,
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A page with a go-import tag.
pub(crate) fn tag(content: &str) -> String {
    format!("<meta name=\"go-import\" content=\"{content}\">")
}

impl Web {
    pub(crate) async fn start(
        script: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self::serve(true, Arc::new(move |url: &str, _: &str| script(url))).await
    }

    pub(crate) async fn start_with_heads(
        script: impl Fn(&str, &str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self::serve(true, Arc::new(script)).await
    }

    /// No host speaks https.
    pub(crate) async fn without_tls(
        script: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self::serve(false, Arc::new(move |url: &str, _: &str| script(url))).await
    }

    async fn serve(tls: bool, script: Arc<Script>) -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap())
            .unwrap();
        let pem = ca.pem().into_bytes();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, ca) = (Arc::clone(&asked), Arc::new(ca));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, ca, script) = (Arc::clone(&kept), Arc::clone(&ca), Arc::clone(&script));
                tokio::spawn(async move { connection(stream, tls, &ca, &kept, &*script).await });
            }
        });
        Self {
            proxy,
            ca: pem,
            asked,
            task,
        }
    }

    /// A way out into this web.
    pub(crate) fn egress(&self, network: NetworkSettings, credentials: Credentials) -> Egress {
        let network = NetworkSettings {
            proxy: Some(self.proxy.clone()),
            ca_pem: Some(self.ca.clone()),
            ca_only: true,
            ..network
        };
        Egress::new(network, credentials)
    }

    /// The URLs asked.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn connection(
    mut stream: TcpStream,
    tls: bool,
    ca: &rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    asked: &Mutex<Vec<String>>,
    script: &Script,
) {
    let head = read_head(&mut stream).await;
    let mut words = head.split(' ');
    match (words.next(), words.next()) {
        (Some("CONNECT"), Some(target)) if tls => {
            let host = target.trim_end_matches(":443").to_owned();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            let pair = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec![host.clone()]).unwrap();
            let leaf = params.signed_by(&pair, ca).unwrap();
            let config = ServerConfig::builder()
                .with_no_client_auth()
                .with_single_cert(
                    vec![leaf.der().clone()],
                    PrivateKeyDer::try_from(pair.serialize_der()).unwrap(),
                )
                .unwrap();
            let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else {
                return;
            };
            let head = read_head(&mut stream).await;
            let path = head.split(' ').nth(1).unwrap_or("").to_owned();
            answer(
                stream,
                &format!("https://{host}{path}"),
                &head,
                asked,
                script,
            )
            .await;
        }
        (Some("CONNECT"), _) => {
            let _ = stream
                .write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                .await;
        }
        (Some(_), Some(url)) => {
            let url = url.to_owned();
            answer(stream, &url, &head, asked, script).await;
        }
        _ => {}
    }
}

async fn answer(
    mut stream: impl AsyncWrite + Unpin,
    url: &str,
    head: &str,
    asked: &Mutex<Vec<String>>,
    script: &Script,
) {
    asked.lock().unwrap().push(url.to_owned());
    let body = script(url, head).unwrap_or_else(|| "404 ".to_owned());
    let (status, body) = match body.split_at_checked(3) {
        Some((status, rest)) if status.parse::<u16>().is_ok() => {
            (status.to_owned(), rest.trim_start().to_owned())
        }
        _ => ("200".to_owned(), body),
    };
    let location = if status == "302" {
        format!("Location: {body}\r\n")
    } else {
        String::new()
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{location}Connection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body.as_bytes()).await;
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
