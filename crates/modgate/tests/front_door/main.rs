//! modgate through its front door: the compiled binary, the real `go`, a lab upstream and a lab checksum database.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;
mod protocol;
mod disk;
mod huge;
mod kills;
