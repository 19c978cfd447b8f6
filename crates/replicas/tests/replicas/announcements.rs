//! What one changes, the others hear.

use std::time::{Duration, Instant};

use records::{ChangeKind, TombstoneRow};
use replicas::{Replicas, Told};
use tokio::time::timeout;

use super::{Replica, SOON, World};

/// What the others have of a change: how long it took.
async fn heard(replicas: &Replicas, kind: ChangeKind, key: &str) -> Duration {
    let start = Instant::now();
    let hear = async {
        loop {
            match replicas.announcements.next().await.unwrap() {
                Told::Change(told, name) if told == kind && name == key => return,
                _ => {}
            }
        }
    };
    timeout(SOON, hear).await.unwrap();
    start.elapsed()
}

/// Says one thing over and over until another hears it: both listen from then on.
async fn meet(one: &Replica, other: &Replica) {
    let say = async {
        loop {
            one.records
                .announce(ChangeKind::Config, "hello")
                .await
                .unwrap();
            one.replicas.announcements.look();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = say => {}
        _ = heard(&other.replicas, ChangeKind::Config, "hello") => {}
    }
}

pub(crate) async fn a_change_reaches_the_others_within_two_seconds(mut world: World) {
    let (one, other) = (world.join().await, world.join().await);
    meet(&one, &other).await;
    let tombstone = TombstoneRow {
        module: "a.example/m".to_owned(),
        version: "v1.0.0".to_owned(),
        reason: "bad".to_owned(),
        time: "2026-01-02T03:04:05Z".to_owned(),
    };
    one.records.retire(&tombstone).await.unwrap();
    // The watch on the file of SQLite belongs to the server.
    one.replicas.announcements.look();
    let took = heard(&other.replicas, ChangeKind::Tombstones, "a.example/m").await;
    println!("told in {took:?}");
    // It hears itself too, by which a command beside it is heard.
    heard(&one.replicas, ChangeKind::Tombstones, "a.example/m").await;
    assert_eq!(
        one.records.shared(),
        other.records.tombstones().await.unwrap().len() == 1
    );
}

pub(crate) async fn telling_goes_on_after_the_service_was_gone(mut world: World) {
    let limit = Duration::from_secs(1);
    let (one, other) = (
        world.join_within(limit).await,
        world.join_within(limit).await,
    );
    meet(&one, &other).await;
    world.restart().await;
    let say = async {
        loop {
            // Not while it is away still.
            if one
                .records
                .announce(ChangeKind::Breaker, "proxy")
                .await
                .is_ok()
            {
                one.replicas.announcements.look();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = say => {}
        _ = heard(&other.replicas, ChangeKind::Breaker, "proxy") => {}
    }
}
