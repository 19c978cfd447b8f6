//! Answers and refusals become HTTP: the only place that knows headers and status codes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT, ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
        ETAG, IF_MATCH, IF_NONE_MATCH, IF_RANGE, LOCATION, RANGE, RETRY_AFTER, WARNING,
    },
};
use store::{Block, Frames, Kept};

use super::{
    body::{Body, Open},
    range::{self, Range},
};
use crate::{
    answer::{Answer, Content, Life, Media, STALE},
    record::Outcome,
    refusal::{Code, Refusal},
};

/// The name of the request id's header.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What of a request decides the form of its answer.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
}

/// Makes the response of an answer.
pub(crate) fn answer(answer: Answer, asked: &Asked<'_>, mut open: Open) -> Response<Body> {
    open.record.outcome = answer.outcome;
    open.record.upstream.clone_from(&answer.upstream);
    let id = open.record.id;
    let mut response = answered(&answer, asked, open);
    response.headers_mut().insert(REQUEST_ID, request_id(id));
    response
}

/// The id as the log has it.
fn request_id(id: u64) -> HeaderValue {
    let mut digits = [0; 16];
    // Eight bytes fill them.
    let _ = hex::encode_to_slice(id.to_be_bytes(), &mut digits);
    HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static(""))
}

fn answered(answer: &Answer, asked: &Asked<'_>, open: Open) -> Response<Body> {
    let has_no_tag = matches!(&answer.content, Content::Bytes(_) | Content::Spool(_));
    if has_no_tag && is_of_another(asked, "") {
        return another_file(asked, open);
    }
    let mut response = match &answer.content {
        Content::Bytes(bytes) => whole(bytes.clone(), asked, open),
        Content::Kept(kept) => return self::kept(kept, answer, asked, open),
        Content::Spool(spool) => growing(spool, asked, open),
        // Read from its tier by `lower`, which comes before.
        Content::Lower(_) => return head_only(StatusCode::INTERNAL_SERVER_ERROR, open),
        Content::Elsewhere(url) => return elsewhere(url, open),
    };
    describe(answer, response.headers_mut());
    response
}

/// Headers that every good answer has.
fn describe(answer: &Answer, headers: &mut HeaderMap) {
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(match answer.media {
            Media::Text => "text/plain; charset=utf-8",
            Media::Json => "application/json",
            Media::Zip => "application/zip",
            Media::Octets => "application/octet-stream",
        }),
    );
    let caching = match (answer.life, answer.private) {
        (Life::Immutable, false) => HeaderValue::from_static("public, max-age=31536000, immutable"),
        (Life::Immutable, true) => HeaderValue::from_static("private, max-age=31536000, immutable"),
        (Life::For(Duration::ZERO), _) => HeaderValue::from_static("no-cache"),
        (Life::For(life), private) => {
            let scope = if private { "private" } else { "public" };
            text_value(&format!("{scope}, max-age={}", life.as_secs()))
        }
    };
    headers.insert(CACHE_CONTROL, caching);
    warn(answer.warning, headers);
}

fn warn(warning: Option<&str>, headers: &mut HeaderMap) {
    if let Some(warning) = warning {
        headers.insert(WARNING, text_value(&format!("110 modgate \"{warning}\"")));
    }
}

fn whole(bytes: Bytes, asked: &Asked<'_>, open: Open) -> Response<Body> {
    let len = bytes.len();
    if asked.method == Method::HEAD {
        let mut response = head_only(StatusCode::OK, open);
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(len));
        return response;
    }
    ready(StatusCode::OK, Body::once(bytes, open))
}

/// A kept file: with validator, conditional and by parts.
fn kept(kept: &Arc<Kept>, answer: &Answer, asked: &Asked<'_>, open: Open) -> Response<Body> {
    let validator = HeaderValue::from_maybe_shared(kept.validator().clone()).ok();
    let selected = select(kept.len(), validator.as_ref(), asked);
    file(
        kept.len(),
        validator,
        selected,
        answer,
        asked,
        open,
        |part, open| {
            let (from, to) = part.unwrap_or((0, kept.len()));
            match kept.in_memory() {
                Some(bytes) if part.is_none() => Body::once(bytes.clone(), open),
                _ if open.pulse.announced.is_possible() => {
                    Body::frames(kept.frames(from, to), open)
                }
                _ => Body::frames(kept.read_frames(from, to), open),
            }
        },
    )
}

/// A file of `len` bytes, wherever it lies: `body` gives those that were selected.
pub(super) fn file(
    len: u64,
    validator: Option<HeaderValue>,
    (status, part): Selected,
    answer: &Answer,
    asked: &Asked<'_>,
    open: Open,
    body: impl FnOnce(Option<(u64, u64)>, Open) -> Body,
) -> Response<Body> {
    let (from, to) = part.unwrap_or((0, len));
    match status {
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let why =
                format!("the part that was asked for is beyond the end: there are {len} bytes");
            let refused = Refusal::new(Code::RangeNotSatisfiable, "", why);
            let mut response = refusal(&refused, asked, open);
            let length = text_value(&format!("bytes */{len}"));
            response.headers_mut().insert(CONTENT_RANGE, length);
            return response;
        }
        StatusCode::PRECONDITION_FAILED => return another_file(asked, open),
        _ => {}
    }
    let mut response = match status {
        StatusCode::NOT_MODIFIED => head_only(status, open),
        _ if asked.method == Method::HEAD => head_only(status, open),
        _ => ready(status, body(part, open)),
    };
    let headers = response.headers_mut();
    describe(answer, headers);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(validator) = validator {
        headers.insert(ETAG, validator);
    }
    if asked.method == Method::HEAD && status != StatusCode::NOT_MODIFIED {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(to - from));
    }
    if part.is_some() {
        headers.insert(
            CONTENT_RANGE,
            text_value(&format!("bytes {from}-{}/{len}", to - 1)),
        );
    }
    response
}

/// A status, and the part of the file that goes with it.
pub(super) type Selected = (StatusCode, Option<(u64, u64)>);

/// Which status and which part a conditional or ranged request gets (RFC 9110 13.2.2). No answer has a date of its last
/// change, so that conditions on one say nothing (RFC 9110 13.1.3, 13.1.4).
pub(super) fn select(len: u64, validator: Option<&HeaderValue>, asked: &Asked<'_>) -> Selected {
    let headers = asked.headers;
    let tag = validator
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if is_of_another(asked, tag) {
        return (StatusCode::PRECONDITION_FAILED, None);
    }
    if headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .any(|value| matches_tag(value, tag))
    {
        return (StatusCode::NOT_MODIFIED, None);
    }
    // Of other methods the header says nothing (RFC 9110 14.2).
    let Some(range) = headers.get(RANGE).filter(|_| asked.method == Method::GET) else {
        return (StatusCode::OK, None);
    };
    if headers
        .get(IF_RANGE)
        .is_some_and(|value| value.as_bytes() != tag.as_bytes())
    {
        return (StatusCode::OK, None);
    }
    match range::parse(range.as_bytes(), len) {
        Range::All => (StatusCode::OK, None),
        Range::Part(from, to) => (StatusCode::PARTIAL_CONTENT, Some((from, to))),
        Range::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, None),
    }
}

/// `If-None-Match`: `*`, or a list that has the tag; compared weakly (RFC 9110 13.1.2).
fn matches_tag(header: &HeaderValue, tag: &str) -> bool {
    let list = header.to_str().unwrap_or_default();
    list.trim() == "*"
        || list
            .split(',')
            .any(|entry| entry.trim().trim_start_matches("W/") == tag)
}

/// Whether `If-Match` is there, and neither `*` nor a list that has the tag; compared strongly (RFC 9110 13.1.1).
fn is_of_another(asked: &Asked<'_>, tag: &str) -> bool {
    let mut lines = asked.headers.get_all(IF_MATCH).iter().peekable();
    let names = |line: &HeaderValue| {
        let list = line.to_str().unwrap_or_default();
        list.trim() == "*" || !tag.is_empty() && list.split(',').any(|entry| entry.trim() == tag)
    };
    lines.peek().is_some() && !lines.any(names)
}

fn another_file(asked: &Asked<'_>, open: Open) -> Response<Body> {
    let why = "what is here is not what `If-Match` names";
    refusal(
        &Refusal::new(Code::PreconditionFailed, "", why),
        asked,
        open,
    )
}

/// A download under way, sent as it comes.
fn growing(spool: &Arc<store::Spool>, asked: &Asked<'_>, open: Open) -> Response<Body> {
    if asked.method == Method::HEAD {
        let mut response = head_only(StatusCode::OK, open);
        if let Some(len) = spool.expected() {
            response
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from(len));
        }
        return response;
    }
    ready(StatusCode::OK, Body::frames(spool.frames(), open))
}

fn elsewhere(url: &str, mut open: Open) -> Response<Body> {
    open.record.status = 302;
    open.record.outcome = Outcome::Redirect;
    let mut response = head_only(StatusCode::FOUND, open);
    response.headers_mut().insert(LOCATION, text_value(url));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Makes the response of a refusal: text for the Go client, JSON for whoever asks for it.
pub(crate) fn refusal(refusal: &Refusal, asked: &Asked<'_>, mut open: Open) -> Response<Body> {
    open.record.code = Some(refusal.code);
    if refusal.stale {
        open.record.outcome = Outcome::Stale;
    } else if open.record.outcome != Outcome::Negative {
        open.record.outcome = Outcome::Refused;
    }
    let status =
        StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let id = open.record.id;
    if refusal.code == Code::InternalError {
        tracing::error!(
            request_id = format_args!("{id:016x}"),
            module = open.record.subject.module,
            version = open.record.subject.version,
            what = %refusal.what,
            why = %refusal.why,
            "a defect of modgate"
        );
    }
    let (body, media) = match json_wanted(asked.headers) {
        None => (refusal.text(), "text/plain; charset=utf-8"),
        Some(media) => (problem(refusal, status, id), media),
    };
    let mut response = whole(body.into(), asked, open);
    set_status(&mut response, status);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(REQUEST_ID, request_id(id));
    warn(refusal.stale.then_some(STALE), headers);
    if let Some(after) = refusal.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if refusal.code == Code::MethodNotAllowed {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// The JSON media type that `Accept` asks for, if it names one and likes text no better (RFC 9110 12.5.1). `*/*` names
/// none: people's tools send it.
fn json_wanted(headers: &HeaderMap) -> Option<&'static str> {
    let mut json: Option<(&'static str, f32)> = None;
    let mut text: f32 = 0.0;
    let accept = headers.get_all(ACCEPT).iter();
    for range in accept
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
    {
        let mut parameters = range.split(';').map(str::trim);
        let media = parameters.next().unwrap_or_default();
        let quality = parameters.find_map(quality).unwrap_or(1.0);
        let is = |name: &&str| media.eq_ignore_ascii_case(name);
        let named = ["application/problem+json", "application/json"];
        if let Some(name) = named.into_iter().find(is) {
            if json.is_none_or(|(_, best)| quality > best) {
                json = Some((name, quality));
            }
        } else if ["text/plain", "text/*"].iter().any(is) {
            text = text.max(quality);
        }
    }
    json.filter(|(_, quality)| *quality > 0.0 && *quality >= text)
        .map(|(name, _)| name)
}

/// The quality that a parameter of a media range gives, if it is one.
fn quality(parameter: &str) -> Option<f32> {
    let (name, value) = parameter.split_once('=')?;
    let is_quality = name.trim_end().eq_ignore_ascii_case("q");
    is_quality.then(|| value.trim_start().parse().unwrap_or(1.0))
}

/// Problem details (RFC 9457) with the stable code as `error`.
fn problem(refusal: &Refusal, status: StatusCode, id: u64) -> String {
    let mut value = serde_json::json!({
        "type": format!("urn:modgate:error:{}", refusal.code.as_str()),
        "title": status.canonical_reason().unwrap_or("error"),
        "status": status.as_u16(),
        "detail": refusal.why,
        "instance": format!("urn:modgate:request:{id:016x}"),
        "error": refusal.code.as_str(),
        "message": refusal.text().lines().next().unwrap_or_default(),
        "what": refusal.what,
    });
    if let Some(hint) = &refusal.hint {
        value["hint"] = hint.as_ref().into();
    }
    if let Some(after) = refusal.retry_after {
        value["retry_after_seconds"] = after.as_secs().max(1).into();
    }
    format!("{value}\n")
}

/// A page of the gateway itself.
pub(crate) fn page(
    status: StatusCode,
    media: &'static str,
    text: String,
    asked: &Asked<'_>,
    open: Open,
) -> Response<Body> {
    let id = open.record.id;
    let mut response = whole(text.into(), asked, open);
    set_status(&mut response, status);
    response.headers_mut().insert(REQUEST_ID, request_id(id));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn ready(status: StatusCode, mut body: Body) -> Response<Body> {
    body.set_status(status.as_u16());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn set_status(response: &mut Response<Body>, status: StatusCode) {
    *response.status_mut() = status;
    response.body_mut().set_status(status.as_u16());
}

fn head_only(status: StatusCode, open: Open) -> Response<Body> {
    ready(
        status,
        Body::frames(Frames::whole(Block::memory(Bytes::new())), open),
    )
}

/// A header value; what cannot be one becomes empty.
fn text_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_than_the_condition_names() {
        let (tag, other) = ("\"a\"", "\"b\"");
        let both = format!("{other} , {tag}");
        let weak = format!("W/{tag}");
        for (lines, has_tag, has_none) in [
            (&[][..], false, false),
            (&["*"], false, false),
            (&[tag], false, true),
            (&[other], true, true),
            (&[other, tag], false, true),
            (&[&both], false, true),
            (&[&weak], true, true),
            (&[""], true, true),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(IF_MATCH, HeaderValue::from_str(line).unwrap());
            }
            let asked = Asked {
                method: &Method::GET,
                headers: &headers,
            };
            assert_eq!(is_of_another(&asked, tag), has_tag, "{lines:?}");
            assert_eq!(is_of_another(&asked, ""), has_none, "{lines:?}");
        }
    }

    #[test]
    fn json_is_for_those_who_ask_for_it() {
        let (json, problem) = (Some("application/json"), Some("application/problem+json"));
        for (accept, wanted) in [
            ("", None),
            ("*/*", None),
            ("application/json", json),
            ("Application/JSON; Q=1", json),
            (
                "text/html, application/problem+json;q=0.2, */*;q=0.8",
                problem,
            ),
            ("application/json;q=0.5, application/problem+json", problem),
            ("application/json;q=0", None),
            ("application/json; q=0.0", None),
            ("text/plain, application/json;q=0.9", None),
            ("text/plain;q=0.5,application/json;q=0.9", json),
            ("text/plain, application/json", json),
            ("application/json;charset=utf-8;q=0.3", json),
            ("application/json;q=x", json),
            ("application/json;q=nan", None),
            ("application/jsonp", None),
            (",;,=;q", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(json_wanted(&headers), wanted, "{accept}");
        }
    }
}
