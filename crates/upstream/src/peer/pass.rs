//! Leave to send a request to an upstream, and what its outcome tells.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::{Asked, Peer};
use crate::health::BROKEN;

/// Leave to send one request, with its place under the concurrency limit. A probe dropped
/// without an outcome gives the breaker's place back.
#[derive(Debug)]
pub(crate) struct Pass {
    peer: Arc<Peer>,
    probe: bool,
    pub(super) place: Option<OwnedSemaphorePermit>,
    pub(super) asked: Option<Arc<Asked>>,
}

impl Pass {
    pub(super) fn new(peer: Arc<Peer>, probe: bool) -> Self {
        Self {
            peer,
            probe,
            place: None,
            asked: None,
        }
    }

    /// The head of a good answer came; the body is still to come.
    pub(super) fn answered(&mut self) {
        self.probe = false;
        self.peer.health.breaker().answered(Instant::now());
        self.peer.recovered();
        self.peer.health.judged.notify_waiters();
    }

    pub(super) fn succeeded(mut self) {
        self.probe = false;
        self.peer.health.breaker().success(Instant::now());
        self.peer.recovered();
        self.peer.health.judged.notify_waiters();
    }

    pub(super) fn failed(mut self, dead: bool) {
        let probe = std::mem::take(&mut self.probe);
        if let Some(asked) = &self.asked {
            self.peer.set_probing(asked);
        }
        self.peer.failure(dead, probe);
        self.peer.health.judged.notify_waiters();
    }

    /// The body came whole, or broke.
    pub(crate) fn body_ended(self, whole: bool) {
        if whole {
            self.succeeded();
        } else {
            self.peer.health.count(BROKEN);
            self.failed(false);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe {
            self.peer.health.breaker().abandon(Instant::now());
            self.peer.health.judged.notify_waiters();
        }
    }
}
