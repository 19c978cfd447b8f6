//! Backups of the records and of the index of what is kept: whole ones, and between them what changed.
//!
//! A backup is a folder, or what looks like one in a bucket: `<id>/backup.json` says what it is, and is written last; beside it is
//! `records.jsonl`, a copy of one moment, or `changes.jsonl`, which makes such a copy of the one before. Whatever is
//! read is compared with the SHA-256 that was written down.

mod changes;
mod target;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use records::{Records, SNAPSHOT, Snapshot, verify_snapshot};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::task::spawn_blocking;

use crate::{CareError, Work, now_ms};

pub use target::Target;

const MANIFEST: &str = "backup.json";
const CHANGES: &str = "changes.jsonl";
const FORM: u32 = 1;
/// Length of the time that an id begins with.
const STAMP_LEN: usize = "20261126T045300.000Z".len();
/// Backups on a schedule that hold only what changed, between two whole ones.
const BETWEEN: usize = 6;
/// Most backups in a row that build upon each other.
const MOST_IN_A_ROW: usize = 1000;

/// What is known of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    form: u32,
    /// Its name; sorts by time.
    pub id: String,
    /// Of which moment it is, in milliseconds since 1970.
    pub at_ms: i64,
    /// The one that it builds upon; none for a whole one.
    pub base: Option<String>,
    /// Rows of the records.
    pub rows: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// The SHA-256 of its file.
    pub file_sha256: String,
    /// The SHA-256 of the copy that it makes.
    pub state_sha256: String,
    /// The SHA-256 of all this but for itself.
    check: String,
}

impl Backup {
    fn file(&self) -> &'static str {
        if self.base.is_some() {
            CHANGES
        } else {
            SNAPSHOT
        }
    }

    fn sum(&self) -> Result<String, CareError> {
        let mut bare = self.clone();
        bare.check.clear();
        let json = serde_json::to_vec(&bare).map_err(io::Error::other)?;
        Ok(hex::encode(Sha256::digest(json)))
    }
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The backup.
    pub backup: Backup,
    /// Whether the records were read again and are what the backup says. If not, somebody changed them since.
    pub unchanged: bool,
}

fn wrong(id: &str, why: impl std::fmt::Display) -> CareError {
    CareError::Backup(format!("backup {id}: {why}"))
}

async fn off<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

/// The first moment after all that the backups there are named by. The one whose clock is slow writes a later one too,
/// and it must be seen that it is later.
async fn after(target: &Target) -> Result<i64, CareError> {
    let ids = target.ids().await?;
    let last = ids.iter().filter_map(|id| parse_stamp(id)).max();
    let Some(last) = last else {
        return Ok(i64::MIN);
    };
    if last >= now_ms() {
        let last = format_time(last);
        tracing::warn!(
            last,
            "the clock is behind the last backup there: look at the clocks of those who write backups. This one is \
             named as a later one, and keeps its own time for `--at`"
        );
    }
    Ok(last + 1)
}

/// Writes a backup. `incremental`: only what changed since the one before, if there is a good one. `work` is a folder
/// for temporary files.
pub async fn write(
    records: &Records,
    target: &Target,
    incremental: bool,
    work: &Path,
) -> Result<Backup, CareError> {
    let work = Work::new(work).await?;
    let at_ms = now_ms();
    let state = records.snapshot_to(work.path()).await?;
    let mut base = None;
    if incremental && let Some(last) = list(target).await?.pop() {
        let folder = work.path().join("base");
        match compose(target, &last.id, &folder).await {
            Ok((_, path)) => base = Some((last.id, path)),
            Err(error) => {
                tracing::error!(%error, "the last backup cannot be built upon: a whole one is written")
            }
        }
    }
    let (base, path) = match base {
        None => (None, state.path.clone()),
        Some((id, old)) => {
            let (new, changes) = (state.path.clone(), work.path().join(CHANGES));
            let to = changes.clone();
            off(move || changes::between(&old, &new, &to)).await?;
            (Some(id), changes)
        }
    };
    let file = path.clone();
    let (bytes, file_sha256) = off(move || sum_file(&file)).await?;
    let mut backup = Backup {
        form: FORM,
        id: new_id(at_ms.max(after(target).await?))?,
        at_ms,
        base,
        rows: state.rows,
        bytes,
        file_sha256,
        state_sha256: state.sha256,
        check: String::new(),
    };
    backup.check = backup.sum()?;
    target.put(&backup.id, backup.file(), &path).await?;
    let manifest = work.path().join(MANIFEST);
    let json = serde_json::to_vec_pretty(&backup).map_err(io::Error::other)?;
    let to = manifest.clone();
    off(move || std::fs::write(&to, json).map_err(|error| store::at(&to, error))).await?;
    target.put(&backup.id, MANIFEST, &manifest).await?;
    Ok(backup)
}

/// The backups there are, the oldest first. One that cannot be read is told in the log and left out.
pub async fn list(target: &Target) -> Result<Vec<Backup>, CareError> {
    let mut backups = Vec::new();
    for id in target.ids().await? {
        match manifest(target, &id).await {
            Ok(Some(backup)) => backups.push(backup),
            // Not finished.
            Ok(None) => {}
            Err(CareError::Backup(why)) => tracing::error!(why, "not used"),
            Err(error) => return Err(error),
        }
    }
    backups.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(backups)
}

async fn manifest(target: &Target, id: &str) -> Result<Option<Backup>, CareError> {
    let Some(json) = target.read_small(id, MANIFEST).await? else {
        return Ok(None);
    };
    let backup: Backup = serde_json::from_slice(&json).map_err(|error| wrong(id, error))?;
    if backup.form > FORM {
        return Err(wrong(id, "it was made by a newer modgate"));
    }
    if backup.check != backup.sum()? || backup.id != id {
        return Err(wrong(id, "its backup.json was altered"));
    }
    Ok(Some(backup))
}

/// Puts the copy of the records together that a backup stands for, in `folder`, and compares it.
async fn compose(target: &Target, id: &str, folder: &Path) -> Result<(Backup, PathBuf), CareError> {
    let mut row = Vec::new();
    let mut next = Some(id.to_owned());
    while let Some(id) = next.take() {
        let backup = manifest(target, &id).await?;
        let backup = backup.ok_or_else(|| wrong(&id, "it is not there"))?;
        next.clone_from(&backup.base);
        row.push(backup);
        // Ids of a slow clock do not say which is older.
        let again = |base: &String| row.iter().any(|backup| backup.id == *base);
        if next.as_ref().is_some_and(again) || row.len() >= MOST_IN_A_ROW {
            return Err(wrong(&id, "it builds upon itself"));
        }
    }
    let made = folder.to_owned();
    off(move || std::fs::create_dir_all(&made).map_err(|error| store::at(&made, error))).await?;
    let path = folder.join(SNAPSHOT);
    for backup in row.iter().rev() {
        let (id, file) = (&backup.id, folder.join(backup.file()));
        target.get(id, backup.file(), &file).await?;
        let read = file.clone();
        let (bytes, sha256) = off(move || sum_file(&read)).await?;
        if bytes != backup.bytes || sha256 != backup.file_sha256 {
            return Err(wrong(id, format_args!("its {} was altered", backup.file())));
        }
        if backup.base.is_some() {
            let (old, new) = (path.clone(), folder.join("next"));
            let applied = off(move || {
                changes::apply(&old, &file, &new)?;
                std::fs::rename(new, old)
            });
            applied.await.map_err(|error| wrong(id, error))?;
        }
        let state = verify_snapshot(&path).await?;
        if state.sha256 != backup.state_sha256 || state.rows != backup.rows {
            return Err(wrong(id, "what it makes is not what it says"));
        }
    }
    let backup = row.into_iter().next();
    let backup = backup.ok_or_else(|| wrong(id, "it is not there"))?;
    Ok((backup, path))
}

/// Restores the records to what they were at `at_ms`, or last, and reads them again.
pub async fn restore(
    records: &Records,
    target: &Target,
    at_ms: Option<i64>,
    work: &Path,
) -> Result<Restored, CareError> {
    let mut ids = target.ids().await?;
    ids.sort_unstable();
    let mut chosen = None;
    for id in ids.into_iter().rev() {
        let later = at_ms.is_some_and(|at_ms| parse_stamp(&id).is_some_and(|of| of > at_ms));
        let backup = match manifest(target, &id).await {
            Ok(backup) => backup,
            // A later one is not needed.
            Err(CareError::Backup(why)) if later => {
                tracing::warn!(why, "passed over: it is later");
                continue;
            }
            // One that is damaged must not be passed over in silence for an older one.
            Err(CareError::Backup(why)) => {
                return Err(CareError::Backup(format!(
                    "{why}; `--at` with a time before it takes an older one"
                )));
            }
            Err(error) => return Err(error),
        };
        if let Some(backup) = backup
            && at_ms.is_none_or(|at_ms| backup.at_ms <= at_ms)
        {
            chosen = Some(id);
            break;
        }
    }
    let id = chosen.ok_or_else(|| match at_ms {
        Some(at_ms) => {
            let at = format_time(at_ms);
            CareError::Backup(format!("{target} has no whole backup of {at} or before"))
        }
        None => CareError::Backup(format!("{target} has no backup that was finished")),
    })?;
    let work = Work::new(work).await?;
    let folder = work.path().join("restored");
    let (backup, _) = compose(target, &id, &folder).await?;
    records.restore_from(&folder).await?;
    let again: Snapshot = records.snapshot_to(work.path()).await?;
    Ok(Restored {
        unchanged: again.sha256 == backup.state_sha256,
        backup,
    })
}

/// Removes what is older than the last `keep` whole backups. Returns how many backups went.
pub async fn prune(target: &Target, keep: usize) -> Result<usize, CareError> {
    let backups = list(target).await?;
    let whole: Vec<&Backup> = backups
        .iter()
        .filter(|backup| backup.base.is_none())
        .collect();
    let Some(oldest) = whole
        .len()
        .checked_sub(keep.max(1))
        .and_then(|at| whole.get(at))
    else {
        return Ok(0);
    };
    let mut gone = 0;
    for backup in backups.iter().filter(|backup| backup.id < oldest.id) {
        // Without it the rest is no backup.
        target.remove(&backup.id, MANIFEST).await?;
        target.remove(&backup.id, backup.file()).await?;
        target.remove_folder(&backup.id).await?;
        gone += 1;
    }
    Ok(gone)
}

/// One backup of a schedule, if it is due: what changed, and a whole one from time to time; then what is too old goes.
/// Returns it, and how long until the next.
pub async fn on_schedule(
    records: &Records,
    target: &Target,
    every: Duration,
    keep: usize,
    work: &Path,
) -> Result<(Option<Backup>, Duration), CareError> {
    let backups = list(target).await?;
    if let Some(last) = backups.last() {
        let age = now_ms().saturating_sub(last.at_ms);
        // One of the future says nothing.
        if let Ok(age) = u64::try_from(age)
            && let Some(left) = every.checked_sub(Duration::from_millis(age))
            && !left.is_zero()
        {
            return Ok((None, left));
        }
    }
    let since = backups
        .iter()
        .rev()
        .take_while(|backup| backup.base.is_some());
    let incremental = since.count() < BETWEEN && !backups.is_empty();
    let backup = write(records, target, incremental, work).await?;
    let gone = prune(target, keep).await?;
    if gone > 0 {
        tracing::info!(gone, "old backups removed");
    }
    Ok((Some(backup), every))
}

fn new_id(at_ms: i64) -> Result<String, CareError> {
    let mut salt = [0; 3];
    getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!("{}-{}", stamp(at_ms)?, hex::encode(salt)))
}

/// What an id begins with: sorts by time.
fn stamp(at_ms: i64) -> Result<String, CareError> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000);
    let at = at.map_err(io::Error::other)?;
    Ok(format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    ))
}

/// The moment that an id begins with.
fn parse_stamp(id: &str) -> Option<i64> {
    let stamp = id.get(..STAMP_LEN)?;
    let part = |from: usize, to: usize| stamp.get(from..to);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, rest) = (part(9, 11)?, part(11, 13)?, part(13, STAMP_LEN)?);
    parse_time(&format!("{year}-{month}-{day}T{hour}:{minute}:{rest}")).ok()
}

/// A time as people write it, `2026-11-26T04:53:00Z`, in milliseconds since 1970.
pub fn parse_time(text: &str) -> Result<i64, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339);
    let time = time.map_err(|_| "write it as 2026-11-26T04:53:00Z".to_owned())?;
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).map_err(|error| error.to_string())
}

/// Milliseconds since 1970 as people read them.
pub fn format_time(at_ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| at_ms.to_string())
}

fn sum_file(path: &Path) -> io::Result<(u64, String)> {
    let (mut file, mut hash) = (std::fs::File::open(path)?, Sha256::new());
    let bytes = io::copy(&mut file, &mut HashWriter(&mut hash))?;
    Ok((bytes, hex::encode(hash.finalize())))
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
