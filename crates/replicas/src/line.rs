//! The line between replicas: what rings, and what is told over it where there are no records to share.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use object_store::{
    Error, GetOptions, ObjectStore, PutMode, PutOptions, UpdateVersion, path::Path,
};
use records::{ChangeKind, LEASES_CHANNEL, Records, Ring};
use serde::{Deserialize, Serialize};
use store::tier::is_absent;
use tokio::{
    sync::{Notify, broadcast, mpsc},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Coordinate, ReplicasError, Told,
    redis::Connection,
    storage::{failed, is_other},
};

mod by_redis;

/// Between two tries to listen again.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at the object in which changes are told.
const POLL: Duration = Duration::from_millis(800);
/// Changes that are told in one object.
const MAX_TOLD: usize = 256;
/// Tries to write one, against others that do.
const TRIES: u32 = 8;
/// Between two of them, times how many there were.
const PAUSE: Duration = Duration::from_millis(20);
const MAX_BYTES: u64 = 4 << 20;
const QUEUE: usize = 256;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Message {
    #[serde(default)]
    seq: u64,
    from: String,
    kind: String,
    key: String,
}

impl Message {
    fn told(self) -> Told {
        match ChangeKind::named(&self.kind) {
            ChangeKind::Everything => Told::Everything,
            kind => Told::Change(kind, self.key),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Line {
    released: broadcast::Sender<Arc<str>>,
    bell: Arc<Notify>,
    heard: mpsc::Receiver<Told>,
    /// Kept, so that `heard` does not end where nobody else speaks.
    _speaker: mpsc::Sender<Told>,
    teller: Option<Teller>,
    holder: String,
    stop: CancellationToken,
}

/// How others are told where records are not shared.
#[derive(Debug)]
enum Teller {
    Redis(Box<Connection>, by_redis::Names),
    Storage(Board),
}

impl Line {
    pub(crate) fn start(coordinate: &Coordinate, records: &Arc<Records>, holder: &str) -> Self {
        let (released, _) = broadcast::channel(QUEUE);
        let (speaker, heard) = mpsc::channel(QUEUE);
        let bell = Arc::new(Notify::new());
        let stop = CancellationToken::new();
        let listen = |listening: futures_util::future::BoxFuture<'static, ()>| {
            let stop = stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(listening).await });
        };
        if records.shared() {
            listen(Box::pin(hear_postgres(
                Arc::clone(records),
                Arc::clone(&bell),
                released.clone(),
            )));
        }
        let mut teller = None;
        match coordinate {
            Coordinate::Redis {
                client,
                prefix,
                timeout,
            } => {
                let names = by_redis::Names::new(prefix);
                let connection = Connection::new(*client.clone(), *timeout);
                teller = Some(Teller::Redis(Box::new(connection), names.clone()));
                let hearing = by_redis::Hearing {
                    client: *client.clone(),
                    connection: Connection::new(*client.clone(), *timeout),
                    names,
                    limit: *timeout,
                    released: released.clone(),
                    speaker: speaker.clone(),
                    holder: holder.to_owned(),
                };
                listen(Box::pin(hearing.hear()));
            }
            Coordinate::Storage {
                store,
                prefix,
                timeout,
            } if !records.shared() => {
                let board = Board {
                    store: Arc::clone(store),
                    path: prefix.clone().join("_modgate").join("changes"),
                    timeout: *timeout,
                };
                teller = Some(Teller::Storage(board.clone()));
                listen(Box::pin(hear_storage(
                    board,
                    speaker.clone(),
                    holder.to_owned(),
                )));
            }
            // Who has PostgreSQL tells by it.
            Coordinate::Alone | Coordinate::Postgres | Coordinate::Storage { .. } => {}
        }
        Self {
            released,
            bell,
            heard,
            _speaker: speaker,
            teller,
            holder: holder.to_owned(),
            stop,
        }
    }

    pub(crate) fn alone(&self) -> bool {
        self.teller.is_none()
    }

    /// Whether others hear what is told at once, and do not have to look for it.
    pub(crate) fn tells_at_once(&self) -> bool {
        matches!(self.teller, Some(Teller::Redis(..)))
    }

    pub(crate) fn released(&self) -> broadcast::Sender<Arc<str>> {
        self.released.clone()
    }

    pub(crate) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    pub(crate) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// What another replica told.
    pub(crate) async fn hear(&mut self) -> Told {
        match self.heard.recv().await {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }

    /// Tells other replicas, as well as can be.
    pub(crate) async fn tell(&self, kind: ChangeKind, key: &str) {
        let message = Message {
            seq: 0,
            from: self.holder.clone(),
            kind: kind.name().to_owned(),
            key: key.to_owned(),
        };
        let told = match &self.teller {
            None => Ok(()),
            Some(Teller::Redis(connection, names)) => {
                by_redis::tell(connection, names, message).await
            }
            Some(Teller::Storage(board)) => board.write(&message).await,
        };
        if let Err(error) = told {
            tracing::warn!(%error, kind = kind.name(), "cannot tell other replicas of a change");
        }
    }
}

async fn hear_postgres(
    records: Arc<Records>,
    bell: Arc<Notify>,
    released: broadcast::Sender<Arc<str>>,
) {
    loop {
        match records.bell(&[LEASES_CHANNEL]).await {
            Ok(None) => return,
            Ok(Some(mut listening)) => loop {
                // Something may have been told while nobody listened.
                bell.notify_one();
                match listening.ring().await {
                    Ok(Ring::Changes) => {}
                    Ok(Ring::Other(_, key)) => drop(released.send(key.into())),
                    Err(error) => {
                        tracing::debug!(%error, "PostgreSQL does not tell of changes; looking every second");
                        break;
                    }
                }
            },
            Err(error) => {
                tracing::debug!(%error, "PostgreSQL does not tell of changes; looking every second");
            }
        }
        sleep(AGAIN).await;
    }
}

/// An object on which replicas write what changed, one after another.
#[derive(Clone)]
struct Board {
    store: Arc<dyn ObjectStore>,
    path: Path,
    timeout: Duration,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Board")
    }
}

/// What is on it, and its version.
type Written = (VecDeque<Message>, UpdateVersion);

impl Board {
    /// What is on it, unless it still has the version `known`.
    async fn read(&self, known: Option<&UpdateVersion>) -> Result<Option<Written>, ReplicasError> {
        let reading = async {
            let options = GetOptions {
                if_none_match: known.and_then(|known| known.e_tag.clone()),
                ..GetOptions::default()
            };
            let got = match self.store.get_opts(&self.path, options).await {
                Err(Error::NotModified { .. }) => return Ok(None),
                Err(error) if is_absent(&error) => return Ok(None),
                got => got.map_err(|error| failed(&error))?,
            };
            if got.meta.size > MAX_BYTES {
                return Err(ReplicasError::new("reading what changed", "it is too long"));
            }
            let version = UpdateVersion {
                e_tag: got.meta.e_tag.clone(),
                version: got.meta.version.clone(),
            };
            let bytes = got.bytes().await.map_err(|error| failed(&error))?;
            // One that is damaged is begun anew.
            Ok(Some((
                serde_json::from_slice(&bytes).unwrap_or_default(),
                version,
            )))
        };
        timeout(self.timeout, reading)
            .await
            .unwrap_or_else(|_| Err(ReplicasError::timeout("reading what changed")))
    }

    /// Again and again for a while: who does not hear of it now may never.
    async fn write(&self, message: &Message) -> Result<(), ReplicasError> {
        let mut failure = ReplicasError::new("telling", "too many others do");
        for again in 0..TRIES {
            if again > 0 {
                sleep(PAUSE * again).await;
            }
            match self.write_once(message).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// False if another replica wrote at the same time.
    async fn write_once(&self, message: &Message) -> Result<bool, ReplicasError> {
        let (mut messages, mode) = match self.read(None).await? {
            None => (VecDeque::new(), PutMode::Create),
            Some((messages, version)) => (messages, PutMode::Update(version)),
        };
        let seq = messages.back().map_or(0, |last| last.seq) + 1;
        messages.push_back(Message {
            seq,
            ..message.clone()
        });
        while messages.len() > MAX_TOLD {
            messages.pop_front();
        }
        let bytes =
            serde_json::to_vec(&messages).map_err(|error| ReplicasError::new("telling", error))?;
        let put = self
            .store
            .put_opts(&self.path, bytes.into(), PutOptions::from(mode));
        match timeout(self.timeout, put).await {
            Err(_) => Err(ReplicasError::timeout("telling")),
            Ok(Ok(_)) => Ok(true),
            Ok(Err(error)) if is_other(&error) => Ok(false),
            Ok(Err(error)) => Err(failed(&error)),
        }
    }
}

async fn hear_storage(board: Board, speaker: mpsc::Sender<Told>, holder: String) {
    // Known is a version that was seen twice: while it is being written, a service may give the version of one state with
    // the content of another, and who believed that would not see the new one.
    let (mut known, mut unsure) = (None, None);
    let mut seen: Option<u64> = None;
    loop {
        match board.read(known.as_ref()).await {
            Ok(Some((messages, version))) => {
                known = unsure
                    .replace(version.clone())
                    .filter(|last| *last == version);
                let newest = messages.back().map_or(0, |last| last.seq);
                let oldest = messages.front().map_or(0, |first| first.seq);
                let missed = seen.is_some_and(|seen| newest < seen || oldest > seen + 1);
                if missed && speaker.send(Told::Everything).await.is_err() {
                    return;
                }
                // What was there at the start is in what was read at the start.
                let after = seen.unwrap_or(newest);
                seen = Some(newest);
                for message in messages {
                    if message.seq > after
                        && message.from != holder
                        && speaker.send(message.told()).await.is_err()
                    {
                        return;
                    }
                }
            }
            // There is none yet: the first one is news.
            Ok(None) => seen = seen.or(Some(0)),
            Err(error) => tracing::debug!(%error, "object storage does not tell of changes"),
        }
        sleep(POLL).await;
    }
}
