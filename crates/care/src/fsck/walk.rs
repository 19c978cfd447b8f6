//! The walks: over the index, the disk and each bucket, several objects at a time.

use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use records::{Filter, Object};
use store::{
    Key,
    folder::{Entry, Walk},
    tier::{InBucket, Tier},
};

use super::{Finding, Fsck, Kind, Work, look::Waiting};
use crate::{CareError, Part, now_ms, parse_key};

/// Rows that are read at a time.
const PAGE: u32 = 256;
/// Files of a walk that are read at a time.
const FILES: usize = 64;
/// Objects that are compared at a time: most of the time of each is waiting for a bucket.
const AT_ONCE: usize = 8;
/// What came so short a time ago may not be in the index yet.
const YOUNG_MS: i64 = 60_000;
/// What nobody has written to for so long is not being written.
const LEFT: Duration = Duration::from_hours(1);
/// What was found at one place of a walk.
#[derive(Default)]
struct Checked {
    /// Where the walk is then.
    at: Option<String>,
    /// Whether an object was compared.
    compared: bool,
    /// Whether it is left to the next run.
    young: bool,
    findings: Vec<Finding>,
}

/// A walk: what it found, in its order.
type Checks<'a> = BoxStream<'a, Result<Checked, CareError>>;

impl<'a> Fsck<'a> {
    /// Takes note of what a walk finds.
    async fn follow(&mut self, mut checks: Checks<'a>) -> Result<(), CareError> {
        while let Some(checked) = checks.next().await {
            let checked = checked?;
            for finding in checked.findings {
                self.found(finding);
            }
            self.state.report.checked += u64::from(checked.compared);
            self.state.report.young += u64::from(checked.young);
            if let Some(at) = checked.at {
                self.came_to(&at).await?;
            }
        }
        self.state.report.bytes = self.work.read.load(Relaxed);
        Ok(())
    }

    pub(super) async fn walk_index(&mut self) -> Result<(), CareError> {
        let work = self.work;
        loop {
            let after = self.state.after.clone();
            let all = Filter::default();
            let rows = self.storage.records.objects(&after, PAGE, &all).await?;
            if rows.is_empty() {
                return Ok(());
            }
            let waiting = work.waiting().await?;
            let checks =
                stream::iter(rows).map(move |row| work.check_row(row, Arc::clone(&waiting)));
            self.follow(checks.buffered(AT_ONCE).boxed()).await?;
        }
    }

    pub(super) async fn walk_disk(&mut self) -> Result<(), CareError> {
        let work = self.work;
        let mut walk = self.storage.folder.walk("go", &self.state.after);
        loop {
            let stepped = tokio::task::spawn_blocking(move || step(walk));
            let (rest, entries) = stepped.await.map_err(io::Error::other)??;
            walk = rest;
            if entries.is_empty() {
                break;
            }
            let checks = stream::iter(entries).map(move |entry| async move {
                match entry {
                    Entry::File(file) => work.check_filed(&file.key, file.kept_at_ms).await,
                    Entry::Stray(path) => Ok(stray(path.display().to_string(), "disk")),
                }
            });
            self.follow(checks.buffered(AT_ONCE).boxed()).await?;
        }
        self.partial().await
    }

    pub(super) async fn walk_tier(&mut self, tier: &'a Tier) -> Result<(), CareError> {
        let Tier::Object(object) = tier else {
            return Ok(());
        };
        let (work, after) = (self.work, self.state.after.clone());
        let go = Key::new("go".to_owned()).map_err(io::Error::other)?;
        let entries = object.entries(Some(&go)).map_err(CareError::from);
        let checks = entries.try_filter_map(move |entry| {
            let behind =
                matches!(&entry, InBucket::Object(listed) if listed.key.as_str() <= after.as_str());
            std::future::ready(Ok((!behind).then_some(entry)))
        });
        let checks = checks.map_ok(move |entry| async move {
            match entry {
                InBucket::Object(listed) => {
                    let kept_at_ms = listed.modified.saturating_mul(1000);
                    work.check_filed(&listed.key, kept_at_ms).await
                }
                InBucket::Stray(name) => Ok(stray(name, tier.name())),
            }
        });
        self.follow(checks.try_buffered(AT_ONCE).boxed()).await
    }

    async fn partial(&mut self) -> Result<(), CareError> {
        let before = SystemTime::now()
            .checked_sub(LEFT)
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let partial = self.storage.on_disk(move |folder| folder.partial(before));
        for path in partial.await? {
            let mut finding = Finding {
                kind: Kind::Partial,
                key: path.display().to_string(),
                place: "disk".to_owned(),
                detail: "nobody writes to it any more".to_owned(),
                repaired: None,
            };
            if self.options.repair {
                let removed = self
                    .storage
                    .on_disk(move |folder| folder.remove_partial(&path));
                match removed.await {
                    Ok(()) => finding.repaired = Some("removed".to_owned()),
                    Err(error) => finding.detail = error.to_string(),
                }
            }
            self.found(finding);
        }
        Ok(())
    }
}

impl Work<'_> {
    async fn check_row(&self, row: Object, waiting: Arc<Waiting>) -> Result<Checked, CareError> {
        let name = row.key.clone();
        let findings = match Key::new(name.clone()) {
            Ok(key) => self.check(&key, Some(row), &waiting).await?,
            Err(error) => vec![Finding {
                kind: Kind::Stray,
                key: name.clone(),
                place: "index".to_owned(),
                detail: error.to_string(),
                repaired: None,
            }],
        };
        Ok(Checked {
            at: Some(name),
            compared: true,
            findings,
            ..Checked::default()
        })
    }

    /// Something that is kept: what the index has was compared already.
    async fn check_filed(&self, key: &Key, kept_at_ms: i64) -> Result<Checked, CareError> {
        let mut checked = Checked {
            at: Some(key.as_str().to_owned()),
            ..Checked::default()
        };
        match parse_key(key.as_str()) {
            Some((stem, _, _, Part::ZipHash)) => {
                checked.findings.extend(self.check_hash(key, stem).await?);
            }
            Some(_) => {
                let row = self.storage.records.object(key.as_str()).await?;
                // By a clock that was ahead it would be young for long.
                checked.young = row.is_none() && (now_ms() - kept_at_ms).abs() < YOUNG_MS;
                if row.is_none() && !checked.young {
                    let waiting = self.waiting().await?;
                    checked.findings = self.check(key, None, &waiting).await?;
                    checked.compared = true;
                }
            }
            // Lists change, and tiles are proven whenever they are used.
            None => {}
        }
        Ok(checked)
    }
}

fn stray(key: String, place: &str) -> Checked {
    Checked {
        findings: vec![Finding {
            kind: Kind::Stray,
            key,
            place: place.to_owned(),
            detail: "not a file that modgate made; left alone".to_owned(),
            repaired: None,
        }],
        ..Checked::default()
    }
}

fn step(mut walk: Walk) -> io::Result<(Walk, Vec<Entry>)> {
    let entries = walk.by_ref().take(FILES).collect::<io::Result<_>>()?;
    Ok((walk, entries))
}
