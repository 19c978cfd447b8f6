//! Each fault of the lab, as a plain HTTP client sees it, and the lab's holds and ports.

use std::time::Duration;

use testkit::fixture::{self, Module};
use testkit::lab::{DarkPort, Fault, Lab};

/// Long enough for an answer on one machine, and short enough to wait for one that must not come.
const SOON: Duration = Duration::from_millis(500);

async fn lab() -> (Lab, Module, reqwest::Client) {
    let lab = Lab::start().await;
    let module = fixture::big("lab.example/m", "v1.0.0", 1);
    lab.add(module.clone());
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client can be made");
    (lab, module, client)
}

#[tokio::test]
async fn bodies_break_off_stall_or_change() {
    let (lab, module, client) = lab().await;
    let url = lab.url() + &module.url_path("zip");
    let right = module.zip();
    for fault in [
        Fault::Truncate,
        Fault::ResetMidBody,
        Fault::CutNoLength,
        Fault::StallMidBody,
        Fault::Short,
        Fault::Corrupt,
        Fault::AlteredZip,
        Fault::NoLength,
    ] {
        lab.fault(".zip", fault.clone(), Some(1));
        let mut reply = client.get(&url).send().await.expect("a head comes");
        let length = reply.content_length();
        let mut got = Vec::new();
        let end = loop {
            match tokio::time::timeout(SOON, reply.chunk()).await {
                Ok(Ok(Some(chunk))) => got.extend(chunk),
                Ok(Ok(None)) => break "over",
                Ok(Err(_)) => break "cut",
                Err(_) => break "stalled",
            }
        };
        let whole = Some(right.len() as u64);
        let half = right.len() / 2;
        match fault {
            Fault::Truncate => assert_eq!((end, got.len(), length), ("cut", half, whole)),
            // A reset may overtake what was sent before it.
            Fault::ResetMidBody => assert!(end == "cut" && got.len() <= half && length == whole),
            Fault::CutNoLength => assert_eq!((end, got.len(), length), ("cut", half, None)),
            Fault::StallMidBody => assert_eq!((end, got.len(), length), ("stalled", half, whole)),
            Fault::Short => assert_eq!((end, length), ("over", Some(half as u64))),
            Fault::Corrupt => {
                let differ = got.iter().zip(&right).filter(|(a, b)| a != b).count();
                assert_eq!((end, got.len(), differ), ("over", right.len(), 1));
            }
            Fault::AlteredZip => assert!(end == "over" && got.len() > right.len()),
            _ => {
                assert_eq!((end, length), ("over", None));
                assert!(got == right, "{fault:?}");
            }
        }
    }
    let healed = client.get(&url).send().await.expect("an answer comes");
    assert!(healed.bytes().await.expect("a body comes") == right);
}

#[tokio::test]
async fn reset_is_no_orderly_close() {
    let (lab, module, client) = lab().await;
    lab.fault(".info", Fault::Reset, None);
    let error = client
        .get(lab.url() + &module.url_path("info"))
        .send()
        .await
        .expect_err("the connection is reset");
    assert!(
        format!("{error:?}").contains("ConnectionReset"),
        "{error:?}"
    );
}

#[tokio::test]
async fn held_requests_go_on_when_released() {
    let (lab, module, client) = lab().await;
    let hold = lab.hold(".mod");
    let url = lab.url() + &module.url_path("mod");
    let asked = [client.get(&url).send(), client.get(&url).send()].map(tokio::spawn);
    hold.arrived(2).await;
    assert!(asked.iter().all(|request| !request.is_finished()));
    assert_eq!(lab.count(".mod"), 2);
    hold.release();
    for request in asked {
        let reply = request.await.expect("no panic").expect("an answer comes");
        assert_eq!(reply.status(), 200);
    }
}

#[tokio::test]
async fn held_bodies_stop_halfway_and_go_on_when_released() {
    let (lab, module, client) = lab().await;
    let hold = lab.hold_mid_body(".zip");
    let url = lab.url() + &module.url_path("zip");
    let mut reply = client.get(&url).send().await.expect("a head comes");
    let right = module.zip();
    let mut got = Vec::new();
    while got.len() < right.len() / 2 {
        got.extend(reply.chunk().await.expect("a half comes").expect("a piece"));
    }
    hold.arrived(1).await;
    assert!(tokio::time::timeout(SOON, reply.chunk()).await.is_err());
    hold.release();
    while let Some(piece) = reply.chunk().await.expect("the rest comes") {
        got.extend(piece);
    }
    assert!(got == right);
}

#[tokio::test]
async fn dark_port_neither_accepts_nor_refuses() {
    let (lab, module, client) = lab().await;
    let url = lab.url() + &module.url_path("info");
    lab.stop().await;
    let dark = DarkPort::at(lab.addr()).await;
    assert!(
        tokio::time::timeout(SOON, client.get(&url).send())
            .await
            .is_err()
    );
    drop(dark);
    lab.restart().await;
    let reply = client.get(&url).send().await.expect("an answer comes");
    assert_eq!(reply.status(), 200);
}

#[tokio::test]
async fn redirects_lead_to_the_same_path_elsewhere() {
    let (lab, module, client) = lab().await;
    let elsewhere = Lab::start().await;
    elsewhere.add(module.clone());
    lab.fault("", Fault::RedirectBelow(elsewhere.url()), None);
    let reply = client.get(lab.url() + &module.url_path("info"));
    let reply = reply.send().await.expect("an answer comes");
    assert_eq!(
        (reply.status().as_u16(), elsewhere.count(".info")),
        (200, 1)
    );
}

#[tokio::test]
async fn stopped_lab_refuses_and_comes_back_on_its_port() {
    let (lab, module, client) = lab().await;
    let url = lab.url() + &module.url_path("info");
    lab.stop().await;
    let error = client.get(&url).send().await.expect_err("nobody listens");
    assert!(error.is_connect(), "{error:?}");
    lab.restart().await;
    let reply = client.get(&url).send().await.expect("an answer comes");
    assert_eq!(reply.status(), 200);
}

#[tokio::test]
async fn drip_and_latency_are_slow_and_right() {
    let (lab, module, client) = lab().await;
    let url = lab.url() + &module.url_path("info");
    for fault in [Fault::Drip, Fault::Latency(Duration::from_millis(100))] {
        lab.fault(".info", fault.clone(), Some(1));
        let start = tokio::time::Instant::now();
        let reply = client.get(&url).send().await.expect("an answer comes");
        let body = reply.bytes().await.expect("a body comes");
        assert_eq!(body, module.info(), "{fault:?}");
        assert!(start.elapsed() >= Duration::from_millis(100), "{fault:?}");
    }
}

#[tokio::test]
async fn removed_versions_and_folders_above_are_not_found() {
    let (lab, module, client) = lab().await;
    lab.remove(module.path(), module.version());
    lab.serve_folder(env!("CARGO_MANIFEST_DIR"));
    for (path, status) in [
        (module.url_path("info").as_str(), 404),
        ("/lab.example/m/@latest", 404),
        ("/lab.example/m/@v/list", 200),
        ("/Cargo.toml", 200),
        ("/src/%2e%2e%2fCargo.toml", 404),
    ] {
        let reply = client
            .get(lab.url() + path)
            .send()
            .await
            .expect("an answer");
        assert_eq!(reply.status(), status, "{path}");
    }
}
