//! Google's side: states of an object are told apart by their generation.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{Method, StatusCode};
use time::format_description::well_known::Rfc3339;

use super::{
    Answer, Asked, Bucket, Interface, about, decoded, next, refusal, set, text, with_status,
};

const PAGE: usize = 3;

pub(super) fn answer(bucket: Option<&mut Bucket>, asked: &Asked) -> Answer {
    let Some(bucket) = bucket else {
        return refusal(StatusCode::NOT_FOUND, "NoSuchBucket");
    };
    let key = asked.key.as_str();
    let upload = asked.query.get("uploadId");
    match (&asked.method, upload) {
        (&Method::GET, _) if key.is_empty() => list(bucket, asked),
        (&Method::GET | &Method::HEAD, _) => match bucket.objects.get(key) {
            Some(object) => object.read(Interface::Google, asked),
            None => refusal(StatusCode::NOT_FOUND, "NoSuchKey"),
        },
        (&Method::DELETE, Some(upload)) => {
            bucket.parts.remove(upload);
            with_status(StatusCode::NO_CONTENT, "")
        }
        (&Method::DELETE, None) => match bucket.objects.remove(key) {
            Some(_) => with_status(StatusCode::NO_CONTENT, ""),
            None => refusal(StatusCode::NOT_FOUND, "NoSuchKey"),
        },
        (&Method::PUT, Some(upload)) => {
            let Some(parts) = bucket.parts.get_mut(upload) else {
                return refusal(StatusCode::NOT_FOUND, "NoSuchUpload");
            };
            let number: u32 = asked.query["partNumber"].parse().expect("a number");
            parts.insert(format!("{number:05}"), asked.body.clone());
            let mut answer = with_status(StatusCode::OK, "");
            set(&mut answer, "etag", &format!("\"{number}\""));
            answer
        }
        (&Method::PUT, None) => put(bucket, asked),
        (&Method::POST, None) => begin(bucket, asked),
        (&Method::POST, Some(upload)) => complete(bucket, key, upload),
        _ => refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
    }
}

fn put(bucket: &mut Bucket, asked: &Asked) -> Answer {
    let there = bucket.objects.get(&asked.key);
    let there = there.map_or(0, |object| object.generation);
    let wanted = text(&asked.headers, "x-goog-if-generation-match");
    if wanted.is_some_and(|wanted| wanted != there.to_string()) {
        return refusal(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
    }
    let (body, about) = match text(&asked.headers, "x-goog-copy-source") {
        None => {
            let about = about(&asked.headers, "x-goog-meta-", "content-type");
            (asked.body.clone(), about)
        }
        Some(source) => {
            let source = decoded(source);
            let source = source.split_once('/').map(|(_, key)| key);
            match source.and_then(|key| bucket.objects.get(key)) {
                Some(object) => (object.body.clone(), object.about.clone()),
                None => return refusal(StatusCode::NOT_FOUND, "NoSuchKey"),
            }
        }
    };
    let mut answer = with_status(StatusCode::OK, "");
    let object = bucket.keep(&asked.key, body, about);
    object.mark(Interface::Google, &mut answer);
    answer
}

fn begin(bucket: &mut Bucket, asked: &Asked) -> Answer {
    let upload = format!("upload-{}", next());
    bucket.parts.entry(upload.clone()).or_default();
    let about = about(&asked.headers, "x-goog-meta-", "content-type");
    bucket.begun.insert(upload.clone(), about);
    let text = format!(
        "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>{upload}</UploadId>\
         </InitiateMultipartUploadResult>"
    );
    with_status(StatusCode::OK, text)
}

fn complete(bucket: &mut Bucket, key: &str, upload: &str) -> Answer {
    let (Some(parts), Some(about)) = (bucket.parts.remove(upload), bucket.begun.remove(upload))
    else {
        return refusal(StatusCode::NOT_FOUND, "NoSuchUpload");
    };
    let body: Vec<u8> = parts.into_values().flatten().collect();
    let object = bucket.keep(key, Bytes::from(body), about);
    let tag = object.e_tag(Interface::Google);
    let text = format!(
        "<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>"
    );
    let mut answer = with_status(StatusCode::OK, text);
    object.mark(Interface::Google, &mut answer);
    answer
}

/// A page at a time; the token of the next one is the last name of this one.
fn list(bucket: &Bucket, asked: &Asked) -> Answer {
    let given = |name| asked.query.get(name).map_or("", String::as_str);
    let (prefix, after) = (given("prefix"), given("continuation-token"));
    let objects = bucket.objects.iter();
    let mut objects = objects.filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after);
    let mut text = "<ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>".to_owned();
    let mut last = "";
    for (key, object) in objects.by_ref().take(PAGE) {
        let modified = object.modified.format(&Rfc3339).expect("a date");
        let _ = write!(
            text,
            "<Contents><Key>{key}</Key><Generation>{}</Generation><LastModified>{modified}</LastModified>\
             <ETag>{}</ETag><Size>{}</Size></Contents>",
            object.generation,
            object.e_tag(Interface::Google),
            object.body.len(),
        );
        last = key;
    }
    if objects.next().is_some() {
        let _ = write!(
            text,
            "<NextContinuationToken>{last}</NextContinuationToken>"
        );
    }
    text.push_str("</ListBucketResult>");
    with_status(StatusCode::OK, text)
}
