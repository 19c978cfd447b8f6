//! An upstream GOPROXY for tests: a real HTTP server with the modules it is given, which records what it is asked and
//! can be told to fail in many ways, to wait, and to go away.

mod answer;
mod body;
mod dark;
mod hold;
mod server;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::fixture::{Huge, Module};
use crate::port::HeldPort;
pub use crate::tls::Certificate;
pub use dark::DarkPort;
pub use hold::Hold;
use hold::Waiting;

/// A way in which the lab answers wrongly. Unless it says otherwise, a fault needs the right answer to spoil: where
/// that is 404, it is 404 still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status and a short text, whatever was asked.
    Status(u16),
    /// The connection is reset (TCP RST) with no answer, whatever was asked. Over HTTP/2 the stream alone is.
    Reset,
    /// No answer ever comes and the connection stays open, whatever was asked.
    Hang,
    /// The head and one half of the body come, then nothing more; the connection stays open.
    StallMidBody,
    /// The head with the true `Content-Length` and one half of the body come, then the connection is closed.
    Truncate,
    /// The head and one half of the body come, then the connection is reset (TCP RST). Over HTTP/2 the stream alone is.
    ResetMidBody,
    /// The last half of the body is missing, and `Content-Length` fits what is left.
    Short,
    /// One bit in the middle of the body is changed.
    Corrupt,
    /// A zip has one file more, `altered.go`, and is in order otherwise. Other answers are not changed.
    AlteredZip,
    /// A go.mod has one line more, a comment. Other answers are not changed.
    AlteredMod,
    /// A redirect (302) to the URL that was asked for, whatever it was.
    RedirectLoop,
    /// A redirect (302) to this URL, whatever was asked.
    RedirectTo(String),
    /// A redirect (302) to the path that was asked below this URL, such as that of another lab.
    RedirectBelow(String),
    /// The body comes 16 bytes at a time, every 50 ms.
    Drip,
    /// The body comes chunked, with no `Content-Length`. It is right otherwise.
    NoLength,
    /// One half of the body comes chunked, with no `Content-Length`, then the connection is closed before the last chunk.
    CutNoLength,
    /// A page of HTML with status 200, as from a captive portal, whatever was asked.
    Html,
    /// The right answer, 404 too, this much later.
    Latency(Duration),
}

/// One request as it reached the lab.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Path and query as they were sent, not decoded but for `%21`, which is `!` here, whichever the client sent.
    pub path: String,
    /// All headers of the request.
    pub headers: HeaderMap,
    /// When it came.
    pub at: Instant,
}

/// A running upstream on a port of 127.0.0.1. It stops when it is dropped.
#[derive(Debug)]
pub struct Lab {
    addr: SocketAddr,
    ca_pem: Option<String>,
    shared: Arc<Shared>,
    switch: mpsc::Sender<Command>,
    server: JoinHandle<()>,
}

/// Tells the server to listen or not, and gets the outcome.
#[derive(Debug)]
struct Command {
    listen: bool,
    done: oneshot::Sender<io::Result<()>>,
}

impl Lab {
    /// Starts an empty upstream that speaks HTTP/1.1 in the clear.
    ///
    /// # Panics
    /// If no port could be opened.
    pub async fn start() -> Lab {
        Lab::start_with(None).await
    }

    /// Starts an empty upstream that speaks HTTP/1.1 over TLS, with a certificate of an authority of its own; see
    /// [`ca_pem`](Lab::ca_pem).
    ///
    /// # Panics
    /// If no port could be opened or no certificate made.
    pub async fn start_tls() -> Lab {
        Lab::start_tls_with(Certificate::Good).await
    }

    /// As [`start_tls`](Lab::start_tls), with this certificate.
    ///
    /// # Panics
    /// As that.
    pub async fn start_tls_with(certificate: Certificate) -> Lab {
        let tls = crate::tls::make(certificate, &["http/1.1"]);
        Lab::start_with(Some(tls.expect("a certificate can be made"))).await
    }

    /// As [`start_tls`](Lab::start_tls), and it prefers HTTP/2.
    ///
    /// # Panics
    /// As that.
    pub async fn start_h2() -> Lab {
        let tls = crate::tls::make(Certificate::Good, &["h2", "http/1.1"]);
        Lab::start_with(Some(tls.expect("a certificate can be made"))).await
    }

    #[expect(
        clippy::unused_async,
        reason = "whoever can await has the runtime that it spawns on"
    )]
    async fn start_with(tls: Option<crate::tls::Tls>) -> Lab {
        let port = HeldPort::take().expect("a port can be taken");
        let addr = port.addr();
        let listener = port.listen().expect("a port can be opened");
        let shared = Arc::new(Shared::new());
        let (switch, switched) = mpsc::channel(1);
        let (acceptor, ca_pem) = match tls {
            Some(tls) => (Some(tls.acceptor), Some(tls.ca_pem)),
            None => (None, None),
        };
        let server = server::serve(port, listener, acceptor, Arc::clone(&shared), switched);
        Lab {
            addr,
            ca_pem,
            shared,
            switch,
            server: tokio::spawn(server),
        }
    }

    /// `http://127.0.0.1:<port>`, or `https` with TLS. It stays the same when the lab is restarted.
    pub fn url(&self) -> String {
        let scheme = if self.ca_pem.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.addr)
    }

    /// The address it listens on, when it does.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The certificate to trust, PEM; empty without TLS.
    pub fn ca_pem(&self) -> &str {
        self.ca_pem.as_deref().unwrap_or_default()
    }

    /// Adds a module version, or replaces it, with its `.info`, `.mod` and `.zip`. `list` names it unless it is a
    /// pseudo-version, and `@latest` if it is the highest release.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a module is mostly made in the call"
    )]
    pub fn add(&self, module: Module) {
        let files = Files {
            info: module.info().into(),
            go_mod: module.mod_file().into(),
            zip: vec![module.zip().into()],
        };
        self.insert(module.path(), module.version(), files);
    }

    /// Adds a module version with a zip in pieces; see [`Huge`]. Faults that change a body put it together in memory.
    pub fn add_huge(&self, huge: &Huge) {
        let files = Files {
            info: huge.module().info().into(),
            go_mod: huge.module().mod_file().into(),
            zip: huge.zip().to_vec(),
        };
        self.insert(huge.module().path(), huge.module().version(), files);
    }

    fn insert(&self, path: &str, version: &str, files: Files) {
        let mut state = self.shared.lock();
        let versions = state.modules.entry(crate::escape(path)).or_default();
        versions.insert(version.to_owned(), files);
    }

    /// Takes a module version away. Path and version are unescaped. A module without versions has an empty list.
    pub fn remove(&self, path: &str, version: &str) {
        if let Some(versions) = self.shared.lock().modules.get_mut(&crate::escape(path)) {
            versions.remove(version);
        }
    }

    /// Answers `<query>.info` of the module, a branch or commit, with the `.info` of this version from now on.
    pub fn resolve(&self, path: &str, query: &str, version: &str) {
        let query = format!("{}/@v/{}.info", crate::escape(path), crate::escape(query));
        let target = format!("{}/@v/{}.info", crate::escape(path), crate::escape(version));
        self.shared.lock().resolved.insert(query, target);
    }

    /// Serves the files of this folder too, at their paths below it, for what was not added as a module: a GOPROXY tree
    /// as `go mod download` writes it below `cache/download`.
    pub fn serve_folder(&self, folder: impl AsRef<Path>) {
        self.shared.lock().folder = Some(folder.as_ref().to_owned());
    }

    /// Relays every path below `/sumdb/` to this base URL, such as that of a
    /// [`LabSumDb`](crate::sumdb::LabSumDb::url). Without it they are 404.
    pub fn pass_sumdb(&self, base_url: &str) {
        base_url
            .trim_end_matches('/')
            .clone_into(self.shared.lock().sumdb.get_or_insert_default());
    }

    /// All requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.lock().requests.clone()
    }

    /// How many requests had `substring` in their path.
    pub fn count(&self, substring: &str) -> usize {
        let state = self.shared.lock();
        let requests = state.requests.iter();
        requests
            .filter(|request| request.path.contains(substring))
            .count()
    }

    /// Forgets all requests so far.
    pub fn reset_counts(&self) {
        self.shared.lock().requests.clear();
    }

    /// Spoils answers to requests with `path_substring` in their path: the next `times` of them, or all until
    /// [`heal`](Lab::heal). Where several faults fit, the one told first is used until its times are over.
    pub fn fault(&self, path_substring: &str, fault: Fault, times: Option<usize>) {
        self.shared.lock().faults.push(ActiveFault {
            substring: path_substring.to_owned(),
            fault,
            left: times,
        });
    }

    /// Ends all faults. Answers that hang or drip already go on to do so.
    pub fn heal(&self) {
        self.shared.lock().faults.clear();
    }

    /// Lets answers to requests with `path_substring` in their path stop after one half of their body until the hold is
    /// released or dropped. [`Hold::arrived`] counts those that have stopped.
    pub fn hold_mid_body(&self, path_substring: &str) -> Hold {
        let (hold, waiting) = hold::new();
        self.shared
            .lock()
            .body_holds
            .push((path_substring.to_owned(), waiting));
        hold
    }

    /// Lets requests with `path_substring` in their path wait, after they are recorded and before anything else, until
    /// the hold is released or dropped.
    pub fn hold(&self, path_substring: &str) -> Hold {
        let (hold, waiting) = hold::new();
        self.shared
            .lock()
            .holds
            .push((path_substring.to_owned(), waiting));
        hold
    }

    /// Closes the port and cuts all connections. When this returns, connections are refused.
    pub async fn stop(&self) {
        self.listen(false).await.expect("a port can be closed");
    }

    /// Listens on the same port again. When this returns it does.
    ///
    /// # Panics
    /// If the port is in use.
    pub async fn restart(&self) {
        self.listen(true).await.expect("the port is still free");
    }

    async fn listen(&self, listen: bool) -> io::Result<()> {
        let (done, is_done) = oneshot::channel();
        let command = Command { listen, done };
        self.switch
            .send(command)
            .await
            .map_err(|_| io::Error::other("the lab's server is gone"))?;
        is_done.await.map_err(io::Error::other)?
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What the lab and its connections have in common.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// For [`Lab::pass_sumdb`].
    client: reqwest::Client,
}

impl Shared {
    fn new() -> Shared {
        let client = reqwest::Client::builder().no_proxy().build();
        Shared {
            state: Mutex::default(),
            client: client.expect("a client can be made"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked while it held the lock has failed already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct State {
    /// From the escaped path and the unescaped version.
    modules: HashMap<String, BTreeMap<String, Files>>,
    /// From the path of a query's `.info`, without the first slash, to that of a version's.
    resolved: HashMap<String, String>,
    folder: Option<PathBuf>,
    sumdb: Option<String>,
    requests: Vec<Recorded>,
    faults: Vec<ActiveFault>,
    holds: Vec<(String, Waiting)>,
    body_holds: Vec<(String, Waiting)>,
}

impl State {
    /// The fault for this path, and one time less of it left.
    fn take_fault(&mut self, path: &str) -> Option<Fault> {
        let active = self
            .faults
            .iter_mut()
            .find(|active| active.left != Some(0) && path.contains(&active.substring))?;
        active.left = active.left.map(|left| left - 1);
        Some(active.fault.clone())
    }

    /// The holds this request has to pass.
    fn waits(&self, path: &str) -> Vec<Waiting> {
        let holds = self.holds.iter();
        holds
            .filter(|(substring, _)| path.contains(substring))
            .map(|(_, waiting)| waiting.clone())
            .collect()
    }

    /// The hold that the body of this answer has to pass.
    fn waits_in_body(&self, path: &str) -> Option<Waiting> {
        let mut holds = self.body_holds.iter();
        holds
            .find(|(substring, _)| path.contains(substring))
            .map(|(_, waiting)| waiting.clone())
    }
}

#[derive(Debug)]
struct ActiveFault {
    substring: String,
    fault: Fault,
    /// How many more times, or always.
    left: Option<usize>,
}

/// The answers for one module version.
#[derive(Debug)]
struct Files {
    info: Bytes,
    go_mod: Bytes,
    /// In pieces, which may be the same memory many times.
    zip: Vec<Bytes>,
}
