


#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_told_and_heals() {
    let lab = Lab::start().await;
    let limits = format!(
        "[upstream.\"{}\"]\nfirst_byte_timeout = \"400ms\"\nidle_timeout = \"400ms\"\nretries = 0\n",
        lab.url()
    );
    let gate = gate(&lab, "off", &limits).await;
    let faults = [
        (Fault::Status(404), 404, "version_not_found"),
        (Fault::Status(410), 410, "resource_gone"),
        (Fault::Status(403), 502, "upstream_refused"),
        (Fault::Status(500), 502, "upstream_unavailable"),
        (Fault::Status(503), 502, "upstream_unavailable"),
        (Fault::Reset, 502, "upstream_unavailable"),
        (Fault::Truncate, 502, "upstream_unavailable"),
        (Fault::StallMidBody, 502, "upstream_unavailable"),
        (Fault::Short, 502, "upstream_invalid"),
        (Fault::Corrupt, 502, "upstream_invalid"),
        (Fault::Html, 502, "upstream_invalid"),
        (Fault::RedirectLoop, 502, "upstream_unavailable"),
        (Fault::Hang, 504, "upstream_timeout"),
    ];
    for (n, (fault, status, code)) in faults.into_iter().enumerate() {
        let module = module(&format!("fault{n}"));
        lab.add(module.clone());
        let shown = format!("{fault:?}");
        lab.fault(&format!("fault{n}/"), fault, None);
        let reply = gate.get(&module.url_path("zip")).await;
        assert_eq!(reply.status, status, "{shown}: {}", reply.text());
        let first = reply.text().lines().next().unwrap_or_default().to_owned();
        assert!(
            first.ends_with(&format!("[modgate: {code}]")),
            "{shown}: {first}"
        );
        assert!(first.len() < 200);
        assert_eq!(kept_zips(gate.data_dir()), n, "{shown}");
        lab.heal();
        let healed = gate.get(&module.url_path("zip")).await;
        assert_eq!(
            (healed.status, healed.body.to_vec()),
            (200, module.zip()),
            "{shown}"
        );
        // It is kept a moment after it was answered: asked again by part, it comes from the disk.
        let part = gate
            .get_with(&module.url_path("zip"), &[("range", "bytes=0-9")])
            .await;
        assert_eq!((part.status, part.body.len()), (206, 10), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_content_never_passes() {
    let modules: Vec<_> = (0..4).map(|n| module(&format!("altered{n}"))).collect();
    let big = fixture::big("lab.example/altered", "v1.0.0", 3);
    let all: Vec<_> = modules.iter().cloned().chain([big.clone()]).collect();
    let (lab, sumdb) = verified_lab(&all).await;
    let gate = gate(&lab, &sumdb.key().to_string(), "").await;
    lab.fault(".zip", Fault::AlteredZip, None);
    lab.fault(".mod", Fault::AlteredMod, None);
    for module in &modules {
        for ending in ["zip", "mod"] {
            let reply = gate.get(&module.url_path(ending)).await;
            assert_eq!(reply.status, 502, "{}", reply.text());
            assert!(
                reply.text().contains("[modgate: checksum_mismatch]"),
                "{}",
                reply.text()
            );
        }
    }
    // A large one streams, and breaks off before its end.
    let streamed = gate
        .ask(reqwest::Method::GET, &big.url_path("zip"), &[])
        .await;
    assert!(
        streamed.is_err() || streamed.is_ok_and(|reply| reply.status != 200),
        "a short success"
    );
    assert_eq!(kept_zips(gate.data_dir()), 0);
    lab.heal();
    assert_eq!(
        gate.get(&big.url_path("zip")).await.body.to_vec(),
        big.zip()
    );
    assert!(
        gate.metric("modgate_verifications_total{result=\"mismatch\"}")
            .await
            >= 9.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_upstream_is_passed_over() {
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
    }
    let absent = gate.get("/lab.example/none/@v/v1.0.0.info").await;
    assert_eq!(
        absent.status,
        502,
        "an outage is no absence: {}",
        absent.text()
    );
}
