//! The compiled gateway as a process of its own, and a client to ask it.

mod files;
mod logs;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::tls::Pem;
use files::{TlsFiles, replace};
use logs::read_logs;

/// How long the gateway may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long it may take to end after it is told to.
const STOP_LIMIT: Duration = Duration::from_mins(1);

/// How long one request may take, body and all.
const REQUEST_LIMIT: Duration = Duration::from_mins(2);

/// How long [`Modgate::logged`] waits.
const LOG_LIMIT: Duration = Duration::from_secs(20);

/// The name of the configuration in a gateway's own folder.
const CONFIG_FILE: &str = "modgate.toml";

/// How long [`Modgate::raw`] waits for more.
const RAW_LIMIT: Duration = Duration::from_secs(5);

/// With what the gateway is started. The default is no upstream, no checksum database and an empty data folder.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--upstream`.
    pub upstream: Option<String>,
    /// `--sumdb`.
    pub sumdb: Option<String>,
    /// The text of a TOML file that is given as `--config`.
    pub config: Option<String>,
    /// `--data`, or else a temporary folder that goes with the [`Modgate`].
    pub data: Option<PathBuf>,
    /// Speak TLS with this certificate. Its files are named by environment variables; see
    /// [`rewrite_tls`](Modgate::rewrite_tls).
    pub tls: Option<Pem>,
    /// Variables to set. GOPROXY, GOSUMDB, the proxy variables and all that begin with `MODGATE_` are not passed on
    /// from the test's own environment.
    pub env: Vec<(String, String)>,
}

/// Why there is no gateway: it ended, or did not listen within 20 s.
#[derive(Debug)]
pub struct NotStarted {
    /// How it ended; `None` if it had to be killed.
    pub status: Option<ExitStatus>,
    /// All it wrote to stderr.
    pub logs: String,
}

/// An answer of the gateway. Redirects are not followed.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Reply {
    /// The body as text, with U+FFFD for what is not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value as text; empty if it is absent or not text.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// A running gateway on a free port of 127.0.0.1. It is killed when it is dropped.
#[derive(Debug)]
pub struct Modgate {
    child: Child,
    pid: u32,
    addr: SocketAddr,
    tls: bool,
    logs: watch::Receiver<String>,
    client: reqwest::Client,
    data: PathBuf,
    /// The configuration, certificates, and the data unless it was given.
    folder: TempDir,
}

impl Modgate {
    /// Starts the gateway at `bin` and waits until it listens.
    ///
    /// # Panics
    /// If it does not; the message has all it wrote to stderr.
    pub async fn start(bin: &Path, options: Options) -> Modgate {
        match Modgate::try_start(bin, options).await {
            Ok(modgate) => modgate,
            Err(NotStarted { status, logs }) => {
                let status = status.map_or("it had to be killed".to_owned(), |s| s.to_string());
                panic!("modgate did not start ({status}):\n{logs}");
            }
        }
    }

    /// Like [`start`](Modgate::start), for tests in which it must not start.
    ///
    /// # Errors
    /// It ended or did not listen within 20 s. It has ended when this returns.
    ///
    /// # Panics
    /// If the program could not be run at all.
    pub async fn try_start(bin: &Path, options: Options) -> Result<Modgate, NotStarted> {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let data = options.data.unwrap_or_else(|| folder.path().join("data"));
        let mut command = Command::new(bin);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]);
        command.arg(&data);
        if let Some(upstream) = options.upstream {
            command.arg("--upstream").arg(upstream);
        }
        if let Some(sumdb) = options.sumdb {
            command.arg("--sumdb").arg(sumdb);
        }
        if let Some(config) = options.config {
            let file = folder.path().join(CONFIG_FILE);
            std::fs::write(&file, config).expect("a file can be written");
            command.arg("--config").arg(file);
        }
        for (key, _) in std::env::vars_os() {
            if key.to_str().is_some_and(is_cleared) {
                command.env_remove(key);
            }
        }
        if let Some(tls) = &options.tls {
            let files = TlsFiles::of(&folder);
            files.write(tls);
            command.env("MODGATE_TLS_CERT", files.cert);
            command.env("MODGATE_TLS_KEY", files.key);
        }
        let mut child = command
            .envs(options.env)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{} could not be run: {error}", bin.display()));
        let pid = child.id().expect("it was not waited for yet");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let (sender, logs) = watch::channel(String::new());
        let (found, mut listens) = watch::channel(None);
        let reader = tokio::spawn(read_logs(stderr, sender, found));

        // The sender goes at the end of stderr, so this ends when the process does.
        let listening = listens.wait_for(Option::is_some);
        let addr = match tokio::time::timeout(START_LIMIT, listening).await {
            Ok(Ok(addr)) => *addr,
            Ok(Err(_)) | Err(_) => None,
        };
        let Some(addr) = addr else {
            // It may have closed stderr to end in a moment, and then its own status is worth having.
            let ended = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
            let status = ended.ok().and_then(Result::ok);
            if status.is_none() {
                let _ = child.kill().await;
            }
            let _ = reader.await;
            return Err(NotStarted {
                status,
                logs: logs.borrow().clone(),
            });
        };
        // Without those of the system, which take long to read.
        let trusted = options.tls.iter().map(|tls| {
            reqwest::Certificate::from_pem(tls.ca.as_bytes()).expect("the authority is PEM")
        });
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REQUEST_LIMIT)
            .tls_certs_only(trusted)
            .build()
            .expect("a client can be made");
        Ok(Modgate {
            child,
            pid,
            addr,
            tls: options.tls.is_some(),
            logs,
            client,
            data,
            folder,
        })
    }

    /// `http://127.0.0.1:<port>`, or `https` with TLS.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// All it wrote to stderr so far.
    pub fn logs(&self) -> String {
        self.logs.borrow().clone()
    }

    /// Waits until what it wrote to stderr has this text `times` times, and returns all of it.
    ///
    /// # Panics
    /// If that is not so within 20 s; the message has all it wrote.
    pub async fn logged(&self, text: &str, times: usize) -> String {
        let mut logs = self.logs.clone();
        let found = logs.wait_for(|logs| logs.matches(text).count() >= times);
        match tokio::time::timeout(LOG_LIMIT, found).await {
            Ok(Ok(logs)) => logs.clone(),
            Ok(Err(_)) | Err(_) => panic!("not logged {times} times: {text}\n{}", self.logs()),
        }
    }

    /// Writes another configuration in place of the one it was started with, as editors do: a new file that is renamed.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn rewrite_config(&self, config: &str) {
        replace(&self.folder.path().join(CONFIG_FILE), config);
    }

    /// Writes another certificate and key in place of those it was started with.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn rewrite_tls(&self, tls: &Pem) {
        TlsFiles::of(&self.folder).write(tls);
    }

    /// A PEM file with the authority of the certificate that was written last, for `SSL_CERT_FILE`.
    pub fn ca_file(&self) -> PathBuf {
        TlsFiles::of(&self.folder).ca
    }

    /// Sends it SIGHUP.
    ///
    /// # Panics
    /// If it has ended.
    pub fn hang_up(&self) {
        send(self.pid, rustix::process::Signal::HUP).expect("the gateway can be sent a signal");
    }

    /// Sends it SIGTERM and does not wait; see [`terminate`](Modgate::terminate).
    ///
    /// # Panics
    /// If it has ended.
    pub fn begin_to_end(&self) {
        send(self.pid, rustix::process::Signal::TERM).expect("the gateway can be sent a signal");
    }

    /// The client with which it is asked, for tests that read an answer piece by piece.
    pub fn client(&self) -> reqwest::Client {
        self.client.clone()
    }

    /// Gets a path, which begins with a slash and is normalised as URLs are; see [`raw`](Modgate::raw).
    ///
    /// # Panics
    /// If no whole answer comes within 120 s.
    pub async fn get(&self, path: &str) -> Reply {
        self.get_with(path, &[]).await
    }

    /// Gets a path with these headers.
    ///
    /// # Panics
    /// As [`get`](Modgate::get).
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.ask(Method::GET, path, headers)
            .await
            .unwrap_or_else(|error| panic!("GET {path}: {error:?}\n{}", self.logs()))
    }

    /// Gets the head of a path alone.
    ///
    /// # Panics
    /// As [`get`](Modgate::get).
    pub async fn head(&self, path: &str) -> Reply {
        self.ask(Method::HEAD, path, &[])
            .await
            .unwrap_or_else(|error| panic!("HEAD {path}: {error:?}\n{}", self.logs()))
    }

    /// Any request, for tests in which an answer may break off.
    ///
    /// # Errors
    /// No whole answer came within 120 s.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> reqwest::Result<Reply> {
        let mut request = self.client.request(method, format!("{}{path}", self.url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reply = request.send().await?;
        Ok(Reply {
            status: reply.status().as_u16(),
            headers: reply.headers().clone(),
            body: reply.bytes().await?,
        })
    }

    /// Sends these bytes on a connection of its own and returns all that comes back until the gateway closes it or
    /// sends nothing for 5 s.
    ///
    /// # Panics
    /// If it does not accept the connection.
    pub async fn raw(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.addr)
            .await
            .expect("the gateway accepts connections");
        // It may refuse and close before all is sent; what it says counts.
        let _ = tokio::time::timeout(RAW_LIMIT, stream.write_all(bytes.as_ref())).await;
        let mut reply = Vec::new();
        while let Ok(Ok(1..)) = tokio::time::timeout(RAW_LIMIT, stream.read_buf(&mut reply)).await {
        }
        reply
    }

    /// The sum of all series of `/metrics` with `substring` in their name and labels, such as
    /// `modgate_requests_total{kind="zip"`; 0 if there is none.
    ///
    /// # Panics
    /// As [`get`](Modgate::get), or if the answer is not 200.
    pub async fn metric(&self, substring: &str) -> f64 {
        let reply = self.get("/metrics").await;
        assert_eq!(reply.status, 200, "/metrics: {}", reply.text());
        sum_metric(&reply.text(), substring)
    }

    /// Kills it as a power failure would (SIGKILL). When this returns it is gone.
    pub async fn kill9(&mut self) {
        // The only error is that it has ended already.
        let _ = self.child.kill().await;
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// If it has not ended after 60 s.
    pub async fn terminate(&mut self) -> ExitStatus {
        // With no id it has been waited for, and the number may be another's by now.
        if let Some(pid) = self.child.id() {
            send(pid, rustix::process::Signal::TERM).expect("the gateway can be sent a signal");
        }
        self.ended().await
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// If it has not after 60 s.
    pub async fn ended(&mut self) -> ExitStatus {
        match tokio::time::timeout(STOP_LIMIT, self.child.wait()).await {
            Ok(status) => status.expect("a child can be waited for"),
            Err(limit) => panic!("modgate did not end ({limit}):\n{}", self.logs()),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its memory now (VmRSS) in KiB; 0 if it has ended.
    pub fn rss_kib(&self) -> u64 {
        self.memory_kib("VmRSS:")
    }

    /// What of its memory now is its own (RssAnon) in KiB: heap and stacks, without mapped files, which are the
    /// system's to take back at any time; 0 if it has ended.
    pub fn rss_anon_kib(&self) -> u64 {
        self.memory_kib("RssAnon:")
    }

    fn memory_kib(&self, line_begin: &str) -> u64 {
        std::fs::read_to_string(format!("/proc/{}/status", self.pid))
            .unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix(line_begin))
            .and_then(|value| value.trim().trim_end_matches(" kB").parse().ok())
            .unwrap_or(0)
    }

    /// Its data folder.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }
}

/// Whether a variable of the test's own environment is kept from the gateway.
fn is_cleared(key: &str) -> bool {
    let key = key.to_ascii_uppercase();
    key.starts_with("MODGATE_") || key.ends_with("_PROXY") || key == "GOPROXY" || key == "GOSUMDB"
}

/// Sums the values of the series with `substring` in their name and labels (Prometheus text or OpenMetrics).
fn sum_metric(metrics: &str, substring: &str) -> f64 {
    metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        // An exemplar comes after the value.
        .map(|line| line.split_once(" # ").map_or(line, |(series, _)| series))
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(series, _)| series.contains(substring))
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        .sum()
}

fn send(pid: u32, signal: rustix::process::Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_labels() {
        let metrics = "# HELP a_total a 9\na_total{k=\"x\"} 1\na_total{k=\"y\"} 2.5 # {t=\"1\"} 7\nb_total 4\n";
        for (substring, expected) in [
            ("a_total", 3.5),
            ("k=\"y\"", 2.5),
            ("_total", 7.5),
            ("c", 0.0),
        ] {
            let sum = sum_metric(metrics, substring);
            assert!((sum - expected).abs() < 1e-9, "{substring}: {sum}");
        }
    }
}
