//! Redirects, followed by hand.

use http::StatusCode;
use http::header::LOCATION;
use reqwest::{Response, Url};

use crate::error::{EgressError, EgressErrorKind};

/// Most redirects followed, as by the go command.
pub const MAX_REDIRECTS: usize = 10;

/// Where to go on, if the answer is a redirect that says so. Userinfo in the answer is dropped; that of `home`, where
/// it all began, stays within its origin. From https to http only if `plain_http`.
pub fn redirect(
    home: &Url,
    url: &Url,
    response: &Response,
    plain_http: bool,
) -> Result<Option<Url>, EgressError> {
    if !matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    ) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(LOCATION) else {
        return Ok(None);
    };
    let mut next = location
        .to_str()
        .ok()
        .and_then(|location| url.join(location).ok())
        .ok_or_else(|| EgressError::broken("redirected to something that is no URL"))?;
    match (url.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") if plain_http => {}
        ("https", "http") => {
            return Err(refused("redirected from https to http"));
        }
        _ => {
            return Err(refused("redirected to something other than http or https"));
        }
    }
    let (user, password) = if next.origin() == home.origin() {
        (home.username(), home.password())
    } else {
        ("", None)
    };
    // The setters fail only for URLs without a host.
    let _ = next.set_username(user);
    let _ = next.set_password(password);
    Ok(Some(next))
}

fn refused(text: &str) -> EgressError {
    EgressError::new(EgressErrorKind::Refused, text)
}
