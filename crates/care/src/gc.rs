//! Removes versions that were not used for long, from every tier and from the index. Never what is pinned.
//!
//! A version goes as a whole. Its last use is the latest of what the index knows and, on a disk, of when its files
//! were last read.

use std::time::Duration;

use gomod::{ModulePath, Version, pattern::Patterns};
use records::{Filter, Records, RecordsErrorKind};
use serde::Serialize;
use store::Key;

use crate::{CareError, Part, Storage, now_ms, parse_key};

/// Rows that are read at a time.
const PAGE: u32 = 256;
/// Looked for at a start: the lists of folders are not what is kept. As in the gateway.
const LISTS_MARKER: &str = "lists.unwritten";

/// What goes. Of several bounds each must be met.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Not used for so long.
    pub older_than: Option<Duration>,
    /// The longest unused, until no more bytes than this are kept.
    pub max_size: Option<u64>,
    /// Of these modules only.
    pub matching: Option<Patterns>,
    /// Does it; else it is only told.
    pub really: bool,
}

/// One version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gone {
    /// The module.
    pub module: String,
    /// The version.
    pub version: String,
    /// The bytes of its files.
    pub bytes: u64,
    /// When it was last used, in milliseconds since 1970.
    pub used_at_ms: i64,
    #[serde(skip)]
    stem: String,
}

/// What was done, or would be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether it was done.
    pub done: bool,
    /// The versions, the longest unused first.
    pub removed: Vec<Gone>,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Versions that stay.
    pub kept: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// Those among them that would have gone, and are pinned.
    pub pinned: u64,
}

/// Does it. `watch` is told of each version that goes.
pub async fn run(
    storage: &Storage,
    options: &Options,
    watch: &(dyn Fn(&Gone) + Sync),
) -> Result<Report, CareError> {
    let _alone = storage.alone().await?;
    let mut report = Report {
        done: options.really,
        ..Report::default()
    };
    let now = now_ms();
    let older_ms = options
        .older_than
        .map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let cutoff = now.saturating_sub(older_ms);
    let mut candidates = Vec::new();
    let mut versions = Versions::new(storage);
    while let Some((version, pinned)) = versions.next().await? {
        report.kept += 1;
        report.kept_bytes += version.bytes;
        let matching = options
            .matching
            .as_ref()
            .is_none_or(|patterns| patterns.matches_str(&version.module));
        if !matching || (options.older_than.is_some() && version.used_at_ms >= cutoff) {
            continue;
        }
        if pinned {
            report.pinned += 1;
        } else {
            candidates.push(version);
        }
    }
    candidates
        .sort_by(|one, other| (one.used_at_ms, &one.stem).cmp(&(other.used_at_ms, &other.stem)));
    let waiting = storage.on_disk(store::Folder::waiting).await?;
    let mut removal = Removal::new(storage);
    for version in candidates {
        if options.max_size.is_some_and(|max| report.kept_bytes <= max) {
            break;
        }
        // What is still to be written to a tier would come back.
        let waits = |(_, key): &(String, Key)| {
            key.as_str()
                .strip_prefix(&version.stem)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        if waiting.iter().any(waits) {
            continue;
        }
        if options.really && !removal.remove(&version).await? {
            report.pinned += 1;
            continue;
        }
        watch(&version);
        report.kept -= 1;
        report.kept_bytes -= version.bytes;
        report.removed_bytes += version.bytes;
        report.removed.push(version);
    }
    removal.end().await?;
    Ok(report)
}

/// Removes versions. The files go first, and make room for what the index must write on a full disk; what a kill leaves
/// in the index, the next one removes.
struct Removal<'a> {
    storage: &'a Storage,
    /// Whether a file went.
    begun: bool,
    /// Removed, and not yet taken out of the index.
    indexed: Vec<Key>,
}

impl<'a> Removal<'a> {
    fn new(storage: &'a Storage) -> Self {
        Self {
            storage,
            begun: false,
            indexed: Vec::new(),
        }
    }

    /// Removes all files of a version, unless it was pinned in the meantime.
    async fn remove(&mut self, version: &Gone) -> Result<bool, CareError> {
        let keys: Vec<Key> = [Part::Mod, Part::Info, Part::Zip, Part::ZipHash]
            .iter()
            .filter_map(|part| Key::new(format!("{}.{}", version.stem, part.ending())).ok())
            .collect();
        for key in &keys {
            let row = self.storage.records.object(key.as_str()).await?;
            if row.is_some_and(|row| row.pinned) {
                return Ok(false);
            }
        }
        match self.mark_lists(false).await {
            Err(CareError::Disk(error)) if error.kind() == std::io::ErrorKind::StorageFull => {
                tracing::warn!(%error, "cannot mark that lists change before there is room");
            }
            done => done?,
        }
        self.begun = true;
        // Without its `.mod` it is in no list.
        for key in &keys {
            self.storage.remove(key).await?;
        }
        self.indexed.extend(keys);
        match self.forget().await {
            Err(CareError::Records(error)) if error.kind == RecordsErrorKind::Full => {
                tracing::warn!(%error, "the index waits for more room");
            }
            done => done?,
        }
        tracing::info!(
            module = version.module,
            version = version.version,
            "gc: removed"
        );
        Ok(true)
    }

    /// Takes what was removed out of the index, which tells everybody.
    async fn forget(&mut self) -> Result<(), CareError> {
        let keys: Vec<&str> = self.indexed.iter().map(Key::as_str).collect();
        self.storage.records.forget_all(&keys).await?;
        self.indexed.clear();
        Ok(())
    }

    /// Marks that the lists of folders are not what is kept: one that is killed leaves that to the next start.
    async fn mark_lists(&self, anew: bool) -> Result<(), CareError> {
        let marked = self.storage.on_disk(move |folder| {
            let marker = Key::new(LISTS_MARKER.to_owned()).map_err(std::io::Error::other)?;
            if !anew && folder.look(&marker)?.is_some() {
                return Ok(());
            }
            folder.replace_small(&marker, b"")
        });
        Ok(marked.await?)
    }

    /// What is left to do after the last one.
    async fn end(mut self) -> Result<(), CareError> {
        if !self.begun {
            return Ok(());
        }
        if !self.indexed.is_empty() {
            self.forget().await?;
        }
        // A running server may have taken away the first one.
        self.mark_lists(true).await
    }
}

/// Sets or takes away the pins of a module's versions, or of one of them. Returns how many files that were.
pub async fn pin(
    records: &Records,
    module: &ModulePath,
    version: Option<&Version>,
    pinned: bool,
) -> Result<u64, CareError> {
    let folder = format!("go/{}/@v", module.escaped());
    let wanted = version.map(|version| format!("{folder}/{}", version.escaped()));
    let mut count = 0;
    for name in records.folder(&folder).await? {
        let key = format!("{folder}/{name}");
        let Some((stem, ..)) = parse_key(&key) else {
            continue;
        };
        if wanted.as_deref().is_none_or(|wanted| wanted == stem) {
            let done = if pinned {
                records.pin(&key).await?
            } else {
                records.unpin(&key).await?
            };
            count += u64::from(done);
        }
    }
    Ok(count)
}

/// A pinned version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pinned {
    /// The module.
    pub module: String,
    /// The version.
    pub version: String,
    /// The bytes of its pinned files.
    pub bytes: u64,
    /// When the first of them was kept, in milliseconds since 1970.
    pub kept_at_ms: i64,
}

/// All pinned versions, in the order of their keys.
pub async fn pinned(records: &Records) -> Result<Vec<Pinned>, CareError> {
    let (mut versions, mut after) = (Vec::<Pinned>::new(), String::new());
    loop {
        let rows = records.pinned(&after, PAGE).await?;
        let Some(last) = rows.last() else {
            return Ok(versions);
        };
        last.key.clone_into(&mut after);
        for row in &rows {
            let Some((_, module, version, _)) = parse_key(&row.key) else {
                continue;
            };
            match versions.last_mut() {
                Some(last)
                    if last.module == module.as_str() && last.version == version.as_str() =>
                {
                    last.bytes += row.size;
                    last.kept_at_ms = last.kept_at_ms.min(row.kept_at_ms);
                }
                _ => versions.push(Pinned {
                    module: module.as_str().to_owned(),
                    version: version.as_str().to_owned(),
                    bytes: row.size,
                    kept_at_ms: row.kept_at_ms,
                }),
            }
        }
    }
}

/// The versions in the index, in the order of their keys. The files of one follow each other there.
struct Versions<'a> {
    storage: &'a Storage,
    after: String,
    rows: std::vec::IntoIter<records::Object>,
    ended: bool,
    current: Option<(Gone, bool)>,
}

impl<'a> Versions<'a> {
    fn new(storage: &'a Storage) -> Self {
        Self {
            storage,
            after: String::new(),
            rows: Vec::new().into_iter(),
            ended: false,
            current: None,
        }
    }

    async fn next(&mut self) -> Result<Option<(Gone, bool)>, CareError> {
        loop {
            let Some(row) = self.rows.next() else {
                if self.ended {
                    return Ok(self.current.take());
                }
                let all = Filter::default();
                let rows = self
                    .storage
                    .records
                    .objects(&self.after, PAGE, &all)
                    .await?;
                match rows.last() {
                    Some(last) => last.key.clone_into(&mut self.after),
                    None => self.ended = true,
                }
                self.rows = rows.into_iter();
                continue;
            };
            let Some((stem, module, version, _)) = parse_key(&row.key) else {
                continue;
            };
            let used_at_ms = row.used_at_ms.max(self.read_at_ms(&row.key).await?);
            if let Some((current, pinned)) = &mut self.current
                && current.stem == stem
            {
                current.bytes += row.size;
                current.used_at_ms = current.used_at_ms.max(used_at_ms);
                *pinned |= row.pinned;
                continue;
            }
            let next = Gone {
                module: module.as_str().to_owned(),
                version: version.as_str().to_owned(),
                bytes: row.size,
                used_at_ms,
                stem: stem.to_owned(),
            };
            if let Some(done) = self.current.replace((next, row.pinned)) {
                return Ok(Some(done));
            }
        }
    }

    /// When the file on the disk was last read.
    async fn read_at_ms(&self, key: &str) -> Result<i64, CareError> {
        let Ok(key) = Key::new(key.to_owned()) else {
            return Ok(i64::MIN);
        };
        let filed = self
            .storage
            .on_disk(move |folder| folder.look(&key))
            .await?;
        Ok(filed.map_or(i64::MIN, |filed| filed.used_at_ms))
    }
}
