//! Backups that the server writes by itself.

use std::{sync::Arc, time::Duration};

use care::backup::{self, Target};
use gateway::{Backup, Metrics};
use records::Records;
use replicas::{LEASE, Replicas};
use store::Folder;
use tokio::{task::spawn_blocking, time::sleep};

use crate::{config::Config, wire};

/// Under which only one replica writes backups.
const LEASE_KEY: &str = "backup";
/// Until it is tried again after it failed, or while another replica is at it.
const AGAIN: Duration = Duration::from_mins(5);
/// A backup that is due at the start does not add to the work of starting.
const AT_FIRST: Duration = Duration::from_secs(2);

/// Writes backups whenever they are due, for as long as it is polled.
pub(super) async fn run(
    config: Config,
    records: Arc<Records>,
    replicas: Arc<Replicas>,
    metrics: Arc<Metrics>,
) {
    let work = Folder::new(wire::store_folder(&config)).work_path();
    let _ = spawn_blocking(move || care::sweep(&work)).await;
    let Some(to) = &config.backup.to else {
        return;
    };
    let target = match wire::backups(&config, to) {
        Ok(target) => target,
        Err(error) => {
            metrics.backups.count(Backup::Failed);
            return tracing::error!(error, "no backups are written");
        }
    };
    sleep(AT_FIRST).await;
    loop {
        let next = match once(&config, &records, &replicas, &metrics, &target).await {
            Ok(next) => next,
            Err(error) => {
                metrics.backups.count(Backup::Failed);
                tracing::error!(error, "the backup failed; it is tried again");
                AGAIN
            }
        };
        sleep(next.min(config.backup.every)).await;
    }
}

async fn once(
    config: &Config,
    records: &Records,
    replicas: &Replicas,
    metrics: &Metrics,
    target: &Target,
) -> Result<Duration, String> {
    let text = |error: care::CareError| error.to_string();
    let mut lease = None;
    if !replicas.leases.alone() {
        let acquired = replicas.leases.acquire(LEASE_KEY, LEASE).await;
        lease = acquired.map_err(|error| error.to_string())?;
        if lease.is_none() {
            return Ok(AGAIN);
        }
    }
    let work = Folder::new(wire::store_folder(config)).work();
    let work = work.map_err(|error| error.to_string())?;
    let (every, keep) = (config.backup.every, config.backup.keep);
    let done = backup::on_schedule(records, target, every, keep, &work).await;
    if let Some(lease) = lease {
        lease.release().await;
    }
    let (written, next) = done.map_err(text)?;
    if let Some(backup) = written {
        metrics.backups.count(Backup::Written);
        let whole = backup.base.is_none();
        tracing::info!(id = backup.id, whole, rows = backup.rows, "backup written");
    }
    Ok(next)
}
