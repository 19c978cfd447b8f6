//! The crate against the reference, `golang.org/x/mod`: the same cases, the same answers.
//!
//! A Go program (`conformance/` at the workspace's root) gives the reference's answers; the `go` command must be
//! there. Cases are made from fixed seeds: hand-picked ones, real ones with mutations, and ones from small grammars.
//! Where modgate is stricter on purpose, [`exceptions`] says so and why; each of them must be met.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod exceptions;
mod files;
mod gomod;
mod names;
mod patterns;
mod random;
mod reference;
mod zip_file;
mod zips;
