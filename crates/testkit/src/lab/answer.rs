//! What the lab answers, right or spoiled.

use std::io::{self, Cursor, Write as _};
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use zip::write::SimpleFileOptions;

use super::body::{End, LabBody};
use super::hold::Waiting;
use super::{Fault, Recorded, Shared, State};

/// One answer before it becomes a response.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    content_type: HeaderValue,
    /// In pieces.
    body: Vec<Bytes>,
}

impl Answer {
    fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
        Answer {
            status,
            content_type: HeaderValue::from_static(content_type),
            body: vec![body.into()],
        }
    }

    fn length(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }

    /// The body in one piece.
    fn whole(&self) -> Bytes {
        match &*self.body {
            [one] => one.clone(),
            pieces => pieces.concat().into(),
        }
    }

    fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
        Answer::new(status, "text/plain; charset=utf-8", body)
    }

    fn not_found(path: &str) -> Answer {
        let why = format!("not found: the lab has no {path}\n");
        Answer::text(StatusCode::NOT_FOUND, why)
    }

    /// A file, with the content type that its ending asks for.
    fn file(path: &str, content: Vec<Bytes>) -> Answer {
        let content_type = if has_ending(path, "zip") {
            "application/zip"
        } else if has_ending(path, "info") || path.ends_with("/@latest") {
            "application/json"
        } else {
            "text/plain; charset=utf-8"
        };
        Answer {
            status: StatusCode::OK,
            content_type: HeaderValue::from_static(content_type),
            body: content,
        }
    }
}

/// Answers one request. An error cuts the connection; `reset` says how.
pub(super) async fn answer(
    shared: Arc<Shared>,
    reset: Arc<AtomicBool>,
    request: Request<Incoming>,
) -> io::Result<Response<LabBody>> {
    // Clients may send `!` either way; Go escapes it.
    let asked = request
        .uri()
        .path_and_query()
        .map_or("/", |asked| asked.as_str())
        .replace("%21", "!");
    let waits = {
        let mut state = shared.lock();
        state.requests.push(Recorded {
            path: asked.clone(),
            headers: request.headers().clone(),
            at: Instant::now(),
        });
        state.waits(&asked)
    };
    for waiting in waits {
        waiting.pass().await;
    }

    let fault = shared.lock().take_fault(&asked);
    match &fault {
        Some(Fault::Status(status)) => {
            let status = StatusCode::from_u16(*status).map_err(io::Error::other)?;
            let answer = Answer::text(status, format!("the lab was told to say {status}\n"));
            return Ok(right(answer));
        }
        Some(Fault::Reset) => {
            reset.store(true, Ordering::Relaxed);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Some(Fault::Hang) => return std::future::pending().await,
        Some(Fault::RedirectLoop) => return redirect(&asked),
        Some(Fault::RedirectTo(url)) => return redirect(url),
        Some(Fault::RedirectBelow(url)) => return redirect(&format!("{url}{asked}")),
        Some(Fault::Html) => {
            let page = "<!DOCTYPE html>\n<html><body>Please log in.</body></html>\n";
            return Ok(right(Answer::new(
                StatusCode::OK,
                "text/html; charset=utf-8",
                page,
            )));
        }
        Some(Fault::Latency(time)) => tokio::time::sleep(*time).await,
        _ => {}
    }

    let path = asked.split_once('?').map_or(&*asked, |(path, _)| path);
    let answer = true_answer(&shared, path).await;
    let held = shared.lock().waits_in_body(path);
    match fault {
        Some(fault) if answer.status == StatusCode::OK => spoiled(path, answer, &fault, &reset),
        _ => Ok(match held {
            Some(waiting) => held_mid_body(answer, waiting),
            None => right(answer),
        }),
    }
}

async fn true_answer(shared: &Shared, path: &str) -> Answer {
    let path = path.trim_start_matches('/');
    let (own, sumdb, folder) = {
        let state = shared.lock();
        let own = of_module(&state, path);
        (own, state.sumdb.clone(), state.folder.clone())
    };
    if let Some(content) = own {
        return Answer::file(path, content);
    }
    if let Some(base) = sumdb.filter(|_| path.starts_with("sumdb/")) {
        return relayed(&shared.client, &format!("{base}/{path}"))
            .await
            .unwrap_or_else(|error| Answer::text(StatusCode::BAD_GATEWAY, format!("{error}\n")));
    }
    let below_folder = Path::new(path)
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    match folder.filter(|_| below_folder && !path.is_empty()) {
        Some(folder) => match tokio::task::spawn_blocking({
            let file = folder.join(path);
            move || std::fs::read(file)
        })
        .await
        {
            Ok(Ok(content)) => Answer::file(path, vec![content.into()]),
            _ => Answer::not_found(path),
        },
        None => Answer::not_found(path),
    }
}

/// The answer from the modules that were added.
fn of_module(state: &State, path: &str) -> Option<Vec<Bytes>> {
    let path = state.resolved.get(path).map_or(path, String::as_str);
    if let Some(module) = path.strip_suffix("/@latest") {
        let versions = state.modules.get(module)?;
        let (_, files) = versions
            .iter()
            .max_by_key(|(version, _)| precedence(version))?;
        return Some(vec![files.info.clone()]);
    }
    let (module, name) = path.rsplit_once("/@v/")?;
    let versions = state.modules.get(module)?;
    if name == "list" {
        let listed = versions.keys().filter(|version| !is_pseudo(version));
        let list: String = listed.flat_map(|version| [version, "\n"]).collect();
        return Some(vec![list.into()]);
    }
    let (wanted, ending) = name.rsplit_once('.')?;
    let (_, files) = versions
        .iter()
        .find(|(version, _)| crate::escape(version) == wanted)?;
    Some(match ending {
        "info" => vec![files.info.clone()],
        "mod" => vec![files.go_mod.clone()],
        "zip" => files.zip.clone(),
        _ => return None,
    })
}

/// Orders versions as `@latest` wants it: releases above pre-releases above pseudo-versions, then by their numbers.
/// Pre-releases of one version are only ordered as text, which is enough for a lab.
fn precedence(version: &str) -> (bool, bool, Vec<u64>, &str) {
    let version = version.trim_start_matches('v');
    let core = version.split_once('+').map_or(version, |(core, _)| core);
    let (numbers, prerelease) = core.split_once('-').unwrap_or((core, ""));
    let numbers = numbers
        .split('.')
        .map(|number| number.parse().unwrap_or(0))
        .collect();
    (
        !is_pseudo(version),
        prerelease.is_empty(),
        numbers,
        prerelease,
    )
}

/// Whether a version ends in the time and the twelve digits of a commit.
fn is_pseudo(version: &str) -> bool {
    let version = version.trim_end_matches("+incompatible");
    let Some((before, revision)) = version.rsplit_once('-') else {
        return false;
    };
    let time = before.rsplit(['-', '.']).next().unwrap_or_default();
    revision.len() == 12
        && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
        && time.len() == 14
        && time.bytes().all(|byte| byte.is_ascii_digit())
}

async fn relayed(client: &reqwest::Client, url: &str) -> reqwest::Result<Answer> {
    let reply = client.get(url).send().await?;
    let content_type = reply.headers().get(header::CONTENT_TYPE).cloned();
    Ok(Answer {
        status: reply.status(),
        content_type: content_type.unwrap_or(HeaderValue::from_static("text/plain")),
        body: vec![reply.bytes().await?],
    })
}

fn redirect(url: &str) -> io::Result<Response<LabBody>> {
    let mut response = right(Answer::text(StatusCode::FOUND, "elsewhere\n"));
    let location = HeaderValue::from_str(url).map_err(io::Error::other)?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

fn right(answer: Answer) -> Response<LabBody> {
    let length = answer.length();
    let body = LabBody::of(answer.body);
    respond(answer.status, answer.content_type, Some(length), body)
}

/// The right answer, which stops halfway until it is let go on.
fn held_mid_body(answer: Answer, waiting: Waiting) -> Response<LabBody> {
    let length = answer.length();
    let body = LabBody::of(answer.body).held_after(length / 2, waiting);
    respond(answer.status, answer.content_type, Some(length), body)
}

/// The answer with a fault that needs one to spoil.
fn spoiled(
    path: &str,
    mut answer: Answer,
    fault: &Fault,
    reset: &Arc<AtomicBool>,
) -> io::Result<Response<LabBody>> {
    let mut length = Some(answer.length());
    let whole = answer.whole();
    let half = whole.slice(..whole.len() / 2);
    let body = match fault {
        Fault::StallMidBody => LabBody::new(half).ending(End::Stall),
        Fault::Truncate => LabBody::new(half).ending(End::Cut),
        Fault::ResetMidBody => {
            reset.store(true, Ordering::Relaxed);
            LabBody::new(half).ending(End::Cut)
        }
        Fault::Short => {
            length = Some(half.len());
            LabBody::new(half)
        }
        Fault::Corrupt => {
            let mut bytes = whole.to_vec();
            if let Some(byte) = bytes.get_mut(half.len()) {
                *byte ^= 1;
            }
            LabBody::new(bytes.into())
        }
        Fault::AlteredZip if has_ending(path, "zip") => {
            answer.body = vec![altered_zip(&whole)?.into()];
            return Ok(right(answer));
        }
        Fault::AlteredMod if has_ending(path, "mod") => {
            answer.body.push(Bytes::from_static(b"\n// Altered.\n"));
            return Ok(right(answer));
        }
        Fault::Drip => LabBody::new(whole).paced(16, Duration::from_millis(50)),
        Fault::CutNoLength => {
            length = None;
            LabBody::new(half).ending(End::Cut)
        }
        Fault::NoLength => {
            length = None;
            LabBody::new(whole)
        }
        _ => LabBody::new(whole),
    };
    Ok(respond(answer.status, answer.content_type, length, body))
}

fn respond(
    status: StatusCode,
    content_type: HeaderValue,
    length: Option<usize>,
    body: LabBody,
) -> Response<LabBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    response
}

/// The zip with one file more, below the `path@version/` of its first file.
fn altered_zip(zip: &[u8]) -> io::Result<Vec<u8>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(zip))?;
    let first = archive.by_index(0)?.name()?.into_owned();
    let version = first.find('@').unwrap_or(0);
    let root = first[version..]
        .find('/')
        .map_or("", |end| &first[..=version + end]);
    let mut writer = zip::ZipWriter::new_append(Cursor::new(zip.to_vec()))?;
    writer.start_file(format!("{root}altered.go"), SimpleFileOptions::default())?;
    writer.write_all(b"package altered\n")?;
    Ok(writer.finish()?.into_inner())
}

fn has_ending(path: &str, ending: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|extension| extension == ending)
}
