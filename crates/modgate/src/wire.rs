//! Builds the parts from a checked configuration. Nothing else does.

use std::{collections::HashMap, io::IsTerminal, sync::Arc};

use egress::{Credentials, Egress, NetworkSettings};
use gateway::settings::{Freshness, Mode, Negative, RouteRule, Routes, Settings, SumDbSettings};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer as _, Registry, fmt::MakeWriter, layer::SubscriberExt as _, reload,
};
use upstream::{
    Upstreams,
    chain::{BaseUrl, Chain, Fall, Target},
    settings::UpstreamSettings,
};

use vcs::{
    Direct, DirectSettings, Govcs,
    discover::{Kind, Mapping},
};

use crate::config::{self, Config, LogFormat, LogLevel};

mod records;
mod storage;

pub use self::records::{await_records, open_records, records};
pub use self::storage::{
    backups, cared_for, coordinate, has_data, keeps_in_a_bucket, place, shared_facts, store,
    store_folder, tiers,
};

/// The settings of a gateway. `via` is what it writes into `Via`. `before` is the direct fetch of a gateway that runs:
/// the new one works on over its mirrors.
///
/// # Errors
/// An address that no chain can hold: a defect, since the configuration was checked.
pub fn settings(config: &Config, via: &str, before: Option<&Direct>) -> Result<Settings, String> {
    let chain = |chain: &Chain| rebased(chain, config).map(Arc::new);
    let rules = config.routes.iter().map(|route| {
        Ok(RouteRule {
            matches: route.matches.clone(),
            chain: route.chain.as_ref().map(chain).transpose()?,
            mode: mode(route.mode),
        })
    });
    let routes = Routes::new(
        config.private.clone(),
        rules.collect::<Result<_, String>>()?,
        chain(&config.chain)?,
        mode(config.mode),
    );
    let egress = egress(config, via);
    Ok(Settings {
        routes: Arc::new(routes),
        upstreams: Arc::new(upstreams(config, egress.clone())),
        direct: direct(config, egress, before)?,
        sumdb: config
            .sumdb
            .database
            .as_ref()
            .map(|database| sumdb(config, database))
            .transpose()?,
        freshness: Freshness {
            list: config.freshness.list,
            latest: config.freshness.latest,
            query: config.freshness.query,
            stale_while_revalidate: config.freshness.stale_while_revalidate,
            stale_if_error: config.freshness.stale_if_error,
        },
        negative: Negative {
            absent: config.negative.absent,
            gone: config.negative.gone,
            trouble: config.negative.trouble,
        },
        max_zip_bytes: config.limits.max_zip_bytes,
        async_queue: config.background.queue,
        async_workers: config.background.workers,
    })
}

/// The same configuration for a command that waits for what it fetches, whatever clients get.
pub fn fetching_at_once(config: &Config) -> Config {
    let at_once = |mode: config::Mode| match mode {
        config::Mode::None => config::Mode::None,
        config::Mode::Sync
        | config::Mode::Async
        | config::Mode::Redirect
        | config::Mode::AsyncRedirect => config::Mode::Sync,
    };
    let mut config = config.clone();
    config.mode = at_once(config.mode);
    for route in &mut config.routes {
        route.mode = at_once(route.mode);
    }
    config
}

fn mode(mode: config::Mode) -> Mode {
    match mode {
        config::Mode::Sync => Mode::Sync,
        config::Mode::Async => Mode::Async,
        config::Mode::Redirect => Mode::Redirect,
        config::Mode::AsyncRedirect => Mode::AsyncRedirect,
        config::Mode::None => Mode::None,
    }
}

/// The chain with `base_url` in place of the addresses that have one.
fn rebased(chain: &Chain, config: &Config) -> Result<Chain, String> {
    let mut text = String::new();
    for entry in chain.entries() {
        match &entry.target {
            Target::Http(url) => {
                let base = config
                    .upstreams
                    .get(&config::upstream_key(url.expose()))
                    .and_then(|upstream| upstream.base_url.as_ref());
                text += base.unwrap_or(url).expose();
            }
            Target::Direct => text += "direct",
            Target::Off => text += "off",
        }
        text.push(if entry.fall == Fall::OnAny { '|' } else { ',' });
    }
    text.parse().map_err(|error| format!("{error}"))
}

/// Everything that leaves the machine goes by this. `via` is what is written into `Via`.
fn egress(config: &Config, via: &str) -> Egress {
    let network = &config.network;
    let proxy = |proxy: &Option<config::Secret>| proxy.as_ref().map(|url| url.expose().to_owned());
    // The administrator wrote these hosts, so they may be inside.
    let mapped = config.vcs.iter().filter_map(config::VcsMapping::host);
    let chains = config
        .routes
        .iter()
        .filter_map(|route| route.chain.as_ref());
    let written = chains
        .chain([&config.chain])
        .flat_map(Chain::entries)
        .filter_map(|entry| match &entry.target {
            Target::Http(base) => Some(base),
            Target::Direct | Target::Off => None,
        });
    let moved = config.upstreams.values();
    let bases = written.chain(moved.filter_map(|upstream| upstream.base_url.as_ref()));
    let settings = NetworkSettings {
        ca_pem: network.ca.as_ref().map(|ca| ca.pem.clone()),
        ca_only: network.ca_only,
        proxy: proxy(&network.proxy),
        proxy_http: proxy(&network.http_proxy),
        proxy_https: proxy(&network.https_proxy),
        no_proxy: network.no_proxy.clone(),
        via: if via.is_empty() {
            String::new()
        } else {
            format!("1.1 {via}")
        },
        internal_hosts: network
            .internal_hosts
            .iter()
            .cloned()
            .chain(mapped)
            .collect(),
        upstreams: bases
            .map(|base| {
                let (host, port) = base.host_port();
                format!("{host}:{port}")
            })
            .collect(),
    };
    let credentials =
        Credentials::hiding(config.credentials.clone(), config.secret_variables.clone());
    Egress::new(settings, credentials)
}

fn upstreams(config: &Config, egress: Egress) -> Upstreams {
    let mut by_url = HashMap::new();
    for (url, upstream) in &config.upstreams {
        let settings = UpstreamSettings {
            headers: upstream
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), value.expose().to_owned()))
                .collect(),
            status_map: upstream
                .status_map
                .iter()
                .map(|(from, to)| (*from, *to))
                .collect(),
            connect_timeout: upstream.connect_timeout,
            first_byte_timeout: upstream.first_byte_timeout,
            idle_timeout: upstream.idle_timeout,
            max_concurrent: upstream.max_concurrent,
            retries: upstream.retries,
            hedge: upstream.hedge,
        };
        if let Some(base) = &upstream.base_url {
            by_url.insert(config::upstream_key(base.expose()), settings.clone());
        }
        by_url.insert(url.clone(), settings);
    }
    Upstreams::new(egress, UpstreamSettings::default(), by_url)
}

fn direct(config: &Config, egress: Egress, before: Option<&Direct>) -> Result<Arc<Direct>, String> {
    let direct = &config.direct;
    let rules: Vec<String> = direct
        .vcs
        .iter()
        .map(|rule| format!("{}:{}", rule.pattern, rule.allowed.join("|")))
        .collect();
    let mappings = config.vcs.iter().map(|mapping| {
        Ok(Mapping {
            prefix: mapping.prefix.clone(),
            repo: mapping.repo.clone(),
            vcs: Kind::by_name(mapping.vcs).ok_or("an unknown version control system")?,
            subdir: mapping.subdir.clone(),
        })
    });
    let settings = DirectSettings {
        folder: config.data.join("vcs"),
        govcs: Govcs::parse(&rules.join(",")).map_err(|error| error.to_string())?,
        private: config.private.clone(),
        insecure: config.network.insecure_hosts.clone(),
        mappings: mappings.collect::<Result<_, &str>>()?,
        refs_life: direct.refs_life,
        discovery_life: direct.discovery_life,
        discovery_negative_life: direct.discovery_negative_life,
        max_mirrors: direct.max_mirrors,
        max_mirror_bytes: direct.max_mirror_bytes,
        max_repository_bytes: direct.max_repository_bytes,
        process_timeout: direct.process_timeout,
        max_processes: direct.max_processes,
        max_zip_bytes: config.limits.max_zip_bytes,
    };
    Ok(match before {
        Some(before) => before.renewed(settings, egress),
        None => Direct::new(settings, egress),
    })
}

fn sumdb(config: &Config, database: &config::Database) -> Result<SumDbSettings, String> {
    let own: BaseUrl = format!("https://{}", database.key.name())
        .parse()
        .map_err(|error| format!("{error}"))?;
    Ok(SumDbSettings {
        key: database.key.clone(),
        url: database.url.clone().map(|url| Arc::new(Chain::single(url))),
        own: Arc::new(Chain::single(own)),
        exempt: config.sumdb.exempt.clone(),
        allow_unknown: config.sumdb.unknown == config::Unknown::Allow,
        serve_unverified: config.sumdb.unreachable == config::Unreachable::ServeUnverified,
    })
}

/// Whether logs are JSON lines: they are, unless a person looks on or the configuration says otherwise.
pub fn json_logs(config: &Config) -> bool {
    match config.log.format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    }
}

/// Changes the log level of a running process.
#[derive(Debug)]
pub struct LogLevelHandle(reload::Handle<LevelFilter, Registry>);

impl LogLevelHandle {
    /// Takes the level of `config`.
    pub fn set(&self, config: &Config) {
        // It fails only when the subscriber is gone, with nobody left to read logs.
        let _ = self.0.reload(level(config));
    }
}

fn level(config: &Config) -> LevelFilter {
    match config.log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Starts logging to `out`, which leads to standard error.
pub fn logs(
    config: &Config,
    json: bool,
    out: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) -> LogLevelHandle {
    let (filter, handle) = reload::Layer::new(level(config));
    let colours =
        !json && std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(out)
        .with_target(false)
        .with_ansi(colours);
    let layer = if json {
        layer.json().flatten_event(true).boxed()
    } else {
        layer.boxed()
    };
    // A second subscriber in one process is a test's business, not an error.
    let _ = tracing::subscriber::set_global_default(
        Registry::default().with(layer.with_filter(filter)),
    );
    LogLevelHandle(handle)
}
