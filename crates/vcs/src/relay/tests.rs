use egress::{Ask, Credentials, NetworkSettings};

use super::*;

/// What comes of a URL asked by a relay that knows its own names.
async fn get(proxy: &str, url: &str) -> String {
    let network = NetworkSettings {
        proxy: Some(proxy.to_owned()),
        internal_hosts: vec!["*.example".to_owned(), "127.0.0.1".to_owned()],
        ..NetworkSettings::default()
    };
    let ask = Ask {
        url: url.parse().unwrap(),
        timeout: Duration::from_secs(10),
        plain_http: true,
        credentials: false,
    };
    match Egress::new(network, Credentials::default())
        .get_guarded(ask, 1000)
        .await
    {
        Ok(page) => format!("{} {}", page.status, String::from_utf8_lossy(&page.body)),
        Err(error) => error.text,
    }
}

/// The first line of the answer to a request.
async fn first_line(relay: &Relay, request: &str) -> String {
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    let pair = STANDARD.encode(format!("{}:{}", USERS[0].0, relay.password));
    let ask = format!("{request} HTTP/1.1\r\nProxy-Authorization: Basic {pair}\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let (answer, _) = head(&mut stream).await.unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn only_checked_addresses_and_only_with_the_password() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let mut heads = Vec::new();
        while let Ok((mut stream, _)) = server.accept().await {
            let (head, _) = head(&mut stream).await.unwrap();
            heads.push(head.clone());
            refuse(&mut stream, "200 OK", "hello").await.unwrap();
            if head.contains("last") {
                break;
            }
        }
        heads
    });
    let lookup: egress::Lookup =
        Arc::new(|_| Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) }));
    let network = NetworkSettings {
        internal_hosts: vec!["git.example".to_owned()],
        ..NetworkSettings::default()
    };
    let relay = Relay::start(Egress::with_lookup(network, Credentials::default(), lookup))
        .await
        .unwrap();
    let proxy = relay.url(Rights::new(true, true));
    assert!(!format!("{relay:?}").contains(&relay.password));
    assert_eq!(
        get(&proxy, &format!("http://git.example:{port}/a?b")).await,
        "200 hello"
    );
    let evil = get(&proxy, &format!("http://evil.example:{port}/a")).await;
    assert_eq!(
        evil,
        "403 evil.example has the address 127.0.0.1, which is not public"
    );
    let literal = get(&proxy, &format!("http://127.0.0.1:{port}/a")).await;
    assert!(literal.starts_with("403"), "{literal}");
    let tunnel = get(&proxy, "https://evil.example/").await;
    assert!(tunnel.contains("the proxy gave no connection"), "{tunnel}");
    // What a repository outside leads to is not inside, and one of https leads to nothing without it.
    let outside = relay.url(Rights::new(false, true));
    let inside = get(&outside, &format!("http://git.example:{port}/a")).await;
    assert_eq!(
        inside,
        "403 git.example is a host inside, and was named by one outside"
    );
    let strict = relay.url(Rights::new(true, false));
    let plain = get(&strict, &format!("http://git.example:{port}/a")).await;
    assert!(
        plain.starts_with("403 git.example is not asked over http"),
        "{plain}"
    );
    let stranger = proxy.replace(&relay.password, "guess");
    assert!(
        get(&stranger, &format!("http://git.example:{port}/a"))
            .await
            .starts_with("407")
    );
    assert_eq!(
        get(&proxy, &format!("http://git.example:{port}/last")).await,
        "200 hello"
    );
    let heads = served.await.unwrap();
    assert_eq!(heads.len(), 2);
    assert!(
        heads[0].starts_with("GET /a?b HTTP/1.1\r\n"),
        "{}",
        heads[0]
    );
    assert!(!heads[0].to_lowercase().contains("proxy-"), "{}", heads[0]);
}

#[tokio::test]
async fn onward_by_the_proxy_that_is_set() {
    let forge = forge::Forge::start().await;
    let page = forge::Pages {
        body: "far".to_owned(),
        status: 200,
        below: false,
    };
    forge.page("golden.test/x", page);
    let login = forge::Forge::PROXY_LOGIN;
    let user = format!("{}:{}", login.user, login.secret);
    let guarded = forge.guarded_proxy().replace("http://", "");
    let start = async |proxy: String| {
        let network = NetworkSettings {
            proxy: Some(proxy),
            internal_hosts: vec!["*.example".to_owned()],
            ..NetworkSettings::default()
        };
        Relay::start(Egress::new(network, Credentials::default()))
            .await
            .unwrap()
    };
    for proxy in [
        format!("http://{user}@{guarded}"),
        format!("socks5://{user}@{}", forge.socks()),
    ] {
        let relay = start(proxy.clone()).await;
        let outside = relay.url(Rights::new(false, true));
        assert_eq!(
            get(&outside, "http://golden.test/x").await,
            "200 far",
            "{proxy}"
        );
        for inside in ["http://127.0.0.1/x", "http://git.example/x"] {
            let refused = get(&outside, inside).await;
            assert!(refused.starts_with("403"), "{proxy} {inside}: {refused}");
        }
        let answer = first_line(&relay, "CONNECT golden.test:443").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{proxy}: {answer}");
    }
    let login = "502 the forward proxy wants another user or password";
    let nobody = "502 nobody listens at the address of the forward proxy";
    for (proxy, want) in [
        (format!("http://{guarded}"), login),
        (format!("http://x:guess@{guarded}"), login),
        (format!("socks5://x:guess@{}", forge.socks()), login),
        ("socks5://127.0.0.1:9".to_owned(), nobody),
        ("http://127.0.0.1:9".to_owned(), nobody),
        (
            format!("https://{guarded}"),
            "502 a forward proxy over https cannot be used",
        ),
    ] {
        let relay = start(proxy.clone()).await;
        let outside = relay.url(Rights::new(false, true));
        let refused = get(&outside, "http://golden.test/x").await;
        assert!(refused.starts_with(want), "{proxy}: {refused}");
        // The programs tell their users the status alone.
        let tunnel = first_line(&relay, "CONNECT golden.test:443").await;
        let why = want.trim_start_matches("502 ");
        let status = format!("HTTP/1.1 502 Bad Gateway: {why}");
        assert!(tunnel.starts_with(&status), "{proxy}: {tunnel}");
    }
}

#[test]
fn what_is_no_request_for_a_proxy() {
    for bad in [
        "",
        "GET / HTTP/1.1\r\n\r\n",
        "GET https://h/ HTTP/1.1\r\n\r\n",
        "GET file:///etc HTTP/1.1\r\n\r\n",
        "CONNECT\r\n\r\n",
        "CONNECT : HTTP/1.1\r\n\r\n",
    ] {
        assert!(wanted(bad).is_none(), "{bad}");
    }
    let tunnel = wanted("CONNECT h.example:8443 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(tunnel.url.as_str(), "https://h.example:8443/");
}
