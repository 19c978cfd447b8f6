//! For tests only: git repositories made from a description, the servers they are fetched from, and what the real `go`
//! says about them.
//!
//! [`History`] describes a repository and makes it, always with the same hashes. [`catalog`] has one for every rule of
//! direct fetch, with the questions to ask. [`Forge`] serves them over https, http and ssh on loopback, with a forward
//! proxy in front under which every host name is this forge. [`truth`] asks the real `go`.

pub mod catalog;
mod forge;
mod history;
mod http;
mod others;
mod proxy;
mod site;
mod socks;
mod ssh;
mod tls;
pub mod truth;

pub use forge::{Forge, Login};
pub use history::{Built, Change, History, change};
pub use others::Others;
pub use site::{Fault, Pages};
