//! A gateway's life: start, reload, drain.

use std::time::{Duration, Instant};

use testkit::{
    fixture,
    gate::{Modgate, Options},
    lab::{Fault, Lab},
    tls::{Certificate, Pem},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::common::{self, bin, eventually, files, gate, kept_zips, module};

/// A connection that stays open between requests.
struct KeptAlive(TcpStream);

impl KeptAlive {
    async fn to(gate: &Modgate) -> KeptAlive {
        KeptAlive(TcpStream::connect(gate.addr()).await.unwrap())
    }

    /// Asks for a short answer and gives its head.
    async fn get(&mut self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut reply = Vec::new();
        loop {
            let read = self.0.read_buf(&mut reply).await.unwrap();
            assert!(read > 0, "closed: {}", String::from_utf8_lossy(&reply));
            let text = String::from_utf8_lossy(&reply).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            if length.is_none_or(|length: usize| body.len() >= length) {
                return head.to_owned();
            }
        }
    }
}

/// A configuration in a file alone, so that it can change.
fn in_file(chain: &str, more: &str) -> String {
    format!("chain = \"{chain}\"\n{more}\n[sumdb]\nname = \"off\"\n")
}

async fn with_config(config: String) -> Modgate {
    let options = Options {
        config: Some(config),
        ..Options::default()
    };
    Modgate::start(bin(), options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_a_download_finish() {
    let lab = Lab::start().await;
    let (big, left) = (
        fixture::big("lab.example/big", "v1.0.0", 2),
        fixture::big("lab.example/left", "v1.0.0", 2),
    );
    lab.add(big.clone());
    lab.add(left.clone());
    let mut gate = gate(&lab, "off", "").await;
    let mut idle = KeptAlive::to(&gate).await;
    assert!(idle.get("/healthz").await.starts_with("HTTP/1.1 200"));
    // Lists are of versions whose go.mod is there.
    assert_eq!(gate.get(&big.url_path("mod")).await.status, 200);
    let half = lab.hold_mid_body(".zip");
    let url = |module: &fixture::Module| format!("{}{}", gate.url(), module.url_path("zip"));
    let mut going = gate.client().get(url(&big)).send().await.unwrap();
    let first = going.chunk().await.unwrap().unwrap();
    // Nobody waits for this one any more when the end comes.
    drop(gate.client().get(url(&left)).send().await.unwrap());
    half.arrived(2).await;

    gate.begin_to_end();
    gate.logged("told to stop", 1).await;
    let refused = async || {
        let error = TcpStream::connect(gate.addr()).await.err();
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    eventually("new connections are refused", refused).await;
    assert_eq!(idle.0.read(&mut [0; 64]).await.unwrap(), 0, "it stays open");
    half.release();
    let mut body = first.to_vec();
    while let Some(block) = going.chunk().await.unwrap() {
        body.extend(block);
    }
    assert!(body == big.zip());
    assert!(gate.ended().await.success());
    assert_eq!(kept_zips(gate.data_dir()), 2);
    assert!(files(&gate.data_dir().join("tmp")).is_empty());
    let lists = files(&gate.data_dir().join("go"));
    assert!(lists.iter().any(|file| file.ends_with("big/@v/list")));
}

/// A balancer is told on new connections too, and what it still sends is served.
#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_has_time_to_go_elsewhere() {
    let lab = Lab::start().await;
    lab.add(module("a"));
    let config = "[limits]\ndrain_delay = \"3s\"\n";
    let mut gate = gate(&lab, "off", config).await;
    assert_eq!(gate.get("/readyz").await.status, 200);
    let begin = Instant::now();
    gate.begin_to_end();
    gate.logged("not ready any more", 1).await;
    let mut fresh = KeptAlive::to(&gate).await;
    let head = fresh.get("/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    let mut fresh = KeptAlive::to(&gate).await;
    let head = fresh.get(&module("a").url_path("zip")).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(gate.ended().await.success());
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(3), "{took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// What does not end is cut off: a client that does not read, an upstream that dribbles, one that is silent.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_waits_for_no_longer_than_the_drain_limit() {
    for fault in [Fault::Drip, Fault::Hang, Fault::StallMidBody] {
        let lab = Lab::start().await;
        let big = fixture::big("lab.example/big", "v1.0.0", 2);
        lab.add(big.clone());
        let config = format!(
            "[limits]\ndrain_timeout = \"1s\"\n\
             [upstream.\"{}\"]\nfirst_byte_timeout = \"1m\"\nidle_timeout = \"1m\"\n",
            lab.url()
        );
        let mut gate = gate(&lab, "off", &config).await;
        lab.fault(".zip", fault.clone(), None);
        let (client, url) = (gate.client(), gate.url() + &big.url_path("zip"));
        let going = tokio::spawn(async move { client.get(url).send().await?.bytes().await });
        eventually("it is asked", async || lab.count(".zip") == 1).await;
        let begin = Instant::now();
        assert!(gate.terminate().await.success(), "{}", gate.logs());
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(10), "{fault:?}: {took:?}");
        assert!(going.await.unwrap().is_err(), "a short success");
        assert_eq!(kept_zips(gate.data_dir()), 0);
    }
}

/// Whoever reads the log may stand still; what is logged then is dropped and counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_up_nothing() {
    let lab = Lab::start().await;
    for name in ["a", "b", "c"] {
        lab.add(module(name));
    }
    lab.fault("/b/@v/v1.0.0.zip", Fault::Corrupt, None);
    let folder = tempfile::tempdir().unwrap();
    let mut server = tokio::process::Command::from(common::command())
        .args(["serve", "--listen", "127.0.0.1:0", "--sumdb", "off"])
        .args(["--upstream", &lab.url(), "--data"])
        .arg(folder.path())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening on") && !line.contains("\"listening\"") {
        line.clear();
        assert!(log.read_line(&mut line).await.unwrap() > 0, "it ended");
    }
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let url = format!("http://{}", line["listening"].as_str().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: String| {
        let request = client.get(format!("{url}{path}"));
        let reply = request.timeout(Duration::from_secs(10)).send().await;
        reply.unwrap().status().as_u16()
    };
    // More than a pipe holds.
    for _ in 0..1000 {
        assert_eq!(get(module("a").url_path("info")).await, 200);
    }
    // One that is logged as a warning, and one that is fetched after it.
    assert_eq!(get(module("b").url_path("zip")).await, 502);
    assert_eq!(get(module("c").url_path("zip")).await, 200);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(server.id().unwrap().try_into().unwrap()).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), server.wait()).await;
    assert!(ended.expect("it does not end").unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_configuration_is_taken_without_dropping_a_connection() {
    let (one, two) = (Lab::start().await, Lab::start().await);
    let big = fixture::big("lab.example/big", "v1.0.0", 2);
    one.add(big.clone());
    one.add(module("a"));
    two.add(module("b"));
    let gate = with_config(in_file(&one.url(), "")).await;
    let mut kept_alive = KeptAlive::to(&gate).await;
    let mut info = async |name: &str| kept_alive.get(&module(name).url_path("info")).await;
    assert!(info("a").await.starts_with("HTTP/1.1 200"));
    let half = one.hold_mid_body(".zip");
    let url = gate.url() + &big.url_path("zip");
    let going = gate.client().get(url).send().await.unwrap();
    half.arrived(1).await;

    // By the file alone.
    gate.rewrite_config(&in_file(&two.url(), ""));
    gate.logged("configuration read again", 1).await;
    assert!(info("b").await.starts_with("HTTP/1.1 200"));
    assert_eq!((one.count("/b/"), two.count("/b/")), (0, 1));

    // A bad one is told with its line, and the old one stays.
    gate.rewrite_config("chain = \"off\"\n\nprivat = [\"x\"]\n");
    let logs = gate.logged("is refused, the old one stays", 1).await;
    assert!(
        logs.contains("modgate.toml:3") && logs.contains("private"),
        "{logs}"
    );
    two.add(module("c"));
    assert!(info("c").await.starts_with("HTTP/1.1 200"));
    gate.hang_up();
    gate.logged("is refused, the old one stays", 2).await;

    // By the signal.
    gate.rewrite_config(&in_file(&one.url(), ""));
    gate.logged("configuration read again", 2).await;
    gate.hang_up();
    gate.logged("configuration read again", 3).await;
    let reloads = |result: &str| format!("modgate_config_reloads_total{{result=\"{result}\"}}");
    assert!((gate.metric(&reloads("taken")).await - 3.0).abs() < 0.1);
    assert!((gate.metric(&reloads("refused")).await - 2.0).abs() < 0.1);

    half.release();
    assert!(going.bytes().await.unwrap() == big.zip());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_the_next_start_is_said() {
    let gate = with_config(in_file("off", "")).await;
    for (n, more) in ["[cache]\nmemory = \"1MiB\"\n", ""].iter().enumerate() {
        gate.rewrite_config(&in_file("off", more));
        gate.logged("configuration read again", n + 1).await;
    }
    // It is as it was: nothing waits.
    let logs = gate.logged("takes effect at the next start", 1).await;
    let said = logs.matches("takes effect at the next start").count();
    assert_eq!(said, 1, "{logs}");
}

/// As when a `ConfigMap` comes before the `Secret` that it names.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_configuration_is_tried_again_when_the_file_it_lacks_is_there() {
    let lab = Lab::start().await;
    let gate = with_config(in_file(&lab.url(), "")).await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    let headers = format!(
        "[upstream.\"{}\"]\nheaders = {{ X-Key = {{ file = \"{}\" }} }}\n",
        lab.url(),
        secret.display()
    );
    gate.rewrite_config(&in_file(&lab.url(), &headers));
    gate.logged("is refused, the old one stays", 1).await;
    // Longer than the looks that need no notice are apart: nothing changed.
    tokio::time::sleep(Duration::from_secs(6)).await;
    std::fs::write(&secret, "one\n").unwrap();
    let logs = gate.logged("configuration read again", 1).await;
    assert_eq!(logs.matches("is refused").count(), 1, "{logs}");
}

/// A `ConfigMap` of Kubernetes: the file is a link into a folder that is a link, and the latter changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_behind_links_is_taken() {
    let lab = Lab::start().await;
    lab.add(module("a"));
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, at(name)).unwrap();
    for (version, chain) in [("..1", "off"), ("..2", &lab.url())] {
        std::fs::create_dir(at(version)).unwrap();
        let file = at(version).join("modgate.toml");
        std::fs::write(file, in_file(chain, "")).unwrap();
    }
    link("..1", "..data");
    link("..data/modgate.toml", "modgate.toml");
    let file = at("modgate.toml").to_str().unwrap().to_owned();
    let options = Options {
        env: vec![("MODGATE_CONFIG".to_owned(), file)],
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    let info = module("a").url_path("info");
    assert_eq!(gate.get(&info).await.status, 403);
    link("..2", "..new");
    std::fs::rename(at("..new"), at("..data")).unwrap();
    gate.logged("configuration read again", 1).await;
    eventually("it is asked there", async || {
        gate.get(&info).await.status == 200
    })
    .await;
}

/// Settings that are not marked *restart* hold at once.
#[tokio::test(flavor = "multi_thread")]
async fn limits_logs_and_metrics_change_while_it_runs() {
    let lab = Lab::start().await;
    let big = fixture::big("lab.example/big", "v1.0.0", 2);
    lab.add(big.clone());
    let mut gate = with_config(in_file(&lab.url(), "")).await;
    let long = format!("/{}/@v/list", "a".repeat(300));
    assert_eq!(gate.get(&long).await.status, 404);
    gate.logged("\"message\":\"request\"", 1).await;
    assert_eq!(gate.get("/metrics").await.status, 200);
    gate.logged("/metrics", 1).await;
    let tighter = "[limits]\nmax_path_bytes = \"256B\"\ndrain_timeout = \"100ms\"\n\
                   [metrics]\nenabled = false\n[log]\naccess = false\n";
    gate.rewrite_config(&in_file(&lab.url(), tighter));
    let logs = gate.logged("configuration read again", 1).await;
    assert!(!logs.contains("at the next start"), "{logs}");
    assert_eq!(gate.get(&long).await.status, 414);
    assert_eq!(gate.get("/metrics").await.status, 404);
    let _held = lab.hold_mid_body(".zip");
    let url = gate.url() + &big.url_path("zip");
    let _going = gate.client().get(url).send().await.unwrap();
    let begin = Instant::now();
    assert!(gate.terminate().await.success());
    assert!(begin.elapsed() < Duration::from_secs(10));
    let request = "\"message\":\"request\"";
    assert_eq!(
        gate.logs().matches(request).count(),
        logs.matches(request).count()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_without_dropping_a_connection() {
    let (old, new) = (Pem::new(Certificate::Good), Pem::new(Certificate::Good));
    let options = Options {
        config: Some(in_file("off", "")),
        tls: Some(old.clone()),
        ..Options::default()
    };
    let gate = Modgate::start(bin(), options).await;
    let trusting = |pem: &Pem| {
        let ca = reqwest::Certificate::from_pem(pem.ca.as_bytes()).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]);
        client.build().unwrap()
    };
    let plain = gate.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let plain = String::from_utf8_lossy(&plain);
    assert!(plain.starts_with("HTTP/1.1 400 "), "{plain}");
    assert!(plain.contains("this port speaks https"), "{plain}");
    // Over HTTP/2, where the address stands elsewhere than in HTTP/1.1.
    let greeting = trusting(&old).get(gate.url()).send().await.unwrap();
    assert_eq!(greeting.version(), reqwest::Version::HTTP_2);
    let greeting = greeting.text().await.unwrap();
    let use_it = format!("GOPROXY={}\n", gate.url());
    assert!(greeting.contains(&use_it), "{greeting}");
    let url = gate.url() + "/healthz";
    let connected = trusting(&old);
    assert!(connected.get(&url).send().await.is_ok());
    gate.rewrite_tls(&new);
    eventually("the new one is shown", async || {
        trusting(&new).get(&url).send().await.is_ok()
    })
    .await;
    assert!(trusting(&old).get(&url).send().await.is_err());
    let metrics = trusting(&new).get(gate.url() + "/metrics").send().await;
    let metrics = metrics.unwrap().text().await.unwrap();
    let end = "\nmodgate_tls_certificate_end_seconds 67090118400\n";
    assert!(metrics.contains(end), "{metrics}");
    assert!(connected.get(&url).send().await.is_ok(), "it was dropped");

    // A broken pair is told, and the one before stays, with all the rest of the configuration.
    for (times, cert, told) in [
        (1, "no certificate", "no certificate in PEM form"),
        (2, &old.cert, "not that of the certificate"),
    ] {
        gate.rewrite_config(&in_file("direct", ""));
        gate.rewrite_tls(&Pem {
            cert: cert.to_owned(),
            ..new.clone()
        });
        gate.logged(told, 1).await;
        let logs = gate.logged("is refused, the old one stays", times).await;
        assert_eq!(
            logs.matches("configuration read again").count(),
            1,
            "{logs}"
        );
        assert!(trusting(&new).get(&url).send().await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_mistakes_tells_all_of_them() {
    let config = "chian = \"off\"\nlisten = \"nowhere\"\n\n[limits]\nidle_timeout = 5\n\
                  [tls]\ncert = \"/nonexistent.pem\"\n[[route]]\nmatch = [\"x.example\"]\nmode = \"sink\"\n";
    let options = Options {
        config: Some(config.to_owned()),
        ..Options::default()
    };
    let begin = Instant::now();
    let failed = Modgate::try_start(bin(), options).await.unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(failed.status.is_some_and(|status| status.code() == Some(1)));
    let logs = failed.logs;
    for (line, told) in [
        (1, "chian"),
        (1, "`chain`"),
        (5, "idle_timeout"),
        (5, "\"5s\""),
        (7, "cert"),
        (10, "sink"),
    ] {
        assert!(
            logs.contains(&format!("modgate.toml:{line}")) && logs.contains(told),
            "{line}: {told}:\n{logs}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_owner_of_a_folder_is_told_of_the_first() {
    let lab = Lab::start().await;
    lab.add(module("a"));
    let gate = gate(&lab, "off", "").await;
    let options = Options {
        upstream: Some("off".to_owned()),
        sumdb: Some("off".to_owned()),
        data: Some(gate.data_dir().to_owned()),
        ..Options::default()
    };
    let second = Modgate::try_start(bin(), options).await.unwrap_err();
    assert!(second.status.is_some_and(|status| status.code() == Some(1)));
    let told = format!("in use by another modgate (process {})", gate.pid());
    assert!(second.logs.contains(&told), "{}", second.logs);
    assert!(second.logs.contains("--data"), "{}", second.logs);
    assert_eq!(gate.get(&module("a").url_path("zip")).await.status, 200);
}
