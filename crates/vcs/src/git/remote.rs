//! What needs the network: asking for references, fetching.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::time::{Instant, interval};

use super::command::remote;
use super::failure::failed;
use super::mirror::{Mirror, blocking, bytes};
use super::refs::{Reader, Refs};
use crate::process::{Running, output, within};
use crate::reach::Way;
use crate::{DirectError, ErrorKind};

/// Longest wait for references.
pub(crate) const REFS_WITHIN: Duration = Duration::from_mins(2);
/// Longest line of it, in bytes.
const MAX_LINE: u64 = 64 << 10;
/// Most lines of it, those that are passed over counted in.
pub(crate) const MAX_LINES: usize = 10_000_000;
/// How often a fetch is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Most that a fetch may say, in bytes.
const MAX_SAID: usize = 1 << 20;

/// What `ls-remote` said, and when it had said it; and how it failed, and when.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) said: Option<(Arc<Refs>, Instant)>,
    pub(crate) failed: Option<(DirectError, Instant)>,
}

/// What is to be fetched.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// References and the commits they stand for; of a mirror without history, these commits alone.
    Tips(&'a [(String, String)]),
    /// The same asked for by the commits' hashes, which saves listing the references once more. Servers that know protocol
    /// version 2 give any commit; others those that a reference is on, or none.
    Commits(&'a [(String, String)]),
    /// References with all of their history; or a pattern of them, with where they go.
    History(&'a [String]),
    /// The same, and the server is told of nothing that is here.
    Anew(&'a [String]),
}

/// Bounds of what a fetch may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) time: Duration,
    pub(crate) bytes: u64,
}

/// Asks for the references.
pub(crate) async fn ls_remote(
    mirror: &Mirror,
    way: &Way,
    limit: Duration,
) -> Result<Refs, DirectError> {
    let what = format!("git ls-remote {}", way.url);
    let home = mirror.folder.parent().unwrap_or(&mirror.folder).to_owned();
    // The hashes' kind is the repository's, whatever the mirror has: so without one.
    let mut command = remote(&home.join("none"), &home, way);
    command.args(["ls-remote", "-q", "--", &way.url]);
    within(limit, &what, async {
        let mut running = Running::start(command, &what)?;
        drop(running.take_stdin());
        let mut stdout = running.take_stdout()?;
        let mut reader = Reader::default();
        let mut line = Vec::new();
        for _ in 0..MAX_LINES {
            line.clear();
            let read = (&mut stdout)
                .take(MAX_LINE)
                .read_until(b'\n', &mut line)
                .await;
            match read {
                Ok(0) | Err(_) => {
                    let exit = running.finish().await?;
                    return if exit.success() {
                        Ok(reader.finish())
                    } else {
                        Err(failed(&what, way, &exit))
                    };
                }
                Ok(_) => reader.line(line.strip_suffix(b"\n").unwrap_or(&line))?,
            }
        }
        Err(DirectError::too_large(format!(
            "{what}: more than {MAX_LINES} lines"
        )))
    })
    .await
}

/// Fetches into the mirror, which must exist and be held.
pub(crate) async fn fetch(
    mirror: &Mirror,
    way: &Way,
    wanted: Wanted<'_>,
    bounds: Bounds,
) -> Result<(), DirectError> {
    let what = format!("git fetch {}", way.url);
    let mut command = remote(&mirror.folder, &mirror.folder, way);
    command.args([
        "fetch",
        "--quiet",
        "--force",
        "--no-tags",
        "--no-write-fetch-head",
        "--no-auto-gc",
        "--no-recurse-submodules",
        "--no-show-forced-updates",
    ]);
    match wanted {
        Wanted::Tips(tips) | Wanted::Commits(tips) => {
            if mirror.is_shallow().await || !mirror.was_complete().await {
                command.arg("--depth=1");
            }
            command.args(["--", &way.url]);
            // Kept under names that no other can be in the way of.
            let by_hash = matches!(wanted, Wanted::Commits(_));
            for (name, hash) in tips {
                let source = if by_hash { hash } else { name };
                command.arg(format!("{source}:refs/kept/{hash}"));
            }
        }
        Wanted::History(names) | Wanted::Anew(names) => {
            if mirror.is_shallow().await {
                command.arg("--unshallow");
            }
            if matches!(wanted, Wanted::Anew(_)) {
                command.arg("--refetch");
            }
            command.args(["--", &way.url]);
            command.args(names);
        }
    }
    let run = output(command, &what, MAX_SAID, bounds.time);
    let packs = mirror.folder.join("objects/pack");
    let (exit, _) = tokio::select! {
        done = run => done?,
        error = outgrown(&packs, bounds.bytes, &what) => return Err(error),
    };
    if exit.success() {
        Ok(())
    } else {
        Err(failed(&what, way, &exit))
    }
}

/// Comes back when a folder has more bytes than it may.
pub(crate) async fn outgrown(folder: &Path, max: u64, what: &str) -> DirectError {
    let mut looks = interval(LOOK);
    loop {
        looks.tick().await;
        let looked = folder.to_owned();
        let size = blocking(move || Ok(bytes(&looked))).await.unwrap_or(0);
        if size > max {
            return too_large(what, max, size);
        }
    }
}

/// The error of a repository with more bytes than it may have.
pub(crate) fn too_large(what: &str, max: u64, size: u64) -> DirectError {
    let (max, size) = (max >> 20, size >> 20);
    let text = format!("{what}: more than {max} MiB, {size} MiB by now");
    DirectError::new(ErrorKind::TooLarge, text)
        .hint("raise direct.max_repository_bytes if the repository is wanted")
}
