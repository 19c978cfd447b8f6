//! `modgate retired` and `modgate pinned`: what was set by the commands of that name.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
};

use care::gc;
use gateway::tombstone;
use serde::Serialize;

use crate::{
    cli::{PinnedArgs, RetiredArgs},
    config::{Env, Uses},
    wire,
};

#[derive(Serialize)]
struct Retired {
    module: String,
    version: String,
    time: String,
    reason: String,
}

/// Lists the retired versions.
pub fn retired(args: &RetiredArgs, env: Env) -> io::Result<ExitCode> {
    let Some(config) =
        super::load_beside(&args.config.sources(env).only(Uses::Records), |_| false)?
    else {
        return Ok(ExitCode::FAILURE);
    };
    let rows = super::runtime()?.block_on(async {
        let records = Arc::new(wire::open_records(&config).await?);
        tombstone::take_over(&records, wire::store_folder(&config)).await?;
        // No server may run here that follows what the others say.
        if let Some(facts) = wire::shared_facts(&config, &records).map_err(io::Error::other)?
            && let Err(error) = facts.tell().await
        {
            eprintln!("warning: what other replicas retired lately may be missing: {error}");
        }
        let rows = records.tombstones().await;
        records.close().await;
        rows.map_err(io::Error::other)
    })?;
    let mut retired: Vec<Retired> = rows
        .into_iter()
        .map(|row| Retired {
            module: row.module,
            version: row.version,
            time: row.time,
            reason: row.reason,
        })
        .collect();
    retired.sort_by(|one, other| (&one.module, &one.version).cmp(&(&other.module, &other.version)));
    if args.json {
        return json(&serde_json::json!({ "retired": retired }));
    }
    let rows = retired.into_iter().map(|row| {
        let name = format!("{}@{}", row.module, row.version);
        [name, row.time, row.reason]
    });
    table("retired", ["VERSION", "RETIRED", "REASON"], rows.collect())
}

/// Lists the pinned versions.
pub fn pinned(args: &PinnedArgs, env: Env) -> io::Result<ExitCode> {
    let Some(config) =
        super::load_beside(&args.config.sources(env).only(Uses::Records), |_| false)?
    else {
        return Ok(ExitCode::FAILURE);
    };
    let pinned = super::runtime()?.block_on(async {
        let records = wire::open_records(&config).await?;
        let pinned = gc::pinned(&records).await;
        records.close().await;
        pinned.map_err(io::Error::other)
    })?;
    if args.json {
        return json(&serde_json::json!({ "pinned": pinned }));
    }
    let rows = pinned.into_iter().map(|row| {
        let name = format!("{}@{}", row.module, row.version);
        let kept = care::backup::format_time(row.kept_at_ms);
        [name, row.bytes.to_string(), kept]
    });
    table("pinned", ["VERSION", "BYTES", "KEPT SINCE"], rows.collect())
}

fn json(value: &serde_json::Value) -> io::Result<ExitCode> {
    writeln!(io::stdout().lock(), "{value}")?;
    Ok(ExitCode::SUCCESS)
}

/// Columns as wide as they must be.
fn table(what: &str, head: [&str; 3], rows: Vec<[String; 3]>) -> io::Result<ExitCode> {
    if rows.is_empty() {
        eprintln!("no version is {what}");
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned))
        .chain(rows)
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max();
    let (first, second) = (width(0).unwrap_or(0), width(1).unwrap_or(0));
    let mut out = io::stdout().lock();
    for [one, two, three] in &rows {
        writeln!(out, "{one:first$}  {two:second$}  {three}")?;
    }
    Ok(ExitCode::SUCCESS)
}
