//! TLS with certificates that can change while the server runs.

use std::{fmt, io, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use x509_parser::parse_x509_certificate;

/// A certificate chain with the key that belongs to it.
#[derive(Clone)]
pub struct Pair(Arc<CertifiedKey>);

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate's text is not PEM, or has no certificate.
    #[error("no certificate in PEM form: {0}")]
    Certificate(rustls_pki_types::pem::Error),
    /// The key's text is not PEM, or has no private key.
    #[error("no private key in PEM form: {0}")]
    Key(rustls_pki_types::pem::Error),
    /// Each is right, but they are not of one another.
    #[error("the private key is not that of the certificate")]
    Mismatch,
    /// The pair is refused.
    #[error("certificate and key cannot be used: {0}")]
    Refused(rustls::Error),
}

impl Pair {
    /// Takes the texts of a chain, leaf first, and of a key (PKCS#8, PKCS#1 or SEC1).
    pub fn from_pem(cert: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(cert)
            .collect::<Result<_, _>>()
            .map_err(TlsError::Certificate)?;
        if chain.is_empty() {
            return Err(TlsError::Certificate(pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Key)?;
        match CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()) {
            Ok(pair) => Ok(Self(Arc::new(pair))),
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch),
            Err(error) => Err(TlsError::Refused(error)),
        }
    }

    /// The first and the last second of the certificate itself, if they can be read.
    pub fn validity(&self) -> Option<(OffsetDateTime, OffsetDateTime)> {
        let (_, certificate) = parse_x509_certificate(self.0.end_entity_cert().ok()?).ok()?;
        let validity = certificate.validity();
        Some((
            validity.not_before.to_datetime(),
            validity.not_after.to_datetime(),
        ))
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

/// The current certificate; [`set`](Self::set) swaps it, running connections keep theirs.
#[derive(Debug)]
pub struct Certificate(ArcSwap<CertifiedKey>);

impl Certificate {
    /// A certificate to begin with.
    pub fn new(pair: Pair) -> Arc<Self> {
        Arc::new(Self(ArcSwap::new(pair.0)))
    }

    /// Takes another one.
    pub fn set(&self, pair: Pair) {
        self.0.store(pair.0);
    }

    /// A server configuration: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Whether a client begins as HTTP does without TLS: with a letter of its method. A TLS record begins with 0x16.
pub(crate) async fn begins_in_plain(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    let seen = stream.peek(&mut first).await?;
    Ok(seen == 1 && first[0].is_ascii_uppercase())
}

/// Says in plain HTTP what is wrong.
pub(crate) async fn refuse_plain(mut stream: TcpStream) -> io::Result<()> {
    // What is left unread would reset the connection, and the answer with it.
    let mut head = [0; 4096];
    let _ = stream.read(&mut head).await?;
    let text = "this port speaks https: write https:// instead of http:// before its address\n";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}
