//! The walk along a chain, against scripted servers.

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::{Reply, Server, ask, get, internal, line, nowhere, quick, upstreams, with};
use egress::{Credential, Credentials, Hidden, Kind, Secret};
use upstream::{FailureKind, NetworkSettings, UpstreamSettings, Walk};

#[tokio::test]
async fn walk_table() {
    let ok = Server::always(Reply::Ok("file")).url();
    let absent = Server::always(Reply::Status(404));
    let gone = Server::always(Reply::Status(410));
    let error = Server::always(Reply::Status(500));
    let (a, g, e) = (absent.url(), gone.url(), error.url());
    let server = Server::always(Reply::Ok("file"));
    let _ = ok;
    let ok = server.url();
    let dead = format!("http://{}", nowhere());
    let table = [
        (format!("{a},{ok}"), "file"),
        (format!("{g}|{ok}"), "file"),
        (format!("{e},{ok}"), "Status: answered 500"),
        (format!("{e}|{ok}"), "file"),
        (format!("{dead},{ok}"), "file"),
        (format!("{dead},{a}"), "Connect: connection refused"),
        (format!("{a},{g}"), "absent gone=true"),
        (format!("{g},{a}"), "absent gone=false"),
        (format!("{a},off"), "absent gone=false"),
        (format!("{a},direct"), "direct "),
        (format!("{e},direct"), "Status: answered 500"),
        (format!("{e}|direct"), "direct answered 500"),
        (format!("{dead},direct"), "direct connection refused"),
        (format!("{e}|{a}"), "Status: answered 500"),
        ("off".to_owned(), "off"),
        ("direct".to_owned(), "direct "),
    ];
    for (chain, want) in table {
        // Fresh health for each: the breaker has its own tests.
        assert_eq!(line(&upstreams(quick()), &chain).await, want, "{chain}");
    }
}

#[tokio::test]
async fn statuses_are_mapped_and_headers_stay_home() {
    let refused = Server::always(Reply::Status(403));
    let other = Server::always(Reply::Ok("file"));
    let to = format!("{}/there", other.url());
    let redirects = Server::start(move |_, _| Reply::Redirect(to.clone()));
    let settings = UpstreamSettings {
        status_map: HashMap::from([(403, 404)]),
        headers: vec![("X-Token".to_owned(), "secret".to_owned())],
        ..quick()
    };
    let u = with(internal(), Credentials::default(), settings);
    let chain = format!("{},{}", refused.url(), redirects.url());
    assert_eq!(line(&u, &chain).await, "file");
    let home = redirects.heads.lock().unwrap()[0].to_lowercase();
    assert!(home.contains("x-token: secret") && home.contains("user-agent: modgate/"));
    assert!(home.contains("accept-encoding: identity"), "{home}");
    let away = other.heads.lock().unwrap()[0].to_lowercase();
    assert!(
        !away.contains("x-token") && away.starts_with("get /there "),
        "{away}"
    );
}

#[tokio::test]
async fn credentials_stay_home_and_refusals_name_them() {
    let other = Server::always(Reply::Ok("file"));
    let to = format!("{}/there", other.url());
    let redirects = Server::start(move |_, _| Reply::Redirect(to.clone()));
    let refused = Server::always(Reply::Status(401));
    let own = Server::always(Reply::Status(403));
    let for_host = |url: &str| Credential {
        matches: url.parse().unwrap(),
        kind: Kind::Basic {
            username: "ci".to_owned(),
            password: Secret::Plain(Hidden::new("s3cret")),
        },
    };
    let credentials = [&redirects, &refused, &own, &other].map(|server| for_host(&server.url()));
    let credentials = Credentials::new(credentials.to_vec());
    let u = with(internal(), credentials, quick());
    assert_eq!(line(&u, &redirects.url()).await, "file");
    let head = |server: &Server| server.heads.lock().unwrap()[0].to_lowercase();
    assert!(
        head(&redirects).contains("authorization: basic y2k6cznjcmv0"),
        "{}",
        head(&redirects)
    );
    assert!(!head(&other).contains("authorization"), "{}", head(&other));
    let named = line(&u, &refused.url()).await;
    let want = format!(
        "Status: answered 401 to the credential for {} (user ci)",
        refused.url()
    );
    assert_eq!(named, want);
    // An upstream's own userinfo goes before.
    let url = own.url().replace("http://", "http://me:mine@");
    let named = line(&u, &url).await;
    assert_eq!(named, "Status: answered 403 to the user in its URL");
    assert!(
        head(&own).contains("authorization: basic bwu6bwluzq=="),
        "{}",
        head(&own)
    );
}

#[tokio::test]
async fn redirects_do_not_lead_inside() {
    let inside = Server::always(Reply::Ok("secret"));
    let to = format!("{}/admin", inside.url());
    let redirects = Server::start(move |_, _| Reply::Redirect(to.clone()));
    let elsewhere = redirects.url().replace("127.0.0.1", "localhost");
    let got = line(&upstreams(quick()), &elsewhere).await;
    let want = "Broken: redirected, but 127.0.0.1 is not a public address";
    assert_eq!(got, want);
    assert_eq!(inside.hits(), 0);
    let listed = with(internal(), Credentials::default(), quick());
    assert_eq!(line(&listed, &elsewhere).await, "secret");
}

/// What fails behind a redirect is said of the host that it led to: the upstream is well.
#[tokio::test]
async fn what_fails_behind_a_redirect_is_named() {
    let refuses = Server::always(Reply::Status(403));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = nobody.local_addr().unwrap();
    drop(nobody);
    for (to, want) in [
        (
            refuses.addr,
            "Status: redirected to HOST, which answered 403",
        ),
        (dead, "Connect: redirected to HOST: connection refused"),
    ] {
        let signed = format!("http://{to}/a.zip?signature=s3cret");
        let redirects = Server::start(move |_, _| Reply::Redirect(signed.clone()));
        let got = line(&upstreams(quick()), &redirects.url()).await;
        assert_eq!(got, want.replace("HOST", &to.to_string()));
    }
}

/// What the administrator named may be inside: the upstream's own host, on another port too, and other upstreams.
#[tokio::test]
async fn redirects_lead_to_what_the_administrator_named() {
    let other = Server::always(Reply::Ok("file"));
    let to = format!("{}/there", other.url());
    let redirects = Server::start(move |_, _| Reply::Redirect(to.clone()));
    let settings = UpstreamSettings {
        headers: vec![("X-Token".to_owned(), "secret".to_owned())],
        ..quick()
    };
    let with_upstreams = |upstreams: Vec<String>| {
        let network = NetworkSettings {
            upstreams,
            ..NetworkSettings::default()
        };
        with(network, Credentials::default(), settings.clone())
    };
    let got = line(&with_upstreams(Vec::new()), &redirects.url()).await;
    assert_eq!(got, "file");
    let elsewhere = redirects.url().replace("127.0.0.1", "localhost");
    let upstream = with_upstreams(vec![other.addr.to_string()]);
    assert_eq!(line(&upstream, &elsewhere).await, "file");
    let other_port = with_upstreams(vec![redirects.addr.to_string()]);
    let got = line(&other_port, &elsewhere).await;
    assert!(got.starts_with("Broken: redirected"), "{got}");
    for head in other.heads.lock().unwrap().iter() {
        assert!(!head.to_lowercase().contains("x-token"), "{head}");
    }
}

/// What the next upstream sends, or why none does.
async fn next(walk: &mut Walk) -> String {
    match walk.next().await {
        Ok(fetched) => {
            let body = fetched.body.into_bytes(100).await.expect("it comes whole");
            String::from_utf8_lossy(&body).into_owned()
        }
        Err(failure) => match failure.kind {
            FailureKind::Trouble(trouble) => trouble.text,
            FailureKind::Direct { earlier } => {
                format!("direct, {}", earlier.map_or(String::new(), |t| t.text))
            }
            other => format!("{other:?}"),
        },
    }
}

#[tokio::test]
async fn bad_content_falls_after_a_pipe_alone() {
    let (a, b) = (
        Server::always(Reply::Ok("a")),
        Server::always(Reply::Ok("b")),
    );
    for (separator, goes_on, then) in [("|", true, "b"), (",", false, "not it")] {
        let u = upstreams(quick());
        let chain = format!("{}{separator}{}", a.url(), b.url());
        let mut walk = u.walk(&chain.parse().unwrap(), &ask());
        assert_eq!(next(&mut walk).await, "a");
        assert_eq!(walk.reject("not it", false), goes_on, "{separator}");
        assert_eq!(next(&mut walk).await, then, "{separator}");
        assert_eq!(
            line(&u, &chain).await,
            "b",
            "the other one is asked first now"
        );
    }
    let u = upstreams(quick());
    let mut walk = u.walk(&format!("{}|direct", a.url()).parse().unwrap(), &ask());
    assert_eq!(next(&mut walk).await, "a");
    assert!(walk.reject("not it", false));
    assert_eq!(next(&mut walk).await, "direct, not it");
    assert!(!walk.reject("nothing came", false));
}

#[tokio::test]
async fn proxies_on_the_way_are_named_and_a_loop_is_no_answer() {
    let looping = Server::always(Reply::Status(508));
    let absent = Server::always(Reply::Status(404));
    let network = NetworkSettings {
        via: "1.1 own".to_owned(),
        ..NetworkSettings::default()
    };
    let u = with(network, Credentials::default(), quick());
    let alone = looping.url();
    let others = u.by_way_of("1.1 edge, 1.1 region");
    assert_eq!(
        line(&others, &alone).await,
        "Loop: asks this gateway in its turn (508)"
    );
    let head = looping.heads.lock().unwrap()[0].to_lowercase();
    assert!(
        head.contains("via: 1.1 edge, 1.1 region, 1.1 own\r\n"),
        "{head}"
    );
    let chain = format!("{alone},{}", absent.url());
    let failure = get(&u, &chain).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Absent { gone: false });
    assert!(failure.looped);
    let head = looping.heads.lock().unwrap()[1].to_lowercase();
    assert!(head.contains("via: 1.1 own\r\n"), "{head}");
    assert!(u.snapshot().iter().all(|peer| peer.state == "closed"));
}

#[tokio::test]
async fn refusals_name_what_was_shown() {
    let refuses = Server::always(Reply::Status(403));
    let plain = upstreams(quick());
    let nobody = line(&plain, &refuses.url()).await;
    assert_eq!(nobody, "Status: answered 403 without a credential");
    for (header, want) in [
        ("Private-Token", "to the header private-token set for it"),
        ("Accept-Language", "without a credential"),
    ] {
        let settings = UpstreamSettings {
            headers: vec![(header.to_owned(), "s3cret".to_owned())],
            ..quick()
        };
        let named = line(&upstreams(settings), &refuses.url()).await;
        assert_eq!(named, format!("Status: answered 403 {want}"));
    }
}

#[tokio::test]
async fn redirect_loops_end() {
    let server = Server::always(Reply::Redirect("/again".to_owned()));
    let got = line(&upstreams(quick()), &server.url()).await;
    assert_eq!(got, "Broken: more than 10 redirects");
    assert_eq!(server.hits(), 11);
}

#[tokio::test]
async fn faults_of_a_single_upstream() {
    let hang = Server::always(Reply::Hang);
    let begin = Instant::now();
    let got = line(&upstreams(quick()), &hang.url()).await;
    assert_eq!(got, "Timeout: no answer within 0.5 s");
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(hang.hits(), 1, "never repeated after a time-out");

    let begin = Instant::now();
    let dead = format!("http://{}", nowhere());
    assert_eq!(
        line(&upstreams(quick()), &dead).await,
        "Connect: connection refused"
    );
    assert!(
        begin.elapsed() < Duration::from_millis(500),
        "it is known at once"
    );

    let short = Server::always(Reply::Short);
    let got = line(&upstreams(quick()), &short.url()).await;
    assert_eq!(got, "body: the body broke off: 4 of 10 bytes came");
    let stall = Server::always(Reply::Stall);
    let got = line(&upstreams(quick()), &stall.url()).await;
    assert_eq!(got, "body: the body stalled for 0.3 s");

    let reset = Server::always(Reply::Reset);
    let got = line(&upstreams(quick()), &reset.url()).await;
    assert_eq!(got, "Connect: connection reset before an answer");
    assert!(reset.hits() >= 2, "repeated");
}

#[tokio::test]
async fn repeats_only_when_nobody_else_is_left() {
    let flaky = || {
        Server::start(|n, _| {
            if n == 0 {
                Reply::Status(503)
            } else {
                Reply::Ok("file")
            }
        })
    };
    let alone = flaky();
    assert_eq!(line(&upstreams(quick()), &alone.url()).await, "file");
    assert_eq!(alone.hits(), 2);
    let (first, other) = (flaky(), Server::always(Reply::Ok("other")));
    let chain = format!("{}|{}", first.url(), other.url());
    assert_eq!(line(&upstreams(quick()), &chain).await, "other");
    assert_eq!(first.hits(), 1);
    let no = Server::always(Reply::Status(500));
    assert_eq!(
        line(&upstreams(quick()), &no.url()).await,
        "Status: answered 500"
    );
    assert_eq!(no.hits(), 1, "500 is not repeated");
}

#[tokio::test]
async fn marked_content_is_asked_elsewhere_first() {
    let (a, b) = (
        Server::always(Reply::Ok("a")),
        Server::always(Reply::Ok("b")),
    );
    let u = upstreams(quick());
    let chain = format!("{},{}", a.url(), b.url());
    assert_eq!(line(&u, &chain).await, "a");
    u.mark_bad(&a.url(), &ask().path);
    assert_eq!(line(&u, &chain).await, "b");
    assert_eq!(
        line(&u, &a.url()).await,
        "a",
        "asked again if there is no other"
    );
    let snapshot = u.snapshot();
    let bad = snapshot.iter().find(|s| *s.name == *a.url()).unwrap();
    assert!(bad.outcomes.contains(&("bad_content", 1)));
}

#[tokio::test]
async fn a_slow_upstream_is_hedged() {
    let slow = Server::start(|n, _| {
        if n < 20 {
            Reply::Ok("slow")
        } else {
            Reply::Slow(Duration::from_secs(5), "slow")
        }
    });
    let other = Server::always(Reply::Ok("other"));
    let settings = UpstreamSettings {
        first_byte_timeout: Duration::from_secs(10),
        ..quick()
    };
    let u = upstreams(settings);
    let chain = format!("{},{}", slow.url(), other.url());
    for _ in 0..20 {
        assert_eq!(line(&u, &chain).await, "slow");
    }
    let begin = Instant::now();
    assert_eq!(line(&u, &chain).await, "other");
    assert!(begin.elapsed() < Duration::from_secs(3));
    assert_eq!(other.hits(), 1);
}

#[tokio::test]
async fn concurrency_is_limited_and_a_body_holds_its_place() {
    let server = Server::always(Reply::Ok("file"));
    let u = upstreams(UpstreamSettings {
        max_concurrent: 1,
        ..quick()
    });
    let chain = server.url().parse().unwrap();
    let held = u.fetch(&chain, &ask()).await.unwrap();
    assert_eq!(u.snapshot()[0].in_flight, 1);
    let got = line(&u, &server.url()).await;
    assert_eq!(got, "Overloaded: all 1 places for requests to it are taken");
    drop(held);
    assert_eq!(line(&u, &server.url()).await, "file");
}

/// A loser of a hedge tells of its upstream all the same: it is dead, and the next request does not wait for it.
#[tokio::test]
async fn the_loser_of_a_hedge_is_heard() {
    let dead = Server::start(|n, _| if n < 20 { Reply::Ok("a") } else { Reply::Hang });
    let other = Server::always(Reply::Ok("b"));
    let u = upstreams(UpstreamSettings {
        connect_timeout: Duration::from_secs(2),
        first_byte_timeout: Duration::from_secs(10),
        ..quick()
    });
    let chain = format!("{},{}", dead.url(), other.url());
    for _ in 0..20 {
        assert_eq!(line(&u, &chain).await, "a");
    }
    let begin = Instant::now();
    assert_eq!(line(&u, &chain).await, "b");
    assert!(begin.elapsed() < Duration::from_secs(2), "the p95 counts");
    let state = || {
        let all = u.snapshot();
        all.iter()
            .find(|peer| *peer.name == *dead.url())
            .unwrap()
            .state
    };
    while state() == "closed" {
        assert!(begin.elapsed() < Duration::from_secs(20), "it is not heard");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begin = Instant::now();
    assert_eq!(line(&u, &chain).await, "b");
    assert!(begin.elapsed() < Duration::from_secs(1));
}

/// Without samples, and for what is better asked of one, an upstream that is silent costs the connect limit.
#[tokio::test]
async fn silence_costs_the_connect_limit() {
    let silent = Server::always(Reply::Hang);
    let other = Server::always(Reply::Ok("other"));
    let limits = || UpstreamSettings {
        connect_timeout: Duration::from_millis(300),
        first_byte_timeout: Duration::from_secs(10),
        ..quick()
    };
    let chain = format!("{},{}", silent.url(), other.url());
    for hedge in [true, false] {
        let u = upstreams(limits());
        let once = upstream::Ask { hedge, ..ask() };
        let begin = Instant::now();
        let got = u.fetch(&chain.parse().unwrap(), &once).await.unwrap();
        assert_eq!(*got.upstream, *other.url());
        let took = begin.elapsed();
        let limit = Duration::from_millis(300);
        assert!(took >= limit && took < limit * 15, "{took:?}");
    }
    let u = upstreams(UpstreamSettings {
        hedge: false,
        first_byte_timeout: Duration::from_millis(900),
        ..limits()
    });
    let begin = Instant::now();
    assert_eq!(line(&u, &chain).await, "other");
    assert!(begin.elapsed() >= Duration::from_millis(900), "hedged");
}

/// A mapped status is told with what it is read as: the owner of an upstream looks for a 403 in its logs, not for a 404.
#[tokio::test]
async fn a_mapped_status_is_told_as_answered() {
    let refused = Server::always(Reply::Status(403));
    let busy = Server::always(Reply::Status(429));
    let settings = UpstreamSettings {
        status_map: HashMap::from([(403, 404), (429, 503)]),
        ..quick()
    };
    let u = with(internal(), Credentials::default(), settings);
    let chain = format!("{},{}", refused.url(), busy.url());
    let failure = get(&u, &chain).await.unwrap_err();
    let told: Vec<&str> = failure.attempts.iter().map(|one| &*one.outcome).collect();
    assert_eq!(
        told,
        ["answered 403, read as 404", "answered 429, read as 503"]
    );
}
