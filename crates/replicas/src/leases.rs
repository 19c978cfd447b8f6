//! Leases: held by one replica, renewed while it works, over soon when it dies.

use std::{sync::Arc, time::Duration};

use records::Records;
use tokio::{
    sync::{broadcast, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Coordinate, ReplicasError, postgres::PostgresLeases, redis::RedisLeases, storage::StorageLeases,
};

/// Between two looks at a lease of which nobody tells the end.
const POLL: Duration = Duration::from_millis(100);
/// The same where its end is told, in case that was missed.
const POLL_BESIDE: Duration = Duration::from_secs(1);

/// Who fetches.
#[derive(Debug)]
pub struct Leases {
    backend: Arc<Backend>,
    /// Keys of leases that were given back.
    released: broadcast::Sender<Arc<str>>,
    /// The renewals of those that are held.
    held: TaskTracker,
}

#[derive(Debug)]
enum Backend {
    None,
    Postgres(PostgresLeases),
    Redis(Box<RedisLeases>),
    Storage(StorageLeases),
}

/// What one backend knows of a lease that is held.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) key: Arc<str>,
    pub(crate) token: u64,
    /// Object storage's version of it.
    pub(crate) version: Option<object_store::UpdateVersion>,
}

/// How a wait for somebody else's lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// It is gone: what its holder fetched is there, or can be fetched.
    Gone,
    /// It is still held after the longest time.
    StillHeld,
}

/// A lease that this replica holds. It ends when it is dropped.
#[derive(Debug)]
pub struct Lease {
    token: u64,
    lost: CancellationToken,
    end: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<()>>,
}

impl Lease {
    /// One of nobody else's matter: this process is alone.
    fn alone() -> Self {
        Self {
            token: 0,
            lost: CancellationToken::new(),
            end: None,
            ended: None,
        }
    }

    /// Greater than that of whoever held the key before, as far as the backend can tell.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Whether another may have it by now: this replica could not renew it in time.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Waits until it is lost.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Gives it back, and waits until those who wait for it can know.
    pub async fn release(mut self) {
        self.end = None;
        if let Some(ended) = self.ended.take() {
            let _ = ended.await;
        }
    }
}

impl Leases {
    pub(crate) fn new(
        coordinate: &Coordinate,
        records: &Arc<Records>,
        holder: &str,
        released: broadcast::Sender<Arc<str>>,
    ) -> Self {
        let backend = match coordinate {
            Coordinate::Alone => Backend::None,
            Coordinate::Postgres => Backend::Postgres(PostgresLeases::new(records, holder)),
            Coordinate::Redis {
                client,
                prefix,
                timeout,
            } => Backend::Redis(Box::new(RedisLeases::new(
                *client.clone(),
                prefix,
                *timeout,
            ))),
            Coordinate::Storage {
                store,
                prefix,
                timeout,
            } => Backend::Storage(StorageLeases::new(
                Arc::clone(store),
                prefix,
                holder,
                *timeout,
            )),
        };
        Self {
            backend: Arc::new(backend),
            released,
            held: TaskTracker::new(),
        }
    }

    /// Whether there are others at all.
    pub fn alone(&self) -> bool {
        matches!(*self.backend, Backend::None)
    }

    /// Takes the lease of a key, if nobody else holds it. It is renewed until it is dropped; should this process die, it
    /// is over after `ttl`.
    pub async fn acquire(&self, key: &str, ttl: Duration) -> Result<Option<Lease>, ReplicasError> {
        if self.alone() {
            return Ok(Some(Lease::alone()));
        }
        let asked = Instant::now();
        let Some(held) = self.backend.take(key, ttl).await? else {
            return Ok(None);
        };
        let lost = CancellationToken::new();
        let (end, told) = oneshot::channel();
        let (done, ended) = oneshot::channel();
        let token = held.token;
        let backend = Arc::clone(&self.backend);
        let renewal = renew(backend, held, ttl, asked, told, lost.clone());
        self.held.spawn(async move {
            renewal.await;
            let _ = done.send(());
        });
        Ok(Some(Lease {
            token,
            lost,
            end: Some(end),
            ended: Some(ended),
        }))
    }

    /// Waits until the lease of a key is given back or over, for no longer than `limit`.
    pub async fn wait(&self, key: &str, limit: Duration) -> Result<Waited, ReplicasError> {
        // Before the first look, so that nothing is missed after it.
        let mut released = self.released.subscribe();
        let told = self.backend.tells();
        let gone = async {
            loop {
                let left = self.backend.left(key).await?;
                let Some(left) = left.filter(|left| !left.is_zero()) else {
                    return Ok(Waited::Gone);
                };
                let poll = if told { POLL_BESIDE } else { POLL };
                let look_again = sleep(jittered(poll.min(left)));
                tokio::select! {
                    () = look_again => {}
                    () = until_told(&mut released, key) => return Ok(Waited::Gone),
                }
            }
        };
        timeout(limit, gone).await.unwrap_or(Ok(Waited::StillHeld))
    }

    /// Waits until all that were dropped are given back.
    pub(crate) async fn close(&self, limit: Duration) {
        self.held.close();
        if timeout(limit, self.held.wait()).await.is_err() {
            tracing::warn!("some leases were not given back: they are over in a few seconds");
        }
    }
}

impl Backend {
    async fn take(&self, key: &str, ttl: Duration) -> Result<Option<Held>, ReplicasError> {
        match self {
            Self::None => Ok(None),
            Self::Postgres(leases) => leases.take(key, ttl).await,
            Self::Redis(leases) => leases.take(key, ttl).await,
            Self::Storage(leases) => leases.take(key, ttl).await,
        }
    }

    /// False if another has it.
    async fn renew(&self, held: &mut Held, ttl: Duration) -> Result<bool, ReplicasError> {
        match self {
            Self::None => Ok(true),
            Self::Postgres(leases) => leases.renew(held, ttl).await,
            Self::Redis(leases) => leases.renew(held, ttl).await,
            Self::Storage(leases) => leases.renew(held, ttl).await,
        }
    }

    async fn release(&self, held: &Held) -> Result<(), ReplicasError> {
        match self {
            Self::None => Ok(()),
            Self::Postgres(leases) => leases.release(held).await,
            Self::Redis(leases) => leases.release(held).await,
            Self::Storage(leases) => leases.release(held).await,
        }
    }

    /// How long the lease of a key still lives, if nobody renews it; none if nobody has it.
    async fn left(&self, key: &str) -> Result<Option<Duration>, ReplicasError> {
        match self {
            Self::None => Ok(None),
            Self::Postgres(leases) => leases.left(key).await,
            Self::Redis(leases) => leases.left(key).await,
            Self::Storage(leases) => leases.left(key).await,
        }
    }

    /// Whether the end of a lease is told.
    fn tells(&self) -> bool {
        matches!(self, Self::Postgres(_) | Self::Redis(_))
    }
}

/// Renews a lease three times in its life until told to end, then gives it back.
async fn renew(
    backend: Arc<Backend>,
    mut held: Held,
    ttl: Duration,
    mut confirmed: Instant,
    mut end: oneshot::Receiver<()>,
    lost: CancellationToken,
) {
    loop {
        tokio::select! {
            _ = &mut end => break,
            () = sleep(ttl / 3) => {}
        }
        let asked = Instant::now();
        match timeout(ttl / 3, backend.renew(&mut held, ttl)).await {
            Ok(Ok(true)) => confirmed = asked,
            // Perhaps the next one does.
            Ok(Err(_)) | Err(_) if confirmed.elapsed() < ttl => {}
            _ => return lose(&held.key, &lost),
        }
    }
    // One that may be over is left alone: another may have it.
    if confirmed.elapsed() < ttl * 2 / 3 {
        match timeout(ttl / 3, backend.release(&held)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(key = %held.key, %error, "a lease is not given back, it ends by itself")
            }
            Err(_) => {
                tracing::debug!(key = %held.key, "a lease is not given back in time, it ends by itself")
            }
        }
    }
}

fn lose(key: &str, lost: &CancellationToken) {
    tracing::warn!(
        key,
        "a lease was lost: another replica may do the same work"
    );
    lost.cancel();
}

async fn until_told(released: &mut broadcast::Receiver<Arc<str>>, key: &str) {
    use broadcast::error::RecvError;
    loop {
        match released.recv().await {
            Ok(told) if *told == *key => return,
            // Another's; or too many at once, and then the caller's clock sees to a look.
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Between half of it and all of it, so that many who wait do not look at the same time.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    let _ = getrandom::fill(&mut byte);
    pause / 2 + pause.mul_f32(f32::from(byte[0]) / 512.0)
}
