//! The walk along a chain.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::{BoxFuture, Either, FutureExt as _, select};

use crate::chain::{Chain, Fall, Target};
use crate::failure::{Attempt, Cause, Failure, FailureKind, LOOPS, Miss, Trouble};
use crate::peer::{Asked, Peer};
use crate::{Fetched, Shared};

type Outcome = Result<Fetched, Miss>;

/// An HTTP entry still to be asked.
struct Stop {
    peer: Arc<Peer>,
    fall: Fall,
    /// The attempt a hedge has already begun.
    begun: Option<BoxFuture<'static, Outcome>>,
}

/// Where a chain ends.
#[derive(Clone, Copy)]
enum End {
    Direct,
    Off,
}

/// One walk. Upstreams whose breaker is open are put off until the others have been asked: only
/// then, as the last hope, are they asked after all.
pub struct Walk {
    shared: Arc<Shared>,
    asked: Arc<Asked>,
    /// Whether to ask a second one as soon as the first is slower than usual.
    hedge: bool,
    waiting: VecDeque<Stop>,
    put_off: VecDeque<Stop>,
    end: Option<End>,
    attempts: Vec<Attempt>,
    trouble: Option<Trouble>,
    absent: Option<bool>,
    /// An upstream that asks in its turn whoever asks here.
    looped: Option<Arc<str>>,
    /// An answer that was an error, before a `,`.
    stopped: bool,
    /// Who sent what came last.
    sender: Option<(Arc<Peer>, Fall)>,
}

impl Walk {
    pub(crate) fn new(shared: &Arc<Shared>, chain: &Chain, asked: Arc<Asked>, hedge: bool) -> Self {
        let mut bases = Vec::new();
        let mut falls = Vec::new();
        let mut end = None;
        for entry in chain.entries() {
            match &entry.target {
                Target::Http(base) => {
                    bases.push(base);
                    falls.push(entry.fall);
                }
                Target::Direct => {
                    end = Some(End::Direct);
                    break;
                }
                Target::Off => {
                    end = Some(End::Off);
                    break;
                }
            }
        }
        // Stable: those without a mark keep their order, the separators keep their places.
        bases.sort_by_cached_key(|base| shared.is_bad(base, &asked.path));
        let waiting = bases
            .into_iter()
            .zip(falls)
            .map(|(base, fall)| Stop {
                peer: shared.peer(base),
                fall,
                begun: None,
            })
            .collect();
        Self {
            shared: Arc::clone(shared),
            asked,
            hedge,
            waiting,
            put_off: VecDeque::new(),
            end,
            attempts: Vec::new(),
            trouble: None,
            absent: None,
            looped: None,
            stopped: false,
            sender: None,
        }
    }

    /// Goes on until an upstream has the file.
    pub async fn next(&mut self) -> Result<Fetched, Failure> {
        let outcome = if self.stopped {
            None
        } else {
            self.ask_all().await
        };
        // Those passed over are tried without anybody waiting, so that they come back.
        for stop in &self.put_off {
            stop.peer.probe_in_background(&self.asked);
        }
        if outcome.is_none() {
            self.sender = None;
        }
        outcome.ok_or_else(|| self.failure())
    }

    /// Records that what came last is not what was asked for: the other entries of a chain are asked first for it for
    /// a while. Whether another is asked now: after `,` none is, as clients do it. A body that broke off has counted in
    /// the upstream's health already.
    pub fn reject(&mut self, why: &str, broke_off: bool) -> bool {
        let Some((peer, fall)) = self.sender.take() else {
            return false;
        };
        self.shared.mark_bad(&peer, &self.asked.path);
        if !broke_off {
            peer.bad_content(&self.asked);
        }
        let trouble = Trouble {
            cause: Cause::Content,
            status: None,
            upstream: Arc::clone(peer.name()),
            text: crate::client::tidy(why),
            hint: None,
            retry_after: None,
            with_credential: false,
        };
        let miss = Miss::Trouble {
            trouble,
            answered: true,
        };
        self.note(&peer, fall, miss);
        !self.stopped
    }

    /// Asks one upstream after the other; `None` if no file comes of it.
    async fn ask_all(&mut self) -> Option<Fetched> {
        while let Some(mut stop) = self.next_stop() {
            match self.ask_one(&mut stop).await {
                Ok(fetched) => return Some(fetched),
                Err(miss) => self.note(&stop.peer, stop.fall, miss),
            }
            if self.stopped {
                break;
            }
        }
        None
    }

    /// The next upstream to ask: those put off come last.
    fn next_stop(&mut self) -> Option<Stop> {
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
    fn note(&mut self, peer: &Peer, fall: Fall, miss: Miss) {
        let outcome = miss.text();
        tracing::debug!(upstream = %peer.name(), path = %self.asked.path, %outcome, "no file");
        self.attempts.push(Attempt {
            upstream: Arc::clone(peer.name()),
            outcome,
        });
        match miss {
            Miss::Absent { gone, .. } => self.absent = Some(gone),
            Miss::Loop => self.looped = Some(Arc::clone(peer.name())),
            Miss::Trouble { trouble, answered } => {
                self.trouble = Some(trouble);
                self.stopped = answered && fall == Fall::OnAbsent;
            }
        }
    }

    /// Asks one upstream and, if it is slower than usual or silent, the next one too.
    async fn ask_one(&mut self, stop: &mut Stop) -> Outcome {
        self.sender = Some((Arc::clone(&stop.peer), stop.fall));
        if let Some(begun) = stop.begun.take() {
            return begun.await;
        }
        let alone = self.waiting.is_empty() && self.put_off.is_empty();
        let begin = Instant::now();
        let first = Arc::clone(&stop.peer)
            .attempt(Arc::clone(&self.asked), alone)
            .boxed();
        let wait = stop.peer.hedge_after(self.hedge);
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
            .attempt(Arc::clone(&self.asked), false)
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
            Either::Left((fetched, _)) => fetched,
            Either::Right((fetched, first)) => {
                run_on(
                    Arc::clone(&stop.peer),
                    Arc::clone(&self.asked),
                    first,
                    begin,
                );
                if let Some(next) = self.waiting.pop_front() {
                    self.sender = Some((next.peer, next.fall));
                }
                fetched
            }
        }
    }

    /// What the walk came to. An outage is never reported as absence.
    fn failure(&self) -> Failure {
        let kind = match (self.end, &self.trouble, self.absent, &self.looped) {
            (Some(End::Direct), earlier, _, _) if !self.stopped => FailureKind::Direct {
                earlier: earlier.clone(),
            },
            (_, Some(trouble), _, _) => FailureKind::Trouble(trouble.clone()),
            (_, None, Some(gone), _) => FailureKind::Absent { gone },
            (_, None, None, Some(upstream)) => FailureKind::Trouble(Trouble {
                cause: Cause::Loop,
                status: Some(508),
                upstream: Arc::clone(upstream),
                text: LOOPS.to_owned(),
                hint: None,
                retry_after: None,
                with_credential: false,
            }),
            (_, None, None, None) => FailureKind::Off,
        };
        Failure {
            kind,
            attempts: self.attempts.clone(),
            looped: self.looped.is_some(),
        }
    }
}

impl fmt::Debug for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk")
            .field("asked", &self.asked)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// Lets a request that lost against a hedge run on, within its own limits: its outcome and its time tell how the upstream
/// fares. One that says nothing for as long as connecting may take is dead for all that is known.
fn run_on(
    peer: Arc<Peer>,
    asked: Arc<Asked>,
    mut first: BoxFuture<'static, Outcome>,
    begin: Instant,
) {
    let late = peer.connect_timeout().saturating_sub(begin.elapsed());
    if late.is_zero() {
        // Before the other's answer is out: the next request may come at once.
        peer.suspect(&asked, begin);
        tokio::spawn(first);
        return;
    }
    tokio::spawn(async move {
        if tokio::time::timeout(late, &mut first).await.is_err() {
            peer.suspect(&asked, begin);
            let _ = first.await;
        }
    });
}
