//! Requests to one upstream: credentials, redirects, and errors in people's words.

use std::time::Duration;

use egress::{Egress, EgressError, EgressErrorKind, Grant, MAX_REDIRECTS, explain, redirect};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, VIA};
use reqwest::{Response, Url};

use crate::chain::BaseUrl;
use crate::failure::Cause;
use crate::settings::UpstreamSettings;

/// Longest outcome text, in bytes.
const MAX_TEXT: usize = 119;

/// A request without an answer to show for it.
#[derive(Debug)]
pub(crate) struct SendError {
    pub(crate) cause: Cause,
    pub(crate) text: String,
    /// The connection was lost: the same request may well succeed.
    pub(crate) reset: bool,
}

impl SendError {
    pub(crate) fn new(cause: Cause, text: &str) -> Self {
        Self {
            cause,
            text: tidy(text),
            reset: false,
        }
    }
}

impl From<EgressError> for SendError {
    fn from(error: EgressError) -> Self {
        let cause = match error.kind {
            EgressErrorKind::Timeout => Cause::Timeout,
            EgressErrorKind::Connect => Cause::Connect,
            // Trouble of our own says nothing of the upstream: no reason to ask the next one instead.
            EgressErrorKind::Broken | EgressErrorKind::Refused | EgressErrorKind::Credential => {
                Cause::Broken
            }
        };
        Self {
            reset: error.reset,
            ..Self::new(cause, &error.text)
        }
    }
}

/// An answer, and the credential that was sent for it.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) response: Response,
    pub(crate) grant: Option<Grant>,
}

/// GETs `path` below `base`, following redirects by hand: never from https to http, and the upstream's headers,
/// credential and userinfo only to the very same origin.
pub(crate) async fn get_path(
    egress: &Egress,
    base: &BaseUrl,
    path: &str,
    settings: &UpstreamSettings,
) -> Result<Sent, SendError> {
    let home = Url::parse(&format!("{}{path}", base.expose()))
        .map_err(|_| SendError::new(Cause::Broken, "the path makes no URL"))?;
    let headers = headers(&settings.headers)?;
    let grant = if egress.credentials().is_empty() {
        None
    } else {
        egress
            .credentials()
            .for_url(&home)
            .await
            .map_err(EgressError::from)?
    };
    // What is set for this very upstream goes before what is set for its host.
    let own_user = !home.username().is_empty() || home.password().is_some();
    let own = own_user || headers.contains_key(AUTHORIZATION);
    let mut url = home.clone();
    for _ in 0..=MAX_REDIRECTS {
        let at_home = url.origin() == home.origin();
        let granted = grant.as_ref().filter(|_| at_home);
        let client = egress
            .trusted(&url, granted, settings.connect_timeout)
            .await?;
        let mut request = client.get(url.clone());
        if let Some((name, value)) = granted.and_then(Grant::header)
            && !(own && name == AUTHORIZATION)
        {
            request = request.header(name, value);
        }
        if at_home {
            request = request.headers(headers.clone());
        }
        if let Ok(via) = HeaderValue::from_str(&egress.network().via)
            && !via.is_empty()
        {
            request = request.header(VIA, via);
        }
        let response = request
            .send()
            .await
            .map_err(|error| explain(&error, settings.connect_timeout))?;
        let Some(next) = redirect(&home, &url, &response, false)? else {
            let grant = grant.filter(|_| at_home && !own);
            return Ok(Sent { response, grant });
        };
        url = next;
    }
    Err(SendError::new(
        Cause::Broken,
        &format!("more than {MAX_REDIRECTS} redirects"),
    ))
}

fn headers(pairs: &[(String, String)]) -> Result<HeaderMap, SendError> {
    let mut map = HeaderMap::with_capacity(pairs.len());
    for (name, value) in pairs {
        let (Ok(name), Ok(mut value)) = (
            HeaderName::try_from(name.as_str()),
            HeaderValue::try_from(value.as_str()),
        ) else {
            return Err(SendError::new(
                Cause::Connect,
                "a header set for this upstream is not valid",
            ));
        };
        value.set_sensitive(true);
        map.append(name, value);
    }
    Ok(map)
}

/// A duration as `10 s` or `0.3 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

/// One line of printable text under 120 bytes.
pub(crate) fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_TEXT));
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if out.len() + c.len_utf8() > MAX_TEXT {
            break;
        }
        out.push(c);
    }
    out
}
