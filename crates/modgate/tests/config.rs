//! Configuration through its front door, `Config::load`: precedence, origins,
//! defaults from Go's settings, reload.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use modgate::config::{
    Config, Env, Flags, Loaded, Mistakes, Mode, Origin, Sources, Uses, changes_needing_restart,
    lost_its_file,
};
use testkit::tls::{Certificate, Pem};

#[path = "config/defaults.rs"]
mod defaults;
#[path = "config/direct.rs"]
mod direct;
#[path = "config/items.rs"]
mod items;
#[path = "config/mistakes.rs"]
mod mistakes;
#[path = "config/reports.rs"]
mod reports;
#[path = "config/storage.rs"]
mod storage;
#[path = "config/storage_notices.rs"]
mod storage_notices;
#[path = "config/table.rs"]
mod table;

/// The contract block of the configuration, as tools write it.
const CONTRACT: &str = include_str!("config/contract.toml");

/// A certificate and a key as far as configuration looks at them: their form.
const CERT: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

/// A folder with a configuration file, and an environment without any Go.
struct Bench {
    dir: tempfile::TempDir,
    sources: Sources,
}

impl Bench {
    fn new(toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("modgate.toml");
        std::fs::write(&file, toml).unwrap();
        let home = dir.path().to_str().unwrap().to_owned();
        let sources = Sources {
            file: Some(file),
            env: Env::of([("HOME", &home), ("GOROOT", &home)]),
            flags: Flags::default(),
            silent: false,
            uses: Uses::All,
        };
        Self { dir, sources }
    }

    fn var(mut self, name: &str, value: &str) -> Self {
        let vars = &mut self.sources.env.vars;
        vars.insert(name.to_owned(), value.to_owned());
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The files of a certificate and its key.
    fn tls(&self, pem: &Pem) -> (PathBuf, PathBuf) {
        let cert = self.write("tls.crt", &pem.cert);
        (cert, self.write("tls.key", &pem.key))
    }

    fn load(&self) -> Result<Loaded, Mistakes> {
        Config::load(&self.sources)
    }

    #[track_caller]
    fn loaded(&self) -> Loaded {
        match self.load() {
            Ok(loaded) => loaded,
            Err(mistakes) => panic!("{mistakes}"),
        }
    }
}

#[test]
fn nothing_set_is_a_configuration() {
    let bench = Bench::new("");
    let Loaded {
        config, origins, ..
    } = bench.loaded();
    assert_eq!(config.listen.to_string(), "127.0.0.1:3000");
    assert_eq!(config.data, bench.path(".local/share/modgate"));
    assert_eq!(config.chain.to_string(), "direct");
    assert_eq!(config.mode, Mode::Sync);
    assert_eq!(config.sumdb.database.unwrap().key.name(), "sum.golang.org");
    assert_eq!(config.freshness.stale_if_error, None);
    assert_eq!(config.limits.max_connections, 4096);
    assert_eq!(config.limits.max_header_bytes, 16 << 10);
    assert_eq!(config.cache.memory_bytes, 64 << 20);
    assert!(config.tls.is_none());
    assert_eq!(origins.get("listen"), Some(&Origin::Default));
    assert!(matches!(origins.get("chain"), Some(Origin::Found(_))));
}

#[test]
fn the_contract_is_read() {
    let bench = Bench::new("").var("GIT_TOKEN", "hunter2");
    let pem = bench.write("corp.pem", CERT);
    let toml = CONTRACT.replace("/etc/ssl/corp.pem", pem.to_str().unwrap());
    bench.write("modgate.toml", &toml);
    let Loaded {
        config,
        origins,
        notices,
        watched_files,
    } = bench.loaded();

    assert_eq!(config.data, Path::new("/var/lib/modgate"));
    assert_eq!(
        config.chain.to_string(),
        "https://goproxy.cn|https://goproxy.io,direct"
    );
    assert!(config.private.matches_str("git.corp.example/team"));
    let route = &config.routes[0];
    assert_eq!(route.patterns, ["git.corp.example/*"]);
    assert_eq!(route.chain.as_ref().unwrap().to_string(), "direct");
    assert_eq!(route.mode, Mode::Sync);
    let upstream = &config.upstreams["https://goproxy.cn"];
    assert_eq!(upstream.status_map[&403], 404);
    assert_eq!(upstream.connect_timeout, Duration::from_secs(3));
    let database = config.sumdb.database.as_ref().unwrap();
    assert!(
        database
            .url
            .as_ref()
            .unwrap()
            .to_string()
            .starts_with("https://sum.example.com")
    );
    assert_eq!(config.network.ca.as_ref().unwrap().pem, CERT.as_bytes());
    assert_eq!(config.network.no_proxy, ["*.corp.example"]);
    assert_eq!(config.direct.vcs.len(), 2);
    assert_eq!(config.network.internal_hosts, ["git.corp.example"]);
    let credential = &config.credentials[0];
    assert_eq!(
        credential.matches.to_string(),
        "https://git.corp.example/team"
    );
    let egress::Kind::Basic { username, password } = &credential.kind else {
        panic!("{credential:?}");
    };
    let egress::Secret::Env { name, value } = password else {
        panic!("{credential:?}");
    };
    assert_eq!(
        (username.as_str(), name.as_str(), value.expose()),
        ("ci", "GIT_TOKEN", "hunter2")
    );

    let watched: Vec<_> = watched_files.into_keys().collect();
    assert_eq!(watched, [pem, bench.path("modgate.toml")]);
    assert_eq!(notices, Vec::<String>::new());
    assert_eq!(config.secret_variables, ["GIT_TOKEN"]);
    assert!(!format!("{config:?} {origins:?} {notices:?}").contains("hunter2"));
}

#[test]
fn the_contract_as_is_lacks_only_what_the_machine_lacks() {
    let mistakes = Bench::new(CONTRACT).load().unwrap_err();
    let messages: Vec<&str> = mistakes.iter().map(|m| m.message.as_str()).collect();
    assert!(messages.contains(&"the environment variable `GIT_TOKEN` is not set"));
    assert!(
        messages
            .iter()
            .all(|message| message.contains("GIT_TOKEN") || message.contains("corp.pem")),
        "{messages:?}"
    );
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let mut bench = Bench::new("listen = \"127.0.0.1:1\"\n[limits]\nmax_connections = 7");
    let origin = |bench: &Bench, name: &str| {
        let loaded = bench.loaded();
        let effective = loaded.origins.find(name).unwrap();
        (effective.value.clone().unwrap(), effective.origin.clone())
    };
    let file = |line| Origin::File {
        path: bench.path("modgate.toml"),
        line,
    };
    assert_eq!(
        origin(&bench, "listen"),
        ("\"127.0.0.1:1\"".to_owned(), file(1))
    );
    assert_eq!(
        origin(&bench, "limits.max_connections"),
        ("7".to_owned(), file(3))
    );

    bench = bench
        .var("MODGATE_LISTEN", "127.0.0.1:2")
        .var("MODGATE_LIMITS_MAX_CONNECTIONS", "8")
        .var("MODGATE_DATA", "");
    let (value, from) = origin(&bench, "listen");
    assert_eq!(value, "\"127.0.0.1:2\"");
    assert_eq!(from, Origin::Env("MODGATE_LISTEN".to_owned()));
    assert_eq!(origin(&bench, "limits.max_connections").0, "8");

    bench.sources.flags.listen = Some("127.0.0.1:3".to_owned());
    let (value, from) = origin(&bench, "listen");
    assert_eq!(
        (value.as_str(), from),
        ("\"127.0.0.1:3\"", Origin::Flag("--listen"))
    );
}

#[test]
fn the_environment_sets_everything() {
    let bench = Bench::new("private = [\"from.file\"]")
        .var("MODGATE", "/usr/bin/modgate")
        .var("MODGATE_PRIVATE", "a.example/*, b.example")
        .var(
            "MODGATE_ROUTE",
            "[{ match = [\"x.example\"], chain = \"direct\" }]",
        )
        .var(
            "MODGATE_UPSTREAM",
            "{ \"https://up.example\" = { headers = { X-Key = { env = \"MODGATE_KEY\" } } } }",
        )
        .var("MODGATE_KEY", "hunter2")
        .var("MODGATE_CHAIN", "https://up.example,direct")
        .var("MODGATE_LOG_ACCESS", "false")
        .var("MODGATE_FRESHNESS_LIST", "5m")
        .var("MODGATE_CACHE_MEMORY", "1GiB");
    let Loaded {
        config, origins, ..
    } = bench.loaded();
    assert!(config.private.matches_str("b.example/x"));
    assert!(!config.private.matches_str("from.file"));
    assert!(config.routes[0].matches.matches_str("x.example/y"));
    let headers = &config.upstreams["https://up.example"].headers;
    assert_eq!(headers["x-key"].expose(), "hunter2");
    assert!(!config.log.access);
    assert_eq!(config.freshness.list, Duration::from_mins(5));
    assert_eq!(config.cache.memory_bytes, 1 << 30);
    let route = origins.get("route[0].chain");
    assert_eq!(route, Some(&Origin::Env("MODGATE_ROUTE".to_owned())));
    assert!(!origins.to_string().contains("hunter2"));
}

#[test]
fn variables_of_service_links_are_not_ours() {
    let bench = Bench::new("")
        .var("MODGATE_SERVICE_HOST", "10.0.0.1")
        .var("MODGATE_SERVICE_PORT", "3000")
        .var("MODGATE_SERVICE_PORT_HTTP", "3000")
        .var("MODGATE_PORT", "tcp://10.0.0.1:3000")
        .var("MODGATE_PORT_3000_TCP", "tcp://10.0.0.1:3000")
        .var("MODGATE_PORT_3000_TCP_ADDR", "10.0.0.1")
        .var("MODGATE_EDGE_PORT_3000_TCP_PROTO", "tcp");
    bench.loaded();
    assert!(bench.var("MODGATE_PORT", "3000").load().is_err());
}

#[test]
fn the_file_may_be_named_by_the_environment() {
    let mut bench = Bench::new("mode = \"none\"");
    let file = bench.sources.file.take().unwrap();
    let bench = bench.var("MODGATE_CONFIG", file.to_str().unwrap());
    assert_eq!(bench.loaded().config.mode, Mode::None);
}

#[test]
fn what_is_in_effect_reads_as_the_same_configuration() {
    let bench = Bench::new(
        "chain = \"https://up.example|direct\"\nprivate = [\"a.example\"]\n\
         [[route]]\nmatch = [\"a.example/b\"]\n[[route]]\nmatch = [\"c.example\"]\nmode = \"redirect\"\n\
         [upstream.\"https://up.example\"]\nstatus_map = { 403 = 404 }\nretries = 0\n",
    );
    let first = bench.loaded().origins;
    bench.write("modgate.toml", &first.to_string());
    let second = bench.loaded().origins;
    let values = |origins: &modgate::config::Origins| -> Vec<(String, Option<String>)> {
        origins
            .iter()
            .map(|e| (e.name(), e.value.clone()))
            .collect()
    };
    assert_eq!(values(&first), values(&second));
}

/// A version has to be retired now, by somebody who has not the server's secrets.
#[test]
fn a_command_needs_the_secrets_that_it_uses_alone() {
    let toml = |coordinate: &str| {
        format!(
            "chain = \"https://proxy.example\"\n\
            [[credential]]\nmatch = \"https://git.corp.example/\"\npassword = {{ env = \"NOT_SET\" }}\n\
            [upstream.\"https://proxy.example\"]\nheaders = {{ Authorization = {{ file = \"/nowhere\" }} }}\n\
            [[storage]]\ntier = \"s3\"\nbucket = \"b\"\naccess_key = \"k\"\nsecret_key = {{ env = \"NOT_SET\" }}\n\
            [records]\nurl = {{ env = \"RECORDS\" }}\n[replicas]\ncoordinate = \"{coordinate}\"\n"
        )
    };
    let postgres = "postgres://m@127.0.0.1/m";
    let about = |coordinate: &str, uses, records: &str| {
        let mut bench = Bench::new(&toml(coordinate));
        if !records.is_empty() {
            bench = bench.var("RECORDS", records);
        }
        bench.sources.uses = uses;
        let mistakes = bench
            .load()
            .map_or_else(|wrong| wrong.to_string(), |_| String::new());
        ["password", "headers", "secret_key", "url"]
            .map(|key| mistakes.contains(&format!("| {key} = ")))
    };
    assert_eq!(
        about("postgres", Uses::All, postgres),
        [true, true, true, false]
    );
    assert_eq!(
        about("postgres", Uses::Storage, postgres),
        [false, false, true, false]
    );
    assert_eq!(about("postgres", Uses::Records, postgres), [false; 4]);
    assert_eq!(
        about("postgres", Uses::Records, ""),
        [false, false, false, true]
    );
    // By what is kept in the bucket the replicas tell each other.
    assert_eq!(
        about("storage", Uses::Records, postgres),
        [false, false, true, false]
    );
}

#[test]
fn tls_needs_files_that_are_what_they_say() {
    let bench = Bench::new("");
    let (cert, key) = bench.tls(&Pem::new(Certificate::Good));
    let toml = format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n");
    bench.write("modgate.toml", &toml);
    let loaded = bench.loaded();
    assert!(loaded.config.tls.is_some());
    assert!(loaded.watched_files.contains_key(&key));
}

#[test]
fn upstreams_without_a_chain_are_noticed() {
    let bench =
        Bench::new("chain = \"https://u:p@Goproxy.cn/\"\n[upstream.\"https://goproxy.cm\"]");
    let notices = bench.loaded().notices.join("\n");
    assert!(
        notices.contains("did you mean `https://goproxy.cn`?"),
        "{notices}"
    );
    bench.write(
        "modgate.toml",
        "chain = \"https://u:p@Goproxy.cn/\"\n[upstream.\"https://goproxy.cn\"]",
    );
    assert_eq!(bench.loaded().notices, Vec::<String>::new());
}

#[test]
fn restarts_are_for_few_settings() {
    let bench = Bench::new("chain = \"direct\"");
    let old = bench.loaded();
    bench.write(
        "modgate.toml",
        "chain = \"off\"\n[freshness]\nlist = \"1s\"",
    );
    assert_eq!(
        changes_needing_restart(&old, &bench.loaded()),
        Vec::<&str>::new()
    );
    bench.write("modgate.toml", "listen = \"127.0.0.1:1\"\ndata = \"/x\"");
    assert_eq!(
        changes_needing_restart(&old, &bench.loaded()),
        ["listen", "data"]
    );
    let (cert, key) = bench.tls(&Pem::new(Certificate::Good));
    bench.write(
        "modgate.toml",
        &format!("[tls]\ncert = {cert:?}\nkey = {key:?}"),
    );
    assert_eq!(changes_needing_restart(&old, &bench.loaded()), ["tls"]);
}

#[test]
fn a_file_that_was_emptied_is_told_from_one_that_changed() {
    let bench = Bench::new("private = [\"git.corp.example/*\"]");
    let old = bench.loaded();
    bench.write("modgate.toml", "chain = \"off\"");
    let changed = bench.loaded();
    assert!(!lost_its_file(&old, &changed));
    for empty in ["", "\n# private = []\n", "[sumdb]\n"] {
        bench.write("modgate.toml", empty);
        assert!(lost_its_file(&old, &bench.loaded()), "{empty:?}");
    }
    let none = bench.loaded();
    assert!(!lost_its_file(&none, &none) && !lost_its_file(&none, &old));
}
