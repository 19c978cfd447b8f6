//! The table of settings and the reference that is generated from it.

use std::{collections::BTreeSet, path::Path};

use modgate::config::{Fallback, Kind, SECTIONS, SETTINGS, reference};

use super::Bench;

#[test]
fn every_row_of_the_table_is_sound() {
    let mut envs = BTreeSet::new();
    for setting in SETTINGS {
        assert!(envs.insert(setting.env_name()), "{}", setting.env_name());
        let (section, key) = setting.section_and_key();
        let heading = if setting.items().is_some() {
            key
        } else {
            section
        };
        assert!(
            SECTIONS.iter().any(|known| known.name == heading),
            "{}",
            setting.name
        );
        let rows = std::iter::once(setting).chain(setting.items().unwrap_or_default());
        for row in rows {
            assert!(row.doc.ends_with('.'), "{}", row.name);
            let example = format!("x = {}", row.example);
            assert!(example.parse::<toml::Table>().is_ok(), "{}", row.name);
            assert!(row.default != Fallback::Required || row.items().is_none());
        }
    }
}

/// Every example is a valid value, so that what the reference shows works.
#[test]
fn every_example_is_valid() {
    let bench = Bench::new("")
        .var("GIT_TOKEN", "t")
        .var("UPSTREAM_AUTH", "t")
        .var("S3_KEY", "t")
        .var("S3_SECRET", "t");
    for setting in SETTINGS {
        // These need files, and have tests of their own.
        if matches!(
            setting.name,
            "tls.cert" | "tls.key" | "network.ca_file" | "network.ca_only"
        ) {
            continue;
        }
        let (section, key) = setting.section_and_key();
        let header = if section.is_empty() {
            String::new()
        } else {
            format!("[{section}]\n")
        };
        let needed = match setting.name {
            "replicas.coordinate" => "records.url = \"postgres://h/d\"\n",
            "vanity" => "public_url = \"https://x.example\"\n",
            _ => "",
        };
        bench.write(
            "modgate.toml",
            &format!("{needed}{header}{key} = {}\n", setting.example),
        );
        bench.loaded();
        for item in setting.items().unwrap_or_default() {
            let (own, rest) = (format!("{} = {}\n", item.name, item.example), setting.name);
            let secret = "{ env = \"GIT_TOKEN\" }";
            let toml = match (setting.kind, rest, item.name) {
                (Kind::ByUrl(_), ..) => format!("[{rest}.\"https://up.example\"]\n{own}"),
                (
                    _,
                    "credential",
                    "client_cert" | "client_key" | "ssh_key" | "known_hosts" | "netrc",
                ) => continue,
                (_, "credential", "match") => format!("[[{rest}]]\n{own}password = {secret}\n"),
                (_, "credential", "username") => {
                    format!("[[{rest}]]\nmatch = \"https://x.example\"\npassword = {secret}\n{own}")
                }
                (_, "credential", "header") => {
                    format!("[[{rest}]]\nmatch = \"https://x.example\"\ntoken = {secret}\n{own}")
                }
                (_, "credential", _) => {
                    format!("[[{rest}]]\nmatch = \"https://x.example\"\n{own}")
                }
                (_, "vanity", _) => {
                    format!("public_url = \"https://x.example\"\n[[{rest}]]\n{own}")
                }
                (_, "vcs", "prefix") => format!("[[{rest}]]\n{own}repo = \"https://x.example\"\n"),
                (_, "vcs", "repo") => format!("[[{rest}]]\nprefix = \"x.example\"\n{own}"),
                (_, "vcs", _) => {
                    format!(
                        "[[{rest}]]\nprefix = \"x.example\"\nrepo = \"https://x.example\"\n{own}"
                    )
                }
                (_, "storage", key) => tier(key, &own),
                (_, _, "match") => format!("[[{rest}]]\n{own}"),
                _ => format!("[[{rest}]]\nmatch = [\"x.example\"]\n{own}"),
            };
            bench.write("modgate.toml", &toml);
            bench.loaded();
        }
    }
}

/// A `[[storage]]` with one key, and with what that key needs.
fn tier(key: &str, own: &str) -> String {
    let beside = match key {
        "tier" => "",
        "max_size" | "path" => "tier = \"disk\"\n",
        "url" => "tier = \"redis\"\n",
        "max_entry" | "ttl" => "tier = \"redis\"\nurl = \"redis://h\"\n",
        "bucket" => "tier = \"s3\"\n",
        "access_key" => "tier = \"s3\"\nbucket = \"b\"\nsecret_key = { env = \"S3_SECRET\" }\n",
        "secret_key" => "tier = \"s3\"\nbucket = \"b\"\naccess_key = \"k\"\n",
        "session_token" => {
            "tier = \"s3\"\nbucket = \"b\"\naccess_key = \"k\"\nsecret_key = { env = \"S3_SECRET\" }\n"
        }
        _ => "tier = \"s3\"\nbucket = \"b\"\n",
    };
    let below = if beside.contains("redis") {
        "[[storage]]\ntier = \"disk\"\n"
    } else {
        ""
    };
    let own = own.replace(
        "{ file = \"/run/secrets/s3-token\" }",
        "{ env = \"S3_KEY\" }",
    );
    format!("[[storage]]\n{beside}{own}{below}")
}

/// `docs/configuration.md` is what the table says.
#[test]
fn the_reference_is_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let wanted = reference();
    if std::env::var_os("MODGATE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == wanted,
        "docs/configuration.md differs from the settings table; write it anew by\n  \
         MODGATE_WRITE_DOCS=1 cargo test -p modgate --test config"
    );
}
