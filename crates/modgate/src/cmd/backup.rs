//! `modgate backup` and `modgate restore`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use care::backup::{self, Target};
use records::Records;
use serde_json::json;
use store::Folder;

use crate::{
    cli::{BackupArgs, RestoreArgs},
    config::{BackupTarget, Config, Env, Uses},
    wire,
};

/// Writes a backup.
pub fn backup(args: &BackupArgs, env: Env) -> io::Result<ExitCode> {
    let Some(config) =
        super::load_beside_and_log(&args.config.sources(env).only(Uses::Storage), |_| false)?
    else {
        return Ok(ExitCode::FAILURE);
    };
    let written = super::runtime()?.block_on(async {
        let (records, target) = open(&config, args.to.as_ref()).await?;
        let work = Folder::new(wire::store_folder(&config)).work()?;
        let written = backup::write(&records, &target, args.incremental, &work).await;
        records.close().await;
        written.map_err(io::Error::other)
    })?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_value(&written)?)?;
    } else {
        let what = match &written.base {
            Some(base) => format!("what changed since {base}"),
            None => "everything".to_owned(),
        };
        let (id, rows, bytes) = (&written.id, written.rows, written.bytes);
        writeln!(out, "{id}: {what}; {rows} rows, {bytes} bytes")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Restores a backup.
pub fn restore(args: &RestoreArgs, env: Env) -> io::Result<ExitCode> {
    let Some(config) = super::load_and_log(&args.config.sources(env).only(Uses::Storage))? else {
        return Ok(ExitCode::FAILURE);
    };
    let restored = super::runtime()?.block_on(async {
        let target = target(&config, args.from.as_ref())?;
        // Before there are new records.
        if target.ids().await.map_err(io::Error::other)?.is_empty() {
            return Err(io::Error::other(format!("there is no backup in {target}")));
        }
        let records = wire::open_records(&config).await?;
        let work = Folder::new(wire::store_folder(&config)).work()?;
        let restored = backup::restore(&records, &target, args.at, &work).await;
        records.close().await;
        restored.map_err(io::Error::other)
    })?;
    let (id, rows) = (&restored.backup.id, restored.backup.rows);
    let at = backup::format_time(restored.backup.at_ms);
    let mut out = io::stdout().lock();
    if args.json {
        let unchanged = restored.unchanged;
        let json =
            json!({"id": id, "at": at, "rows": rows, "verified": true, "unchanged": unchanged});
        return writeln!(out, "{json}").map(|()| ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "restored {id}, the state of {at}: {rows} rows, verified"
    )?;
    if !restored.unchanged {
        writeln!(out, "the records have changed since: a server is at work")?;
    }
    writeln!(
        out,
        "`modgate fsck --repair` brings index and files together"
    )?;
    Ok(ExitCode::SUCCESS)
}

async fn open(config: &Config, named: Option<&BackupTarget>) -> io::Result<(Records, Target)> {
    let target = target(config, named)?;
    Ok((wire::open_records(config).await?, target))
}

fn target(config: &Config, named: Option<&BackupTarget>) -> io::Result<Target> {
    let target = named.or(config.backup.to.as_ref());
    let target = target.ok_or_else(|| io::Error::other("no backup.to is set: say where"))?;
    wire::backups(config, target).map_err(io::Error::other)
}
