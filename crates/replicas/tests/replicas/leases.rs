//! Who holds, and how it ends.

use std::time::{Duration, Instant};

use replicas::Waited;
use tokio::time::timeout;

use super::{SOON, Service, World};

const LONG: Duration = Duration::from_mins(1);

pub(crate) async fn one_holds_and_the_others_hear_of_its_end(mut world: World) {
    let (one, other) = (world.join().await, world.join().await);
    let (one, other) = (&one.replicas.leases, &other.replicas.leases);
    assert!(!one.alone());
    assert_eq!(other.wait("go/x", SOON).await.unwrap(), Waited::Gone);
    let lease = one.acquire("go/x", LONG).await.unwrap().unwrap();
    assert!(other.acquire("go/x", LONG).await.unwrap().is_none());
    let another = other.acquire("go/y ~!é", LONG).await.unwrap().unwrap();
    let short = Duration::from_millis(300);
    assert_eq!(other.wait("go/x", short).await.unwrap(), Waited::StillHeld);

    // The end is told, not found out by the length of the lease.
    let (waited, ()) = tokio::join!(other.wait("go/x", SOON), lease.release());
    assert_eq!(waited.unwrap(), Waited::Gone);
    let again = other.acquire("go/x", LONG).await.unwrap().unwrap();
    assert!(!again.is_lost());
    again.release().await;
    another.release().await;
}

pub(crate) async fn of_many_one_holds(mut world: World) {
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(world.join().await);
    }
    let mut last = 0;
    for round in 0..5 {
        let key = if round < 3 { "go/same" } else { "go/another" };
        let asked = replicas
            .iter()
            .flat_map(|replica| (0..4).map(|_| replica.replicas.leases.acquire(key, LONG)));
        let mut held: Vec<_> = futures_util::future::join_all(asked)
            .await
            .into_iter()
            .filter_map(Result::unwrap)
            .collect();
        assert_eq!(held.len(), 1, "round {round}");
        let lease = held.remove(0);
        if !matches!(world.service, Service::Storage(_) | Service::Cloud(_)) {
            assert!(lease.token() > last);
        }
        last = lease.token();
        lease.release().await;
    }
}

pub(crate) async fn a_lease_is_renewed_for_as_long_as_it_is_held(mut world: World) {
    let (one, other) = (world.join().await, world.join().await);
    let ttl = Duration::from_millis(1500);
    let lease = one
        .replicas
        .leases
        .acquire("go/x", ttl)
        .await
        .unwrap()
        .unwrap();
    // Longer than it lives of itself.
    let waited = other.replicas.leases.wait("go/x", ttl * 3).await.unwrap();
    assert_eq!(waited, Waited::StillHeld);
    assert!(!lease.is_lost());
    assert!(
        other
            .replicas
            .leases
            .acquire("go/x", ttl)
            .await
            .unwrap()
            .is_none()
    );
    lease.release().await;
}

/// A runtime that is gone takes the renewals with it, as a process that is killed does.
pub(crate) async fn a_dead_holder_costs_its_lease(mut world: World) {
    let ttl = Duration::from_millis(1500);
    let other = world.join().await;
    let coordinate = world.coordinate(SOON);
    let records = std::sync::Arc::clone(&other.records);
    let held = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let lease = runtime.block_on(async {
            let dead = replicas::Replicas::start(coordinate, &records, None, "dead");
            dead.leases.acquire("go/x", ttl).await.unwrap().unwrap()
        });
        runtime.shutdown_background();
        lease
    });
    let lease = tokio::task::spawn_blocking(move || held.join().unwrap())
        .await
        .unwrap();
    let start = Instant::now();
    let waited = timeout(SOON, other.replicas.leases.wait("go/x", SOON))
        .await
        .unwrap();
    assert_eq!(waited.unwrap(), Waited::Gone);
    // Whoever is told that it is over may be a moment ahead of the service's own clock.
    let taken = timeout(SOON, async {
        loop {
            if let Some(taken) = other.replicas.leases.acquire("go/x", ttl).await.unwrap() {
                return taken;
            }
            let _ = other.replicas.leases.wait("go/x", SOON).await;
        }
    });
    assert!(taken.await.unwrap().token() > lease.token());
    println!(
        "a dead holder with a lease of {ttl:?} cost {:?}",
        start.elapsed()
    );
}

pub(crate) async fn leaving_gives_back_what_is_dropped(mut world: World) {
    let (one, other) = (world.join().await, world.join().await);
    for key in ["go/x", "go/y"] {
        drop(
            one.replicas
                .leases
                .acquire(key, LONG)
                .await
                .unwrap()
                .unwrap(),
        );
    }
    one.replicas.leave(SOON).await;
    for key in ["go/x", "go/y"] {
        assert!(
            other
                .replicas
                .leases
                .acquire(key, LONG)
                .await
                .unwrap()
                .is_some()
        );
    }
}

#[tokio::test]
async fn alone_every_lease_is_ours() {
    let folder = tempfile::tempdir().unwrap();
    let settings = records::RecordsSettings::Sqlite {
        path: folder.path().join("records.db"),
    };
    let records = std::sync::Arc::new(records::Records::open(&settings).await.unwrap());
    let alone = replicas::Replicas::start(replicas::Coordinate::Alone, &records, None, "me");
    let one = alone.leases.acquire("go/x", LONG).await.unwrap().unwrap();
    assert!(alone.leases.acquire("go/x", LONG).await.unwrap().is_some());
    assert_eq!(alone.leases.wait("go/x", SOON).await.unwrap(), Waited::Gone);
    one.release().await;
    alone.leave(SOON).await;
}
