//! One request: read, answered, recorded. The straight line of everything.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::AtomicU64},
    task::{Context, Poll},
    time::Instant,
};

use arc_swap::ArcSwap;
use gomod::Request as Asking;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{HOST, VIA},
};
use hyper::body::Incoming;

use super::{
    admin,
    body::{Body, Open},
    guard::Pulse,
    lower,
    respond::{self, Asked},
    vanity::Vanity,
};
use crate::{
    Gateway,
    answer::Content,
    metrics::Metrics,
    pipeline::Want,
    record::{Kind, Outcome, Record, Recorder, Subject},
    refusal::{Code, Refusal},
    via::Via,
};

/// Requests from caches only: a header of other clients' making (protocol.md 3.1).
const DISABLE_MODULE_FETCH: HeaderName = HeaderName::from_static("disable-module-fetch");
/// Set by a balancer that takes TLS off. Whoever sends it without gets no redirect to http: no harm.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const CACHED_ONLY: &str = "/cached-only/";

/// Where requests come in.
#[derive(Debug)]
pub struct Door {
    gateway: Arc<Gateway>,
    recorder: Arc<Recorder>,
    /// Where the next connection's ids of requests begin.
    next_ids: AtomicU64,
    settings: ArcSwap<DoorSettings>,
}

/// What may change while the door is open.
#[derive(Clone, Debug)]
pub struct DoorSettings {
    /// The address that clients are told, if it is not the one they came by.
    pub public_url: Option<String>,
    /// Whether clients come by TLS.
    pub tls: bool,
    /// When the certificate ends, in seconds since 1970.
    pub certificate_end: Option<i64>,
    /// The longest path of a request, in bytes.
    pub max_path_bytes: usize,
    /// Whether `/metrics` is served.
    pub metrics_page: bool,
    /// What `?go-get=1` is answered for.
    pub vanity: Vanity,
}

/// A response that is there already, or one that must be waited for.
#[expect(
    clippy::large_enum_variant,
    reason = "a box would cost the warm path an allocation"
)]
pub(crate) enum Answering {
    Now(Ready<Response<Body>>),
    Later(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
}

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(response) => Pin::new(response).poll(cx),
            Self::Later(response) => response.as_mut().poll(cx),
        }
        .map(Ok)
    }
}

impl Door {
    /// A door to `gateway`.
    pub fn new(gateway: Arc<Gateway>, recorder: Arc<Recorder>, settings: DoorSettings) -> Self {
        let mut seed = [0; 8];
        // Without randomness ids still differ within this process, which is what they are for.
        let _ = getrandom::fill(&mut seed);
        Self {
            gateway,
            recorder,
            next_ids: AtomicU64::new(u64::from_le_bytes(seed)),
            settings: ArcSwap::from_pointee(settings),
        }
    }

    /// Takes new settings, for requests from now on.
    pub fn set(&self, settings: DoorSettings) {
        self.settings.store(Arc::new(settings));
    }

    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.recorder.metrics
    }

    /// Answers one request. Another gateway is told that one answers, so that it knows where a loop may be.
    pub(crate) fn answer(
        &self,
        request: Request<Incoming>,
        client: SocketAddr,
        encrypted: bool,
        pulse: &Arc<Pulse>,
    ) -> Answering {
        let mut via = request.headers().get_all(VIA).iter();
        let to_gateway = via.any(|via| via.to_str().is_ok_and(upstream::names_gateway));
        let answering = self.answering(request, client, encrypted, pulse);
        if !to_gateway {
            return answering;
        }
        match HeaderValue::from_str(&format!("1.1 {}", self.gateway.via())) {
            Ok(own) => Answering::Later(Box::pin(async move {
                let Ok(mut response) = answering.await;
                response.headers_mut().insert(VIA, own);
                response
            })),
            Err(_) => answering,
        }
    }

    fn answering(
        &self,
        request: Request<Incoming>,
        client: SocketAddr,
        encrypted: bool,
        pulse: &Arc<Pulse>,
    ) -> Answering {
        let mut open = self.open(client, pulse);
        if request.version() == Version::HTTP_2 {
            pulse.is_shared();
        }
        let asked = Asked {
            method: request.method(),
            headers: request.headers(),
        };
        let parsed = match self.read(&request, encrypted) {
            Ok(parsed) => parsed,
            Err(refused) => {
                open.record.subject.module = request.uri().path().chars().take(200).collect();
                return Answering::Now(ready(respond::refusal(&refused, &asked, open)));
            }
        };
        let (asking, want) = match parsed {
            Parsed::Admin(page) => {
                request
                    .uri()
                    .path()
                    .clone_into(&mut open.record.subject.module);
                let (gateway, recorder) = (Arc::clone(&self.gateway), Arc::clone(&self.recorder));
                let settings = self.settings.load_full();
                let to_come = pulse.wait();
                return Answering::Later(Box::pin(async move {
                    let _to_come = to_come;
                    page.answer(gateway, recorder, settings, &request, open)
                        .await
                }));
            }
            Parsed::Vanity(page) => {
                request
                    .uri()
                    .path()
                    .clone_into(&mut open.record.subject.module);
                open.record.outcome = Outcome::Hit;
                let html = "text/html; charset=utf-8";
                let page = respond::page(StatusCode::OK, html, page, &asked, open);
                return Answering::Now(ready(page));
            }
            Parsed::Module(asking, want) => (asking, want),
        };
        if let Some(answer) = self.gateway.warm(&asking) {
            open.record.subject = subject(asking);
            return Answering::Now(ready(respond::answer(answer, &asked, open)));
        }
        open.record.subject = subject(asking.clone());
        let gateway = Arc::clone(&self.gateway);
        let to_come = pulse.wait();
        Answering::Later(Box::pin(async move {
            let _to_come = to_come;
            let asked = Asked {
                method: request.method(),
                headers: request.headers(),
            };
            match Arc::clone(&gateway).answer(asking, want).await {
                Ok(answer) => match &answer.content {
                    Content::Lower(lower) => {
                        lower::answer(&gateway, lower, &answer, &asked, open).await
                    }
                    _ => respond::answer(answer, &asked, open),
                },
                Err(refused) => {
                    if refused.repeated {
                        open.record.outcome = Outcome::Negative;
                    }
                    open.record.upstream = refused.upstream;
                    respond::refusal(&refused.refusal, &asked, open)
                }
            }
        }))
    }

    fn open(&self, client: SocketAddr, pulse: &Arc<Pulse>) -> Open {
        pulse.asked();
        self.recorder.metrics.tally.begin();
        let record = Record {
            begin: Instant::now(),
            id: pulse.next_id(&self.next_ids),
            client,
            subject: Subject {
                kind: Kind::Other,
                module: String::new(),
                version: String::new(),
            },
            // What nginx logs for a client that went away before there was an answer.
            status: 499,
            outcome: Outcome::Refused,
            code: None,
            upstream: None,
            bytes: 0,
            complete: false,
        };
        Open {
            record: Box::new(record),
            pulse: Arc::clone(pulse),
        }
    }

    /// Parses a request whole before anything else happens.
    fn read(&self, request: &Request<Incoming>, encrypted: bool) -> Result<Parsed, Refusal> {
        let path = request.uri().path();
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let why = format!(
                "{} is not part of the protocol, only GET and HEAD are",
                request.method()
            );
            return Err(Refusal::new(Code::MethodNotAllowed, "", why));
        }
        // RFC 9112 3.2: of two a gateway in between may have believed the other one.
        if request.version() == Version::HTTP_11
            && request.headers().get_all(HOST).iter().take(2).count() != 1
        {
            let why = "an HTTP/1.1 request has exactly one Host header";
            return Err(Refusal::new(Code::BadRequest, path, why));
        }
        let settings = self.settings.load();
        if path.len() > settings.max_path_bytes {
            let why = format!(
                "the path has {} bytes, more than the limit of {}",
                path.len(),
                settings.max_path_bytes
            );
            return Err(Refusal::new(Code::PathTooLong, "", why));
        }
        let vanity = settings.vanity.page(request);
        if vanity.is_none()
            && let Some(page) = admin::Page::at(path)
                .filter(|page| settings.metrics_page || *page != admin::Page::Metrics)
        {
            return Ok(Parsed::Admin(page));
        }
        let via = Via::read(request.headers(), self.gateway.via()).map_err(|mut refusal| {
            path.clone_into(&mut refusal.what);
            refusal
        })?;
        if let Some(page) = vanity {
            return Ok(Parsed::Vanity(page));
        }
        let (path, prefixed) = match path.strip_prefix(CACHED_ONLY) {
            Some(_) => (&path[CACHED_ONLY.len() - 1..], true),
            None => (path, false),
        };
        let asking = Asking::parse(path).map_err(|error| unreadable(path, &error))?;
        let headers = request.headers();
        let cached_only = prefixed
            || headers
                .get(DISABLE_MODULE_FETCH)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
        // A part or the bare length of a download can be told only when the whole is there. And to HTTP/1.0 a body
        // without a length is over when the connection is, broken off or not.
        let whole = *request.method() == Method::HEAD
            || request.version() < Version::HTTP_11
            || headers.contains_key(http::header::RANGE)
            || headers.contains_key(http::header::IF_MATCH)
            || headers.contains_key(http::header::IF_NONE_MATCH);
        let want = Want {
            cached_only,
            whole,
            encrypted: encrypted
                || headers
                    .get(FORWARDED_PROTO)
                    .is_some_and(|proto| proto == "https"),
            via,
            ..Want::default()
        };
        Ok(Parsed::Module(asking, want))
    }
}

enum Parsed {
    Admin(admin::Page),
    Vanity(String),
    Module(Asking, Want),
}

fn subject(asking: Asking) -> Subject {
    let named = |kind, module: gomod::ModulePath, version: String| Subject {
        kind,
        module: module.into(),
        version,
    };
    match asking {
        Asking::List(module) => named(Kind::List, module, String::new()),
        Asking::Latest(module) => named(Kind::Latest, module, String::new()),
        Asking::Info(module, version) => named(Kind::Info, module, version.into()),
        Asking::Query(module, query) => named(Kind::Query, module, query.into()),
        Asking::Mod(module, version) => named(Kind::Mod, module, version.into()),
        Asking::Zip(module, version) => named(Kind::Zip, module, version.into()),
        Asking::SumDb { ask, .. } => match ask {
            gomod::SumDbAsk::Lookup(module, version) => named(Kind::SumDb, module, version.into()),
            _ => Subject {
                kind: Kind::SumDb,
                module: String::new(),
                version: String::new(),
            },
        },
    }
}

fn first_element(path: &str) -> &str {
    let path = path.trim_start_matches('/');
    path.split('/').next().unwrap_or(path)
}

/// What is no request of the protocol: absent, so that a client goes on to its next proxy, unless it cannot even be read.
fn unreadable(path: &str, error: &gomod::RequestError) -> Refusal {
    use gomod::RequestError as E;
    let code = match error {
        E::Encoding(_) => Code::BadRequest,
        E::NotFound => Code::EndpointNotFound,
        E::NotCanonical(_) => Code::NotCanonical,
        _ => Code::InvalidName,
    };
    let refusal = Refusal::new(code, path, error.to_string());
    match code {
        Code::EndpointNotFound => {
            refusal.hint("modgate serves the Go module proxy protocol: set GOPROXY to its address")
        }
        // The go command asks for no such path by itself.
        Code::InvalidName if !first_element(path).contains('.') => refusal.hint(
            "if that stands in your GOPROXY: it is the gateway's address alone, without a path",
        ),
        _ => refusal,
    }
}
