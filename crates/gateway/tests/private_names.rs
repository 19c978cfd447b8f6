//! What is private stays inside: no request, header or question to the name service that a public upstream could see ever
//! has a private name, with or without a forward proxy, whatever is asked.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use egress::{Credentials, Egress, Lookup, NetworkSettings};
use gateway::http::ConnectionLimits;
use gateway::http::Vanity;
use gateway::http::door::{Door, DoorSettings};
use gateway::http::server::{self, ServerLimits};
use gateway::settings::{Freshness, Mode, Negative, RouteRule, Routes, Settings, SumDbSettings};
use gateway::{AccessLog, Gateway, Metrics, Recorder};
use gomod::pattern::Patterns;
use records::{Records, RecordsSettings};
use store::{Store, StoreSettings, Tiers, TiersSettings};
use testkit::fixture::Module;
use testkit::lab::Lab;
use testkit::sumdb::LabSumDb;
use tokio_util::sync::CancellationToken;
use upstream::Upstreams;
use upstream::chain::Chain;
use upstream::settings::UpstreamSettings;
use vcs::{Direct, DirectSettings};

/// What is private: two elements deep, so that a client comes by two paths that only lead there.
const PRIVATE: &str = "corp.example/team/*";
/// The host of the public upstream.
const PUBLIC: &str = "public.example";
/// Words that are nobody else's.
const SECRET: [&str; 4] = ["corp.example", "team", "secret", "widget"];

type Anything = Result<(), Box<dyn Error>>;

/// Questions to the name service.
#[derive(Clone, Default)]
struct Questions(Arc<Mutex<Vec<String>>>);

impl Questions {
    /// One that knows the public upstream alone.
    fn lookup(&self) -> Lookup {
        let asked = self.clone();
        Arc::new(move |host| {
            if let Ok(mut asked) = asked.0.lock() {
                asked.push(host.clone());
            }
            let known = host == PUBLIC;
            Box::pin(async move {
                if known {
                    return Ok(vec![std::net::Ipv4Addr::LOCALHOST.into()]);
                }
                Err(io::Error::other("no such host"))
            })
        })
    }

    fn asked(&self) -> Vec<String> {
        self.0.lock().map(|asked| asked.clone()).unwrap_or_default()
    }
}

/// A gateway in this process; where it listens.
async fn start(
    folder: &std::path::Path,
    egress: Egress,
    upstream: &str,
    sumdb: &LabSumDb,
    stop: &CancellationToken,
) -> Result<String, Box<dyn Error>> {
    let chain = |text: &str| -> Result<Arc<Chain>, Box<dyn Error>> { Ok(Arc::new(text.parse()?)) };
    let rule = RouteRule {
        matches: Patterns::parse("*.example,corp.*,*")?,
        chain: Some(chain(upstream)?),
        mode: Mode::Sync,
    };
    let seconds = Duration::from_secs;
    let mut direct = DirectSettings::new(folder.join("vcs"));
    direct.private = Patterns::parse(PRIVATE)?;
    let settings = Settings {
        routes: Arc::new(Routes::new(
            Patterns::parse(PRIVATE)?,
            vec![rule],
            chain(upstream)?,
            Mode::Sync,
        )),
        upstreams: Arc::new(Upstreams::new(
            egress.clone(),
            UpstreamSettings::default(),
            HashMap::new(),
        )),
        direct: Direct::new(direct, egress),
        sumdb: Some(SumDbSettings {
            key: sumdb.key(),
            url: None,
            own: chain("https://sum.public.example")?,
            exempt: Patterns::default(),
            allow_unknown: false,
            serve_unverified: false,
        }),
        freshness: Freshness {
            list: seconds(0),
            latest: seconds(0),
            query: seconds(0),
            stale_while_revalidate: seconds(0),
            stale_if_error: None,
        },
        negative: Negative {
            absent: seconds(0),
            gone: seconds(0),
            trouble: seconds(0),
        },
        max_zip_bytes: 1 << 20,
        async_queue: 8,
        async_workers: 1,
    };
    let store = Store::open(&StoreSettings {
        folder: folder.to_owned(),
        hot_bytes: 1 << 20,
        hot_ttl: None,
    })?;
    let metrics = Arc::new(Metrics::new());
    let via = "modgate-test".to_owned();
    let path = folder.join("records.db");
    let records = Records::open(&RecordsSettings::Sqlite { path }).await?;
    let gateway = Gateway::new(
        settings,
        Tiers::open(&TiersSettings::default(), Arc::new(store))?,
        Arc::new(records),
        Arc::clone(&metrics),
        via,
        stop.clone(),
    )
    .await?;
    let log = Arc::new(AccessLog::to(io::stderr())?);
    let door = Door::new(
        gateway,
        Arc::new(Recorder::new(metrics, log, true)),
        DoorSettings {
            public_url: None,
            vanity: Vanity::default(),
            tls: false,
            certificate_end: None,
            max_path_bytes: 4096,
            metrics_page: false,
        },
    );
    let listeners = server::bind("127.0.0.1:0".parse()?, 1)?;
    let address = listeners[0].local_addr()?;
    let limits = ServerLimits {
        max_connections: 64,
        max_header_bytes: 16 << 10,
        connection: ConnectionLimits {
            header_timeout: seconds(10),
            idle_timeout: seconds(60),
            write_stall_timeout: seconds(10),
        },
    };
    let serving = server::serve(listeners, Arc::new(door), None, limits, stop.clone())?;
    tokio::spawn(serving);
    Ok(format!("http://{address}"))
}

/// Everything that a client may ask about what is private.
fn questions() -> Vec<String> {
    let modules = [
        "corp.example",
        "corp.example/team",
        "corp.example/team/secret",
        "corp.example/team/secret/v2",
        "corp.example/team/secret/widget/deep",
        "corp.example/team/!secret",
    ];
    let what = [
        "@v/list",
        "@latest",
        "@v/v1.0.0.info",
        "@v/v1.0.0.mod",
        "@v/v1.0.0.zip",
        "@v/main.info",
        "@v/v1.info",
        "@v/latest.info",
        "@v/0123456789ab.info",
        "@v/v0.0.0-20240101000000-0123456789ab.info",
    ];
    let mut all = Vec::new();
    for module in modules {
        for what in what {
            all.push(format!("/{module}/{what}"));
            all.push(format!("/cached-only/{module}/{what}"));
        }
        for database in ["sum.lab.example", "sum.golang.org"] {
            all.push(format!("/sumdb/{database}/lookup/{module}@v1.0.0"));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_private_name_is_seen_outside() -> Anything {
    for by_proxy in [false, true] {
        let (lab, sumdb) = (
            Lab::start().await,
            LabSumDb::start("sum.lab.example").await?,
        );
        lab.pass_sumdb(&sumdb.url());
        let open = Module::new("lab.example/open", "v1.0.0").file("a.go", "package a\n");
        sumdb.add(open.path(), open.version(), &open.h1(), &open.go_mod_h1());
        lab.add(open.clone());
        // Were it asked, the public upstream would have it.
        lab.add(Module::new("corp.example/team/secret", "v1.0.0"));
        let mut network = NetworkSettings {
            via: "1.1 modgate-test".to_owned(),
            ..NetworkSettings::default()
        };
        if by_proxy {
            // The lab is the forward proxy: it sees what such a one sees. Our own hosts are reached without.
            network.proxy = Some(lab.url());
            network.no_proxy = vec!["corp.example".to_owned()];
        }
        let asked = Questions::default();
        let egress = Egress::with_lookup(network, Credentials::default(), asked.lookup());
        let folder = tempfile::tempdir()?;
        let stop = CancellationToken::new();
        let upstream = format!("http://{PUBLIC}:{}", lab.addr().port());
        let gate = start(folder.path(), egress, &upstream, &sumdb, &stop).await?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        for path in questions() {
            let reply = client.get(format!("{gate}{path}")).send().await?;
            assert_ne!(reply.status().as_u16(), 200, "{path}");
        }
        // The recorders do record.
        let reply = client
            .get(format!("{gate}{}", open.url_path("zip")))
            .send()
            .await?;
        assert_eq!(reply.status().as_u16(), 200, "{}", reply.text().await?);
        assert!(lab.count("/lab.example/open/") > 0 && !sumdb.requests().is_empty());

        for request in lab.requests() {
            let shown = format!("{request:?}").to_lowercase();
            let told = SECRET.iter().find(|word| shown.contains(**word));
            assert_eq!(told, None, "the public upstream was told {shown}");
        }
        for told in sumdb.requests().keys() {
            assert!(
                !told.contains("corp.example"),
                "the database was told {told}"
            );
        }
        // The name service hears of the hosts that are asked, and of ours that is the repository's own alone.
        let asked = asked.asked();
        assert_eq!(
            asked.iter().any(|host| host == PUBLIC),
            !by_proxy,
            "{asked:?}"
        );
        let known = [PUBLIC, "corp.example", "sum.public.example"];
        assert!(
            asked.iter().all(|host| known.contains(&host.as_str())),
            "{asked:?}"
        );
        stop.cancel();
    }
    Ok(())
}
