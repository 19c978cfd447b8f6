//! One fetch per key, however many wait.
//!
//! A fetch belongs to no connection: it runs as a task of its own and is finished and kept even if everybody
//! who asked has gone. Its entry goes when the task ends, also by a panic, so that a key is never stuck.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    refusal::{Code, Refusal},
    tasks::Tasks,
    via::Via,
};

/// How long somebody else's fetch is waited for on behalf of another gateway, where it may be waiting, round a circle, for
/// that one.
const PATIENCE: Duration = Duration::from_secs(2);

type Table<T> = Arc<Mutex<HashMap<Arc<str>, watch::Receiver<Option<Told<T>>>>>>;
type Told<T> = Result<T, Arc<Refusal>>;

/// The fetches under way.
#[derive(Debug)]
pub(crate) struct Flights<T> {
    table: Table<T>,
    tasks: Tasks,
}

/// What a fetch tells those who wait, as soon as there is something to tell.
#[derive(Debug)]
pub(crate) struct Teller<T> {
    sender: watch::Sender<Option<Told<T>>>,
    entry: Arc<Entry<T>>,
}

impl<T: Clone + Send + Sync + 'static> Teller<T> {
    /// Tells; the last word counts.
    pub(crate) fn tell(&self, told: Result<T, Arc<Refusal>>) {
        self.sender.send_replace(Some(told));
    }

    /// Tells all there is. Whoever asks after having heard it gets a new fetch: things may have changed since.
    pub(crate) fn tell_last(self, told: Result<T, Arc<Refusal>>) {
        self.entry.leave();
        self.tell(told);
    }
}

/// One who waits for a fetch.
#[derive(Debug)]
pub(crate) struct Waiter<T>(watch::Receiver<Option<Told<T>>>);

impl<T: Clone + Send + Sync + 'static> Waiter<T> {
    /// The first word of the fetch. Bounded by the time limits of the fetch itself.
    pub(crate) async fn told(&mut self) -> Told<T> {
        match self.0.wait_for(Option::is_some).await {
            Ok(told) => told.clone().unwrap_or_else(|| Err(lost())),
            Err(_) => Err(lost()),
        }
    }

    /// The last word, when the fetch has ended.
    pub(crate) async fn ended(&mut self) -> Told<T> {
        while self.0.changed().await.is_ok() {}
        self.0.borrow().clone().unwrap_or_else(|| Err(lost()))
    }
}

fn lost() -> Arc<Refusal> {
    Arc::new(Refusal::new(
        Code::InternalError,
        "",
        "the fetch ended without a result; the log says why",
    ))
}

/// The entry of a fetch, as long as it has one.
#[derive(Debug)]
struct Entry<T> {
    table: Table<T>,
    key: Arc<str>,
    told: watch::Receiver<Option<Told<T>>>,
}

impl<T> Entry<T> {
    fn leave(&self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        // One that failed, or told its last, may have been followed by another before it ended.
        if table
            .get(&self.key)
            .is_some_and(|entry| entry.same_channel(&self.told))
        {
            table.remove(&self.key);
        }
    }
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// No fetches yet; they will run on `tasks`.
    pub(crate) fn new(tasks: Tasks) -> Self {
        Self {
            table: Table::default(),
            tasks,
        }
    }

    /// Joins the fetch of `key`, or starts it. The second value says whether it was joined. One that has failed and not
    /// quite ended is not joined: whoever saw it fail and asks again gets a new one.
    pub(crate) fn join<F>(&self, key: &str, fetch: impl FnOnce(Teller<T>) -> F) -> (Waiter<T>, bool)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = table.get(key)
            && !matches!(*under_way.borrow(), Some(Err(_)))
        {
            return (Waiter(under_way.clone()), true);
        }
        let (sender, receiver) = watch::channel(None);
        let key: Arc<str> = key.into();
        table.insert(Arc::clone(&key), receiver.clone());
        drop(table);
        let entry = Arc::new(Entry {
            table: Arc::clone(&self.table),
            key,
            told: receiver.clone(),
        });
        let work = fetch(Teller {
            sender,
            entry: Arc::clone(&entry),
        });
        self.tasks.spawn(async move {
            let _entry = entry;
            work.await;
        });
        (Waiter(receiver), false)
    }

    /// Joins or starts the fetch of `key` and waits for its first word; the last value says whether it was joined.
    ///
    /// Gateways may have each other as upstreams. What comes by way of another one does not wait for long on a fetch that
    /// may wait for that other one, which it can only if it asks a gateway (`asks_gateway`): one in the middle of many, which
    /// asks none, fetches once for all of them. In a circle each asks the next, so none is left waiting. And a refusal that left out an upstream, since it asks whoever asked first, is no
    /// answer for others. In both cases there is a fetch for those who came the same way.
    pub(crate) async fn first_word<F>(
        &self,
        key: &str,
        via: &Via,
        asks_gateway: impl Future<Output = bool>,
        fetch: impl Fn(Teller<T>) -> F,
    ) -> (Told<T>, Waiter<T>, bool)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (mut waiter, joined) = self.join(key, &fetch);
        let told = if joined && via.names_gateway() {
            match tokio::time::timeout(PATIENCE, waiter.told()).await {
                Ok(told) => Some(told),
                Err(_) if asks_gateway.await => None,
                Err(_) => Some(waiter.told().await),
            }
        } else {
            Some(waiter.told().await)
        };
        match told {
            Some(told) if !joined || !matches!(&told, Err(refusal) if refusal.looped) => {
                return (told, waiter, joined);
            }
            _ => {}
        }
        let (mut waiter, joined) = self.join(&format!("{key} by way of {via}"), fetch);
        (waiter.told().await, waiter, joined)
    }

    /// Joins the fetch of `key` if there is one.
    pub(crate) fn find(&self, key: &str) -> Option<Waiter<T>> {
        self.table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned()
            .map(Waiter)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn who_heard_the_last_word_gets_a_new_fetch() {
        let flights = Flights::new(Tasks::here());
        let (open, gate) = oneshot::channel::<()>();
        let (mut waiter, _) = flights.join("k", |teller| async move {
            teller.tell_last(Ok(1));
            // It has something to do still.
            gate.await.unwrap();
        });
        assert_eq!(waiter.told().await.unwrap(), 1);
        let (mut other, joined) = flights.join("k", |teller| async move {
            teller.tell_last(Ok(2));
        });
        assert!(!joined);
        assert_eq!(other.told().await.unwrap(), 2);
        open.send(()).unwrap();
        assert_eq!(waiter.ended().await.unwrap(), 1);
        assert!(flights.find("k").is_none());
    }

    #[tokio::test]
    async fn many_askers_one_fetch_and_a_leaver_harms_nobody() {
        let flights = Flights::new(Tasks::here());
        let count = Arc::new(AtomicU32::new(0));
        let (open, gate) = oneshot::channel::<()>();
        let mut gate = Some(gate);
        let mut waiters = Vec::new();
        for n in 0..50 {
            let count = Arc::clone(&count);
            let mine = gate.take();
            let (waiter, joined) = flights.join("k", move |teller| async move {
                count.fetch_add(1, Ordering::Relaxed);
                mine.unwrap().await.unwrap();
                teller.tell(Ok(7));
            });
            assert_eq!(joined, n > 0);
            waiters.push(waiter);
        }
        drop(waiters.remove(0));
        open.send(()).unwrap();
        for mut waiter in waiters {
            assert_eq!(waiter.told().await.unwrap(), 7);
            assert_eq!(waiter.ended().await.unwrap(), 7);
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_failure_that_was_told_is_not_joined() {
        let flights = Flights::<u8>::new(Tasks::here());
        let (end, ended) = oneshot::channel::<()>();
        let (mut failed, _) = flights.join("k", |teller| async move {
            teller.tell(Err(lost()));
            ended.await.unwrap();
        });
        assert!(failed.told().await.is_err());
        let (go, gone) = oneshot::channel::<()>();
        let (mut second, joined) = flights.join("k", |teller| async move {
            gone.await.unwrap();
            teller.tell(Ok(2));
        });
        assert!(!joined);
        // The end of the first does not take the second out of the table.
        end.send(()).unwrap();
        assert!(failed.ended().await.is_err());
        tokio::task::yield_now().await;
        assert!(flights.find("k").is_some());
        go.send(()).unwrap();
        assert_eq!(second.told().await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_panic_frees_the_key() {
        let flights = Flights::<u8>::new(Tasks::here());
        let (mut waiter, _) = flights.join("k", |_teller| async { panic!("on purpose") });
        assert_eq!(waiter.told().await.unwrap_err().code, Code::InternalError);
        flights.tasks.ended().await;
        assert!(flights.find("k").is_none());
        let (mut waiter, joined) = flights.join("k", |teller| async move { teller.tell(Ok(1)) });
        assert!(!joined);
        assert_eq!(waiter.told().await.unwrap(), 1);
    }
}
