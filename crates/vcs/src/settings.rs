//! Settings of direct fetch.

use std::path::PathBuf;
use std::time::Duration;

use gomod::ModulePath;
use gomod::pattern::Patterns;

use crate::discover::Mapping;
use crate::govcs::Govcs;

/// Settings of direct fetch.
#[derive(Debug, Clone)]
pub struct DirectSettings {
    /// The folder of the mirrors: a bare repository for each URL, named by a hash of it, with a file beside it that says the URL.
    pub folder: PathBuf,
    /// Which version control systems may be used for what.
    pub govcs: Govcs,
    /// Modules that are ours (GOPRIVATE's patterns).
    pub private: Patterns,
    /// Modules and hosts that may be asked without encryption (GOINSECURE's patterns).
    pub insecure: Patterns,
    /// Paths whose repositories the configuration tells.
    pub mappings: Vec<Mapping>,
    /// How long an `ls-remote` is believed for canonical versions that it can answer. Lists and branches ask anew.
    pub refs_life: Duration,
    /// How long a discovered root is believed.
    pub discovery_life: Duration,
    /// How long it is believed that there is none.
    pub discovery_negative_life: Duration,
    /// Most mirrors; the least recently used goes.
    pub max_mirrors: usize,
    /// Most bytes of all mirrors together; the least recently used goes.
    pub max_mirror_bytes: u64,
    /// Most bytes of one mirror: a repository that has more is not fetched.
    pub max_repository_bytes: u64,
    /// Longest run of one process.
    pub process_timeout: Duration,
    /// Most processes at once.
    pub max_processes: usize,
    /// Largest zip, and largest sum of the files in it, in bytes.
    pub max_zip_bytes: u64,
}

impl DirectSettings {
    /// The defaults, with mirrors in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            govcs: Govcs::default(),
            private: Patterns::default(),
            insecure: Patterns::default(),
            mappings: Vec::new(),
            refs_life: Duration::from_mins(1),
            discovery_life: Duration::from_hours(1),
            discovery_negative_life: Duration::from_mins(1),
            max_mirrors: 2000,
            max_mirror_bytes: 20 << 30,
            max_repository_bytes: 5 << 30,
            process_timeout: Duration::from_mins(10),
            max_processes: 32,
            max_zip_bytes: 500 << 20,
        }
    }

    /// Whether a module is ours: a private one, or one whose repository the configuration tells.
    pub(crate) fn is_ours(&self, module: &ModulePath) -> bool {
        let mut mappings = self.mappings.iter();
        self.private.matches(module) || mappings.any(|mapping| mapping.covers(module.as_str()))
    }

    /// Most bytes of one mirror.
    pub(crate) fn repository_bytes(&self) -> u64 {
        self.max_repository_bytes.min(self.max_mirror_bytes)
    }
}
