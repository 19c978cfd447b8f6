//! What must be remembered, in SQLite or PostgreSQL: the index of kept objects, tombstones, tree heads, answers that
//! change, and the changes themselves, by which processes tell each other.
//!
//! [`Records`] is the whole of it; its methods stand by matter in the modules. One SQL text serves both databases;
//! where they differ, the difference is in `db`, `changes` and the two folders of migrations. The bytes of modules are
//! never in here, and no answer from memory asks here.

mod agreed;
mod answers;
mod changes;
mod db;
mod error;
mod facts;
mod heads;
mod leases;
mod losses;
mod objects;
mod removals;
mod reserve;
mod schema;
mod settings;
mod silence;
mod snapshot;
mod tombstones;
mod writer;

pub use agreed::{Agreed, Agreement, Retired};
pub use answers::KeptAnswer;
pub use changes::{Bell, Change, ChangeKind, Cursor, News, Ring};
pub use db::Records;
pub use error::{RecordsError, RecordsErrorKind};
pub use heads::Head;
pub use leases::{LEASES_CHANNEL, LeaseRow};
pub use objects::{Filter, Object, Totals};
pub use settings::{PostgresUrl, RecordsSettings};
pub use snapshot::{SNAPSHOT, Snapshot, verify_snapshot};
pub use tombstones::TombstoneRow;
pub use writer::WriterState;
