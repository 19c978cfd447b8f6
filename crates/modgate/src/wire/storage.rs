//! The data folder, the tiers beside it, and the records.

use std::{path::Path, sync::Arc};

use object_store::path::Path as ObjectPath;
use records::Records;
use replicas::{Coordinate, SharedFacts};
use store::{
    DiskSettings, Folder, StoreSettings, TiersSettings,
    tier::{ObjectSettings, Persist, RedisSettings, Secret, Service, TierSettings, redis_client},
};

use super::records::RECORDS_FILE;
use crate::config::{self, BackupTarget, Config, ObjectService, ObjectTier, RedisTier, Tier};

/// The store of what is kept here.
pub fn store(config: &Config) -> StoreSettings {
    StoreSettings {
        folder: store_folder(config).to_owned(),
        hot_bytes: config.cache.memory_bytes,
        hot_ttl: config.cache.ttl,
    }
}

/// The folder that what is kept here is in, with its tombstones: `data`, unless the disk has a `path`.
pub fn store_folder(config: &Config) -> &Path {
    let path = config.storage.iter().find_map(|tier| match tier {
        Tier::Disk(disk) => disk.path.as_deref(),
        _ => None,
    });
    path.unwrap_or(&config.data)
}

/// The tiers beside the memory.
pub fn tiers(config: &Config) -> TiersSettings {
    let mut settings = TiersSettings::default();
    if config.storage.is_empty() {
        return settings;
    }
    settings.disk = None;
    // What has no room is not gathered either.
    settings.memory_max_entry = config.cache.max_entry_bytes.min(config.cache.memory_bytes);
    for tier in &config.storage {
        let tier = match tier {
            Tier::Memory => continue,
            Tier::Disk(disk) => {
                settings.disk = Some(DiskSettings {
                    max_size: disk.max_bytes,
                    max_entry: disk.max_entry_bytes,
                    ttl: disk.ttl,
                    changes: Some(|key| key.as_str().ends_with("/@v/list")),
                });
                continue;
            }
            Tier::Redis(tier) => TierSettings::Redis(hot(tier, extra_ca(config))),
            Tier::Object(tier) => {
                // There is one journal: the tier that waits in it says how large it may be.
                if tier.persist == config::Persist::Async {
                    settings.journal_max_entries = tier.journal_max_entries;
                    settings.journal_max_bytes = tier.journal_max_bytes;
                }
                let name = name(config, tier);
                TierSettings::Object(object(tier, name, extra_ca(config)))
            }
        };
        // Without a disk the journal stands in its place: above it is what forgets.
        let above = match tier {
            TierSettings::Redis(_) => settings.disk.is_none(),
            TierSettings::Object(_) => false,
        };
        let list = if above {
            &mut settings.above
        } else {
            &mut settings.below
        };
        list.push(tier);
    }
    settings
}

fn extra_ca(config: &Config) -> Vec<Vec<u8>> {
    let ca = config.network.ca.iter();
    ca.map(|ca| ca.pem.clone()).collect()
}

/// The name of a bucket in logs and metrics: the word of its service, unless several have that.
fn name(config: &Config, tier: &ObjectTier) -> String {
    let word = tier.service.as_str();
    let same = config.storage.iter().filter(|other| other.as_str() == word);
    if same.count() == 1 {
        return word.to_owned();
    }
    let slash = if tier.prefix.is_empty() { "" } else { "/" };
    format!("{word}:{}{slash}{}", tier.bucket, tier.prefix)
}

fn hot(tier: &RedisTier, extra_ca: Vec<Vec<u8>>) -> RedisSettings {
    RedisSettings {
        extra_ca,
        prefix: tier.prefix.clone(),
        max_entry: tier.max_entry_bytes,
        ttl: tier.ttl,
        timeout: tier.timeout,
        concurrency: tier.concurrency,
        ..RedisSettings::new(Secret::new(tier.url.expose()))
    }
}

fn object(tier: &ObjectTier, name: String, extra_ca: Vec<Vec<u8>>) -> ObjectSettings {
    let secret = |secret: &Option<config::Secret>| {
        let secret = secret.as_ref();
        secret.map(|secret| Secret::new(secret.expose()))
    };
    let (service, access_key, secret_key) = match tier.service {
        ObjectService::S3 => (Service::S3, &tier.access_key, &tier.secret_key),
        ObjectService::Azure => (Service::Azure, &tier.access_key, &tier.secret_key),
        // The key of a service account is one text.
        ObjectService::Gcs => (Service::Gcs, &tier.secret_key, &None),
    };
    ObjectSettings {
        name: name.into(),
        prefix: tier.prefix.clone(),
        endpoint: tier.endpoint.clone(),
        region: tier.region.clone(),
        access_key: secret(access_key),
        secret_key: secret(secret_key),
        session_token: secret(&tier.session_token),
        extra_ca,
        // The administrator wrote `http://`, and was told what that means.
        allow_http: tier
            .endpoint
            .as_ref()
            .is_some_and(|endpoint| endpoint.starts_with("http://")),
        persist: match tier.persist {
            config::Persist::Through => Persist::Through,
            config::Persist::Async => Persist::Async,
        },
        timeout: tier.timeout,
        idle_timeout: tier.idle_timeout,
        concurrency: tier.concurrency,
        redirect: tier.redirect,
        ..ObjectSettings::new(service, tier.bucket.clone())
    }
}

/// By what replicas agree. Nothing is asked yet.
///
/// # Errors
/// A tier that cannot be what it is said to be: an address or a key that its service does not take.
pub fn coordinate(config: &Config) -> Result<Coordinate, String> {
    match config.replicas.coordinate {
        config::Coordinate::Alone => Ok(Coordinate::Alone),
        config::Coordinate::Postgres => Ok(Coordinate::Postgres),
        config::Coordinate::Redis => {
            let tier = config.storage.iter().find_map(|tier| match tier {
                Tier::Redis(tier) => Some(tier),
                _ => None,
            });
            let tier = tier.ok_or("no [[storage]] is a Redis")?;
            // What it says could have a part of the address in it.
            let client = redis_client(tier.url.expose(), &extra_ca(config))
                .map_err(|_| "the address of the Redis is not one")?;
            Ok(Coordinate::Redis {
                client: Box::new(client),
                prefix: format!("{}:", tier.prefix),
                timeout: tier.timeout,
            })
        }
        config::Coordinate::Storage => by_storage(config),
    }
}

fn by_storage(config: &Config) -> Result<Coordinate, String> {
    let tier = config.storage.iter().rev().find_map(|tier| match tier {
        Tier::Object(tier) => Some(tier),
        _ => None,
    });
    let tier = tier.ok_or("no [[storage]] is a bucket")?;
    let settings = object(tier, name(config, tier), extra_ca(config));
    Ok(Coordinate::Storage {
        store: settings.storage().map_err(|error| error.to_string())?,
        prefix: ObjectPath::parse(&tier.prefix).map_err(|error| error.to_string())?,
        timeout: tier.timeout,
    })
}

/// What replicas share though each has records of its own: in the bucket where there is one, since a Redis may forget.
///
/// # Errors
/// As of [`coordinate`].
pub fn shared_facts(
    config: &Config,
    records: &Arc<Records>,
) -> Result<Option<Arc<SharedFacts>>, String> {
    let place = match config.replicas.coordinate {
        config::Coordinate::Redis if keeps_in_a_bucket(config) => by_storage(config)?,
        _ => coordinate(config)?,
    };
    Ok(SharedFacts::by(&place, records))
}

/// Whether there is something of a server's: records, or what is kept.
pub fn has_data(config: &Config) -> bool {
    config.records.postgres.is_some()
        || config.data.join(RECORDS_FILE).exists()
        || store_folder(config).join("go").is_dir()
}

/// Whether everything is kept in a bucket.
pub fn keeps_in_a_bucket(config: &Config) -> bool {
    let bucket = |tier: &Tier| matches!(tier, Tier::Object(_));
    config.storage.iter().any(bucket)
}

/// Everything that is kept, for who cares for it beside a server. Call it within the runtime.
///
/// # Errors
/// A tier that cannot be what it is said to be.
pub fn cared_for(config: &Config, records: Arc<Records>) -> Result<care::Storage, String> {
    let settings = tiers(config);
    let all = settings.above.iter().chain(&settings.below);
    let tiers = all.map(|tier| Ok(Arc::new(store::tier::Tier::new(tier)?)));
    let tiers = tiers.collect::<Result<_, store::tier::TierError>>();
    Ok(care::Storage {
        folder: Folder::new(store_folder(config)),
        disk: settings.disk.is_some(),
        tiers: tiers.map_err(|error| error.to_string())?,
        records,
    })
}

/// A storage by its name: `disk`, or that of a tier. Without a name the one that keeps: the last bucket, else the disk.
/// Call it within the runtime.
///
/// # Errors
/// No storage of that name, and those that there are; a tier that cannot be what it is said to be.
pub fn place(config: &Config, name: Option<&str>) -> Result<care::copy::Place, String> {
    let settings = tiers(config);
    let buckets: Vec<&ObjectSettings> = settings
        .below
        .iter()
        .filter_map(|tier| match tier {
            TierSettings::Object(object) => Some(object),
            TierSettings::Redis(_) => None,
        })
        .collect();
    let bucket = buckets
        .iter()
        .rfind(|bucket| name.is_none_or(|name| name == &*bucket.name));
    if let Some(bucket) = bucket {
        let tier = store::tier::Tier::new(&TierSettings::Object((*bucket).clone()));
        let tier = tier.map_err(|error| error.to_string())?;
        return Ok(care::copy::Place::Bucket(Arc::new(tier)));
    }
    if settings.disk.is_some() && name.is_none_or(|name| name == "disk") {
        return Ok(care::copy::Place::Disk(Folder::new(store_folder(config))));
    }
    let mut names: Vec<&str> = buckets.iter().map(|bucket| &*bucket.name).collect();
    names.extend(settings.disk.is_some().then_some("disk"));
    let name = name.unwrap_or_default();
    Err(format!(
        "no [[storage]] that keeps is called {name:?}; there are: {}",
        names.join(", ")
    ))
}

/// Where backups are.
///
/// # Errors
/// A bucket of a kind that no `[[storage]]` says how to reach.
pub fn backups(config: &Config, target: &BackupTarget) -> Result<care::backup::Target, String> {
    let (service, bucket, prefix) = match target {
        BackupTarget::Folder(folder) => return Ok(care::backup::Target::Folder(folder.clone())),
        BackupTarget::Bucket {
            service,
            bucket,
            prefix,
        } => (service, bucket, prefix),
    };
    let reached = config.storage.iter().filter_map(|tier| match tier {
        Tier::Object(tier) if tier.service == *service => Some(tier),
        _ => None,
    });
    // One of several of a kind may have keys for this bucket alone.
    let tier = reached.max_by_key(|tier| tier.bucket == *bucket);
    let word = service.as_str();
    let tier = tier
        .ok_or_else(|| format!("no [[storage]] with tier = \"{word}\" says how to reach {word}"))?;
    let mut settings = object(tier, name(config, tier), extra_ca(config));
    settings.bucket.clone_from(bucket);
    Ok(care::backup::Target::Bucket {
        store: settings.storage().map_err(|error| error.to_string())?,
        prefix: ObjectPath::parse(prefix).map_err(|error| error.to_string())?,
    })
}

#[cfg(test)]
mod tests {
    use ::records::RecordsSettings;

    use super::*;
    use crate::config::{Env, Sources};

    fn config(toml: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("modgate.toml");
        std::fs::write(&file, toml).unwrap();
        let sources = Sources {
            file: Some(file),
            env: Env::of([
                ("HOME", "/home/x"),
                ("KEY", "hunter2"),
                ("MODGATE_CHAIN", "direct"),
            ]),
            ..Sources::default()
        };
        Config::load(&sources).unwrap().config
    }

    fn names(tiers: &[TierSettings]) -> Vec<&str> {
        let mut names = Vec::new();
        for tier in tiers {
            names.push(match tier {
                TierSettings::Redis(redis) => &*redis.name,
                TierSettings::Object(object) => &*object.name,
            });
        }
        names
    }

    #[test]
    fn nothing_set_is_the_data_folder_alone() {
        let config = config("data = \"/d\"");
        let tiers = tiers(&config);
        assert!(tiers.above.is_empty() && tiers.below.is_empty());
        assert_eq!(tiers.disk.map(|disk| disk.max_size), Some(None));
        assert_eq!(store(&config).folder, Path::new("/d"));
        let records = crate::wire::records(&config).unwrap();
        assert!(
            matches!(&records, RecordsSettings::Sqlite { path } if path == Path::new("/d/records.db")),
            "{records:?}"
        );
    }

    #[test]
    fn tiers_stand_above_and_below_the_disk() {
        const REDIS: &str =
            "[[storage]]\ntier = \"redis\"\nurl = \"redis://h\"\nmax_entry = \"2KiB\"\n";
        const DISK: &str = "[[storage]]\ntier = \"disk\"\npath = \"/m\"\nmax_size = \"1GiB\"\n";
        const S3: &str = "[[storage]]\ntier = \"s3\"\nbucket = \"b\"\nendpoint = \"http://h:1\"\n\
                          persist = \"async\"\njournal_max_entries = 7\n";
        let listed = config(&format!("{REDIS}{DISK}{S3}"));
        let tiers = tiers(&listed);
        assert_eq!(names(&tiers.above), ["redis"]);
        assert_eq!(names(&tiers.below), ["s3"]);
        assert_eq!(tiers.disk.map(|disk| disk.max_size), Some(Some(1 << 30)));
        assert_eq!(tiers.journal_max_entries, 7);
        assert_eq!(store(&listed).folder, Path::new("/m"));
        let [TierSettings::Redis(redis)] = &tiers.above[..] else {
            panic!("{:?}", tiers.above);
        };
        assert_eq!(redis.max_entry, 2048);
        let [TierSettings::Object(object)] = &tiers.below[..] else {
            panic!("{:?}", tiers.below);
        };
        assert!(object.allow_http);
        assert_eq!(object.persist, Persist::Async);

        let below = super::tiers(&config(&format!("{DISK}{REDIS}{S3}")));
        assert_eq!(names(&below.below), ["redis", "s3"]);
        let diskless = super::tiers(&config(&format!("{REDIS}{S3}")));
        assert_eq!(names(&diskless.above), ["redis"]);
        assert!(diskless.disk.is_none());
    }

    #[test]
    fn buckets_of_one_service_have_names_of_their_own() {
        let bucket = |name: &str| format!("[[storage]]\ntier = \"s3\"\nbucket = \"{name}\"\n");
        let two = config(&format!("{}{}prefix = \"p\"", bucket("a"), bucket("b")));
        assert_eq!(names(&tiers(&two).below), ["s3:a", "s3:b/p"]);
    }

    #[test]
    fn the_key_of_a_service_account_is_where_the_tier_looks_for_it() {
        let gcs =
            config("[[storage]]\ntier = \"gcs\"\nbucket = \"b\"\nsecret_key = { env = \"KEY\" }");
        let tiers = tiers(&gcs);
        let [TierSettings::Object(object)] = &tiers.below[..] else {
            panic!("{:?}", tiers.below);
        };
        assert_eq!(object.access_key, Some(Secret::new("hunter2")));
        assert_eq!(object.secret_key, None);
        assert!(!format!("{object:?}").contains("hunter2"));
    }

    #[test]
    fn records_are_in_the_server_that_is_named() {
        let config = config("[records]\nurl = \"postgres://u:hunter2@h/d\"");
        let records = crate::wire::records(&config).unwrap();
        let shown = format!("{records:?}");
        assert!(
            matches!(records, RecordsSettings::Postgres { .. }),
            "{shown}"
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn replicas_agree_by_what_is_named() {
        const S3: &str = "[[storage]]\ntier = \"s3\"\nbucket = \"b\"\nprefix = \"p/q\"\n";
        let by = |toml: &str| coordinate(&config(toml)).unwrap();
        assert!(matches!(by(S3), Coordinate::Alone));
        let postgres = "[records]\nurl = \"postgres://h/d\"\n[replicas]\ncoordinate = \"postgres\"";
        assert!(matches!(by(postgres), Coordinate::Postgres));
        let redis = format!(
            "[[storage]]\ntier = \"redis\"\nurl = \"redis://h\"\nprefix = \"p\"\n{S3}[replicas]\ncoordinate = \"redis\""
        );
        let Coordinate::Redis { prefix, .. } = by(&redis) else {
            panic!("{:?}", by(&redis));
        };
        assert_eq!(prefix, "p:");
        let storage = format!("{S3}[replicas]\ncoordinate = \"storage\"");
        let Coordinate::Storage { prefix, .. } = by(&storage) else {
            panic!("{:?}", by(&storage));
        };
        assert_eq!(prefix.as_ref(), "p/q");
    }
}
