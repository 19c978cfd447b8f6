//! The commands, a file each.

pub mod backup;
pub mod check;
pub mod completions;
pub mod copy;
pub mod export;
pub mod fsck;
pub mod gc;
pub mod import;
pub mod retire;
mod schedule;
pub mod serve;
mod watch;
