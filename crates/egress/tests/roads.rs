//! The ways out: private roots, client certificates, forward proxies that ask for a password.

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::http2::{Http2, No};
use common::{Ca, Proxy, Server, get, internal, names, ok};
use egress::credential::ClientCertificate;
use egress::{Credential, Credentials, Egress, Kind, NetworkSettings};

#[tokio::test]
async fn a_private_ca_beside_the_systems_or_instead() {
    let ca = Ca::new();
    let server = Server::start(Some(ca.acceptor(&["git.corp.example"], false)), |_| {
        ok("tls")
    })
    .await;
    let url = format!("https://git.corp.example:{}/", server.port());
    for (pem, only, want) in [
        (None, false, "x509: certificate signed by unknown authority"),
        (Some(ca.pem()), false, "tls"),
        (Some(ca.pem()), true, "tls"),
        (Some(Ca::new().pem()), true, "x509: certificate"),
    ] {
        let network = NetworkSettings {
            ca_pem: pem,
            ca_only: only,
            ..internal(&["git.corp.example"])
        };
        let lookup = names(&[("git.corp.example", &["127.0.0.1"])]);
        let got = get(
            &Egress::with_lookup(network, Credentials::default(), lookup),
            &url,
        )
        .await;
        assert!(got.contains(want), "{only}: {got}");
    }
}

/// What openssl makes of `req -x509` without more is an authority's certificate.
#[tokio::test]
async fn a_ca_as_server_is_told() {
    let ca = Ca::new();
    let server = Server::start(Some(ca.own_acceptor()), |_| ok("tls")).await;
    let network = NetworkSettings {
        ca_pem: Some(ca.pem()),
        ..internal(&["localhost"])
    };
    let url = format!("https://localhost:{}/", server.port());
    let got = get(&Egress::new(network, Credentials::default()), &url).await;
    assert!(got.contains("basicConstraints CA:FALSE"), "{got}");
}

/// A server closes a connection over HTTP/2 from time to time, after a thousand requests or some minutes, and says which
/// requests it did not look at. They are no failures.
#[tokio::test]
async fn what_an_http2_server_did_not_take_is_asked_again() {
    let ca = Ca::new();
    let network = || NetworkSettings {
        ca_pem: Some(ca.pem()),
        ..internal(&["localhost"])
    };
    for no in [No::GoAway, No::Refused] {
        let server = Http2::start(&ca.acceptor(&["localhost"], false), no, 1).await;
        let egress = Egress::new(network(), Credentials::default());
        assert_eq!(get(&egress, &server.url()).await, "file", "{no:?}");
        assert_eq!(server.asked(), 2, "{no:?}");

        let server = Http2::start(&ca.acceptor(&["localhost"], false), no, usize::MAX).await;
        let egress = Egress::new(network(), Credentials::default());
        let got = get(&egress, &server.url()).await;
        assert!(got.contains("before an answer"), "{no:?}: {got}");
        assert!(server.asked() < 10, "{no:?}");
    }
}

#[tokio::test]
async fn client_certificates_are_presented_and_renewed() {
    let ca = Ca::new();
    let server = Server::start(Some(ca.acceptor(&["localhost"], true)), |_| ok("known")).await;
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let put = |leaf: &common::Leaf| {
        std::fs::write(&cert, &leaf.cert).unwrap();
        std::fs::write(&key, &leaf.key).unwrap();
    };
    put(&Ca::new().leaf(&["stranger"]));
    let kind = Kind::ClientCertificate(ClientCertificate {
        cert: cert.clone(),
        key: key.clone(),
    });
    let matches = format!("localhost:{}", server.port()).parse().unwrap();
    let network = NetworkSettings {
        ca_pem: Some(ca.pem()),
        ..internal(&["localhost"])
    };
    let egress = Egress::new(
        network,
        Credentials::new(vec![Credential { matches, kind }]),
    );
    let url = format!("https://localhost:{}/", server.port());
    let refused = get(&egress, &url).await;
    assert!(
        refused
            .starts_with("Connect: localhost: the server does not accept the client certificate"),
        "{refused}"
    );
    let bare = Egress::new(egress.network().clone(), Credentials::default());
    assert_eq!(
        get(&bare, &url).await,
        "Connect: localhost: the server wants a client certificate"
    );
    // One of another version, and one with another key.
    let leaf = ca.leaf(&["modgate, the gateway of the corp"]);
    let mut der = leaf.der.der().to_vec();
    let version = [0xa0, 3, 2, 1, 2];
    let at = der.windows(5).position(|at| at == version).unwrap();
    der[at + 4] = 0;
    let old = STANDARD.encode(der);
    std::fs::write(
        &cert,
        format!("-----BEGIN CERTIFICATE-----\n{old}\n-----END CERTIFICATE-----\n"),
    )
    .unwrap();
    std::fs::write(&key, &leaf.key).unwrap();
    let unfit = format!(
        "Connect: the client certificate {} cannot be used with {}: ",
        cert.display(),
        key.display()
    );
    let said = get(&egress, &url).await;
    assert!(
        said.starts_with(&unfit) && said.contains("X.509 version 1"),
        "{said}"
    );
    std::fs::write(&cert, &ca.leaf(&["another"]).cert).unwrap();
    let said = get(&egress, &url).await;
    assert!(said.starts_with(&unfit), "{said}");
    put(&leaf);
    assert_eq!(get(&egress, &url).await, "known");
    std::fs::remove_file(&key).unwrap();
    let gone = get(&egress, &url).await;
    assert!(
        gone.starts_with("Credential: the client certificate cannot be read"),
        "{gone}"
    );
}

#[tokio::test]
async fn forward_proxies_with_a_password() {
    let ca = Ca::new();
    let inner = Server::start(Some(ca.acceptor(&["far.example"], false)), |_| ok("far")).await;
    let connect = Proxy::connect(inner.addr).await;
    let socks = Proxy::socks(inner.addr).await;
    for (proxy, want) in [
        (format!("http://ci:pa%3Ass@{}", connect.addr), "far"),
        (
            format!("http://ci:wrong@{}", connect.addr),
            "Connect: far.example: the proxy wants another user or password",
        ),
        (
            format!("http://{}", connect.addr),
            "Connect: far.example: the proxy wants another user or password",
        ),
        (
            "http://127.0.0.1:9".to_owned(),
            "Connect: far.example: the proxy cannot be reached",
        ),
        (
            "socks5h://127.0.0.1:9".to_owned(),
            "Connect: far.example: the proxy cannot be reached",
        ),
        (format!("socks5h://ci:pa%3Ass@{}", socks.addr), "far"),
        (format!("socks5://ci:pa%3Ass@{}", socks.addr), "far"),
        (
            format!("socks5h://ci:wrong@{}", socks.addr),
            "Connect: far.example: the proxy wants another user or password",
        ),
    ] {
        let network = NetworkSettings {
            ca_pem: Some(ca.pem()),
            proxy_https: Some(proxy.clone()),
            ..NetworkSettings::default()
        };
        let egress = Egress::with_lookup(network, Credentials::default(), names(&[]));
        let got = get(&egress, "https://far.example/x").await;
        assert!(got.starts_with(want), "{proxy}: {got}");
        assert!(!got.contains("wrong"), "{got}");
        assert_eq!(
            egress.pin(&"https://far.example/".parse().unwrap()).await,
            Ok(None)
        );
        let inside = get(&egress, "https://127.0.0.1/x").await;
        assert!(inside.starts_with("Refused"), "{inside}");
    }
    assert_eq!(socks.asked(), ["far.example"; 2]);
    assert!(
        connect
            .asked()
            .iter()
            .all(|line| line == "CONNECT far.example:443 HTTP/1.1")
    );
}

#[tokio::test]
async fn a_proxy_per_scheme_and_hosts_without() {
    let plain = Server::start(None, |_| ok("plain")).await;
    let proxy = Proxy::connect(plain.addr).await;
    let network = NetworkSettings {
        proxy_http: Some(format!("http://ci:pa%3Ass@{}", proxy.addr)),
        no_proxy: vec!["near.example".to_owned()],
        ..internal(&["near.example"])
    };
    let lookup = names(&[("near.example", &["127.0.0.1"])]);
    let egress = Egress::with_lookup(network, Credentials::default(), lookup);
    assert_eq!(get(&egress, "http://far.example/x").await, "plain");
    let near = format!("http://near.example:{}/x", plain.port());
    assert_eq!(get(&egress, &near).await, "plain");
    assert_eq!(proxy.asked(), ["GET http://far.example/x HTTP/1.1"]);
    assert_eq!(
        egress.proxy_for(&"https://far.example/".parse().unwrap()),
        None
    );
}
