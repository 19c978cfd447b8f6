//! The life of a request: read, routed, answered from what is kept or fetched, verified, kept, recorded.
//!
//! [`http`] is the door; [`Gateway`] is what is behind it. See `ARCHITECTURE.md` for the map.

mod access_log;
mod anew;
mod answer;
mod artifact;
mod background;
mod below;
mod changeable;
mod check_zip;
mod choose;
mod denials;
mod epoch;
mod failure;
mod fetch;
mod fetch_zip;
mod flight;
mod fresh;
mod gateway;
mod hints;
pub mod http;
pub mod import;
mod index;
mod keep;
mod lists;
mod metrics;
mod negative;
mod per_thread;
mod pin;
mod pipeline;
mod record;
mod refresh;
mod refusal;
mod removals;
mod results;
pub mod settings;
mod shared;
mod source;
mod sumdb;
mod tally;
mod tasks;
mod tier_samples;
mod told;
pub mod tombstone;
mod unverified;
mod uses;
mod verify;
mod versions;
mod via;

pub use access_log::AccessLog;
pub use gateway::{Gateway, Readiness, Refused};
pub use metrics::Metrics;
pub use record::{Kind, Outcome, Record, Recorder, Subject};
pub use refusal::{Code, Fault, Refusal};
pub use results::{Backup, Commit, Cut, Incident, Reload, Results, Verification};
pub use sumdb::Carried;
