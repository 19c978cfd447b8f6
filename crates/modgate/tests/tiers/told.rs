//! What replicas tell each other besides what is kept: how upstreams fare, and that one took another configuration.

use std::time::Instant;

use testkit::{gate::Modgate, lab::Lab};

use crate::{
    common::{eventually, module},
    gate,
    replicas::Site,
};

/// Others are to know within 2 s, where the machine has time for it.
async fn known_soon(what: &str, so: impl AsyncFn() -> bool) {
    let told = Instant::now();
    eventually(what, so).await;
    eprintln!("{what} after {:?}", told.elapsed());
}

async fn breaker_is(gate: &Modgate, lab: &Lab, state: &str) -> bool {
    let name = lab.url();
    let sample = format!(
        "modgate_upstream_breaker_state{{upstream=\"{}\",state=\"{state}\"}}",
        name.trim_end_matches('/')
    );
    (gate.metric(&sample).await - 1.0).abs() < f64::EPSILON
}

/// One replica finds an upstream dead; the other, which nobody asks meanwhile, knows it before it asks.
async fn an_ill_upstream(storage: &str) {
    let site = Site::start().await;
    let second = Lab::start().await;
    for name in ["one", "two", "three"] {
        site.lab.add(module(name));
        second.add(module(name));
    }
    let chain = format!(
        "{storage}[[route]]\nmatch = [\"lab.example/*\"]\nchain = \"{}|{}\"\n",
        site.lab.url(),
        second.url()
    );
    let mut replicas = Vec::new();
    for _ in 0..2 {
        replicas.push(gate(&site.lab, &site.bucket, &chain, None).await);
    }
    let (finds, hears) = (&replicas[0], &replicas[1]);
    let known = hears.get(&module("one").url_path("mod")).await;
    assert_eq!(known.status, 200, "{}", known.text());
    assert!(breaker_is(hears, &site.lab, "closed").await);

    site.lab.stop().await;
    let found = finds.get(&module("two").url_path("mod")).await;
    assert_eq!(found.status, 200, "the next one has it: {}", found.text());
    known_soon("the other replica passes it over", async || {
        !breaker_is(hears, &site.lab, "closed").await
    })
    .await;
    let skipped = format!(
        "modgate_upstream_requests_total{{upstream=\"{}\",outcome=\"skipped\"}}",
        site.lab.url().trim_end_matches('/')
    );
    let before = hears.metric(&skipped).await;
    let three = hears.get(&module("three").url_path("mod")).await;
    assert_eq!(three.status, 200, "{}", three.text());
    assert!(hears.metric(&skipped).await > before, "it was asked");

    // A hint is no judgement: each finds by itself that it is back.
    site.lab.restart().await;
    for replica in &replicas {
        eventually("it is used again", async || {
            breaker_is(replica, &site.lab, "closed").await
        })
        .await;
    }
}

#[tokio::test]
async fn an_ill_upstream_is_known_to_all_by_postgres() {
    let site = Site::start().await;
    an_ill_upstream(&site.config("postgres")).await;
}

#[tokio::test]
async fn an_ill_upstream_is_known_to_all_by_redis() {
    let site = Site::start().await;
    an_ill_upstream(&site.own_records("redis")).await;
}

/// Nothing but the bucket is shared.
#[tokio::test]
async fn an_ill_upstream_is_known_to_all_by_the_bucket() {
    let site = Site::start().await;
    an_ill_upstream(&site.own_records("storage")).await;
}

async fn agrees(gate: &Modgate) -> bool {
    let ready = gate.get("/readyz").await.text();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let checks = ready["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "configuration");
    check.unwrap()["ok"].as_bool().unwrap()
}

#[tokio::test]
async fn a_replica_with_an_older_configuration_knows_it() {
    let site = Site::start().await;
    an_older_configuration(&site, &site.config("postgres")).await;
}

#[tokio::test]
async fn a_replica_with_an_older_configuration_knows_it_by_the_bucket() {
    let site = Site::start().await;
    an_older_configuration(&site, &site.own_records("storage")).await;
}

async fn an_older_configuration(site: &Site, config: &str) {
    let mut replicas = Vec::new();
    for _ in 0..2 {
        replicas.push(gate(&site.lab, &site.bucket, config, None).await);
    }
    for replica in &replicas {
        eventually("they are alike at first", async || agrees(replica).await).await;
    }
    let (first, second) = (&replicas[0], &replicas[1]);
    let newer = format!("private = [\"corp.example/*\"]\n{config}");
    first.rewrite_config(&newer);
    known_soon("the second is behind", async || !agrees(second).await).await;
    second
        .logged("another replica took a configuration that differs", 1)
        .await;
    assert!(agrees(first).await);
    for (replica, behind) in [(first, 0.0), (second, 1.0)] {
        let seen = replica.metric("modgate_config_behind").await;
        assert!((seen - behind).abs() < f64::EPSILON, "{seen}");
    }

    second.rewrite_config(&newer);
    for replica in &replicas {
        eventually("alike again", async || agrees(replica).await).await;
    }
    // Ports, folders and logs are each replica's own: they were alike with different ones.
    assert_ne!(first.addr(), second.addr());
}
