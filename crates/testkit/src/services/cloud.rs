//! What Google Cloud Storage and Azure Blob Storage answer to what modgate asks, by their documentation.
//!
//! Emulators of both exist, and are no help here: that of Google's which can be installed does not take uploads by the
//! interface that the client speaks, and that of Azure's needs three hundred packages. Credentials are not looked at.

mod azure;
mod google;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use sha2::{Digest as _, Sha256};
use time::format_description::well_known::Rfc2822;
use time::{Duration, OffsetDateTime};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

type Answer = Response<Full<Bytes>>;

/// Whose interface it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// The XML interface of Google Cloud Storage.
    Google,
    /// That of Azure Blob Storage, with the account in the path.
    Azure,
}

/// One bucket in the memory of the test. It ends when it is dropped.
#[derive(Debug)]
pub struct Cloud {
    interface: Interface,
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Debug, Default)]
struct State {
    /// None once it was removed.
    bucket: Option<Bucket>,
    /// Whether another writer finishes the next object in parts first, with the same bytes.
    overtaken: bool,
}

#[derive(Debug, Default)]
struct Bucket {
    objects: BTreeMap<String, Object>,
    /// By the name of an upload (Google) or of the object (Azure), and by the name of the part.
    parts: HashMap<String, BTreeMap<String, Bytes>>,
    /// What uploads will be: Google is told at the beginning.
    begun: HashMap<String, HeaderMap>,
}

#[derive(Debug, Clone)]
struct Object {
    body: Bytes,
    /// The content type, and what stands beside the object.
    about: HeaderMap,
    generation: u64,
    modified: OffsetDateTime,
}

/// A request, taken apart.
struct Asked {
    method: Method,
    /// Of the object, below the bucket; empty for the bucket itself.
    key: String,
    query: HashMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
}

impl Cloud {
    /// The name of the bucket or container, and of the account.
    pub const BUCKET: &str = "modgate";

    /// Starts one with an empty bucket.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start(interface: Interface) -> Cloud {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State {
            bucket: Some(Bucket::default()),
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request| {
                    let shared = Arc::clone(&shared);
                    async move { Ok::<_, Infallible>(answer(interface, &shared, request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Cloud {
            interface,
            addr,
            state,
            server,
        }
    }

    /// Whose interface it speaks.
    pub fn interface(&self) -> Interface {
        self.interface
    }

    /// The address for a configuration.
    pub fn endpoint(&self) -> String {
        match self.interface {
            Interface::Google => format!("http://{}", self.addr),
            Interface::Azure => format!("http://{}/{}", self.addr, Cloud::BUCKET),
        }
    }

    /// A secret key for a configuration: one with which no token is asked for (Google), or any (Azure).
    pub fn secret_key(&self) -> &'static str {
        match self.interface {
            Interface::Google => {
                r#"{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}"#
            }
            Interface::Azure => "c2VjcmV0",
        }
    }

    /// Removes the bucket, with all that is in it.
    pub fn remove_bucket(&self) {
        lock(&self.state).bucket = None;
    }

    /// Makes it anew, empty.
    pub fn make_bucket(&self) {
        lock(&self.state).bucket = Some(Bucket::default());
    }

    /// Lets another writer finish the next object in parts first, with the same bytes.
    pub fn overtake(&self) {
        lock(&self.state).overtaken = true;
    }

    /// Writes an object as somebody else does, so many days ago.
    ///
    /// # Panics
    /// If the bucket was removed.
    pub fn put(&self, key: &str, body: impl Into<Bytes>, days_ago: i64) {
        let mut state = lock(&self.state);
        let bucket = state.bucket.as_mut().expect("there is a bucket");
        let object = bucket.keep(key, body.into(), HeaderMap::new());
        object.modified -= Duration::days(days_ago);
    }

    /// The bytes of an object.
    pub fn object(&self, key: &str) -> Option<Bytes> {
        let state = lock(&self.state);
        let bucket = state.bucket.as_ref()?;
        bucket.objects.get(key).map(|object| object.body.clone())
    }

    /// Changes the bytes of an object, and nothing that is said of it.
    ///
    /// # Panics
    /// If there is none.
    pub fn alter(&self, key: &str, body: impl Into<Bytes>) {
        let mut state = lock(&self.state);
        let bucket = state.bucket.as_mut().expect("there is a bucket");
        let about = bucket.objects.get(key).expect("there is one").about.clone();
        bucket.keep(key, body.into(), about);
    }
}

impl Bucket {
    fn keep(&mut self, key: &str, body: Bytes, about: HeaderMap) -> &mut Object {
        let object = Object {
            body,
            about,
            generation: next(),
            modified: OffsetDateTime::now_utc(),
        };
        let entry = self.objects.entry(key.to_owned());
        entry.insert_entry(object).into_mut()
    }
}

impl Object {
    /// Google's is of the bytes, Azure's another one with every write.
    fn e_tag(&self, interface: Interface) -> String {
        match interface {
            Interface::Azure => format!("\"0x{:X}\"", self.generation),
            Interface::Google => {
                let hash = Sha256::digest(&self.body);
                format!(
                    "\"{:02x}{:02x}{:02x}{:02x}\"",
                    hash[0], hash[1], hash[2], hash[3]
                )
            }
        }
    }

    /// The answer to GET and HEAD.
    fn read(&self, interface: Interface, asked: &Asked) -> Answer {
        let tag = self.e_tag(interface);
        let has =
            |name: HeaderName| text(&asked.headers, name.as_str()).is_some_and(|is| is == tag);
        if asked.headers.contains_key(header::IF_MATCH) && !has(header::IF_MATCH) {
            let code = match interface {
                Interface::Google => "PreconditionFailed",
                Interface::Azure => "ConditionNotMet",
            };
            return refusal(StatusCode::PRECONDITION_FAILED, code);
        }
        let mut answer = Response::new(Full::from(self.body.clone()));
        if has(header::IF_NONE_MATCH) {
            answer = with_status(StatusCode::NOT_MODIFIED, Bytes::new());
        } else if let Some(range) = text(&asked.headers, "range") {
            let (from, to) = range
                .trim_start_matches("bytes=")
                .split_once('-')
                .expect("a range");
            let from: usize = from.parse().expect("a range with a begin");
            let to = to.parse::<usize>().map_or(self.body.len(), |to| to + 1);
            let to = to.min(self.body.len());
            answer = with_status(StatusCode::PARTIAL_CONTENT, self.body.slice(from..to));
            let content = format!("bytes {from}-{}/{}", to - 1, self.body.len());
            set(&mut answer, "content-range", &content);
        }
        if asked.method == Method::HEAD {
            *answer.body_mut() = Full::default();
            set(&mut answer, "content-length", &self.body.len().to_string());
        }
        for (name, value) in &self.about {
            answer.headers_mut().insert(name, value.clone());
        }
        self.mark(interface, &mut answer);
        answer
    }

    /// What says which state of the object it is.
    fn mark(&self, interface: Interface, answer: &mut Answer) {
        set(answer, "etag", &self.e_tag(interface));
        let modified = self.modified.format(&Rfc2822).expect("a date");
        set(answer, "last-modified", &modified.replace("+0000", "GMT"));
        if interface == Interface::Google {
            set(answer, "x-goog-generation", &self.generation.to_string());
        }
    }
}

/// A number that was not there before, in no bucket.
fn next() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(1_700_000_000_000_000);
    LAST.fetch_add(1, Relaxed) + 1
}

async fn answer(interface: Interface, state: &Mutex<State>, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return refusal(StatusCode::BAD_REQUEST, "IncompleteBody");
    };
    let mut state = lock(state);
    let path = decoded(parts.uri.path());
    let mut path = path.trim_start_matches('/');
    if interface == Interface::Azure {
        path = path.split_once('/').map_or("", |(_, rest)| rest);
    }
    let (name, key) = path.split_once('/').unwrap_or((path, ""));
    let pairs = parts.uri.query().unwrap_or_default().split('&');
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let asked = Asked {
        method: parts.method,
        key: key.to_owned(),
        query: pairs
            .map(|(name, value)| (name.to_owned(), decoded(value)))
            .collect(),
        headers: parts.headers,
        body: body.to_bytes(),
    };
    let State {
        bucket, overtaken, ..
    } = &mut *state;
    let bucket = bucket.as_mut().filter(|_| name == Cloud::BUCKET);
    match interface {
        Interface::Google => google::answer(bucket, &asked),
        Interface::Azure => azure::answer(bucket, overtaken, &asked),
    }
}

/// What of a request is to be said of the object: the content type, and what begins so.
fn about(headers: &HeaderMap, prefix: &str, content_type: &str) -> HeaderMap {
    let mut about = HeaderMap::new();
    for (name, value) in headers {
        if name.as_str().starts_with(prefix) {
            about.insert(name, value.clone());
        } else if name.as_str() == content_type {
            about.insert(header::CONTENT_TYPE, value.clone());
        }
    }
    about
}

fn refusal(status: StatusCode, code: &str) -> Answer {
    let text = format!("<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>");
    with_status(status, text)
}

fn with_status(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::from(body.into()));
    *answer.status_mut() = status;
    answer
}

fn set(answer: &mut Answer, name: &'static str, value: &str) {
    let value = HeaderValue::from_str(value).expect("a header");
    answer.headers_mut().insert(name, value);
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A test that panicked while it held the lock has failed already.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
