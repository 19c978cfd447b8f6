//! Probes of an upstream that was passed over or failed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::{Asked, Pass, Peer};
use crate::breaker::Admission;

/// Longest wait of a background probe, so that a probe which hangs is soon followed by another.
pub(super) const PROBE_WITHIN: Duration = Duration::from_secs(4);
/// How long an upstream that is passed over is probed without traffic.
const WATCH: Duration = Duration::from_mins(10);
/// The shortest pause between two looks at it.
const SHORTEST_WATCH: Duration = Duration::from_millis(50);

impl Peer {
    /// Probes an upstream that was passed over, if its time open is over, with what was asked.
    /// The outcome goes to the breaker; the body is dropped.
    pub(crate) fn probe_in_background(self: &Arc<Self>, asked: &Arc<Asked>) {
        self.set_probing(asked);
        self.watch(Instant::now());
        if let Some(pass) = self.may_probe() {
            let (peer, asked) = (Arc::clone(self), Arc::clone(asked));
            tokio::spawn(async move { peer.probe(&asked, pass).await });
        }
    }

    fn may_probe(self: &Arc<Self>) -> Option<Pass> {
        let admission = self.health.breaker().probe(Instant::now(), false);
        (admission == Admission::Probe).then(|| Pass::new(Arc::clone(self), true))
    }

    async fn probe(self: &Arc<Self>, asked: &Arc<Asked>, pass: Pass) {
        let limit = self.settings.first_byte_timeout.min(PROBE_WITHIN);
        let _ = self.once(asked, pass, limit).await;
    }

    pub(super) fn set_probing(&self, asked: &Arc<Asked>) {
        *self.probing.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(asked));
    }

    pub(super) fn probing(&self) -> Option<Arc<Asked>> {
        let probing = self.probing.lock().unwrap_or_else(PoisonError::into_inner);
        probing.clone()
    }

    /// Probes it also while nobody asks, so that the first who does finds it in use again if it is
    /// back.
    pub(super) fn watch(self: &Arc<Self>, now: Instant) {
        if self.health.watched.swap(true, Ordering::AcqRel) {
            return;
        }
        // It may be gone by a change of the configuration; nobody's traffic needs it then.
        let (peer, health) = (Arc::downgrade(self), Arc::clone(&self.health));
        tokio::spawn(async move {
            let end = now + WATCH;
            loop {
                let wait = health.breaker().until_probe(Instant::now());
                let Some(wait) = wait.filter(|_| Instant::now() < end) else {
                    break;
                };
                tokio::time::sleep(wait.max(SHORTEST_WATCH)).await;
                let Some(peer) = peer.upgrade() else { break };
                if let Some(asked) = peer.probing()
                    && let Some(pass) = peer.may_probe()
                {
                    peer.probe(&asked, pass).await;
                }
            }
            health.watched.store(false, Ordering::Release);
        });
    }
}
