//! `[network]`: the way out.

use super::super::{
    checked::{CaFile, Network},
    kinds,
    layers::Scope,
    reader::{Reader, quoted},
    secret::Secret,
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
    let ca_only = reader.switch(scope, "network.ca_only");
    if let (true, None, Some(node)) = (
        ca_only,
        scope.node("network.ca_file"),
        scope.node("network.ca_only"),
    ) {
        let mistake = node.mistake("without `network.ca_file` no certificate would be trusted");
        reader
            .mistakes
            .push(mistake.hint("set `network.ca_file` too"));
    }
    let proxies = ["network.proxy", "network.http_proxy", "network.https_proxy"];
    let [proxy, http_proxy, https_proxy] = proxies.map(|name| {
        let show = |url: &Secret| quoted(url.expose());
        reader.read(scope, name, |_, node, kind| kinds::proxy(node, kind), show)
    });
    let no_proxy = reader.hosts(scope, "network.no_proxy");
    if let Some(node) = scope.node("network.no_proxy")
        && proxies.iter().all(|name| scope.node(name).is_none())
    {
        let origin = super::Origin::of(node);
        let notice = format!("`network.no_proxy` ({origin}) has no effect without `network.proxy`");
        reader.notices.push(notice);
    }
    Network {
        ca: ca.map(|(path, pem)| CaFile { path, pem }),
        ca_only,
        proxy,
        http_proxy,
        https_proxy,
        no_proxy,
        internal_hosts: reader.hosts(scope, "network.internal_hosts"),
        insecure_hosts: reader.patterns(scope, "network.insecure_hosts").0,
    }
}

/// Whether a PEM text has a certificate, and none that cannot be decoded.
pub(super) fn has_certificate(pem: &[u8]) -> bool {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut certificates = CertificateDer::pem_slice_iter(pem).peekable();
    certificates.peek().is_some() && certificates.all(|certificate| certificate.is_ok())
}
