//! The breaker at work, what an upstream in trouble asks for, and TLS.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Reply, Server, get, line, listen, nowhere, quick, upstreams, with};
use egress::Credentials;
use tokio_rustls::TlsAcceptor;
use upstream::{Failure, FailureKind, NetworkSettings, UpstreamSettings};

#[tokio::test]
async fn a_dead_upstream_is_passed_over_and_comes_back_within_five_seconds() {
    let addr = nowhere();
    let spare = Server::always(Reply::Ok("spare"));
    let u = upstreams(quick());
    let chain = format!("http://{addr},{}", spare.url());
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        assert_eq!(line(&u, &chain).await, "spare");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let open = u.open_to_clients(&chain.parse().unwrap()).await;
    assert_eq!(open.unwrap().to_string(), spare.url());
    let _first = Server::start_at(addr, |_, _| Reply::Ok("first"));
    let back = Instant::now();
    while line(&u, &chain).await != "first" {
        assert!(back.elapsed() < Duration::from_secs(20), "not back in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Nobody asks while it is away, and the first who does afterwards finds it in use again.
#[tokio::test]
async fn an_upstream_comes_back_without_traffic() {
    let addr = nowhere();
    let spare = Server::always(Reply::Ok("spare"));
    let u = upstreams(quick());
    let chain = format!("http://{addr},{}", spare.url());
    assert_eq!(line(&u, &chain).await, "spare");
    let first = Server::start_at(addr, |_, _| Reply::Ok("first"));
    let back = Instant::now();
    while u.snapshot().iter().any(|peer| peer.state != "closed") {
        assert!(back.elapsed() < Duration::from_secs(20), "not back in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(first.hits(), 1, "one probe");
    assert_eq!(line(&u, &chain).await, "first");
    assert_eq!(spare.hits(), 1);
}

#[tokio::test]
async fn health_outlives_a_change_of_the_configuration() {
    let dead = format!("http://{}", nowhere());
    let spare = Server::always(Reply::Ok("spare"));
    let chain = format!("{dead}|{}", spare.url());
    let before = upstreams(quick());
    assert_eq!(line(&before, &chain).await, "spare");
    before.mark_bad(&spare.url(), "/other");
    let connects = |u: &upstream::Upstreams| {
        let all = u.snapshot();
        let peer = all.iter().find(|peer| *peer.name == *dead).unwrap();
        let count = peer.outcomes.iter().find(|(name, _)| *name == "connect");
        (peer.state == "closed", count.unwrap().1)
    };
    let count = connects(&before).1;
    assert!(count >= 1);

    // By way of one more in which nobody asks.
    let between = upstreams(quick());
    between.inherit(&before);
    let after = upstreams(quick());
    after.inherit(&between);
    let skips = spare.hits();
    assert_eq!(line(&after, &chain).await, "spare");
    assert_eq!(spare.hits(), skips + 1);
    let (closed, now) = connects(&after);
    assert!(!closed && now >= count, "it is known to be dead");

    let other = UpstreamSettings {
        retries: 0,
        ..quick()
    };
    let changed = upstreams(other);
    changed.inherit(&after);
    assert_eq!(line(&changed, &chain).await, "spare");
    assert!(connects(&changed).1 > now, "asked anew, counted on");
}

#[tokio::test]
async fn the_last_hope_is_asked_at_once() {
    let addr = nowhere();
    let u = upstreams(quick());
    let url = format!("http://{addr}");
    assert_eq!(line(&u, &url).await, "Connect: connection refused");
    assert_eq!(u.snapshot()[0].state, "open");
    assert!(u.open_to_clients(&url.parse().unwrap()).await.is_none());
    let absent = Server::always(Reply::Status(404));
    let _back = Server::start_at(addr, |_, _| Reply::Ok("back"));
    // Put off behind the other entry, and asked all the same before the answer is "absent".
    assert_eq!(line(&u, &format!("{url},{}", absent.url())).await, "back");
    let open = u.open_to_clients(&url.parse().unwrap()).await;
    assert_eq!(open.unwrap().to_string(), url);
}

/// One file that an upstream needs long for takes nobody else's away.
#[tokio::test]
async fn a_slow_file_is_no_dead_upstream() {
    let server = Server::start(|_, path| match path {
        "/slow" => Reply::Hang,
        _ => Reply::Ok("fast"),
    });
    let u = upstreams(quick());
    let chain = server.url();
    let slow = upstream::Ask {
        path: "/slow".to_owned(),
        hedge: false,
    };
    for _ in 0..3 {
        let parsed = chain.parse().unwrap();
        let waiting = u.fetch(&parsed, &slow);
        tokio::pin!(waiting);
        // It is asked, and others are while it waits.
        let answered = tokio::select! {
            _ = &mut waiting => panic!("it hangs"),
            answered = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                line(&u, &chain).await
            } => answered,
        };
        assert_eq!(answered, "fast");
        waiting.await.unwrap_err();
        assert_eq!(u.snapshot()[0].state, "closed");
    }
    // Alone it is all that is known of it.
    u.fetch(&chain.parse().unwrap(), &slow).await.unwrap_err();
    assert_eq!(u.snapshot()[0].state, "open");
}

#[tokio::test]
async fn one_probe_at_a_time_for_a_single_upstream() {
    let hang = Server::always(Reply::Hang);
    // So that the second gives up well before the probe of the first is over.
    let u = upstreams(UpstreamSettings {
        connect_timeout: Duration::from_millis(200),
        ..quick()
    });
    let url = hang.url();
    assert!(line(&u, &url).await.starts_with("Timeout"));
    let (a, b) = tokio::join!(line(&u, &url), line(&u, &url));
    assert!(a.starts_with("Timeout"), "{a}");
    assert!(b.starts_with("BreakerOpen"), "{b}");
}

/// A kept connection may be closed just as a request goes out on it: no reason to leave an upstream that is well for
/// the next one, which may not have the file.
#[tokio::test]
async fn a_lost_connection_is_tried_once_more_before_the_next_upstream() {
    let other = Server::always(Reply::Status(404));
    let first = Server::start(|n, _| match n {
        0 => Reply::Reset,
        _ => Reply::Ok("file"),
    });
    let chain = format!("{},{}", first.url(), other.url());
    assert_eq!(line(&upstreams(quick()), &chain).await, "file");
    assert_eq!((first.hits(), other.hits()), (2, 0));

    let (dead, other) = (
        Server::always(Reply::Reset),
        Server::always(Reply::Ok("other")),
    );
    let chain = format!("{},{}", dead.url(), other.url());
    assert_eq!(line(&upstreams(quick()), &chain).await, "other");
    assert_eq!(dead.hits(), 2);
    let mut settings = quick();
    settings.retries = 0;
    assert_eq!(line(&upstreams(settings), &chain).await, "other");
    assert_eq!(dead.hits(), 3);
}

#[tokio::test]
async fn broken_bodies_open_the_breaker() {
    let short = Server::always(Reply::Short);
    let u = upstreams(quick());
    for _ in 0..5 {
        assert!(line(&u, &short.url()).await.starts_with("body:"));
    }
    assert_eq!(u.snapshot()[0].state, "open");
}

#[tokio::test]
async fn certificates_are_checked_and_own_roots_trusted() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = listen("127.0.0.1:0".parse().unwrap());
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let Ok(mut tls) = acceptor.accept(stream).await else {
                    return;
                };
                let mut head = [0; 4096];
                let _ = tls.read(&mut head).await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfile";
                let _ = tls.write_all(answer).await;
                let _ = tls.shutdown().await;
            });
        }
    });
    let url = format!("https://localhost:{port}");
    let mut settings = quick();
    settings.connect_timeout = Duration::from_secs(3);
    settings.first_byte_timeout = Duration::from_secs(5);
    let got = line(&upstreams(settings.clone()), &url).await;
    assert!(got.starts_with("Connect: x509: certificate"), "{got}");

    let network = NetworkSettings {
        ca_pem: Some(made.cert.pem().into_bytes()),
        ..NetworkSettings::default()
    };
    let u = with(network, Credentials::default(), settings);
    assert_eq!(line(&u, &url).await, "file");
    let by_address = line(&u, &format!("https://127.0.0.1:{port}")).await;
    assert!(
        by_address.starts_with("Connect: x509: certificate is not valid for"),
        "{by_address}"
    );
}

/// Only whoever the failure blames is waited for, and only where it says that it is asked too much or in trouble.
#[tokio::test]
async fn what_is_blamed_says_when_to_come_back() {
    let wait = |failure: Failure| match failure.kind {
        FailureKind::Trouble(trouble) => trouble.retry_after,
        other => panic!("{other:?}"),
    };
    let busy = Server::always(Reply::Later(429, "7"));
    let ill = Server::always(Reply::Later(503, "100000"));
    let refusing = Server::always(Reply::Later(403, "7"));
    let plain = Server::always(Reply::Status(500));
    let u = upstreams(quick());
    for (chain, want) in [
        (busy.url(), Some(7)),
        (ill.url(), Some(600)),
        (refusing.url(), None),
        (plain.url(), None),
        (format!("{}|{}", busy.url(), plain.url()), None),
        (format!("{}|{}", plain.url(), busy.url()), Some(7)),
    ] {
        let got = wait(get(&u, &chain).await.unwrap_err());
        assert_eq!(got, want.map(Duration::from_secs), "{chain}");
    }
}

/// Its user and password are in no metric, and no two series have the same name.
#[tokio::test]
async fn upstreams_that_differ_by_their_password_alone_are_shown_as_one() {
    let server = Server::start(|n, _| match n {
        0 => Reply::Ok("file"),
        _ => Reply::Reset,
    });
    let u = upstreams(quick());
    let with = |user: &str| server.url().replace("://", &format!("://{user}:secret@"));
    assert_eq!(line(&u, &with("a")).await, "file");
    for _ in 0..9 {
        line(&u, &with("b")).await;
    }
    let all = u.snapshot();
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].state, "open", "the worse of the two");
    assert!(all[0].outcomes.contains(&("ok", 1)), "{all:?}");
}
