//! Chains of several upstreams: bad content, loops, redirects, what a reload keeps.

use std::time::{Duration, Instant};

use testkit::{
    fixture::{self, Module},
    gate::{Modgate, Options},
    go::Go,
    lab::{Fault, Lab},
};

use crate::common::{bin, code, eventually, module, verified_lab};

async fn with_chain(chain: String, sumdb: &str, config: &str) -> Modgate {
    let options = Options {
        upstream: Some(chain),
        sumdb: Some(sumdb.to_owned()),
        config: Some(config.to_owned()),
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

/// What `a` of `a|b` sends is bad: the client gets what `b` has, at once. After `,` it gets the error.
#[tokio::test(flavor = "multi_thread")]
async fn bad_content_of_one_upstream_does_not_fail_what_the_next_has() {
    let small = module("small");
    let (good, sumdb) = verified_lab(std::slice::from_ref(&small)).await;
    let bad = Lab::start().await;
    bad.add(small.clone());
    bad.add(Module::new(small.path(), "v1.1.0"));
    bad.resolve(small.path(), "wrong", "v1.1.0");
    good.resolve(small.path(), "main", "v1.0.0");
    bad.resolve(small.path(), "main", "v1.0.0");
    bad.pass_sumdb(&sumdb.url());
    let list = format!("/{}/@v/list", small.path());
    let query = format!("/{}/@v/main.info", small.path());
    let latest = format!("/{}/@latest", small.path());
    let [info, file, zip] = ["info", "mod", "zip"].map(|ending| small.url_path(ending));
    let rows = [
        (&info, Fault::Truncate, "upstream_unavailable"),
        (&info, Fault::CutNoLength, "upstream_unavailable"),
        (&info, Fault::Short, "upstream_invalid"),
        (&info, Fault::Html, "upstream_invalid"),
        (&file, Fault::Truncate, "upstream_unavailable"),
        (&file, Fault::Html, "checksum_mismatch"),
        (&file, Fault::AlteredMod, "checksum_mismatch"),
        (&zip, Fault::Truncate, "upstream_unavailable"),
        (&zip, Fault::CutNoLength, "upstream_unavailable"),
        (&zip, Fault::Short, "upstream_invalid"),
        (&zip, Fault::AlteredZip, "checksum_mismatch"),
        (&list, Fault::Html, "upstream_invalid"),
        (&list, Fault::Truncate, "upstream_unavailable"),
        (&query, Fault::Html, "upstream_invalid"),
        (&query, Fault::ResetMidBody, "upstream_unavailable"),
        (&latest, Fault::Html, "upstream_invalid"),
    ];
    for (path, fault, refused) in rows {
        let shown = format!("{path} {fault:?}");
        bad.heal();
        bad.fault(path, fault, None);
        let key = sumdb.gosumdb();
        let gate = with_chain(format!("{}|{}", bad.url(), good.url()), &key, "").await;
        let reply = gate.get(path).await;
        assert_eq!(reply.status, 200, "{shown}: {}", reply.text());
        let right = good_body(&small, path);
        assert!(right.is_none_or(|right| reply.body == right), "{shown}");
        let gate = with_chain(format!("{},{}", bad.url(), good.url()), &key, "").await;
        let reply = gate.get(path).await;
        assert_eq!((reply.status, &*code(&reply)), (502, refused), "{shown}");
        gate.logged(&format!("\"upstream\":\"{}\"", bad.url()), 1)
            .await;
    }
}

fn good_body(small: &Module, path: &str) -> Option<Vec<u8>> {
    match path.rsplit_once('.') {
        Some((_, "mod")) => Some(small.mod_file()),
        Some((_, "zip")) => Some(small.zip()),
        _ => None,
    }
}

/// A wrong version in an `.info` is bad content too.
#[tokio::test(flavor = "multi_thread")]
async fn an_info_of_another_version_is_not_taken() {
    let (bad, good) = (Lab::start().await, Lab::start().await);
    let small = module("small");
    good.add(small.clone());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(&small.url_path("info")[1..]);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, r#"{"Version":"v1.0.1"}"#).unwrap();
    bad.serve_folder(folder.path());
    let gate = with_chain(format!("{}|{}", bad.url(), good.url()), "off", "").await;
    let reply = gate.get(&small.url_path("info")).await;
    assert_eq!((reply.status, reply.body.to_vec()), (200, small.info()));
    assert_eq!(bad.count(".info"), 1);
}

/// An `.info` is read as Go reads it: what its client would refuse is not kept, and the next upstream is asked.
#[tokio::test(flavor = "multi_thread")]
async fn an_info_that_go_refuses_is_not_taken() {
    let (bad, good) = (Lab::start().await, Lab::start().await);
    let small = module("small");
    good.add(small.clone());
    good.resolve(small.path(), "main", "v1.0.0");
    let folder = tempfile::tempdir().unwrap();
    let versions = folder.path().join("lab.example/small/@v");
    std::fs::create_dir_all(&versions).unwrap();
    bad.serve_folder(folder.path());
    for info in [
        r#"{"Version":"v1.0.0","version":"v1.0.9"}"#,
        r#"{"Version":"v1.0.0","Origin":{"VCS":5}}"#,
        r#"{"Version":"v1.0.0","Time":"2024-01-01 00:00:00Z"}"#,
    ] {
        for name in ["v1.0.0", "main"] {
            std::fs::write(versions.join(format!("{name}.info")), info).unwrap();
        }
        let gate = with_chain(format!("{}|{}", bad.url(), good.url()), "off", "").await;
        let reply = gate.get(&small.url_path("info")).await;
        assert_eq!(reply.body.to_vec(), small.info(), "{info}");
        let gate = with_chain(bad.url(), "off", "").await;
        // As another version the first is a good answer to a query.
        let names = if info.contains("v1.0.9") {
            vec!["v1.0.0"]
        } else {
            vec!["v1.0.0", "main"]
        };
        for name in names {
            let path = format!("/lab.example/small/@v/{name}.info");
            let reply = gate.get(&path).await;
            assert_eq!(code(&reply), "upstream_invalid", "{info} {path}");
            let kept = gate.get(&format!("/cached-only{path}")).await;
            assert_eq!(code(&kept), "not_cached", "{info} {path}");
        }
    }
}

/// Two gateways that name each other: what neither has is refused clearly and soon, what one has is served by both.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_through_another_gateway_is_cut() {
    let lab = Lab::start().await;
    lab.add(module("a"));
    let in_file = |chain: &str| format!("chain = \"{chain}\"\n[sumdb]\nname = \"off\"\n");
    let start = async |config: String| {
        let options = Options {
            config: Some(config),
            ..Options::default()
        };
        Modgate::start(bin(), options).await
    };
    let one = start(in_file("off")).await;
    let two = start(in_file(&one.url())).await;
    one.rewrite_config(&in_file(&two.url()));
    one.logged("configuration read again", 1).await;
    let (info, list) = (module("a").url_path("info"), "/lab.example/a/@v/list");
    let begin = Instant::now();
    for gate in [&one, &two] {
        for path in [&*info, list, "/lab.example/a/@latest"] {
            let reply = gate.get(path).await;
            assert_eq!(
                (reply.status, &*code(&reply)),
                (508, "loop_detected"),
                "{path}"
            );
        }
    }
    // Asked at both at once, each would wait for the other.
    let (at_one, at_two) = tokio::join!(one.get(list), two.get(list));
    for reply in [at_one, at_two] {
        assert_eq!(code(&reply), "loop_detected");
    }
    assert!(
        begin.elapsed() < Duration::from_secs(9),
        "{:?}",
        begin.elapsed()
    );

    // With another way to get it the loop is no harm, and absence is absence.
    one.rewrite_config(&in_file(&format!("{},{}", two.url(), lab.url())));
    one.logged("configuration read again", 2).await;
    for gate in [&one, &two] {
        let reply = gate.get(&info).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(gate.get(list).await.text(), "v1.0.0\n");
        let none = gate.get(&module("none").url_path("info")).await;
        assert_eq!(code(&none), "version_not_found");
    }
    assert_eq!(lab.count(&info), 1);
}

/// Many gateways in front of one whose upstream is none: it asks once for them all, however long it takes.
#[tokio::test(flavor = "multi_thread")]
async fn gateways_in_front_of_one_share_its_fetch() {
    let lab = Lab::start().await;
    let a = module("a");
    lab.add(a.clone());
    let centre = with_chain(lab.url(), "off", "").await;
    let mut edges = Vec::new();
    for _ in 0..3 {
        edges.push(with_chain(centre.url(), "off", "").await);
    }
    for path in [a.url_path("zip"), "/lab.example/a/@v/list".to_owned()] {
        let held = lab.hold(&path);
        let asked = edges.iter().map(|edge| edge.get(&path));
        let release = async {
            held.arrived(1).await;
            tokio::time::sleep(Duration::from_millis(2500)).await;
            held.release();
        };
        let (replies, ()) = tokio::join!(futures_util::future::join_all(asked), release);
        for reply in replies {
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
        assert_eq!(lab.count(&path), 1, "{path}");
    }
    // Nor do others that say they are gateways.
    let many = async |n: usize| {
        let via = format!("1.1 modgate-{n:016x}");
        let path = "/lab.example/a/@latest";
        centre.get_with(path, &[("via", &via)]).await.status
    };
    let held = lab.hold("/@latest");
    let release = async {
        held.arrived(1).await;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        held.release();
    };
    let (statuses, ()) = tokio::join!(futures_util::future::join_all((0..8).map(many)), release);
    assert_eq!((statuses, lab.count("/@latest")), (vec![200; 8], 1));
}

/// Three in a circle, all asked at once for the same: none waits for the others until a time limit ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_circle_of_three_gateways_is_cut() {
    let in_file = |chain: &str| format!("chain = \"{chain}\"\n[sumdb]\nname = \"off\"\n");
    let start = async |chain: &str| {
        let options = Options {
            config: Some(in_file(chain)),
            ..Options::default()
        };
        Modgate::start(bin(), options).await
    };
    let one = start("off").await;
    let two = start(&one.url()).await;
    let three = start(&two.url()).await;
    one.rewrite_config(&in_file(&three.url()));
    one.logged("configuration read again", 1).await;
    let begin = Instant::now();
    let list = "/lab.example/a/@v/list";
    let (a, b, c) = tokio::join!(one.get(list), two.get(list), three.get(list));
    for reply in [a, b, c] {
        assert_eq!(code(&reply), "loop_detected");
    }
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(9), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_by_way_of_many_proxies_is_refused() {
    let lab = Lab::start().await;
    lab.add(module("a"));
    let gate = with_chain(lab.url(), "off", "").await;
    let info = module("a").url_path("info");
    let many = ["1.1 a"; 11].join(", ");
    let reply = gate.get_with(&info, &[("via", &many)]).await;
    assert_eq!(code(&reply), "loop_detected");
    let reply = gate
        .get_with(&info, &[("via", "1.1 varnish (Varnish/7)")])
        .await;
    assert_eq!(reply.status, 200);
    let sent = lab.requests().pop().unwrap();
    let via = sent.headers["via"].to_str().unwrap();
    assert!(via.starts_with("1.1 varnish, 1.1 modgate-"), "{via}");
}

/// Where a client is sent in the redirect modes: to an upstream that it can ask as well as the gateway can.
#[tokio::test(flavor = "multi_thread")]
async fn clients_are_sent_only_where_they_can_go() {
    let (dead, lab) = (Lab::start().await, Lab::start().await);
    let modules: Vec<Module> = (0..4).map(|n| module(&format!("m{n}"))).collect();
    for module in &modules {
        lab.add(module.clone());
    }
    dead.stop().await;
    let info = |n: usize| modules[n].url_path("info");
    let gate = with_chain(
        format!("{},{}", dead.url(), lab.url()),
        "off",
        "mode = \"redirect\"\n",
    )
    .await;
    // A list is fetched in every mode, which shows what is dead.
    assert_eq!(gate.get("/lab.example/m0/@v/list").await.status, 200);
    let reply = gate.get(&info(0)).await;
    let to_lab = format!("{}{}", lab.url(), info(0));
    assert_eq!((reply.status, reply.header("location")), (302, &*to_lab));
    // A client that came by https does not follow to http.
    let reply = gate
        .get_with(&info(1), &[("x-forwarded-proto", "https")])
        .await;
    assert_eq!(reply.status, 200);
    lab.stop().await;
    let none_left = gate.get("/lab.example/m3/@v/list").await;
    assert_eq!(none_left.status, 502);
    assert_eq!(gate.get(&info(3)).await.status, 502);
    lab.restart().await;

    let secret = format!(
        "mode = \"redirect\"\n[upstream.\"{}\"]\nheaders = {{ X-Token = \"secret\" }}\n",
        lab.url()
    );
    let gate = with_chain(lab.url(), "off", &secret).await;
    let reply = gate.get(&info(2)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let credential = format!(
        "mode = \"redirect\"\n[[credential]]\nmatch = \"{}\"\nusername = \"ci\"\npassword = {{ env = \"LAB_PASSWORD\" }}\n",
        lab.url()
    );
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some("off".to_owned()),
        config: Some(credential),
        env: vec![("LAB_PASSWORD".to_owned(), "s3cret".to_owned())],
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    assert_eq!(gate.get(&info(2)).await.status, 200);
}

/// What is known of upstreams is not forgotten when the configuration is read again.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_the_health_of_upstreams() {
    let (dead, lab) = (Lab::start().await, Lab::start().await);
    for name in ["a", "b"] {
        lab.add(module(name));
    }
    dead.stop().await;
    let config = |more: &str| {
        let chain = format!("{},{}", dead.url(), lab.url());
        format!("chain = \"{chain}\"\n{more}[sumdb]\nname = \"off\"\n")
    };
    let options = Options {
        config: Some(config("")),
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    assert_eq!(gate.get(&module("a").url_path("info")).await.status, 200);
    let open = format!("upstream=\"{}\",state=\"open\"", dead.url());
    let ok = format!("upstream=\"{}\",outcome=\"ok\"", lab.url());
    assert!((gate.metric(&ok).await - 1.0).abs() < 0.1);
    gate.rewrite_config(&config("[log]\nlevel = \"debug\"\n"));
    gate.logged("configuration read again", 1).await;
    assert_eq!(gate.get(&module("b").url_path("info")).await.status, 200);
    assert!((gate.metric(&ok).await - 2.0).abs() < 0.1);
    let skipped = format!("upstream=\"{}\",outcome=\"skipped\"", dead.url());
    assert!(gate.metric(&skipped).await >= 1.0, "it is asked as if new");
    eventually("it is known to be dead", async || {
        (gate.metric(&open).await - 1.0).abs() < 0.1
    })
    .await;
}

/// An upstream takes connections and says nothing, as a frozen machine: the connect limit, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_upstream_costs_the_connect_limit_once() {
    const LIMIT: Duration = Duration::from_secs(1);
    let (frozen, good) = (Lab::start().await, Lab::start().await);
    let modules: Vec<Module> = (0..60).map(|n| module(&format!("m{n}"))).collect();
    for module in &modules {
        frozen.add(module.clone());
        good.add(module.clone());
    }
    for samples in [0, 25] {
        frozen.heal();
        let config = format!(
            "[upstream.\"{}\"]\nconnect_timeout = \"1s\"\n",
            frozen.url()
        );
        let chain = format!("{},{}", frozen.url(), good.url());
        let gate = with_chain(chain, "off", &config).await;
        let mut unasked = modules.iter();
        let mut ask = async |ending: &str| {
            let module = unasked.next().unwrap();
            let path = match ending {
                "list" => format!("/{}/@v/list", module.path()),
                ending => module.url_path(ending),
            };
            let begin = Instant::now();
            assert_eq!(gate.get(&path).await.status, 200, "{path}");
            begin.elapsed()
        };
        for _ in 0..samples {
            ask("info").await;
        }
        frozen.fault("/", Fault::Hang, None);
        for (n, ending) in ["list", "zip"].into_iter().enumerate() {
            let took = ask(ending).await;
            assert!(took < LIMIT * 2, "{samples} {ending}: {took:?}");
            // Known to be dead once the first has waited that long, also to one who asks at once.
            let known = samples == 0 && n > 0;
            assert!(!known || took < LIMIT / 2, "{samples} {ending}: {took:?}");
        }
        let open = format!("upstream=\"{}\",state=\"closed\"", frozen.url());
        eventually("it is seen to be dead", async || {
            gate.metric(&open).await < 0.5
        })
        .await;
        for _ in 0..5 {
            for ending in ["list", "info", "zip"] {
                let took = ask(ending).await;
                assert!(took < LIMIT / 2, "{samples} later {ending}: {took:?}");
            }
        }
    }
}

/// What has streamed to a client cannot be taken back: the next request gets it from the next upstream.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_large_zip_is_taken_elsewhere_the_next_time() {
    let big = fixture::big("lab.example/big", "v1.0.0", 2);
    let (good, sumdb) = verified_lab(std::slice::from_ref(&big)).await;
    let bad = Lab::start().await;
    bad.add(big.clone());
    bad.pass_sumdb(&sumdb.url());
    bad.fault(".zip", Fault::AlteredZip, None);
    let chain = format!("{}|{}", bad.url(), good.url());
    let gate = with_chain(chain, &sumdb.gosumdb(), "").await;
    let go = Go::new()
        .proxy(&gate.url())
        .sumdb(&sumdb.key().to_string())
        .module("module x\n");
    assert!(
        !go.run(&["mod", "download", "lab.example/big@v1.0.0"])
            .await
            .ok
    );
    let again = go.run(&["mod", "download", "lab.example/big@v1.0.0"]).await;
    assert!(again.ok, "{}", again.stderr);
}
