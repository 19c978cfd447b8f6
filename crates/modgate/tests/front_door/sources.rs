//! The checksum database through mirrors: some lie, some lack things, some are broken, and none of that matters while
//! another source is honest.

use testkit::{
    fixture::Module,
    gate::{Modgate, Options},
    lab::{Fault, Lab},
    sumdb::{LabSumDb, Lie},
};

use crate::common::{bin, code, eventually, kept_zips, module, record, verified_lab};

const NAME: &str = "sum.lab.example";

/// No address of the database but the upstreams: its own is not to be reached.
fn config(sumdb: &LabSumDb, more: &str) -> String {
    format!(
        "[negative]\nabsent = \"100ms\"\ntrouble = \"100ms\"\n[sumdb]\nname = \"{}\"\n{more}",
        sumdb.key()
    )
}

async fn start(upstream: String, config: String) -> Modgate {
    let options = Options {
        upstream: Some(upstream),
        config: Some(config),
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

/// The same database twice: records in one order under one key make one log.
async fn mirror(modules: &[Module]) -> LabSumDb {
    let mirror = LabSumDb::start(NAME).await.unwrap();
    for module in modules {
        record(&mirror, module);
    }
    mirror.add_others(300);
    mirror
}

fn lookups(sumdb: &LabSumDb) -> u64 {
    let requests = sumdb.requests();
    let lookups = requests
        .iter()
        .filter(|(path, _)| path.starts_with("/lookup/"));
    lookups.map(|(_, count)| count).sum()
}

/// Even where unknown modules may pass, a mirror cannot make one unknown, nor stop the gateway.
#[tokio::test(flavor = "multi_thread")]
async fn one_bad_mirror_stops_nothing_and_lets_nothing_pass() {
    for lie in [
        Lie::LookupNotFound,
        Lie::ForgedTiles,
        Lie::OtherModulesRecord,
        Lie::OtherModulesHashes,
        Lie::WrongKey,
        Lie::ServerError,
    ] {
        println!("{lie:?}");
        let modules = [module("a"), module("b"), module("bad")];
        let (lab, sumdb) = verified_lab(&modules).await;
        sumdb.add_others(300);
        let mirror = mirror(&modules).await;
        mirror.lie(lie.clone()).await;
        let chain = format!("{}|{}", mirror.url(), lab.url());
        let gate = start(chain, config(&sumdb, "unknown = \"allow\"\n")).await;
        lab.fault("/bad/", Fault::AlteredZip, None);
        for good in &modules[..2] {
            for ending in ["mod", "zip"] {
                let reply = gate.get(&good.url_path(ending)).await;
                assert_eq!(reply.status, 200, "{}{}", reply.text(), gate.logs());
            }
        }
        let bad = gate.get(&modules[2].url_path("zip")).await;
        assert_eq!(code(&bad), "checksum_mismatch", "{}", bad.text());
        let of = |result: &str| format!("modgate_verifications_total{{result=\"{result}\"}}");
        assert!((gate.metric(&of("verified")).await - 4.0).abs() < 0.1);
        assert!(gate.metric(&of("unknown")).await.abs() < 0.1);
        // Whoever lied is asked last from then on; who only lacks something is not.
        let lied = gate
            .logs()
            .contains("SECURITY: an answer of the checksum database");
        let honest = matches!(lie, Lie::LookupNotFound | Lie::ServerError);
        assert_eq!(lied, !honest, "{}", gate.logs());
        if lied {
            assert_eq!(lookups(&mirror), 1);
        }
    }
}

/// A captive portal in front: 200 and a page, whatever is asked of the database.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_answers_with_pages_is_passed_over() {
    let a = module("a");
    let (lab, sumdb) = verified_lab(std::slice::from_ref(&a)).await;
    let portal = Lab::start().await;
    portal.fault("/sumdb/", Fault::Html, None);
    let chain = format!("{},{}", portal.url(), lab.url());
    let gate = start(chain, config(&sumdb, "unknown = \"allow\"\n")).await;
    lab.fault(".zip", Fault::AlteredZip, Some(1));
    let altered = gate.get(&a.url_path("zip")).await;
    assert_eq!(code(&altered), "checksum_mismatch", "{}", altered.text());
    let reply = gate.get(&a.url_path("zip")).await;
    assert!(reply.status == 200 && reply.body == a.zip());
    assert!(portal.count("/sumdb/") > 0);
    // Clients are served from the honest one as well.
    let lookup = gate
        .get(&format!("/sumdb/{NAME}/lookup/lab.example/a@v1.0.0"))
        .await;
    assert_eq!(lookup.status, 200, "{}", lookup.text());
}

/// The "no" of a mirror is not that of the database, unless the configuration says that it speaks for it.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_is_what_the_database_itself_does_not_know() {
    let unknown = module("unknown");
    for own in [false, true] {
        let (lab, sumdb) = verified_lab(&[module("a")]).await;
        lab.add(unknown.clone());
        let url = if own {
            format!("url = \"{}/sumdb/{NAME}\"\n", lab.url())
        } else {
            String::new()
        };
        let config = config(&sumdb, &format!("unknown = \"allow\"\n{url}"));
        let gate = start(lab.url(), config).await;
        let reply = gate.get(&unknown.url_path("zip")).await;
        if own {
            assert_eq!(reply.status, 200, "{}", reply.text());
            continue;
        }
        assert_eq!(
            (reply.status, &*code(&reply)),
            (503, "checksum_database_unreachable"),
            "{}",
            reply.text()
        );
        assert_eq!(kept_zips(gate.data_dir()), 0);
    }
}

/// The download of what is refused anyway is not waited for, however slowly it comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_the_download() {
    let big = testkit::fixture::big("lab.example/big", "v1.0.0", 2);
    let small = module("small");
    let (lab, sumdb) = verified_lab(&[module("a")]).await;
    lab.add(big.clone());
    lab.add(small.clone());
    let url = format!("url = \"{}\"\n", sumdb.url());
    let gate = start(lab.url(), config(&sumdb, &url)).await;
    for (module, fault) in [(&big, Fault::Drip), (&small, Fault::StallMidBody)] {
        lab.fault(&module.url_path("zip"), fault, Some(1));
        let begin = std::time::Instant::now();
        let reply = gate.get(&module.url_path("zip")).await;
        assert_eq!(code(&reply), "checksum_unknown", "{}", reply.text());
        let took = begin.elapsed();
        assert!(took < std::time::Duration::from_secs(8), "{took:?}");
    }
    eventually("nothing is left of them", async || {
        gate.metric("modgate_flights").await < 0.5
    })
    .await;
    // What upstream does not have is absent, whatever the database says.
    let none = gate.get("/lab.example/none/@v/v1.0.0.zip").await;
    assert_eq!(code(&none), "version_not_found", "{}", none.text());
}
