//! What changed elsewhere: read from the records' changes when a bell rings, and every second whether it rings or not.
//!
//! Where each replica has records of its own, what changes in them is told to the others over Redis or object storage.

use std::{sync::Arc, time::Duration};

use records::{ChangeKind, Cursor, News, Records};
use tokio::{
    sync::{Mutex, Notify, mpsc},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{SharedFacts, line::Line};

/// Between two looks, though no bell rings. Others are to know within 2 s.
const POLL: Duration = Duration::from_secs(1);
/// The same for a process that shares nothing: only commands change what it has, and their writing is seen.
const POLL_ALONE: Duration = Duration::from_secs(5);
/// Who could not look for so long may have missed what was pruned.
const AWAY: Duration = Duration::from_mins(30);
const QUEUE: usize = 1024;

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// One thing.
    Change(ChangeKind, String),
    /// Something may have been missed: all shared facts must be read anew.
    Everything,
}

/// What changed, here or elsewhere.
#[derive(Debug)]
pub struct Announcements {
    told: Mutex<mpsc::Receiver<Told>>,
    bell: Arc<Notify>,
    stop: CancellationToken,
}

impl Announcements {
    pub(crate) fn start(
        records: &Arc<Records>,
        facts: Option<Arc<SharedFacts>>,
        line: Line,
    ) -> Self {
        let (sender, told) = mpsc::channel(QUEUE);
        let (bell, stop) = (line.bell(), line.stop());
        let written = Arc::new(Notify::new());
        if let Some(facts) = &facts {
            let comparing = compare(Arc::clone(facts), Arc::clone(&bell), Arc::clone(&written));
            let comparing = Box::pin(comparing);
            let stopped = stop.clone();
            tokio::spawn(async move { stopped.run_until_cancelled(comparing).await });
        }
        let follower = Follower {
            records: Arc::clone(records),
            facts,
            written,
            line,
            sender,
        };
        let stopped = stop.clone();
        let following = Box::pin(follower.follow());
        tokio::spawn(async move { stopped.run_until_cancelled(following).await });
        Self {
            told: Mutex::new(told),
            bell,
            stop,
        }
    }

    /// Waits for the next change; none when this replica has left. One that this process made itself is told too.
    pub async fn next(&self) -> Option<Told> {
        self.told.lock().await.recv().await
    }

    /// Looks now: somebody saw the records being written.
    pub fn look(&self) {
        self.bell.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Announcements {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Compares the shared facts again and again. Apart from the rest, which must not wait for what cannot be reached.
async fn compare(facts: Arc<SharedFacts>, bell: Arc<Notify>, written: Arc<Notify>) {
    let mut away = false;
    loop {
        match facts.compare().await {
            Ok(compared) => {
                if away {
                    tracing::info!("what replicas share can be compared again");
                }
                away = false;
                if compared.retired {
                    bell.notify_one();
                }
                if compared.wrote {
                    written.notify_one();
                }
            }
            Err(error) => {
                if !away {
                    tracing::warn!(%error, "cannot compare what replicas share; trying again. What is retired meanwhile is known here only");
                }
                away = true;
            }
        }
        facts.pause().await;
    }
}

struct Follower {
    records: Arc<Records>,
    facts: Option<Arc<SharedFacts>>,
    /// Told when this replica wrote the shared facts.
    written: Arc<Notify>,
    line: Line,
    sender: mpsc::Sender<Told>,
}

impl Follower {
    async fn follow(mut self) {
        let bell = self.line.bell();
        let poll = if self.line.alone() && !self.records.shared() {
            POLL_ALONE
        } else {
            POLL
        };
        let mut seq = self.begin().await;
        let mut looked = Instant::now();
        let mut away = false;
        loop {
            let heard = tokio::select! {
                () = bell.notified() => None,
                () = sleep(poll) => None,
                () = self.written.notified() => {
                    // Where telling is no quicker than looking, they look.
                    if self.line.tells_at_once() {
                        self.line.tell(ChangeKind::Tombstones, "").await;
                    }
                    continue;
                }
                heard = self.line.hear() => Some(heard),
            };
            if let Some(heard) = heard {
                self.look_at_facts(&heard);
                if self.sender.send(heard).await.is_err() {
                    return;
                }
                continue;
            }
            loop {
                let news = match self.records.changes_since(seq).await {
                    Ok(news) => news,
                    Err(error) => {
                        if !away {
                            tracing::warn!(%error, "cannot read what changed; trying again");
                        }
                        away = true;
                        break;
                    }
                };
                if away {
                    tracing::info!("what changed can be read again");
                    away = false;
                }
                if news.gap {
                    tracing::warn!(
                        "changes are missing in the records, or they are not the ones that they were: all is read anew"
                    );
                }
                let missed = news.gap || looked.elapsed() > AWAY;
                looked = Instant::now();
                seq = news.seq;
                let more = news.more;
                if !self.tell(news, missed).await {
                    return;
                }
                if !more {
                    break;
                }
            }
        }
    }

    /// Where to begin. Whoever listens reads the facts once it listens, so that nothing falls in between.
    async fn begin(&self) -> Cursor {
        if self.records.fresh() {
            return Cursor::default();
        }
        loop {
            match self.records.last_change().await {
                Ok(seq) => {
                    let _ = self.sender.send(Told::Everything).await;
                    return seq;
                }
                Err(error) => tracing::warn!(%error, "cannot read what changed; trying again"),
            }
            sleep(POLL).await;
        }
    }

    /// They may be other ones, or lack what was said here.
    fn look_at_facts(&self, told: &Told) {
        if let Some(facts) = &self.facts
            && matches!(
                told,
                Told::Everything | Told::Change(ChangeKind::Tombstones, _)
            )
        {
            facts.look();
        }
    }

    /// Passes news on; false if nobody listens.
    async fn tell(&self, news: News, missed: bool) -> bool {
        if missed && self.sender.send(Told::Everything).await.is_err() {
            return false;
        }
        for change in news.changes {
            // What is retired the others read in the shared facts, once it is there.
            let in_facts = change.kind == ChangeKind::Tombstones && self.facts.is_some();
            if !self.records.shared() && !in_facts {
                self.line.tell(change.kind, &change.key).await;
            }
            let told = match change.kind {
                ChangeKind::Everything => Told::Everything,
                kind => Told::Change(kind, change.key),
            };
            self.look_at_facts(&told);
            if self.sender.send(told).await.is_err() {
                return false;
            }
        }
        true
    }
}
