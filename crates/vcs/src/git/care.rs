//! The care of one mirror: one pack of many, without what nobody needs any more.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use tokio::time::Duration;

use super::command::local;
use super::mirror::{Mirror, blocking};
use crate::places::Places;
use crate::process::output;
use crate::{DirectError, ErrorKind};

/// How many packs a mirror may have before they are made one.
const MANY_PACKS: usize = 20;
/// How many references may be kept in files of their own before these are made one.
const MANY_FILES: usize = 1000;
/// Most that a care may say, in bytes.
const MAX_SAID: usize = 1 << 20;

/// Makes one pack of many, if there are many. Where all places are taken, it can wait until the next time.
///
/// Only a short part holds the mirror. The long one goes on beside the questions: git takes in new packs and removes
/// those that it has packed again, and what no reference leads to stays for a day, so that a question which just found
/// it does not lose it.
pub(super) async fn care(
    mirror: &Mirror,
    places: &Places,
    timeout: Duration,
) -> Result<(), DirectError> {
    let folder = mirror.folder.clone();
    let count = |folder: std::path::PathBuf| fs::read_dir(folder).map_or(0, Iterator::count);
    let due = move || {
        // A pack and its index.
        let packs = count(folder.join("objects/pack")) / 2;
        Ok(packs >= MANY_PACKS || count(folder.join("refs/kept")) >= MANY_FILES)
    };
    if !blocking(due).await? {
        return Ok(());
    }
    let _place = match places.enter(None).await {
        Ok(place) => place,
        Err(error) if error.kind == ErrorKind::Overloaded => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut disk = mirror.disk.lock().await;
    if !mirror.exists().await {
        return Ok(());
    }
    mirror.clean(&mut disk).await?;
    let caring = mirror.caring.lock().await;
    disk.clean = false;
    run(mirror, &["pack-refs", "--all", "--prune"], timeout).await?;
    forget_kept(mirror).await?;
    disk.clean = true;
    drop(disk);
    let done = tokio::select! {
        done = pack(mirror, timeout) => done,
        // Somebody is about to sweep, or to throw all away. The next time will do.
        () = mirror.disturbed.notified() => Ok(()),
    };
    drop(caring);
    if done.is_err() {
        mirror.disk.lock().await.clean = false;
    }
    mirror.measure_again().await;
    done
}

/// Packs all again, beside everybody else.
async fn pack(mirror: &Mirror, timeout: Duration) -> Result<(), DirectError> {
    let repack = [
        "repack",
        "--cruft",
        "--cruft-expiration=1.day.ago",
        "-d",
        "-q",
        "--threads=1",
        "--window-memory=64m",
    ];
    run(mirror, &repack, timeout).await?;
    // With grafts, a graph of commits would be wrong, and git writes none.
    let graph = ["commit-graph", "write", "--reachable", "--no-progress"];
    run(mirror, &graph, timeout).await
}

async fn run(mirror: &Mirror, args: &[&str], timeout: Duration) -> Result<(), DirectError> {
    let mut command = local(&mirror.folder);
    command.args(args);
    let what = format!("git {}", args[0]);
    let (exit, _) = output(command, &what, MAX_SAID, timeout).await?;
    if exit.success() {
        return Ok(());
    }
    let text = format!("{what}: {}", exit.stderr);
    Err(DirectError::new(ErrorKind::Disk, text))
}

/// Forgets commits that were kept for their own sake and that no branch or tag stands for any more: a version of them is
/// proven by the history, if it still is one. The mirror must be held.
async fn forget_kept(mirror: &Mirror) -> Result<(), DirectError> {
    // Who asks for references now will be a while; the next time will do.
    let said = mirror
        .asked
        .try_lock()
        .ok()
        .and_then(|asked| asked.said.clone());
    let Some((refs, _)) = said else {
        return Ok(());
    };
    let folder = mirror.folder.clone();
    blocking(move || {
        let tips: HashSet<&str> = refs.iter().map(|(_, hash)| hash).collect();
        rewrite(&folder, |kept| tips.contains(kept))
    })
    .await
}

/// Writes the file of references again, with those of the kept ones that `stays` says.
fn rewrite(folder: &Path, stays: impl Fn(&str) -> bool) -> io::Result<()> {
    let file = folder.join("packed-refs");
    let before = match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        before => before?,
    };
    let mut after = String::with_capacity(before.len());
    let mut staying = true;
    for line in before.lines() {
        // What an annotated tag is about stands behind it.
        if !line.starts_with('^') {
            let kept = line.split_once(" refs/kept/").map(|(_, kept)| kept);
            staying = kept.is_none_or(&stays);
        }
        if staying {
            after.push_str(line);
            after.push('\n');
        }
    }
    if after.len() == before.len() {
        return Ok(());
    }
    let new = folder.join("packed-refs.lock");
    fs::write(&new, after)?;
    fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_references_go_when_nothing_stands_for_them() {
        let folder = tempfile::tempdir().unwrap();
        rewrite(folder.path(), |_| false).unwrap();
        let file = folder.path().join("packed-refs");
        let text = "# pack-refs with: peeled fully-peeled sorted \n\
                    aa refs/heads/main\n\
                    bb refs/kept/bb\n\
                    tt refs/kept/cc\n\
                    ^cc\n\
                    tt refs/tags/v1.0.0\n\
                    ^cc\n";
        fs::write(&file, text).unwrap();
        rewrite(folder.path(), |kept| kept == "bb").unwrap();
        let want = text.replace("tt refs/kept/cc\n^cc\n", "");
        assert_eq!(fs::read_to_string(&file).unwrap(), want);
    }
}
