//! Tiers, records, replicas and backups: what is read, what is refused and what is noted.

use std::time::Duration;

use modgate::config::{BackupTarget, Config, Coordinate, ObjectService, Persist, Tier};

use super::{
    Bench,
    mistakes::{check, only},
};

/// The contract of tiers and replicas, as tools write it.
const CONTRACT: &str = include_str!("storage.toml");

pub(super) const DISK: &str = "[[storage]]\ntier = \"disk\"\n";

fn config(toml: &str) -> Config {
    Bench::new(toml).loaded().config
}

#[test]
fn nothing_set_is_memory_and_a_disk() {
    let config = config("");
    assert_eq!(config.storage, []);
    assert_eq!(config.cache.memory_bytes, 64 << 20);
    assert_eq!(config.records.postgres, None);
    assert_eq!(config.replicas.coordinate, Coordinate::Alone);
    assert_eq!(config.backup.to, None);
}

#[test]
fn the_contract_of_tiers_is_read() {
    let bench = Bench::new(CONTRACT)
        .var("MODGATE_CHAIN", "direct")
        .var("S3_KEY", "key")
        .var("S3_SECRET", "hunter2");
    let loaded = bench.loaded();
    assert_eq!(loaded.notices, [] as [&str; 0]);
    let config = loaded.config;
    let words: Vec<&str> = config.storage.iter().map(Tier::as_str).collect();
    assert_eq!(words, ["memory", "redis", "disk", "s3"]);
    assert_eq!(config.cache.memory_bytes, 256 << 20);
    let [_, Tier::Redis(redis), Tier::Disk(disk), Tier::Object(s3)] = &config.storage[..] else {
        panic!("{:?}", config.storage);
    };
    assert_eq!(redis.url.expose(), "redis://127.0.0.1:6379");
    assert_eq!(
        (redis.prefix.as_str(), redis.max_entry_bytes),
        ("modgate", 1 << 20)
    );
    assert_eq!(
        (redis.timeout, redis.ttl),
        (Duration::from_millis(250), None)
    );
    assert_eq!((&disk.path, disk.max_bytes), (&None, Some(50 << 30)));
    assert_eq!(s3.service, ObjectService::S3);
    assert_eq!(
        (s3.bucket.as_str(), s3.prefix.as_str()),
        ("modgate", "go-modules")
    );
    assert_eq!(s3.endpoint.as_deref(), Some("http://127.0.0.1:17070"));
    assert_eq!(s3.region.as_deref(), Some("us-east-1"));
    let expose = |key: &Option<modgate::config::Secret>| key.as_ref().unwrap().expose().to_owned();
    assert_eq!(expose(&s3.access_key), "key");
    assert_eq!(expose(&s3.secret_key), "hunter2");
    assert_eq!((s3.persist, s3.redirect), (Persist::Through, None));
    let url = "postgres://modgate@127.0.0.1:5432/modgate";
    assert_eq!(expose(&config.records.postgres), url);
    assert_eq!(config.replicas.coordinate, Coordinate::Postgres);
}

#[test]
fn all_of_it_is_shown_with_origin_and_without_secrets() {
    let bench = Bench::new(
        "[[storage]]\ntier = \"redis\"\nurl = \"rediss://u:hunter2@h:6379/1\"\n\
         [[storage]]\ntier = \"azure\"\nbucket = \"b\"\naccess_key = \"account\"\n\
         secret_key = { env = \"KEY\" }\npersist = \"async\"\nredirect = true\n\
         [records]\nurl = { env = \"DB\" }\n[backup]\nto = \"az://b/backups\"",
    )
    .var("KEY", "hunter2")
    .var("DB", "postgres://u:hunter2@h/d");
    let loaded = bench.loaded();
    let text = loaded.origins.to_string();
    assert!(!text.contains("hunter2"), "{text}");
    for shown in [
        "url = \"rediss://***@h:6379/1\"",
        "max_entry = \"1MiB\"",
        "ttl = \"forever\"",
        "access_key = \"***\"",
        "secret_key = { env = \"KEY\" }",
        "journal_max_size = \"10GiB\"",
        "redirect_life = \"15m\"",
        "timeout = \"250ms\"",
        "timeout = \"10s\"",
        "url = { env = \"DB\" }",
        "to = \"az://b/backups\"",
        "coordinate = \"none\"",
    ] {
        assert!(text.contains(shown), "{shown}\n{text}");
    }
    let line = |name: &str| loaded.origins.get(name).unwrap().to_string();
    assert!(line("storage[1].persist").ends_with("modgate.toml:9"));
    assert_eq!(line("storage[1].timeout"), "default");
    assert!(!format!("{:?}", loaded.config).contains("hunter2"));

    // What is shown is a configuration, but for secrets that were written into it.
    let origins = text.replace("***@", "").replace("\"***\"", "\"account\"");
    bench.write("modgate.toml", &origins);
    let again = bench.loaded().config;
    assert_eq!(again.storage[1], loaded.config.storage[1]);
    assert_eq!(again.backup, loaded.config.backup);
}

#[test]
fn the_environment_sets_tiers() {
    let bench = Bench::new("[records]\nurl = \"postgres://h/file\"")
        .var(
            "MODGATE_STORAGE",
            "[{ tier = \"memory\" }, { tier = \"disk\", path = \"/x\" }]",
        )
        .var("MODGATE_RECORDS_URL", "postgres://u:hunter2@h/d")
        .var("MODGATE_REPLICAS_COORDINATE", "postgres")
        .var("MODGATE_BACKUP_TO", "/backups")
        .var("MODGATE_CACHE_MEMORY", "1MiB");
    let config = bench.loaded().config;
    assert_eq!(config.storage.len(), 2);
    assert_eq!(
        config.cache.memory_bytes,
        1 << 20,
        "a memory without a size of its own"
    );
    assert!(config.records.postgres.unwrap().expose().ends_with("/d"));
    assert_eq!(
        config.backup.to,
        Some(BackupTarget::Folder("/backups".into()))
    );

    let bench = Bench::new("")
        .var("MODGATE_RECORDS_URL", "{ env = \"DB\" }")
        .var("DB", "postgres://h/d");
    assert!(bench.loaded().config.records.postgres.is_some());
    let wrong = Bench::new("").var(
        "MODGATE_RECORDS_URL",
        "mysql://u:hunter2@h/d?password=hunter2",
    );
    let mistakes = wrong.load().unwrap_err().to_string();
    assert!(mistakes.contains("the scheme is not"), "{mistakes}");
    assert!(!mistakes.contains("hunter2"), "{mistakes}");
}

#[test]
fn memory_is_as_large_as_its_tier_says() {
    assert_eq!(config(DISK).cache.memory_bytes, 0, "a list without memory");
    let sized = format!("[[storage]]\ntier = \"memory\"\nmax_size = \"1MiB\"\n{DISK}");
    assert_eq!(config(&sized).cache.memory_bytes, 1 << 20);
    let cache = config(&sized).cache;
    assert_eq!((cache.max_entry_bytes, cache.ttl), (16 << 20, None));
    let limited = sized.replace("1MiB\"", "1MiB\"\nmax_entry = \"2MiB\"\nttl = \"1h\"");
    let cache = config(&limited).cache;
    assert_eq!(cache.max_entry_bytes, 2 << 20);
    assert_eq!(cache.ttl, Some(Duration::from_hours(1)));
    let twice = only(&format!("[cache]\nmemory = \"2MiB\"\n{sized}"));
    assert!(twice.message.contains("two sizes"), "{twice}");
}

#[test]
fn tiers_that_cannot_work_are_mistakes() {
    check(&[
        (
            "[[storage]]\nmax_size = \"1MiB\"",
            1,
            "`tier` is missing",
            "tier = \"disk\"",
        ),
        (
            "[[storage]]\ntier = \"disc\"",
            2,
            "`disc` is not possible",
            "\"disk\"",
        ),
        (
            "[[storage]]\ntier = \"disk\"\nmax_sise = \"1GiB\"",
            3,
            "unknown key `max_sise`",
            "`max_size`",
        ),
        (
            "storage = \"disk\"",
            1,
            "expected an array of tables",
            "[[storage]]",
        ),
        (
            "[[storage]]\ntier = \"memory\"",
            1,
            "no tier of [[storage]] keeps",
            "\"disk\"",
        ),
        (
            "[[storage]]\ntier = \"redis\"\nurl = \"redis://h\"",
            1,
            "no tier of [[storage]] keeps",
            "\"s3\"",
        ),
        (
            "[[storage]]\ntier = \"memory\"\n[[storage]]\ntier = \"memory\"\n[[storage]]\ntier = \"disk\"",
            3,
            "another [[storage]] is `memory` too",
            "one of it",
        ),
        (
            "[[storage]]\ntier = \"s3\"\nbucket = \"b\"\n[[storage]]\ntier = \"s3\"\nbucket = \"b\"",
            4,
            "another [[storage]] is `s3` too",
            "`bucket`",
        ),
        (
            "[[storage]]\ntier = \"disk\"\n[[storage]]\ntier = \"memory\"",
            3,
            "`memory` stands below `disk`",
            "from the top",
        ),
        (
            "[[storage]]\ntier = \"s3\"\nbucket = \"b\"\n[[storage]]\ntier = \"disk\"",
            4,
            "`disk` stands below `s3`",
            "from the top",
        ),
        (
            "[[storage]]\ntier = \"disk\"\n[[storage]]\ntier = \"redis\"\nurl = \"redis://h\"",
            3,
            "`redis` stands below everything that keeps",
            "move it up",
        ),
        (
            "[[storage]]\ntier = \"disk\"\npersist = \"through\"",
            3,
            "`persist` means nothing for tier `disk`",
            "written through",
        ),
        (
            "[[storage]]\ntier = \"memory\"\npersist = \"async\"\n[[storage]]\ntier = \"disk\"",
            3,
            "`persist` means nothing for tier `memory`",
            "keeps nothing",
        ),
        (
            "[[storage]]\ntier = \"s3\"\nbucket = \"b\"\nmax_size = \"1GiB\"",
            4,
            "`max_size` means nothing for tier `s3`",
            "modgate gc",
        ),
        (
            "[[storage]]\ntier = \"gcs\"\nbucket = \"b\"\nregion = \"x\"",
            4,
            "`region` means nothing for tier `gcs`",
            "`s3`",
        ),
    ]);
}

#[test]
fn settings_of_tiers_are_checked() {
    check(&[
        (
            "[[storage]]\ntier = \"s3\"",
            1,
            "`bucket` is missing",
            "bucket = \"modgate\"",
        ),
        (
            "[[storage]]\ntier = \"s3\"\nbucket = \"s3://b\"",
            3,
            "is not the name of a bucket",
            "name alone",
        ),
        (
            "[[storage]]\ntier = \"s3\"\nbucket = \"b\"\nprefix = \"a/../b\"",
            4,
            "cannot stand before keys",
            "go-modules",
        ),
        (
            "[[storage]]\ntier = \"s3\"\nbucket = \"b\"\nendpoint = \"h:1\"",
            4,
            "is not a URL",
            "https://",
        ),
        (
            "[[storage]]\ntier = \"s3\"\nbucket = \"b\"\naccess_key = \"k\"",
            4,
            "`secret_key` is not",
            "both",
        ),
        (
            "[[storage]]\ntier = \"s3\"\nbucket = \"b\"\naccess_key = \"k\"\nsecret_key = \"hunter2\"",
            5,
            "a secret is not written into",
            "{ env =",
        ),
        (
            "[[storage]]\ntier = \"s3\"\nbucket = \"b\"\naccess_key = \"k\"\nsecret_key = { env = \"NONE\" }",
            5,
            "`NONE` is not set",
            "set it before",
        ),
        (
            "[[storage]]\ntier = \"azure\"\nbucket = \"b\"",
            1,
            "`access_key` is missing",
            "storage account",
        ),
        (
            "[[storage]]\ntier = \"s3\"\nbucket = \"b\"\npersist = \"asynch\"",
            4,
            "`asynch` is not possible",
            "\"async\"",
        ),
        (
            "[[storage]]\ntier = \"s3\"\nbucket = \"b\"\ntimeout = \"1h\"",
            4,
            "1h is out of range",
            "10ms to 10m",
        ),
        (
            "[[storage]]\ntier = \"s3\"\nbucket = \"b\"\nconcurrency = 0",
            4,
            "0 is out of range",
            "1 to 10000",
        ),
        (
            "[[storage]]\ntier = \"disk\"\nmax_size = 50",
            3,
            "found an integer",
            "\"50B\"",
        ),
        (
            "[[storage]]\ntier = \"disk\"\npath = \"~/x\"",
            3,
            "`~` is not replaced",
            "in full",
        ),
    ]);
    let redis = |url: &str| {
        let mistake = only(&format!(
            "[[storage]]\ntier = \"redis\"\nurl = \"{url}\"\n{DISK}"
        ));
        assert!(!mistake.to_string().contains("hunter2"), "{mistake}");
        format!("{}; {}", mistake.message, mistake.hint.unwrap_or_default())
    };
    for (url, words) in [
        ("h:6379", "not a URL with a scheme"),
        ("redi://u:hunter2@h", "did you mean `redis://`?"),
        ("redis://u:hunter2@h:x", "port that is no number"),
        ("redis://u:hunter2@:6379", "no host"),
        ("redis://u:hunter2@h/first", "is a number"),
        ("redis://u:hun ter2@h", "white space"),
    ] {
        assert!(redis(url).contains(words), "{url}: {}", redis(url));
    }
    let missing = only(&format!("[[storage]]\ntier = \"redis\"\n{DISK}"));
    assert!(missing.message.contains("`url` is missing"), "{missing}");
}

#[test]
fn records_replicas_and_backups_are_checked() {
    check(&[
        (
            "[records]\nurl = \"sqlite://x\"",
            2,
            "the scheme is not `postgres`",
            "leave it out",
        ),
        (
            "[records]\nurl = \"postgres://h\"",
            2,
            "names no database",
            "database",
        ),
        (
            "[records]\nurl = \"postgres://h/d?password=hunter2\"",
            2,
            "in the URL's query",
            "%XX",
        ),
        (
            "[records]\nurl = \"postgres://u:hunter2@h/d?sslmode=hunter2\"",
            2,
            "it is not postgres://",
            "%XX",
        ),
        (
            "[records]\nurl = 1",
            2,
            "expected the source of a secret",
            "{ env =",
        ),
        (
            "[replicas]\ncoordinate = \"postgres\"",
            2,
            "`records.url` is not set",
            "[records]",
        ),
        (
            "[replicas]\ncoordinate = \"redis\"",
            2,
            "no [[storage]] is a Redis",
            "\"redis\"",
        ),
        (
            "[replicas]\ncoordinate = \"storage\"",
            2,
            "no [[storage]] is a bucket",
            "\"s3\"",
        ),
        (
            "[replicas]\ncoordinate = \"postgre\"",
            2,
            "not possible here",
            "\"postgres\"",
        ),
        (
            "[backup]\nto = \"s3://b/x\"",
            2,
            "no [[storage]] says how to reach `s3`",
            "tier = \"s3\"",
        ),
        (
            "[backup]\nto = \"file:///x\"",
            2,
            "neither a folder nor a bucket",
            "s3://bucket/prefix",
        ),
        ("[backup]\nevery = \"1s\"", 2, "out of range", "1m to"),
    ]);
    let bucket = "[[storage]]\ntier = \"gcs\"\nbucket = \"b\"\n[backup]\nto = \"gs://b/x/y\"";
    let target = BackupTarget::Bucket {
        service: ObjectService::Gcs,
        bucket: "b".to_owned(),
        prefix: "x/y".to_owned(),
    };
    assert_eq!(config(bucket).backup.to, Some(target));
}

#[test]
fn all_mistakes_of_tiers_are_told_at_once() {
    let bench = Bench::new(
        "[[storage]]\ntier = \"redis\"\nurl = \"x\"\nttl = \"1s\"\n\
         [[storage]]\ntier = \"s3\"\nbucket = \"/\"\nregion = 1\n\
         [replicas]\ncoordinate = \"postgres\"\n[backup]\nkeep = 0",
    );
    let mistakes = bench.load().unwrap_err();
    assert_eq!(mistakes.iter().count(), 6, "{mistakes}");
}
