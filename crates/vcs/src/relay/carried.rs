//! A POST that is made for a program: by our own client, which checks certificates, addresses and redirects.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use egress::{Ask, Egress, EgressErrorKind, Post};
use reqwest::header::CONTENT_TYPE;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Rights, Wanted, line, refuse};

/// The one kind of request that is made: fossil's own.
const KIND: &str = "application/x-fossil";
/// Longest body of a request, in bytes: what a clone says that it has.
const MAX_BODY: usize = 64 << 20;
/// Longest wait for an answer, and for each piece of it. The program has a limit of its own.
const WITHIN: Duration = Duration::from_mins(10);

pub(super) async fn serve(
    stream: &mut TcpStream,
    egress: &Egress,
    wanted: &Wanted,
    rest: Vec<u8>,
    rights: Rights,
) -> io::Result<()> {
    let asked = match &wanted.plain {
        Some((method, headers)) if method == "POST" => length(headers),
        _ => None,
    };
    let Some(length) = asked else {
        return refuse(stream, "400 Bad Request", "only fossil is served here").await;
    };
    let Ok(body) = timeout(WITHIN, body(stream, rest, length)).await else {
        return Ok(());
    };
    let mut url = wanted.url.clone();
    if !rights.plain {
        // Only schemes that are the same to a URL are set, so this does not fail.
        let _ = url.set_scheme("https");
    }
    let ask = Ask {
        url,
        timeout: WITHIN,
        plain_http: rights.plain,
        credentials: false,
    };
    let post = Post {
        kind: KIND,
        headers: Vec::new(),
        body: body?,
    };
    let mut answer = match egress.post(ask, post, rights.inside).await {
        Ok(answer) => answer,
        Err(error) => {
            let status = match error.kind {
                EgressErrorKind::Refused => "403 Forbidden",
                _ => "502 Bad Gateway",
            };
            return refuse(stream, status, &error.text).await;
        }
    };
    let kind = answer.headers().get(CONTENT_TYPE).map(|kind| {
        let kind = String::from_utf8_lossy(kind.as_bytes());
        format!("Content-Type: {}\r\n", line(&kind))
    });
    let length = answer
        .length()
        .map(|length| format!("Content-Length: {length}\r\n"));
    let (status, kind) = (answer.status(), kind.unwrap_or_default());
    let length = length.unwrap_or_default();
    let head = format!("HTTP/1.1 {status} -\r\nConnection: close\r\n{kind}{length}\r\n");
    stream.write_all(head.as_bytes()).await?;
    // What breaks off is cut off here too.
    while let Ok(Some(chunk)) = answer.next_chunk().await {
        stream.write_all(&chunk).await?;
    }
    stream.shutdown().await
}

fn length(headers: &str) -> Option<usize> {
    let mut lines = headers.lines().filter_map(|line| line.split_once(':'));
    let (_, length) = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    length
        .trim()
        .parse()
        .ok()
        .filter(|length| *length <= MAX_BODY)
}

async fn body(stream: &mut TcpStream, begun: Vec<u8>, length: usize) -> io::Result<Bytes> {
    let mut body = BytesMut::from(&begun[..]);
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    body.truncate(length);
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use egress::{Credentials, NetworkSettings};
    use tokio::net::TcpListener;

    use super::super::{Relay, head};
    use super::*;

    /// What a program with these rights gets for a POST.
    async fn post(relay: &Relay, rights: Rights, url: &str) -> String {
        let proxy: reqwest::Url = relay.url(rights.carried()).parse().unwrap();
        let login = format!("{}:{}", proxy.username(), proxy.password().unwrap());
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        let login = STANDARD.encode(login);
        let ask = format!(
            "POST {url} HTTP/1.0\r\nProxy-Authorization: Basic {login}\r\nX-Own: 1\r\nContent-Length: 5\r\n\r\nhello"
        );
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        said
    }

    /// A server that answers a path with what is said of it, and tells what it was asked.
    async fn server(
        answers: Vec<(&'static str, String)>,
    ) -> (u16, Arc<std::sync::Mutex<Vec<String>>>) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                let (head, mut rest) = head(&mut stream).await.unwrap();
                while rest.len() < 5 {
                    stream.read_buf(&mut rest).await.unwrap();
                }
                let path = head.split(' ').nth(1).unwrap().to_owned();
                seen.lock()
                    .unwrap()
                    .push(format!("{head}{}", String::from_utf8_lossy(&rest)));
                let answer = answers.iter().find(|(known, _)| *known == path);
                let answer = answer.map_or("HTTP/1.1 404 x\r\n\r\n", |(_, answer)| answer);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (port, asked)
    }

    #[tokio::test]
    async fn redirects_are_followed_here_and_nowhere_else() {
        let (secret, asked_inside) = server(vec![]).await;
        let moved =
            |to: String| format!("HTTP/1.1 302 x\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        let good =
            "HTTP/1.1 200 x\r\nContent-Type: application/x-fossil\r\nContent-Length: 4\r\n\r\nsaid";
        let (port, asked) = server(vec![
            ("/there", good.to_owned()),
            ("/moved", moved("/there".to_owned())),
            ("/round", moved("/round".to_owned())),
            (
                "/inside",
                moved(format!("http://127.0.0.1:{secret}/latest/meta-data")),
            ),
            ("/corp", moved(format!("http://corp.example:{secret}/"))),
        ])
        .await;
        // Both names are inside to the guard; only one to the rights of the program.
        let lookup: egress::Lookup =
            Arc::new(|_| Box::pin(async { Ok(vec!["127.0.0.1".parse().unwrap()]) }));
        let network = NetworkSettings {
            internal_hosts: vec!["*.example".to_owned()],
            ..NetworkSettings::default()
        };
        let egress = Egress::with_lookup(network, Credentials::default(), lookup);
        let relay = Relay::start(egress).await.unwrap();
        let inside = Rights::new(true, true);
        let at = |path: &str| format!("http://fossil.example:{port}{path}");
        for path in ["/there", "/moved"] {
            let said = post(&relay, inside, &at(path)).await;
            assert!(
                said.starts_with("HTTP/1.1 200") && said.ends_with("\r\n\r\nsaid"),
                "{said}"
            );
            assert!(
                said.contains("Content-Type: application/x-fossil"),
                "{said}"
            );
        }
        let seen = asked.lock().unwrap().clone();
        assert_eq!(seen.len(), 3);
        for request in seen {
            assert!(
                request.starts_with("POST ") && request.ends_with("hello"),
                "{request}"
            );
            let lower = request.to_lowercase();
            assert!(
                lower.contains("content-type: application/x-fossil"),
                "{request}"
            );
            // The program is told its length, and so where it breaks off.
            assert!(lower.contains("accept-encoding: identity"), "{request}");
            assert!(
                !lower.contains("proxy-") && !lower.contains("x-own"),
                "{request}"
            );
        }
        for (path, rights, want) in [
            ("/inside", inside, "403"),
            ("/round", inside, "502"),
            ("/nothing", inside, "404"),
            ("/there", Rights::new(false, true), "403"),
            ("/there", Rights::new(true, false), "502"),
        ] {
            let said = post(&relay, rights, &at(path)).await;
            assert!(
                said.starts_with(&format!("HTTP/1.1 {want}")),
                "{path}: {said}"
            );
        }
        assert!(asked_inside.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn https_where_that_is_meant_and_no_host_inside_for_one_outside() {
        let forge = forge::Forge::start().await;
        let page = forge::Pages {
            body: "far".to_owned(),
            status: 200,
            below: false,
        };
        forge.page("golden.test/x", page);
        let network = NetworkSettings {
            proxy: Some(forge.proxy()),
            ca_pem: Some(forge.ca_pem().as_bytes().into()),
            internal_hosts: vec!["*.example".to_owned()],
            ..NetworkSettings::default()
        };
        let relay = Relay::start(Egress::new(network, Credentials::default()))
            .await
            .unwrap();
        let outside = Rights::new(false, false);
        let said = post(&relay, outside, "http://golden.test:443/x").await;
        assert!(
            said.starts_with("HTTP/1.1 200") && said.ends_with("far"),
            "{said}"
        );
        let said = post(&relay, outside, "http://git.example:443/x").await;
        assert!(said.starts_with("HTTP/1.1 403"), "{said}");
    }
}
