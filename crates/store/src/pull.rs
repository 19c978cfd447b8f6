//! A large object on its way from a lower tier: into a spool, or straight to one client where there is no disk for it.
//!
//! Either way nobody gets its last part before the whole was compared with its digest. One that turns out bad is
//! read a second time, so that bytes altered on the way do not cost the object where it lies; one that is bad twice
//! is copied into quarantine, and as good as absent until a good one replaces it.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::BoxStream};
use tokio::runtime::Handle;

use crate::{
    Digest, Frames, Key, SpoolWriter, Spooled,
    frames::{Block, FrameError},
    gather::{Gatherer, Gathering},
    known::{Comparing, Known},
    spool::HELD_BACK_BYTES,
    tier::{Opened, Tier, TierError, TierErrorKind, count, hash_stream},
};

/// Blocks are gathered up to so many bytes for one write.
const WRITE_BYTES: usize = 1 << 20;

/// Why a pulled object did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Its bytes are not what they should be. It counts as absent by now, or was altered on the way only: ask again.
    #[error("storage tier {tier}: the object is not what it should be")]
    Corrupt {
        /// Where it came from.
        tier: Arc<str>,
    },
    /// The tier failed on the way. Ask again.
    #[error(transparent)]
    Tier(TierError),
    /// It could not be written here. [`Pull::frames`] of another `find` needs no disk.
    #[error("writing what a storage tier sent: {0}")]
    Disk(io::Error),
}

/// A large object in a lower tier, or one without a digest, that is being read.
#[derive(Debug)]
pub struct Pull {
    tier: Arc<Tier>,
    key: Key,
    opened: Opened,
    gatherer: Arc<Gatherer>,
    /// Where it was opened, and its connection is.
    runtime: Handle,
}

impl Pull {
    /// Must be called within the Tokio runtime in which it was opened.
    pub(crate) fn new(tier: Arc<Tier>, key: Key, opened: Opened, gatherer: Arc<Gatherer>) -> Self {
        Self {
            tier,
            key,
            opened,
            gatherer,
            runtime: Handle::current(),
        }
    }

    /// The same for somebody who may be slow: a slot of the tier is not held for that.
    #[must_use]
    pub fn without_slot(mut self) -> Self {
        self.opened.slot = None;
        self
    }

    /// Where it comes from.
    pub fn tier(&self) -> &Arc<str> {
        self.tier.name()
    }

    /// Its length.
    pub fn size(&self) -> u64 {
        self.opened.size
    }

    /// What it must be. `None`: somebody else put it there, and it must be judged like what an upstream sends.
    pub fn digest(&self) -> Option<&Digest> {
        self.opened.digest.as_ref()
    }

    pub(crate) fn is_of(&self, tier: &Arc<Tier>) -> bool {
        Arc::ptr_eq(&self.tier, tier)
    }

    pub(crate) fn mark(&self) -> Option<Box<str>> {
        self.opened.mark.clone()
    }

    /// Writes it into `writer`, whose readers follow, and compares it. What comes back is good, or has no digest to
    /// be compared with; it is still to be released. On an error the readers have been told.
    pub async fn into_spool(self, mut writer: SpoolWriter) -> Result<(Spooled, Digest), PullError> {
        let Self {
            tier,
            key,
            mut opened,
            gatherer: _,
            runtime: _,
        } = self;
        writer.hash_along();
        if let Err(error) = fill(&mut opened.stream, &mut writer).await {
            writer.fail(&error.to_string());
            return Err(error);
        }
        drop(opened.slot.take());
        let spooled = writer.finish();
        let found = spooled.digest().cloned();
        match (opened.digest, found) {
            (None, Some(found)) => Ok((spooled, found)),
            (Some(stated), Some(found)) if stated.same_bytes(&found) => Ok((spooled, stated)),
            (stated, _) => {
                let error = PullError::Corrupt {
                    tier: Arc::clone(tier.name()),
                };
                // First of all nobody waits for its last part any more.
                spooled.refuse(&error.to_string());
                judge_bad(tier, key, opened.mark, stated).await;
                Err(error)
            }
        }
    }

    /// Reads it to its end and compares it, for nobody. `false` if it is bad, or has no digest.
    pub(crate) async fn check(self) -> Result<bool, TierError> {
        let Some(stated) = self.opened.digest.clone() else {
            return Ok(false);
        };
        let mark = self.opened.mark.clone();
        let good = hash_stream(self.opened).await?.same_bytes(&stated);
        if !good {
            judge_bad(self.tier, self.key, mark, Some(stated)).await;
        }
        Ok(good)
    }

    /// Goes to one client as it comes, without touching the disk. `None` if there is no digest to compare it with.
    pub fn frames(self) -> Option<Frames> {
        let Opened {
            size,
            digest,
            mark,
            stream,
            // A client may be slow: it must not hold a slot of the tier.
            slot: _,
        } = self.opened;
        // Only object storage has what is pulled.
        let Tier::Object(object) = &*self.tier else {
            return None;
        };
        let comparing = object.known().compare(&self.key, digest?);
        let gathering = comparing
            .again()
            .then(|| self.gatherer.begin(&self.key, size));
        let check = Check {
            comparing,
            gathering: gathering.flatten(),
            known: Arc::clone(object.known()),
            tier: self.tier,
            key: self.key,
            mark,
        };
        let reader = PullReader::new(stream, Some(check));
        Some(Frames::pull(reader, size, &self.runtime))
    }
}

/// Writes the stream; the next blocks are read meanwhile.
async fn fill(
    stream: &mut BoxStream<'static, Result<Bytes, TierError>>,
    writer: &mut SpoolWriter,
) -> Result<(), PullError> {
    let mut blocks = gather(stream).await?;
    while !blocks.is_empty() {
        let (written, next) = tokio::join!(writer.write(blocks), gather(stream));
        written.map_err(PullError::Disk)?;
        blocks = next?;
    }
    Ok(())
}

/// The next blocks: one, and what more has come already. None at the end.
async fn gather(
    stream: &mut BoxStream<'static, Result<Bytes, TierError>>,
) -> Result<Vec<Bytes>, PullError> {
    let mut blocks = Vec::new();
    let mut len = 0;
    while len < WRITE_BYTES {
        let next = if blocks.is_empty() {
            stream.next().await
        } else {
            match stream.next().now_or_never() {
                Some(next) => next,
                None => break,
            }
        };
        let Some(block) = next else {
            break;
        };
        let block = block.map_err(PullError::Tier)?;
        len += block.len();
        blocks.push(block);
    }
    Ok(blocks)
}

/// Reads a bad object a second time, and sets it aside if it is bad where it lies.
async fn judge_bad(tier: Arc<Tier>, key: Key, mark: Option<Box<str>>, digest: Option<Digest>) {
    count(&tier.gate().counters.corrupt);
    let name = tier.name();
    tracing::error!(tier = %name, %key, "SECURITY: bytes that are not what they should be; read again");
    // Only object storage has what is pulled.
    let (Tier::Object(object), Some(digest)) = (&*tier, digest) else {
        return;
    };
    let again = async {
        let Some(opened) = object.open(&key, None, mark.as_deref()).await? else {
            return Ok(());
        };
        if hash_stream(opened).await?.same_bytes(&digest) {
            tracing::error!(tier = %name, %key, "altered on the way; what lies there is good");
            return Ok(());
        }
        object.set_aside(&key, mark).await;
        Ok(())
    };
    if let Err(error) = again.await {
        let error: TierError = error;
        tracing::error!(tier = %name, %key, %error, "cannot be read again; stays where it is");
    }
}

/// What a stream is compared with at its end.
struct Check {
    tier: Arc<Tier>,
    key: Key,
    mark: Option<Box<str>>,
    known: Arc<Known>,
    comparing: Comparing,
    gathering: Option<Gathering>,
}

/// A stream from a tier as one client reads it, the last part held back until the whole is compared.
pub(crate) struct PullReader {
    /// Never locked: makes the stream shareable, as a body has to be.
    stream: Mutex<BoxStream<'static, Result<Bytes, TierError>>>,
    check: Option<Check>,
    held: VecDeque<Bytes>,
    held_bytes: u64,
    ended: bool,
}

impl fmt::Debug for PullReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullReader")
            .field("held_bytes", &self.held_bytes)
            .finish_non_exhaustive()
    }
}

impl PullReader {
    /// Without a check nothing is held back.
    fn new(stream: BoxStream<'static, Result<Bytes, TierError>>, check: Option<Check>) -> Self {
        Self {
            stream: Mutex::new(stream),
            check,
            held: VecDeque::new(),
            held_bytes: 0,
            ended: false,
        }
    }

    /// A part of an object that was compared as a whole before.
    pub(crate) fn part(opened: Opened) -> Self {
        Self::new(opened.stream, None)
    }

    pub(crate) fn poll_window(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Block>, FrameError>> {
        loop {
            let keep = if self.check.is_some() {
                HELD_BACK_BYTES
            } else {
                0
            };
            if let Some(first) = self.held.front() {
                let len = first.len() as u64;
                if self.held_bytes >= keep + len {
                    self.held_bytes -= len;
                    return Poll::Ready(Ok(self.held.pop_front().map(Block::memory)));
                }
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            let stream = self
                .stream
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner);
            match ready!(stream.poll_next_unpin(cx)) {
                Some(Ok(block)) if block.is_empty() => {}
                Some(Ok(block)) => {
                    if let Some(check) = &mut self.check {
                        check.comparing.update(&block);
                        if let Some(gathering) = &mut check.gathering {
                            gathering.push(&block);
                        }
                    }
                    self.held_bytes += block.len() as u64;
                    self.held.push_back(block);
                }
                Some(Err(error)) => {
                    return Poll::Ready(Err(FrameError::Failed(error.to_string().into())));
                }
                None => {
                    self.ended = true;
                    self.judge()?;
                }
            }
        }
    }

    /// The whole has come: good, or the end of it.
    fn judge(&mut self) -> Result<(), FrameError> {
        let Some(check) = self.check.take() else {
            return Ok(());
        };
        let digest = match check.known.judge(&check.key, check.comparing) {
            Ok(digest) => {
                if let Some(gathering) = check.gathering {
                    gathering.finish(digest);
                }
                return Ok(());
            }
            Err(digest) => digest,
        };
        self.held.clear();
        let error = TierError::new(check.tier.name(), TierErrorKind::Corrupt, &check.key);
        // Goes on when the client has gone.
        tokio::spawn(judge_bad(check.tier, check.key, check.mark, Some(digest)));
        Err(FrameError::Failed(error.to_string().into()))
    }
}
