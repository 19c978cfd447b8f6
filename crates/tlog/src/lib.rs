//! The transparency log behind a Go checksum database: signed notes, tiles, lookups and proofs.
//!
//! A checksum database (the best known is `sum.golang.org`) is an append-only log of records. Each record names one
//! module version and the hashes of its zip and of its go.mod. The log is a Merkle tree with the hashes of RFC 6962,
//! published as files of 256 hashes ("tiles"), and its root is published in a signed note. Whoever knows the
//! database's key can check that a record is in the log and that the log never rewrote its past, whatever servers the
//! bytes came through.
//!
//! This crate holds the rules and does no input or output: it has no async, no clock and no files. A caller that
//! wants to check a record
//!
//! 1. parses the answer of a lookup ([`lookup::Lookup`]) and verifies its note ([`head::SignedHead`]),
//! 2. merges that head with the newest one it keeps ([`merge::merge`]), which yields a plan,
//! 3. fetches the tiles of the plan, in parallel and from anywhere ([`proof::Plan::tiles`]),
//! 4. lets the plan verify them, and keeps them only then,
//! 5. does 3 and 4 again with [`proof::Plan::record`] under the newest head, and
//! 6. reads the two hashes ([`lookup::Record::hashes`]).
//!
//! ```
//! use tlog::{head::SignedHead, log::Log, lookup::Lookup, merge::{Decision, merge}, note::SignerKey, proof::Plan};
//!
//! // A database of our own, with one record.
//! let key = SignerKey::from_seed("sum.example.com", [7; 32])?;
//! let hash = "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
//! let mut log = Log::new();
//! log.append(&format!("a.example/m v1.0.0 {hash}\na.example/m v1.0.0/go.mod {hash}\n"))?;
//! let body = log.lookup_body(0, &key)?.expect("record 0 is there");
//!
//! // The client's side.
//! let lookup = Lookup::parse(&body)?;
//! let head = SignedHead::verify(lookup.head_note(), &key.verifier_key())?;
//! let Decision::Newer(plan) = merge(None, &head) else { panic!("nothing is kept yet") };
//! let tiles: Vec<_> = plan.tiles().iter().map(|tile| log.tile(tile).expect("the log has its tiles")).collect();
//! plan.verify_consistency(&tiles)?;
//! let plan = Plan::record(head.head(), lookup.id())?;
//! let tiles: Vec<_> = plan.tiles().iter().map(|tile| log.tile(tile).expect("the log has its tiles")).collect();
//! plan.verify_record(&tiles, lookup.record().text())?;
//! assert_eq!(lookup.record().hashes("a.example/m", "v1.0.0")?.zip, hash);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Sources: RFC 6962 section 2.1 (hashes), the Go checksum database's design (golang.org/design/25530-sumdb) and the
//! behaviour of `golang.org/x/mod/sumdb`. Where a format leaves room, this crate accepts the canonical form only.

pub mod hash;
pub mod head;
pub mod log;
pub mod lookup;
pub mod merge;
pub mod note;
pub mod proof;
pub mod tile;
mod tree;

pub use hash::Hash;
pub use head::{SignedHead, TreeHead};
pub use lookup::Lookup;
pub use merge::{Decision, merge};
pub use tile::Tile;
