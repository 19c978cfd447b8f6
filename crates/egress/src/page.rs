//! Requests to addresses that strangers name.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT, VIA};
use reqwest::{Response, Url};
use tokio::time::{Instant, timeout_at};

use crate::error::{EgressError, EgressErrorKind, explain};
use crate::redirect::{MAX_REDIRECTS, redirect};
use crate::{Agent, Egress, Grant};

/// Longest wait for a connection to an address that a stranger named.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Longest wait for the end of a body that has come.
const END_WITHIN: Duration = Duration::from_millis(50);

/// Who asks in git's own protocol: the oldest git that does it as well, which nobody answers otherwise than a new one.
const GIT: &str = concat!("git/2.37.0 (modgate/", env!("CARGO_PKG_VERSION"), ")");

/// What is asked, and how.
#[derive(Debug, Clone)]
pub struct Ask {
    /// http or https; userinfo in it is dropped.
    pub url: Url,
    /// Longest wait for the head of the answer, redirects included, and then for each piece of the body.
    pub timeout: Duration,
    /// Whether http will do, here and after redirects.
    pub plain_http: bool,
    /// Whether the credential for the URL is sent, to its origin alone. Not for what a stranger could name to have it
    /// read for him.
    pub credentials: bool,
}

/// What is sent along.
#[derive(Debug, Clone)]
pub struct Post {
    /// `Content-Type`.
    pub kind: &'static str,
    /// More headers.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body.
    pub body: Bytes,
}

/// A whole answer, or the beginning of one.
#[derive(Debug)]
pub struct Page {
    /// The status.
    pub status: u16,
    /// Where it came from in the end.
    pub url: Url,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most as much as was asked for.
    pub body: Bytes,
    /// Whether the body was longer.
    pub cut: bool,
    /// The name of the credential sent, see [`Grant::name`].
    pub credential: Option<String>,
}

/// Which redirects are followed.
#[derive(Debug, Clone, Copy)]
struct Redirects {
    most: usize,
    /// Also to hosts that are listed as internal.
    inside: bool,
}

impl Default for Redirects {
    fn default() -> Self {
        Self {
            most: MAX_REDIRECTS,
            inside: true,
        }
    }
}

/// An answer whose body is still to come.
pub struct Answer {
    response: Response,
    url: Url,
    timeout: Duration,
    credential: Option<String>,
}

impl Egress {
    /// GETs a stranger's URL: each host on the way, redirects included, must have public addresses only or be listed as
    /// internal. Any status is an answer.
    pub async fn open(&self, ask: Ask) -> Result<Answer, EgressError> {
        self.opened(ask, None, Redirects::default()).await
    }

    /// The same at this URL alone: a redirect is an error, and nobody else is asked. A `post` makes it a POST.
    pub async fn open_here(&self, ask: Ask, post: Option<Post>) -> Result<Answer, EgressError> {
        let none = Redirects {
            most: 0,
            ..Redirects::default()
        };
        self.opened(ask, post, none).await
    }

    /// A POST that follows redirects, and is the same each time. `inside`: they may lead to hosts that are listed as
    /// internal.
    pub async fn post(&self, ask: Ask, post: Post, inside: bool) -> Result<Answer, EgressError> {
        let redirects = Redirects {
            inside,
            ..Redirects::default()
        };
        self.opened(ask, Some(post), redirects).await
    }

    async fn opened(
        &self,
        ask: Ask,
        post: Option<Post>,
        redirects: Redirects,
    ) -> Result<Answer, EgressError> {
        let timeout = ask.timeout;
        timeout_at(
            Instant::now() + timeout,
            self.follow(ask, post.as_ref(), redirects),
        )
        .await
        .unwrap_or_else(|_| Err(too_slow(timeout)))
    }

    /// The same as [`open`](Self::open), with up to `max_bytes` of the body, all within the time limit.
    pub async fn get_guarded(&self, ask: Ask, max_bytes: usize) -> Result<Page, EgressError> {
        let timeout = ask.timeout;
        let get = async {
            let mut answer = self.follow(ask, None, Redirects::default()).await?;
            let mut body = BytesMut::new();
            let mut cut = false;
            while let Some(chunk) = answer.next_chunk().await? {
                let room = max_bytes - body.len();
                cut = chunk.len() > room;
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if cut {
                    break;
                }
            }
            Ok(Page {
                status: answer.status(),
                headers: answer.headers().clone(),
                body: body.freeze(),
                cut,
                url: answer.url,
                credential: answer.credential,
            })
        };
        timeout_at(Instant::now() + timeout, get)
            .await
            .unwrap_or_else(|_| Err(too_slow(timeout)))
    }

    async fn follow(
        &self,
        ask: Ask,
        post: Option<&Post>,
        redirects: Redirects,
    ) -> Result<Answer, EgressError> {
        let mut home = ask.url.clone();
        let _ = home.set_username("");
        let _ = home.set_password(None);
        let grant = if ask.credentials {
            self.credentials().for_url(&home).await?
        } else {
            None
        };
        let answer = self
            .walk(&home, &ask, post, grant.as_ref(), redirects)
            .await?;
        let Some(grant) = grant.filter(|_| answer.credential.is_some()) else {
            return Ok(answer);
        };
        // A command may have a better one by now.
        if !matches!(answer.status(), 401 | 403) || !self.credentials().refused(&grant).await {
            return Ok(answer);
        }
        let grant = self.credentials().for_url(&home).await?;
        self.walk(&home, &ask, post, grant.as_ref(), redirects)
            .await
    }

    /// Follows redirects from `home`, with the credential for its origin.
    async fn walk(
        &self,
        home: &Url,
        ask: &Ask,
        post: Option<&Post>,
        grant: Option<&Grant>,
        redirects: Redirects,
    ) -> Result<Answer, EgressError> {
        let via = HeaderValue::from_str(&self.network().via).ok();
        let mut url = home.clone();
        for _ in 0..=redirects.most {
            if !(url.scheme() == "https" || url.scheme() == "http" && ask.plain_http) {
                let text = format!("{}:// is not asked: it is not encrypted", url.scheme());
                return Err(EgressError::new(EgressErrorKind::Refused, text));
            }
            let granted = grant.filter(|_| url.origin() == home.origin());
            let client = self.guarded_with(&url, granted, CONNECT_WITHIN).await?;
            let mut request = match post {
                None => client.get(url.clone()),
                Some(post) => {
                    let mut request = client.post(url.clone()).header(CONTENT_TYPE, post.kind);
                    for (name, value) in &post.headers {
                        request = request.header(*name, *value);
                    }
                    request.body(post.body.clone())
                }
            };
            // What is decoded has no length, and who passes it on could not tell where it breaks off.
            request = request.header(ACCEPT_ENCODING, "identity");
            if matches!(self.1, Agent::Git) {
                request = request.header(USER_AGENT, GIT);
            }
            if let Some((name, value)) = granted.and_then(Grant::header) {
                request = request.header(name, value);
            }
            if let Some(via) = via.clone().filter(|via| !via.is_empty()) {
                request = request.header(VIA, via);
            }
            let response = request
                .send()
                .await
                .map_err(|error| at(&url, explain(&error, CONNECT_WITHIN)))?;
            match redirect(home, &url, &response, ask.plain_http)? {
                Some(next) if self.is_internal(&next) && !redirects.inside => {
                    let host = next.host_str().unwrap_or_default();
                    let text = format!("redirected to {host}, a host inside, by one outside");
                    return Err(EgressError::new(EgressErrorKind::Refused, text));
                }
                Some(next) => url = next,
                None => {
                    return Ok(Answer {
                        credential: granted.map(|grant| grant.name().to_owned()),
                        response,
                        url,
                        timeout: ask.timeout,
                    });
                }
            }
        }
        Err(EgressError::broken(format!(
            "more than {} redirects",
            redirects.most
        )))
    }
}

impl Answer {
    /// The status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Where it comes from in the end.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// `Content-Length` in bytes, if there is one; a body that ends earlier is an error.
    pub fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The name of the credential sent, see [`Grant::name`].
    pub fn credential(&self) -> Option<&str> {
        self.credential.as_deref()
    }

    /// The next piece of the body; `None` once it has come whole.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, EgressError> {
        match tokio::time::timeout(self.timeout, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(_)) => Err(EgressError::new(
                EgressErrorKind::Connect,
                "the body broke off",
            )),
            Err(_) => {
                let text = format!("the body stalled for {} s", self.timeout.as_secs_f64());
                Err(EgressError::new(EgressErrorKind::Timeout, text))
            }
        }
    }

    /// Takes the end of a body of which all that matters was read: only then is the connection used again. Waits for it a
    /// moment, and reads no further.
    pub async fn finish(mut self) {
        // More than the end is none of ours.
        let _ = tokio::time::timeout(END_WITHIN, self.response.chunk()).await;
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status())
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

/// The same error with the host in front, unless it names one: after redirects it is not clear who failed.
fn at(url: &Url, error: EgressError) -> EgressError {
    match error.kind {
        EgressErrorKind::Refused | EgressErrorKind::Credential => error,
        _ => EgressError {
            text: format!("{}: {}", url.host_str().unwrap_or(""), error.text),
            ..error
        },
    }
}

fn too_slow(timeout: Duration) -> EgressError {
    let text = format!("no answer within {} s", timeout.as_secs_f64());
    EgressError::new(EgressErrorKind::Timeout, text)
}
