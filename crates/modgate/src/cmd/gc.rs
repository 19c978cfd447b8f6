//! `modgate gc`, `modgate pin` and `modgate unpin`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
};

use care::gc::{self, Gone, Options, Report};

use crate::{
    cli::{ConfigArgs, GcArgs, ModuleVersions, PinArgs, UnpinArgs},
    config::{Env, Uses},
    wire,
};

/// Removes what was not used for long, or tells what would go.
pub fn run(args: &GcArgs, env: Env) -> io::Result<ExitCode> {
    let Some(config) =
        super::load_beside(&args.config.sources(env).only(Uses::Storage), |_| false)?
    else {
        return Ok(ExitCode::FAILURE);
    };
    wire::logs(&config, wire::json_logs(&config), io::stderr);
    let options = Options {
        older_than: args.older_than,
        max_size: args.max_size,
        matching: args.matching.clone(),
        really: args.yes,
    };
    let report = super::runtime()?.block_on(async {
        let records = Arc::new(wire::open_records(&config).await?);
        let storage = wire::cared_for(&config, Arc::clone(&records)).map_err(io::Error::other)?;
        let report = gc::run(&storage, &options, &|_| {}).await;
        records.close().await;
        report.map_err(io::Error::other)
    })?;
    print(args, &report)?;
    Ok(ExitCode::SUCCESS)
}

fn print(args: &GcArgs, report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        return writeln!(out, "{}", serde_json::to_value(report)?);
    }
    let verb = if report.done {
        "removed"
    } else {
        "would remove"
    };
    for Gone {
        module,
        version,
        bytes,
        used_at_ms,
        ..
    } in &report.removed
    {
        let used = care::backup::format_time(*used_at_ms);
        writeln!(
            out,
            "{verb} {module}@{version}: {bytes} bytes, last used {used}"
        )?;
    }
    writeln!(
        out,
        "{verb} {} versions, {} MiB; {} stay, {} MiB; {} of them are pinned",
        report.removed.len(),
        report.removed_bytes >> 20,
        report.kept,
        report.kept_bytes >> 20,
        report.pinned
    )?;
    if !report.done && !report.removed.is_empty() {
        writeln!(out, "nothing was removed: --yes does it")?;
    }
    Ok(())
}

/// Pins versions.
pub fn pin(args: &PinArgs, env: Env) -> io::Result<ExitCode> {
    set(&args.config, env, &args.what, true)
}

/// Takes pins away.
pub fn unpin(args: &UnpinArgs, env: Env) -> io::Result<ExitCode> {
    set(&args.config, env, &args.what, false)
}

fn set(config: &ConfigArgs, env: Env, what: &ModuleVersions, pinned: bool) -> io::Result<ExitCode> {
    let Some(config) = super::load_beside(&config.sources(env).only(Uses::Records), |_| false)?
    else {
        return Ok(ExitCode::FAILURE);
    };
    let count = super::runtime()?.block_on(async {
        let records = wire::open_records(&config).await?;
        let set = gc::pin(&records, &what.module, what.version.as_ref(), pinned).await;
        records.close().await;
        set.map_err(io::Error::other)
    })?;
    let name = match &what.version {
        Some(version) => format!("{}@{version}", what.module),
        None => what.module.to_string(),
    };
    if count == 0 {
        eprintln!("{name} is not kept here, so there is nothing to pin");
        return Ok(ExitCode::FAILURE);
    }
    let done = if pinned {
        "pinned"
    } else {
        "not pinned any more"
    };
    eprintln!("{name}: {count} files are {done}");
    Ok(ExitCode::SUCCESS)
}
