//! What other gateways are to hear of the health of upstreams.

use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;

/// An upstream fell ill, or is well again: its breaker opened by failures that this gateway saw itself, or closed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Its masked name.
    pub upstream: Arc<str>,
    /// Whether it fell ill.
    pub ill: bool,
}

/// Where turns go, once somebody listens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<OnceLock<mpsc::Sender<Turn>>>);

impl Turns {
    pub(crate) fn listen(&self, listener: mpsc::Sender<Turn>) {
        let _ = self.0.set(listener);
    }

    pub(crate) fn listener(&self) -> Option<mpsc::Sender<Turn>> {
        self.0.get().cloned()
    }

    /// One that cannot be taken at once is lost: it is a hint.
    pub(crate) fn tell(&self, upstream: &Arc<str>, ill: bool) {
        if let Some(listener) = self.0.get() {
            let upstream = Arc::clone(upstream);
            let _ = listener.try_send(Turn { upstream, ill });
        }
    }
}
