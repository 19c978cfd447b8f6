//! Places for child processes: how many questions have some at once, in all and for one host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::{DirectError, ErrorKind, ssh};

/// How many wait for a place, for each place there is.
const WAITING_PER_PLACE: usize = 16;
/// How many hosts are known before those are forgotten that nobody asks.
const MAX_HOSTS: usize = 1000;
/// Most places of one host over ssh: an sshd with its own settings begins to close connections at random when 10 have
/// not logged in yet (MaxStartups 10:30:100).
const PER_SSH_HOST: usize = 8;

/// A bound on how many questions have children at once. A question has few at a time. One host has at most half of the
/// places, so that one that does not answer leaves room for the others, and fewer over ssh.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    hosts: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
    per_host: usize,
    patience: Duration,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _host: Vec<OwnedSemaphorePermit>,
    _place: OwnedSemaphorePermit,
}

impl Places {
    pub(crate) fn new(places: usize, patience: Duration) -> Self {
        let places = places.clamp(1, Semaphore::MAX_PERMITS / WAITING_PER_PLACE);
        Self {
            running: Arc::new(Semaphore::new(places)),
            waiting: Arc::new(Semaphore::new(places * WAITING_PER_PLACE)),
            hosts: Arc::default(),
            per_host: places.div_ceil(2),
            patience,
        }
    }

    /// Waits for a place, in turn; `url` is what will be asked, if it is of a host. Whoever comes when too many wait is
    /// sent away at once.
    pub(crate) async fn enter(&self, url: Option<&str>) -> Result<Place, DirectError> {
        let full = |text: &str| {
            DirectError::new(ErrorKind::Overloaded, text)
                .hint("raise the number of processes for direct fetch, or ask again later")
        };
        let _waiting = self
            .waiting
            .try_acquire()
            .map_err(|_| full("too many questions wait for version control"))?;
        let bounds = url.map(|url| self.of_host(url)).unwrap_or_default();
        let enter = async {
            let mut host = Vec::new();
            for bound in bounds {
                host.push(bound.acquire_owned().await?);
            }
            Ok::<_, AcquireError>(Place {
                _place: Arc::clone(&self.running).acquire_owned().await?,
                _host: host,
            })
        };
        match timeout(self.patience, enter).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(full("no process for version control became free in time")),
        }
    }

    /// The bounds of a URL's host, the narrower one first.
    fn of_host(&self, url: &str) -> Vec<Arc<Semaphore>> {
        let host = url.split("://").nth(1).unwrap_or_default();
        let host = host.split('/').next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        let mut bounds = Vec::new();
        if ssh::is_ssh(url) {
            bounds.push((format!("ssh://{host}"), self.per_host.min(PER_SSH_HOST)));
        }
        bounds.push((host.to_owned(), self.per_host));
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MAX_HOSTS {
            // Those that nobody is at are made again when they are needed.
            hosts.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let bounds = bounds.into_iter().map(|(of, most)| {
            let places = hosts.entry(of);
            Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(most))))
        });
        bounds.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_are_bounded() {
        let places = Places::new(3, Duration::from_millis(20));
        let kind = |entered: Result<Place, DirectError>| entered.map_err(|error| error.kind);
        let first = places.enter(Some("https://a/x")).await.unwrap();
        let _second = places.enter(Some("https://a/y")).await.unwrap();
        // There is one more place, but not for this host.
        assert!(matches!(
            kind(places.enter(Some("https://a/z")).await),
            Err(ErrorKind::Overloaded)
        ));
        let _third = places.enter(Some("https://b/x")).await.unwrap();
        assert!(matches!(
            kind(places.enter(None).await),
            Err(ErrorKind::Overloaded)
        ));
        drop(first);
        drop(places.enter(Some("https://a/z")).await.unwrap());
    }

    #[tokio::test]
    async fn fewer_over_ssh() {
        let places = Places::new(32, Duration::from_millis(20));
        let mut taken = Vec::new();
        for user in ["git@", "eve@", ""].iter().cycle().take(PER_SSH_HOST) {
            let url = format!("ssh://{user}a:22/x");
            taken.push(places.enter(Some(&url)).await.unwrap());
        }
        for full in ["ssh://git@a:22/y", "git+ssh://a:22/y"] {
            let error = places.enter(Some(full)).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Overloaded, "{full}");
        }
        taken.push(places.enter(Some("ssh://git@b:22/x")).await.unwrap());
        // The host's own bound counts both.
        for _ in PER_SSH_HOST..16 {
            taken.push(places.enter(Some("https://a:22/x")).await.unwrap());
        }
        assert!(places.enter(Some("https://a:22/x")).await.is_err());
    }
}
