//! What a stranger names: only public addresses, however they come about.

mod common;

use std::time::Duration;

use common::{Server, ask, basic, credentials, get, internal, names, ok, to};
use egress::{Credentials, Egress, EgressErrorKind, NetworkSettings};

#[tokio::test]
async fn addresses_inside_are_refused_in_every_form() {
    let inside = Server::start(None, |_| ok("inside")).await;
    let port = inside.port();
    let lookup = names(&[
        ("evil.example", &["127.0.0.1"]),
        ("mapped.example", &["::ffff:127.0.0.1"]),
        ("meta.example", &["169.254.169.254"]),
        ("localhost", &["127.0.0.1"]),
        // Public when asked first, inside when asked again.
        ("rebind.example", &["203.0.114.1", "127.0.0.1"]),
    ]);
    let egress = Egress::with_lookup(NetworkSettings::default(), Credentials::default(), lookup);
    for host in [
        "127.0.0.1",
        "0x7f.1",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "localhost",
        "evil.example",
        "EVIL.example",
        "mapped.example",
        "meta.example",
    ] {
        let got = get(&egress, &format!("http://{host}:{port}/")).await;
        assert!(got.starts_with("Refused: "), "{host}: {got}");
    }
    let pin = async |url: &str| egress.pin(&url.parse().unwrap()).await;
    assert!(pin("ssh://git@evil.example/x").await.is_err());
    assert!(pin("ssh://git@[::1]/x").await.is_err());
    // The name is asked once for the connection, and the answer that was checked is the one connected to: the second
    // answer is met by its own check.
    let pinned = pin("https://rebind.example/x").await.unwrap();
    assert_eq!(pinned, Some(vec!["203.0.114.1".parse().unwrap()]));
    let got = get(&egress, &format!("http://rebind.example:{port}/")).await;
    assert!(
        got.starts_with("Refused: rebind.example has the address 127.0.0.1"),
        "{got}"
    );
    assert_eq!(inside.count(), 0);
}

#[tokio::test]
async fn listed_hosts_may_be_inside_and_redirects_are_checked_again() {
    let inside = Server::start(None, |_| ok("inside")).await;
    let secret = Server::start(None, |_| ok("secret")).await;
    let (a, b) = (inside.port(), secret.port());
    let hop = Server::start(None, move |head| {
        let to_there = if head.starts_with("GET /literal") {
            format!("http://127.0.0.1:{b}/")
        } else if head.starts_with("GET /name") {
            format!("http://evil.example:{b}/")
        } else if head.starts_with("GET /loop") {
            "/loop".to_owned()
        } else if head.starts_with("GET /file") {
            "file:///etc/passwd".to_owned()
        } else {
            format!("http://user:pw@git.corp.example:{a}/")
        };
        to(&to_there)
    })
    .await;
    let lookup = names(&[
        ("git.corp.example", &["127.0.0.1"]),
        ("hop.corp.example", &["127.0.0.1"]),
        ("evil.example", &["127.0.0.1"]),
    ]);
    let listed = internal(&["*.corp.example"]);
    let egress = Egress::with_lookup(listed, Credentials::default(), lookup);
    let hop = format!("http://hop.corp.example:{}", hop.port());
    assert_eq!(get(&egress, &format!("{hop}/fine")).await, "inside");
    let before = inside.count();
    let stays = egress.open_here(ask(&format!("{hop}/fine")), None).await;
    assert!(stays.is_err(), "a redirect is not followed");
    assert_eq!(inside.count(), before, "nobody else is asked");
    assert!(!inside.head().to_lowercase().contains("authorization"));
    for (path, want) in [
        ("literal", "Refused: 127.0.0.1 is not a public address"),
        ("name", "Refused: evil.example has the address 127.0.0.1"),
        ("loop", "Broken: more than 10 redirects"),
        (
            "file",
            "Refused: redirected to something other than http or https",
        ),
    ] {
        let got = get(&egress, &format!("{hop}/{path}")).await;
        assert!(got.starts_with(want), "{path}: {got}");
    }
    assert_eq!(secret.count(), 0);

    // A port in the list counts.
    let lookup = names(&[("git.corp.example", &["127.0.0.1"])]);
    let listed = internal(&[&format!("git.corp.example:{a}")]);
    let egress = Egress::with_lookup(listed, Credentials::default(), lookup);
    assert_eq!(
        get(&egress, &format!("http://git.corp.example:{a}/")).await,
        "inside"
    );
    let other = get(&egress, &format!("http://git.corp.example:{b}/")).await;
    assert!(other.starts_with("Refused"), "{other}");
}

#[tokio::test]
async fn plain_http_is_asked_only_where_allowed() {
    let server = Server::start(None, |_| ok("plain")).await;
    let egress = Egress::new(internal(&["127.0.0.1"]), Credentials::default());
    let mut plain = ask(&format!("http://{}/", server.addr));
    plain.plain_http = false;
    let error = egress.get_guarded(plain, 100).await.unwrap_err();
    assert_eq!(error.kind, EgressErrorKind::Refused);
    for url in ["ftp://127.0.0.1/", "file:///etc/passwd"] {
        let error = egress.get_guarded(ask(url), 100).await.unwrap_err();
        assert_eq!(error.kind, EgressErrorKind::Refused, "{url}");
    }
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn bodies_and_waits_are_bounded() {
    let large = Server::start(None, |_| ok(&"x".repeat(5000))).await;
    let egress = Egress::new(internal(&["127.0.0.1"]), Credentials::default());
    let page = egress
        .get_guarded(ask(&format!("http://{}/", large.addr)), 1000)
        .await
        .unwrap();
    assert!(page.cut);
    assert_eq!((page.status, page.body.len()), (200, 1000));

    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut slow = ask(&format!("http://{}/", silent.local_addr().unwrap()));
    slow.timeout = Duration::from_millis(200);
    let error = egress.get_guarded(slow, 1000).await.unwrap_err();
    assert_eq!(error.kind, EgressErrorKind::Timeout);
    assert_eq!(error.text, "no answer within 0.2 s");
}

#[tokio::test]
async fn a_credential_stays_with_its_origin() {
    let other = Server::start(None, |_| ok("other")).await;
    let port = other.port();
    let first = Server::start(None, move |head| {
        if head.starts_with("GET /same") {
            to("/here")
        } else if head.starts_with("GET /here") {
            ok("here")
        } else {
            to(&format!("http://localhost:{port}/"))
        }
    })
    .await;
    let all = credentials(vec![
        basic("http://127.0.0.1:1", "no", "no"),
        basic(&format!("http://{}", first.addr), "ci", "s3cret"),
        basic(&format!("http://localhost:{port}"), "other", "other"),
    ]);
    let egress = Egress::new(internal(&["127.0.0.1", "localhost"]), all);
    let base = format!("http://{}", first.addr);
    let page = egress
        .get_guarded(ask(&format!("{base}/same")), 100)
        .await
        .unwrap();
    assert_eq!(&page.body[..], b"here");
    assert!(
        first.head().contains("authorization: Basic Y2k6czNjcmV0"),
        "{}",
        first.head()
    );
    let name = page.credential.unwrap();
    assert_eq!(name, format!("the credential for {base} (user ci)"));

    let page = egress
        .get_guarded(ask(&format!("{base}/away")), 100)
        .await
        .unwrap();
    assert_eq!(&page.body[..], b"other");
    assert_eq!(page.credential, None);
    assert!(
        !other.head().to_lowercase().contains("authorization"),
        "{}",
        other.head()
    );

    let mut without = ask(&format!("{base}/here"));
    without.credentials = false;
    egress.get_guarded(without, 100).await.unwrap();
    assert!(!first.head().to_lowercase().contains("authorization"));
}
