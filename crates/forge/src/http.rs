//! One connection of the forge: pages, and git's smart protocol by `git http-backend`.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::history::quiet_git;
use crate::site::{Fault, Found, Site};

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Serves a connection to its end. An error is a client that went away, or a fault that was asked for.
pub(crate) async fn serve<S>(stream: S, scheme: &'static str, site: Arc<Site>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(answer(scheme, &site, request).await) }
    });
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Answers one request, by the host and path it names.
pub(crate) async fn answer(
    scheme: &str,
    site: &Site,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let host = head
        .uri
        .host()
        .map(str::to_owned)
        .or_else(|| {
            let host = head.headers.get(HOST)?.to_str().ok()?;
            Some(host.split(':').next()?.to_owned())
        })
        .unwrap_or_default();
    let address = format!("{host}{}", head.uri.path());
    let query = head.uri.query().unwrap_or_default().to_owned();
    let given = credentials(&head.headers);
    let whose = given.as_deref().unwrap_or("nobody");
    site.record(format!(
        "{} {scheme}://{address}?{query} by {whose}",
        head.method
    ));
    let (login, fault) = site.rules(&address);
    if login.is_some() && login != given {
        let mut answer = text(StatusCode::UNAUTHORIZED, "who are you?\n");
        let basic = "Basic realm=\"forge\"".parse().expect("plain");
        answer.headers_mut().insert(WWW_AUTHENTICATE, basic);
        return answer;
    }
    let found = site.find(&address);
    let pack = address.ends_with("/git-upload-pack");
    match fault {
        Some((_, Fault::Stall)) => std::future::pending().await,
        Some((_, Fault::Status(status))) => {
            let status = StatusCode::from_u16(status).expect("a status");
            return text(status, "out of order\n");
        }
        Some((url, Fault::Redirect(to))) => {
            let to = format!("{to}{}?{query}", &address[url.len()..]);
            let mut answer = text(StatusCode::FOUND, "elsewhere\n");
            let to = to.parse().expect("a URL is a header's value");
            answer.headers_mut().insert(LOCATION, to);
            return answer;
        }
        Some((_, Fault::ManyRefs(count))) if !pack => return many_refs(count),
        Some((_, Fault::OnlyGit)) if !is_git(&head.headers) => {
            return text(StatusCode::FORBIDDEN, "browsers are not welcome\n");
        }
        Some((_, Fault::Files)) if head.method == http::Method::POST => {
            return text(StatusCode::METHOD_NOT_ALLOWED, "here are files\n");
        }
        _ => {}
    }
    match found {
        Found::Nothing => text(StatusCode::NOT_FOUND, "there is nothing\n"),
        Found::File(content) => {
            let body = Full::new(Bytes::from(content));
            Response::new(body.map_err(|never| match never {}).boxed_unsync())
        }
        Found::Page(page) => {
            let status = StatusCode::from_u16(page.status).expect("a status");
            let mut answer = text(status, &page.body);
            let kind = match fault {
                Some((_, Fault::Type(kind))) => kind,
                _ => "text/html; charset=utf-8",
            };
            let kind = kind.parse().expect("plain");
            answer.headers_mut().insert(CONTENT_TYPE, kind);
            answer
        }
        Found::Git { folder, rest } => {
            let Ok(body) = body.collect().await else {
                return text(StatusCode::BAD_REQUEST, "cut short\n");
            };
            let mut body = body.to_bytes();
            // With protocol version 2 one address is for references and for objects.
            let objects = pack && body.windows(13).any(|at| at == b"command=fetch");
            if let Some((_, Fault::Filter(filter))) = fault
                && objects
            {
                body = filtered(&body, filter);
            }
            if matches!(fault, Some((_, Fault::HalfHistory)))
                && objects
                && let Some(answer) = half_history(&body)
            {
                return answer;
            }
            let limit = match fault {
                Some((_, Fault::StallPack)) if objects => std::future::pending().await,
                Some((_, Fault::CutPack(bytes))) if objects => Limit::Cut(bytes),
                Some((_, Fault::HangPack(bytes))) if objects => Limit::Hang(bytes),
                _ => Limit::None,
            };
            let files = matches!(fault, Some((_, Fault::Files)));
            let query = if files { "" } else { &query };
            let mut headers = head.headers;
            if matches!(fault, Some((_, Fault::OldProtocol | Fault::Unpeeled))) {
                headers.remove("git-protocol");
            }
            let backend = backend(&folder, &rest, query, &head.method, &headers);
            match run(backend, body, limit).await {
                Ok(answer) if !pack && matches!(fault, Some((_, Fault::Unpeeled))) => {
                    unpeeled(answer).await
                }
                Ok(answer) => answer,
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
            }
        }
    }
}

fn is_git(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT);
    agent.is_some_and(|agent| agent.as_bytes().starts_with(b"git/"))
}

fn credentials(headers: &HeaderMap) -> Option<String> {
    const TOKEN: &str = "private-token";
    if let Some(token) = headers.get(TOKEN) {
        return Some(format!("{TOKEN}: {}", token.to_str().ok()?));
    }
    basic(headers.get(AUTHORIZATION)?.to_str().ok()?)
}

/// `user:secret` of a Basic header's value; another header as it is.
pub(crate) fn basic(value: &str) -> Option<String> {
    match value.strip_prefix("Basic ") {
        Some(encoded) => String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok(),
        None => Some(value.to_owned()),
    }
}

pub(crate) fn text(status: StatusCode, body: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_owned()));
    let mut answer = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    answer
}

/// A request for objects in protocol version 2, with a filter at its end.
fn filtered(body: &[u8], filter: &str) -> Bytes {
    let line = format!("filter {filter}\n");
    let line = format!("{:04x}{line}0000", line.len() + 4);
    let asked = body.strip_suffix(b"0000").unwrap_or(body);
    [asked, line.as_bytes()].concat().into()
}

/// The answer to who asks for all history and has some commits: it goes on where it ended, and there is nothing to send.
fn half_history(asked: &[u8]) -> Option<Response<Body>> {
    // The mark of its one band, and no objects with their sum.
    const NOTHING: &[u8] = b"\x01PACK\0\0\0\x02\0\0\0\0\
        \x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e";
    let asked = String::from_utf8_lossy(asked);
    let hashes = |word: &str| {
        let at = asked.match_indices(word);
        let hashes = at.map(|(at, _)| asked[at + word.len()..][..40].to_owned());
        hashes.collect::<Vec<_>>()
    };
    let haves = hashes("have ");
    if haves.is_empty() || !asked.contains("deepen 2147483647") {
        return None;
    }
    let mut body = Vec::new();
    let line = |body: &mut Vec<u8>, content: &[u8]| {
        body.extend_from_slice(format!("{:04x}", content.len() + 4).as_bytes());
        body.extend_from_slice(content);
    };
    if !asked.contains("0009done") {
        line(&mut body, b"acknowledgments\n");
        for have in haves {
            line(&mut body, format!("ACK {have}\n").as_bytes());
        }
        line(&mut body, b"ready\n");
        body.extend_from_slice(b"0001");
    }
    line(&mut body, b"shallow-info\n");
    for hash in hashes("shallow ") {
        line(&mut body, format!("unshallow {hash}\n").as_bytes());
    }
    body.extend_from_slice(b"0001");
    line(&mut body, b"packfile\n");
    line(&mut body, NOTHING);
    body.extend_from_slice(b"0000");
    let mut answer = Response::new(
        Full::new(Bytes::from(body))
            .map_err(|never| match never {})
            .boxed_unsync(),
    );
    let kind = "application/x-git-upload-pack-result";
    let kind = kind.parse().expect("plain");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    Some(answer)
}

/// The references without those of what annotated tags are about.
async fn unpeeled(answer: Response<Body>) -> Response<Body> {
    let (head, body) = answer.into_parts();
    let body = body
        .collect()
        .await
        .expect("git tells references")
        .to_bytes();
    let (mut rest, mut left) = (&body[..], Vec::new());
    while let Some(digits) = rest.get(..4) {
        let digits = std::str::from_utf8(digits).expect("a length");
        let length = usize::from_str_radix(digits, 16).expect("a length");
        let (line, others) = rest.split_at(length.max(4));
        if !line.ends_with(b"^{}\n") {
            left.extend_from_slice(line);
        }
        rest = others;
    }
    let body = Full::new(Bytes::from(left));
    Response::from_parts(head, body.map_err(|never| match never {}).boxed_unsync())
}

/// References in protocol version 0, in which they come with the first answer.
fn many_refs(count: usize) -> Response<Body> {
    let hash = "1111111111111111111111111111111111111111";
    let mut body = String::with_capacity(count * 80);
    body.push_str("001e# service=git-upload-pack\n0000");
    let mut line = |content: String| {
        let _ = write!(body, "{:04x}{content}", content.len() + 4);
    };
    for at in 0..count {
        let more = if at == 0 { "\0agent=forge" } else { "" };
        line(format!("{hash} refs/tags/v1.0.{at}{more}\n"));
    }
    body.push_str("0000");
    let mut answer = self::text(StatusCode::OK, &body);
    let kind = "application/x-git-upload-pack-advertisement";
    let kind = kind.parse().expect("plain");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// `git http-backend`, a CGI program.
fn backend(
    folder: &Path,
    rest: &str,
    query: &str,
    method: &http::Method,
    headers: &HeaderMap,
) -> Command {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mut command = Command::new("git");
    command
        .args(["-c", "uploadpack.allowFilter=true", "http-backend"])
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(quiet_git())
        .env("GIT_PROJECT_ROOT", folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", rest)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", method.as_str())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

/// After how many bytes a body ends that has more, and how.
#[derive(Debug, Clone, Copy)]
enum Limit {
    None,
    Cut(usize),
    Hang(usize),
}

/// Gives the program its input, reads the head of its answer and leaves the rest to a stream. With a limit the body
/// breaks off after so many bytes.
async fn run(mut command: Command, input: Bytes, limit: Limit) -> io::Result<Response<Body>> {
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().expect("it is piped");
    // In a task of its own, since the program may write before it has read all.
    tokio::spawn(async move {
        let _ = stdin.write_all(&input).await;
    });
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut read = BytesMut::with_capacity(8192);
    let end = loop {
        if let Some(at) = read.windows(4).position(|at| at == b"\r\n\r\n") {
            break at;
        }
        if stdout.read_buf(&mut read).await? == 0 {
            return Err(io::Error::other("http-backend gave no answer"));
        }
    };
    let head = read.split_to(end + 4);
    let mut answer = Response::builder();
    for line in String::from_utf8_lossy(&head).lines() {
        match line.split_once(": ") {
            Some(("Status", status)) => answer = answer.status(&status[..3]),
            Some((name, value)) => answer = answer.header(name, value),
            None => {}
        }
    }
    let body = stream(child, stdout, read, limit);
    answer.body(body).map_err(io::Error::other)
}

fn stream(
    child: Child,
    stdout: tokio::process::ChildStdout,
    first: BytesMut,
    limit: Limit,
) -> Body {
    let left = match limit {
        Limit::None => usize::MAX,
        Limit::Cut(bytes) | Limit::Hang(bytes) => bytes,
    };
    let state = (child, stdout, first, left);
    let frames = futures_util::stream::try_unfold(state, move |state| async move {
        let (mut child, mut stdout, mut ready, left) = state;
        if ready.is_empty() {
            ready.reserve(64 << 10);
            if stdout.read_buf(&mut ready).await? == 0 {
                child.wait().await?;
                return Ok(None);
            }
        }
        if left == 0 && matches!(limit, Limit::Hang(_)) {
            std::future::pending::<()>().await;
        }
        if left == 0 {
            return Err(io::Error::other("cut, as asked"));
        }
        let part = ready.split_to(ready.len().min(left)).freeze();
        let left = left - part.len();
        Ok(Some((Frame::data(part), (child, stdout, ready, left))))
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}
