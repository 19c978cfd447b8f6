//! A service that hangs, and one that is gone and comes back.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use replicas::Waited;
use tokio::time::timeout;

use super::{SOON, Service, World};

const LIMIT: Duration = Duration::from_millis(500);

pub(crate) async fn a_service_that_hangs_costs_the_limit(mut world: World) {
    let one = world.join_within(LIMIT).await;
    let leases = &one.replicas.leases;
    leases
        .acquire("go/x", SOON)
        .await
        .unwrap()
        .unwrap()
        .release()
        .await;
    world.pause();
    let start = Instant::now();
    leases.acquire("go/y", SOON).await.unwrap_err();
    // Connecting and asking each have the limit; machines that build beside their tests are slow.
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    leases.wait("go/y", SOON).await.unwrap_err();
    world.resume();
    let again = async {
        loop {
            match leases.acquire("go/z", SOON).await {
                Ok(Some(lease)) => return lease,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    timeout(SOON, again).await.unwrap().release().await;
}

pub(crate) async fn a_lease_is_lost_with_its_service_and_can_be_had_again(mut world: World) {
    let ttl = Duration::from_millis(900);
    let one = world.join_within(LIMIT).await;
    let lease = one
        .replicas
        .leases
        .acquire("go/x", ttl)
        .await
        .unwrap()
        .unwrap();
    world.pause();
    timeout(SOON, lease.lost()).await.unwrap();
    world.restart().await;
    let again = async {
        loop {
            match one.replicas.leases.acquire("go/x", ttl).await {
                Ok(Some(lease)) => return lease,
                _ => drop(one.replicas.leases.wait("go/x", SOON).await),
            }
        }
    };
    timeout(SOON, again).await.unwrap().release().await;
}

/// A server that is started again, or what is in between, ends connections that nobody uses just then.
pub(crate) async fn a_connection_that_is_lost_costs_no_lease(mut world: World) {
    const AT_ONCE: usize = 3;
    let short = Duration::from_millis(300);
    let (one, other) = (world.join().await, world.join().await);
    let held = one.replicas.leases.acquire("go/x", SOON).await;
    let held = held.unwrap().unwrap();
    let leases = &other.replicas.leases;
    let wait = || join_all((0..AT_ONCE).map(|_| leases.wait("go/x", short)));
    wait().await;
    world.cut().await;
    for waited in wait().await {
        assert_eq!(waited.unwrap(), Waited::StillHeld);
    }
    world.cut().await;
    let keys: Vec<_> = (0..AT_ONCE).map(|key| format!("go/{key}")).collect();
    for lease in join_all(keys.iter().map(|key| leases.acquire(key, SOON))).await {
        lease.unwrap().unwrap().release().await;
    }
    held.release().await;
}

/// It says of each object that it is not there; but nobody gave his lease back.
#[tokio::test]
async fn a_bucket_that_is_gone_is_no_bucket_without_leases() {
    let mut world = World::storage().await;
    let one = world.join().await;
    let Service::Storage(s3) = &world.service else {
        unreachable!("it was asked for");
    };
    let (here, away) = (s3.bucket_dir(), s3.bucket_dir().with_extension("away"));
    let leases = &one.replicas.leases;
    let lease = leases.acquire("go/x", SOON).await.unwrap().unwrap();
    std::fs::rename(here, &away).unwrap();
    leases.acquire("go/x", SOON).await.unwrap_err();
    leases.acquire("go/y", SOON).await.unwrap_err();
    leases.wait("go/x", SOON).await.unwrap_err();
    std::fs::rename(&away, here).unwrap();
    assert!(leases.acquire("go/x", SOON).await.unwrap().is_none());
    lease.release().await;
}
