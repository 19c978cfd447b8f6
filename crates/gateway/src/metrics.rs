//! What is counted, in Prometheus' format.
//!
//! Label sets are closed enums, so that no request can make a new time series. What every request touches is in the
//! tally.

use std::{
    fmt::Write as _,
    sync::{Arc, atomic::AtomicI64},
};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use crate::{
    results::{Backup, Commit, Cut, Incident, Reload, Results, Verification},
    tally::Tally,
};

/// The counters. A registry per instance keeps parallel tests apart.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Of every request.
    pub(crate) tally: Arc<Tally>,
    /// Open connections.
    pub connections: Gauge<i64, AtomicI64>,
    /// Connections cut because of a limit.
    pub connections_cut: Results<Cut>,
    /// Fetches under way.
    pub flights: Gauge<i64, AtomicI64>,
    /// Requests that joined a fetch under way.
    pub coalesced: Counter,
    /// Verifications by result.
    pub verifications: Results<Verification>,
    /// Events that an operator should look at, by kind.
    pub incidents: Results<Incident>,
    /// Attempts to keep something, by result.
    pub commits: Results<Commit>,
    /// Configuration reloads by result.
    pub reloads: Results<Reload>,
    /// Backups on the schedule by result.
    pub backups: Results<Backup>,
    /// Background fetches waiting (download mode `async`).
    pub queued: Gauge<i64, AtomicI64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers everything under the prefix `modgate_`.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("modgate");
        let metrics = Self {
            tally: Arc::default(),
            connections: Gauge::default(),
            connections_cut: Results::default(),
            flights: Gauge::default(),
            coalesced: Counter::default(),
            verifications: Results::default(),
            incidents: Results::default(),
            commits: Results::default(),
            reloads: Results::default(),
            backups: Results::default(),
            queued: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register_collector(Box::new(Arc::clone(&metrics.tally)));
        registry.register(
            "connections",
            "Open client connections",
            metrics.connections.clone(),
        );
        registry.register(
            "connections_cut",
            "Client connections cut, by limit",
            metrics.connections_cut.family(),
        );
        registry.register("flights", "Fetches under way", metrics.flights.clone());
        registry.register(
            "coalesced_requests",
            "Requests that joined a fetch under way",
            metrics.coalesced.clone(),
        );
        registry.register(
            "verifications",
            "Verifications against the checksum database, by result",
            metrics.verifications.family(),
        );
        registry.register(
            "incidents",
            "Events an operator should look at, by kind",
            metrics.incidents.family(),
        );
        registry.register(
            "commits",
            "Attempts to keep something, by result",
            metrics.commits.family(),
        );
        registry.register(
            "config_reloads",
            "Configuration reloads, by result",
            metrics.reloads.family(),
        );
        registry.register(
            "backups",
            "Backups on the schedule, by result",
            metrics.backups.family(),
        );
        registry.register(
            "async_queue_length",
            "Background fetches waiting",
            metrics.queued.clone(),
        );
        Self {
            registry,
            ..metrics
        }
    }

    /// The page in Prometheus' text format 0.0.4. `more` appends samples that are read only now.
    pub fn page(&self, more: impl FnOnce(&mut String)) -> String {
        let mut open = String::new();
        // Writing to a String does not fail.
        let _ = text::encode(&mut open, &self.registry);
        let mut page = classic(&open);
        more(&mut page);
        page
    }
}

/// Turns OpenMetrics text into the classic format: a counter's family has the name of its samples
/// (`_total`), there are no unit lines and no end mark.
fn classic(open: &str) -> String {
    let counters: std::collections::HashSet<&str> = open
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut page = String::with_capacity(open.len());
    for line in open.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let comment = line.strip_prefix("# HELP ").map(|rest| ("# HELP ", rest));
        let comment =
            comment.or_else(|| line.strip_prefix("# TYPE ").map(|rest| ("# TYPE ", rest)));
        match comment.and_then(|(mark, rest)| Some((mark, rest.split_once(' ')?))) {
            Some((mark, (name, rest))) if counters.contains(name) => {
                let _ = writeln!(page, "{mark}{name}_total {rest}");
            }
            _ => {
                page += line;
                page.push('\n');
            }
        }
    }
    page
}

/// Appends one family with its samples: `(labels, value)`, labels as `name="value"` text or empty.
pub(crate) fn family(
    page: &mut String,
    name: &str,
    help: &str,
    kind: &str,
    samples: &[(String, f64)],
) {
    if samples.is_empty() {
        return;
    }
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        let _ = if labels.is_empty() {
            writeln!(page, "{name} {value}")
        } else {
            writeln!(page, "{name}{{{labels}}} {value}")
        };
    }
}

/// Escapes a label's value.
pub(crate) fn label(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Appends what the process itself uses, with the conventional names; Linux only.
pub(crate) fn process(page: &mut String) {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return;
    };
    let fields: Vec<f64> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    // Clock ticks are 100 a second and pages 4096 bytes in the text of /proc on every Linux we run on.
    let at = |index: usize| fields.get(index).copied().unwrap_or_default();
    family(
        page,
        "process_cpu_seconds_total",
        "User and system CPU time spent",
        "counter",
        &[(String::new(), (at(11) + at(12)) / 100.0)],
    );
    family(
        page,
        "process_resident_memory_bytes",
        "Resident memory, mapped files included",
        "gauge",
        &[(String::new(), at(21) * 4096.0)],
    );
    family(
        page,
        "process_threads",
        "Threads",
        "gauge",
        &[(String::new(), at(17))],
    );
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        #[expect(clippy::cast_precision_loss, reason = "a count of files")]
        family(
            page,
            "process_open_fds",
            "Open files",
            "gauge",
            &[(String::new(), entries.count() as f64)],
        );
    }
}
