//! The walk along a chain.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::{BoxFuture, Either, FutureExt as _, select};

use crate::chain::{Chain, Fall, Target};
use crate::failure::{Attempt, Failure, FailureKind, Miss, Trouble};
use crate::peer::Peer;
use crate::{Ask, Fetched, Upstreams};

type Outcome = Result<Fetched, Miss>;

/// An HTTP entry still to be asked.
struct Stop {
    peer: Arc<Peer>,
    fall: Fall,
    /// The attempt a hedge has already begun.
    begun: Option<BoxFuture<'static, Outcome>>,
}

/// One walk. Upstreams whose breaker is open are put off until the others have been asked: only
/// then, as the last hope, are they asked after all.
pub(crate) struct Walk<'a> {
    ask: &'a Ask,
    waiting: VecDeque<Stop>,
    put_off: VecDeque<Stop>,
    end: Option<&'a Target>,
    attempts: Vec<Attempt>,
    trouble: Option<Trouble>,
    absent: Option<bool>,
    /// An answer that was an error, before a `,`.
    stopped: bool,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(upstreams: &Upstreams, chain: &'a Chain, ask: &'a Ask) -> Self {
        let mut bases = Vec::new();
        let mut falls = Vec::new();
        let mut end = None;
        for entry in chain.entries() {
            match &entry.target {
                Target::Http(base) => {
                    bases.push(base);
                    falls.push(entry.fall);
                }
                last => {
                    end = Some(last);
                    break;
                }
            }
        }
        // Stable: those without a mark keep their order, the separators keep their places.
        bases.sort_by_cached_key(|base| upstreams.is_bad(base, &ask.path));
        let waiting = bases
            .into_iter()
            .zip(falls)
            .map(|(base, fall)| Stop {
                peer: upstreams.peer(base),
                fall,
                begun: None,
            })
            .collect();
        Self {
            ask,
            waiting,
            put_off: VecDeque::new(),
            end,
            attempts: Vec::new(),
            trouble: None,
            absent: None,
            stopped: false,
        }
    }

    pub(crate) async fn run(mut self) -> Result<Fetched, Failure> {
        let outcome = self.ask_all().await;
        // Those passed over are tried without anybody waiting, so that they come back.
        for stop in &self.put_off {
            stop.peer.probe_in_background(&self.ask.path);
        }
        match outcome {
            Some(fetched) => Ok(fetched),
            None => Err(self.finish()),
        }
    }

    /// Asks one upstream after the other; `None` if no file comes of it.
    async fn ask_all(&mut self) -> Option<Fetched> {
        while let Some(mut stop) = self.next() {
            match self.ask_one(&mut stop).await {
                Ok(fetched) => return Some(fetched),
                Err(miss) => self.note(&stop, miss),
            }
            if self.stopped {
                break;
            }
        }
        None
    }

    /// The next upstream to ask: those put off come last.
    fn next(&mut self) -> Option<Stop> {
        while let Some(stop) = self.waiting.pop_front() {
            let only = self.waiting.is_empty() && self.put_off.is_empty();
            if stop.begun.is_some() || only || !stop.peer.skip() {
                return Some(stop);
            }
            self.put_off.push_back(stop);
        }
        self.put_off.pop_front()
    }

    /// Records an attempt, and whether the walk ends with it.
    fn note(&mut self, stop: &Stop, miss: Miss) {
        let outcome = miss.text();
        tracing::debug!(upstream = %stop.peer.name(), path = %self.ask.path, %outcome, "no file");
        self.attempts.push(Attempt {
            upstream: Arc::clone(stop.peer.name()),
            outcome,
        });
        match miss {
            Miss::Absent { gone } => self.absent = Some(gone),
            Miss::Trouble { trouble, answered } => {
                self.trouble = Some(trouble);
                self.stopped = answered && stop.fall == Fall::OnAbsent;
            }
        }
    }

    /// Asks one upstream and, if it is slower than usual, the next one too.
    async fn ask_one(&mut self, stop: &mut Stop) -> Outcome {
        if let Some(begun) = stop.begun.take() {
            return begun.await;
        }
        let alone = self.waiting.is_empty() && self.put_off.is_empty();
        let first = Arc::clone(&stop.peer)
            .attempt(self.ask.path.clone(), alone)
            .boxed();
        let wait = stop.peer.hedge_after().filter(|_| self.ask.hedge);
        let (Some(wait), Some(next)) = (wait, self.waiting.front_mut()) else {
            return first.await;
        };
        let timer = Box::pin(tokio::time::sleep(wait));
        let first = match select(first, timer).await {
            Either::Left((outcome, _)) => return outcome,
            Either::Right(((), first)) => first,
        };
        if !next.peer.is_closed() {
            return first.await;
        }
        let second = Arc::clone(&next.peer)
            .attempt(self.ask.path.clone(), false)
            .boxed();
        match select(first, second).await {
            Either::Left((Err(miss), second)) => {
                // The walk may come to it, or drop it.
                next.begun = Some(second);
                Err(miss)
            }
            Either::Right((Err(miss), first)) => {
                next.begun = Some(std::future::ready(Err(miss)).boxed());
                first.await
            }
            Either::Left((fetched, _)) | Either::Right((fetched, _)) => fetched,
        }
    }

    /// What the walk came to. An outage is never reported as absence.
    fn finish(self) -> Failure {
        let kind = match (self.end, self.trouble, self.absent) {
            (Some(Target::Direct), earlier, _) if !self.stopped => FailureKind::Direct { earlier },
            (_, Some(trouble), _) => FailureKind::Trouble(trouble),
            (_, None, Some(gone)) => FailureKind::Absent { gone },
            (_, None, None) => FailureKind::Off,
        };
        Failure {
            kind,
            attempts: self.attempts,
        }
    }
}
