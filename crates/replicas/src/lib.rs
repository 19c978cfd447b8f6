//! Many replicas as one: leases, so that one of them fetches, announcements, so that all know, and what they share
//! where there are no records to share.
//!
//! A lease only saves work. That nothing wrong or double is kept comes from checked content and conditional writes; so
//! a lease that cannot be had, or is lost, is a reason to go on without one. The clocks of replicas are never compared:
//! PostgreSQL and Redis use their own, and for object storage each replica measures by its monotonic clock how long a
//! lease stayed as it was.

mod announcements;
mod error;
mod facts;
mod leases;
mod line;
mod postgres;
mod redis;
mod storage;

use std::{fmt, sync::Arc, time::Duration};

use object_store::{ObjectStore, path::Path};
use records::Records;

pub use announcements::{Announcements, Told};
pub use error::ReplicasError;
pub use facts::{SharedFacts, SharedHeads};
pub use leases::{Lease, Leases, Waited};

/// How long a lease lives if its holder dies.
pub const LEASE: Duration = Duration::from_secs(5);

/// By what replicas agree.
#[derive(Clone)]
pub enum Coordinate {
    /// This process is alone.
    Alone,
    /// By the PostgreSQL of the records.
    Postgres,
    /// By a Redis.
    Redis {
        /// How it is reached.
        client: Box<::redis::Client>,
        /// Stands before its keys and channels.
        prefix: String,
        /// Limit for one command.
        timeout: Duration,
    },
    /// By conditional writes in object storage.
    Storage {
        /// The bucket.
        store: Arc<dyn ObjectStore>,
        /// Stands before its keys.
        prefix: Path,
        /// Limit for one request.
        timeout: Duration,
    },
}

/// Addresses may have secrets in them.
impl fmt::Debug for Coordinate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alone => "Alone",
            Self::Postgres => "Postgres",
            Self::Redis { .. } => "Redis",
            Self::Storage { .. } => "Storage",
        })
    }
}

/// What one replica has of the others.
#[derive(Debug)]
pub struct Replicas {
    /// Who fetches.
    pub leases: Leases,
    /// What changed.
    pub announcements: Announcements,
    /// What they share though each has records of its own.
    pub facts: Option<Arc<SharedFacts>>,
    /// Whether there can be no others: nothing is shared, and nothing told.
    pub alone: bool,
}

impl Replicas {
    /// Joins the others. `holder` is this replica's name among them, another at each start; `facts` are followed from
    /// now on.
    pub fn start(
        coordinate: Coordinate,
        records: &Arc<Records>,
        facts: Option<Arc<SharedFacts>>,
        holder: &str,
    ) -> Self {
        let line = line::Line::start(&coordinate, records, holder);
        Self {
            alone: line.alone() && !records.shared(),
            leases: Leases::new(&coordinate, records, holder, line.released()),
            announcements: Announcements::start(records, facts.clone(), line),
            facts,
        }
    }

    /// Gives back the leases that are still held, within `limit`, and listens no more.
    pub async fn leave(&self, limit: Duration) {
        self.announcements.stop();
        self.leases.close(limit).await;
    }
}
