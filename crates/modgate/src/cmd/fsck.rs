//! `modgate fsck`.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use care::fsck::{self, Finding, Options, Report, Upstream};
use futures_util::{FutureExt as _, future::BoxFuture};
use gateway::{Gateway, Metrics};
use indicatif::{ProgressBar, ProgressStyle};
use records::Records;
use store::{Key, Store, StoreSettings, Tiers};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::FsckArgs,
    config::{Config, Env},
    wire,
};

/// In the data folder: where what is fetched anew is until it is put in its place.
const FETCHED: &str = "fetched";

/// Longest wait for what the fetches left to do.
const SETTLE: Duration = Duration::from_secs(10);

/// Compares everything, and fails if something is wrong and stays so.
pub fn run(args: &FsckArgs, env: Env) -> io::Result<ExitCode> {
    // The index of a bucket can be made anew where nothing is.
    let sources = args.config.sources(env);
    let Some(config) = super::load_beside_and_log(&sources, wire::keeps_in_a_bucket)? else {
        return Ok(ExitCode::FAILURE);
    };
    let runtime = super::runtime()?;
    let report = runtime.block_on(check_all(args, &config))?;
    print(args, &report)?;
    Ok(if report.good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn check_all(args: &FsckArgs, config: &Config) -> io::Result<Report> {
    let records = Arc::new(wire::open_records(config).await?);
    let storage = wire::cared_for(config, Arc::clone(&records)).map_err(io::Error::other)?;
    let folder = storage.folder.work()?.join(FETCHED);
    let anew = Anew {
        config,
        records: Arc::clone(&records),
        folder: folder.clone(),
        gateway: OnceCell::new(),
    };
    let options = Options {
        repair: args.repair,
        rate: args.rate.0,
        resume: args.resume,
    };
    // Not drawn unless it is a terminal.
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta} {wide_msg}")
        .map_err(io::Error::other)?;
    bar.set_style(style);
    let watch = |progress: fsck::Progress<'_>| {
        bar.set_length(progress.total);
        bar.set_position(progress.checked);
        let (walk, key, wrong) = (progress.walk, progress.key, progress.findings);
        bar.set_message(if wrong == 0 {
            format!("{walk}: {key}")
        } else {
            format!("{wrong} wrong; {walk}: {key}")
        });
    };
    let done = fsck::run(&storage, &options, Some(&anew), &watch).await;
    bar.finish_and_clear();
    if let Some(gateway) = anew.gateway.get() {
        // What it still has to do it does in the folder that goes now.
        gateway.settle(SETTLE).await;
    }
    drop(anew);
    if let Err(error) = std::fs::remove_dir_all(&folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, folder = %folder.display(), "cannot be removed");
    }
    records.close().await;
    done.map_err(io::Error::other)
}

fn print(args: &FsckArgs, report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        let mut json = serde_json::to_value(report)?;
        json["good"] = report.good().into();
        return writeln!(out, "{json}");
    }
    for Finding {
        kind,
        key,
        place,
        detail,
        repaired,
    } in &report.findings
    {
        let state = match repaired {
            Some(how) => format!("repaired, {how}"),
            None if args.repair => "NOT repaired".to_owned(),
            None => "not repaired".to_owned(),
        };
        writeln!(out, "{}: {key} in {place}: {detail} ({state})", kind.name())?;
    }
    let wrong = report.findings.len() as u64 + report.more;
    writeln!(
        out,
        "{} objects compared, {} MiB read; {wrong} wrong, {} repaired",
        report.checked,
        report.bytes >> 20,
        report.repaired
    )?;
    if report.young > 0 {
        writeln!(
            out,
            "{} more came within the last minute and are not in the index yet: run it again",
            report.young
        )?;
    }
    if wrong > report.repaired && !args.repair {
        writeln!(out, "`modgate fsck --repair` puts right what it can")?;
    }
    Ok(())
}

/// A gateway that fetches into a folder of its own, as the server does into its: verified in the same way. It is made
/// when it is needed.
struct Anew<'a> {
    config: &'a Config,
    records: Arc<Records>,
    folder: PathBuf,
    gateway: OnceCell<Arc<Gateway>>,
}

impl Anew<'_> {
    async fn start(&self) -> Result<Arc<Gateway>, String> {
        // Whoever repairs waits for the fetch, as nobody else may want to.
        let config = wire::fetching_at_once(self.config);
        let settings = StoreSettings {
            folder: self.folder.clone(),
            hot_bytes: 0,
            hot_ttl: None,
        };
        let store = Store::open(&settings).map_err(|error| error.to_string())?;
        let gateway = Gateway::new(
            wire::settings(&config, "", None)?,
            Tiers::alone(Arc::new(store)),
            Arc::clone(&self.records),
            Arc::new(Metrics::new()),
            String::new(),
            CancellationToken::new(),
        );
        let gateway = gateway.await.map_err(|error| error.to_string())?;
        gateway.note_nothing();
        Ok(gateway)
    }
}

impl Upstream for Anew<'_> {
    fn fetch<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<PathBuf, String>> {
        async move {
            let gateway = self.gateway.get_or_try_init(|| self.start()).await?;
            let fetched = gateway.fetch_anew(key).await;
            fetched.map_err(|refusal| refusal.to_string())
        }
        .boxed()
    }
}
