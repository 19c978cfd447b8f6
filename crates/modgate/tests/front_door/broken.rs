//! Zips that break on their way, as real clients see them: an error each time, never a short success.

use reqwest::Version;
use testkit::{
    fixture::{self, Module},
    gate::{Modgate, Options},
    go::Go,
    lab::Fault,
    tls::{Certificate, Pem},
};

use crate::common::{bin, files, kept_zips, no_temporary_files, verified_lab};

/// What goes wrong with a zip that streams, and with what the gateway's log names it.
const FAULTS: [(&str, Fault); 7] = [
    ("truncate", Fault::Truncate),
    ("reset", Fault::ResetMidBody),
    ("stall", Fault::StallMidBody),
    ("short", Fault::Short),
    ("corrupt", Fault::Corrupt),
    ("altered", Fault::AlteredZip),
    ("nolength", Fault::CutNoLength),
];

/// How a client speaks to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Http,
    /// HTTP/2, since that is what go chooses over TLS.
    Https,
    /// HTTP/1.1 over TLS.
    HttpsOne,
}

fn big(name: &str) -> Module {
    fixture::big(&format!("lab.example/{name}"), "v1.0.0", 2)
}

/// For each client and fault: the download fails, nothing is kept on either side, and the next one is right. Clients do
/// not verify here, so that only the gateway stands between them and the fault.
async fn clients_see_errors(transport: Transport) {
    let names = FAULTS.iter().map(|(name, _)| *name);
    let modules: Vec<Module> = names
        .flat_map(|name| [big(&format!("new{name}")), big(&format!("old{name}"))])
        .collect();
    let (lab, sumdb) = verified_lab(&modules).await;
    let limits = format!(
        "[upstream.\"{}\"]\nidle_timeout = \"300ms\"\nretries = 0\n",
        lab.url()
    );
    let tls = (transport != Transport::Http).then(|| Pem::new(Certificate::Good));
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some(sumdb.key().to_string()),
        config: Some(limits),
        tls,
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    let mut kept = 0;
    for (age, go) in [("new", Go::new()), ("old", Go::old().await)] {
        let mut go = go.proxy(&gate.url()).sumdb("off").module("module x\n");
        if transport != Transport::Http {
            go = go.env("SSL_CERT_FILE", gate.ca_file().to_str().unwrap());
        }
        if transport == Transport::HttpsOne {
            go = go.env("GODEBUG", "http2client=0");
        }
        for (name, fault) in FAULTS {
            let shown = format!("{transport:?} {age} {name}");
            let module = modules
                .iter()
                .find(|module| module.path().ends_with(&format!("/{age}{name}")))
                .unwrap();
            let version = format!("{}@v1.0.0", module.path());
            let zip = go
                .mod_cache()
                .join("cache/download")
                .join(&module.url_path("zip")[1..]);
            lab.fault(&format!("/{age}{name}/@v/v1.0.0.zip"), fault, Some(1));
            let failed = go.run(&["mod", "download", &version]).await;
            assert!(!failed.ok, "{shown}: a short success\n{}", gate.logs());
            assert!(!zip.exists(), "{shown}: the client keeps it");
            assert!(
                files(&go.mod_cache().join(&version)).is_empty(),
                "{shown}: the client unpacked it"
            );
            assert_eq!(
                kept_zips(gate.data_dir()),
                kept,
                "{shown}: the gateway keeps it"
            );
            no_temporary_files(&gate).await;

            let healed = go.run(&["mod", "download", &version]).await;
            assert!(healed.ok, "{shown}: {}\n{}", healed.stderr, gate.logs());
            assert!(std::fs::read(zip).unwrap() == module.zip(), "{shown}");
            kept += 1;
            // It is kept a moment after it was sent: asked by part, it comes from the disk.
            let part = [("range", "bytes=0-9")];
            let part = gate.get_with(&module.url_path("zip"), &part).await;
            assert_eq!(part.status, 206, "{shown}");
            assert_eq!(kept_zips(gate.data_dir()), kept, "{shown}");
        }
    }
    // Most of them stream.
    gate.logged("cut a connection", 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_see_errors_over_http() {
    clients_see_errors(Transport::Http).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_see_errors_over_https() {
    clients_see_errors(Transport::Https).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_see_errors_over_https_with_http_1() {
    clients_see_errors(Transport::HttpsOne).await;
}

/// Over HTTP/2 a bad zip ends its own stream; others of the same connection go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_harms_no_other() {
    let (bad, good) = (big("bad"), big("good"));
    let (lab, sumdb) = verified_lab(&[bad.clone(), good.clone()]).await;
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some(sumdb.key().to_string()),
        tls: Some(Pem::new(Certificate::Good)),
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    let url = |module: &Module| format!("{}{}", gate.url(), module.url_path("zip"));
    lab.fault("/bad/", Fault::Truncate, None);
    let held = lab.hold_mid_body("/good/");
    let client = gate.client();
    let mut going = client.get(url(&good)).send().await.unwrap();
    held.arrived(1).await;
    let broken = client.get(url(&bad)).send().await.unwrap();
    assert_eq!(
        (broken.version(), broken.status().as_u16()),
        (Version::HTTP_2, 200)
    );
    assert!(broken.bytes().await.is_err(), "a short success");
    assert!((gate.metric("modgate_connections").await - 1.0).abs() < 0.5);
    held.release();
    let mut body = Vec::new();
    while let Some(block) = going.chunk().await.unwrap() {
        body.extend(block);
    }
    assert!(going.version() == Version::HTTP_2 && body == good.zip());
}

/// A client of HTTP/1.0 knows the end of a body without a length only by the end of the connection.
#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_has_no_short_success_either() {
    let module = big("a");
    let (lab, sumdb) = verified_lab(std::slice::from_ref(&module)).await;
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some(sumdb.key().to_string()),
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    lab.fault(".zip", Fault::CutNoLength, Some(1));
    let request = format!("GET {} HTTP/1.0\r\n\r\n", module.url_path("zip"));
    let reply = String::from_utf8_lossy(&gate.raw(&request).await).into_owned();
    assert!(reply.starts_with("HTTP/1.0 502 "), "{reply:.200}");
    let whole = gate.raw(&request).await;
    assert!(whole.starts_with(b"HTTP/1.0 200 ") && whole.ends_with(&module.zip()));
}
