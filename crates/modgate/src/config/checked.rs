//! The checked configuration: what the rest of the program is built from.
//!
//! Nothing here can be out of range, half set or in conflict with another
//! value: [`super::load`] is the only maker. Every size is in bytes, every time
//! a [`Duration`].

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use gateway::http::tls::Pair;
use gomod::pattern::Patterns;
use tlog::note::VerifierKey;
use upstream::chain::{BaseUrl, Chain};

use super::secret::Secret;

mod storage;

pub use storage::{
    Backup, BackupTarget, Coordinate, DiskTier, ObjectService, ObjectTier, Persist, Records,
    RedisTier, Replicas, Tier,
};

/// Everything that can be set, with its final values.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address and port of the listener; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Folder that holds what is kept; one process owns it.
    pub data: PathBuf,
    /// URL under which clients reach this gateway, if it differs from `listen`.
    pub public_url: Option<BaseUrl>,
    /// Path prefixes for which `?go-get=1` names `public_url`; none without it.
    pub vanity: Vec<String>,
    /// Upstreams of every public module no route names, in order.
    pub chain: Chain,
    /// Module path patterns of private modules (GOPRIVATE's matching).
    pub private: Patterns,
    /// Download mode where no route says otherwise. Private modules without a
    /// route use [`Mode::Sync`] whatever this says.
    pub mode: Mode,
    /// Rules by module pattern; the first match wins.
    pub routes: Vec<Route>,
    /// Settings of single upstreams, by their URL as [`upstream_key`] writes it.
    ///
    /// [`upstream_key`]: super::upstream_key
    pub upstreams: BTreeMap<String, Upstream>,
    /// The checksum database and what happens where it does not help.
    pub sumdb: Sumdb,
    /// How long changeable answers are fresh and may be served stale.
    pub freshness: Freshness,
    /// How long negative answers are kept.
    pub negative: Negative,
    /// The memory tier.
    pub cache: Cache,
    /// The tiers as written, from the top; empty is memory, then disk in `data`.
    pub storage: Vec<Tier>,
    /// Where records are.
    pub records: Records,
    /// How replicas work together.
    pub replicas: Replicas,
    /// Backups on a schedule.
    pub backup: Backup,
    /// Bounds on clients, requests and downloads.
    pub limits: Limits,
    /// Certificate and key; `None` is plain HTTP.
    pub tls: Option<Tls>,
    /// What is logged, and how.
    pub log: Log,
    /// Background fetches of the `async` modes.
    pub background: Background,
    /// The metrics endpoint.
    pub metrics: Metrics,
    /// The way out: CA, egress proxy, internal hosts.
    pub network: Network,
    /// Direct fetch from version control.
    pub direct: Direct,
    /// Where the modules below some prefixes are.
    pub vcs: Vec<VcsMapping>,
    /// Credentials by URL prefix, for upstreams and direct fetch.
    pub credentials: Vec<egress::Credential>,
    /// Environment variables that hold secrets, of whatever setting.
    pub secret_variables: Vec<String>,
}

/// How a module that is not kept yet is answered (`mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Fetch, then answer.
    Sync,
    /// Answer 404 now, fetch in the background.
    Async,
    /// Send the client to the first healthy upstream.
    Redirect,
    /// Send the client to the first healthy upstream and fetch in the background.
    AsyncRedirect,
    /// Serve what is kept, fetch nothing.
    None,
}

impl Mode {
    /// True where the client is sent to an upstream, which must never happen
    /// with the name of a private module.
    pub fn redirects(self) -> bool {
        matches!(self, Mode::Redirect | Mode::AsyncRedirect)
    }

    /// The word of the configuration file.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Sync => "sync",
            Mode::Async => "async",
            Mode::Redirect => "redirect",
            Mode::AsyncRedirect => "async_redirect",
            Mode::None => "none",
        }
    }
}

/// One `[[route]]`: what holds for the module paths it matches.
#[derive(Debug, Clone)]
pub struct Route {
    /// Module paths it holds for.
    pub matches: Patterns,
    /// The same patterns as written.
    pub patterns: Vec<String>,
    /// Upstreams of these modules; `None` leaves it to the top-level chain for
    /// public modules and to `direct` alone for private ones.
    pub chain: Option<Chain>,
    /// Download mode of these modules; private ones are never redirected.
    pub mode: Mode,
}

/// One `[upstream."URL"]`.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Where requests really go, if not to the URL of the chain.
    pub base_url: Option<BaseUrl>,
    /// Headers sent with every request, names in lower case.
    pub headers: BTreeMap<String, Secret>,
    /// Status read as another one, both within 400..=599.
    pub status_map: BTreeMap<u16, u16>,
    /// Limit for connecting, TLS included.
    pub connect_timeout: Duration,
    /// Limit from the request sent to the head of the answer.
    pub first_byte_timeout: Duration,
    /// Limit between two pieces of a body.
    pub idle_timeout: Duration,
    /// Requests in flight at once.
    pub max_concurrent: usize,
    /// Further tries after a failure that may pass.
    pub retries: u32,
    /// Whether the next upstream is asked too when this one is slow.
    pub hedge: bool,
}

/// `[sumdb]`.
#[derive(Debug, Clone)]
pub struct Sumdb {
    /// The database that verifies public modules; `None` is `off`.
    pub database: Option<Database>,
    /// Modules that are not looked up (GONOSUMDB's matching), besides private ones.
    pub exempt: Patterns,
    /// What happens with a public module the database does not know.
    pub unknown: Unknown,
    /// What happens with a new module while the database cannot be reached.
    pub unreachable: Unreachable,
}

/// A checksum database: its key and where it is asked.
#[derive(Debug, Clone)]
pub struct Database {
    /// Name and public key.
    pub key: VerifierKey,
    /// Where it is asked; `None` is by the upstreams that serve it, then at
    /// `https://<name>` (protocol.md 4.3).
    pub url: Option<BaseUrl>,
}

/// `sumdb.unknown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Not served.
    Refuse,
    /// Served without verification.
    Allow,
}

/// `sumdb.unreachable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// New modules wait until the database is back.
    Refuse,
    /// Served, marked, and verified later.
    ServeUnverified,
}

/// `[freshness]`: lives of answers that can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freshness {
    /// Life of a version list.
    pub list: Duration,
    /// Life of `@latest`.
    pub latest: Duration,
    /// Life of a resolved query (branch, commit, `v1`).
    pub query: Duration,
    /// How long after its life an answer is served while it is asked for anew.
    pub stale_while_revalidate: Duration,
    /// How long after its life an answer is served while upstream fails;
    /// `None` is for ever.
    pub stale_if_error: Option<Duration>,
}

/// `[negative]`: lives of negative answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negative {
    /// After 404.
    pub absent: Duration,
    /// After 410.
    pub gone: Duration,
    /// After upstream trouble.
    pub trouble: Duration,
}

/// `[cache]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Bytes of small entries and mappings kept hot.
    pub memory_bytes: u64,
    /// Longest object of a bucket that is kept hot, in bytes.
    pub max_entry_bytes: u64,
    /// How long anything stays hot; `None`: until it has to make room.
    pub ttl: Option<Duration>,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Client connections at once.
    pub max_connections: usize,
    /// Request line and headers, in bytes.
    pub max_header_bytes: usize,
    /// Path of a request, in bytes.
    pub max_path_bytes: usize,
    /// Module zip, in bytes.
    pub max_zip_bytes: u64,
    /// Limit for reading the head of a request.
    pub header_timeout: Duration,
    /// Limit for a connection without a request.
    pub idle_timeout: Duration,
    /// Limit for a client that takes less than 256 bytes a second of its answer.
    pub write_stall_timeout: Duration,
    /// Limit for running requests after SIGTERM.
    pub drain_timeout: Duration,
    /// How long new connections are taken after SIGTERM.
    pub drain_delay: Duration,
}

/// `[tls]`: both files were read and belong together.
#[derive(Debug, Clone)]
pub struct Tls {
    /// PEM file with the certificate chain, leaf first.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
    /// What was in them.
    pub pair: Pair,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// `log.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what needs an operator.
    Error,
    /// And what looks wrong.
    Warn,
    /// And what happens.
    Info,
    /// And why.
    Debug,
    /// Everything.
    Trace,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Shape of a line.
    pub format: LogFormat,
    /// Least level that is written.
    pub level: LogLevel,
    /// Whether each request is a line.
    pub access: bool,
}

/// `[async]`: fetches no client waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Background {
    /// Fetches that may wait; more are dropped, counted and logged.
    pub queue: usize,
    /// Fetches at once.
    pub workers: usize,
}

/// `[metrics]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Whether `/metrics` is served.
    pub enabled: bool,
}

/// `[network]`.
#[derive(Debug, Clone)]
pub struct Network {
    /// Certificates trusted besides the system's, with the file they are from.
    pub ca: Option<CaFile>,
    /// Whether only these are trusted.
    pub ca_only: bool,
    /// Forward proxy of every request, unless its scheme has one of its own.
    pub proxy: Option<Secret>,
    /// Forward proxy of http requests.
    pub http_proxy: Option<Secret>,
    /// Forward proxy of https requests.
    pub https_proxy: Option<Secret>,
    /// Host patterns that are reached without the proxy.
    pub no_proxy: Vec<String>,
    /// Hosts that may resolve to private or loopback addresses.
    pub internal_hosts: Vec<String>,
    /// Modules and hosts that may be asked without encryption (GOINSECURE's matching).
    pub insecure_hosts: Patterns,
}

/// A bundle of CA certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFile {
    /// Where it was read.
    pub path: PathBuf,
    /// Its PEM text, with at least one certificate.
    pub pem: Vec<u8>,
}

/// `[direct]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direct {
    /// Which version control may be used for which modules, in order.
    pub vcs: Vec<VcsRule>,
    /// How long the refs of a repository are believed for versions that they can answer.
    pub refs_life: Duration,
    /// How long a module's repository, once found, is believed.
    pub discovery_life: Duration,
    /// How long it is believed that a path has no repository.
    pub discovery_negative_life: Duration,
    /// Mirrors kept.
    pub max_mirrors: usize,
    /// Bytes of all mirrors together.
    pub max_mirror_bytes: u64,
    /// Bytes of one mirror.
    pub max_repository_bytes: u64,
    /// Limit for one run of a version control program.
    pub process_timeout: Duration,
    /// Version control programs at once.
    pub max_processes: usize,
}

/// One `[[vcs]]`: where the modules below a path prefix are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VcsMapping {
    /// The module path prefix.
    pub prefix: String,
    /// URL template, with `{1}` for the first path element behind the prefix, up to `{9}`.
    pub repo: String,
    /// The version control system: `git`, `hg`, `svn`, `bzr` or `fossil`.
    pub vcs: &'static str,
    /// The folder in the repository that the module of the repository's path is in; empty for its root.
    pub subdir: String,
}

impl VcsMapping {
    /// The host of the repositories with its port, if the template names one: `host:port`.
    pub fn host(&self) -> Option<String> {
        let (scheme, rest) = self.repo.split_once("://").unwrap_or(("ssh", &self.repo));
        let short = !self.repo.contains("://");
        let authority = rest.split('/').next()?;
        let host = authority.rsplit('@').next()?;
        // `git@host:path` has no port.
        let (host, port) = match host.rsplit_once(':') {
            Some((host, _)) if short => (host, None),
            Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
                (host, Some(port))
            }
            _ => (host, None),
        };
        let own = match scheme {
            "https" => "443",
            "http" => "80",
            "svn" => "3690",
            "git" => "9418",
            _ => "22",
        };
        let named = !host.is_empty() && !host.contains(['{', '}']);
        named.then(|| format!("{host}:{}", port.unwrap_or(own)))
    }
}

/// One `pattern:vcs|vcs` of GOVCS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VcsRule {
    /// `public`, `private` or a module path pattern.
    pub pattern: String,
    /// Names of version control systems; `all` and `off` stand alone.
    pub allowed: Vec<String>,
}
