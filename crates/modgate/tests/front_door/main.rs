//! modgate through its front door: the compiled binary, the real `go`, a lab upstream and a lab checksum database.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod answers;
mod attacks;
mod below;
mod bounds;
mod broken;
mod builds;
mod chains;
mod clients;
mod common;
mod database;
mod denied;
mod direct;
mod direct_kills;
mod disk;
mod faults;
mod folder;
mod golden;
mod http2;
mod huge;
mod kept_records;
mod kills;
mod later;
mod latest;
mod operations;
mod private;
mod project;
mod protocol;
mod remembered;
mod sources;
mod vanity;
mod versions;
mod ways_out;
