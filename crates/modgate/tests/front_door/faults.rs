//! Each way in which an upstream can fail: what the client sees, what is kept, how it heals.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use testkit::{
    fixture::{self, Module},
    gate::{Modgate, Options},
    lab::{Certificate, DarkPort, Fault, Lab},
    sumdb::LabSumDb,
};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, LocalSet},
};

use crate::common::{
    bin, code, eventually, gate, kept_zips, module, no_temporary_files, verified_lab,
};

/// What is asked of a faulty upstream: the endings of a small module, the zip of a large one that streams, a list.
const KINDS: [&str; 5] = ["info", "mod", "zip", "big", "list"];

/// The fault, and what the client sees of each kind: a status and code, a plain 200, or a connection that is cut.
/// `any`: the fault cannot be told from a true answer, or the kind is left out.
type Row = (Fault, [&'static str; 5]);

fn table(elsewhere: &str) -> Vec<Row> {
    const FINE: [&str; 5] = ["200"; 5];
    const UNAVAILABLE: &str = "502 upstream_unavailable";
    const INVALID: &str = "502 upstream_invalid";
    const MISMATCH: &str = "502 checksum_mismatch";
    let broken = [UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, "cut", UNAVAILABLE];
    let absent = "404 version_not_found";
    vec![
        (Fault::Latency(Duration::from_millis(150)), FINE),
        (Fault::NoLength, FINE),
        (Fault::RedirectBelow(elsewhere.to_owned()), FINE),
        (Fault::Drip, ["200", "200", "200", "any", "200"]),
        (
            Fault::Status(404),
            [absent, absent, absent, absent, "404 module_not_found"],
        ),
        (Fault::Status(410), ["410 resource_gone"; 5]),
        (Fault::Status(401), ["502 upstream_refused"; 5]),
        (Fault::Status(403), ["502 upstream_refused"; 5]),
        (Fault::Status(429), ["502 upstream_refused"; 5]),
        (Fault::Status(500), [UNAVAILABLE; 5]),
        (Fault::Status(502), [UNAVAILABLE; 5]),
        (Fault::Status(503), [UNAVAILABLE; 5]),
        (Fault::Status(204), ["502 upstream_refused"; 5]),
        (Fault::Reset, [UNAVAILABLE; 5]),
        (Fault::Hang, ["504 upstream_timeout"; 5]),
        (Fault::RedirectLoop, [UNAVAILABLE; 5]),
        (Fault::ResetMidBody, broken),
        (Fault::Truncate, broken),
        (Fault::CutNoLength, broken),
        (Fault::StallMidBody, broken),
        (Fault::Short, [INVALID, MISMATCH, INVALID, "cut", "any"]),
        (Fault::Corrupt, ["any", MISMATCH, INVALID, "cut", "any"]),
        (Fault::AlteredZip, ["200", "200", MISMATCH, "cut", "200"]),
        (Fault::AlteredMod, ["200", MISMATCH, "200", "200", "200"]),
        // A page where a go.mod should be is text like any other; its hash is not.
        (Fault::Html, [INVALID, MISMATCH, INVALID, INVALID, INVALID]),
    ]
}

fn path(small: &Module, big: &Module, kind: &str) -> String {
    match kind {
        "big" => big.url_path("zip"),
        "list" => format!("/{}/@v/list", small.path()),
        ending => small.url_path(ending),
    }
}

async fn seen(gate: &Modgate, path: &str) -> String {
    match gate.ask(reqwest::Method::GET, path, &[]).await {
        Err(_) => "cut".to_owned(),
        Ok(reply) if reply.status == 200 => "200".to_owned(),
        Ok(reply) => {
            assert!(reply.header("content-type").starts_with("text/plain"));
            let retry = !reply.header("retry-after").is_empty();
            assert_eq!(retry, reply.status >= 500, "{}", reply.text());
            format!("{} {}", reply.status, code(&reply))
        }
    }
}

/// Asks all kinds once with the fault, and again when it is over.
async fn check(lab: &Lab, sumdb: &LabSumDb, small: &Module, big: &Module, row: Row) {
    let (fault, expected) = row;
    let config = format!(
        "[upstream.\"{}\"]\nfirst_byte_timeout = \"500ms\"\nidle_timeout = \"400ms\"\nretries = 0\n\
         [network]\ninternal_hosts = [\"127.0.0.1\"]\n\
         [negative]\nabsent = \"100ms\"\ngone = \"100ms\"\ntrouble = \"100ms\"\n\
         [freshness]\nlist = \"0s\"\nstale_while_revalidate = \"0s\"\n",
        lab.url()
    );
    let gate = gate(lab, &sumdb.gosumdb(), &config).await;
    // The list first: later there are versions kept, which a list has whatever upstream says.
    for at in [4, 0, 1, 2, 3] {
        let (kind, expected) = (KINDS[at], expected[at]);
        let shown = format!("{fault:?} {kind}");
        let path = path(small, big, kind);
        let file = gate.data_dir().join("go").join(&path[1..]);
        if expected != "any" {
            lab.fault(&path, fault.clone(), None);
            let seen = seen(&gate, &path).await;
            assert_eq!(seen, expected, "{shown}\n{}", gate.logs());
            lab.heal();
            if expected != "200" {
                no_temporary_files(&gate).await;
                assert!(kind == "list" || !file.exists(), "{shown}: it is kept");
            }
            if let Some((_, code)) = expected.split_once(' ') {
                gate.logged(&format!("\"code\":\"{code}\""), 1).await;
                assert!(
                    gate.metric(&format!("code=\"{code}\"")).await >= 1.0,
                    "{shown}"
                );
            }
        }
        eventually(&format!("{shown} heals"), async || {
            let reply = gate.get(&path).await;
            if reply.status != 200 {
                return false;
            }
            let right = match kind {
                "big" => big.zip(),
                "zip" => small.zip(),
                "mod" => small.mod_file(),
                "info" => small.info(),
                _ => b"v1.0.0\n".to_vec(),
            };
            assert!(
                reply.body == right || kind == "info",
                "{shown}: wrong bytes"
            );
            true
        })
        .await;
        if kind != "list" {
            eventually(&format!("{shown} is kept"), async || file.exists()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_told_and_heals() {
    let (small, big) = (
        module("small"),
        fixture::big("lab.example/big", "v1.0.0", 2),
    );
    // A few rows at once, each with a lab of its own.
    let places = Arc::new(Semaphore::new(4));
    let (local, mut rows) = (LocalSet::new(), JoinSet::new());
    for at in 0..table("").len() {
        let (small, big, places) = (small.clone(), big.clone(), Arc::clone(&places));
        rows.spawn_local_on(
            async move {
                let _place = places.acquire_owned().await.unwrap();
                let (lab, sumdb) = verified_lab(&[small.clone(), big.clone()]).await;
                // A copy that is well, for redirects.
                let other = Lab::start().await;
                other.add(small.clone());
                other.add(big.clone());
                let row = table(&other.url()).swap_remove(at);
                check(&lab, &sumdb, &small, &big, row).await;
            },
            &local,
        );
    }
    local.run_until(rows.join_all()).await;
}

/// A byte now and then keeps no download open for days: after 10 s the next upstream has its turn.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_dribbles_is_given_up() {
    let (slow, good) = (Lab::start().await, Lab::start().await);
    let big = fixture::big("lab.example/big", "v1.0.0", 2);
    slow.add(big.clone());
    good.add(big.clone());
    slow.fault(".zip", Fault::Drip, None);
    let options = Options {
        upstream: Some(format!("{}|{}", slow.url(), good.url())),
        sumdb: Some("off".to_owned()),
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    let begin = Instant::now();
    let zip = big.url_path("zip");
    assert_eq!(seen(&gate, &zip).await, "cut");
    let took = begin.elapsed();
    assert!(
        took > Duration::from_secs(9) && took < Duration::from_secs(30),
        "{took:?}"
    );
    let healed = gate.get(&zip).await;
    assert!(healed.body == big.zip() && good.count(".zip") == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_certificates_of_an_upstream_are_told() {
    let rows = [
        (Certificate::Good, ""),
        (Certificate::Expired, "has expired"),
        (Certificate::SelfSigned, "signed by unknown authority"),
        (Certificate::OtherName, "is not valid for this host"),
    ];
    for (certificate, told) in rows {
        let good = Lab::start().await;
        let lab = Lab::start_tls_with(certificate).await;
        for lab in [&good, &lab] {
            lab.add(module("a"));
        }
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, lab.ca_pem()).unwrap();
        let start = async |upstream: String| {
            let options = Options {
                upstream: Some(upstream),
                sumdb: Some("off".to_owned()),
                config: Some(format!("[network]\nca_file = \"{}\"\n", ca.display())),
                ..Options::default()
            };
            Modgate::start(bin(), options).await
        };
        let gate = start(lab.url()).await;
        let reply = gate.get(&module("a").url_path("zip")).await;
        if told.is_empty() {
            assert_eq!(reply.status, 200, "{}", reply.text());
            continue;
        }
        assert_eq!(
            (reply.status, &*code(&reply)),
            (502, "upstream_unavailable")
        );
        assert!(reply.text().contains(told), "{}", reply.text());
        assert_eq!(kept_zips(gate.data_dir()), 0);
        assert_eq!(lab.requests().len(), 0, "{certificate:?}: it was asked");
        // The next upstream of a chain is asked instead.
        let gate = start(format!("{},{}", lab.url(), good.url())).await;
        assert_eq!(gate.get(&module("a").url_path("zip")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_may_speak_http_2() {
    let lab = Lab::start_h2().await;
    let big = fixture::big("lab.example/big", "v1.0.0", 2);
    lab.add(big.clone());
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, lab.ca_pem()).unwrap();
    let config = format!("[network]\nca_file = \"{}\"\n", ca.display());
    let gate = gate(&lab, "off", &config).await;
    let zip = big.url_path("zip");
    for fault in [Fault::Truncate, Fault::ResetMidBody] {
        lab.fault(".zip", fault, Some(1));
        assert_eq!(seen(&gate, &zip).await, "cut");
        assert_eq!(kept_zips(gate.data_dir()), 0);
    }
    assert_eq!(gate.get(&zip).await.body, big.zip());
}

/// The first request after the death of an upstream costs at most the connect limit, later ones nothing, and it is
/// used again soon after its return.
async fn dead_upstream(separator: char) {
    const LIMIT: Duration = Duration::from_secs(4);
    let (dead, good) = (Lab::start().await, Lab::start().await);
    let modules: Vec<Module> = (0..200).map(|n| module(&format!("m{n}"))).collect();
    for module in &modules {
        dead.add(module.clone());
        good.add(module.clone());
    }
    let options = Options {
        upstream: Some(format!("{}{separator}{}", dead.url(), good.url())),
        sumdb: Some("off".to_owned()),
        config: Some(format!(
            "[upstream.\"{}\"]\nconnect_timeout = \"{}s\"\n",
            dead.url(),
            LIMIT.as_secs()
        )),
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    let mut unasked = modules.iter();
    let mut ask = async || {
        let module = unasked.next().unwrap();
        let begin = Instant::now();
        let reply = gate.get(&module.url_path("zip")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        begin.elapsed()
    };
    ask().await;
    assert_eq!((dead.count(".zip"), good.count(".zip")), (1, 0));

    dead.stop().await;
    let dark = DarkPort::at(dead.addr()).await;
    let first = ask().await;
    assert!(first < LIMIT * 2, "{first:?}");
    for n in 0..20 {
        let later = ask().await;
        assert!(later < LIMIT / 2, "request {n} after the first: {later:?}");
    }
    drop(dark);

    dead.restart().await;
    let begin = Instant::now();
    while dead.count(".zip") < 3 {
        ask().await;
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "not used again\n{}",
            gate.logs()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_upstream_before_a_comma_costs_one_connect_limit() {
    dead_upstream(',').await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_upstream_before_a_pipe_costs_one_connect_limit() {
    dead_upstream('|').await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_never_absence() {
    let (dead, lab) = (Lab::start().await, Lab::start().await);
    dead.stop().await;
    lab.add(module("a"));
    let options = Options {
        upstream: Some(format!("{},{}", dead.url(), lab.url())),
        sumdb: Some("off".to_owned()),
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    for ending in ["info", "mod", "zip"] {
        assert_eq!(gate.get(&module("a").url_path(ending)).await.status, 200);
        let absent = gate.get(&module("none").url_path(ending)).await;
        assert_eq!(absent.status, 502, "{}", absent.text());
    }
    let list = gate.get("/lab.example/none/@v/list").await;
    assert_eq!(list.status, 502, "{}", list.text());
}

/// The only upstream, which passes on the checksum database too, comes back: the first request is served, though
/// module and record are asked at once while the upstream counts as dead.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_request_after_an_outage_is_served() {
    let modules: Vec<Module> = (0..20).map(|n| module(&format!("m{n}"))).collect();
    let (lab, sumdb) = verified_lab(&modules).await;
    // Else the record's failure is remembered for 2 s.
    let config = "[negative]\ntrouble = \"0s\"\n";
    let gate = gate(&lab, &sumdb.key().to_string(), config).await;
    let (first, others) = modules.split_first().unwrap();
    assert_eq!(gate.get(&first.url_path("zip")).await.status, 200);
    for module in others {
        lab.stop().await;
        assert_eq!(
            seen(&gate, &module.url_path("zip")).await.split(' ').next(),
            Some("502")
        );
        lab.restart().await;
        let (one, other) = (modules.len(), module.url_path("zip"));
        let reply = gate.get(&other).await;
        assert_eq!(
            reply.status,
            200,
            "{} of {one}: {}",
            module.path(),
            reply.text()
        );
    }
}
