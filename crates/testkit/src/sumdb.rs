//! A checksum database for tests: a real HTTP server with a log and a key of its own, which can be told to lie.
//!
//! It answers `supported`, `latest`, `lookup/…` and `tile/…` at its root, as a database does, and under
//! `/sumdb/<name>/`, as a proxy for it does. Everything else is 404, so that it can stand first in a GOPROXY chain.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tlog::head::TreeHead;
use tlog::log::Log;
use tlog::note::{self, SignerKey, VerifierKey};
use tlog::tile::{FULL_WIDTH, Tile, TileError};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::escape;
use crate::port::HeldPort;

/// The hash that forked records have for their zip and their go.mod.
const FORKED_H1: &str = "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// A way in which the database misbehaves, until it is told another one or to be honest again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lie {
    /// Each tile of hashes has one bit changed.
    ForgedTiles,
    /// Each tile of hashes lacks its last hash: the tile before, of the right form and a wrong width.
    NarrowTiles,
    /// Each tile of hashes is cut off in the middle of a hash, with a `Content-Length` that fits.
    TruncatedTiles,
    /// Another history: the records from this id on have other hashes. All tiles, lookups and heads are of the
    /// forked log, consistent in themselves and signed by the database's true key.
    ForkedTree {
        /// The first record that differs.
        at: u64,
    },
    /// Heads are those of the log when it had this many records. Lookups and tiles are as they are now.
    OldHead {
        /// The size of the replayed tree.
        size: u64,
    },
    /// Heads are signed with another key under the same name.
    WrongKey,
    /// A lookup is answered with the true id and record of the next module in the log.
    OtherModulesRecord,
    /// A lookup is answered with the module's own id and lines, but the hashes in them are another module's.
    OtherModulesHashes,
    /// The record of a lookup has a line more than the one in the log.
    ExtraLines,
    /// Lookups name a record one beyond the end of the tree.
    IdOutsideTree,
    /// Lookups are answered 404, as for a module that cannot be found.
    LookupNotFound,
    /// `supported` is answered 404, as by a proxy that does not serve this database.
    NotSupported,
    /// Every answer is 500.
    ServerError,
    /// No answer ever comes; connections stay open.
    Hang,
    /// Nothing listens on the port; open connections are cut.
    Unreachable,
}

/// A running checksum database on a free port of 127.0.0.1. It stops when it is dropped.
#[derive(Debug)]
pub struct LabSumDb {
    addr: SocketAddr,
    database: Arc<Mutex<Database>>,
    /// Tells the server to listen or not; it says so when that is done.
    switch: mpsc::Sender<(bool, oneshot::Sender<()>)>,
    server: JoinHandle<()>,
}

impl LabSumDb {
    /// Starts an empty database of this name, which may be a host name or a host name and a path.
    ///
    /// # Errors
    /// The port could not be opened, or the name cannot be that of a key.
    #[expect(
        clippy::unused_async,
        reason = "whoever can await has the runtime that it spawns on"
    )]
    pub async fn start(name: &str) -> io::Result<LabSumDb> {
        let port = HeldPort::take()?;
        let (addr, listener) = (port.addr(), port.listen()?);
        let key = |seed| SignerKey::from_seed(name, [seed; 32]).map_err(io::Error::other);
        let database = Arc::new(Mutex::new(Database {
            name: name.to_owned(),
            key: key(1)?,
            strangers_key: key(2)?,
            log: Log::new(),
            fork: Log::new(),
            ids: HashMap::new(),
            lie: None,
            requests: BTreeMap::new(),
        }));
        let (switch, switched) = mpsc::channel(1);
        let server = tokio::spawn(serve(port, listener, Arc::clone(&database), switched));
        Ok(LabSumDb {
            addr,
            database,
            switch,
            server,
        })
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The key with which its heads verify.
    pub fn key(&self) -> VerifierKey {
        self.lock().key.verifier_key()
    }

    /// The value of GOSUMDB for this database, reached directly: its key and its URL.
    pub fn gosumdb(&self) -> String {
        format!("{} {}", self.key(), self.url())
    }

    /// Adds a module version with the `h1:` hashes of its zip and its go.mod, and returns the record's id. Path and
    /// version are unescaped.
    ///
    /// # Panics
    /// If they cannot stand in a record.
    pub fn add(&self, path: &str, version: &str, zip_h1: &str, go_mod_h1: &str) -> u64 {
        self.lock().add(path, version, zip_h1, go_mod_h1)
    }

    /// Adds `count` records of modules nobody asks for, so that the tree gets a shape worth testing: from 257 records
    /// on it has tiles on two levels.
    pub fn add_others(&self, count: u64) {
        let mut database = self.lock();
        for _ in 0..count {
            let path = format!("other{}.example/m", database.log.size());
            database.add(&path, "v1.0.0", FORKED_H1, FORKED_H1);
        }
    }

    /// The true head.
    pub fn head(&self) -> TreeHead {
        self.lock().log.head()
    }

    /// Tells the database to misbehave. When this returns it does.
    pub async fn lie(&self, lie: Lie) {
        let listen = lie != Lie::Unreachable;
        self.lock().set_lie(Some(lie));
        self.listen(listen).await;
    }

    /// Tells the database to be honest again.
    pub async fn be_honest(&self) {
        self.lock().set_lie(None);
        self.listen(true).await;
    }

    /// How often `path` was asked for, at the root or under `/sumdb/<name>`: `/latest`, `/lookup/a.example/m@v1.0.0`
    /// (escaped with `!`), `/tile/8/0/000.p/5`.
    pub fn count(&self, path: &str) -> u64 {
        self.lock().requests.get(path).copied().unwrap_or(0)
    }

    /// Every path asked for so far and how often, as in [`count`](LabSumDb::count).
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.lock().requests.clone()
    }

    /// Forgets all counts.
    pub fn reset_counts(&self) {
        self.lock().requests.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Database> {
        lock(&self.database)
    }

    async fn listen(&self, listen: bool) {
        let (done, is_done) = oneshot::channel();
        // The server ends only with `self`; were it gone, requests would show it.
        if self.switch.send((listen, done)).await.is_ok() {
            let _ = is_done.await;
        }
    }
}

impl Drop for LabSumDb {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(database: &Mutex<Database>) -> MutexGuard<'_, Database> {
    // A test that panicked while it held the lock has failed already.
    database.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Accepts connections, and stops and starts listening as it is told. All connections end with this future.
async fn serve(
    port: HeldPort,
    listener: TcpListener,
    database: Arc<Mutex<Database>>,
    mut switched: mpsc::Receiver<(bool, oneshot::Sender<()>)>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accept => {
                if let Ok((stream, _)) = accepted {
                    let database = Arc::clone(&database);
                    let service = service_fn(move |request| answer(Arc::clone(&database), request));
                    connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                }
            }
            Some(_) = connections.join_next() => {}
            command = switched.recv() => {
                let Some((listen, done)) = command else { return };
                if !listen {
                    listener = None;
                    connections.shutdown().await;
                } else if listener.is_none() {
                    listener = port.listen().ok();
                }
                let _ = done.send(());
            }
        }
    }
}

async fn answer(
    database: Arc<Mutex<Database>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = lock(&database).answer(request.uri().path());
    let Some(Answer {
        status,
        content_type,
        body,
    }) = answer
    else {
        return std::future::pending().await;
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    Ok(response)
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Answer {
    fn text(status: StatusCode, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }

    fn not_found() -> Answer {
        Answer::text(StatusCode::NOT_FOUND, "not found\n")
    }
}

#[derive(Debug)]
struct Database {
    name: String,
    key: SignerKey,
    strangers_key: SignerKey,
    log: Log,
    /// Served instead of `log` under [`Lie::ForkedTree`], and kept as long as `log` then.
    fork: Log,
    /// From the escaped `path@version` to the record's id.
    ids: HashMap<String, u64>,
    lie: Option<Lie>,
    requests: BTreeMap<String, u64>,
}

impl Database {
    fn add(&mut self, path: &str, version: &str, zip_h1: &str, go_mod_h1: &str) -> u64 {
        let record = format!("{path} {version} {zip_h1}\n{path} {version}/go.mod {go_mod_h1}\n");
        let id = self
            .log
            .append(&record)
            .expect("path, version and hashes can stand in a record");
        self.ids
            .insert(format!("{}@{}", escape(path), escape(version)), id);
        self.grow_fork();
        id
    }

    fn set_lie(&mut self, lie: Option<Lie>) {
        self.lie = lie;
        self.fork = Log::new();
        self.grow_fork();
    }

    /// Brings the forked log to the length of the true one.
    fn grow_fork(&mut self) {
        let Some(Lie::ForkedTree { at }) = self.lie else {
            return;
        };
        for id in self.fork.size()..self.log.size() {
            let Some(record) = self.log.record(id) else {
                return;
            };
            let text = if id < at {
                record.text().to_owned()
            } else {
                with_hashes(record.text(), [FORKED_H1; 2])
            };
            self.fork
                .append(&text)
                .expect("a record with other hashes is a record");
        }
    }

    /// The log that is shown to the world.
    fn shown(&self) -> &Log {
        if matches!(self.lie, Some(Lie::ForkedTree { .. })) {
            &self.fork
        } else {
            &self.log
        }
    }

    /// What to answer, or `None` to answer nothing, ever.
    fn answer(&mut self, path: &str) -> Option<Answer> {
        // Clients may send `!` either way.
        let path = path.replace("%21", "!");
        let path = path
            .strip_prefix("/sumdb/")
            .and_then(|rest| rest.strip_prefix(&self.name))
            .unwrap_or(&path);
        *self.requests.entry(path.to_owned()).or_insert(0) += 1;
        match self.lie {
            Some(Lie::Hang) => return None,
            Some(Lie::ServerError) => {
                return Some(Answer::text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "out of order\n",
                ));
            }
            _ => {}
        }
        Some(if path == "/supported" {
            if self.lie == Some(Lie::NotSupported) {
                Answer::not_found()
            } else {
                Answer::text(StatusCode::OK, "")
            }
        } else if path == "/latest" {
            Answer::text(StatusCode::OK, self.head_note())
        } else if let Some(module) = path.strip_prefix("/lookup/") {
            self.lookup(module)
        } else if path.starts_with("/tile/") {
            self.tile(&path[1..])
        } else {
            Answer::not_found()
        })
    }

    fn head_note(&self) -> Vec<u8> {
        let log = self.shown();
        let (head, key) = match self.lie {
            Some(Lie::OldHead { size }) => {
                (log.head_at(size).unwrap_or_else(|| log.head()), &self.key)
            }
            Some(Lie::WrongKey) => (log.head(), &self.strangers_key),
            _ => (log.head(), &self.key),
        };
        note::sign(&head.to_string(), key).expect("a head can be signed")
    }

    fn lookup(&self, module: &str) -> Answer {
        let Some(&own_id) = self
            .ids
            .get(module)
            .filter(|_| self.lie != Some(Lie::LookupNotFound))
        else {
            return Answer::not_found();
        };
        let log = self.shown();
        let text = |id| log.record(id).map_or("", |record| record.text());
        let other_id = (own_id + 1) % log.size();
        let (id, record) = match self.lie {
            Some(Lie::OtherModulesRecord) => (other_id, text(other_id).to_owned()),
            Some(Lie::OtherModulesHashes) => {
                (own_id, with_hashes(text(own_id), hashes(text(other_id))))
            }
            Some(Lie::ExtraLines) => (
                own_id,
                format!("{}more.example/m v1.0.0 {FORKED_H1}\n", text(own_id)),
            ),
            Some(Lie::IdOutsideTree) => (log.size(), text(own_id).to_owned()),
            _ => (own_id, text(own_id).to_owned()),
        };
        let mut body = format!("{id}\n{record}\n").into_bytes();
        body.extend(self.head_note());
        Answer::text(StatusCode::OK, body)
    }

    fn tile(&self, path: &str) -> Answer {
        let log = self.shown();
        let mut body = match path.parse::<Tile>() {
            Ok(tile) => match log.tile(&tile) {
                Some(content) => content,
                None => return Answer::not_found(),
            },
            Err(TileError::Data) => {
                return data_tile(log, path)
                    .map_or_else(Answer::not_found, |body| Answer::text(StatusCode::OK, body));
            }
            Err(error) => return Answer::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        };
        match self.lie {
            Some(Lie::ForgedTiles) => body[0] ^= 1,
            Some(Lie::NarrowTiles) => body.truncate(body.len() - tlog::hash::HASH_BYTES),
            Some(Lie::TruncatedTiles) => body.truncate(body.len() - 7),
            _ => {}
        }
        Answer {
            status: StatusCode::OK,
            content_type: "application/octet-stream",
            body,
        }
    }
}

/// A tile of records. Its path is that of the hash tile on level 0 but for the word in place of the level.
fn data_tile(log: &Log, path: &str) -> Option<Vec<u8>> {
    let tile: Tile = path.replacen("/data/", "/0/", 1).parse().ok()?;
    debug_assert!(tile.width() <= FULL_WIDTH, "one record for each hash");
    log.data_tile(tile.index(), tile.width())
}

/// The hashes of a record's two lines.
fn hashes(record: &str) -> [&str; 2] {
    let mut hashes = record.lines().filter_map(|line| line.rsplit(' ').next());
    [
        hashes.next().unwrap_or(FORKED_H1),
        hashes.next().unwrap_or(FORKED_H1),
    ]
}

/// A record with other hashes in its two lines.
fn with_hashes(record: &str, hashes: [&str; 2]) -> String {
    let what = record.lines().filter_map(|line| line.rsplit_once(' '));
    what.zip(hashes)
        .flat_map(|((what, _), hash)| [what, " ", hash, "\n"])
        .collect()
}
