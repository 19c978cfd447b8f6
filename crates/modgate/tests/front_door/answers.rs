//! The form of answers: parts of zips, what other methods get, one log line each, metrics that Prometheus takes.

use std::io::Write as _;

use reqwest::Method;
use serde_json::Value;
use testkit::{fixture, gate::Modgate, lab::Lab};

use crate::common::{code, eventually, files, gate, module, verified_lab};

#[tokio::test(flavor = "multi_thread")]
async fn zips_come_in_parts() {
    let lab = Lab::start().await;
    let big = fixture::big("lab.example/big", "v1.0.0", 2);
    lab.add(big.clone());
    let gate = gate(&lab, "off", "").await;
    let (path, zip) = (big.url_path("zip"), big.zip());
    let tag = gate.head(&path).await.header("etag").to_owned();
    let len = zip.len();
    for (range, from, to) in [
        ("bytes=0-0".to_owned(), 0, 1),
        ("bytes=100-199".to_owned(), 100, 200),
        ("bytes=-10".to_owned(), len - 10, len),
        ("bytes=65536-".to_owned(), 65536, len),
        (format!("Bytes=1-{}", 2 * len), 1, len),
        (format!("bytes=-{}", 2 * len), 0, len),
    ] {
        for more in [None, Some(("if-range", tag.as_str()))] {
            let mut headers = vec![("range", range.as_str())];
            headers.extend(more);
            let part = gate.get_with(&path, &headers).await;
            assert_eq!(part.status, 206, "{range}");
            assert!(part.body == zip[from..to], "{range}");
            let told = format!("bytes {from}-{}/{len}", to - 1);
            assert_eq!(part.header("content-range"), told);
            assert_eq!(part.header("content-length"), (to - from).to_string());
            assert_eq!(part.header("etag"), tag);
        }
    }
    // What is no single range of bytes, or of another file, gets the whole.
    for (range, if_range) in [
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
        ("bytes=5-2", None),
        ("bytes=x-", None),
        ("bytes=0-1", Some("\"another\"".to_owned())),
        ("bytes=0-1", Some(format!("W/{tag}"))),
        (
            "bytes=0-1",
            Some("Thu, 26 Nov 2026 00:00:00 GMT".to_owned()),
        ),
        ("bytes=99999999-", Some("\"another\"".to_owned())),
    ] {
        let mut headers = vec![("range", range)];
        headers.extend(if_range.as_deref().map(|value| ("if-range", value)));
        let whole = gate.get_with(&path, &headers).await;
        assert_eq!((whole.status, whole.body.len()), (200, len), "{headers:?}");
        assert_eq!(whole.header("content-range"), "");
        assert_eq!(whole.header("accept-ranges"), "bytes");
    }
    let beyond = gate.get_with(&path, &[("range", "bytes=99999999-")]).await;
    let got = (beyond.status, code(&beyond));
    assert_eq!(got, (416, "range_not_satisfiable".to_owned()));
    assert_eq!(beyond.header("content-range"), format!("bytes */{len}"));
    let json = [
        ("accept", "application/problem+json"),
        ("range", "bytes=99999999-"),
    ];
    let beyond = gate.get_with(&path, &json).await;
    let beyond: Value = serde_json::from_slice(&beyond.body).unwrap();
    assert_eq!(beyond["error"], "range_not_satisfiable");
    // Of another file nothing, not even a part; the tag is compared strongly.
    let weak = format!("W/{tag}");
    for (condition, status) in [
        (&*tag, 206),
        ("*", 206),
        (&*format!("\"another\", {tag}"), 206),
        ("\"another\"", 412),
        (&*weak, 412),
    ] {
        let headers = [("if-match", condition), ("range", "bytes=0-9")];
        let reply = gate.get_with(&path, &headers).await;
        assert_eq!(reply.status, status, "{condition}");
        if status == 412 {
            assert_eq!(code(&reply), "precondition_failed", "{condition}");
        }
        let head = gate.ask(Method::HEAD, &path, &headers[..1]).await.unwrap();
        assert_eq!(head.status == 412, status == 412, "{condition}");
    }
    // Nothing here has a date, so that a condition on one is passed over.
    let date = ("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT");
    assert_eq!(gate.get_with(&path, &[date]).await.status, 200);
    for (condition, name, status) in [("*", "big", 200), (&*tag, "big", 412), (&*tag, "none", 404)]
    {
        let list = format!("/lab.example/{name}/@v/list");
        let reply = gate.get_with(&list, &[("if-match", condition)]).await;
        assert_eq!(reply.status, status, "{condition} {name}");
    }
    // Parts are for GET alone.
    let head = gate.ask(Method::HEAD, &path, &[("range", "bytes=0-1")]);
    let head = head.await.unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), len.to_string());
    assert_eq!(lab.count(".zip"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_are_told_which_there_are() {
    let lab = Lab::start().await;
    lab.add(module("a"));
    let gate = gate(&lab, "off", "").await;
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        for path in [&*module("a").url_path("zip"), "/healthz", "/nothing/here"] {
            let reply = gate.ask(method.clone(), path, &[]).await.unwrap();
            assert_eq!(reply.status, 405, "{method} {path}");
            assert_eq!(reply.header("allow"), "GET, HEAD");
            assert!(reply.text().contains("[modgate: method_not_allowed]"));
        }
    }
    assert_eq!(lab.requests().len(), 0);
}

/// The lines of requests, once there are so many of each kind: in the order of their times, as each
/// thread writes its own.
async fn lines(gate: &Modgate, kinds: &[(&str, usize)]) -> Vec<Value> {
    let mut logs = String::new();
    for (kind, count) in kinds {
        logs = gate.logged(&format!("\"kind\":\"{kind}\""), *count).await;
    }
    let lines = logs.lines().map(|line| serde_json::from_str(line).unwrap());
    let requests = lines.filter(|line: &Value| line["message"] == "request");
    let mut requests: Vec<Value> = requests.collect();
    requests.sort_by(|a, b| a["timestamp"].as_str().cmp(&b["timestamp"].as_str()));
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_one_line() {
    let lab = Lab::start().await;
    let big = fixture::big("lab.example/big", "v1.0.0", 2);
    lab.add(big.clone());
    lab.add(module("a"));
    let config = "[freshness]\nlist = \"0s\"\nstale_while_revalidate = \"0s\"\n";
    let gate = gate(&lab, "off", config).await;
    let (mod_file, list) = (module("a").url_path("mod"), "/lab.example/a/@v/list");
    // Two at once, one after the other, the same again, a list while upstream is there and when it is not, and a no.
    let held = lab.hold(".zip");
    let zip = gate.url() + &big.url_path("zip");
    let ask = || tokio::spawn(gate.client().get(&zip).send());
    let first = ask();
    held.arrived(1).await;
    let second = ask();
    // With the question itself they are three.
    eventually("it joins", async || {
        gate.metric("modgate_requests_in_flight").await > 2.5
    })
    .await;
    held.release();
    for reply in [first, second] {
        let body = reply.await.unwrap().unwrap().bytes().await.unwrap();
        assert!(body == big.zip());
    }
    assert_eq!(gate.get(&mod_file).await.status, 200);
    // It is kept a moment after it was sent; who asks before that joins the fetch.
    let kept = |file: &std::path::PathBuf| file.ends_with("a/@v/v1.0.0.mod");
    eventually("it is kept", async || {
        files(gate.data_dir()).iter().any(kept)
    })
    .await;
    assert_eq!(gate.get(list).await.status, 200);
    lab.stop().await;
    assert_eq!(gate.get(list).await.status, 200);
    assert_eq!(gate.get(&mod_file).await.status, 200);
    assert_eq!(gate.get("/lab.example/a/@v/v1.9.0.info").await.status, 502);

    let kinds = [("zip", 2), ("mod", 2), ("list", 2), ("info", 1)];
    let seen = lines(&gate, &kinds).await;
    let of = |kind: &str| -> Vec<&Value> {
        let lines = seen.iter().filter(|line| line["kind"] == kind);
        lines.collect()
    };
    let outcomes = |kind: &str| -> Vec<&str> {
        let lines = of(kind).into_iter();
        lines
            .map(|line| line["outcome"].as_str().unwrap())
            .collect()
    };
    let mut zips = outcomes("zip");
    zips.sort_unstable();
    assert_eq!(zips, ["coalesced", "miss"]);
    assert_eq!(outcomes("mod"), ["miss", "hit"]);
    // Perhaps within the same millisecond.
    let mut lists = outcomes("list");
    lists.sort_unstable();
    assert_eq!(lists, ["miss", "stale"]);
    assert_eq!(outcomes("info"), ["refused"]);
    let zip = of("zip")[0];
    assert_eq!(zip["module"], "lab.example/big");
    assert_eq!(zip["version"], "v1.0.0");
    assert_eq!(zip["status"], 200);
    assert_eq!(zip["bytes"], big.zip().len());
    assert_eq!(zip["client"], "127.0.0.1");
    assert!(zip["duration_us"].as_u64().unwrap() > 0);
    assert_eq!(zip["request_id"].as_str().unwrap().len(), 16);
    let asked = of("mod")[0]["upstream"].as_str().unwrap();
    assert!(
        lab.url().contains(asked) || asked.contains(&lab.url()),
        "{asked}"
    );
    assert_eq!(of("mod")[1]["upstream"], Value::Null, "nobody was asked");
    let no = of("info")[0];
    assert_eq!((&no["status"], no["code"].is_string()), (&502.into(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_those_of_prometheus_with_everything_in_use() {
    let modules: Vec<_> = (0..30).map(|at| module(&format!("m{at}"))).collect();
    let (lab, sumdb) = verified_lab(&modules).await;
    let gate = gate(&lab, &sumdb.key().to_string(), "").await;
    for module in &modules {
        assert_eq!(gate.get(&module.url_path("mod")).await.status, 200);
    }
    assert_eq!(gate.get("/lab.example/none/@v/list").await.status, 404);
    let page = gate.get("/metrics").await;
    for (name, least) in [
        ("modgate_sumdb_tree_size", 30.0),
        ("modgate_verifications_total{result=\"verified\"}", 30.0),
        ("modgate_upstream_first_byte_p95_seconds{", 0.000_001),
    ] {
        assert!(gate.metric(name).await >= least, "{name}:\n{}", page.text());
    }
    for never in [
        "modgate_incidents_total{result=\"moved_tag\"}",
        "modgate_verifications_total{result=\"mismatch\"}",
        "modgate_commits_total{result=\"failed\"}",
        "modgate_connections_cut_total{result=\"slow_head\"}",
        "modgate_config_reloads_total{result=\"refused\"}",
    ] {
        let line = format!("{never} 0");
        assert!(page.text().lines().any(|said| said == line), "{line}");
    }
    let mut lint = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("promtool is needed: install prometheus");
    lint.stdin.take().unwrap().write_all(&page.body).unwrap();
    let lint = lint.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&lint.stderr);
    assert!(lint.status.success(), "{told}");
}
