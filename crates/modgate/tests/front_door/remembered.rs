//! What is remembered of answers, and for how long.

use testkit::{
    fixture::Module,
    gate::{Modgate, Options},
    lab::{Fault, Lab},
};

use crate::common::{bin, code, eventually, gate, module};

fn at(version: &str) -> Module {
    Module::new("lab.example/a", version).file("a.go", "package a\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_is_remembered_for_as_long_as_its_cause_says() {
    let lab = Lab::start().await;
    let config = format!(
        "[negative]\nabsent = \"400ms\"\ngone = \"1h\"\ntrouble = \"400ms\"\n[upstream.\"{}\"]\nretries = 0\n",
        lab.url()
    );
    let gate = gate(&lab, "off", &config).await;
    for (name, fault, again) in [
        ("absent", None, true),
        ("gone", Some(Fault::Status(410)), false),
        ("trouble", Some(Fault::Status(500)), true),
    ] {
        let module = module(name);
        if let Some(fault) = fault {
            lab.fault(&format!("/{name}/"), fault, None);
        }
        for ending in ["info", "mod", "zip"] {
            let path = module.url_path(ending);
            let shown = format!("{name} {ending}");
            let first = gate.get(&path).await;
            let asked = lab.count(&path);
            let second = gate.get(&path).await;
            assert_eq!(first.status, second.status, "{shown}");
            // The trouble of a zip is to heal at once.
            let remembered = (name, ending) != ("trouble", "zip");
            assert_eq!(lab.count(&path) == asked, remembered, "{shown}");
        }
        lab.heal();
        lab.add(module.clone());
        if again {
            let path = module.url_path("info");
            eventually(name, async || gate.get(&path).await.status == 200).await;
        } else {
            assert_eq!(gate.get(&module.url_path("info")).await.status, 410);
        }
    }
}

/// Past its life an answer is given at once and asked for anew; that upstream is in trouble is told with it.
#[tokio::test(flavor = "multi_thread")]
async fn stale_answers_say_so() {
    let lab = Lab::start().await;
    lab.add(at("v1.0.0"));
    let list = "/lab.example/a/@v/list";
    let fresh = gate(&lab, "off", "").await;
    let reply = fresh.get(list).await;
    assert_eq!(reply.header("cache-control"), "public, max-age=60");
    let left = fresh.get(list).await.header("cache-control").to_owned();
    let left: u64 = left.trim_start_matches("public, max-age=").parse().unwrap();
    assert!(left < 60, "the rest of its life: {left}");

    let config = "[freshness]\nlist = \"0s\"\n[negative]\ntrouble = \"0s\"\n";
    let gate = gate(&lab, "off", config).await;
    assert_eq!(gate.get(list).await.text(), "v1.0.0\n");
    lab.add(at("v1.1.0"));
    let stale = gate.get(list).await;
    assert_eq!(
        (stale.text().as_str(), stale.header("cache-control")),
        ("v1.0.0\n", "no-cache")
    );
    assert_eq!(stale.header("warning"), "");
    eventually("it is asked anew", async || {
        gate.get(list).await.text() == "v1.0.0\nv1.1.0\n"
    })
    .await;
    lab.stop().await;
    eventually("trouble is told", async || {
        let reply = gate.get(list).await;
        assert_eq!(reply.text(), "v1.0.0\nv1.1.0\n");
        reply.header("warning").starts_with("110 ")
    })
    .await;
    lab.restart().await;
    eventually("it is over", async || {
        gate.get(list).await.header("warning").is_empty()
    })
    .await;
}

/// A text with status 200 that is no list does not take the place of one.
#[tokio::test(flavor = "multi_thread")]
async fn stale_answers_have_an_end_if_one_is_set() {
    let lab = Lab::start().await;
    lab.add(at("v1.0.0"));
    let config = "[freshness]\nlist = \"0s\"\nstale_while_revalidate = \"0s\"\nstale_if_error = \"1s\"\n[negative]\ntrouble = \"0s\"\n";
    let gate = gate(&lab, "off", config).await;
    let list = "/lab.example/a/@v/list";
    assert_eq!(gate.get(list).await.status, 200);
    lab.stop().await;
    let stale = gate.get(list).await;
    assert!(stale.status == 200 && stale.header("warning").starts_with("110 "));
    eventually("its end has come", async || {
        gate.get(list).await.status == 502
    })
    .await;
}

/// The queue of mode `async` takes each thing once, and says when it is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_told_and_takes_nothing_twice() {
    let lab = Lab::start().await;
    let modules: Vec<Module> = (0..5).map(|n| module(&format!("m{n}"))).collect();
    for module in &modules {
        lab.add(module.clone());
    }
    let options = Options {
        upstream: Some(lab.url()),
        sumdb: Some("off".to_owned()),
        config: Some("mode = \"async\"\n[async]\nqueue = 2\nworkers = 1\n".to_owned()),
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    let held = lab.hold(".info");
    let answer = async |n: usize| {
        let reply = gate.get(&modules[n].url_path("info")).await;
        assert_eq!(reply.status, 404);
        code(&reply)
    };
    let ask = async |n: usize| assert_eq!(answer(n).await, "fetch_queued");
    ask(0).await;
    held.arrived(1).await;
    let full = "modgate_commits_total{result=\"async_queue_full\"}";
    for _ in 0..3 {
        ask(0).await;
        ask(1).await;
        ask(2).await;
    }
    assert!(gate.metric(full).await < 0.1, "each once");
    for n in [3, 4] {
        assert_eq!(answer(n).await, "not_cached", "it is not queued");
    }
    assert!((gate.metric(full).await - 2.0).abs() < 0.1);
    gate.logged("queue of background fetches is full", 1).await;
    held.release();
    eventually("the queued ones are kept", async || {
        let mut kept = true;
        for module in &modules[..3] {
            let path = format!("/cached-only{}", module.url_path("info"));
            kept &= gate.get(&path).await.status == 200;
        }
        kept
    })
    .await;
    assert_eq!(lab.count(".info"), 3);
}
