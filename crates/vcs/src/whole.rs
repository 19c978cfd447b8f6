//! A repository that is kept whole beside ours: what the systems other than git do, which can fetch nothing less.

use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::Instant;

use crate::git::Mirror;
use crate::git::mirror::{Disk, blocking};
use crate::git::remote::outgrown;
use crate::process::{self, Exit};
use crate::reach::Way;
use crate::{DirectError, DirectSettings};

/// What is kept of a repository, for the time of one question.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) generation: u64,
    pub(crate) way: Way,
    /// Longest run of a program.
    pub(crate) limit: Duration,
    max_bytes: u64,
    /// How old what was pulled may be; nothing means that it is pulled after the question was asked.
    believe: Duration,
    /// When the question was asked.
    since: Instant,
    /// It was pulled after that.
    pulled: bool,
}

impl Whole {
    /// Over what is kept in `mirror`; `believe` as in [`DirectSettings::refs_life`], or nothing.
    pub(crate) fn new(
        mirror: Arc<Mirror>,
        way: Way,
        settings: &DirectSettings,
        believe: Duration,
    ) -> Self {
        Self {
            generation: mirror.generation(),
            mirror,
            way,
            limit: settings.process_timeout,
            max_bytes: settings.repository_bytes(),
            believe,
            since: Instant::now(),
            pulled: false,
        }
    }

    /// Whether it was pulled since the question was asked, so that nothing newer is to be had.
    pub(crate) fn is_new(&self) -> bool {
        self.pulled
    }

    /// Whether nothing needs to be pulled: what is here is young enough, or came while this question waited. With `now`
    /// only the latter counts.
    pub(crate) fn is_fresh(&mut self, disk: &Disk, now: bool) -> bool {
        self.pulled |= disk.pulled.is_some_and(|at| at >= self.since);
        let young = |at: Instant| at.elapsed() < self.believe;
        self.pulled || !now && disk.pulled.is_some_and(young)
    }

    /// Notes that a pull that began then has ended well.
    pub(crate) fn pulled(&mut self, disk: &mut Disk, begun: Instant) {
        disk.pulled = Some(begun);
        self.pulled = true;
    }

    /// Makes the folder and says in a file beside it whose it is.
    pub(crate) async fn prepare(&self) -> Result<(), DirectError> {
        let (mirror, url) = (Arc::clone(&self.mirror), self.way.url.clone());
        blocking(move || std::fs::create_dir_all(&mirror.folder)).await?;
        self.mirror.stamp(&url)
    }

    /// Runs what may make the folder larger, as long as it does not become too large.
    pub(crate) async fn grow<T>(
        &self,
        what: &str,
        run: impl Future<Output = Result<T, DirectError>>,
    ) -> Result<T, DirectError> {
        tokio::select! {
            done = run => done,
            error = outgrown(&self.mirror.folder, self.max_bytes, what) => Err(error),
        }
    }

    /// Runs a program with nothing to be told.
    pub(crate) async fn run(
        &self,
        command: Command,
        what: &str,
        most: usize,
    ) -> Result<(Exit, Vec<u8>), DirectError> {
        process::output(command, what, most, self.limit).await
    }
}

/// Whether a revision is a plain name, which no program takes for an option or an expression.
pub(crate) fn is_plain(revision: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/+-@".contains(c);
    !revision.is_empty() && !revision.starts_with('-') && revision.chars().all(plain)
}
