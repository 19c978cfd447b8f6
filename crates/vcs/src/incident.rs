//! What an operator should look at, and the tags that are remembered to see it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::git::refs::version_of;

/// Most tags that are remembered of a repository; of more, the first by name.
const MAX_TAGS: usize = 200_000;
/// How many tags that moved at once are told in the log; all are counted.
const MAX_TOLD: usize = 10;

/// Counts of what an operator should look at, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Incidents {
    /// Tags of versions that were found at another commit than before: what was published under a version is another
    /// thing now.
    pub moved_tags: u64,
}

type Listener = Box<dyn Fn() + Send + Sync>;

/// Takes incidents: counts them and passes them on.
#[derive(Default)]
pub(crate) struct Watch {
    moved_tags: AtomicU64,
    listener: OnceLock<Listener>,
}

impl Watch {
    /// Calls `listener` for each tag that moved from now on; the first one counts.
    pub(crate) fn listen(&self, listener: Listener) {
        let _ = self.listener.set(listener);
    }

    pub(crate) fn seen(&self) -> Incidents {
        Incidents {
            moved_tags: self.moved_tags.load(Ordering::Relaxed),
        }
    }

    /// Compares the tags of a repository with those remembered in `file`, tells which moved, and remembers them. A tag
    /// that is gone stays remembered: it may come back elsewhere. Waits for the disk.
    pub(crate) fn tags<'a>(
        &self,
        file: &Path,
        repository: &str,
        tags: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> io::Result<()> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            // A record that cannot be read is one that is not there.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
            Err(error) => return Err(error),
        };
        let mut known: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(hash, tag)| (tag, hash))
            .collect();
        let (mut changed, mut moved) = (false, 0);
        for (tag, now) in tags {
            if version_of(tag.rsplit('/').next().unwrap_or(tag)).is_none() {
                continue;
            }
            match known.get(tag).copied() {
                Some(was) if was == now => continue,
                Some(was) => {
                    moved += 1;
                    if moved <= MAX_TOLD {
                        tracing::error!(
                            repository,
                            tag,
                            old = was,
                            new = now,
                            "SECURITY: a tag moved; what is kept of its version stays as it was"
                        );
                    }
                    self.moved_tags.fetch_add(1, Ordering::Relaxed);
                    if let Some(listener) = self.listener.get() {
                        listener();
                    }
                }
                None if known.len() >= MAX_TAGS => continue,
                None => {}
            }
            known.insert(tag, now);
            changed = true;
        }
        if moved > MAX_TOLD {
            tracing::error!(
                repository,
                moved,
                "SECURITY: more tags moved than are told one by one"
            );
        }
        if !changed {
            return Ok(());
        }
        let mut lines = String::new();
        for (tag, hash) in &known {
            lines.extend([hash, " ", tag, "\n"]);
        }
        let fresh = file.with_extension("tags-new");
        fs::write(&fresh, lines)?;
        fs::rename(&fresh, file)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.seen().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_move_are_counted_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.tags");
        let watch = Watch::default();
        let see = |tags: &[(&str, &str)]| {
            watch.tags(&file, "r", tags.iter().copied()).unwrap();
            watch.seen().moved_tags
        };
        assert_eq!(
            see(&[("v1.0.0", "a"), ("sub/v1.0.0", "a"), ("latest", "a")]),
            0
        );
        assert_eq!(
            see(&[("v1.0.0", "a"), ("sub/v1.0.0", "a"), ("latest", "b")]),
            0
        );
        assert_eq!(see(&[("v1.0.0", "b"), ("v1.1.0", "c")]), 1);
        assert_eq!(see(&[("v1.0.0", "b"), ("v1.1.0", "c")]), 1);
        // It was gone in between.
        assert_eq!(see(&[("sub/v1.0.0", "b")]), 2);
        // A record that was cut or overwritten is begun anew.
        fs::write(&file, b"\xff\xfe").unwrap();
        assert_eq!(see(&[("v1.0.0", "d")]), 2);
        assert_eq!(see(&[("v1.0.0", "e")]), 3);
    }
}
