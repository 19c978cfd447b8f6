//! What the storage tiers count, as metrics.

use store::tier::TierSnapshot;

use crate::{gateway::Gateway, metrics};

/// A metric's name and help, and where its value is.
type Counter = (&'static str, &'static str, fn(&TierSnapshot) -> u64);

const COUNTERS: [Counter; 11] = [
    (
        "modgate_tier_hits_total",
        "Reads of a storage tier that found the object",
        |tier| tier.hits,
    ),
    (
        "modgate_tier_misses_total",
        "Reads of a storage tier that did not",
        |tier| tier.misses,
    ),
    (
        "modgate_tier_errors_total",
        "Work of a storage tier that failed",
        |tier| tier.errors,
    ),
    (
        "modgate_tier_timeouts_total",
        "Work of a storage tier that took too long",
        |tier| tier.timeouts,
    ),
    (
        "modgate_tier_skipped_total",
        "Work that did not go to a storage tier since it was taken out",
        |tier| tier.skipped,
    ),
    (
        "modgate_tier_writes_total",
        "Objects written to a storage tier",
        |tier| tier.writes,
    ),
    (
        "modgate_tier_opened_total",
        "How often the breaker took a storage tier out",
        |tier| tier.opened,
    ),
    (
        "modgate_tier_differs_total",
        "Writes that found other bytes under their key",
        |tier| tier.differs,
    ),
    (
        "modgate_tier_corrupt_total",
        "Objects that were not what they should be",
        |tier| tier.corrupt,
    ),
    (
        "modgate_tier_read_bytes_total",
        "Bytes of objects read from a storage tier",
        |tier| tier.read_bytes,
    ),
    (
        "modgate_tier_written_bytes_total",
        "Bytes of objects written to a storage tier",
        |tier| tier.written_bytes,
    ),
];

impl Gateway {
    /// Appends what the tiers count; of the data folder alone only what is an incident.
    pub(crate) fn tier_samples(&self, page: &mut String) {
        #[expect(clippy::cast_precision_loss, reason = "counts and byte sizes")]
        let number = |value: u64| value as f64;
        let snapshot = self.tiers.snapshot();
        metrics::family(
            page,
            "modgate_disk_tier_corrupt_total",
            "Kept files that were not what they should be",
            "counter",
            &[(String::new(), number(snapshot.disk_corrupt))],
        );
        if self.tiers.is_alone() {
            return;
        }
        let label = |tier: &TierSnapshot| format!("tier=\"{}\"", metrics::label(&tier.name));
        let mut state = |name, help, is: fn(&TierSnapshot) -> bool| {
            let tiers = snapshot.tiers.iter();
            let samples: Vec<_> = tiers
                .map(|tier| (label(tier), f64::from(u8::from(is(tier)))))
                .collect();
            metrics::family(page, name, help, "gauge", &samples);
        };
        state(
            "modgate_tier_up",
            "1 while work goes to a storage tier",
            |tier| tier.up,
        );
        state(
            "modgate_tier_refuses",
            "1 while a storage tier refuses what it is given, or lacks what is needed",
            |tier| tier.refuses,
        );
        for (name, help, value) in COUNTERS {
            let samples: Vec<_> = snapshot
                .tiers
                .iter()
                .map(|tier| (label(tier), number(value(tier))))
                .collect();
            metrics::family(page, name, help, "counter", &samples);
        }
        let mut one = |name, help, kind, value| {
            metrics::family(page, name, help, kind, &[(String::new(), number(value))]);
        };
        one(
            "modgate_disk_tier_refused_total",
            "Objects that the disk tier could not take, and that were served all the same",
            "counter",
            snapshot.disk_refused,
        );
        one(
            "modgate_disk_tier_evicted_total",
            "Files that left the disk tier to make room",
            "counter",
            snapshot.evicted,
        );
        one(
            "modgate_disk_tier_evicted_bytes_total",
            "Their bytes",
            "counter",
            snapshot.evicted_bytes,
        );
        one(
            "modgate_disk_tier_bytes",
            "Bytes in the disk tier",
            "gauge",
            snapshot.disk_bytes,
        );
        one(
            "modgate_tier_promotions_skipped_total",
            "Promotions left to the next read",
            "counter",
            snapshot.promotions_skipped,
        );
        let Some(journal) = snapshot.journal else {
            return;
        };
        one(
            "modgate_journal_entries",
            "Objects that wait for a tier that keeps",
            "gauge",
            journal.entries as u64,
        );
        one(
            "modgate_journal_stranded",
            "Those among them whose bucket is configured no more",
            "gauge",
            journal.stranded as u64,
        );
        one(
            "modgate_journal_bytes",
            "Their bytes",
            "gauge",
            journal.bytes,
        );
        one(
            "modgate_journal_max_bytes",
            "Most bytes that may wait",
            "gauge",
            journal.max_bytes,
        );
        one(
            "modgate_journal_done_total",
            "Objects that reached their tier by way of the journal",
            "counter",
            journal.done,
        );
        one(
            "modgate_journal_full_total",
            "Writes that found the journal full",
            "counter",
            journal.full,
        );
        one(
            "modgate_journal_corrupt_total",
            "Entries of the journal that were not what they should be",
            "counter",
            journal.corrupt,
        );
    }
}
