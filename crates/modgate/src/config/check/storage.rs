//! `[[storage]]`: the tiers, one by one.

use std::time::Duration;

use super::{
    super::{
        checked::{Cache, DiskTier, ObjectService, ObjectTier, Persist, RedisTier, Tier},
        kinds::{self, Checked, shown},
        layers::Scope,
        origin::Origin,
        reader::{Reader, quoted},
        secret::Secret,
        setting::Kind,
        source::Node,
        units::{format_duration, format_size},
    },
    credentials, header_mistake, items, number, service,
    tiers::{Written, order, twice},
};

/// Tiers that are buckets.
const BUCKETS: &[&str] = &["s3", "gcs", "azure"];

/// Tiers behind a network.
const REMOTE: &[&str] = &["redis", "s3", "gcs", "azure"];

/// The only address at which objects can be read by what is signed for `gcs`.
const GOOGLE: &str = "https://storage.googleapis.com";

/// Longest object of a bucket in memory unless it is set, in bytes.
const MEMORY_MAX_ENTRY: u64 = 16 << 20;

/// To which tiers each key belongs.
const BELONGS: [(&str, &[&str]); 20] = [
    ("max_size", &["memory", "disk"]),
    ("max_entry", &["memory", "redis", "disk"]),
    ("ttl", &["memory", "redis", "disk"]),
    ("timeout", REMOTE),
    ("idle_timeout", BUCKETS),
    ("concurrency", REMOTE),
    ("path", &["disk"]),
    ("url", &["redis"]),
    ("bucket", BUCKETS),
    ("prefix", REMOTE),
    ("endpoint", BUCKETS),
    ("region", &["s3"]),
    ("access_key", &["s3", "azure"]),
    ("secret_key", BUCKETS),
    ("session_token", &["s3"]),
    ("persist", BUCKETS),
    ("journal_max_size", BUCKETS),
    ("journal_max_entries", BUCKETS),
    ("redirect", BUCKETS),
    ("redirect_life", BUCKETS),
];

/// The memory and the tiers, from the top.
pub(super) fn read(reader: &mut Reader<'_>, scope: &Scope) -> (Cache, Vec<Tier>) {
    let mut memory_bytes = reader.size(scope, "cache.memory");
    let mut written: Vec<Written> = Vec::new();
    let mut whole = true;
    let (mut sized, mut memory_max_entry, mut memory_ttl) = (None, MEMORY_MAX_ENTRY, None);
    for (table, item) in items(reader, scope, "storage") {
        let Some(word) = reader.choice(&item, "tier") else {
            whole = false;
            continue;
        };
        misplaced(reader, &item, word);
        let tier = match word {
            "memory" => {
                sized = memory_size(reader, scope, &item);
                memory_max_entry = size(reader, &item, "max_entry", MEMORY_MAX_ENTRY);
                memory_ttl = ttl(reader, &item);
                Some(Tier::Memory)
            }
            "redis" => redis(reader, &table, &item).map(Tier::Redis),
            "disk" => Some(Tier::Disk(disk(reader, &item))),
            "s3" => bucket(reader, &table, &item, ObjectService::S3),
            "gcs" => bucket(reader, &table, &item, ObjectService::Gcs),
            _ => bucket(reader, &table, &item, ObjectService::Azure),
        };
        match tier {
            Some(tier) => written.push((table, item, tier)),
            None => whole = false,
        }
    }
    // What a wrong table would have been is not known, so what it lacks to the others is not told.
    if whole {
        order(reader, &written);
    }
    twice(reader, &written);
    if !written.is_empty() {
        let has_memory = written.iter().any(|(.., tier)| *tier == Tier::Memory);
        memory_bytes = sized.unwrap_or(if has_memory { memory_bytes } else { 0 });
    }
    let tiers: Vec<Tier> = written.into_iter().map(|(.., tier)| tier).collect();
    let cache = Cache {
        memory_bytes,
        max_entry_bytes: memory_max_entry,
        ttl: memory_ttl,
    };
    (cache, tiers)
}

/// Keys of other tiers.
fn misplaced(reader: &mut Reader<'_>, item: &Scope, word: &str) {
    for (key, tiers) in BELONGS {
        if let Some(node) = item.node(key)
            && !tiers.contains(&word)
        {
            let message = format!("`{key}` means nothing for tier `{word}`");
            let hint = match key {
                "persist" if word == "disk" => "a disk is always written through".to_owned(),
                "persist" => {
                    format!("`{word}` keeps nothing; it belongs to `s3`, `gcs` or `azure`")
                }
                "max_size" if word == "redis" => {
                    "a Redis bounds itself: set its own `maxmemory`".to_owned()
                }
                "max_size" => "a bucket removes nothing by itself; `modgate gc` does".to_owned(),
                _ => format!("it belongs to `{}`", tiers.join("`, `")),
            };
            reader.mistakes.push(node.mistake(message).hint(hint));
        }
    }
}

fn memory_size(reader: &mut Reader<'_>, scope: &Scope, item: &Scope) -> Option<u64> {
    let show = |bytes: &u64| quoted(&format_size(*bytes));
    let size = reader.read(
        item,
        "max_size",
        |_, node, kind| kinds::size(node, kind),
        show,
    );
    if let (Some(_), Some(node)) = (scope.node("cache.memory"), item.node("max_size")) {
        let mistake = node.mistake("the memory has two sizes: `cache.memory` is set too");
        reader
            .mistakes
            .push(mistake.hint("leave `cache.memory` out"));
    }
    size
}

fn redis(reader: &mut Reader<'_>, table: &Node, item: &Scope) -> Option<RedisTier> {
    let url = service::read_url(reader, item, "url");
    if item.node("url").is_none() {
        missing(reader, table, item, "url");
    }
    if let (Some(url), Some(node)) = (&url, item.node("url")) {
        service::note_plain(
            reader,
            node,
            url.expose(),
            "redis",
            "the [[storage]] `redis`",
        );
    }
    let prefix = prefix(reader, item, Some("modgate"));
    let max_entry_bytes = size(reader, item, "max_entry", 1 << 20);
    let ttl = ttl(reader, item);
    let timeout = time(reader, item, "timeout", Duration::from_millis(250));
    let concurrency = count(reader, item, "concurrency", 64);
    Some(RedisTier {
        url: url?,
        prefix,
        max_entry_bytes,
        ttl,
        timeout,
        concurrency,
    })
}

/// How long objects stay.
fn ttl(reader: &mut Reader<'_>, item: &Scope) -> Option<Duration> {
    let show =
        |time: &Option<Duration>| quoted(&time.map_or("forever".to_owned(), format_duration));
    or_default(reader, item, "ttl", None, kinds::time, show)
}

fn disk(reader: &mut Reader<'_>, item: &Scope) -> DiskTier {
    let show = |path: &std::path::PathBuf| quoted(&path.to_string_lossy());
    let path = reader.read(item, "path", |_, node, kind| kinds::path(node, kind), show);
    let show = |bytes: &u64| quoted(&format_size(*bytes));
    let mut bytes = |name| {
        let parse = |_: &mut Reader<'_>, node: &Node, kind: &Kind| kinds::size(node, kind);
        reader.read(item, name, parse, show)
    };
    DiskTier {
        max_bytes: bytes("max_size"),
        max_entry_bytes: bytes("max_entry"),
        path,
        ttl: ttl(reader, item),
    }
}

fn bucket(
    reader: &mut Reader<'_>,
    table: &Node,
    item: &Scope,
    service: ObjectService,
) -> Option<Tier> {
    let name = reader.read(item, "bucket", bucket_name, |text| quoted(text));
    if item.node("bucket").is_none() {
        missing(reader, table, item, "bucket");
    }
    let prefix = prefix(reader, item, None);
    let endpoint = reader.url(item, "endpoint");
    if let (Some(url), Some(node)) = (&endpoint, item.node("endpoint")) {
        let what = format!("the [[storage]] `{}`", service.as_str());
        service::note_plain(reader, node, url.expose(), "http", &what);
    }
    let region = (service == ObjectService::S3).then(|| {
        let parse = |node: &Node, kind: &Kind| kinds::text(node, kind).map(str::to_owned);
        or_default(
            reader,
            item,
            "region",
            "us-east-1".to_owned(),
            parse,
            |text| quoted(text),
        )
    });
    let access_key = key(reader, item, "access_key");
    let secret_key = key(reader, item, "secret_key");
    let session_token = key(reader, item, "session_token");
    together(reader, table, item, service);
    let persist = match choice(reader, item, "persist", "through") {
        "async" => Persist::Async,
        _ => Persist::Through,
    };
    let journal_max_bytes = size(reader, item, "journal_max_size", 10 << 30);
    let journal_max_entries = count(reader, item, "journal_max_entries", 10_000);
    without_effect(
        reader,
        item,
        persist == Persist::Async,
        &["journal_max_size", "journal_max_entries"],
        "persist = \"async\"",
    );
    let timeout = time(reader, item, "timeout", Duration::from_secs(10));
    let idle_timeout = time(reader, item, "idle_timeout", Duration::from_secs(30));
    let concurrency = count(reader, item, "concurrency", 64);
    let redirects = or_default(
        reader,
        item,
        "redirect",
        false,
        kinds::switch,
        bool::to_string,
    );
    let life = time(reader, item, "redirect_life", Duration::from_mins(15));
    without_effect(
        reader,
        item,
        redirects,
        &["redirect_life"],
        "redirect = true",
    );
    let own_address = match &endpoint {
        Some(url) => url.expose().trim_end_matches('/') == GOOGLE,
        None => true,
    };
    let signs = service != ObjectService::Gcs || own_address;
    if redirects
        && !signs
        && let Some(node) = item.node("redirect")
    {
        let origin = Origin::of(node);
        reader.notices.push(format!(
            "`redirect` ({origin}) has no effect with this `endpoint`: what Google signs holds for {GOOGLE} alone"
        ));
    }
    Some(Tier::Object(Box::new(ObjectTier {
        service,
        bucket: name?,
        prefix,
        endpoint: endpoint.map(|url| url.expose().to_owned()),
        region,
        access_key,
        secret_key,
        session_token,
        persist,
        journal_max_entries,
        journal_max_bytes,
        timeout,
        idle_timeout,
        concurrency,
        redirect: (redirects && signs).then_some(life),
    })))
}

/// Keys that only mean something together.
fn together(reader: &mut Reader<'_>, table: &Node, item: &Scope, service: ObjectService) {
    let pairs: &[(&str, &str)] = match service {
        ObjectService::S3 => &[
            ("access_key", "secret_key"),
            ("secret_key", "access_key"),
            ("session_token", "access_key"),
        ],
        ObjectService::Azure => &[("secret_key", "access_key")],
        ObjectService::Gcs => &[],
    };
    for (key, other) in pairs {
        if let Some(node) = item.node(key)
            && item.node(other).is_none()
        {
            let mistake = node.mistake(format!("`{key}` is set, `{other}` is not"));
            reader
                .mistakes
                .push(mistake.hint("set both, or none where the machine offers a role"));
        }
    }
    if service == ObjectService::Azure && item.node("access_key").is_none() {
        let message = "`access_key` is missing in [[storage]]".to_owned();
        let mistake = header_mistake(table, message);
        reader
            .mistakes
            .push(mistake.hint("it names the storage account"));
    }
}

/// Settings that wait for another.
fn without_effect(reader: &mut Reader<'_>, item: &Scope, on: bool, keys: &[&str], other: &str) {
    for node in keys.iter().filter_map(|key| Some((key, item.node(key)?))) {
        let (key, node) = node;
        if !on {
            let origin = Origin::of(node);
            reader.notices.push(format!(
                "`{key}` ({origin}) has no effect without `{other}`"
            ));
        }
    }
}

fn missing(reader: &mut Reader<'_>, table: &Node, item: &Scope, name: &str) {
    let setting = item.setting(name);
    let mistake = header_mistake(table, format!("`{name}` is missing in [[storage]]"));
    reader
        .mistakes
        .push(mistake.hint(format!("for example: {name} = {}", setting.example)));
}

/// A key, out of sight.
fn key(reader: &mut Reader<'_>, item: &Scope, name: &str) -> Option<Secret> {
    let parse = |reader: &mut Reader<'_>, node: &Node, kind: &Kind| match kind {
        Kind::TextOrKey => credentials::plain_or_secret(reader, node),
        _ => credentials::named_secret(reader, node),
    };
    let show = |(_, shown): &(Secret, String)| shown.clone();
    reader.read(item, name, parse, show).map(|(key, _)| key)
}

fn bucket_name(_: &mut Reader<'_>, node: &Node, kind: &Kind) -> Checked<String> {
    let text = kinds::text(node, kind)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if text.chars().all(allowed) && text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Ok(text.to_owned());
    }
    let mistake = node.mistake(format!("`{}` is not the name of a bucket", shown(text)));
    Err(vec![mistake.hint(
        "write the name alone: \"modgate\"; what follows it is `prefix`, its address `endpoint`",
    )])
}

/// What stands before keys. Without a default there is nothing, which nobody can write either.
fn prefix(reader: &mut Reader<'_>, item: &Scope, default: Option<&str>) -> String {
    let parse = |_: &mut Reader<'_>, node: &Node, kind: &Kind| {
        let text = kinds::text(node, kind)?.trim_matches('/');
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._+=@/".contains(c);
        let element = |element: &str| !matches!(element, "" | "." | "..");
        if text.chars().all(allowed) && text.split('/').all(element) {
            return Ok(text.to_owned());
        }
        let mistake = node.mistake(format!("`{}` cannot stand before keys", shown(text)));
        Err(vec![
            mistake.hint("write it as \"go-modules\" or \"team/go\""),
        ])
    };
    let given = reader.read(item, "prefix", parse, |text| quoted(text));
    given.unwrap_or_else(|| {
        if item.node("prefix").is_none() {
            let setting = item.setting("prefix");
            reader.record(item, setting, default.map(quoted), Origin::Default);
        }
        default.unwrap_or_default().to_owned()
    })
}

fn size(reader: &mut Reader<'_>, item: &Scope, name: &str, default: u64) -> u64 {
    let show = |bytes: &u64| quoted(&format_size(*bytes));
    or_default(reader, item, name, default, kinds::size, show)
}

fn count(reader: &mut Reader<'_>, item: &Scope, name: &str, default: u32) -> usize {
    number(or_default(
        reader,
        item,
        name,
        default,
        kinds::count,
        u32::to_string,
    ))
}

fn time(reader: &mut Reader<'_>, item: &Scope, name: &str, default: Duration) -> Duration {
    let parse = |node: &Node, kind: &Kind| Ok(kinds::time(node, kind)?.unwrap_or(default));
    let show = |time: &Duration| quoted(&format_duration(*time));
    or_default(reader, item, name, default, parse, show)
}

fn choice(
    reader: &mut Reader<'_>,
    item: &Scope,
    name: &str,
    default: &'static str,
) -> &'static str {
    or_default(reader, item, name, default, kinds::choice, |word| {
        quoted(word)
    })
}

/// A value, or a default that differs from tier to tier and so is not in the table.
fn or_default<T>(
    reader: &mut Reader<'_>,
    item: &Scope,
    name: &str,
    default: T,
    parse: impl Fn(&Node, &Kind) -> Checked<T>,
    show: impl Fn(&T) -> String,
) -> T {
    let given = reader.read(item, name, |_, node, kind| parse(node, kind), &show);
    given.unwrap_or_else(|| {
        if item.node(name).is_none() {
            let value = Some(show(&default));
            reader.record(item, item.setting(name), value, Origin::Default);
        }
        default
    })
}
