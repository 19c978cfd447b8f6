//! Compares everything that is kept with what it must be, in every tier, while it is served.
//!
//! Three walks: over the index (is each object where it must be, and are its bytes right in every tier?), over the
//! disk and over each bucket (what is there that the index does not know?). How far they came is noted, so that one
//! that is killed can go on. With [`Options::repair`] what is wrong is put right: a bad copy goes into quarantine and
//! is made anew from another tier, or from upstream.

mod look;
mod repair;
mod walk;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use records::{Filter, Object};
use serde::{Deserialize, Serialize};
use store::{Folder, Key};

use crate::{CareError, Pace, Storage};

/// Between two notes of how far it came.
const NOTE: Duration = Duration::from_millis(250);
/// Findings that are told one by one; the others are counted.
const MOST_FINDINGS: usize = 10_000;
const STATE: &str = "fsck.json";
const FORM: u32 = 1;

/// How it is done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether what is wrong is put right.
    pub repair: bool,
    /// At most so many bytes are read in a second.
    pub rate: Option<u64>,
    /// Goes on where the last one was interrupted.
    pub resume: bool,
}

/// Where an object is fetched anew.
pub trait Upstream: Sync {
    /// Fetches and verifies the object, into a file that is the caller's.
    fn fetch<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<PathBuf, String>>;
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Its bytes are not what they should be.
    Altered,
    /// A tier that keeps does not have it.
    Missing,
    /// It is in the index and nowhere else.
    Lost,
    /// It is kept, and not in the index.
    NotIndexed,
    /// The index has another hash than the good bytes.
    IndexDiffers,
    /// A file that nobody finished.
    Partial,
    /// Something in the folder that modgate did not put there.
    Stray,
    /// It cannot be read now.
    Unreadable,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Altered => "altered",
            Self::Missing => "missing",
            Self::Lost => "lost",
            Self::NotIndexed => "not_indexed",
            Self::IndexDiffers => "index_differs",
            Self::Partial => "partial",
            Self::Stray => "stray",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// With which object, or file.
    pub key: String,
    /// Where: `disk`, `index`, or the name of a tier.
    pub place: String,
    /// More, for people.
    pub detail: String,
    /// How it was put right, if it was.
    pub repaired: Option<String>,
}

/// What was seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Objects that were compared, each once however many copies there are.
    pub checked: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What is wrong beyond those.
    pub more: u64,
    /// How many of all are right again.
    pub repaired: u64,
    /// What is not in the index and came within the last minute, so that it may be on its way there.
    #[serde(default)]
    pub young: u64,
    /// Where it went on after an interruption: the walk and the key.
    pub resumed_after: Option<String>,
}

impl Report {
    /// Whether nothing is wrong any more.
    pub fn good(&self) -> bool {
        self.findings.len() as u64 + self.more == self.repaired
    }
}

/// How far it came.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Objects in the index; what is not in it comes on top.
    pub total: u64,
    /// Objects compared.
    pub checked: u64,
    /// Things that are wrong.
    pub findings: u64,
    /// The walk: `index`, `disk`, or the name of a tier.
    pub walk: &'a str,
    /// The object.
    pub key: &'a str,
}

/// Who is told how far it came.
pub type Watch<'a> = &'a (dyn Fn(Progress<'_>) + Sync);

/// What is noted of one that may be interrupted.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    form: u32,
    walk: usize,
    after: String,
    report: Report,
}

/// Does it.
pub async fn run(
    storage: &Storage,
    options: &Options,
    upstream: Option<&dyn Upstream>,
    watch: Watch<'_>,
) -> Result<Report, CareError> {
    let _alone = storage.alone().await?;
    let state = storage
        .on_disk({
            let resume = options.resume;
            move |folder| {
                if resume {
                    load(folder)
                } else {
                    Ok(State::default())
                }
            }
        })
        .await?;
    let totals = storage.records.totals(&Filter::default()).await?;
    let work = Work {
        storage,
        options,
        upstream,
        pace: Arc::new(Pace::new(options.rate)),
        read: AtomicU64::new(state.report.bytes),
    };
    let mut fsck = Fsck {
        work: &work,
        storage,
        options,
        watch,
        total: totals.count,
        state,
        noted: Instant::now(),
    };
    if !fsck.state.after.is_empty() || fsck.state.walk > 0 {
        let at = fsck.walk_name();
        fsck.state.report.resumed_after = Some(format!("{at} {}", fsck.state.after));
    }
    fsck.state.form = FORM;
    fsck.walks().await?;
    storage
        .on_disk(
            |folder| match std::fs::remove_file(folder.work()?.join(STATE)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        )
        .await?;
    Ok(fsck.state.report)
}

fn load(folder: &Folder) -> io::Result<State> {
    match std::fs::read(folder.work()?.join(STATE)) {
        // One of a newer version, or one that cannot be read: from the start.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)
            .ok()
            .filter(|state: &State| state.form == FORM)
            .unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(error),
    }
}

/// What comparing one object needs; several are at it.
struct Work<'a> {
    storage: &'a Storage,
    options: &'a Options,
    upstream: Option<&'a dyn Upstream>,
    pace: Arc<Pace>,
    /// Bytes that were read.
    read: AtomicU64,
}

struct Fsck<'a> {
    work: &'a Work<'a>,
    storage: &'a Storage,
    options: &'a Options,
    watch: Watch<'a>,
    total: u64,
    state: State,
    noted: Instant,
}

impl Fsck<'_> {
    fn walk_name(&self) -> String {
        match self.state.walk {
            0 => "index".to_owned(),
            1 => "disk".to_owned(),
            at => {
                let keeper = self.storage.keepers().nth(at - 2);
                keeper.map_or_else(String::new, |tier| tier.name().to_string())
            }
        }
    }

    async fn walks(&mut self) -> Result<(), CareError> {
        let storage = self.storage;
        if self.state.walk == 0 {
            self.walk_index().await?;
            self.next_walk().await?;
        }
        if self.state.walk == 1 {
            self.walk_disk().await?;
            self.next_walk().await?;
        }
        for (at, tier) in storage.keepers().enumerate() {
            if self.state.walk == at + 2 {
                self.walk_tier(tier).await?;
                self.next_walk().await?;
            }
        }
        Ok(())
    }

    async fn next_walk(&mut self) -> Result<(), CareError> {
        self.state.walk += 1;
        self.state.after.clear();
        self.note().await
    }

    /// Notes how far it came, now and then.
    async fn came_to(&mut self, key: &str) -> Result<(), CareError> {
        key.clone_into(&mut self.state.after);
        self.state.report.bytes = self.work.read.load(Relaxed);
        let report = &self.state.report;
        (self.watch)(Progress {
            total: self.total.max(report.checked),
            checked: report.checked,
            findings: report.findings.len() as u64 + report.more,
            walk: &self.walk_name(),
            key,
        });
        if self.noted.elapsed() >= NOTE {
            self.note().await?;
        }
        Ok(())
    }

    async fn note(&mut self) -> Result<(), CareError> {
        let json = serde_json::to_vec(&self.state).map_err(io::Error::other)?;
        let noted = self.storage.on_disk(move |folder| {
            let path = folder.work()?.join(STATE);
            let new = path.with_extension("new");
            std::fs::write(&new, json)?;
            std::fs::rename(new, path)
        });
        self.noted = Instant::now();
        match noted.await {
            // Nothing but `--resume` needs it.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!(%error, "cannot note how far it came: `--resume` will begin earlier");
                Ok(())
            }
            done => Ok(done?),
        }
    }

    fn found(&mut self, finding: Finding) {
        let report = &mut self.state.report;
        tracing::debug!(
            key = finding.key,
            place = finding.place,
            detail = finding.detail,
            repaired = finding.repaired,
            "fsck: {}",
            finding.kind.name()
        );
        if finding.repaired.is_some() {
            report.repaired += 1;
        }
        if report.findings.len() < MOST_FINDINGS {
            report.findings.push(finding);
        } else {
            report.more += 1;
        }
    }
}

/// What the index is to have of an object.
fn row_of(key: &Key, digest: &store::Digest, kept_at_ms: i64) -> Object {
    Object {
        key: key.as_str().to_owned(),
        size: digest.size,
        sha256: digest.sha256,
        h1: digest.h1.as_deref().map(str::to_owned),
        kept_at_ms,
        used_at_ms: kept_at_ms,
        pinned: false,
    }
}
