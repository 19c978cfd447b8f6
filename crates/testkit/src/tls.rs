//! Certificate authorities made for one test, and server certificates of theirs for 127.0.0.1, good or bad.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// What a server needs to speak TLS, and what a client needs to trust it.
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    /// The authority's certificate.
    pub(crate) ca_pem: String,
}

/// Which certificate a server shows. Its clients are told to trust the authority (that of a lab is
/// [`Lab::ca_pem`](crate::lab::Lab::ca_pem)) each time, so each of these but the first is an error of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// Signed by the authority, for `127.0.0.1`, `localhost` and `*.corp.example`.
    Good,
    /// The same, but it ended in 2001.
    Expired,
    /// For the right names, signed by itself and not by the authority.
    SelfSigned,
    /// Signed by the authority, for `elsewhere.example`.
    OtherName,
}

/// A new authority and a server certificate, all of it as PEM texts.
#[derive(Debug, Clone)]
pub struct Pem {
    /// The authority's certificate, for clients to trust.
    pub ca: String,
    /// The server's certificate.
    pub cert: String,
    /// The server's private key.
    pub key: String,
}

impl Pem {
    /// Makes a new authority and a certificate of it.
    ///
    /// # Panics
    /// If the system has no randomness to give.
    pub fn new(certificate: Certificate) -> Pem {
        pem(certificate).expect("a certificate can be made")
    }
}

fn pem(certificate: Certificate) -> Result<Pem, rcgen::Error> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name
        .push(rcgen::DnType::CommonName, "lab authority");
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(match certificate {
        Certificate::OtherName => vec!["elsewhere.example".to_owned()],
        _ => ["127.0.0.1", "localhost", "*.corp.example"]
            .map(str::to_owned)
            .to_vec(),
    })?;
    if certificate == Certificate::Expired {
        leaf.not_before = date_time_ymd(2000, 1, 1);
        leaf.not_after = date_time_ymd(2001, 1, 1);
    }
    let leaf = match certificate {
        Certificate::SelfSigned => leaf.self_signed(&key)?,
        _ => leaf.signed_by(&key, &ca)?,
    };
    Ok(Pem {
        ca: ca.pem(),
        cert: leaf.pem(),
        key: key.serialize_pem(),
    })
}

/// Makes a new authority and a certificate. `protocols` are what the server offers by ALPN, the best first.
pub(crate) fn make(
    certificate: Certificate,
    protocols: &[&str],
) -> Result<Tls, Box<dyn std::error::Error>> {
    let pem = pem(certificate)?;
    let leaf = CertificateDer::from_pem_slice(pem.cert.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)?;
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    Ok(Tls {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        ca_pem: pem.ca,
    })
}
