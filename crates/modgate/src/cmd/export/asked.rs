//! The gateway that an export asks, through its door: the running one, or one that is started for it.

use std::{
    fs::File,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use gateway::{
    AccessLog, Gateway, Metrics, Recorder,
    http::{door::Door, server},
};
use records::Records;
use reqwest::{Client, Response, StatusCode, Url, header::LOCATION, redirect::Policy};
use store::{Store, StoreError, Tiers};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{cmd::serve, config::Config, wire};

/// Until the head of an answer is there: the gateway may have to fetch it, and to wait for others.
const ANSWER: Duration = Duration::from_mins(10);
/// Longest silence in a body.
const SILENCE: Duration = Duration::from_mins(2);
const CONNECT: Duration = Duration::from_secs(10);
/// A gateway in trouble is asked so often.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// What of an answer that is none is told.
const MAX_WHY: usize = 300;
/// Bytes that are written to a file at a time.
const WRITE_BYTES: usize = 1 << 20;

/// Why something is not to be had.
#[derive(Clone, Debug)]
pub(super) enum Miss {
    /// Upstream says that it is not there, or it was retired.
    Missing(String),
    /// It must not be had, or not now: what else is an answer of the gateway's and no failure.
    Absent(String),
    /// The gateway fails.
    Trouble(String),
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(why) | Self::Absent(why) | Self::Trouble(why) => f.write_str(why),
        }
    }
}

/// A gateway to ask. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    client: Client,
    base: Arc<str>,
}

/// A gateway of our own, where no server runs.
pub(super) struct Own {
    gateway: Arc<Gateway>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Asked {
    /// A gateway at this address.
    pub(super) fn at(base: &str, config: &Config) -> io::Result<Self> {
        let url: Url = base
            .parse()
            .map_err(|error| io::Error::other(format!("not an address of a gateway: {error}")))?;
        let builder = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT);
        let mut roots = Vec::new();
        if let Some(ca) = &config.network.ca {
            roots = reqwest::Certificate::from_pem_bundle(&ca.pem)
                .map_err(|_| io::Error::other("the CA file is not PEM certificates"))?;
        }
        // Without TLS those of the system are not read.
        let builder = if url.scheme() == "http" || config.network.ca_only {
            builder.tls_certs_only(roots)
        } else {
            builder.tls_certs_merge(roots)
        };
        Ok(Self {
            client: builder.build().map_err(io::Error::other)?,
            base: base.trim_end_matches('/').into(),
        })
    }

    /// The gateway of the configuration: the server that has its data folder, or one that is started now.
    pub(super) async fn of(
        config: &Config,
        records: &Arc<Records>,
    ) -> io::Result<(Self, Option<Own>)> {
        let settings = wire::store(config);
        let store = match spawn_blocking(move || Store::open(&settings)).await? {
            Ok(store) => store,
            Err(StoreError::InUse { .. }) => {
                return Ok((Self::at(&address(config)?, config)?, None));
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        let tiers = Tiers::open(&wire::tiers(config), Arc::new(store)).map_err(io::Error::other)?;
        let config = wire::fetching_at_once(config);
        let (metrics, stop) = (Arc::new(Metrics::new()), CancellationToken::new());
        let gateway = Gateway::new(
            wire::settings(&config, "", None).map_err(io::Error::other)?,
            tiers,
            Arc::clone(records),
            Arc::clone(&metrics),
            String::new(),
            stop.clone(),
        )
        .await?;
        let log = Arc::new(AccessLog::to(io::sink())?);
        let recorder = Recorder::new(metrics, log, false);
        recorder.set_logging(false);
        let settings = serve::door_settings(&config);
        let door = Arc::new(Door::new(
            Arc::clone(&gateway),
            Arc::new(recorder),
            settings,
        ));
        let listeners = server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1)?;
        let address = listeners.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let base = format!("http://{}", address.local_addr()?);
        let serving = server::serve(listeners, door, None, serve::limits(&config), stop.clone())?;
        let own = Own {
            gateway,
            stop,
            serving: tokio::spawn(serving),
        };
        Ok((Self::at(&base, &config)?, Some(own)))
    }

    /// A short answer.
    pub(super) async fn small(&self, path: &str, max: usize) -> Result<Bytes, Miss> {
        self.again(async || {
            let mut body = Vec::new();
            let mut answer = self.ask(path).await?;
            while let Some(block) = next(&mut answer).await? {
                body.extend_from_slice(&block);
                if body.len() > max {
                    return Err(Miss::Trouble(format!("{path}: longer than it may be")));
                }
            }
            Ok(body.into())
        })
        .await
    }

    /// A file, into one that has no name and goes with its handle. Returns its length too.
    pub(super) async fn file(
        &self,
        path: &str,
        folder: &Path,
        max: u64,
    ) -> Result<(File, u64), Miss> {
        self.again(async || {
            let folder = folder.to_owned();
            let made = off(move || tempfile::tempfile_in(folder)).await;
            let mut file = made.map_err(|error| Miss::Trouble(error.to_string()))?;
            let (mut answer, mut len, mut block) = (self.ask(path).await?, 0, Vec::new());
            loop {
                let more = next(&mut answer).await?;
                let ended = more.is_none();
                block.extend_from_slice(&more.unwrap_or_default());
                if block.len() < WRITE_BYTES && !ended {
                    continue;
                }
                len += block.len() as u64;
                if len > max {
                    return Err(Miss::Trouble(format!("{path}: longer than it may be")));
                }
                let piece = std::mem::take(&mut block);
                let written = off(move || file.write_all(&piece).map(|()| file)).await;
                file = written.map_err(|error| Miss::Trouble(error.to_string()))?;
                if ended {
                    return Ok((file, len));
                }
            }
        })
        .await
    }

    async fn again<T>(&self, ask: impl AsyncFn() -> Result<T, Miss>) -> Result<T, Miss> {
        for _ in 1..TRIES {
            match ask().await {
                Err(Miss::Trouble(why)) => tracing::debug!(why, "asked again"),
                done => return done,
            }
            sleep(PAUSE).await;
        }
        ask().await
    }

    async fn ask(&self, path: &str) -> Result<Response, Miss> {
        let answer = self.send(&format!("{}{path}", self.base)).await?;
        if !answer.status().is_redirection() {
            return good(answer).await;
        }
        // Large files of a bucket are had from there, if that is so configured.
        let to = answer
            .headers()
            .get(LOCATION)
            .and_then(|to| to.to_str().ok());
        let to = to.ok_or_else(|| Miss::Trouble(format!("{path}: a redirect to nowhere")))?;
        good(self.send(to).await?).await
    }

    async fn send(&self, url: &str) -> Result<Response, Miss> {
        let sent = timeout(ANSWER, self.client.get(url).send()).await;
        let sent = sent.map_err(|_| Miss::Trouble(format!("{} does not answer", host(url))))?;
        sent.map_err(|error| {
            let mut why = format!("{} cannot be asked: {}", host(url), deepest(&error));
            if error.is_connect() {
                why += "; if the gateway listens elsewhere, say where by --from URL";
            }
            Miss::Trouble(why)
        })
    }
}

impl Own {
    /// Ends it: what it fetched is kept when this returns.
    pub(super) async fn end(self) {
        self.stop.cancel();
        let _ = self.serving.await;
        self.gateway.settle(Duration::MAX).await;
    }
}

pub(super) async fn off<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Where a URL leads, without the rest of it: there may be a password or a signature in that.
fn host(url: &str) -> String {
    url.parse().map_or_else(
        |_| "the gateway".to_owned(),
        |url: Url| url.origin().ascii_serialization(),
    )
}

/// What is at the bottom of an error: above it the whole address is named.
fn deepest(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    deepest.to_string()
}

async fn next(answer: &mut Response) -> Result<Option<Bytes>, Miss> {
    let block = timeout(SILENCE, answer.chunk()).await;
    let block = block.map_err(|_| Miss::Trouble("the answer stopped".to_owned()))?;
    block.map_err(|error| Miss::Trouble(format!("the answer broke off: {}", deepest(&error))))
}

async fn good(mut answer: Response) -> Result<Response, Miss> {
    let status = answer.status();
    if status == StatusCode::OK {
        return Ok(answer);
    }
    let block = next(&mut answer).await.ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&block);
    let line = text.lines().next().unwrap_or_default();
    let shown = line.chars().filter(|c| !c.is_control()).take(MAX_WHY);
    let why = format!("{} {}", status.as_u16(), shown.collect::<String>());
    // What it says of itself is nothing that upstream said.
    let own = ["[modgate: not_cached]", "[modgate: fetch_queued]"];
    let own = own.iter().any(|code| line.ends_with(code));
    Err(if matches!(status.as_u16(), 404 | 410) && !own {
        Miss::Missing(why)
    } else if status.is_client_error() {
        Miss::Absent(why)
    } else {
        Miss::Trouble(why)
    })
}

/// Where the server of the configuration is reached from here.
fn address(config: &Config) -> io::Result<String> {
    let listen = config.listen;
    let unknown = "a server runs on the data folder: say how it is reached by --from URL";
    if config.tls.is_some() {
        let url = config.public_url.as_ref();
        let url = url.ok_or_else(|| io::Error::other(unknown))?;
        return Ok(url.expose().to_owned());
    }
    if listen.port() == 0 {
        return Err(io::Error::other(unknown));
    }
    let host = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    Ok(format!("http://{}", SocketAddr::new(host, listen.port())))
}
