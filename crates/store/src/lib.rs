//! Keys and bytes: a data folder with one owner, atomic commits, growing spools and kept mappings.
//!
//! This crate knows files and nothing else: no HTTP, no Go, no policy. Its promises:
//!
//! - A file under its final name is whole: it was written under `tmp/`, synced, then renamed
//!   ([`Store::commit`], [`Store::put_small`]). A crash or a full disk leaves at most a file in `tmp/`,
//!   which the next start removes.
//! - A kept file is never written, truncated or replaced in place, so that it may be mapped.
//! - Whoever writes to a kept file all the same breaks its [seal]: it is read and compared before it is served again.
//! - One data folder has one owner ([`Store::open`] takes a lock).
//!
//! [`Tiers`] puts further tiers beside the folder: a shared hot one above or below it, object storage that keeps below
//! it. What crosses from one to the other is compared with the [`Digest`] that travels with it.
//!
//! Reading goes through [`Kept`] (a file under its final name) or [`Spool`] (a download under way, with one
//! writer and many readers); both hand out [`Frames`], a sequence of shared byte blocks.

mod breaker;
mod digest;
pub mod folder;
mod frames;
mod gather;
mod hot;
mod journal;
mod kept;
mod key;
mod known;
mod lock;
mod map;
mod notes;
mod place;
mod pull;
mod remedy;
pub mod seal;
mod spool;
mod store;
pub mod tier;
mod tiers;
mod uses;
mod window;

pub use digest::{Digest, Hasher};
pub use folder::Folder;
pub use frames::{Block, FrameError, Frames};
pub use journal::JournalSnapshot;
pub use kept::{HEAP_BYTES, Kept};
pub use key::{Key, KeyError};
pub use pull::{Pull, PullError};
pub use remedy::at;
pub use spool::{Spool, SpoolError, SpoolWriter, Spooled};
pub use store::{Committed, Store, StoreError, StoreSettings};
pub use tiers::{
    Content, DiskSettings, Found, KeepError, Said, Tiers, TiersError, TiersSettings, TiersSnapshot,
};
