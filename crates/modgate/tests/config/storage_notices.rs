//! What is said of storage that works.

use super::{Bench, storage::DISK};
use modgate::config::changes_needing_restart;

/// All notices of a configuration.
fn notices(toml: &str) -> String {
    Bench::new(toml)
        .var("MODGATE_CHAIN", "direct")
        .loaded()
        .notices
        .join("\n")
}

#[test]
fn what_works_but_surprises_is_noted() {
    let s3 = "[[storage]]\ntier = \"s3\"\nbucket = \"b\"\n";
    for (toml, words) in [
        (
            format!("{s3}endpoint = \"http://minio.corp.example:9000\""),
            "asked without encryption",
        ),
        (
            format!("[[storage]]\ntier = \"redis\"\nurl = \"redis://cache.corp.example\"\n{DISK}"),
            "asked without encryption",
        ),
        (
            format!("{DISK}max_size = \"1GiB\""),
            "nothing below it keeps",
        ),
        (format!("{DISK}ttl = \"1d\""), "nothing below it keeps"),
        (
            format!("{DISK}max_entry = \"1MiB\""),
            "it is given everything",
        ),
        (
            format!("{s3}journal_max_size = \"1GiB\""),
            "without `persist = \"async\"`",
        ),
        (
            format!("{s3}redirect_life = \"5m\""),
            "without `redirect = true`",
        ),
        (
            "[[storage]]\ntier = \"gcs\"\nbucket = \"b\"\nredirect = true\nendpoint = \"https://gcs.corp.example\"".to_owned(),
            "holds for https://storage.googleapis.com alone",
        ),
        (
            format!("{s3}[replicas]\ncoordinate = \"storage\""),
            "without PostgreSQL",
        ),
        (
            "[records]\nurl = \"postgres://h/d\"\n[replicas]\ncoordinate = \"postgres\"".to_owned(),
            "without a bucket",
        ),
        (
            "[backup]\nevery = \"6h\"".to_owned(),
            "no effect without `backup.to`",
        ),
    ] {
        let notices = notices(&toml);
        assert!(notices.contains(words), "{toml}\n{notices}");
    }
    let quiet = format!("{s3}endpoint = \"http://[::1]:9000\"");
    assert_eq!(notices(&quiet), "");
    let quiet = "[[storage]]\ntier = \"gcs\"\nbucket = \"b\"\nredirect = true\nendpoint = \"https://storage.googleapis.com/\"";
    assert_eq!(notices(quiet), "");
}

#[test]
fn tiers_need_a_new_process() {
    let bench = Bench::new(DISK);
    let old = bench.loaded();
    bench.write(
        "modgate.toml",
        &format!("{DISK}path = \"/x\"\n[records]\nurl = \"postgres://h/d\""),
    );
    assert_eq!(
        changes_needing_restart(&old, &bench.loaded()),
        ["records.url", "storage"]
    );

    // The same text, another key.
    bench.write(
        "modgate.toml",
        "[[storage]]\ntier = \"s3\"\nbucket = \"b\"\naccess_key = \"k\"\nsecret_key = { env = \"K\" }\n\
         [records]\nurl = { env = \"DB\" }",
    );
    let bench = bench.var("K", "a").var("DB", "postgres://h/d");
    let one = bench.loaded();
    let bench = bench.var("K", "b").var("DB", "postgres://x/d");
    let other = bench.loaded();
    assert_eq!(
        changes_needing_restart(&one, &other),
        ["storage", "records.url"]
    );
    assert_eq!(changes_needing_restart(&one, &one), [] as [&str; 0]);
}
