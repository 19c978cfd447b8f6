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
    if old.config.tls.is_some() != new.config.tls.is_some() {
        changed.push("tls");
    }
    changed
}
