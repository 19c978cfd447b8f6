//! `modgate copy`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
};

use care::copy::{self, Options, Place, Progress, Refused, Report};
use indicatif::{ProgressBar, ProgressStyle};
use store::Folder;

use crate::{
    cli::CopyArgs,
    config::{Config, Env, Sources},
    wire,
};

/// Copies, and fails if the other place does not have everything.
pub fn run(args: &CopyArgs, env: Env) -> io::Result<ExitCode> {
    let mut sources = vec![args.config.sources(env.clone())];
    sources.extend(args.to_config.as_ref().map(|file| Sources {
        file: Some(file.clone()),
        env,
        ..Sources::default()
    }));
    let mut configs = Vec::new();
    for sources in &sources {
        let Some(config) = super::load(sources)? else {
            return Ok(ExitCode::FAILURE);
        };
        configs.push(config);
    }
    let (config, there) = (&configs[0], &configs[configs.len() - 1]);
    wire::logs(config, wire::json_logs(config), io::stderr);
    let runtime = super::runtime()?;
    let (names, report) = runtime.block_on(copy_all(args, config, there))?;
    print(args, &names, &report)?;
    Ok(if report.good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn copy_all(
    args: &CopyArgs,
    config: &Config,
    there: &Config,
) -> io::Result<([String; 2], Report)> {
    let from = wire::place(config, args.from.as_deref()).map_err(io::Error::other)?;
    let to = wire::place(there, args.to.as_deref()).map_err(io::Error::other)?;
    let names = [from.name(), to.name()];
    if same(&from, &to, args.to_config.is_some()) {
        let why = format!("{} cannot be copied to itself", names[0]);
        return Err(io::Error::other(why));
    }
    let records = Arc::new(wire::open_records(config).await?);
    let work = Folder::new(wire::store_folder(config));
    // Not drawn unless it is a terminal.
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta} {wide_msg}")
        .map_err(io::Error::other)?;
    bar.set_style(style);
    let watch = |progress: Progress<'_>| {
        bar.set_length(progress.total);
        bar.set_position(progress.seen);
        let (pass, mib, key) = (progress.pass, progress.bytes >> 20, progress.key);
        bar.set_message(format!("pass {pass}, {mib} MiB: {key}"));
    };
    let options = Options {
        rate: args.rate.0,
        dry_run: args.dry_run,
    };
    let done = copy::run(&from, &to, &records, &work, options, &watch).await;
    bar.finish_and_clear();
    records.close().await;
    Ok((names, done.map_err(io::Error::other)?))
}

fn same(from: &Place, to: &Place, other_config: bool) -> bool {
    match (from, to) {
        (Place::Disk(from), Place::Disk(to)) => {
            let real = |folder: &Folder| folder.path().canonicalize().ok();
            from.path() == to.path() || real(from).is_some_and(|from| Some(from) == real(to))
        }
        // Names of another configuration say nothing.
        (Place::Bucket(from), Place::Bucket(to)) => !other_config && from.name() == to.name(),
        _ => false,
    }
}

fn print(args: &CopyArgs, [from, to]: &[String; 2], report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        let mut json = serde_json::to_value(report)?;
        json["from"] = from.as_str().into();
        json["to"] = to.as_str().into();
        json["good"] = report.good().into();
        return writeln!(out, "{json}");
    }
    for Refused { key, why } in &report.refused {
        writeln!(out, "not copied {key}: {why}")?;
    }
    let verb = if report.dry_run {
        "would copy"
    } else {
        "copied"
    };
    writeln!(
        out,
        "{from} to {to}: {verb} {} objects, {} MiB; {} there already, {} not copied",
        report.copied,
        report.bytes >> 20,
        report.present,
        report.refused.len() as u64 + report.more
    )?;
    if report.still_arriving {
        writeln!(out, "new objects still came: run it again")?;
    }
    if !report.refused.is_empty() {
        writeln!(
            out,
            "`modgate fsck` says more about what is not what it should be"
        )?;
    }
    Ok(())
}
