//! What needs the history of a repository, not only the tips of its branches and tags.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt};

use super::failure::{is_incomplete, says_missing};
use super::refs::{HEADS, Refs, TAGS};
use super::remote::Wanted;
use super::{GitRepository, NO_SHALLOW, command};
use crate::process::{Running, output, within};
use crate::repository::{Commit, Tag, Trouble};
use crate::{DirectError, ErrorKind};

/// How many references are fetched by name, and how long the names may be together, in bytes. git takes the square of it
/// in time.
const MANY: usize = 300;
const MANY_BYTES: usize = 64 << 10;
/// Longest name of a tag, in bytes.
const MAX_LINE: u64 = 16 << 10;

impl GitRepository {
    /// Sees to it that the history of all branches and tags is there.
    ///
    /// git writes a file for each reference that it fetches, which takes longer than all else. So references are fetched
    /// without a place of their own, most of them not at all since others lead to them, and then written in one file.
    pub(super) async fn history(&mut self, refs: &Refs) -> Result<(), Trouble> {
        let mirror = Arc::clone(&self.mirror);
        let mut disk = mirror.disk.lock().await;
        self.prepare(&mut disk, refs).await?;
        let sum = refs.repo_sum();
        if mirror.is_complete(&disk, &sum).await {
            return Ok(());
        }
        // A reader that began earlier may have files open that are gone.
        self.objects = None;
        drop(mirror.idle.take(self.generation));
        // Nearly all tags are in the history of a branch: they come after these.
        for (prefix, all) in [(HEADS, true), (TAGS, false)] {
            let whole = all && mirror.is_shallow().await;
            let mut names = self.missing(refs, prefix, whole).await?;
            if names.is_empty() {
                continue;
            }
            if let Err(error) = self.fetch(&mut disk, Wanted::History(&names)).await {
                if error.kind != ErrorKind::Unavailable {
                    return Err(self.outgrown(error));
                }
                self.refs_now();
                if *self.refs().await? != *refs {
                    let text = format!("{}: its branches change all the time", self.way.url);
                    return Err(DirectError::new(ErrorKind::Unavailable, text).into());
                }
                if error.text.contains(NO_SHALLOW) && mirror.is_shallow().await {
                    // It once did: what is here cannot be completed any more, but be had anew.
                    return Err(Trouble::Mirror(error.text));
                }
                if refs.lost_head(|hash| says_missing(&error, hash)).is_some() {
                    // The branches are to be had all the same.
                    names.retain(|name| name != "HEAD");
                }
                if names.is_empty() {
                    continue;
                }
                // JGit leaves out some of what was before commits that it is told of, where these are here without it.
                let wanted = if is_incomplete(&error) {
                    Wanted::Anew(&names)
                } else {
                    Wanted::History(&names)
                };
                if let Err(error) = self.fetch(&mut disk, wanted).await {
                    return Err(self.suspect(error).await);
                }
            }
        }
        // One that moved since it was listed did not come.
        let here = self.here(refs).await?;
        let mut lines = Vec::new();
        for (name, hash) in refs.iter().filter(|(name, _)| *name != "HEAD") {
            if here.contains(hash) {
                lines.push(format!("{hash} {name}\n"));
            } else if name.starts_with(TAGS)
                && let Some(commit) = self.objects()?.commit_of(hash).await?
            {
                lines.push(format!("{hash} {name}\n^{commit}\n"));
            }
        }
        mirror.completed(&mut disk, lines, sum).await?;
        Ok(())
    }

    /// What of the references with a prefix (with branches: of `HEAD` too) is to be fetched, one for each commit that is
    /// not there, or is there without its history; or the pattern of all, if that is much.
    async fn missing(
        &mut self,
        refs: &Refs,
        prefix: &str,
        whole: bool,
    ) -> Result<Vec<String>, Trouble> {
        let here = if whole {
            HashSet::new()
        } else {
            self.here(refs).await?
        };
        let mut seen = HashSet::new();
        let (mut names, mut bytes) = (Vec::new(), 0);
        for (name, hash) in refs.iter() {
            let ours = name.starts_with(prefix) || name == "HEAD" && prefix == HEADS;
            if !ours || !seen.insert(hash) || here.contains(hash) {
                continue;
            }
            names.push(name.to_owned());
            bytes += name.len();
            if names.len() > MANY || bytes > MANY_BYTES {
                return Ok(vec![format!("+{prefix}*:{prefix}*")]);
            }
        }
        Ok(names)
    }

    /// The commits of the references that are in the mirror; there must be one.
    async fn here<'a>(&mut self, refs: &'a Refs) -> Result<HashSet<&'a str>, Trouble> {
        let hashes = refs.iter().map(|(_, hash)| hash).collect();
        self.objects()?.commits(&hashes).await
    }

    /// The tags with a prefix that are on the commit or its ancestors. Those that are on the commit itself, though the
    /// server did not tell, are noted in it: not every server tells what annotated tags are about.
    pub(crate) async fn merged_tags(
        &mut self,
        commit: &mut Commit,
        prefix: &str,
    ) -> Result<Vec<String>, Trouble> {
        let refs = self.refs().await?;
        let like_version = format!("{prefix}v");
        if refs.tags(&like_version).next().is_none() {
            return Ok(Vec::new());
        }
        self.history(&refs).await?;
        let what = "git for-each-ref";
        let mut git = command::local(&self.mirror.folder);
        // With a pattern, git may stop at commits that are older than what is before them, and miss tags.
        git.args(["for-each-ref", "--format=%(*objectname) %(refname)"]);
        git.arg(format!("--merged={}", commit.hash));
        let limit = self.bounds.time;
        within(limit, what, async {
            let mut running = Running::start(git, what)?;
            drop(running.take_stdin());
            let mut stdout = running.take_stdout()?;
            let mut merged = Vec::new();
            let mut line = Vec::new();
            while let Ok(1..) = (&mut stdout)
                .take(MAX_LINE)
                .read_until(b'\n', &mut line)
                .await
            {
                let told = line
                    .strip_suffix(b"\n")
                    .and_then(|line| std::str::from_utf8(line).ok())
                    .and_then(|line| line.split_once(' '))
                    .and_then(|(about, name)| Some((about, name.strip_prefix(TAGS)?)));
                let told = told.filter(|(_, tag)| tag.starts_with(&like_version));
                // What is gone from the repository may still be here.
                if let Some((about, tag)) = told.filter(|(_, tag)| refs.tag(tag).is_some()) {
                    if about == commit.hash && !commit.tags.iter().any(|seen| seen == tag) {
                        commit.tags.push(tag.to_owned());
                    }
                    merged.push(tag.to_owned());
                }
                line.clear();
            }
            let exit = running.finish().await?;
            if exit.success() {
                Ok(Ok(merged))
            } else {
                Ok(Err(Trouble::of_reader(what, &exit)))
            }
        })
        .await?
    }

    /// Whether a tag is on the commit or its ancestors.
    pub(crate) async fn descends_from(
        &mut self,
        commit: &Commit,
        tag: &Tag,
    ) -> Result<bool, Trouble> {
        if self.has(&tag.hash).await? && self.is_ancestor(&tag.hash, &commit.hash).await? {
            return Ok(true);
        }
        let refs = self.refs().await?;
        self.history(&refs).await?;
        if !self.has(&tag.hash).await? {
            if self.refs_again().await && self.refs().await?.tag(&tag.name) != Some(&tag.hash) {
                let text = format!("{}: the tag {} moved just now", self.way.url, tag.name);
                return Err(DirectError::new(ErrorKind::Unavailable, text).into());
            }
            let text = format!("{}, which the tag {} is on, is missing", tag.hash, tag.name);
            return Err(Trouble::Mirror(text));
        }
        self.is_ancestor(&tag.hash, &commit.hash).await
    }

    async fn is_ancestor(&self, ancestor: &str, hash: &str) -> Result<bool, Trouble> {
        let mut git = command::local(&self.mirror.folder);
        git.args(["merge-base", "--is-ancestor", ancestor, hash]);
        let (exit, _) = output(git, "git merge-base", 1 << 16, self.bounds.time).await?;
        match exit.code {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(Trouble::of_reader("git merge-base", &exit)),
        }
    }
}
