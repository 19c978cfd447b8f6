//! Connections that are open and silent, as a firewall leaves them that forgot them.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use records::{ChangeKind, Records, RecordsSettings};
use replicas::{Coordinate, Replicas, Told};
use testkit::services::Redis;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
};

use super::SOON;

/// Passes bytes on, but not those of connections that are older than the last muffling.
struct Muffled {
    addr: SocketAddr,
    age: watch::Sender<u32>,
}

impl Muffled {
    async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (age, ages) = watch::channel(0);
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(target).await.unwrap();
                let ((from, to), (back, forth)) = (client.into_split(), server.into_split());
                tokio::spawn(pass(from, forth, ages.clone()));
                tokio::spawn(pass(back, to, ages.clone()));
            }
        });
        Self { addr, age }
    }

    fn muffle(&self) {
        self.age.send_modify(|age| *age += 1);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, ages: watch::Receiver<u32>) {
    let born = *ages.borrow();
    let mut block = vec![0; 4096];
    while let Ok(read) = from.read(&mut block).await {
        if read == 0 {
            return;
        }
        if *ages.borrow() != born {
            std::future::pending::<()>().await;
        }
        if to.write_all(&block[..read]).await.is_err() {
            return;
        }
    }
}

async fn join(
    addr: SocketAddr,
    name: &str,
    folder: &tempfile::TempDir,
) -> (Arc<Records>, Replicas) {
    let path = folder.path().join(name);
    let records = Records::open(&RecordsSettings::Sqlite { path }).await;
    let records = Arc::new(records.unwrap());
    let coordinate = Coordinate::Redis {
        client: Box::new(redis::Client::open(format!("redis://{addr}")).unwrap()),
        prefix: "test:".to_owned(),
        timeout: Duration::from_millis(500),
    };
    let replicas = Replicas::start(coordinate, &records, None, name);
    (records, replicas)
}

/// Says one thing over and over until another hears it: both listen from then on.
async fn meet(one: &(Arc<Records>, Replicas), other: &(Arc<Records>, Replicas)) {
    let say = async {
        loop {
            one.0.announce(ChangeKind::Forget, "hello").await.unwrap();
            one.1.announcements.look();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let hear = hears(other, "hello");
    tokio::select! { () = say => {} () = hear => {} }
}

async fn hears(other: &(Arc<Records>, Replicas), key: &str) {
    let hear = async {
        loop {
            let told = other.1.announcements.next().await.unwrap();
            if told == Told::Change(ChangeKind::Forget, key.to_owned()) {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, hear).await.unwrap();
}

#[tokio::test]
async fn a_silent_connection_to_redis_is_noticed_and_nothing_is_missed() {
    let (redis, folder) = (Redis::start().await, tempfile::tempdir().unwrap());
    let muffled = Muffled::start(redis.addr()).await;
    let one = join(redis.addr(), "one", &folder).await;
    let other = join(muffled.addr, "other", &folder).await;
    meet(&one, &other).await;
    for round in 0..3 {
        muffled.muffle();
        let key = format!("round {round}");
        let told = Instant::now();
        one.0.announce(ChangeKind::Forget, &key).await.unwrap();
        one.1.announcements.look();
        hears(&other, &key).await;
        let took = told.elapsed();
        println!("heard after {took:?}");
        assert!(took < SOON / 2, "{took:?}");
    }
}

#[tokio::test]
async fn where_the_address_leads_to_another_redis_that_one_is_asked() {
    let (old, new) = tokio::join!(Redis::start(), Redis::start());
    let (target, targets) = watch::channel(old.addr());
    let line = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = line.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = line.accept().await {
            let target = *targets.borrow();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let one = join(addr, "one", &folder).await;
    let lease = one.1.leases.acquire("before", replicas::LEASE).await;
    lease.unwrap().unwrap().release().await;

    // The old one goes on as a copy, and closes no connection.
    let client = redis::Client::open(old.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut copy = redis::cmd("REPLICAOF");
    copy.arg("127.0.0.1").arg(new.addr().port());
    let _: () = copy.query_async(&mut connection).await.unwrap();
    let refused = one.1.leases.acquire("meanwhile", replicas::LEASE).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("READONLY"), "{refused}");
    target.send_replace(new.addr());
    let lease = one.1.leases.acquire("after", replicas::LEASE).await;
    lease.unwrap().unwrap().release().await;
}
