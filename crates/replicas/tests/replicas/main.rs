//! Leases and announcements over a real PostgreSQL, a real Redis and real object storage.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod announcements;
mod facts;
mod faults;
mod leases;
mod silence;

use std::{sync::Arc, time::Duration};

use object_store::{ObjectStore, aws::AmazonS3Builder, path::Path};
use records::{Records, RecordsSettings};
use replicas::{Coordinate, Replicas};
use store::tier::{ObjectSettings, Secret};
use tempfile::TempDir;
use testkit::services::{Cloud, Interface, Postgres, Redis, S3};

/// Far more than anything here takes.
const SOON: Duration = Duration::from_secs(30);

enum Service {
    Postgres(Postgres),
    Redis(Redis),
    Storage(S3),
    Cloud(Cloud),
}

/// Replicas over one service, each with what it needs of its own.
struct World {
    service: Service,
    folder: TempDir,
    joined: usize,
}

/// One replica.
struct Replica {
    records: Arc<Records>,
    replicas: Replicas,
}

impl World {
    async fn postgres() -> Self {
        Self::of(Service::Postgres(Postgres::start().await))
    }

    async fn redis() -> Self {
        Self::of(Service::Redis(Redis::start().await))
    }

    async fn storage() -> Self {
        Self::of(Service::Storage(S3::start().await))
    }

    async fn cloud(interface: Interface) -> Self {
        Self::of(Service::Cloud(Cloud::start(interface).await))
    }

    fn of(service: Service) -> Self {
        Self {
            service,
            folder: tempfile::tempdir().unwrap(),
            joined: 0,
        }
    }

    fn coordinate(&self, timeout: Duration) -> Coordinate {
        match &self.service {
            Service::Postgres(_) => Coordinate::Postgres,
            Service::Redis(redis) => Coordinate::Redis {
                client: Box::new(redis::Client::open(redis.url()).unwrap()),
                prefix: "test:".to_owned(),
                timeout,
            },
            Service::Storage(s3) => by_storage(bucket(s3), timeout),
            Service::Cloud(cloud) => by_storage(container(cloud), timeout),
        }
    }

    async fn join(&mut self) -> Replica {
        self.join_within(Duration::from_secs(5)).await
    }

    async fn join_within(&mut self, timeout: Duration) -> Replica {
        self.joined += 1;
        let settings = match &self.service {
            Service::Postgres(postgres) => RecordsSettings::Postgres {
                url: postgres.url().parse().unwrap(),
                max_connections: 4,
                timeout,
            },
            _ => RecordsSettings::Sqlite {
                path: self.folder.path().join(format!("{}.db", self.joined)),
            },
        };
        let records = Arc::new(Records::open(&settings).await.unwrap());
        let holder = format!("replica-{}", self.joined);
        let replicas = Replicas::start(self.coordinate(timeout), &records, None, &holder);
        Replica { records, replicas }
    }

    /// Ends all connections to the service, which goes on.
    async fn cut(&self) {
        match &self.service {
            Service::Postgres(service) => {
                let others = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
                service.run_sql(&[others]).await;
            }
            Service::Redis(service) => {
                let client = redis::Client::open(service.url()).unwrap();
                let mut own = client.get_multiplexed_async_connection().await.unwrap();
                for kind in ["normal", "pubsub"] {
                    let mut kill = redis::cmd("CLIENT");
                    kill.arg(&["KILL", "TYPE", kind]);
                    let _: i64 = kill.query_async(&mut own).await.unwrap();
                }
            }
            Service::Storage(_) | Service::Cloud(_) => unreachable!("requests stand alone"),
        }
    }

    fn pause(&self) {
        match &self.service {
            Service::Postgres(service) => service.pause(),
            Service::Redis(service) => service.pause(),
            Service::Storage(service) => service.pause(),
            Service::Cloud(_) => unreachable!("it is in this process"),
        }
    }

    fn resume(&self) {
        match &self.service {
            Service::Postgres(service) => service.resume(),
            Service::Redis(service) => service.resume(),
            Service::Storage(service) => service.resume(),
            Service::Cloud(_) => unreachable!("it is in this process"),
        }
    }

    async fn restart(&mut self) {
        match &mut self.service {
            Service::Postgres(service) => service.restart().await,
            Service::Redis(service) => service.restart().await,
            Service::Storage(service) => service.restart().await,
            Service::Cloud(_) => unreachable!("it is in this process"),
        }
    }
}

fn by_storage(store: Arc<dyn ObjectStore>, timeout: Duration) -> Coordinate {
    Coordinate::Storage {
        store,
        prefix: Path::from("go-modules"),
        timeout,
    }
}

fn container(cloud: &Cloud) -> Arc<dyn ObjectStore> {
    use store::tier::Service;
    let secret = Secret::new(cloud.secret_key());
    let (service, access_key, secret_key) = match cloud.interface() {
        Interface::Google => (Service::Gcs, secret, None),
        Interface::Azure => (Service::Azure, Secret::new(Cloud::BUCKET), Some(secret)),
    };
    let settings = ObjectSettings {
        endpoint: Some(cloud.endpoint()),
        access_key: Some(access_key),
        secret_key,
        allow_http: true,
        ..ObjectSettings::new(service, Cloud::BUCKET)
    };
    settings.storage().unwrap()
}

fn bucket(s3: &S3) -> Arc<dyn ObjectStore> {
    let store = AmazonS3Builder::new()
        .with_endpoint(s3.endpoint())
        .with_region(S3::REGION)
        .with_bucket_name(S3::BUCKET)
        .with_access_key_id(s3.access_key())
        .with_secret_access_key(s3.secret_key())
        .with_allow_http(true)
        .build()
        .unwrap();
    Arc::new(store)
}

/// Each named test of a module over each service.
macro_rules! all {
    ($($module:ident::$test:ident)*) => {
        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                crate::$module::$test(crate::World::postgres().await).await;
            })*
        }

        mod redis_service {
            $(#[tokio::test]
            async fn $test() {
                crate::$module::$test(crate::World::redis().await).await;
            })*
        }

        mod storage {
            $(#[tokio::test]
            async fn $test() {
                crate::$module::$test(crate::World::storage().await).await;
            })*
        }
    };
}

all! {
    leases::one_holds_and_the_others_hear_of_its_end
    leases::of_many_one_holds
    leases::a_lease_is_renewed_for_as_long_as_it_is_held
    leases::a_dead_holder_costs_its_lease
    leases::leaving_gives_back_what_is_dropped
    faults::a_service_that_hangs_costs_the_limit
    faults::a_lease_is_lost_with_its_service_and_can_be_had_again
    announcements::a_change_reaches_the_others_within_two_seconds
    announcements::telling_goes_on_after_the_service_was_gone
}

/// Over the services to which connections stay open.
mod connected {
    use crate::{World, faults::a_connection_that_is_lost_costs_no_lease};

    #[tokio::test]
    async fn to_postgres() {
        a_connection_that_is_lost_costs_no_lease(World::postgres().await).await;
    }

    #[tokio::test]
    async fn to_redis() {
        a_connection_that_is_lost_costs_no_lease(World::redis().await).await;
    }
}

/// The same over the services that are no records.
macro_rules! all_but_postgres {
    ($($module:ident::$test:ident)*) => {
        mod own_redis {
            $(#[tokio::test]
            async fn $test() {
                crate::$module::$test(crate::World::redis().await).await;
            })*
        }

        mod own_storage {
            $(#[tokio::test]
            async fn $test() {
                crate::$module::$test(crate::World::storage().await).await;
            })*
        }
    };
}

all_but_postgres! {
    facts::what_one_retires_all_have_within_two_seconds
    facts::who_was_away_undoes_nothing_and_says_what_it_said_meanwhile
    facts::a_lost_document_comes_back
    facts::while_the_service_is_away_words_wait
    facts::what_is_wrong_with_the_service_is_said
    facts::many_that_say_something_at_once_are_all_heard
    facts::heads_go_forward_and_a_fork_is_known_until_it_is_cleared
}

/// What rests on conditional writes, over those whose conditions are others than those of S3.
macro_rules! in_clouds {
    ($($module:ident::$test:ident)*) => {
        mod google {
            $(#[tokio::test]
            async fn $test() {
                let world = crate::World::cloud(crate::Interface::Google).await;
                crate::$module::$test(world).await;
            })*
        }

        mod azure {
            $(#[tokio::test]
            async fn $test() {
                let world = crate::World::cloud(crate::Interface::Azure).await;
                crate::$module::$test(world).await;
            })*
        }
    };
}

in_clouds! {
    leases::of_many_one_holds
    leases::a_lease_is_renewed_for_as_long_as_it_is_held
    leases::a_dead_holder_costs_its_lease
    announcements::a_change_reaches_the_others_within_two_seconds
    facts::what_one_retires_all_have_within_two_seconds
    facts::many_that_say_something_at_once_are_all_heard
    facts::a_bucket_that_is_gone_is_no_empty_one
}
