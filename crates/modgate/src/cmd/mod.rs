//! The commands, a file each.

pub mod check;
pub mod completions;
pub mod import;
pub mod retire;
pub mod serve;
mod watch;
