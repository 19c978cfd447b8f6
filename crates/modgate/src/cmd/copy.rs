//! `modgate copy`.

mod heads;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
};

use care::copy::{self, Options, Place, Progress, Refused, Report};
use indicatif::{ProgressBar, ProgressStyle};
use store::Folder;

use self::heads::Heads;
use crate::{
    cli::CopyArgs,
    config::{Config, Env, Sources},
    wire,
};

/// What was done.
struct Done {
    names: [String; 2],
    report: Report,
    head: Head,
}

/// What became of the checksum database's tree head: the size of its tree where there is one, or why it is not there now.
type Head = Result<Option<u64>, String>;

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
    let done = runtime.block_on(copy_all(args, config, there))?;
    print(args, &done)?;
    Ok(if done.report.good() && done.head.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn copy_all(args: &CopyArgs, config: &Config, there: &Config) -> io::Result<Done> {
    let from = wire::place(config, args.from.as_deref()).map_err(io::Error::other)?;
    let to = wire::place(there, args.to.as_deref()).map_err(io::Error::other)?;
    let names = [from.name(), to.name()];
    if same(&from, &to, args.to_config.is_some()) {
        let why = format!("{} cannot be copied to itself", names[0]);
        return Err(io::Error::other(why));
    }
    let records = Arc::new(wire::open_records(config).await?);
    // Another configuration has an index of its own. Nothing is made there by a dry run.
    let index = if args.to_config.is_some() && !args.dry_run {
        Some(wire::open_records(there).await?)
    } else {
        None
    };
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
    let report = copy::run(&from, &to, &records, index.as_ref(), &work, options, &watch);
    let report = report.await;
    bar.finish_and_clear();
    let head = match (&report, &there.sumdb.database) {
        (Ok(_), Some(database)) if !args.dry_run => {
            let others = Heads::of(there, index.as_ref().unwrap_or(&records));
            let ours = Heads::of(config, &records);
            ours.bring(&others, &to, &database.key).await
        }
        _ => Ok(None),
    };
    records.close().await;
    if let Some(index) = index {
        index.close().await;
    }
    Ok(Done {
        names,
        report: report.map_err(io::Error::other)?,
        head,
    })
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

fn print(args: &CopyArgs, done: &Done) -> io::Result<()> {
    let Done {
        names: [from, to],
        report,
        head,
    } = done;
    let mut out = io::stdout().lock();
    if args.json {
        let mut json = serde_json::to_value(report)?;
        json["from"] = from.as_str().into();
        json["to"] = to.as_str().into();
        json["good"] = (report.good() && head.is_ok()).into();
        match head {
            Ok(size) => json["tree_size"] = (*size).into(),
            Err(why) => json["tree_head_refused"] = why.as_str().into(),
        }
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
    match head {
        Ok(Some(size)) => writeln!(
            out,
            "the checksum database's tree of {size} records is known there too"
        )?,
        Ok(None) => {}
        Err(why) => writeln!(out, "not copied the checksum database's head: {why}")?,
    }
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
