//! Upstreams and the checksum database behind a forward proxy that wants a password, with an authority of the company.

use std::path::Path;

use testkit::{
    forward::{Forward, USER},
    gate::{Modgate, Options},
    lab::Lab,
    sumdb::LabSumDb,
};

use crate::common::{bin, code, module, record};

/// What a gateway is told of the network.
struct Network<'a> {
    proxy: String,
    no_proxy: &'a str,
    ca: bool,
    /// For the file of the authority.
    folder: &'a Path,
}

async fn gateway(lab: &Lab, sumdb: &LabSumDb, network: Network<'_>) -> Modgate {
    let ca = network.folder.join("ca.pem");
    std::fs::write(&ca, lab.ca_pem()).unwrap();
    let trust = if network.ca {
        format!("ca_file = \"{}\"\n", ca.display())
    } else {
        String::new()
    };
    let config = format!(
        "[negative]\ntrouble = \"0s\"\n\
         [network]\nproxy = \"{}\"\nno_proxy = [{}]\n{trust}",
        network.proxy, network.no_proxy
    );
    // The name is what the certificate is for, and what the proxy is asked for.
    let upstream = lab.url();
    let database = format!("{} {upstream}/sumdb/sum.lab.example", sumdb.key());
    let options = Options {
        upstream: Some(upstream),
        sumdb: Some(database),
        config: Some(config),
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_and_the_database_by_a_proxy_with_a_password() {
    let (lab, sumdb) = (
        Lab::start_tls().await,
        LabSumDb::start("sum.lab.example").await.unwrap(),
    );
    let folder = tempfile::tempdir().unwrap();
    let one = module("one");
    record(&sumdb, &one);
    lab.add(one.clone());
    lab.pass_sumdb(&sumdb.url());
    let http = Forward::http(lab.addr()).await;
    let socks = Forward::socks(lab.addr()).await;
    let port = lab.addr().port();
    for (scheme, proxy) in [("http", &http), ("socks5", &socks), ("socks5h", &socks)] {
        let url = |secret: &str| format!("{scheme}://{USER}:{secret}@{}", proxy.address());
        let network = |secret: &str| Network {
            proxy: url(secret),
            no_proxy: "",
            ca: true,
            folder: folder.path(),
        };
        sumdb.reset_counts();
        let gate = gateway(&lab, &sumdb, network("pr0xy%3Asecret")).await;
        let reply = gate.get(&one.url_path("zip")).await;
        assert_eq!(
            reply.status,
            200,
            "{scheme}: {}\n{}",
            reply.text(),
            gate.logs()
        );
        assert!(reply.body == one.zip());
        assert!(!sumdb.requests().is_empty(), "{scheme}: nothing was proven");
        let asked = proxy.asked();
        assert!(!asked.is_empty());
        assert!(
            asked
                .iter()
                // What came with the wrong password, one scheme before.
                .filter(|to| *to != "refused")
                .all(|to| to.ends_with(&format!(":{port}"))),
            "{asked:?}"
        );
        assert!(!gate.logs().contains("pr0xy"), "{}", gate.logs());

        // A wrong password is trouble, told without it, and nobody goes past the proxy.
        lab.reset_counts();
        let gate = gateway(&lab, &sumdb, network("gue55")).await;
        let reply = gate.get(&one.url_path("zip")).await;
        assert_eq!(reply.status, 502, "{scheme}: {}", reply.text());
        assert_eq!(code(&reply), "upstream_unavailable");
        assert!(reply.text().contains("proxy"), "{scheme}: {}", reply.text());
        let told = format!("{}{}", reply.text(), gate.logs());
        assert!(!told.contains("gue55"), "{told}");
        assert_eq!(lab.requests().len(), 0);
        assert!(proxy.asked().contains(&"refused".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_without_the_proxy_and_an_authority_that_must_be_known() {
    let (lab, sumdb) = (
        Lab::start_tls().await,
        LabSumDb::start("sum.lab.example").await.unwrap(),
    );
    let folder = tempfile::tempdir().unwrap();
    let one = module("one");
    record(&sumdb, &one);
    lab.add(one.clone());
    lab.pass_sumdb(&sumdb.url());
    let dead = Forward::http("127.0.0.1:9".parse().unwrap()).await;
    let network = |no_proxy, ca| Network {
        proxy: format!("http://{}", dead.address()),
        no_proxy,
        ca,
        folder: folder.path(),
    };
    for near in ["\"localhost\", \"127.0.0.1\"", "\"*\""] {
        let gate = gateway(&lab, &sumdb, network(near, true)).await;
        let reply = gate.get(&one.url_path("zip")).await;
        assert_eq!(reply.status, 200, "{near}: {}", reply.text());
    }
    assert!(dead.asked().is_empty());
    let gate = gateway(&lab, &sumdb, network("\"other.example\"", true)).await;
    assert_eq!(gate.get(&one.url_path("zip")).await.status, 502);
    assert!(!dead.asked().is_empty());
    let gate = gateway(&lab, &sumdb, network("\"*\"", false)).await;
    let reply = gate.get(&one.url_path("zip")).await;
    assert_eq!(reply.status, 502);
    assert!(reply.text().contains("certificate"), "{}", reply.text());
}
