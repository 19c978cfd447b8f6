//! Tags of versions that move: what was published under a version is another thing now.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::mirror::{Mirror, blocking};
use super::refs::{Refs, version_of};

/// How many are told one by one, each time.
const TOLD: usize = 10;
/// Largest file of tags that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;

impl Mirror {
    /// Compares references with those from before, or from before modgate was started; tells what moved, and keeps the
    /// new ones for the next time.
    pub(super) async fn compare(&self, before: Option<Arc<Refs>>, now: &Refs, url: &str) {
        let seen: HashMap<String, String> = if let Some(before) = before {
            let versions = versions(&before);
            versions
                .map(|(tag, hash)| (tag.to_owned(), hash.to_owned()))
                .collect()
        } else {
            let file = self.tags.clone();
            // There is none at first.
            blocking(move || read(&file)).await.unwrap_or_default()
        };
        let mut moved = 0;
        for (tag, is) in versions(now) {
            let Some(was) = seen.get(tag).filter(|was| *was != is) else {
                continue;
            };
            moved += 1;
            if moved <= TOLD {
                tracing::warn!(
                    repository = url,
                    tag,
                    was,
                    now = is,
                    "the tag of a version was moved"
                );
            }
        }
        self.moves.fetch_add(moved as u64, Ordering::Relaxed);
        let mut text = String::new();
        for (tag, hash) in versions(now) {
            let _ = writeln!(text, "{hash} {tag}");
        }
        let file = self.tags.clone();
        let kept = blocking(move || {
            let new = file.with_extension("tags.new");
            fs::write(&new, text)?;
            fs::rename(new, file)
        });
        if let Err(error) = kept.await {
            tracing::warn!(repository = url, %error, "the tags cannot be kept: moves will not be seen after a restart");
        }
    }
}

/// The tags that are versions, of whatever module.
fn versions(refs: &Refs) -> impl Iterator<Item = (&str, &str)> {
    refs.tags("")
        .filter(|(tag, _)| version_of(tag.rsplit('/').next().unwrap_or(tag)).is_some())
}

fn read(file: &Path) -> io::Result<HashMap<String, String>> {
    let mut text = String::new();
    fs::File::open(file)?
        .take(MAX_BYTES)
        .read_to_string(&mut text)?;
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    Ok(lines
        .map(|(hash, tag)| (tag.to_owned(), hash.to_owned()))
        .collect())
}
