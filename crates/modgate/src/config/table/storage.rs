//! Settings of where things are kept: `[[storage]]`, `[records]`, `[replicas]`, `[backup]`.

use super::{
    super::setting::{
        Fallback::{Found, Required, Unset, Value},
        Kind::{
            Choice, Count, Items, Key, Path, Service, Size, Switch, Text, TextOrKey, Time,
            TimeOrForever, Url,
        },
        Setting,
    },
    DAY, HOUR, KIB, MIB, MINUTE, SECOND, YEAR,
};

use std::time::Duration;

const TIB: u64 = 1 << 40;

/// Schemes of a Redis.
const REDIS: &[&str] = &["redis", "rediss"];

/// Schemes of a PostgreSQL database.
const POSTGRES: &[&str] = &["postgres", "postgresql"];

/// The tiers as one setting.
pub(super) const STORAGE: Setting = Setting {
    name: "storage",
    kind: Items(TIER),
    default: Unset,
    doc: "The tiers, from the top.",
    example: "[{ tier = \"memory\" }, { tier = \"disk\" }]",
    restart: true,
};

/// Where records are.
pub(super) const RECORDS_URL: Setting = Setting {
    name: "records.url",
    kind: Service(POSTGRES),
    default: Found("SQLite: `records.db` in `data`"),
    doc: "A PostgreSQL database that replicas share. A password in it is never shown.",
    example: "\"postgres://modgate@127.0.0.1:5432/modgate\"",
    restart: true,
};

/// How replicas agree.
pub(super) const COORDINATE: Setting = Setting {
    name: "replicas.coordinate",
    kind: Choice(&["none", "postgres", "redis", "storage"]),
    default: Value("\"none\""),
    doc: "By what replicas agree on who fetches, and tell each other what changed: the PostgreSQL of `records.url`, the Redis of `[[storage]]`, or conditional writes in its object storage. `none` is a single process.",
    example: "\"postgres\"",
    restart: true,
};

/// Where backups go.
pub(super) const BACKUP_TO: Setting = Setting {
    name: "backup.to",
    kind: Text,
    default: Unset,
    doc: "Where the server writes backups of the records and of the index of what is kept: a folder, or `s3://bucket/prefix` (`gs://`, `az://`), which is reached as the `[[storage]]` of that kind is. Without it none is written.",
    example: "\"/var/backups/modgate\"",
    restart: true,
};

/// How often backups are written.
pub(super) const BACKUP_EVERY: Setting = Setting {
    name: "backup.every",
    kind: Time(MINUTE, YEAR),
    default: Value("\"1d\""),
    doc: "Time between two backups. Those between two full ones hold only what changed.",
    example: "\"6h\"",
    restart: true,
};

/// How many backups stay.
pub(super) const BACKUP_KEEP: Setting = Setting {
    name: "backup.keep",
    kind: Count(1, 10_000),
    default: Value("7"),
    doc: "Full backups that are kept, with what belongs to them; older ones are removed.",
    example: "30",
    restart: true,
};

/// Keys of a `[[storage]]`.
static TIER: &[Setting] = &[
    Setting {
        name: "tier",
        kind: Choice(&["memory", "redis", "disk", "s3", "gcs", "azure"]),
        default: Required,
        doc: "What it is: the memory of this process; a Redis that replicas share; a folder of this machine; a bucket in anything that speaks S3, in Google Cloud Storage or in Azure Blob Storage. `disk` and buckets keep, `memory` and `redis` forget.",
        example: "\"disk\"",
        restart: true,
    },
    Setting {
        name: "max_size",
        kind: Size(0, 1024 * TIB),
        default: Found("`cache.memory` for `memory`, no bound for `disk`"),
        doc: "`memory`: its size. `disk`: bytes that stay where a bucket below keeps everything; what was never asked for again after it came goes first, then what was not asked for longest. A disk with nothing below it removes nothing by itself.",
        example: "\"50GiB\"",
        restart: true,
    },
    Setting {
        name: "max_entry",
        kind: Size(KIB, 512 * MIB),
        default: Found("`\"16MiB\"` for `memory`, `\"1MiB\"` for `redis`, no bound for `disk`"),
        doc: "The longest object that it is given. `memory`: of those that lie in a bucket and not on a disk; over 1 MiB from the second time on that it is asked for. `disk`: where a bucket below keeps everything; what is longer goes from the bucket straight to the client.",
        example: "\"256KiB\"",
        restart: true,
    },
    Setting {
        name: "ttl",
        kind: TimeOrForever(MINUTE, YEAR),
        default: Found("`\"forever\"`"),
        doc: "How long an object stays. `memory`, `redis`: after it was written; `\"forever\"` leaves it to the bound of the memory, and to Redis' own `maxmemory` and `maxmemory-policy`, of which `allkeys-lfu` fits best. `disk`: after it was asked for last, where a bucket below keeps everything.",
        example: "\"7d\"",
        restart: true,
    },
    Setting {
        name: "timeout",
        kind: Time(Duration::from_millis(10), Duration::from_mins(10)),
        default: Found("`\"250ms\"` for `redis`, `\"10s\"` for buckets"),
        doc: "`redis`: for one command. Buckets: until the first byte of an answer. A tier that is slower counts as failed, and after three failures in a row is left out until it answers again.",
        example: "\"5s\"",
        restart: true,
    },
    Setting {
        name: "idle_timeout",
        kind: Time(SECOND, HOUR),
        default: Found("`\"30s\"`"),
        doc: "Buckets: between two pieces of a body, and for one part of an upload.",
        example: "\"1m\"",
        restart: true,
    },
    Setting {
        name: "concurrency",
        kind: Count(1, 10_000),
        default: Found("`64`"),
        doc: "`redis`, buckets: requests at once; more wait.",
        example: "128",
        restart: true,
    },
    Setting {
        name: "path",
        kind: Path,
        default: Found("`data`"),
        doc: "`disk`: another folder than `data`. It also holds downloads under way, and has one owner at a time.",
        example: "\"/mnt/modules\"",
        restart: true,
    },
    Setting {
        name: "url",
        kind: Service(REDIS),
        default: Found("must be set for `redis`"),
        doc: "`redis`: its address, with user, password and database if it has them: `redis://user:password@host:6379/0`, `rediss://` with TLS. A password in it is never shown.",
        example: "\"redis://127.0.0.1:6379\"",
        restart: true,
    },
    Setting {
        name: "bucket",
        kind: Text,
        default: Found("must be set for buckets"),
        doc: "Buckets: the name of the bucket, in Azure of the container. It must exist.",
        example: "\"modgate\"",
        restart: true,
    },
    Setting {
        name: "prefix",
        kind: Text,
        default: Found("`\"modgate\"` for `redis`, nothing for buckets"),
        doc: "`redis`, buckets: stands before every key, so that several gateways can share one. Below it a bucket has the layout of Go's own cache, as the disk has.",
        example: "\"go-modules\"",
        restart: true,
    },
    Setting {
        name: "endpoint",
        kind: Url,
        default: Found("the service's own address"),
        doc: "Buckets: the address of the service. Plain http is allowed, for a network that you trust.",
        example: "\"http://127.0.0.1:17070\"",
        restart: true,
    },
    Setting {
        name: "region",
        kind: Text,
        default: Found("`\"us-east-1\"`"),
        doc: "`s3`: the region.",
        example: "\"eu-central-1\"",
        restart: true,
    },
    Setting {
        name: "access_key",
        kind: TextOrKey,
        default: Found("what the machine offers: the role of an instance or a workload identity"),
        doc: "`s3`: the access key. `azure`: the storage account.",
        example: "{ env = \"S3_KEY\" }",
        restart: true,
    },
    Setting {
        name: "secret_key",
        kind: Key,
        default: Unset,
        doc: "`s3`: the secret key. `azure`: the account's key. `gcs`: the JSON of a service account's key. It is never shown.",
        example: "{ env = \"S3_SECRET\" }",
        restart: true,
    },
    Setting {
        name: "session_token",
        kind: Key,
        default: Unset,
        doc: "`s3`: the token that belongs to temporary keys.",
        example: "{ file = \"/run/secrets/s3-token\" }",
        restart: true,
    },
    Setting {
        name: "persist",
        kind: Choice(&["through", "async"]),
        default: Found("`\"through\"`"),
        doc: "Buckets: when a new version has to be there. `through`: before the client has its last byte; while the bucket is away, new versions are refused with 503. `async`: it goes to a journal on the local disk first and to the bucket in the background; the journal outlives a crash.",
        example: "\"async\"",
        restart: true,
    },
    Setting {
        name: "journal_max_size",
        kind: Size(MIB, 1024 * TIB),
        default: Found("`\"10GiB\"`"),
        doc: "Buckets with `persist = \"async\"`: bytes that may wait in the journal. When it is full, new versions are written through.",
        example: "\"50GiB\"",
        restart: true,
    },
    Setting {
        name: "journal_max_entries",
        kind: Count(1, 10_000_000),
        default: Found("`10000`"),
        doc: "Buckets with `persist = \"async\"`: objects that may wait in the journal.",
        example: "100000",
        restart: true,
    },
    Setting {
        name: "redirect",
        kind: Switch,
        default: Found("`false`"),
        doc: "Buckets: send clients to the bucket itself for zips that are only there, by a signed address. They must be able to reach it.",
        example: "true",
        restart: true,
    },
    Setting {
        name: "redirect_life",
        kind: Time(MINUTE, DAY),
        default: Found("`\"15m\"`"),
        doc: "Buckets with `redirect`: how long a signed address holds.",
        example: "\"5m\"",
        restart: true,
    },
];
