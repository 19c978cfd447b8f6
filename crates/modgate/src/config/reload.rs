//! What a running server cannot take over from a new configuration.

use super::{check::Loaded, table::SETTINGS};

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
