//! Lying and dead checksum databases, as clients of the gateway meet them.

use std::sync::Arc;

use testkit::{
    fixture::Module,
    gate::{Modgate, Options, Reply},
    go::Go,
    lab::{Fault, Lab},
    small_disk::SmallDisk,
    sumdb::{LabSumDb, Lie},
};
use tokio::task::JoinSet;

use crate::common::{bin, code, eventually, files, kept_zips, module, record, verified_lab};

/// Short times, so that a test need not wait for what clients wait for.
fn config(sumdb: &LabSumDb, more: &str) -> String {
    format!(
        "[upstream.\"{}\"]\nfirst_byte_timeout = \"400ms\"\nretries = 0\n\
         [negative]\nabsent = \"100ms\"\ntrouble = \"100ms\"\n[sumdb]\nname = \"{}\"\n{more}",
        sumdb.url(),
        sumdb.gosumdb()
    )
}

fn options(lab: &Lab, config: String) -> Options {
    Options {
        upstream: Some(lab.url()),
        config: Some(config),
        ..Options::default()
    }
}

async fn zip(gate: &Modgate, module: &Module) -> Reply {
    gate.get(&module.url_path("zip")).await
}

async fn refused(gate: &Modgate, module: &Module, status: u16, wanted: &str) {
    for ending in ["zip", "mod"] {
        let reply = gate.get(&module.url_path(ending)).await;
        assert_eq!(
            (reply.status, &*code(&reply)),
            (status, wanted),
            "{}{}",
            reply.text(),
            gate.logs()
        );
        let file = gate.data_dir().join("go");
        let file = file.join(&module.url_path(ending)[1..]);
        assert!(!file.exists(), "it is kept");
    }
}

async fn served(gate: &Modgate, module: &Module) {
    eventually("it is served", async || {
        let reply = zip(gate, module).await;
        assert!(reply.status != 200 || reply.body == module.zip());
        reply.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_database_is_found_out() {
    const INVALID: (u16, &str) = (502, "checksum_database_invalid");
    const UNREACHABLE: (u16, &str) = (503, "checksum_database_unreachable");
    let rows = [
        (Lie::ForgedTiles, INVALID),
        (Lie::NarrowTiles, INVALID),
        (Lie::TruncatedTiles, INVALID),
        (Lie::WrongKey, INVALID),
        (Lie::OtherModulesRecord, INVALID),
        (Lie::OtherModulesHashes, INVALID),
        (Lie::ExtraLines, INVALID),
        (Lie::IdOutsideTree, INVALID),
        (Lie::OldHead { size: 2 }, INVALID),
        (Lie::LookupNotFound, (403, "checksum_unknown")),
        (Lie::ServerError, UNREACHABLE),
        (Lie::Hang, UNREACHABLE),
        (Lie::Unreachable, UNREACHABLE),
    ];
    for (lie, (status, wanted)) in rows {
        // As an attacker would have it: what the lie would let through is another zip.
        let (good, bad) = (module("good"), module("bad"));
        let (lab, sumdb) = verified_lab(std::slice::from_ref(&good)).await;
        sumdb.add_others(300);
        record(&sumdb, &bad);
        sumdb.add_others(1);
        lab.add(bad.clone());
        let gate = Modgate::start(bin(), options(&lab, config(&sumdb, ""))).await;
        sumdb.lie(lie.clone()).await;
        println!("{lie:?}");
        refused(&gate, &bad, status, wanted).await;
        // A client that verifies for itself, through the gateway, is not led astray either.
        let key = sumdb.key().to_string();
        let go = || {
            Go::new()
                .proxy(&gate.url())
                .sumdb(&key)
                .module("module x\n")
        };
        let version = "lab.example/bad@v1.0.0";
        assert!(!go().run(&["mod", "download", version]).await.ok, "{lie:?}");
        assert_eq!(kept_zips(gate.data_dir()), 0, "{lie:?}");
        if wanted == "checksum_database_invalid" {
            gate.logged("SECURITY", 1).await;
        } else {
            assert!(!gate.logs().contains("SECURITY"), "{lie:?}");
        }
        assert!(gate.metric(&format!("code=\"{wanted}\"")).await >= 2.0);

        // Nothing of the lie stays: with an honest database all is well at once.
        sumdb.be_honest().await;
        served(&gate, &bad).await;
        served(&gate, &good).await;
        let done = go().run(&["mod", "download", version]).await;
        assert!(done.ok, "{lie:?}: {}\n{}", done.stderr, gate.logs());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_content_is_an_incident() {
    let a = module("a");
    let (lab, sumdb) = verified_lab(std::slice::from_ref(&a)).await;
    let gate = Modgate::start(bin(), options(&lab, config(&sumdb, ""))).await;
    lab.fault(".zip", Fault::AlteredZip, None);
    lab.fault(".mod", Fault::AlteredMod, None);
    refused(&gate, &a, 502, "checksum_mismatch").await;
    gate.logged("SECURITY: checksum mismatch", 2).await;
    for metric in [
        "modgate_verifications_total{result=\"mismatch\"}",
        "modgate_incidents_total{result=\"checksum_mismatch\"}",
    ] {
        assert!((gate.metric(metric).await - 2.0).abs() < 0.1, "{metric}");
    }
    lab.heal();
    served(&gate, &a).await;
}

/// Two histories: of one length, and one that goes on from another past.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_fork_nothing_is_verified_until_an_operator_acts() {
    for grown in [false, true] {
        let (good, new) = (module("good"), module("new"));
        let (lab, sumdb) = verified_lab(&[good.clone(), new.clone()]).await;
        sumdb.add_others(300);
        let data = tempfile::tempdir().unwrap();
        let start = async || {
            let options = Options {
                data: Some(data.path().to_owned()),
                ..options(&lab, config(&sumdb, ""))
            };
            Modgate::start(bin(), options).await
        };
        let mut gate = start().await;
        served(&gate, &good).await;
        eventually("the record is kept", async || {
            let kept = files(&data.path().join("go/sumdb"));
            kept.iter().any(|file| file.ends_with("good@v1.0.0"))
        })
        .await;
        if grown {
            sumdb.add_others(10);
        }
        sumdb.lie(Lie::ForkedTree { at: 1 }).await;
        refused(&gate, &new, 503, "checksum_database_fork").await;
        gate.logged(
            "SECURITY: the checksum database has signed two histories",
            1,
        )
        .await;
        assert!((gate.metric("modgate_sumdb_forked").await - 1.0).abs() < 0.1);
        assert!(
            gate.get("/readyz")
                .await
                .text()
                .contains("SECURITY: forked")
        );
        // Clients do not get its tiles and records from here either.
        for path in ["supported", "latest", "lookup/lab.example/good@v1.0.0"] {
            let reply = gate.get(&format!("/sumdb/sum.lab.example/{path}")).await;
            assert_eq!(code(&reply), "checksum_database_fork", "{path}");
        }

        // Neither time nor a restart makes it forget; what is kept is served.
        sumdb.be_honest().await;
        assert!(gate.terminate().await.success());
        let gate = start().await;
        refused(&gate, &new, 503, "checksum_database_fork").await;
        served(&gate, &good).await;
        assert_eq!(kept_zips(data.path()), 1);

        // docs/operations.md: the evidence has both heads, and goes when an operator has seen it.
        let evidence = data.path().join("sumdb/sum.lab.example/fork");
        let heads = std::fs::read_to_string(&evidence).unwrap();
        assert_eq!(heads.matches("go.sum database tree").count(), 2, "{heads}");
        std::fs::remove_file(evidence).unwrap();
        served(&gate, &new).await;
        assert!(gate.metric("modgate_sumdb_forked").await.abs() < 0.1);
    }
}

/// An old head proves no more than what it has, and never replaces a newer one.
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_head_does_not_turn_back_time() {
    let (good, old, new) = (module("good"), module("old"), module("new"));
    let (lab, sumdb) = verified_lab(&[good.clone(), old.clone()]).await;
    sumdb.add_others(300);
    let gate = Modgate::start(bin(), options(&lab, config(&sumdb, ""))).await;
    served(&gate, &good).await;
    let size = gate.metric("modgate_sumdb_tree_size").await;
    record(&sumdb, &new);
    lab.add(new.clone());
    sumdb.lie(Lie::OldHead { size: 100 }).await;
    // Not in the tree that the kept head signs, nor in the replayed one.
    refused(&gate, &new, 502, "checksum_database_invalid").await;
    // In both.
    served(&gate, &old).await;
    let now = gate.metric("modgate_sumdb_tree_size").await;
    assert!(
        (now - size).abs() < 0.1,
        "the head went from {size} to {now}"
    );
    sumdb.be_honest().await;
    served(&gate, &new).await;
    assert!(gate.metric("modgate_sumdb_tree_size").await > size);
}

/// Toolchains run on the clients: nothing in the configuration lets an unverified one through.
#[tokio::test(flavor = "multi_thread")]
async fn no_setting_lets_a_toolchain_pass_unverified() {
    let toolchain = Module::new("golang.org/toolchain", "v0.0.1-go1.99.0.linux-amd64")
        .file("bin/go", "#!/bin/sh\n");
    let route = |lab: &Lab| {
        format!(
            "private = [\"golang.org/*\"]\n[[route]]\nmatch = [\"golang.org/*\"]\nchain = \"{}\"\n",
            lab.url()
        )
    };
    for private in [false, true] {
        let (lab, sumdb) = verified_lab(std::slice::from_ref(&toolchain)).await;
        sumdb.add_others(300);
        let lax = "exempt = [\"*\"]\nunknown = \"allow\"\nunreachable = \"serve-unverified\"\n";
        let head = if private { route(&lab) } else { String::new() };
        let config = head + &config(&sumdb, lax);
        let gate = Modgate::start(bin(), options(&lab, config)).await;
        for (lie, status, wanted) in [
            (Lie::ForgedTiles, 502, "checksum_database_invalid"),
            (Lie::OtherModulesHashes, 502, "checksum_database_invalid"),
            (Lie::WrongKey, 502, "checksum_database_invalid"),
            (Lie::LookupNotFound, 403, "checksum_unknown"),
            (Lie::Unreachable, 503, "checksum_database_unreachable"),
        ] {
            sumdb.lie(lie.clone()).await;
            println!("private {private}: {lie:?}");
            eventually("the negative answer before is over", async || {
                code(&zip(&gate, &toolchain).await) == wanted
            })
            .await;
            let reply = zip(&gate, &toolchain).await;
            assert_eq!(reply.status, status, "{}", reply.text());
        }
        sumdb.be_honest().await;
        lab.fault(".zip", Fault::AlteredZip, None);
        eventually("an altered one is found out", async || {
            let reply = zip(&gate, &toolchain).await;
            assert_ne!(reply.status, 200);
            code(&reply) == "checksum_mismatch"
        })
        .await;
        assert_eq!(kept_zips(gate.data_dir()), 0);
        lab.heal();
        served(&gate, &toolchain).await;
        // Clients that verify it too get its record.
        let record =
            "/sumdb/sum.lab.example/lookup/golang.org/toolchain@v0.0.1-go1.99.0.linux-amd64";
        assert_eq!(gate.get(record).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_kept_things_are_served_and_new_ones_refused() {
    let (kept, new) = (module("kept"), module("new"));
    let (lab, sumdb) = verified_lab(&[kept.clone(), new.clone()]).await;
    sumdb.add_others(300);
    let gate = Modgate::start(bin(), options(&lab, config(&sumdb, ""))).await;
    let key = sumdb.key().to_string();
    let go = || {
        Go::new()
            .proxy(&gate.url())
            .sumdb(&key)
            .module("module x\n")
    };
    let kept_version = ["mod", "download", "lab.example/kept@v1.0.0"];
    assert!(go().run(&kept_version).await.ok);
    sumdb.lie(Lie::Unreachable).await;
    refused(&gate, &new, 503, "checksum_database_unreachable").await;
    // What is kept is served, so it is ready; but it says what is wrong.
    let ready = gate.get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(
        ready.text().contains("cannot be reached"),
        "{}",
        ready.text()
    );
    // A new client verifies what is kept with the tiles that are kept.
    let done = go().run(&kept_version).await;
    assert!(done.ok, "{}\n{}", done.stderr, gate.logs());
    sumdb.be_honest().await;
    served(&gate, &new).await;
    let ready = gate.get("/readyz").await;
    assert!(
        !ready.text().contains("cannot be reached"),
        "{}",
        ready.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_unverified_is_marked_and_verified_later() {
    let (good, bad) = (module("good"), module("bad"));
    let (lab, sumdb) = verified_lab(&[good.clone(), bad.clone()]).await;
    lab.fault("/bad/@v/v1.0.0.zip", Fault::AlteredZip, None);
    let config = config(&sumdb, "unreachable = \"serve-unverified\"\n");
    let gate = Modgate::start(bin(), options(&lab, config)).await;
    sumdb.lie(Lie::Unreachable).await;
    for module in [&good, &bad] {
        for ending in ["zip", "mod"] {
            let reply = gate.get(&module.url_path(ending)).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            let warning = reply.header("warning");
            assert!(warning.contains("not verified"), "{warning}");
            let cached = reply.header("cache-control");
            assert!(!cached.contains("immutable"), "{cached}");
        }
    }
    assert_eq!(kept_zips(gate.data_dir()), 0);
    gate.logged("served without verification", 4).await;
    let unverified = "modgate_verifications_total{result=\"unverified\"}";
    assert!((gate.metric(unverified).await - 4.0).abs() < 0.1);

    // Nobody asks: the gateway itself makes up for it, and tells what does not verify.
    sumdb.be_honest().await;
    gate.logged("verified what was served unverified before", 3)
        .await;
    gate.logged("SECURITY: what was served unverified is not", 1)
        .await;
    assert_eq!(kept_zips(gate.data_dir()), 1);
    let reply = zip(&gate, &good).await;
    assert!(
        reply.header("cache-control").contains("immutable") && reply.header("warning").is_empty()
    );
    assert_eq!(code(&zip(&gate, &bad).await), "checksum_mismatch");
}

/// A crowd that meets the fork at once, on a disk that takes no evidence: it stays known, until an operator has seen what
/// could be written at last.
#[tokio::test(flavor = "multi_thread")]
async fn a_fork_stays_known_under_load_and_on_a_full_disk() {
    let good = module("good");
    let crowd: Vec<Module> = (0..20).map(|n| module(&format!("new{n}"))).collect();
    let (lab, sumdb) = verified_lab(&crowd).await;
    record(&sumdb, &good);
    lab.add(good.clone());
    sumdb.add_others(300);
    let disk = SmallDisk::new(16 << 20);
    let options = Options {
        data: Some(disk.path().join("data")),
        ..options(&lab, config(&sumdb, ""))
    };
    let gate = Arc::new(Modgate::start(bin(), options).await);
    served(&gate, &good).await;
    let latest = disk.path().join("data/sumdb/sum.lab.example/latest");
    eventually("the head is kept", async || latest.exists()).await;
    disk.fill(0);
    sumdb.add_others(10);
    sumdb.lie(Lie::ForkedTree { at: 1 }).await;
    let evidence = disk.path().join("data/sumdb/sum.lab.example/fork");
    for round in 0..3 {
        let mut asking = JoinSet::new();
        for ending in ["zip", "mod"] {
            for module in &crowd {
                let (gate, path) = (Arc::clone(&gate), module.url_path(ending));
                asking.spawn(async move { gate.get(&path).await });
            }
        }
        for reply in asking.join_all().await {
            assert_eq!(
                code(&reply),
                "checksum_database_fork",
                "round {round}: {}",
                reply.text()
            );
        }
        assert!((gate.metric("modgate_sumdb_forked").await - 1.0).abs() < 0.1);
        assert!(!evidence.exists());
    }
    let told = "nothing new is verified until an operator acts";
    let logs = gate.logged(told, 1).await;
    assert_eq!(logs.matches(told).count(), 1);
    gate.logged("cannot write the evidence", 1).await;
    // An honest database does not make it forgotten; with room the evidence is written.
    sumdb.be_honest().await;
    disk.make_room();
    refused(&gate, &crowd[0], 503, "checksum_database_fork").await;
    eventually("the evidence is written", async || {
        refused(&gate, &crowd[0], 503, "checksum_database_fork").await;
        evidence.exists()
    })
    .await;
    let heads = std::fs::read_to_string(&evidence).unwrap();
    assert_eq!(heads.matches("go.sum database tree").count(), 2, "{heads}");
    std::fs::remove_file(evidence).unwrap();
    served(&gate, &crowd[0]).await;
    assert!(gate.metric("modgate_sumdb_forked").await.abs() < 0.1);
}
