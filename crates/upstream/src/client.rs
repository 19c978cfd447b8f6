//! HTTP clients made on first use, redirects, and errors in people's words.

use std::collections::HashMap;
use std::error::Error as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue, LOCATION, VIA};
use reqwest::{Client, NoProxy, Proxy, Response, Url};
use tokio::sync::OnceCell;

use crate::chain::BaseUrl;
use crate::failure::Cause;
use crate::settings::{NetworkSettings, UpstreamSettings};

/// Most redirects followed, as by the go command.
const MAX_REDIRECTS: usize = 10;
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

/// The clients, one per connect timeout, since that is a property of reqwest's connector.
#[derive(Debug)]
pub(crate) struct Clients {
    network: NetworkSettings,
    made: Mutex<HashMap<Duration, Arc<OnceCell<Client>>>>,
}

impl Clients {
    pub(crate) fn new(network: NetworkSettings) -> Self {
        Self {
            network,
            made: Mutex::new(HashMap::new()),
        }
    }

    /// The client for a connect timeout. Reading the system's roots takes tens of milliseconds,
    /// so that is done once, off the runtime's own threads.
    async fn get(&self, connect_timeout: Duration) -> Result<Client, SendError> {
        let cell = Arc::clone(
            self.made
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(connect_timeout)
                .or_default(),
        );
        let client = cell
            .get_or_try_init(|| async {
                let network = self.network.clone();
                tokio::task::spawn_blocking(move || build(&network, connect_timeout))
                    .await
                    .map_err(|_| "the HTTP client could not be set up".to_owned())?
            })
            .await
            .map_err(|text| SendError::new(Cause::Connect, &text))?;
        Ok(client.clone())
    }

    /// GETs `path` below `base`, following redirects by hand: never from https to http, and the
    /// upstream's headers and userinfo only to the very same origin.
    pub(crate) async fn get_path(
        &self,
        base: &BaseUrl,
        path: &str,
        settings: &UpstreamSettings,
    ) -> Result<Response, SendError> {
        let client = self.get(settings.connect_timeout).await?;
        let home = Url::parse(&format!("{}{path}", base.expose()))
            .map_err(|_| SendError::new(Cause::Broken, "the path makes no URL"))?;
        let headers = headers(&settings.headers)?;
        let mut url = home.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = client.get(url.clone());
            if url.origin() == home.origin() {
                request = request.headers(headers.clone());
            }
            if let Ok(via) = HeaderValue::from_str(&self.network.via)
                && !via.is_empty()
            {
                request = request.header(VIA, via);
            }
            let response = request
                .send()
                .await
                .map_err(|e| explain(&e, settings.connect_timeout))?;
            match redirect(&home, &url, &response)? {
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(SendError::new(
            Cause::Broken,
            &format!("more than {MAX_REDIRECTS} redirects"),
        ))
    }
}

fn build(network: &NetworkSettings, connect_timeout: Duration) -> Result<Client, String> {
    let builder = |only: bool| -> Result<reqwest::ClientBuilder, String> {
        let mut roots = Vec::new();
        if let Some(pem) = &network.ca_pem {
            roots = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(|_| "the CA file is not PEM certificates".to_owned())?;
        }
        let mut builder = Client::builder()
            .user_agent(concat!("modgate/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .http2_initial_stream_window_size(2 * 1024 * 1024)
            .http2_initial_connection_window_size(8 * 1024 * 1024)
            .http2_max_header_list_size(64 * 1024)
            .no_proxy();
        builder = if only {
            builder.tls_certs_only(roots)
        } else {
            builder.tls_certs_merge(roots)
        };
        if let Some(proxy) = &network.proxy {
            let proxy = Proxy::all(proxy).map_err(|_| "the proxy's URL is not valid".to_owned())?;
            builder =
                builder.proxy(proxy.no_proxy(NoProxy::from_string(&network.no_proxy.join(","))));
        }
        Ok(builder)
    };
    // A machine without any system roots (a bare container) can still use http upstreams and the
    // configured roots.
    match builder(false)?.build() {
        Ok(client) => Ok(client),
        Err(first) => {
            tracing::warn!(error = %deepest(&first), "the system's certificates cannot be used");
            builder(true)?.build().map_err(|e| deepest(&e))
        }
    }
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

/// Where to go on, if the answer is a redirect that says so.
fn redirect(home: &Url, url: &Url, response: &Response) -> Result<Option<Url>, SendError> {
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
    let broken = |text: &str| SendError::new(Cause::Broken, text);
    let mut next = location
        .to_str()
        .ok()
        .and_then(|location| url.join(location).ok())
        .ok_or_else(|| broken("redirected to something that is no URL"))?;
    match (url.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") => return Err(broken("redirected from https to http")),
        _ => return Err(broken("redirected to something other than http or https")),
    }
    // Userinfo is ours or nobody's. The setters fail only for URLs without a host.
    let (user, password) = if next.origin() == home.origin() {
        (home.username(), home.password())
    } else {
        ("", None)
    };
    let _ = next.set_username(user);
    let _ = next.set_password(password);
    Ok(Some(next))
}

/// What an error of reqwest means, without URLs in it.
fn explain(error: &reqwest::Error, connect_timeout: Duration) -> SendError {
    let mut texts = Vec::new();
    let mut kind = None;
    let mut source = error.source();
    while let Some(inner) = source {
        texts.push(inner.to_string());
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            kind = Some(io.kind());
        }
        source = inner.source();
    }
    let all = texts.join(": ");
    let lower = all.to_lowercase();
    let has = |part: &str| lower.contains(part);
    if error.is_timeout() || kind == Some(io::ErrorKind::TimedOut) {
        let text = format!("no connection within {}", seconds(connect_timeout));
        return SendError::new(Cause::Timeout, &text);
    }
    let text = if has("certificate") {
        x509(&lower)
    } else if kind == Some(io::ErrorKind::ConnectionRefused) {
        "connection refused".to_owned()
    } else if has("dns error") || has("failed to lookup address") {
        "no such host".to_owned()
    } else if has("unreachable") {
        "network unreachable".to_owned()
    } else if has("invalidcontenttype") || has("handshake") || has("tls") {
        "the TLS handshake failed".to_owned()
    } else if error.is_connect() {
        format!("no connection: {}", texts.last().map_or("", String::as_str))
    } else if matches!(
        kind,
        Some(
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        )
    ) || has("connection closed")
        || has("incomplete")
        || has("reset")
    {
        return SendError {
            reset: true,
            ..SendError::new(Cause::Connect, "connection reset before an answer")
        };
    } else {
        let text = format!(
            "the answer breaks HTTP: {}",
            texts.last().map_or("", String::as_str)
        );
        return SendError::new(Cause::Broken, &text);
    };
    SendError {
        reset: kind == Some(io::ErrorKind::ConnectionReset),
        ..SendError::new(Cause::Connect, &text)
    }
}

/// A certificate that was not accepted, in the words Go uses.
fn x509(lower: &str) -> String {
    let why = if lower.contains("unknownissuer") || lower.contains("selfsigned") {
        "signed by unknown authority"
    } else if lower.contains("notvalidyet") || lower.contains("not valid yet") {
        "is not yet valid"
    } else if lower.contains("expired") {
        "has expired"
    } else if lower.contains("notvalidforname") || lower.contains("not valid for") {
        "is not valid for this host"
    } else if lower.contains("revoked") {
        "is revoked"
    } else {
        "not accepted"
    };
    format!("x509: certificate {why}")
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(inner) = error.source() {
        error = inner;
    }
    tidy(&error.to_string())
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
