//! `modgate import`.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use care::bundle::Bundle;
use gateway::{
    Carried, Gateway, Metrics, Refusal,
    import::{self, Found, Imported},
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use store::{Store, Tiers};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::ImportArgs,
    config::{Config, Env},
    wire,
};

/// After so many files what was proven is written, so that not too much waits.
const WRITE_EVERY: usize = 256;

/// What came of it.
#[derive(Default)]
struct Report {
    kept: u64,
    present: u64,
    /// `.info` files of versions that were only asked about.
    left_out: u64,
    refused: Vec<(String, Arc<Refusal>)>,
    /// Versions for which there is no proof: private or exempt.
    unproven: BTreeSet<String>,
}

/// Takes over a bundle or a folder and reports; fails if anything was refused, or nothing found.
pub fn run(args: &ImportArgs, env: Env) -> io::Result<ExitCode> {
    let Some(config) = super::load_and_log(&args.config.sources(env))? else {
        return Ok(ExitCode::FAILURE);
    };
    let runtime = super::runtime()?;
    let report = runtime.block_on(import(args, &config))?;
    print(args, &report)?;
    Ok(if report.refused.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn import(args: &ImportArgs, config: &Config) -> io::Result<Report> {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta} {wide_msg}")
        .map_err(io::Error::other)?;
    bar.set_style(style);
    let from = args.from.clone();
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", args.from.display()))
    };
    let (found, bundle) = if args.from.is_dir() {
        let found = spawn_blocking(move || import::find(&from)).await?;
        (found.map_err(named)?, None)
    } else {
        let seen = bar.clone();
        let opened = spawn_blocking(move || open(&from, &seen)).await?;
        let (found, bundle) = opened.map_err(io::Error::other).map_err(named)?;
        (found, Some(bundle))
    };
    if found.is_empty() {
        return Err(io::Error::other(format!(
            "{}: nothing to take over: name a bundle, a module cache ($GOMODCACHE), its cache/download, or a folder that has \
             MODULE/@v/VERSION.mod and .zip",
            args.from.display()
        )));
    }
    let store = Arc::new(Store::open(&wire::store(config)).map_err(io::Error::other)?);
    let tiers = Tiers::open(&wire::tiers(config), store).map_err(io::Error::other)?;
    let wired = wire::settings(config, "", None).map_err(io::Error::other)?;
    let gateway = Gateway::new(
        wired,
        tiers,
        Arc::new(wire::open_records(config).await?),
        Arc::new(Metrics::new()),
        String::new(),
        CancellationToken::new(),
    )
    .await?;
    if let Some(bundle) = bundle {
        let name = bundle
            .manifest()
            .sumdb
            .as_ref()
            .map(|sumdb| sumdb.name.clone());
        let proofs = Arc::new(Proofs(bundle));
        let believed = gateway.prove_by(name.as_deref(), proofs).await;
        believed.map_err(|refusal| {
            io::Error::other(format!("the bundle is refused: {}", refusal.text()))
        })?;
    }
    bar.set_length(found.len() as u64);
    bar.set_position(0);
    let report = take_over(&gateway, found, &bar).await;
    bar.finish_and_clear();
    gateway.settle(Duration::MAX).await;
    report
}

async fn take_over(
    gateway: &Arc<Gateway>,
    found: Vec<Found>,
    bar: &ProgressBar,
) -> io::Result<Report> {
    let mut report = Report::default();
    for (at, file) in found.into_iter().enumerate() {
        let name = file.to_string();
        bar.set_message(name.clone());
        let version = format!("{}@{}", file.module(), file.version());
        let proven = gateway.proves(file.module());
        let imported = gateway.import(file).await;
        if !proven && !matches!(imported, Imported::LeftOut) {
            report.unproven.insert(version);
        }
        match imported {
            Imported::Kept => report.kept += 1,
            Imported::Present => report.present += 1,
            Imported::LeftOut => report.left_out += 1,
            Imported::Refused(refusal) => report.refused.push((name, refusal)),
        }
        if at % WRITE_EVERY == WRITE_EVERY - 1 {
            gateway.keep_proofs().await?;
        }
        bar.inc(1);
    }
    gateway.keep_proofs().await?;
    Ok(report)
}

/// Opens a bundle, compares all of it with what is written down in it, and finds the versions in it.
fn open(
    path: &std::path::Path,
    bar: &ProgressBar,
) -> Result<(Vec<Found>, Bundle), care::CareError> {
    let bundle = Bundle::open(path)?;
    bar.set_length(bundle.manifest().files.len() as u64);
    bundle.verify(&|listed| {
        bar.inc(1);
        bar.set_message(listed.name.clone());
    })?;
    let mut found = Vec::new();
    for listed in &bundle.manifest().files {
        let Some((file, at)) = bundle.place(listed) else {
            continue;
        };
        let noted = listed.h1.as_deref().and_then(|h1| h1.parse().ok());
        found.extend(Found::part(&listed.name, file, at, listed.size, noted));
    }
    import::sort(&mut found);
    Ok((found, bundle))
}

/// The proofs in a bundle.
#[derive(Debug)]
struct Proofs(Bundle);

impl Carried for Proofs {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.0.database_file(path)
    }

    fn continues(&self) -> &[u64] {
        let sumdb = self.0.manifest().sumdb.as_ref();
        sumdb.map_or(&[], |sumdb| &sumdb.continues)
    }
}

fn print(args: &ImportArgs, report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        let refused: Vec<_> = report
            .refused
            .iter()
            .map(|(name, why)| json!({"file": name, "code": why.code.as_str(), "why": why.why}))
            .collect();
        let json = json!({
            "kept": report.kept,
            "present": report.present,
            "left_out": report.left_out,
            "refused": refused,
            "unproven": report.unproven,
        });
        return writeln!(out, "{json}");
    }
    for (name, why) in &report.refused {
        writeln!(out, "refused {name}: {why}")?;
    }
    for version in &report.unproven {
        writeln!(out, "unproven {version}")?;
    }
    if report.left_out > 0 {
        let count = report.left_out;
        writeln!(
            out,
            "left out: {count} .info files of versions that were only asked about"
        )?;
    }
    writeln!(
        out,
        "{} kept, {} present already, {} refused; {} versions without a proof",
        report.kept,
        report.present,
        report.refused.len(),
        report.unproven.len()
    )
}
