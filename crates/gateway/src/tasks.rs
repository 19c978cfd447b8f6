//! Work that outlives the request that started it: fetches, commits, proofs.

use std::future::Future;

use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::task::TaskTracker;

/// Where such work runs, and how the end of all of it is awaited. It runs on the runtime that this was made on, on whose
/// threads no client waits, whoever starts it.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    home: Handle,
}

impl Tasks {
    /// No work yet; it will run on the runtime of now.
    pub(crate) fn here() -> Self {
        Self {
            tracker: TaskTracker::new(),
            home: Handle::current(),
        }
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(work, &self.home);
    }

    pub(crate) fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.tracker.spawn_blocking_on(work, &self.home)
    }

    /// Waits for the end of all work.
    pub(crate) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
