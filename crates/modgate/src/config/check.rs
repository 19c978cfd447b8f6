//! From raw values to the checked [`Config`]: every section, then what holds
//! between sections.

use std::{collections::BTreeMap, fmt::Display, path::PathBuf};

use gateway::http::tls::Pair;
use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    checked::{
        Background, Config, Coordinate, Freshness, Limits, Log, LogFormat, LogLevel, Metrics, Mode,
        Negative, Sumdb, Tls, Unknown, Unreachable,
    },
    itself::Itself,
    kinds,
    layers::{Scope, Sources, Uses, collect, unknown_variables},
    mistake::{Mistake, Mistakes},
    origin::{Origin, Origins},
    reader::{Reader, quoted},
    source::Value,
    stamp::Stamp,
};

mod chain;
mod credentials;
mod direct;
mod network;
mod records;
mod routes;
mod service;
mod storage;
mod sumdb;
mod tiers;
mod upstreams;

/// A configuration that may be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Each value as it is shown, with its origin.
    pub origins: Origins,
    /// What the operator should know, one line each.
    pub notices: Vec<String>,
    /// Files a change of which is a change of the configuration, as they were just before they were read.
    pub watched_files: BTreeMap<PathBuf, Option<Stamp>>,
}

/// What each replica has of its own, however much they are one: tables and single keys.
const OWN: [&str; 4] = ["[log]", "[tls]", "listen", "data"];

impl Loaded {
    /// What tells this configuration from others: the first half of the SHA-256, in hex, of all values as they are shown, but for
    /// those of a single machine.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for value in self.origins.iter() {
            let own = OWN.contains(&&*value.header)
                || value.header.is_empty() && OWN.contains(&value.key);
            if !own && value.key != "path" {
                hasher.update(format!("{} = {:?}\n", value.name(), value.value));
            }
        }
        hex::encode(&hasher.finalize()[..16])
    }
}

impl Config {
    /// Reads and checks a configuration. It has no effect but reading files, and
    /// can be called again at every reload.
    pub fn load(sources: &Sources) -> Result<Loaded, Mistakes> {
        let mut reader = Reader::new(&sources.env);
        if let Some(file) = sources.config_file() {
            reader.watch(&file);
        }
        let scope = collect(sources, &mut reader.mistakes);
        let config = sections(&mut reader, &scope, sources);
        unknown_variables(&sources.env, &reader.referenced, &mut reader.mistakes);
        // Of a file that was read twice the first look counts.
        let watched_files = reader.watched.into_iter().rev().collect();
        if !reader.mistakes.is_empty() {
            return Err(Mistakes::new(reader.mistakes, watched_files));
        }
        Ok(Loaded {
            config,
            origins: reader.origins,
            notices: reader.notices,
            watched_files,
        })
    }
}

/// The sections in the order of the table.
fn sections(reader: &mut Reader<'_>, scope: &Scope, sources: &Sources) -> Config {
    let asks = sources.uses == Uses::All;
    let listen = reader.address(scope, "listen");
    let data = data(reader, scope);
    let public_url = reader.url(scope, "public_url");
    let itself = Itself {
        listen,
        public_url: public_url.as_ref().map(ToString::to_string),
        may_be_named: sources.silent && scope.node("listen").is_none(),
    };
    let (chain, mut chain_entries) = chain::top_level(reader, scope, &itself);
    let (private, private_patterns) = reader.patterns(scope, "private");
    let mode = reader.choice(scope, "mode").map_or(Mode::Sync, mode);
    let routes = routes::read(reader, scope, &itself, mode);
    routes::never_redirect_private(reader, scope, &routes, &private_patterns);
    routes::tell_of_wide_routes(reader, &routes, &private, &private_patterns);
    chain_entries.extend(chain::entries_of_routes(scope));
    let upstreams = reader.used(asks, |reader| {
        upstreams::read(reader, scope, &chain_entries)
    });
    let sumdb = Sumdb {
        database: sumdb::read(reader, scope, &itself),
        exempt: reader.patterns(scope, "sumdb.exempt").0,
        unknown: match reader.choice(scope, "sumdb.unknown") {
            Some("allow") => Unknown::Allow,
            _ => Unknown::Refuse,
        },
        unreachable: match reader.choice(scope, "sumdb.unreachable") {
            Some("serve-unverified") => Unreachable::ServeUnverified,
            _ => Unreachable::Refuse,
        },
    };
    let freshness = Freshness {
        list: reader.time(scope, "freshness.list"),
        latest: reader.time(scope, "freshness.latest"),
        query: reader.time(scope, "freshness.query"),
        stale_while_revalidate: reader.time(scope, "freshness.stale_while_revalidate"),
        stale_if_error: reader.time_or_forever(scope, "freshness.stale_if_error"),
    };
    let negative = Negative {
        absent: reader.time(scope, "negative.absent"),
        gone: reader.time(scope, "negative.gone"),
        trouble: reader.time(scope, "negative.trouble"),
    };
    let before = reader.mistakes.len();
    let (cache, storage) = storage::read(reader, scope);
    let of_storage = before..reader.mistakes.len();
    let records = records::records(reader, scope);
    let replicas = records::replicas(reader, scope, &storage, &records);
    let told_there = matches!(replicas.coordinate, Coordinate::Redis | Coordinate::Storage);
    let stored = sources.uses != Uses::Records || told_there;
    if !stored {
        reader.mistakes.drain(of_storage);
    }
    let backup = reader.used(stored, |reader| records::backup(reader, scope, &storage));
    let vanity = direct::vanity(reader, scope, public_url.as_ref());
    Config {
        listen,
        data,
        public_url,
        chain,
        private,
        mode,
        routes,
        upstreams,
        sumdb,
        freshness,
        negative,
        cache,
        storage,
        records,
        replicas,
        backup,
        limits: limits(reader, scope),
        tls: tls(reader, scope),
        log: log(reader, scope),
        background: Background {
            queue: number(reader.count(scope, "async.queue")),
            workers: number(reader.count(scope, "async.workers")),
        },
        metrics: Metrics {
            enabled: reader.switch(scope, "metrics.enabled"),
        },
        network: network::read(reader, scope),
        direct: direct::read(reader, scope),
        vcs: direct::mappings(reader, scope, &private_patterns),
        vanity,
        credentials: reader.used(asks, |reader| credentials::read(reader, scope)),
        // After all that may name some.
        secret_variables: reader.referenced.clone(),
    }
}

fn number(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn data(reader: &mut Reader<'_>, scope: &Scope) -> PathBuf {
    let show = |path: &PathBuf| quoted(&path.to_string_lossy());
    let given = reader.read(scope, "data", |_, node, kind| kinds::path(node, kind), show);
    given.unwrap_or_else(|| {
        let (folder, why) = reader.env.data_folder();
        if scope.node("data").is_none() {
            let setting = scope.setting("data");
            let origin = Origin::Found(why.to_owned());
            reader.record(scope, setting, Some(show(&folder)), origin);
        }
        folder
    })
}

/// The mode of a word of the table.
fn mode(word: &str) -> Mode {
    let modes = [Mode::Async, Mode::Redirect, Mode::AsyncRedirect, Mode::None];
    modes
        .into_iter()
        .find(|mode| mode.as_str() == word)
        .unwrap_or(Mode::Sync)
}

fn limits(reader: &mut Reader<'_>, scope: &Scope) -> Limits {
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    Limits {
        max_connections: number(reader.count(scope, "limits.max_connections")),
        max_header_bytes: bytes(reader.size(scope, "limits.max_header_bytes")),
        max_path_bytes: bytes(reader.size(scope, "limits.max_path_bytes")),
        max_zip_bytes: reader.size(scope, "limits.max_zip_bytes"),
        header_timeout: reader.time(scope, "limits.header_timeout"),
        idle_timeout: reader.time(scope, "limits.idle_timeout"),
        write_stall_timeout: reader.time(scope, "limits.write_stall_timeout"),
        drain_timeout: reader.time(scope, "limits.drain_timeout"),
        drain_delay: reader.time(scope, "limits.drain_delay"),
    }
}

fn tls(reader: &mut Reader<'_>, scope: &Scope) -> Option<Tls> {
    let cert = reader.file(scope, "tls.cert");
    let key = reader.file(scope, "tls.key");
    for (name, other) in [("tls.cert", "tls.key"), ("tls.key", "tls.cert")] {
        if let (Some(node), None) = (scope.node(name), scope.node(other)) {
            reader.mistakes.push(
                node.mistake(format!("`{name}` is set, `{other}` is not"))
                    .hint("TLS needs both, plain HTTP none of them"),
            );
        }
    }
    let mut wrong = |name: &str, why: &dyn Display, hint: &str| {
        if let Some(node) = scope.node(name) {
            reader
                .mistakes
                .push(node.mistake(why.to_string()).hint(hint));
        }
    };
    let in_cert = cert
        .as_ref()
        .is_none_or(|(_, pem)| network::has_certificate(pem));
    if !in_cert {
        let hint = "certificate and key may have been swapped, or are DER";
        wrong("tls.cert", &"the file has no certificate in PEM form", hint);
    }
    let in_key = key.as_ref().is_none_or(|(_, pem)| has_key(pem));
    if !in_key {
        let hint =
            "certificate and key may have been swapped, or are DER; a key must not be encrypted";
        wrong("tls.key", &"the file has no private key in PEM form", hint);
    }
    let ((cert, chain), (key, secret)) = (cert?, key?);
    match Pair::from_pem(&chain, &secret) {
        Ok(pair) => {
            if let Some(node) = scope.node("tls.cert")
                && let Some(notice) = not_now(&pair, OffsetDateTime::now_utc())
            {
                let origin = Origin::of(node);
                let notice = format!("`tls.cert` ({origin}) {notice}: clients refuse it");
                reader.notices.push(notice);
            }
            return Some(Tls { cert, key, pair });
        }
        Err(error) if in_cert && in_key => {
            let hint =
                "the first certificate of `tls.cert` must be the one that `tls.key` was made for";
            wrong("tls.key", &error, hint);
        }
        Err(_) => {}
    }
    None
}

/// Why a certificate does not hold now. Not a mistake: it may be the clock's.
fn not_now(pair: &Pair, now: OffsetDateTime) -> Option<String> {
    let (begin, end) = pair.validity()?;
    let when = |time: OffsetDateTime| time.format(&Rfc3339).unwrap_or_default();
    if now > end {
        return Some(format!("ended at {}", when(end)));
    }
    (now < begin).then(|| format!("begins at {}", when(begin)))
}

fn has_key(pem: &[u8]) -> bool {
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
    PrivateKeyDer::from_pem_slice(pem).is_ok()
}

fn log(reader: &mut Reader<'_>, scope: &Scope) -> Log {
    Log {
        format: match reader.choice(scope, "log.format") {
            Some("json") => LogFormat::Json,
            Some("pretty") => LogFormat::Pretty,
            _ => LogFormat::Auto,
        },
        level: match reader.choice(scope, "log.level") {
            Some("error") => LogLevel::Error,
            Some("warn") => LogLevel::Warn,
            Some("debug") => LogLevel::Debug,
            Some("trace") => LogLevel::Trace,
            _ => LogLevel::Info,
        },
        access: reader.switch(scope, "log.access"),
    }
}

/// The tables of an array of tables, each as a scope of its own.
fn items(reader: &mut Reader<'_>, scope: &Scope, name: &str) -> Vec<(super::source::Node, Scope)> {
    let setting = scope.setting(name);
    let (Some(node), Some(settings)) = (scope.node(name), setting.items()) else {
        return Vec::new();
    };
    let Value::Array(tables) = &node.value else {
        let wrong = node.mistake(format!(
            "expected an array of tables, found {}",
            node.kind()
        ));
        let hint = format!("begin each item with [[{name}]]");
        reader.mistakes.push(wrong.hint(hint));
        return Vec::new();
    };
    let mut scopes = Vec::with_capacity(tables.len());
    for (index, table) in tables.iter().enumerate() {
        if table.entries().is_none() {
            let wrong = format!("expected a table, found {}", table.kind());
            reader.mistakes.push(table.mistake(wrong));
            continue;
        }
        let item = Scope::item(settings, table, format!("[[{name}]]"), index);
        for setting in settings {
            if setting.default == super::Fallback::Required && item.node(setting.name).is_none() {
                reader.mistakes.push(
                    header_mistake(
                        table,
                        format!("`{}` is missing in [[{name}]]", setting.name),
                    )
                    .hint(format!(
                        "for example: {} = {}",
                        setting.name, setting.example
                    )),
                );
            }
        }
        scopes.push((table.clone(), item));
    }
    scopes
}

/// A mistake of a whole table, shown at its first line.
fn header_mistake(table: &super::source::Node, message: String) -> Mistake {
    let start = table.span.start;
    let line = table.source.text[start..]
        .find('\n')
        .map_or(table.span.end, |at| (start + at).min(table.span.end));
    Mistake::at(&table.source, start..line.max(start), message)
}
