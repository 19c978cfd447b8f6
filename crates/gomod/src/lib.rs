//! The rules of Go modules, pure: paths, versions, escaping, requests, `go.mod`, lists, module zips and their hashes.
//!
//! No I/O, no clock, no async: values in, values out. Equal to `golang.org/x/mod` where that has the rule.

pub mod build_list;
mod escape;
pub mod gomod_file;
pub mod h1;
pub mod info;
pub mod list;
mod path;
pub mod pattern;
mod pseudo;
mod request;
pub mod semver;
mod unicode;
mod version;
pub mod zip;

pub use path::{ModulePath, PathError, split_major};
pub use pseudo::Pseudo;
pub use request::{DatabaseName, Query, QueryKind, Request, RequestError, SumDbAsk};
pub use version::{Version, VersionError};
