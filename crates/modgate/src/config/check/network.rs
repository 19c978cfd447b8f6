//! `[network]`: the way out.

use super::{
    super::{
        checked::{CaFile, Network},
        layers::Scope,
        reader::Reader,
    },
    not_in_effect,
};

pub(super) fn read(reader: &mut Reader<'_>, scope: &Scope) -> Network {
    let ca = reader.file(scope, "network.ca_file");
    if let (Some((_, pem)), Some(node)) = (&ca, scope.node("network.ca_file"))
        && !has_certificate(pem)
    {
        let mistake = node.mistake("the file has no certificate in PEM form");
        let hint = "a DER file is converted by `openssl x509 -inform der -in FILE`";
        reader.mistakes.push(mistake.hint(hint));
    }
    let proxy = reader.url(scope, "network.proxy");
    let no_proxy = reader.hosts(scope, "network.no_proxy");
    if let (None, Some(node)) = (scope.node("network.proxy"), scope.node("network.no_proxy")) {
        let origin = super::Origin::of(node);
        let notice = format!("`network.no_proxy` ({origin}) has no effect without `network.proxy`");
        reader.notices.push(notice);
    }
    let internal_hosts = reader.hosts(scope, "network.internal_hosts");
    not_in_effect(reader, scope, "network.internal_hosts");
    Network {
        ca: ca.map(|(path, pem)| CaFile { path, pem }),
        proxy,
        no_proxy,
        internal_hosts,
    }
}

/// Whether a PEM text has a certificate, and none that cannot be decoded.
pub(super) fn has_certificate(pem: &[u8]) -> bool {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut certificates = CertificateDer::pem_slice_iter(pem).peekable();
    certificates.peek().is_some() && certificates.all(|certificate| certificate.is_ok())
}
