//! A large object that lies in a lower storage tier and on no disk here: each client reads it from there.

use http::{HeaderValue, Method, Response, StatusCode};

use super::{
    body::{Body, Open},
    respond::{self, Asked},
};
use crate::{
    answer::{Answer, Lower},
    gateway::Gateway,
};

/// Makes the response, with the whole or a part as it was asked for.
pub(super) async fn answer(
    gateway: &Gateway,
    lower: &Lower,
    answer: &Answer,
    asked: &Asked<'_>,
    mut open: Open,
) -> Response<Body> {
    open.record.outcome = answer.outcome;
    let validator = HeaderValue::from_maybe_shared(lower.validator.clone()).ok();
    let selected = respond::select(lower.size, validator.as_ref(), asked);
    let sends = matches!(selected.0, StatusCode::OK | StatusCode::PARTIAL_CONTENT)
        && asked.method != Method::HEAD;
    let frames = if sends {
        match gateway.lower_frames(lower, selected.1).await {
            Ok(frames) => Some(frames),
            Err(refusal) => return respond::refusal(&refusal, asked, open),
        }
    } else {
        None
    };
    respond::file(
        lower.size,
        validator,
        selected,
        answer,
        asked,
        open,
        |_, open| match frames {
            Some(frames) => Body::frames(frames, open),
            None => Body::once(bytes::Bytes::new(), open),
        },
    )
}
