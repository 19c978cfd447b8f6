//! What chains said of things that change, kept within bounds: below `fresh/`, and in the records that replicas share.
//!
//! An answer goes when nobody used it for a season and nothing of its module is kept; and where there are too many, those that were used
//! the longest ago go. What goes is asked for again when somebody wants it. Nobody waits for that.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs, io,
    path::Path,
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use gomod::ModulePath;
use records::RecordsError;
use store::{
    Folder, Key,
    folder::{Entry, Filed},
};
use tokio::{task::spawn_blocking, time::sleep};

use crate::{gateway::Gateway, keep::now_ms, kept_versions::kept_folder};

const FOLDER: &str = "fresh";
/// Answers that are kept at most.
const MAX_ANSWERS: usize = 100_000;
/// So long an answer stays that nobody uses.
const UNUSED: Duration = Duration::from_hours(90 * 24);
/// Between two walks over all of them: at the latest, and at the earliest.
const WALK: Duration = Duration::from_hours(24);
const LOOK: Duration = Duration::from_mins(1);
/// After so many new answers there is a walk at the next look.
const MANY: u64 = 10_000;
/// Answers that are read from the records at once.
const PAGE: u32 = 500;
/// So old is what an answer's file says of its last use before it is noted again.
pub(crate) const NOTE_USE: Duration = Duration::from_hours(24);

/// Keeps them within bounds, until the gateway goes.
pub(crate) async fn tidy(gateway: Weak<Gateway>) {
    let mut last: Option<Instant> = None;
    while let Some(strong) = gateway.upgrade() {
        let due = last.is_none_or(|last| last.elapsed() >= WALK);
        if due || strong.answers_saved.load(Relaxed) >= MANY {
            strong.answers_saved.store(0, Relaxed);
            last = Some(Instant::now());
            strong.tidy_answers().await;
        }
        drop(strong);
        sleep(LOOK).await;
    }
}

impl Gateway {
    async fn tidy_answers(self: &Arc<Self>) {
        let unused = i64::try_from(UNUSED.as_millis()).unwrap_or(i64::MAX);
        let before_ms = now_ms().saturating_sub(unused);
        if self.records.shared()
            && let Err(error) = self.tidy_shared(MAX_ANSWERS as u64, before_ms).await
        {
            tracing::warn!(%error, "cannot look through the answers in the records; they stay for now");
        }
        // What was there before the records were shared goes too.
        let gateway = Arc::clone(self);
        let tidied = spawn_blocking(move || {
            let folder = Folder::new(gateway.store.folder());
            tidy_folder(&folder, MAX_ANSWERS, before_ms, |key| {
                let module = module_of(key).filter(|_| !gateway.has_in_memory(key));
                let kept = module.map(|module| gateway.kept_names(&module));
                kept.is_some_and(|kept| kept.is_ok_and(|names| names.is_empty()))
            })
        });
        match tidied.await {
            Ok(Ok(0)) => {}
            Ok(Ok(removed)) => {
                tracing::info!(removed, "answers that change: the longest unused are gone")
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot look through `fresh/`; it stays as it is for now");
            }
            // The process ends, perhaps because it could not even start.
            Err(error) if error.is_cancelled() => {}
            Err(error) => tracing::error!(%error, "looking through `fresh/`"),
        }
    }

    async fn tidy_shared(&self, max: u64, before_ms: i64) -> Result<(), RecordsError> {
        let mut after = (i64::MIN, String::new());
        loop {
            let page = self.records.old_answers(before_ms, &after, PAGE).await?;
            let Some(last) = page.last().cloned() else {
                break;
            };
            for (asked_ms, key) in page {
                let Some(module) = module_of(&key).filter(|_| !self.has_in_memory(&key)) else {
                    continue;
                };
                let kept = self.records.folder(&kept_folder(&module)).await?;
                if kept.is_empty() {
                    self.records.drop_answer(&key, asked_ms).await?;
                }
            }
            after = last;
        }
        let mut over = self.records.count_answers().await?.saturating_sub(max);
        while over > 0 {
            let limit = u32::try_from(over).map_or(PAGE, |over| over.min(PAGE));
            let first = (i64::MIN, String::new());
            let page = self.records.old_answers(i64::MAX, &first, limit).await?;
            if page.is_empty() {
                break;
            }
            over = over.saturating_sub(page.len() as u64);
            for (asked_ms, key) in page {
                self.records.drop_answer(&key, asked_ms).await?;
            }
        }
        Ok(())
    }

    /// Whether it may have been used without a look at the disk.
    fn has_in_memory(&self, key: &str) -> bool {
        [false, true]
            .into_iter()
            .any(|private| self.changeables.get(key, private).is_some())
    }
}

/// The module that an answer is of.
fn module_of(key: &str) -> Option<ModulePath> {
    let (module, _) = key
        .strip_prefix(FOLDER)?
        .strip_prefix('/')?
        .split_once("/@")?;
    ModulePath::from_escaped(module).ok()
}

/// Removes what was not used since `before_ms` and is `unneeded`, and of the rest all but the `max` used last. Returns how many went.
fn tidy_folder(
    folder: &Folder,
    max: usize,
    before_ms: i64,
    unneeded: impl Fn(&str) -> bool,
) -> io::Result<u64> {
    let mut removed = 0;
    let mut last_used = BinaryHeap::new();
    for entry in folder.walk(FOLDER, "") {
        let Entry::File(file) = entry? else { continue };
        if file.kept_at_ms < before_ms && unneeded(file.key.as_str()) {
            removed += u64::from(remove(folder, &file.key, file.kept_at_ms)?);
            continue;
        }
        last_used.push(Reverse((file.kept_at_ms, file.key)));
        if last_used.len() > max
            && let Some(Reverse((at_ms, key))) = last_used.pop()
        {
            removed += u64::from(remove(folder, &key, at_ms)?);
        }
    }
    Ok(removed)
}

/// Removes a file that nobody has used or written anew since, and the folders that are empty then.
fn remove(folder: &Folder, key: &Key, at_ms: i64) -> io::Result<bool> {
    let is_same = |file: &Filed| file.kept_at_ms == at_ms;
    if !folder.look(key)?.as_ref().is_some_and(is_same) {
        return Ok(false);
    }
    folder.remove(key)?;
    let above = Path::new(key.as_str()).ancestors().skip(1);
    let above = above.take_while(|above| *above != Path::new(FOLDER));
    // The first that is not empty ends it.
    let _ = above
        .map(|above| fs::remove_dir(folder.path().join(above)))
        .find(io::Result::is_err);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        time::{SystemTime, UNIX_EPOCH},
    };

    use super::*;

    #[test]
    fn the_longest_unused_go_and_what_nobody_needs() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::new(data.path());
        let put = |key: &str, at_s: u64| {
            let path = data.path().join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = File::create(path).unwrap();
            let at: SystemTime = UNIX_EPOCH + Duration::from_secs(at_s);
            file.set_modified(at).unwrap();
        };
        put("go/a.example/kept/@v/list", 1);
        put("fresh/a.example/old/deep/@v/list", 10);
        put("fresh/a.example/old/@latest", 100);
        put("fresh/a.example/kept/@v/list", 10);
        put("fresh/b.example/new/@v/main.info", 101);
        put("fresh/b.example/newer/@v/main.info", 102);
        let there = || -> Vec<String> {
            let entries = folder.walk(FOLDER, "").map(|entry| match entry.unwrap() {
                Entry::File(file) => file.key.to_string(),
                Entry::Stray(path) => panic!("{}", path.display()),
            });
            entries.collect()
        };
        let unneeded = |key: &str| module_of(key).unwrap().as_str() != "a.example/kept";
        assert_eq!(tidy_folder(&folder, 10, 50_000, unneeded).unwrap(), 1);
        assert!(!data.path().join("fresh/a.example/old/deep").exists());
        assert_eq!(there().len(), 4);
        assert_eq!(tidy_folder(&folder, 2, 50_000, unneeded).unwrap(), 2);
        assert_eq!(
            there(),
            [
                "fresh/b.example/new/@v/main.info",
                "fresh/b.example/newer/@v/main.info"
            ]
        );
        assert_eq!(tidy_folder(&folder, 0, 0, unneeded).unwrap(), 2);
        assert!(
            data.path().join("fresh").exists() && !data.path().join("fresh/b.example").exists()
        );
        assert!(data.path().join("go/a.example/kept/@v/list").exists());
    }

    #[test]
    fn an_answer_is_of_a_module() {
        let module = |key: &str| module_of(key).map(|module| module.to_string());
        let upper = Some("a.example/M".to_owned());
        assert_eq!(module("fresh/a.example/!m/@v/a@b.info"), upper);
        assert_eq!(module("fresh/a.example/!m/@latest"), upper);
        assert_eq!(module("fresh/a.example/!m/@denied"), upper);
        assert_eq!(module("fresh/a.example/list"), None);
        assert_eq!(module("go/a.example/m/@v/list"), None);
    }
}
