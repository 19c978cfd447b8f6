//! What a running server does not take over from a new configuration.

use super::{check::Loaded, origin::Origin, table::SETTINGS};

/// The settings that differ and need a new process, by name; `tls` is TLS
/// switched on or off. Everything else can be applied while serving.
pub fn changes_needing_restart(old: &Loaded, new: &Loaded) -> Vec<&'static str> {
    let value = |loaded: &Loaded, name: &str| {
        loaded
            .origins
            .find(name)
            .and_then(|effective| effective.value.clone())
    };
    let mut changed: Vec<&'static str> = SETTINGS
        .iter()
        .filter(|setting| setting.restart)
        .map(|setting| setting.name)
        .filter(|name| value(old, name) != value(new, name))
        .collect();
    // A table of items is no value of its own, and a key that it names may have another text.
    if old.config.storage != new.config.storage {
        changed.push("storage");
    }
    if old.config.records != new.config.records && !changed.contains(&"records.url") {
        changed.push("records.url");
    }
    if old.config.tls.is_some() != new.config.tls.is_some() {
        changed.push("tls");
    }
    changed
}

/// Whether the file set something before and now sets nothing: it is being written, or was lost. Its chain and
/// private patterns would be gone, and with them what keeps private names inside.
pub fn lost_its_file(old: &Loaded, new: &Loaded) -> bool {
    let by_file = |loaded: &Loaded| {
        loaded
            .origins
            .iter()
            .any(|effective| matches!(effective.origin, Origin::File { .. }))
    };
    by_file(old) && !by_file(new)
}
