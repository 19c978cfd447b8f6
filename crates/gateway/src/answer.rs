//! What a request is answered with, before it is HTTP.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use store::{Kept, Key, Pull, Spool};

use crate::record::Outcome;

/// The bytes of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// In memory.
    Bytes(Bytes),
    /// Kept in the data folder.
    Kept(Arc<Kept>),
    /// Being downloaded; the last part comes when the whole is verified.
    Spool(Arc<Spool>),
    /// In a lower storage tier, where each client reads it for itself.
    Lower(Arc<Lower>),
    /// Elsewhere: an absolute URL.
    Elsewhere(String),
}

/// A large object of a lower tier, on no disk here.
#[derive(Debug)]
pub(crate) struct Lower {
    /// Its key.
    pub(crate) key: Key,
    /// Its length, in bytes.
    pub(crate) size: u64,
    /// A quoted strong validator.
    pub(crate) validator: Bytes,
    /// What the one who found it opened: for the first client that wants the whole.
    pub(crate) opened: Mutex<Option<Pull>>,
}

/// What the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// Plain text.
    Text,
    /// JSON.
    Json,
    /// A zip.
    Zip,
    /// Hash tiles.
    Octets,
}

/// The warning of what is said again while nobody can be asked.
pub(crate) const STALE: &str = "Response is Stale: upstream is in trouble";

/// How long an answer may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It never changes.
    Immutable,
    /// For so long.
    For(Duration),
}

/// A true answer, and how it came about.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The bytes.
    pub content: Content,
    /// What they are.
    pub media: Media,
    /// How long they hold.
    pub life: Life,
    /// How it came about.
    pub outcome: Outcome,
    /// Who was asked, if anybody.
    pub upstream: Option<Arc<str>>,
    /// Served although something is wrong: told in a `Warning` header.
    pub warning: Option<&'static str>,
    /// Only for those who may see private modules: not for shared caches.
    pub private: bool,
}

impl Answer {
    /// A kept thing that never changes.
    pub(crate) fn kept(kept: Arc<Kept>, media: Media) -> Self {
        Self::new(Content::Kept(kept), media, Life::Immutable, Outcome::Hit)
    }

    /// An answer nobody was asked for.
    pub(crate) fn new(content: Content, media: Media, life: Life, outcome: Outcome) -> Self {
        Self {
            content,
            media,
            life,
            outcome,
            upstream: None,
            warning: None,
            private: false,
        }
    }
}
