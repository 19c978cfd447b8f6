//! modgate through its front door: the compiled binary, the real `go`, a lab upstream and a lab checksum database.
#![expect(clippy::unwrap_used, reason = "tests")]

mod attacks;
mod broken;
mod clients;
mod common;
mod disk;
mod faults;
mod huge;
mod kills;
mod operations;
mod private;
mod protocol;
