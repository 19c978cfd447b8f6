//! The table of all settings, in the order in which they are documented.

use std::time::Duration;

use super::setting::{
    Fallback::{Found, Unset, Value},
    Kind::{
        Address, ByUrl, Chain, Choice, Count, Database, Items, Path, Patterns, Size, Switch, Time,
        TimeOrForever, Url,
    },
    Setting,
};

mod direct;
mod items;
mod network;
mod sections;
mod storage;

use items::{CREDENTIAL, ROUTE, UPSTREAM, VANITY, VCS};
pub use sections::{SECTIONS, Section};

const ZERO: Duration = Duration::ZERO;
const TENTH: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const MONTH: Duration = Duration::from_hours(30 * 24);
const YEAR: Duration = Duration::from_hours(365 * 24);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Words of `mode`.
const MODES: &[&str] = &["sync", "async", "redirect", "async_redirect", "none"];

/// Every setting.
pub static SETTINGS: &[Setting] = &[
    Setting {
        name: "listen",
        kind: Address,
        default: Value("\"127.0.0.1:3000\""),
        doc: "Where clients connect. Port 0 takes a free one and prints it.",
        example: "\"0.0.0.0:3000\"",
        restart: true,
    },
    Setting {
        name: "data",
        kind: Path,
        default: Found(
            "`$XDG_DATA_HOME/modgate`, else `~/.local/share/modgate`, else `/var/lib/modgate` for a process without a home",
        ),
        doc: "Folder of everything that is kept. One process owns it at a time. A relative path starts at the folder of the process.",
        example: "\"/var/lib/modgate\"",
        restart: true,
    },
    Setting {
        name: "public_url",
        kind: Url,
        default: Unset,
        doc: "URL under which clients reach this gateway, if a balancer or another name stands before it. A chain entry with this URL is recognised as the gateway itself.",
        example: "\"https://modgate.corp.example\"",
        restart: false,
    },
    Setting {
        name: "chain",
        kind: Chain,
        default: Found(
            "what Go on this machine uses: `GOPROXY` in the environment, else in Go's own env files, else `go env GOPROXY` if `go` is there, else `direct`",
        ),
        doc: "Upstreams of public modules, in order. After `,` the next one is asked if the one before answered 404 or 410 or could not be reached, after `|` on any failure, bad content too. `direct` is version control, `off` ends the chain.",
        example: "\"https://goproxy.cn|https://goproxy.io,direct\"",
        restart: false,
    },
    Setting {
        name: "private",
        kind: Patterns,
        default: Value("[]"),
        doc: "Private modules. They are asked from the chain of the `[[route]]` that names them, else from `direct` alone, and never at the public checksum database.",
        example: "[\"git.corp.example/*\"]",
        restart: false,
    },
    Setting {
        name: "mode",
        kind: Choice(MODES),
        default: Value("\"sync\""),
        doc: "How a module that is not kept yet is answered: `sync` fetches, then answers; `async` answers 404 now and fetches all of the version in the background; `redirect` sends the client to the first upstream that is healthy and asked without headers or credentials (if there is none, or the client came by https and it is http, it fetches); `async_redirect` does both; `none` serves only what is kept. Private modules without a route use `sync` whatever this says.",
        example: "\"async\"",
        restart: false,
    },
    Setting {
        name: "route",
        kind: Items(ROUTE),
        default: Unset,
        doc: "Rules by module path.",
        example: "[{ match = [\"git.corp.example/*\"], chain = \"direct\" }]",
        restart: false,
    },
    Setting {
        name: "upstream",
        kind: ByUrl(UPSTREAM),
        default: Unset,
        doc: "Settings of single upstreams.",
        example: "{ \"https://goproxy.cn\" = { status_map = { 403 = 404 } } }",
        restart: false,
    },
    Setting {
        name: "sumdb.name",
        kind: Database,
        default: Found(
            "what Go on this machine uses: `GOSUMDB` in the environment, else in Go's own env files, else `sum.golang.org`",
        ),
        doc: "A known name (`sum.golang.org`, or `sum.golang.google.cn` for the same database, which is then asked there, as by go, and not by way of upstreams), a verifier key (`name+hash+key`), either of them with a URL after a space, or `off`.",
        example: "\"sum.golang.org\"",
        restart: false,
    },
    Setting {
        name: "sumdb.url",
        kind: Url,
        default: Unset,
        doc: "Where the database is asked. Without it: by the upstreams of `chain` that serve it, one after the other until an answer verifies, then at `https://<name>`. In a closed network it may be a mirror's `/sumdb/NAME`, whose 404 then counts as the database's own.",
        example: "\"https://sum.example.com\"",
        restart: false,
    },
    Setting {
        name: "sumdb.exempt",
        kind: Patterns,
        default: Value("[]"),
        doc: "Public modules that are not verified, and of which the database is never asked, also not for clients (GONOSUMDB's patterns). Private ones never are.",
        example: "[\"example.com/internal/*\"]",
        restart: false,
    },
    Setting {
        name: "sumdb.unknown",
        kind: Choice(&["refuse", "allow"]),
        default: Value("\"refuse\""),
        doc: "What happens with a public module that the database does not know. Only its own 404 says so (that of `sumdb.url` or of `https://<name>`); while mirrors alone can be reached it is `unreachable`.",
        example: "\"allow\"",
        restart: false,
    },
    Setting {
        name: "sumdb.unreachable",
        kind: Choice(&["refuse", "serve-unverified"]),
        default: Value("\"refuse\""),
        doc: "What happens with a new module while the database cannot be reached. `serve-unverified` marks it in log, header and metric and verifies it later, also after a restart: what differs from what was served is an incident.",
        example: "\"serve-unverified\"",
        restart: false,
    },
    Setting {
        name: "freshness.list",
        kind: Time(ZERO, DAY),
        default: Value("\"60s\""),
        doc: "Life of a version list.",
        example: "\"5m\"",
        restart: false,
    },
    Setting {
        name: "freshness.latest",
        kind: Time(ZERO, DAY),
        default: Value("\"60s\""),
        doc: "Life of `@latest`.",
        example: "\"5m\"",
        restart: false,
    },
    Setting {
        name: "freshness.query",
        kind: Time(ZERO, DAY),
        default: Value("\"60s\""),
        doc: "Life of a query that upstream resolved: a branch, a commit. `v1` and `latest` are chosen from the list and live as long as that.",
        example: "\"10s\"",
        restart: false,
    },
    Setting {
        name: "freshness.stale_while_revalidate",
        kind: Time(ZERO, YEAR),
        default: Value("\"1h\""),
        doc: "How long after its life an answer is served at once while upstream is asked in the background.",
        example: "\"10m\"",
        restart: false,
    },
    Setting {
        name: "freshness.stale_if_error",
        kind: TimeOrForever(ZERO, YEAR),
        default: Value("\"forever\""),
        doc: "How long after its life an answer is served while upstream fails; so is a 404 of the whole chain for a path below a kept module.",
        example: "\"7d\"",
        restart: false,
    },
    Setting {
        name: "negative.absent",
        kind: Time(ZERO, HOUR),
        default: Value("\"10s\""),
        doc: "After 404.",
        example: "\"30s\"",
        restart: false,
    },
    Setting {
        name: "negative.gone",
        kind: Time(ZERO, DAY),
        default: Value("\"60s\""),
        doc: "After 410.",
        example: "\"10m\"",
        restart: false,
    },
    Setting {
        name: "negative.trouble",
        kind: Time(ZERO, MINUTE),
        default: Value("\"2s\""),
        doc: "After a failure of upstream.",
        example: "\"5s\"",
        restart: false,
    },
    Setting {
        name: "cache.memory",
        kind: Size(0, 64 * GIB),
        default: Value("\"64MiB\""),
        doc: "Small entries and mappings of files that are kept hot. With `[[storage]]` its `memory` says so instead.",
        example: "\"256MiB\"",
        restart: true,
    },
    storage::STORAGE,
    storage::RECORDS_URL,
    storage::COORDINATE,
    storage::BACKUP_TO,
    storage::BACKUP_EVERY,
    storage::BACKUP_KEEP,
    Setting {
        name: "limits.max_connections",
        kind: Count(1, 1_000_000),
        default: Value("4096"),
        doc: "Client connections at once; more wait in the system's queue.",
        example: "1024",
        restart: true,
    },
    Setting {
        name: "limits.max_header_bytes",
        kind: Size(8 * KIB, MIB),
        default: Value("\"16KiB\""),
        doc: "Request line and headers.",
        example: "\"32KiB\"",
        restart: true,
    },
    Setting {
        name: "limits.max_path_bytes",
        kind: Size(256, 16 * KIB),
        default: Value("\"2KiB\""),
        doc: "Path of a request.",
        example: "\"4KiB\"",
        restart: false,
    },
    Setting {
        name: "limits.max_zip_bytes",
        kind: Size(MIB, 500 * MIB),
        default: Value("\"500MiB\""),
        doc: "Module zip. Go itself refuses more than 500 MiB.",
        example: "\"200MiB\"",
        restart: false,
    },
    Setting {
        name: "limits.header_timeout",
        kind: Time(TENTH, HOUR),
        default: Value("\"10s\""),
        doc: "For a client to send the head of its request.",
        example: "\"5s\"",
        restart: true,
    },
    Setting {
        name: "limits.idle_timeout",
        kind: Time(SECOND, DAY),
        default: Value("\"120s\""),
        doc: "For a connection between two requests.",
        example: "\"30s\"",
        restart: true,
    },
    Setting {
        name: "limits.write_stall_timeout",
        kind: Time(SECOND, HOUR),
        default: Value("\"60s\""),
        doc: "For a client that takes less than 256 bytes a second of its answer. One that took much before gets 1 s more for each 4 KiB of that beyond 256 KiB, half an hour at most: its own system may hold so much for it, and nothing shows here while it reads that.",
        example: "\"30s\"",
        restart: true,
    },
    Setting {
        name: "limits.drain_timeout",
        kind: Time(ZERO, HOUR),
        default: Value("\"30s\""),
        doc: "For running requests after SIGTERM.",
        example: "\"2m\"",
        restart: false,
    },
    Setting {
        name: "limits.drain_delay",
        kind: Time(ZERO, HOUR),
        default: Value("\"0s\""),
        doc: "After SIGTERM new connections are still taken for so long while `/readyz` says 503, so that a balancer can go elsewhere; then `drain_timeout` begins. Behind a balancer: longer than it takes to notice.",
        example: "\"5s\"",
        restart: true,
    },
    Setting {
        name: "tls.cert",
        kind: Path,
        default: Unset,
        doc: "PEM file with the certificate chain, leaf first.",
        example: "\"/etc/modgate/tls.crt\"",
        restart: false,
    },
    Setting {
        name: "tls.key",
        kind: Path,
        default: Unset,
        doc: "PEM file with the private key.",
        example: "\"/etc/modgate/tls.key\"",
        restart: false,
    },
    Setting {
        name: "log.format",
        kind: Choice(&["auto", "json", "pretty"]),
        default: Value("\"auto\""),
        doc: "`auto` is pretty on a terminal and JSON elsewhere.",
        example: "\"json\"",
        restart: true,
    },
    Setting {
        name: "log.level",
        kind: Choice(&["error", "warn", "info", "debug", "trace"]),
        default: Value("\"info\""),
        doc: "Least level that is written.",
        example: "\"debug\"",
        restart: false,
    },
    Setting {
        name: "log.access",
        kind: Switch,
        default: Value("true"),
        doc: "One line for each request.",
        example: "false",
        restart: false,
    },
    Setting {
        name: "async.queue",
        kind: Count(1, 1_000_000),
        default: Value("256"),
        doc: "Fetches that may wait; more are dropped, counted and logged.",
        example: "1024",
        restart: true,
    },
    Setting {
        name: "async.workers",
        kind: Count(1, 256),
        default: Value("4"),
        doc: "Fetches at once.",
        example: "8",
        restart: true,
    },
    Setting {
        name: "metrics.enabled",
        kind: Switch,
        default: Value("true"),
        doc: "Whether `/metrics` is served.",
        example: "false",
        restart: false,
    },
    network::CA_FILE,
    network::CA_ONLY,
    network::PROXY,
    network::HTTP_PROXY,
    network::HTTPS_PROXY,
    network::NO_PROXY,
    network::INTERNAL_HOSTS,
    network::INSECURE_HOSTS,
    direct::VCS,
    direct::REFS_LIFE,
    direct::DISCOVERY_LIFE,
    direct::DISCOVERY_NEGATIVE_LIFE,
    direct::MAX_MIRRORS,
    direct::MAX_MIRROR_BYTES,
    direct::MAX_REPOSITORY_BYTES,
    direct::PROCESS_TIMEOUT,
    direct::MAX_PROCESSES,
    Setting {
        name: "vcs",
        kind: Items(VCS),
        default: Unset,
        doc: "Where the modules below a path prefix are.",
        example: "[{ prefix = \"git.corp.example/team\", repo = \"ssh://git@git.corp.example/team/{1}.git\" }]",
        restart: false,
    },
    Setting {
        name: "vanity",
        kind: Items(VANITY),
        default: Unset,
        doc: "Path prefixes that this gateway answers `?go-get=1` for.",
        example: "[{ prefix = \"go.corp.example\" }]",
        restart: false,
    },
    Setting {
        name: "credential",
        kind: Items(CREDENTIAL),
        default: Unset,
        doc: "Credentials by URL prefix.",
        example: "[{ match = \"https://git.corp.example/team\", username = \"ci\", password = { env = \"GIT_TOKEN\" } }]",
        restart: false,
    },
];
