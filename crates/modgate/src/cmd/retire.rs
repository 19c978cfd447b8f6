//! `modgate retire` and `modgate unretire`.

use std::{io, process::ExitCode, sync::Arc};

use gateway::tombstone::{self, Tombstone};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    cli::{ModuleVersion, RetireArgs, UnretireArgs},
    config::{Env, Sources, Uses},
    wire,
};

/// Sets a tombstone.
pub fn retire(args: &RetireArgs, env: Env) -> io::Result<ExitCode> {
    let now = OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .map_err(io::Error::other)?;
    let tombstone = Tombstone {
        reason: args.reason.clone(),
        time: now.format(&Rfc3339).map_err(io::Error::other)?,
    };
    edit(
        &args.config.sources(env).only(Uses::Records),
        &args.version,
        Some(tombstone),
    )
}

/// Takes a tombstone away.
pub fn unretire(args: &UnretireArgs, env: Env) -> io::Result<ExitCode> {
    edit(
        &args.config.sources(env).only(Uses::Records),
        &args.version,
        None,
    )
}

fn edit(
    sources: &Sources,
    version: &ModuleVersion,
    tombstone: Option<Tombstone>,
) -> io::Result<ExitCode> {
    let Some(config) = super::load_beside(sources, |_| false)? else {
        return Ok(ExitCode::FAILURE);
    };
    let retire = tombstone.is_some();
    let runtime = super::runtime()?;
    let (changed, place, told) = runtime.block_on(async {
        let records = Arc::new(wire::open_records(&config).await?);
        // Before there are new ones: what was taken over stays below what is said now.
        tombstone::take_over(&records, wire::store_folder(&config)).await?;
        let facts = wire::shared_facts(&config, &records).map_err(io::Error::other)?;
        if let Some(facts) = &facts {
            // What the others said is older than what is said now. If it cannot be had, that is told in the end.
            let _ = facts.tell().await;
        }
        let edited = tombstone::edit(&records, &version.module, &version.version, tombstone).await;
        let told = match &facts {
            Some(facts) => facts.tell().await,
            None => Ok(()),
        };
        let place = if records.shared() {
            records.place()
        } else {
            config.data.display().to_string()
        };
        records.close().await;
        edited
            .map(|changed| (changed, place, told))
            .map_err(io::Error::other)
    })?;
    let name = format!("{}@{}", version.module, version.version);
    match (retire, changed) {
        (true, _) => eprintln!(
            "{name} is retired in {place}: running servers answer 410 within a second, other replicas within two"
        ),
        (false, true) => eprintln!(
            "{name} is served again in {place}: by running servers within a second, by other replicas within two"
        ),
        (false, false) => eprintln!("{name} was not retired in {place}"),
    }
    if let Err(error) = told {
        eprintln!(
            "warning: the other replicas do not know of it yet: {error}. The server of {} tells them as soon as it can, if it \
             runs, or when it starts",
            config.data.display()
        );
    }
    Ok(if retire || changed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
