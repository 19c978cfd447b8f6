//! The gateway: its parts, and what belongs to none of them.

use std::{
    fmt::Write as _,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use records::Records;
use replicas::Replicas;
use serde_json::json;
use store::{Store, Tiers};
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use vcs::Direct;

use crate::{
    answer::Answer,
    background::Background,
    below::Above,
    changeable::Changeables,
    denials::Denials,
    epoch::Epoch,
    flight::Flights,
    index::Index,
    lists::Lists,
    metrics::{self, Metrics},
    negative::Negatives,
    refusal::Refusal,
    removals,
    results::Incident,
    settings::Settings,
    sumdb::SumDb,
    tasks::Tasks,
    tombstone::Tombstones,
    unverified::Unverified,
    uses::NotedUses,
};

/// Longest wait of `/readyz` for the records: who asks it, Kubernetes for one, often takes no answer within a second for a no.
const READY_LIMIT: Duration = Duration::from_millis(600);

/// At least so long the index may take at the end.
const LAST_NOTES: Duration = Duration::from_secs(2);

/// A refusal on its way out.
#[derive(Debug)]
pub struct Refused {
    /// The refusal.
    pub refusal: Arc<Refusal>,
    /// Whether it repeats a recent one.
    pub repeated: bool,
    /// Who was asked.
    pub upstream: Option<Arc<str>>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Arc::new(refusal).into()
    }
}

impl From<Arc<Refusal>> for Refused {
    fn from(refusal: Arc<Refusal>) -> Self {
        Self {
            upstream: refusal.upstream.clone(),
            refusal,
            repeated: false,
        }
    }
}

impl Refused {
    /// A recent one, said again.
    pub(crate) fn again(refusal: Arc<Refusal>) -> Self {
        Self {
            repeated: true,
            ..refusal.into()
        }
    }
}

/// Everything between a parsed request and its answer.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) settings: ArcSwap<Settings>,
    /// The data folder and the tiers beside it.
    pub(crate) tiers: Arc<Tiers>,
    /// The data folder.
    pub(crate) store: Arc<Store>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) records: Arc<Records>,
    pub(crate) index: Index,
    /// The other replicas, once they are followed.
    pub(crate) replicas: OnceLock<Arc<Replicas>>,
    pub(crate) tombstones: Tombstones,
    pub(crate) flights: Flights<Answer>,
    pub(crate) negatives: Negatives,
    pub(crate) changeables: Changeables,
    pub(crate) above: Above,
    pub(crate) denials: Denials,
    /// Answers that change, written since they were looked through.
    pub(crate) answers_saved: AtomicU64,
    pub(crate) sumdb: ArcSwapOption<SumDb>,
    pub(crate) background: Background,
    pub(crate) lists: Lists,
    pub(crate) unverified: Unverified,
    pub(crate) noted_uses: NotedUses,
    pub(crate) epoch: Epoch,
    /// Told when others removed something, or may have.
    pub(crate) missed: Arc<Notify>,
    /// Zips that may be checked at once: each takes memory for its names.
    pub(crate) zip_checks: Semaphore,
    /// Fetches and commits; waited for before the process ends.
    pub(crate) tasks: Tasks,
    via: String,
    draining: CancellationToken,
}

/// Whether the gateway should get traffic, and why not.
#[derive(Debug)]
pub struct Readiness {
    /// Whether it should.
    pub ready: bool,
    checks: Vec<(&'static str, bool, String)>,
}

impl Readiness {
    /// `{"ready":…,"checks":[{"name":…,"ok":…,"detail":…}]}`.
    pub fn json(&self) -> serde_json::Value {
        let checks: Vec<_> = self
            .checks
            .iter()
            .map(|(name, ok, detail)| json!({"name": name, "ok": ok, "detail": detail}))
            .collect();
        json!({"ready": self.ready, "checks": checks})
    }
}

impl Gateway {
    /// Puts the parts together, and reads from the records what must be in memory. `via` is what this instance writes into the `Via` header of its own requests;
    /// `draining` is cancelled when it is told to stop.
    pub async fn new(
        settings: Settings,
        tiers: Arc<Tiers>,
        records: Arc<Records>,
        metrics: Arc<Metrics>,
        via: String,
        draining: CancellationToken,
    ) -> std::io::Result<Arc<Self>> {
        let tasks = Tasks::here();
        let store = Arc::clone(tiers.store());
        if removals::followed(&tiers, &records) {
            tiers.hold();
        }
        if !tiers.is_alone() {
            tokio::spawn(Arc::clone(&tiers).run());
        }
        let tombstones = Tombstones::load(&records, store.folder()).await?;
        let gateway = Arc::new(Self {
            settings: ArcSwap::from_pointee(settings),
            index: Index::start(&store, Arc::clone(&records), Arc::clone(&metrics)),
            records,
            replicas: OnceLock::new(),
            metrics,
            tombstones,
            flights: Flights::new(tasks.clone()),
            negatives: Negatives::new(),
            changeables: Changeables::new(),
            above: Above::new(),
            denials: Denials::new(),
            answers_saved: AtomicU64::new(0),
            sumdb: ArcSwapOption::empty(),
            background: Background::new(),
            lists: Lists::default(),
            unverified: Unverified::load(Arc::clone(&store)),
            noted_uses: NotedUses::default(),
            epoch: Epoch::default(),
            missed: Arc::default(),
            zip_checks: Semaphore::new(
                std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            ),
            tasks,
            via,
            draining,
            store,
            tiers,
        });
        gateway.open_sumdb();
        gateway.watch_direct();
        Background::start(&gateway);
        Ok(gateway)
    }

    /// Takes new settings; running requests end with the old ones.
    pub fn reconfigure(&self, settings: Settings) {
        settings.upstreams.inherit(&self.settings.load().upstreams);
        self.settings.store(Arc::new(settings));
        self.negatives.clear();
        self.changeables.recompose();
        self.open_sumdb();
        self.watch_direct();
    }

    /// Direct fetch as it is now, for the one that takes its place.
    pub fn direct(&self) -> Arc<Direct> {
        Arc::clone(&self.settings.load().direct)
    }

    /// Counts what direct fetch finds amiss.
    fn watch_direct(&self) {
        let metrics = Arc::clone(&self.metrics);
        let direct = &self.settings.load().direct;
        direct.on_moved_tag(move || metrics.incidents.count(Incident::MovedTag));
    }

    /// Reads the tombstones again. If they cannot be read those of before stay in effect.
    pub async fn reload_tombstones(&self) {
        match self.tombstones.reload(&self.records).await {
            Ok(changed) if changed.is_empty() => {}
            Ok(changed) => {
                self.changeables.recompose();
                self.negatives.clear();
                self.relist(changed);
            }
            Err(error) => {
                tracing::error!(%error, "cannot read the tombstones; those read before stay in effect");
            }
        }
    }

    fn open_sumdb(&self) {
        let settings = self.settings.load();
        let wanted = settings.sumdb.clone();
        let open = wanted.map(|wanted| {
            Arc::new(SumDb::open(
                wanted,
                self.sumdb.load_full().as_deref(),
                Arc::clone(&self.tiers),
                self.tasks.clone(),
            ))
        });
        self.sumdb.store(open);
    }

    pub(crate) fn via(&self) -> &str {
        &self.via
    }

    /// Waits until running fetches are kept, though for no longer than `limit`, and until lists are written. Returns
    /// whether all fetches ended.
    pub async fn settle(self: &Arc<Self>, limit: Duration) -> bool {
        let ended = timeout(limit, self.tasks.ended()).await.is_ok();
        self.write_lists().await;
        self.note_denials().await;
        if !self.tiers.flush(limit.max(LAST_NOTES)).await {
            tracing::warn!(
                "not everything is in the tiers that keep: the journal goes on at the next start"
            );
        }
        // What is not noted is found later; it must not hold up the end.
        if timeout(limit.max(LAST_NOTES), self.index.flush())
            .await
            .is_err()
        {
            tracing::warn!(
                "some of what is kept is not in the index; `modgate fsck` makes up for it"
            );
        }
        if self.tiers.keeps_elsewhere()
            && timeout(limit.max(LAST_NOTES), self.note_uses())
                .await
                .is_err()
        {
            tracing::warn!("not all that was used last is noted: `modgate gc` takes it for older");
        }
        ended
    }

    /// Whether this instance should get traffic. Upstreams in trouble are told, and no reason to stay away: what is
    /// kept is served.
    pub(crate) async fn readiness(&self) -> Readiness {
        let mut checks = Vec::new();
        let draining = self.draining.is_cancelled();
        checks.push((
            "draining",
            !draining,
            if draining {
                "told to stop".to_owned()
            } else {
                "no".to_owned()
            },
        ));
        let written = self.store.probe().await;
        let folder_ok = written.is_ok();
        checks.push((
            "data_folder",
            folder_ok,
            written.map_or_else(|error| error.to_string(), |()| "writable".to_owned()),
        ));
        let tiers = self.tiers.snapshot();
        let journal = tiers.journal.unwrap_or_default();
        if journal.stranded > 0 {
            let stranded = journal.stranded;
            let detail = format!(
                "{stranded} entries for buckets that are configured no more; the log says which"
            );
            checks.push(("journal", false, detail));
        }
        if journal.corrupt > 0 {
            let corrupt = journal.corrupt;
            let detail = format!(
                "{corrupt} entries since the start were not what they should be; they are in quarantine/journal, and the log says which"
            );
            checks.push(("journal", false, detail));
        }
        for tier in tiers.tiers {
            let state = match (tier.up, tier.refuses) {
                (false, _) => "taken out",
                (true, true) => "refuses; the log says what",
                (true, false) => "up",
            };
            let ok = tier.up && !tier.refuses;
            checks.push(("storage", ok, format!("{}: {state}", tier.name)));
        }
        let asked = timeout(READY_LIMIT, self.records.probe()).await;
        let asked = match asked {
            Ok(asked) => asked.map_err(|error| error.to_string()),
            Err(_) => Err("records: no answer in time".to_owned()),
        };
        // A file of one's own is named only where something is wrong with it.
        if self.records.shared() || asked.is_err() {
            let ok = asked.is_ok();
            let detail = asked.err().unwrap_or_else(|| self.records.place());
            checks.push(("records", ok, detail));
        }
        let replicas = self.replicas.get();
        if let Some(facts) = replicas.and_then(|replicas| replicas.facts.as_ref()) {
            let trouble = facts.trouble();
            let ok = trouble.is_none();
            let detail = trouble.unwrap_or_else(|| "compared with the other replicas".to_owned());
            checks.push(("shared_facts", ok, detail));
        }
        for upstream in self.settings.load().upstreams.snapshot() {
            checks.push((
                "upstream",
                upstream.state == "closed",
                format!("{}: breaker {}", upstream.name, upstream.state),
            ));
        }
        if let Some(behind) = self.epoch_is_behind() {
            let detail = if behind {
                "another replica took another one; the log says more"
            } else {
                "the newest among the replicas"
            };
            checks.push(("configuration", !behind, detail.to_owned()));
        }
        if let Some(sumdb) = self.sumdb.load_full() {
            let (ok, detail) = sumdb.health();
            checks.push(("checksum_database", ok, detail));
        }
        // A full disk still serves what is kept, so only draining takes an instance out.
        Readiness {
            ready: !draining,
            checks,
        }
    }

    /// Appends what is read only when metrics are asked for.
    pub(crate) fn samples(&self, page: &mut String) {
        #[expect(clippy::cast_precision_loss, reason = "counts and byte sizes")]
        let number = |value: u64| value as f64;
        let snapshots = self.settings.load().upstreams.snapshot();
        let mut outcomes = Vec::new();
        let (mut states, mut in_flight, mut p95) = (Vec::new(), Vec::new(), Vec::new());
        for upstream in &snapshots {
            let name = format!("upstream=\"{}\"", metrics::label(&upstream.name));
            for state in ["closed", "half_open", "open"] {
                states.push((
                    format!("{name},state=\"{state}\""),
                    f64::from(u8::from(upstream.state == state)),
                ));
            }
            for (outcome, count) in upstream.outcomes {
                outcomes.push((format!("{name},outcome=\"{outcome}\""), number(count)));
            }
            in_flight.push((name.clone(), number(upstream.in_flight as u64)));
            if let Some(quantile) = upstream.p95 {
                p95.push((name, quantile.as_secs_f64()));
            }
        }
        metrics::family(
            page,
            "modgate_upstream_requests_total",
            "Requests to upstreams, by outcome",
            "counter",
            &outcomes,
        );
        metrics::family(
            page,
            "modgate_upstream_breaker_state",
            "1 for the state the circuit breaker is in",
            "gauge",
            &states,
        );
        metrics::family(
            page,
            "modgate_upstream_in_flight",
            "Requests under way to upstreams",
            "gauge",
            &in_flight,
        );
        metrics::family(
            page,
            "modgate_upstream_first_byte_p95_seconds",
            "95th percentile of the time to the first byte",
            "gauge",
            &p95,
        );
        self.tier_samples(page);
        if let Ok((free, size)) = self.store.disk() {
            let mut folder = String::new();
            let _ = write!(
                folder,
                "folder=\"{}\"",
                metrics::label(&self.store.folder().display().to_string())
            );
            metrics::family(
                page,
                "modgate_disk_free_bytes",
                "Free space of the data folder's disk",
                "gauge",
                &[(folder.clone(), number(free))],
            );
            metrics::family(
                page,
                "modgate_disk_size_bytes",
                "Size of the data folder's disk",
                "gauge",
                &[(folder, number(size))],
            );
        }
        metrics::family(
            page,
            "modgate_unverified",
            "Artifacts that were served unverified and wait to be verified",
            "gauge",
            &[(String::new(), number(self.unverified.len() as u64))],
        );
        if let Some(behind) = self.epoch_is_behind() {
            metrics::family(
                page,
                "modgate_config_behind",
                "1 if another replica took a configuration that is not this one's",
                "gauge",
                &[(String::new(), f64::from(u8::from(behind)))],
            );
        }
        if let Some(sumdb) = self.sumdb.load_full() {
            metrics::family(
                page,
                "modgate_sumdb_tree_size",
                "Records in the kept tree head",
                "gauge",
                &[(String::new(), number(sumdb.tree_size()))],
            );
            metrics::family(
                page,
                "modgate_sumdb_forked",
                "1 if the database has shown two histories",
                "gauge",
                &[(String::new(), f64::from(u8::from(sumdb.forked())))],
            );
        }
    }
}
