//! Modules straight from version control, without a Go toolchain: what the go command gives in direct mode, from
//! mirrors that are kept.
//!
//! ```text
//! direct.rs     the questions: versions, latest, revision, go_mod, zip
//!   discover    from a module path to a repository
//!   module/     Go's rules: tags, queries, pseudo-versions, majors, where the go.mod is
//!   zip/        the module zip, as a stream
//!   repository  what these rules ask of a version control system
//!     git/      by the program git, over a kept mirror
//!   process     child processes: bounded, killed with their group
//!   reach       how a child process reaches a repository: credentials, certificates, proxies
//! ```

mod bzr;
mod direct;
#[cfg(test)]
mod direct_tests;
pub mod discover;
mod error;
#[cfg(test)]
mod fixture;
mod fossil;
mod git;
mod govcs;
mod hg;
mod incident;
mod module;
mod orphans;
#[cfg(test)]
mod others_tests;
#[cfg(test)]
mod pin_tests;
mod places;
mod probe;
mod process;
mod program;
mod proxy;
mod reach;
mod relay;
mod repository;
mod revision;
mod settings;
mod ssh;
mod svn;
mod whole;
mod words;
mod zip;

pub use self::zip::ZipStream;
pub use direct::Direct;
pub use error::{DirectError, ErrorKind};
pub use govcs::{Govcs, GovcsError};
pub use incident::Incidents;
pub use revision::{Origin, Revision};
pub use settings::DirectSettings;
