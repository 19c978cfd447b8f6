//! Requests that wait until a test lets them go on.

use std::sync::Arc;

use tokio::sync::watch;

/// Keeps requests waiting until it is released or dropped; see [`Lab::hold`](super::Lab::hold).
#[derive(Debug)]
pub struct Hold {
    arrived: watch::Receiver<usize>,
    released: watch::Sender<bool>,
}

impl Hold {
    /// Waits until `count` requests in all have come to this hold. They may have been given up since.
    pub async fn arrived(&self, count: usize) {
        let mut arrived = self.arrived.clone();
        if arrived.wait_for(|arrived| *arrived >= count).await.is_err() {
            // The lab is gone and no request will come; the test's own time limit says so.
            std::future::pending::<()>().await;
        }
    }

    /// Lets the requests go on that wait, and all that come later.
    pub fn release(&self) {
        self.released.send_replace(true);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

/// The requests' side of a [`Hold`].
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    arrived: Arc<watch::Sender<usize>>,
    released: watch::Receiver<bool>,
}

impl Waiting {
    /// Returns when the hold is released.
    pub(super) async fn pass(mut self) {
        self.arrived.send_modify(|arrived| *arrived += 1);
        // An error means that the hold was dropped, after it was released.
        let _ = self.released.wait_for(|released| *released).await;
    }
}

pub(super) fn new() -> (Hold, Waiting) {
    let (arrived_sender, arrived) = watch::channel(0);
    let (released, released_receiver) = watch::channel(false);
    let waiting = Waiting {
        arrived: Arc::new(arrived_sender),
        released: released_receiver,
    };
    (Hold { arrived, released }, waiting)
}
