//! `modgate import`.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use gateway::{
    Gateway, Metrics,
    import::{self, Imported},
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use store::{Store, Tiers};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::ImportArgs,
    cmd::check,
    config::{Config, Env},
    wire,
};

/// Takes over a folder and reports; fails if anything was refused.
pub fn run(args: &ImportArgs, env: Env) -> io::Result<ExitCode> {
    let colours = check::colours(&env, io::stderr().is_terminal());
    let config = match Config::load(&args.config.sources(env)) {
        Ok(loaded) => loaded.config,
        Err(mistakes) => {
            check::report(&mistakes, colours)?;
            return Ok(ExitCode::FAILURE);
        }
    };
    wire::logs(&config, wire::json_logs(&config));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(import(args, &config))
}

async fn import(args: &ImportArgs, config: &Config) -> io::Result<ExitCode> {
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
    let found = import::find(&args.dir).map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}", args.dir.display()))
    })?;
    let bar = ProgressBar::new(found.len() as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta} {wide_msg}")
        .map_err(io::Error::other)?;
    bar.set_style(style);
    let (mut kept, mut present, mut refused) = (0u64, 0u64, Vec::new());
    for file in found {
        let name = file.to_string();
        bar.set_message(name.clone());
        match gateway.import(file).await {
            Imported::Kept => kept += 1,
            Imported::Present => present += 1,
            Imported::Refused(refusal) => refused.push((name, refusal)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    gateway.settle(Duration::MAX).await;
    let mut out = io::stdout().lock();
    if args.json {
        let refused: Vec<_> = refused
            .iter()
            .map(|(name, why)| json!({"file": name, "code": why.code.as_str(), "why": why.why}))
            .collect();
        writeln!(
            out,
            "{}",
            json!({"kept": kept, "present": present, "refused": refused})
        )?;
    } else {
        for (name, why) in &refused {
            writeln!(out, "refused {name}: {why}")?;
        }
        writeln!(
            out,
            "{kept} kept, {present} present already, {} refused",
            refused.len()
        )?;
    }
    Ok(if refused.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
