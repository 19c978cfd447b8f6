//! The checksum database as the gateway serves it to clients.

use testkit::{
    gate::{Modgate, Options},
    go::Go,
    lab::{Fault, Lab},
    sumdb::LabSumDb,
};

use crate::common::{bin, code, eventually, module, record, verified_lab};

async fn start(upstream: String, sumdb: &str, config: &str) -> Modgate {
    let options = Options {
        upstream: Some(upstream),
        sumdb: Some(sumdb.to_owned()),
        config: Some(config.to_owned()),
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tiles_of_every_width_heads_and_records() {
    let a = module("a");
    let (lab, sumdb) = verified_lab(std::slice::from_ref(&a)).await;
    sumdb.add_others(300);
    let gate = start(lab.url(), &sumdb.key().to_string(), "").await;
    let get = async |path: &str| gate.get(&format!("/sumdb/sum.lab.example/{path}")).await;
    let truth = async |path: &str| {
        let url = format!("{}/{path}", sumdb.url());
        gate.client()
            .get(url)
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap()
    };

    // Nothing is kept yet, and nothing may be fetched.
    for path in [
        "supported",
        "latest",
        "tile/8/0/000",
        "tile/8/data/000",
        "lookup/lab.example/a@v1.0.0",
    ] {
        let path = format!("/cached-only/sumdb/sum.lab.example/{path}");
        let reply = gate.get(&path).await;
        assert_eq!(
            (reply.status, &*code(&reply)),
            (404, "not_cached"),
            "{path}"
        );
    }
    assert!(sumdb.requests().is_empty(), "{:?}", sumdb.requests());

    let same = async |path: &str| {
        let reply = get(path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        assert!(reply.body == truth(path).await, "{path}");
    };
    for path in [
        "latest",
        "tile/8/0/000",
        "tile/8/0/000.p/7",
        "tile/8/0/001.p/45",
        "tile/8/0/001.p/3",
        "tile/8/1/000.p/1",
        "tile/8/data/000",
        "tile/8/data/000.p/5",
        "tile/8/data/001.p/45",
        "lookup/lab.example/a@v1.0.0",
    ] {
        same(path).await;
    }
    // Now it is kept: the head, full tiles and what is cut from them.
    for path in ["latest", "tile/8/0/000.p/9", "tile/8/data/000.p/200"] {
        let cached = format!("/cached-only/sumdb/sum.lab.example/{path}");
        assert_eq!(gate.get(&cached).await.status, 200, "{path}");
    }
    // A client may know a larger tree than the gateway.
    sumdb.add_others(300);
    eventually("the gateway learns of it", async || {
        get("tile/8/0/002.p/89").await.status == 200
    })
    .await;
    for path in ["tile/8/0/001", "tile/8/0/002.p/89", "tile/8/data/001"] {
        same(path).await;
    }
    // One that makes it up does not make the gateway ask each time.
    let before = sumdb.count("/latest");
    for n in 0..50 {
        let reply = get(&format!("tile/8/0/x999/{n:03}")).await;
        assert_eq!((reply.status, &*code(&reply)), (404, "record_not_found"));
    }
    let asked = sumdb.count("/latest") - before;
    assert!(asked <= 10, "{asked} questions for 50 made-up tiles");
    for path in [
        "tile/8/0/0",
        "tile/8/data/x1",
        "tile/7/0/000",
        "lookup/lab.example/none@v1.0.0",
    ] {
        let reply = get(path).await;
        assert_ne!(reply.status, 200, "{path}");
    }
    let other = gate.get("/sumdb/other.example/supported").await;
    assert_eq!((other.status, &*code(&other)), (404, "database_not_served"));
}

/// Records are compared with their hashes: a mirror that alters one is passed over.
#[tokio::test(flavor = "multi_thread")]
async fn an_altered_tile_of_records_is_not_passed_on() {
    let (lab, sumdb) = verified_lab(&[module("a")]).await;
    sumdb.add_others(300);
    let bad = Lab::start().await;
    bad.pass_sumdb(&sumdb.url());
    let chain = format!("{},{}", bad.url(), lab.url());
    let gate = start(chain, &sumdb.key().to_string(), "").await;
    let path = "/sumdb/sum.lab.example/tile/8/data/000";
    bad.fault("/tile/8/data/", Fault::Corrupt, None);
    lab.fault("/tile/8/data/", Fault::Corrupt, None);
    let reply = gate.get(path).await;
    assert_eq!(
        code(&reply),
        "checksum_database_invalid",
        "{}",
        reply.text()
    );
    lab.heal();
    let reply = gate.get(path).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.text().starts_with("lab.example/a v1.0.0 h1:"));
}

/// What the database is not to be told of is not asked there, also not by clients.
#[tokio::test(flavor = "multi_thread")]
async fn exempt_and_private_modules_are_not_looked_up() {
    let (lab, sumdb) = verified_lab(&[module("exempt"), module("private")]).await;
    let config =
        "private = [\"lab.example/private\"]\n[sumdb]\nexempt = [\"lab.example/exempt\"]\n";
    let gate = start(lab.url(), &sumdb.key().to_string(), config).await;
    for name in ["exempt", "private"] {
        let path = format!("/sumdb/sum.lab.example/lookup/lab.example/{name}@v1.0.0");
        let reply = gate.get(&path).await;
        assert_eq!((reply.status, &*code(&reply)), (404, "record_not_found"));
        // GOPRIVATE alone would have go ask the repository itself.
        assert!(reply.text().contains("set GONOSUMDB"), "{}", reply.text());
    }
    assert!(
        sumdb
            .requests()
            .keys()
            .all(|path| !path.contains("/lookup/")),
        "{:?}",
        sumdb.requests()
    );
}

/// A name with a path, and clients whose heads are older and newer than the gateway's.
#[tokio::test(flavor = "multi_thread")]
async fn clients_with_other_heads_and_a_name_with_a_slash() {
    let modules = ["a", "b", "c", "d"].map(module);
    let lab = Lab::start().await;
    let sumdb = LabSumDb::start("sum.lab.example/go").await.unwrap();
    lab.pass_sumdb(&sumdb.url());
    for module in &modules {
        lab.add(module.clone());
    }
    record(&sumdb, &modules[0]);
    sumdb.add_others(200);
    let key = sumdb.key().to_string();
    let gate = start(lab.url(), &key, "").await;
    let supported = gate.get("/sumdb/sum.lab.example/go/supported").await;
    assert_eq!(supported.status, 200);
    let client = Go::new()
        .proxy(&gate.url())
        .sumdb(&key)
        .module("module x\n");
    let download = async |client: &Go, name: &str| {
        let version = format!("lab.example/{name}@v1.0.0");
        let done = client.run(&["mod", "download", &version]).await;
        assert!(done.ok, "{name}: {}\n{}", done.stderr, gate.logs());
    };
    download(&client, "a").await;
    // The tree grows, the gateway knows; the client comes with its old head.
    record(&sumdb, &modules[1]);
    sumdb.add_others(400);
    assert_eq!(gate.get(&modules[1].url_path("zip")).await.status, 200);
    download(&client, "b").await;
    // The client learns of a larger tree at the database itself, and comes with that.
    record(&sumdb, &modules[2]);
    sumdb.add_others(400);
    let client = client.sumdb(&sumdb.gosumdb());
    download(&client, "c").await;
    let client = client.sumdb(&key);
    record(&sumdb, &modules[3]);
    download(&client, "d").await;
}

/// A client that may have only what is kept asks the next of its GOPROXY for the database: told that all of it is here, it
/// would fail at the first record that is not kept.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_have_only_what_is_kept_gets_the_database_elsewhere() {
    let (a, b) = (module("a"), module("b"));
    let (lab, sumdb) = verified_lab(&[a.clone(), b.clone()]).await;
    let key = sumdb.key().to_string();
    let gate = start(lab.url(), &key, "").await;
    for ending in ["info", "mod", "zip"] {
        assert_eq!(gate.get(&a.url_path(ending)).await.status, 200);
    }
    let proxies = format!("{0}/cached-only,{0}", gate.url());
    let go = testkit::go::Go::new()
        .proxy(&proxies)
        .sumdb(&key)
        .module("module x\n");
    for module in [&a, &b] {
        let version = format!("{}@v1.0.0", module.path());
        let got = go.run(&["mod", "download", &version]).await;
        assert!(got.ok, "{}", got.stderr);
    }
}
