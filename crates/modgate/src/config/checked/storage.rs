//! Where bytes, records and backups are, and how replicas work together.

use std::{path::PathBuf, time::Duration};

use super::super::secret::Secret;

/// One `[[storage]]`, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tier {
    /// The memory of this process; see [`Cache`](super::Cache).
    Memory,
    /// A Redis that replicas share: hot, and free to forget.
    Redis(RedisTier),
    /// A folder of this machine.
    Disk(DiskTier),
    /// A bucket.
    Object(Box<ObjectTier>),
}

impl Tier {
    /// The word of the configuration file.
    pub fn as_str(&self) -> &'static str {
        match self {
            Tier::Memory => "memory",
            Tier::Redis(_) => "redis",
            Tier::Disk(_) => "disk",
            Tier::Object(object) => object.service.as_str(),
        }
    }

    /// Whether what it has is kept.
    pub fn is_durable(&self) -> bool {
        matches!(self, Tier::Disk(_) | Tier::Object(_))
    }
}

/// `tier = "redis"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisTier {
    /// `redis://` or `rediss://`, with user and password if there are any.
    pub url: Secret,
    /// Stands before every key, with a colon between; may be empty.
    pub prefix: String,
    /// Longest object that it is given, in bytes.
    pub max_entry_bytes: u64,
    /// How long an object stays; `None` leaves it to Redis.
    pub ttl: Option<Duration>,
    /// Limit for one command.
    pub timeout: Duration,
    /// Commands at once.
    pub concurrency: usize,
}

/// `tier = "disk"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskTier {
    /// The folder, if it is not `data`.
    pub path: Option<PathBuf>,
    /// Bytes that stay where a tier below keeps everything; `None` is no bound.
    pub max_bytes: Option<u64>,
    /// Longest object that it is given where a tier below keeps everything; `None` is no bound.
    pub max_entry_bytes: Option<u64>,
    /// How long a file stays that nobody asks for, where a tier below keeps everything; `None` is for ever.
    pub ttl: Option<Duration>,
}

/// Which interface object storage speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectService {
    /// Amazon S3, or what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl ObjectService {
    /// The word of the configuration file.
    pub fn as_str(self) -> &'static str {
        match self {
            ObjectService::S3 => "s3",
            ObjectService::Gcs => "gcs",
            ObjectService::Azure => "azure",
        }
    }

    /// The scheme of its URLs.
    pub fn scheme(self) -> &'static str {
        match self {
            ObjectService::S3 => "s3",
            ObjectService::Gcs => "gs",
            ObjectService::Azure => "az",
        }
    }
}

/// When a write to object storage has to be done (`persist`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persist {
    /// Before the client has its last byte.
    Through,
    /// Later, out of a journal on the local disk.
    Async,
}

/// `tier = "s3"`, `"gcs"` or `"azure"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectTier {
    /// The interface.
    pub service: ObjectService,
    /// The bucket, in Azure the container.
    pub bucket: String,
    /// Stands before every key, with a slash between; may be empty.
    pub prefix: String,
    /// Its address, if it is not the service's own. May be plain http.
    pub endpoint: Option<String>,
    /// The region; S3 only.
    pub region: Option<String>,
    /// Access key (S3) or account (Azure).
    pub access_key: Option<Secret>,
    /// Secret key (S3, Azure) or the JSON of a service account key (GCS); without it what the machine offers.
    pub secret_key: Option<Secret>,
    /// Token of temporary credentials; S3 only.
    pub session_token: Option<Secret>,
    /// When a write has to be done.
    pub persist: Persist,
    /// Entries of the journal.
    pub journal_max_entries: usize,
    /// Bytes of the journal.
    pub journal_max_bytes: u64,
    /// Limit until the first byte of an answer.
    pub timeout: Duration,
    /// Limit between two pieces of a body.
    pub idle_timeout: Duration,
    /// Requests at once.
    pub concurrency: usize,
    /// How long the addresses hold to which clients are sent for zips; `None` sends nobody.
    pub redirect: Option<Duration>,
}

/// `[records]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records {
    /// URL of a PostgreSQL database; `None` is SQLite in the data folder.
    pub postgres: Option<Secret>,
}

/// `replicas.coordinate`: how replicas agree on who fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinate {
    /// This process is alone.
    Alone,
    /// By the PostgreSQL of `records.url`.
    Postgres,
    /// By the Redis of `[[storage]]`.
    Redis,
    /// By conditional writes in the object storage of `[[storage]]`.
    Storage,
}

/// `[replicas]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    /// How they agree on who fetches.
    pub coordinate: Coordinate,
}

/// `[backup]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Where backups are written; `None` writes none.
    pub to: Option<BackupTarget>,
    /// Time between two of them.
    pub every: Duration,
    /// Backups that are kept.
    pub keep: usize,
}

/// Where backups are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupTarget {
    /// A folder.
    Folder(PathBuf),
    /// A bucket, reached as the object storage of `[[storage]]` is.
    Bucket {
        /// The interface; a tier of `[[storage]]` speaks it too.
        service: ObjectService,
        /// The bucket.
        bucket: String,
        /// Stands before every key; may be empty.
        prefix: String,
    },
}

impl BackupTarget {
    /// Reads `"/var/backups"` or `"s3://bucket/prefix"` (`gs://`, `az://`); `None` is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return (!text.is_empty()).then(|| Self::Folder(PathBuf::from(text)));
        };
        let services = [ObjectService::S3, ObjectService::Gcs, ObjectService::Azure];
        let service = services
            .into_iter()
            .find(|service| service.scheme() == scheme)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._+=/".contains(c);
        let elements = prefix
            .split('/')
            .all(|element| !matches!(element, "." | ".."));
        let good =
            !bucket.is_empty() && elements && rest.chars().all(allowed) && !prefix.contains("//");
        good.then(|| Self::Bucket {
            service,
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}
