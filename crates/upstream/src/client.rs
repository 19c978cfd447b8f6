//! Requests to one upstream: credentials, redirects, and errors in people's words.

use std::time::Duration;

use egress::{Egress, EgressError, EgressErrorKind, Grant, MAX_REDIRECTS, explain, redirect};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER, VIA,
};
use reqwest::{Response, Url};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::chain::BaseUrl;
use crate::failure::Cause;
use crate::names_gateway;
use crate::peer::Asked;
use crate::settings::UpstreamSettings;

/// Longest outcome text, in bytes.
const MAX_TEXT: usize = 119;

/// The longest wait that is believed of an upstream: one that asks for more may be another, or well, by then.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);

/// The coding of a body that is what it is.
const IDENTITY: &str = "identity";

/// A request without an answer to show for it.
#[derive(Debug)]
pub(crate) struct SendError {
    pub(crate) cause: Cause,
    pub(crate) text: String,
    /// What to do about it, if that is known.
    pub(crate) hint: Option<String>,
    /// The connection was lost: the same request may well succeed.
    pub(crate) reset: bool,
}

impl SendError {
    pub(crate) fn new(cause: Cause, text: &str) -> Self {
        Self {
            cause,
            text: tidy(text),
            hint: None,
            reset: false,
        }
    }

    /// The same, of the host that a redirect led to: else the upstream itself would be looked at.
    fn at(self, url: &Url) -> Self {
        Self {
            text: tidy(&format!(
                "redirected to {}: {}",
                host_and_port(url),
                self.text
            )),
            ..self
        }
    }
}

/// Where a URL leads, without the rest of it: there may be a signature in that.
fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
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
            hint: error.hint,
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
    /// Who it was asked as, in words for an error; none if as nobody.
    pub(crate) user: Option<String>,
    /// Whether it, or a redirect on the way to it, came from a gateway of this kind.
    pub(crate) from_gateway: bool,
    /// Who answered, where a redirect led to another host or port.
    pub(crate) elsewhere: Option<String>,
}

/// The coding of an answer, such as `br`, if it has one: its bytes are not those of the file then. One of `gzip` is not asked
/// for either, but undone on the way as the go command does, and not seen here.
pub(crate) fn coding(response: &Response) -> Option<String> {
    let coding = response.headers().get(CONTENT_ENCODING)?.as_bytes();
    let plain = coding.is_empty() || coding.eq_ignore_ascii_case(IDENTITY.as_bytes());
    (!plain).then(|| String::from_utf8_lossy(coding).into_owned())
}

/// How long an upstream that is asked too much, or in trouble, wants to be left alone: seconds or a date (RFC 9110 10.2.3).
pub(crate) fn retry_after(response: &Response) -> Option<Duration> {
    if !matches!(response.status().as_u16(), 429 | 500..) {
        return None;
    }
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    wait(text, OffsetDateTime::now_utc())
}

fn wait(text: &str, now: OffsetDateTime) -> Option<Duration> {
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has are a long time too.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = OffsetDateTime::parse(text, &Rfc2822).ok()?;
        (date - now).try_into().ok()?
    };
    // None at all, or less than can be said, is no wish.
    (wait.as_secs() > 0).then(|| wait.min(MAX_RETRY_AFTER))
}

/// Whether an upstream is asked without a credential.
pub(crate) async fn needs_no_credential(egress: &Egress, base: &BaseUrl) -> bool {
    let credentials = egress.credentials();
    let Ok(url) = Url::parse(base.expose()) else {
        return false;
    };
    credentials.is_empty() || matches!(credentials.for_url(&url).await, Ok(None))
}

/// GETs a path below `base`, following redirects by hand: never from https to http, and the upstream's headers, credential
/// and userinfo only to the very same origin. The host of this upstream, on whatever port, and other upstreams were named
/// by the administrator; elsewhere only public addresses and hosts listed as internal are asked.
pub(crate) async fn get_path(
    egress: &Egress,
    base: &BaseUrl,
    asked: &Asked,
    settings: &UpstreamSettings,
) -> Result<Sent, SendError> {
    let home = Url::parse(&format!("{}{}", base.expose(), asked.path))
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
    let mut from_gateway = false;
    for _ in 0..=MAX_REDIRECTS {
        let at_home = url.origin() == home.origin();
        let named = url.host_str() == home.host_str() || egress.is_upstream(&url);
        let granted = grant.as_ref().filter(|_| at_home);
        let client = if named {
            egress
                .trusted(&url, granted, settings.connect_timeout)
                .await?
        } else {
            egress
                .guarded(&url, settings.connect_timeout)
                .await
                .map_err(astray)?
        };
        // Bytes are passed on as they come, so they should be the file's own.
        let mut request = client.get(url.clone()).header(ACCEPT_ENCODING, IDENTITY);
        if let Some((name, value)) = granted.and_then(Grant::header)
            && !(own && name == AUTHORIZATION)
        {
            request = request.header(name, value);
        }
        if at_home {
            request = request.headers(headers.clone());
        }
        if let Some(via) = &asked.via {
            request = request.header(VIA, via);
        }
        let response = request.send().await.map_err(|error| {
            let error = explain(&error, settings.connect_timeout);
            if at_home {
                error.into()
            } else if error.kind == EgressErrorKind::Refused {
                astray(error)
            } else {
                SendError::from(error).at(&url)
            }
        })?;
        let mut via = response.headers().get_all(VIA).iter();
        from_gateway |= via.any(|via| via.to_str().is_ok_and(names_gateway));
        let Some(next) = redirect(&home, &url, &response, false)? else {
            let user = if !at_home {
                None
            } else if own_user {
                Some("the user in its URL".to_owned())
            } else if let Some(name) = headers.keys().find(|name| is_login(name)) {
                Some(format!("the header {name} set for it"))
            } else {
                grant.as_ref().map(|grant| grant.name().to_owned())
            };
            let grant = grant.filter(|_| at_home && !own);
            return Ok(Sent {
                response,
                grant,
                user,
                from_gateway,
                elsewhere: (!at_home).then(|| host_and_port(&url)),
            });
        };
        url = next;
    }
    Err(SendError::new(
        Cause::Broken,
        &format!("more than {MAX_REDIRECTS} redirects"),
    ))
}

/// What failed after a redirect to elsewhere: that it leads inside is said in words that name the host.
fn astray(mut error: EgressError) -> SendError {
    if error.kind == EgressErrorKind::Refused {
        error.text.insert_str(0, "redirected, but ");
    }
    error.into()
}

/// Whether a header set for an upstream looks as if it were for a login.
fn is_login(name: &HeaderName) -> bool {
    let words = ["auth", "token", "key", "cookie", "secret"];
    words.iter().any(|word| name.as_str().contains(word))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_an_upstream_asks_for_is_bounded() {
        let now = OffsetDateTime::parse("Wed, 21 Oct 2037 07:28:00 GMT", &Rfc2822).unwrap();
        for (text, want) in [
            ("0", None),
            ("7", Some(7)),
            ("100000", Some(600)),
            ("99999999999999999999999", Some(600)),
            ("Wed, 21 Oct 2037 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2037 07:27:30 GMT", None),
            ("Thu, 22 Oct 2037 07:28:30 GMT", Some(600)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            let got = wait(text, now).map(|wait| wait.as_secs());
            assert_eq!(got, want, "{text:?}");
        }
    }
}
