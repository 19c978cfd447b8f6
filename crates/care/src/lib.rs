//! Care of what is kept, beside a running server: [`fsck`] compares every object with what it must be, [`gc`] removes
//! what was not used for long, [`backup`] writes down what is known, [`bundle`] is what carries versions to a network
//! without a line.
//!
//! Nothing here owns the data folder. What is changed is told to all servers by the records.

pub mod backup;
pub mod bundle;
pub mod copy;
pub mod fsck;
pub mod gc;
mod names;
mod pace;
mod work;

use std::{
    io::{self, Read as _},
    sync::Arc,
};

use gomod::zip;
use records::{Records, RecordsError};
use rustix::fs::{FlockOperation, flock};
use store::{
    Folder, Key,
    tier::{Tier, TierError},
};

pub use names::{Part, parse as parse_key};
pub use pace::Pace;
pub use work::sweep;

pub(crate) use work::Work;

/// Everything that is cared for.
#[derive(Clone, Debug)]
pub struct Storage {
    /// The data folder.
    pub folder: Folder,
    /// Whether it is a tier of its own, or a place for work only.
    pub disk: bool,
    /// The tiers beside it.
    pub tiers: Vec<Arc<Tier>>,
    /// The index, and by whom changes are told.
    pub records: Arc<Records>,
}

impl Storage {
    /// The tiers that keep everything.
    pub fn keepers(&self) -> impl Iterator<Item = &Arc<Tier>> {
        self.tiers.iter().filter(|tier| tier.keeps())
    }

    /// Does something with the data folder off the runtime's threads.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || {
            work(&folder).map_err(|error| store::at(folder.path(), error))
        })
        .await
        .map_err(io::Error::other)?
    }

    /// Only one at a time checks or cleans up: held until it is dropped.
    async fn alone(&self) -> Result<std::fs::File, CareError> {
        let locked = self.on_disk(|folder| {
            let work = folder.work()?;
            sweep(&work);
            let path = work.join("lock");
            let mut options = std::fs::OpenOptions::new();
            let file = match options.write(true).create_new(true).open(&path) {
                Ok(file) => {
                    folder.give(&file);
                    file
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options
                    .create_new(false)
                    .open(&path)
                    .map_err(|error| store::at(&path, error))?,
                Err(error) => return Err(store::at(&path, error)),
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Ok(Some(file)),
                Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
                Err(error) => Err(error.into()),
            }
        });
        locked.await?.ok_or(CareError::Busy)
    }

    /// Removes an object everywhere but in the index, which then tells everybody.
    async fn remove(&self, key: &Key) -> Result<(), CareError> {
        for tier in &self.tiers {
            tier.remove(key).await?;
        }
        let removed = key.clone();
        self.on_disk(move |folder| folder.remove(&removed)).await?;
        Ok(())
    }
}

/// Why care was not taken.
#[derive(Debug, thiserror::Error)]
pub enum CareError {
    /// Another one does.
    #[error("another `modgate fsck` or `modgate gc` works on this data folder")]
    Busy,
    /// The disk.
    #[error(transparent)]
    Disk(#[from] io::Error),
    /// A tier.
    #[error(transparent)]
    Tier(#[from] TierError),
    /// The records.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// Object storage that backups are in.
    #[error("the bucket of the backups: {0}")]
    Bucket(#[from] object_store::Error),
    /// A backup that is not what it should be, or is not there.
    #[error("{0}")]
    Backup(String),
    /// A bundle that is not what it should be.
    #[error("the bundle is refused: {0}")]
    Bundle(String),
}

/// What stands in a `.ziphash`. Waits for the disk.
fn read_hash(folder: &Folder, key: &Key) -> io::Result<Option<String>> {
    /// The longest one.
    const MAX_BYTES: u64 = 128;
    let Some(file) = folder.open(key)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
}

/// The `h1:` of the zip under `key`, or what is wrong with it. Waits for the disk.
fn zip_hash(file: std::fs::File, key: &Key) -> io::Result<Result<String, String>> {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    let Some((_, module, version, Part::Zip)) = parse_key(key.as_str()) else {
        return Ok(Err("no zip of a module".to_owned()));
    };
    let len = file.metadata()?.len();
    let limits = zip::Limits::default();
    Ok(
        match zip::check(file, len, &module, &version, &limits, zip::Want::Hash) {
            Ok(report) => report.h1.map(|h1| h1.to_string()).ok_or_else(String::new),
            Err(zip::ZipError::Io(error))
                if !matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof) =>
            {
                return Err(error);
            }
            Err(error) => Err(error.to_string()),
        },
    )
}

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
