//! The epoch of the configuration: the one that a replica took last, by its digest. A replica with another one looks at
//! its own files again, and says so if they still differ.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use records::ChangeKind;
use tokio::sync::Notify;

use crate::gateway::Gateway;

/// For how long news of the configuration that this replica had before may be old: others took it when it did, and the
/// news was slower than the next one.
const LATE: Duration = Duration::from_secs(5);

/// What is known of the epoch.
#[derive(Debug, Default)]
pub(crate) struct Epoch {
    digests: Mutex<Digests>,
    /// Told when another replica took a configuration that is not this one's.
    differs: Notify,
}

#[derive(Debug, Default)]
struct Digests {
    own: String,
    /// The one before it, and when it was given up.
    before: Option<(String, Instant)>,
    /// The one that was taken last, here or elsewhere.
    newest: String,
    /// The last one that was complained of.
    complained: String,
}

impl Epoch {
    fn digests(&self) -> MutexGuard<'_, Digests> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the configuration in effect is another one than before.
    fn take(&self, digest: &str) -> bool {
        let mut digests = self.digests();
        let changed = digests.own != digest;
        if changed {
            let before = std::mem::take(&mut digests.own);
            *digests = Digests {
                before: (!before.is_empty()).then(|| (before, Instant::now())),
                own: digest.to_owned(),
                newest: digest.to_owned(),
                complained: String::new(),
            };
        }
        changed
    }

    fn heard(&self, digest: &str) {
        let mut digests = self.digests();
        if let Some((before, given_up)) = &digests.before
            && before == digest
            && given_up.elapsed() < LATE
        {
            return;
        }
        digest.clone_into(&mut digests.newest);
        if digests.own != digest {
            self.differs.notify_one();
        }
    }

    /// Whether this replica's configuration is not the newest.
    fn is_behind(&self) -> bool {
        let digests = self.digests();
        digests.own != digests.newest
    }

    /// The newest, if it differs and that was not said yet.
    fn complaint(&self) -> Option<String> {
        let digests = &mut *self.digests();
        if digests.own == digests.newest || digests.complained == digests.newest {
            return None;
        }
        digests.complained.clone_from(&digests.newest);
        Some(digests.newest.clone())
    }
}

impl Gateway {
    /// Notes the digest of the configuration in effect, and tells the other replicas if it is another one than before.
    /// To be called within a Tokio runtime, once the other replicas are followed.
    pub fn take_epoch(&self, digest: &str) {
        if !self.epoch.take(digest) || self.is_alone() {
            return;
        }
        // With who took it: its own news comes back to it, perhaps after another's that is newer.
        let news = format!("{digest} {}", self.via());
        let records = Arc::clone(&self.records);
        self.tasks.spawn(async move {
            if let Err(error) = records.announce(ChangeKind::Config, &news).await {
                tracing::warn!(%error, "the other replicas do not hear of the new configuration");
            }
        });
    }

    /// Comes back when another replica took a configuration that is not this one's.
    pub async fn epoch_differs(&self) {
        self.epoch.differs.notified().await;
    }

    /// Warns, once for each, of a newest configuration that this replica does not have, after it read its own again.
    pub fn compare_epoch(&self) {
        if let Some(newest) = self.epoch.complaint() {
            tracing::warn!(
                newest,
                "another replica took a configuration that differs from this one's, which its files still say: \
                 compare `modgate check` on both, which shows this digest"
            );
        }
    }

    pub(crate) fn hear_epoch(&self, news: &str) {
        let (digest, by) = news.split_once(' ').unwrap_or((news, ""));
        if by != self.via() {
            self.epoch.heard(digest);
        }
    }

    /// Whether the newest configuration among the replicas is not this one's; none if there are no others.
    pub(crate) fn epoch_is_behind(&self) -> Option<bool> {
        (!self.is_alone()).then(|| self.epoch.is_behind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_taken_is_the_newest() {
        let epoch = Epoch::default();
        assert!(epoch.take("a"));
        assert!(!epoch.take("a"), "the same again is no news");
        assert!(!epoch.is_behind());
        epoch.heard("b");
        assert!(epoch.is_behind());
        assert_eq!(epoch.complaint().as_deref(), Some("b"));
        assert_eq!(epoch.complaint(), None, "said once");
        assert!(epoch.take("b"), "its own files say the same now");
        assert!(!epoch.is_behind());
        // Its own news comes back.
        epoch.heard("b");
        assert!(!epoch.is_behind());
        epoch.heard("a");
        assert!(!epoch.is_behind(), "late news of what it had itself");
        let before = epoch.digests().before.take();
        assert_eq!(before.unwrap().0, "a");
        epoch.heard("a");
        assert_eq!(epoch.complaint().as_deref(), Some("a"), "taken back");
    }
}
