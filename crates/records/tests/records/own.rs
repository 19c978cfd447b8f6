//! What is one database's own.

use std::time::{Duration, Instant};

use records::{
    ChangeKind, Cursor, LEASES_CHANNEL, PostgresUrl, Records, RecordsErrorKind, RecordsSettings,
    Ring,
};
use testkit::{services::Postgres, small_disk::SmallDisk};
use tokio::time::timeout;

use super::{Database, SOON, object, tombstone};

/// A full disk ends a transaction in the middle; the connection it was on can begin no other.
#[tokio::test]
async fn sqlite_takes_notes_again_once_a_full_disk_has_room() {
    let disk = SmallDisk::new(8 << 20);
    let path = disk.path().join("records.db");
    let records = Records::open(&RecordsSettings::Sqlite { path })
        .await
        .unwrap();
    records.probe().await.unwrap();
    let noted: Vec<_> = (0..20_000)
        .map(|n| object(&format!("go/a.example/m/@v/v1.0.{n}.zip"), n))
        .collect();
    disk.fill(0);
    for _ in 0..2 {
        let error = records.note(&noted).await.unwrap_err();
        assert_eq!(error.kind, RecordsErrorKind::Full, "{error}");
    }
    disk.make_room();
    records.note(&noted[..10]).await.unwrap();
    let last = records.object(&noted[9].key).await.unwrap();
    assert_eq!(last.as_ref(), Some(&noted[9]));
}

/// A command beside a running server: two processes, as far as the file knows.
#[tokio::test]
async fn sqlite_is_shared_with_another_process_and_its_log_tells() {
    let database = Database::sqlite();
    let (server, command) = (database.open().await, database.open().await);
    let wal = server.wal().unwrap();
    let before = wal.metadata().unwrap().len();
    command
        .retire(&tombstone("a.example/m", "v1.0.0", "bad"))
        .await
        .unwrap();
    assert!(
        wal.metadata().unwrap().len() > before,
        "what watches the file would see nothing"
    );
    command.close().await;
    assert_eq!(server.tombstones().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_file_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    std::fs::write(
        &path,
        "something else, long enough to be looked at as a database file".repeat(9),
    )
    .unwrap();
    let error = Records::open(&RecordsSettings::Sqlite { path })
        .await
        .unwrap_err();
    assert_eq!(error.kind, RecordsErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("modgate restore"), "{error}");
    // No folder can be made below a file.
    let path = folder.path().join("records.db/records.db");
    let records = Records::open(&RecordsSettings::Sqlite { path })
        .await
        .unwrap();
    records.probe().await.unwrap_err();
}

#[tokio::test]
async fn a_password_is_in_no_error() {
    let postgres = Postgres::start().await;
    let with_secret = |address: &str, database: &str| -> PostgresUrl {
        format!("postgres://nobody:hunter2@{address}/{database}")
            .parse()
            .unwrap()
    };
    let here = postgres.addr().to_string();
    for (url, kind) in [
        (with_secret(&here, "modgate"), RecordsErrorKind::Refused),
        (
            with_secret("127.0.0.1:9", "modgate"),
            RecordsErrorKind::Unavailable,
        ),
    ] {
        let settings = RecordsSettings::Postgres {
            url,
            max_connections: 2,
            timeout: Duration::from_secs(2),
        };
        let error = Records::open(&settings).await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(!format!("{error} {error:?} {settings:?}").contains("hunter2"));
    }
}

/// What is wrong with an address is not all that is said.
#[tokio::test]
async fn what_postgres_refuses_comes_with_what_helps() {
    let postgres = Postgres::start().await;
    let url = postgres.url();
    for (url, helps) in [
        (
            format!("{url}?options=-c%20search_path%3Dnowhere"),
            "search_path",
        ),
        (url.replace("modgate@", "nobody@"), "start it again"),
        (
            "postgres://modgate@localhost/modgate?host=/nowhere".to_owned(),
            "sslrootcert",
        ),
    ] {
        let settings = RecordsSettings::postgres(url.parse().unwrap());
        let error = Records::open(&settings).await.unwrap_err();
        assert!(error.to_string().contains(helps), "{error}");
    }
}

const LIMIT: Duration = Duration::from_millis(500);

/// A server that hangs costs the time limit once, and no connection for ever; one that is gone and back is used again.
#[tokio::test]
async fn postgres_may_hang_die_and_come_back() {
    let mut postgres = Postgres::start().await;
    let settings = RecordsSettings::Postgres {
        url: postgres.url().parse().unwrap(),
        max_connections: 2,
        timeout: LIMIT,
    };
    let records = Records::open(&settings).await.unwrap();
    records.note(&[object("go/x", 1)]).await.unwrap();
    postgres.pause();
    let paused = Instant::now();
    for _ in 0..20 {
        let error = records.object("go/x").await.unwrap_err();
        assert_eq!(error.kind, RecordsErrorKind::Timeout, "{error}");
    }
    // The first waits for its time limit, and none after it.
    assert!(paused.elapsed() < 10 * LIMIT, "{:?}", paused.elapsed());
    postgres.resume();
    until_it_answers(&records).await;
    postgres.kill();
    let error = records.object("go/x").await.unwrap_err();
    assert!(
        matches!(
            error.kind,
            RecordsErrorKind::Unavailable | RecordsErrorKind::Timeout
        ),
        "{error}"
    );
    // What is noted meanwhile waits.
    assert!(records.note_later(object("go/y", 1)));
    postgres.restart().await;
    until_it_answers(&records).await;
    timeout(SOON, records.flush()).await.unwrap();
    assert!(records.object("go/y").await.unwrap().is_some());
}

async fn until_it_answers(records: &Records) {
    let answered = async {
        while records.object("go/x").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, answered).await.unwrap();
}

/// Also for who was away longer than changes are kept; from the beginning, if what it read before is there no more.
#[tokio::test]
async fn what_was_removed_is_known_later() {
    let postgres = Postgres::start().await;
    let settings = RecordsSettings::postgres(postgres.url().parse().unwrap());
    let records = Records::open(&settings).await.unwrap();
    let begin = Cursor::default();
    assert_eq!(records.removals_after(begin).await.unwrap(), None);
    records.forget_all(&["go/a", "go/b"]).await.unwrap();
    let (keys, read) = records.removals_after(begin).await.unwrap().unwrap();
    assert_eq!(keys, ["go/a", "go/b"]);
    let read: Cursor = read.to_string().parse().unwrap();
    assert_eq!(records.removals_after(read).await.unwrap(), None);
    records.forget_all(&["go/c"]).await.unwrap();
    let (keys, _) = records.removals_after(read).await.unwrap().unwrap();
    assert_eq!(keys, ["go/c"]);
    postgres
        .run_sql(&["UPDATE removals SET at_ms = 0 WHERE key = 'go/b'"])
        .await;
    let (keys, _) = records.removals_after(read).await.unwrap().unwrap();
    assert_eq!(keys, ["go/a", "go/b", "go/c"]);
}

#[tokio::test]
async fn postgres_rings() {
    let database = Database::postgres().await;
    let (one, other) = (database.open().await, database.open().await);
    let mut bell = other.bell(&[LEASES_CHANNEL]).await.unwrap().unwrap();
    one.announce(ChangeKind::Config, "").await.unwrap();
    assert_eq!(
        timeout(SOON, bell.ring()).await.unwrap().unwrap(),
        Ring::Changes
    );
    let lease = one
        .take_lease("go/x", "one", 60_000)
        .await
        .unwrap()
        .unwrap();
    one.release_lease("go/x", lease.token).await.unwrap();
    assert_eq!(
        timeout(SOON, bell.ring()).await.unwrap().unwrap(),
        Ring::Other(LEASES_CHANNEL.to_owned(), "go/x".to_owned())
    );
    let sqlite = Database::sqlite();
    assert!(sqlite.open().await.bell(&[]).await.unwrap().is_none());
}

#[tokio::test]
async fn leases_are_held_by_one_and_expire() {
    let database = Database::postgres().await;
    let (one, other) = (database.open().await, database.open().await);
    let first = one
        .take_lease("go/x", "one", 60_000)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        other.take_lease("go/x", "other", 60_000).await.unwrap(),
        None
    );
    assert!(other.lease_left("go/x").await.unwrap().unwrap() > 50_000);
    assert!(one.renew_lease("go/x", first.token, 1).await.unwrap());
    // One millisecond is over with the next answer at the latest.
    let second = async {
        loop {
            if let Some(lease) = other.take_lease("go/x", "other", 60_000).await.unwrap() {
                return lease;
            }
        }
    };
    let second = timeout(SOON, second).await.unwrap();
    assert!(second.token > first.token);
    assert!(!one.renew_lease("go/x", first.token, 60_000).await.unwrap());
    // Of no effect: it is not the first one's any more.
    one.release_lease("go/x", first.token).await.unwrap();
    assert!(other.lease_left("go/x").await.unwrap().is_some());
    other.release_lease("go/x", second.token).await.unwrap();
    assert_eq!(other.lease_left("go/x").await.unwrap(), None);
    let third = one
        .take_lease("go/x", "one", 60_000)
        .await
        .unwrap()
        .unwrap();
    assert!(third.token > second.token);
}

/// A primary whose standby is away answers who reads, and lets who writes wait for ever.
#[tokio::test]
async fn postgres_that_takes_no_writes_is_waited_for_once() {
    let postgres = Postgres::start().await;
    let settings = RecordsSettings::Postgres {
        url: postgres.url().parse().unwrap(),
        max_connections: 4,
        timeout: Duration::from_secs(1),
    };
    let records = Records::open(&settings).await.unwrap();
    records.announce(ChangeKind::Forget, "a").await.unwrap();
    let reload = "SELECT pg_reload_conf()";
    postgres
        .run_sql(&[
            "ALTER SYSTEM SET synchronous_standby_names = 'gone'",
            reload,
        ])
        .await;
    timeout(SOON, async {
        while records.announce(ChangeKind::Forget, "b").await.is_ok() {}
    })
    .await
    .unwrap();
    // Longer than it takes to find out that it answers who reads.
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let error = records.announce(ChangeKind::Forget, "c").await.unwrap_err();
        assert_eq!(error.kind, RecordsErrorKind::Timeout);
        let error = error.to_string();
        assert!(error.contains("in time before"), "waited again: {error}");
        records.object("go/a.example/m/@v/v1.0.0.zip").await.ok();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    records
        .object("go/a.example/m/@v/v1.0.0.zip")
        .await
        .unwrap();
    let error = records.probe().await.unwrap_err().to_string();
    assert!(error.contains("takes what is written"), "{error}");

    postgres
        .run_sql(&["ALTER SYSTEM RESET synchronous_standby_names", reload])
        .await;
    timeout(SOON, async {
        while records.announce(ChangeKind::Forget, "d").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    records.probe().await.unwrap();
}
