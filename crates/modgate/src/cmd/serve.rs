//! `modgate serve`.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, IsTerminal as _},
    net::{SocketAddr, TcpListener},
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use gateway::{
    AccessLog, Gateway, Metrics, Recorder, Reload,
    http::{
        ConnectionLimits, Vanity,
        door::{Door, DoorSettings},
        server::{self, ServerLimits},
        tls::Certificate,
    },
    tombstone,
};
use replicas::Replicas;
use store::{Store, Tiers};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use upstream::chain::BaseUrl;

use crate::{
    cli::ServeArgs,
    cmd::{check, open_files, schedule, watch::Watch},
    config::{Config, Env, Loaded, Sources, Stamp, changes_needing_restart, lost_its_file},
    wire,
};

/// For what is verified and on its way to the disk when the drain time is over.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// Runs the gateway until it is told to stop.
pub fn run(args: &ServeArgs, env: Env) -> io::Result<ExitCode> {
    let colours = check::colours(&env, io::stderr().is_terminal());
    let sources = args.config.sources(env);
    let loaded = match Config::load(&sources) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            check::report(&mistakes, colours)?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let json = wire::json_logs(&loaded.config);
    let log = Arc::new(AccessLog::to(io::stderr())?);
    let lines = Arc::clone(&log);
    let level = wire::logs(&loaded.config, json, move || lines.writer());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(128)
        .build()?;
    let ended = runtime.block_on(serve(sources, loaded, json, &level, &log));
    runtime.shutdown_timeout(Duration::from_secs(1));
    log.close();
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("error: {error}");
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn serve(
    sources: Sources,
    loaded: Loaded,
    json: bool,
    level: &wire::LogLevelHandle,
    log: &Arc<AccessLog>,
) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let config = &loaded.config;
    open_files::allow(config);
    let store = Arc::new(Store::open(&wire::store(config)).map_err(|error| error.to_string())?);
    let tiers = Tiers::open(&wire::tiers(config), store).map_err(|error| error.to_string())?;
    // Before anything is waited for, and before anybody can know that it runs, so that none is lost.
    let mut signals = (
        signal(SignalKind::terminate()).map_err(text)?,
        signal(SignalKind::interrupt()).map_err(text)?,
        signal(SignalKind::hangup()).map_err(text)?,
    );
    let opened = tokio::select! {
        opened = wire::await_records(config) => Some(opened.map_err(text)?),
        _ = signals.0.recv() => None,
        _ = signals.1.recv() => None,
    };
    let Some(records) = opened.map(Arc::new) else {
        tracing::info!("told to stop before the records could be reached");
        return Ok(());
    };
    // Before what is retired is read, and before anybody is served.
    let facts = wire::shared_facts(config, &records)?;
    if let Some(facts) = &facts {
        let folder = wire::store_folder(config);
        tombstone::take_over(&records, folder).await.map_err(text)?;
        facts.begin().await;
    }
    let via = instance();
    let stop = CancellationToken::new();
    let metrics = Arc::new(Metrics::new());
    let gateway = Gateway::new(
        wire::settings(config, &via, None)?,
        tiers,
        Arc::clone(&records),
        Arc::clone(&metrics),
        via.clone(),
        stop.clone(),
    )
    .await
    .map_err(text)?;
    let coordinate = wire::coordinate(config)?;
    let replicas = Arc::new(Replicas::start(coordinate, &records, facts, &via));
    gateway.follow(Arc::clone(&replicas));
    gateway.take_epoch(&loaded.digest());
    let backups = tokio::spawn(schedule::run(
        config.clone(),
        Arc::clone(&records),
        Arc::clone(&replicas),
        Arc::clone(&metrics),
    ));
    let recorder = Recorder::new(Arc::clone(&metrics), Arc::clone(log), json);
    let recorder = Arc::new(recorder);
    recorder.set_logging(config.log.access);
    let door = Arc::new(Door::new(
        Arc::clone(&gateway),
        Arc::clone(&recorder),
        door_settings(config),
    ));
    let certificate = config
        .tls
        .as_ref()
        .map(|tls| Certificate::new(tls.pair.clone()));
    let tls = certificate
        .as_ref()
        .map(Certificate::server_config)
        .transpose()
        .map_err(|error| error.to_string())?;
    let listeners = server::bind(config.listen, workers())
        .map_err(|error| cannot_listen(config.listen, &error))?;
    let address = listeners
        .first()
        .map_or(Ok(config.listen), TcpListener::local_addr);
    announce(&loaded, address.map_err(text)?);
    let drain_delay = config.limits.drain_delay;
    let close = CancellationToken::new();
    let serving = server::serve(
        listeners,
        Arc::clone(&door),
        tls,
        limits(config),
        close.clone(),
    )
    .map_err(text)?;
    let running = Running {
        sources,
        started: loaded.clone(),
        loaded,
        gateway: Arc::clone(&gateway),
        door,
        recorder,
        certificate,
        metrics,
        via,
        replicas: Arc::clone(&replicas),
        wal: records.wal().map(|wal| absolute(&wal)),
    };
    let drain = running.attend(&stop, signals, level).await.map_err(text)?;
    if !drain_delay.is_zero() {
        // A balancer that asks `/readyz` must be answered to know.
        tracing::info!(
            ?drain_delay,
            "told to stop: not ready any more, but what comes is still served"
        );
        sleep(drain_delay).await;
    }
    close.cancel();
    tracing::info!("told to stop: finishing what is under way");
    // One limit for answers and for fetches that nobody waits for: an upstream that dribbles must not hold up the end.
    let end = Instant::now() + drain;
    if timeout_at(end, serving).await.is_err() {
        tracing::warn!("some answers were not finished within the drain time");
    }
    let left = end.saturating_duration_since(Instant::now());
    if !gateway.settle(left.max(LAST_WRITES)).await {
        tracing::warn!("some fetches were not finished within the drain time, and are not kept");
    }
    // An unfinished one is no backup.
    backups.abort();
    replicas.leave(LAST_WRITES).await;
    records.close().await;
    tracing::info!("stopped");
    Ok(())
}

fn announce(loaded: &Loaded, address: SocketAddr) {
    for notice in &loaded.notices {
        tracing::warn!("{notice}");
    }
    let config = &loaded.config;
    let sumdb = config
        .sumdb
        .database
        .as_ref()
        .map_or("off", |database| database.key.name());
    tracing::info!(chain = %config.chain, from = loaded.origins.get("chain").map(tracing::field::display), "upstreams");
    tracing::info!(data = %config.data.display(), sumdb, "keeping and verifying");
    let way_in = way_in(config.public_url.as_ref(), config.tls.is_some(), address);
    tracing::info!(listening = %address, "listening; use it with GOPROXY={way_in}");
}

/// What a client can use as GOPROXY. An address that means all of them is none to connect to.
fn way_in(public_url: Option<&BaseUrl>, tls: bool, address: SocketAddr) -> String {
    if let Some(url) = public_url {
        return url.to_string().trim_end_matches('/').to_owned();
    }
    let scheme = if tls { "https" } else { "http" };
    if !address.ip().is_unspecified() {
        return format!("{scheme}://{address}");
    }
    let port = address.port();
    let here = if address.is_ipv4() {
        "127.0.0.1"
    } else {
        "[::1]"
    };
    format!("{scheme}://{here}:{port}, from other machines {scheme}://<this host>:{port}")
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; choose another port with --listen or `listen`, or end what listens there"
        }
        io::ErrorKind::AddrNotAvailable => {
            "; --listen or `listen` must be an address of this machine"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 are not for everybody: choose another with --listen or `listen`"
        }
        _ => "",
    };
    format!("cannot listen on {address}: {error}{hint}")
}

/// One for each core, as far as this process may use them.
fn workers() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

pub(super) fn limits(config: &Config) -> ServerLimits {
    ServerLimits {
        max_connections: config.limits.max_connections,
        max_header_bytes: config.limits.max_header_bytes,
        connection: ConnectionLimits {
            header_timeout: config.limits.header_timeout,
            idle_timeout: config.limits.idle_timeout,
            write_stall_timeout: config.limits.write_stall_timeout,
        },
    }
}

pub(super) fn door_settings(config: &Config) -> DoorSettings {
    let public_url = config.public_url.as_ref().map(ToString::to_string);
    DoorSettings {
        public_url: public_url.map(|url| url.trim_end_matches('/').to_owned()),
        tls: config.tls.is_some(),
        certificate_end: config
            .tls
            .as_ref()
            .and_then(|tls| tls.pair.validity())
            .map(|(_, end)| end.unix_timestamp()),
        max_path_bytes: config.limits.max_path_bytes,
        metrics_page: config.metrics.enabled,
        vanity: Vanity {
            prefixes: config.vanity.clone(),
            url: config
                .public_url
                .as_ref()
                .map(|url| url.expose().to_owned())
                .unwrap_or_default(),
        },
    }
}

/// A name for this process in `Via`, so that it recognises its own requests.
fn instance() -> String {
    let mut id = [0; 8];
    // Without randomness the process id must do.
    if getrandom::fill(&mut id).is_err() {
        id = u64::from(std::process::id()).to_le_bytes();
    }
    format!("modgate-{:016x}", u64::from_le_bytes(id))
}

/// What must be at hand to take changes while serving.
struct Running {
    sources: Sources,
    /// What the process began with: settings that it takes at its start are still those.
    started: Loaded,
    loaded: Loaded,
    gateway: Arc<Gateway>,
    door: Arc<Door>,
    recorder: Arc<Recorder>,
    certificate: Option<Arc<Certificate>>,
    metrics: Arc<Metrics>,
    via: String,
    replicas: Arc<Replicas>,
    /// Written whenever somebody changes the records.
    wal: Option<PathBuf>,
}

impl Running {
    /// Takes changes until told to stop, and says how long the rest may take.
    async fn attend(
        mut self,
        stop: &CancellationToken,
        signals: (Signal, Signal, Signal),
        level: &wire::LogLevelHandle,
    ) -> io::Result<Duration> {
        let (mut term, mut int, mut hup) = signals;
        let mut watch = Watch::new();
        self.watch(&mut watch, None).await;
        loop {
            tokio::select! {
                _ = term.recv() => break,
                _ = int.recv() => break,
                _ = hup.recv() => self.reload(level, &mut watch).await,
                // Its change may not be seen here yet, or not at all: not every file system tells.
                () = self.gateway.epoch_differs() => {
                    self.reload(level, &mut watch).await;
                    self.gateway.compare_epoch();
                }
                mut changed = watch.changed() => {
                    if self.wal.as_ref().is_some_and(|wal| changed.remove(wal)) {
                        self.replicas.announcements.look();
                    }
                    if !changed.is_empty() {
                        self.reload(level, &mut watch).await;
                    }
                }
            }
        }
        stop.cancel();
        Ok(self.loaded.config.limits.drain_timeout)
    }

    /// Watches the files of the configuration in effect and the records, and those of a refused configuration.
    async fn watch(&self, watch: &mut Watch, refused: Option<BTreeMap<PathBuf, Option<Stamp>>>) {
        let mut files = HashMap::new();
        for (path, stamp) in &self.loaded.watched_files {
            let path = absolute(path);
            // What was refused is not to be tried again before something else changes.
            let stamp = match refused {
                Some(_) => watch.seen(&path, *stamp),
                None => *stamp,
            };
            files.insert(path, stamp);
        }
        for (path, stamp) in refused.iter().flatten() {
            files.insert(absolute(path), *stamp);
        }
        // As it was when it was looked at last; a look too many does no harm.
        files.extend(
            self.wal
                .iter()
                .map(|wal| (wal.clone(), watch.seen(wal, None))),
        );
        watch.set(files).await;
    }

    /// Takes a new configuration; a bad one is refused, the old one stays, and what may mend it is watched.
    async fn reload(&mut self, level: &wire::LogLevelHandle, watch: &mut Watch) {
        let refused = self.take(level).err();
        if refused.is_some() {
            self.metrics.reloads.count(Reload::Refused);
        }
        self.watch(watch, refused).await;
    }

    /// The files of a configuration that is refused come back.
    fn take(
        &mut self,
        level: &wire::LogLevelHandle,
    ) -> Result<(), BTreeMap<PathBuf, Option<Stamp>>> {
        let loaded = match Config::load(&self.sources) {
            Ok(loaded) => loaded,
            Err(mistakes) => {
                tracing::error!(
                    "the new configuration is refused, the old one stays:\n{}",
                    mistakes.render(false)
                );
                return Err(mistakes.watched_files);
            }
        };
        if lost_its_file(&self.loaded, &loaded) {
            tracing::error!(
                "the configuration file is empty, the old configuration stays: start anew to run without"
            );
            return Err(loaded.watched_files);
        }
        let direct = self.gateway.direct();
        let settings = match wire::settings(&loaded.config, &self.via, Some(&direct)) {
            Ok(settings) => settings,
            Err(error) => {
                tracing::error!(error, "the new configuration is refused, the old one stays");
                return Err(loaded.watched_files);
            }
        };
        // What is again as this process began with it waits for nothing.
        let waiting = changes_needing_restart(&self.started, &loaded);
        for name in changes_needing_restart(&self.loaded, &loaded) {
            if waiting.contains(&name) {
                tracing::warn!("{name} changed: it takes effect at the next start");
            }
        }
        if let (Some(certificate), Some(tls)) = (&self.certificate, &loaded.config.tls) {
            certificate.set(tls.pair.clone());
        }
        self.gateway.reconfigure(settings);
        self.gateway.take_epoch(&loaded.digest());
        self.door.set(door_settings(&loaded.config));
        self.recorder.set_logging(loaded.config.log.access);
        self.replicas.announcements.look();
        level.set(&loaded.config);
        for notice in &loaded.notices {
            tracing::warn!("{notice}");
        }
        self.metrics.reloads.count(Reload::Taken);
        tracing::info!("configuration read again");
        self.loaded = loaded;
        Ok(())
    }
}

fn absolute(path: &Path) -> PathBuf {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let folder = folder
        .canonicalize()
        .or_else(|_| std::path::absolute(folder))
        .unwrap_or_else(|_| folder.to_owned());
    path.file_name()
        .map_or_else(|| folder.clone(), |name| folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_a_client_can_use_is_told() {
        let told = |url, tls, address: &str| way_in(url, tls, address.parse().unwrap());
        for (address, tls, expected) in [
            ("127.0.0.1:3000", false, "http://127.0.0.1:3000"),
            ("10.0.0.7:3000", true, "https://10.0.0.7:3000"),
            (
                "0.0.0.0:3040",
                false,
                "http://127.0.0.1:3040, from other machines http://<this host>:3040",
            ),
            (
                "[::]:3443",
                true,
                "https://[::1]:3443, from other machines https://<this host>:3443",
            ),
        ] {
            assert_eq!(told(None, tls, address), expected);
        }
        let url = "https://modgate.corp.example/".parse().unwrap();
        let expected = "https://modgate.corp.example";
        assert_eq!(told(Some(&url), false, "0.0.0.0:3000"), expected);
    }
}
