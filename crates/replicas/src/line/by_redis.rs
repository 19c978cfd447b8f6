//! What is told over Redis: a channel that rings at once, and a stream that is looked into whether it rings or not.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::{
    sync::{Notify, broadcast, mpsc},
    time::{sleep, timeout},
};

use super::{AGAIN, Message, POLL};
use crate::{
    ReplicasError, Told,
    redis::{Connection, released_channel},
};

/// A channel that is silent for so long is asked whether it is there.
const SILENT: Duration = Duration::from_secs(3);
/// Comes before every id.
const BEGINNING: &str = "0-0";

/// Where it is told.
#[derive(Clone, Debug)]
pub(super) struct Names {
    changes: String,
    stream: String,
    released: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            changes: format!("{prefix}{{modgate}}:changes"),
            stream: format!("{prefix}{{modgate}}:told"),
            released: released_channel(prefix),
        }
    }
}

pub(super) async fn tell(
    connection: &Connection,
    names: &Names,
    message: Message,
) -> Result<(), ReplicasError> {
    // Marks what stands in the stream too, which older replicas do not write.
    let message = Message { seq: 1, ..message };
    let text = serde_json::to_string(&message);
    let text = text.map_err(|error| ReplicasError::new("telling", error))?;
    connection.tell(&names.changes, &names.stream, &text).await
}

/// Who listens.
pub(super) struct Hearing {
    pub(super) client: ::redis::Client,
    pub(super) connection: Connection,
    pub(super) names: Names,
    pub(super) limit: Duration,
    pub(super) released: broadcast::Sender<Arc<str>>,
    pub(super) speaker: mpsc::Sender<Told>,
    pub(super) holder: String,
}

/// Nobody wants to hear any more.
struct Ended;

impl Hearing {
    pub(super) async fn hear(self) {
        let rung = Notify::new();
        tokio::select! {
            Ended = self.listen(&rung) => {}
            Ended = self.look(&rung) => {}
        }
    }

    async fn say(&self, told: Told) -> Result<(), Ended> {
        self.speaker.send(told).await.map_err(|_| Ended)
    }

    async fn listen(&self, rung: &Notify) -> Ended {
        let names = &self.names;
        loop {
            let subscribe = async {
                let mut subscribed = self.client.get_async_pubsub().await?;
                subscribed.subscribe(&names.changes).await?;
                subscribed.subscribe(&names.released).await?;
                Ok::<_, ::redis::RedisError>(subscribed)
            };
            let limit = self.limit.max(AGAIN);
            if let Ok(Ok(subscribed)) = timeout(limit, subscribe).await {
                rung.notify_one();
                let (mut asking, mut messages) = subscribed.split();
                loop {
                    let message = match timeout(SILENT, messages.next()).await {
                        Ok(Some(message)) => message,
                        Ok(None) => break,
                        Err(_) => {
                            let ping = asking.ping::<::redis::Value>();
                            if matches!(timeout(limit, ping).await, Ok(Ok(_))) {
                                continue;
                            }
                            break;
                        }
                    };
                    let Ok(text) = message.get_payload::<String>() else {
                        continue;
                    };
                    if message.get_channel_name() == names.released {
                        let _ = self.released.send(text.into());
                    } else if let Ok(message) = serde_json::from_str::<Message>(&text) {
                        if message.seq > 0 {
                            rung.notify_one();
                        } else if message.from != self.holder
                            && let Err(ended) = self.say(message.told()).await
                        {
                            return ended;
                        }
                    }
                }
                tracing::debug!("Redis does not tell of changes; trying again");
            }
            sleep(AGAIN).await;
        }
    }

    /// Reads what was told, when it rings and every now and then.
    async fn look(&self, rung: &Notify) -> Ended {
        // What was there at the start is in what was read at the start.
        let mut seen: Option<String> = None;
        loop {
            let after = seen.as_deref().unwrap_or("$");
            let more = match self.connection.told(&self.names.stream, after).await {
                Ok(told) => match self.pass_on(&mut seen, told).await {
                    Ok(more) => more,
                    Err(ended) => return ended,
                },
                Err(error) => {
                    tracing::debug!(%error, "Redis does not say what changed");
                    false
                }
            };
            if !more {
                let _ = timeout(POLL, rung.notified()).await;
            }
        }
    }

    /// Returns whether there is more.
    async fn pass_on(&self, seen: &mut Option<String>, told: Vec<String>) -> Result<bool, Ended> {
        let mut told = told.into_iter();
        let (newest, oldest) = (
            told.next().unwrap_or_default(),
            told.next().unwrap_or_default(),
        );
        let begin = || BEGINNING.to_owned();
        let Some(last) = seen else {
            *seen = Some(
                Some(newest)
                    .filter(|id| !id.is_empty())
                    .unwrap_or_else(begin),
            );
            return Ok(false);
        };
        // The last one that was read was cut off, or the stream was lost and began anew.
        let missed = id(last) > id(BEGINNING) && (id(&oldest) > id(last) || id(&newest) < id(last));
        if missed {
            self.say(Told::Everything).await?;
            *last = begin();
            // Nothing of what is there was heard.
            return Ok(!newest.is_empty());
        }
        while let (Some(id), Some(text)) = (told.next(), told.next()) {
            *last = id;
            if let Ok(message) = serde_json::from_str::<Message>(&text)
                && message.from != self.holder
            {
                self.say(message.told()).await?;
            }
        }
        Ok(id(last) < id(&newest))
    }
}

/// The two numbers of an id, by which ids are in order.
fn id(text: &str) -> (u64, u64) {
    let (time, count) = text.split_once('-').unwrap_or((text, ""));
    (
        time.parse().unwrap_or_default(),
        count.parse().unwrap_or_default(),
    )
}
