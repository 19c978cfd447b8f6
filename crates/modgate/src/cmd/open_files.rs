//! How many files the process may have open.
//!
//! Systems start processes with a low soft limit (often 1,024) for the sake of programs that use `select`, and leave it to
//! those that need more to raise it as far as the hard limit. Each connection is an open file, and so is each large zip that
//! is ready to be sent.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use store::HEAP_BYTES;

use crate::config::Config;

/// For the records, the log, upstreams, storage tiers, and what else there is a few of.
const OTHERS: u64 = 512;
/// Nobody needs more, and programs that we start may go through all that there could be.
const MOST: u64 = 1 << 20;

/// Raises the limit, and says so in the log if that is not enough for what is configured.
pub(super) fn allow(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    // None is no limit.
    let soft = limit.current.unwrap_or(u64::MAX);
    let raised = limit.maximum.unwrap_or(MOST).min(MOST).max(soft);
    let new = Rlimit {
        current: Some(raised),
        maximum: limit.maximum,
    };
    let have = if raised == soft || setrlimit(Resource::Nofile, new).is_err() {
        soft
    } else {
        raised
    };
    let need = needed(
        config.limits.max_connections as u64,
        config.cache.memory_bytes,
    );
    if have < need {
        tracing::warn!(
            have,
            need,
            "the limit of open files is too low for `limits.max_connections` and `cache.memory`: raise it \
             (`LimitNOFILE=` of systemd, `--ulimit nofile=` of Docker, `ulimit -n`) or lower these"
        );
    }
}

/// What may be open at once: connections, files ready to be sent (the shorter ones are read into memory), others.
fn needed(connections: u64, memory_bytes: u64) -> u64 {
    connections
        .saturating_add(memory_bytes / HEAP_BYTES)
        .saturating_add(OTHERS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn defaults_fit_into_what_systems_allow_and_are_as_documented() {
        // No file, no variables.
        let config = Config::load(&Sources::default()).unwrap().config;
        let need = needed(
            config.limits.max_connections as u64,
            config.cache.memory_bytes,
        );
        assert!(need < 16 << 10);
        let manual = include_str!("../../../../docs/operations.md");
        let told = format!(
            "`cache.memory` ({},{:03} at the defaults)",
            need / 1000,
            need % 1000
        );
        assert!(manual.contains(&told), "{told}");
        assert_eq!(needed(u64::MAX, 1), u64::MAX);
    }
}
