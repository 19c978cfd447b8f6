//! modgate: a self-hosted gateway for Go modules.
//!
//! This crate is the binary's own part: its configuration ([`config`]), its
//! command line ([`cli`]) and its commands ([`cmd`]). What a command does beyond
//! that is in the library crates.

pub mod cli;
pub mod cmd;
pub mod config;
pub mod wire;
