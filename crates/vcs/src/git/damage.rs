//! Whether a mirror has lost something, where an answer would be another one for that.

use std::sync::PoisonError;
use std::time::Duration;

use super::{GitRepository, command, failure};
use crate::process::output;
use crate::repository::Trouble;
use crate::{DirectError, ErrorKind};

/// Longest search for damage, and most that it may say, in bytes.
const FSCK_WITHIN: Duration = Duration::from_mins(1);
const MAX_FSCK: usize = 1 << 20;

impl GitRepository {
    /// Sees to it that the server is told of no commit that is lost: it would leave out what that one had.
    pub(super) async fn prove_kept(&mut self, hashes: &[String]) -> Result<(), Trouble> {
        if hashes.is_empty() {
            return Ok(());
        }
        let hashes = hashes.iter().map(|hash| &**hash).collect();
        let there = self.objects()?.commits(&hashes).await?;
        match hashes.difference(&there).next() {
            Some(lost) => Err(Trouble::Mirror(format!("commit {lost} is missing"))),
            None => Ok(()),
        }
    }

    /// What a fetch means that fails again and again while the references are to be had: perhaps the mirror is damaged.
    /// Where objects did not come, that is so if some are missing of what is kept: the server was told of that.
    pub(super) async fn suspect(&self, error: DirectError) -> Trouble {
        if error.kind != ErrorKind::Unavailable {
            return self.outgrown(error);
        }
        let mut git = command::local(&self.mirror.folder);
        if failure::is_incomplete(&error) {
            git.args(["rev-list", "--objects", "--quiet", "--all"]);
        } else {
            git.args(["fsck", "--no-dangling", "--no-progress"]);
        }
        match output(git, "git fsck", MAX_FSCK, FSCK_WITHIN.min(self.bounds.time)).await {
            Ok((exit, _)) if exit.is_complaint() => Trouble::Mirror(error.text),
            // Whole, or too large to know: then it is the server.
            _ if failure::is_incomplete(&error) => failure::incomplete(&self.way, &error).into(),
            _ => error.into(),
        }
    }

    /// What it means that a commit is not among all history: an error about the commit, if nothing is lost. That is looked
    /// for once, as long as nobody changes the packs.
    pub(super) async fn not_in_history(&self, error: DirectError) -> Trouble {
        match self.is_whole().await {
            Ok(()) => self.unless_thrown_away(error),
            Err(trouble) => trouble,
        }
    }

    async fn is_whole(&self) -> Result<(), Trouble> {
        let packs = self.mirror.packs().await?;
        let whole = || {
            let whole = self.mirror.whole.lock();
            whole.unwrap_or_else(PoisonError::into_inner)
        };
        if whole().as_ref() == Some(&packs) {
            return Ok(());
        }
        let mut git = command::local(&self.mirror.folder);
        git.args(["rev-list", "--quiet", "--all"]);
        let (exit, _) = output(git, "git rev-list", 1 << 16, self.bounds.time).await?;
        if exit.success() {
            *whole() = Some(packs);
            Ok(())
        } else {
            Err(Trouble::of_reader("git rev-list", &exit))
        }
    }
}
