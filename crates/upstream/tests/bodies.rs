//! The bodies of answers, from scripted servers.

mod common;

use common::{Reply, Server, ask, get, line, quick, upstreams};

#[tokio::test]
async fn bodies_are_limited() {
    let server = Server::always(Reply::Ok("0123456789"));
    let u = upstreams(quick());
    let fetched = u
        .fetch(&server.url().parse().unwrap(), &ask())
        .await
        .unwrap();
    assert_eq!(fetched.length, Some(10));
    let e = fetched.body.into_bytes(9).await.unwrap_err();
    assert_eq!(e, upstream::BodyError::TooLarge(9));
    assert!(get(&u, &server.url()).await.unwrap().is_ok());
}

/// Some proxies code what nobody asked them to.
#[tokio::test]
async fn gzip_is_undone_and_other_codings_are_refused() {
    const FILE: &[u8] =
        b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\x4b\xcb\xcc\x49\x05\0\x10\x36\x9f\x8c\x04\0\0\0";
    let refused = "Content: answered in the coding `br`, which was not asked for";
    for (coding, body, want) in [
        ("gzip", FILE, "file"),
        (
            "gzip",
            &FILE[..16],
            "body: the body broke off: the connection was lost after 4 bytes",
        ),
        (
            "gzip",
            b"file",
            "body: the body broke off: what came after 0 bytes cannot be decoded",
        ),
        ("Identity", b"file", "file"),
        ("br", b"file", refused),
    ] {
        let coded = Server::always(Reply::Coded(coding, body));
        assert_eq!(line(&upstreams(quick()), &coded.url()).await, want);
        let head = coded.heads.lock().unwrap()[0].to_ascii_lowercase();
        assert!(head.contains("accept-encoding: identity"), "{head}");
    }
}
