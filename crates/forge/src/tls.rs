//! A certificate authority that lives as long as one forge, and the certificate of its https server.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// The names the certificate is for. The well-known ones are the forge too, behind its proxy.
const NAMES: [&str; 11] = [
    "127.0.0.1",
    "localhost",
    "golden.test",
    "*.golden.test",
    "github.com",
    "bitbucket.org",
    "gopkg.in",
    "golang.org",
    "hub.jazz.net",
    "git.apache.org",
    "git.openstack.org",
];

/// What the servers need, and their clients.
pub(crate) struct Made {
    pub(crate) acceptor: TlsAcceptor,
    /// For a server that wants a certificate of its clients.
    pub(crate) strict: TlsAcceptor,
    /// The authority's certificate.
    pub(crate) ca_pem: String,
    /// The certificate of a client, and its key.
    pub(crate) client_pem: String,
    pub(crate) client_key_pem: String,
}

/// Makes an authority and what it signs.
pub(crate) fn make() -> Result<Made, Box<dyn std::error::Error>> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name
        .push(DnType::CommonName, "forge authority");
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = NAMES.map(str::to_owned).to_vec();
    let leaf = CertificateParams::new(names)?.signed_by(&key, &ca)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone())?;
    let known = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()?;
    let begin = || {
        ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
    };
    let chain = || vec![leaf.der().clone()];
    let open = begin()?
        .with_no_client_auth()
        .with_single_cert(chain(), PrivateKeyDer::Pkcs8(key.clone_key()))?;
    let strict = begin()?
        .with_client_cert_verifier(known)
        .with_single_cert(chain(), PrivateKeyDer::Pkcs8(key))?;
    let client_key = KeyPair::generate()?;
    let client = CertificateParams::new(vec!["modgate".to_owned()])?.signed_by(&client_key, &ca)?;
    Ok(Made {
        acceptor: TlsAcceptor::from(Arc::new(open)),
        strict: TlsAcceptor::from(Arc::new(strict)),
        ca_pem: ca.pem(),
        client_pem: client.pem(),
        client_key_pem: client_key.serialize_pem(),
    })
}
