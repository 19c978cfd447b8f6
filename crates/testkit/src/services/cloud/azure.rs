//! Azure's side: states of an object are told apart by their tag, and whoever puts the parts of one together clears away
//! the parts of all others.

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{Answer, Asked, Bucket, Interface, about, decoded, refusal, set, text, with_status};

pub(super) fn answer(bucket: Option<&mut Bucket>, overtaken: &mut bool, asked: &Asked) -> Answer {
    let key = asked.key.as_str();
    let action = asked.query.get("comp").map_or("", String::as_str);
    // Told of each object, also where there is no container.
    if (&asked.method, action) == (&Method::POST, "batch") {
        return batch(bucket, asked);
    }
    let Some(bucket) = bucket else {
        return refusal(StatusCode::NOT_FOUND, "ContainerNotFound");
    };
    match (&asked.method, action) {
        (&Method::GET | &Method::HEAD, "") => match bucket.objects.get(key) {
            Some(object) => object.read(Interface::Azure, asked),
            None => refusal(StatusCode::NOT_FOUND, "BlobNotFound"),
        },
        (&Method::GET, "list") => {
            let text = "<EnumerationResults><Blobs></Blobs><NextMarker/></EnumerationResults>";
            with_status(StatusCode::OK, text)
        }
        (&Method::PUT, "") => put(bucket, asked),
        (&Method::PUT, "block") => {
            let parts = bucket.parts.entry(key.to_owned()).or_default();
            parts.insert(asked.query["blockid"].clone(), asked.body.clone());
            with_status(StatusCode::CREATED, "")
        }
        (&Method::PUT, "blocklist") => {
            let done = put_together(bucket, asked);
            if std::mem::take(overtaken) {
                return put_together(bucket, asked);
            }
            done
        }
        _ => refusal(StatusCode::METHOD_NOT_ALLOWED, "UnsupportedHttpVerb"),
    }
}

fn put(bucket: &mut Bucket, asked: &Asked) -> Answer {
    let there = bucket.objects.get(&asked.key);
    if there.is_some() && text(&asked.headers, "if-none-match") == Some("*") {
        return refusal(StatusCode::CONFLICT, "BlobAlreadyExists");
    }
    let tag = there.map(|object| object.e_tag(Interface::Azure));
    let wanted = text(&asked.headers, "if-match");
    if wanted.is_some() && wanted != tag.as_deref() {
        return refusal(StatusCode::PRECONDITION_FAILED, "ConditionNotMet");
    }
    let (body, about) = match text(&asked.headers, "x-ms-copy-source") {
        None => {
            let about = about(&asked.headers, "x-ms-meta-", "x-ms-blob-content-type");
            (asked.body.clone(), about)
        }
        Some(source) => {
            // `http://host/account/container/key`
            let key = decoded(source.splitn(6, '/').last().unwrap_or_default());
            match bucket.objects.get(&key) {
                Some(object) => (object.body.clone(), object.about.clone()),
                None => return refusal(StatusCode::NOT_FOUND, "BlobNotFound"),
            }
        }
    };
    let mut answer = with_status(StatusCode::CREATED, "");
    let object = bucket.keep(&asked.key, body, about);
    object.mark(Interface::Azure, &mut answer);
    answer
}

fn put_together(bucket: &mut Bucket, asked: &Asked) -> Answer {
    let parts = bucket.parts.get(&asked.key).cloned().unwrap_or_default();
    let list = String::from_utf8_lossy(&asked.body);
    let wanted = list.split("<Uncommitted>").skip(1);
    let wanted = wanted.map(|rest| rest.split('<').next().unwrap_or_default());
    let mut body = Vec::new();
    for id in wanted {
        match parts.get(id) {
            Some(part) => body.extend_from_slice(part),
            None => return refusal(StatusCode::BAD_REQUEST, "InvalidBlockList"),
        }
    }
    bucket.parts.remove(&asked.key);
    let about = about(&asked.headers, "x-ms-meta-", "x-ms-blob-content-type");
    let mut answer = with_status(StatusCode::CREATED, "");
    let object = bucket.keep(&asked.key, Bytes::from(body), about);
    object.mark(Interface::Azure, &mut answer);
    answer
}

/// Removals, each a request in a part of the body.
fn batch(mut bucket: Option<&mut Bucket>, asked: &Asked) -> Answer {
    let lines = String::from_utf8_lossy(&asked.body);
    let removals = lines
        .lines()
        .filter_map(|line| line.strip_prefix("DELETE "));
    let mut text = String::new();
    for (at, line) in removals.enumerate() {
        let path = decoded(line.split(' ').next().unwrap_or_default());
        // `/account/container/key`
        let key = path.splitn(4, '/').last().unwrap_or_default();
        let removed = bucket
            .as_mut()
            .and_then(|bucket| bucket.objects.remove(key));
        let status = if removed.is_some() {
            "202 Accepted"
        } else {
            "404 The specified resource does not exist."
        };
        let part = format!(
            "--batch\r\nContent-Type: application/http\r\nContent-ID: {at}\r\n\r\nHTTP/1.1 {status}\r\n\r\n"
        );
        text.push_str(&part);
    }
    text.push_str("--batch--\r\n");
    let mut answer = with_status(StatusCode::ACCEPTED, text);
    set(
        &mut answer,
        "content-type",
        "multipart/mixed; boundary=batch",
    );
    answer
}
