//! The commands, a file each.

pub mod backup;
pub mod check;
pub mod completions;
pub mod copy;
pub mod export;
pub mod fsck;
pub mod gc;
pub mod import;
pub mod listed;
mod open_files;
pub mod retire;
mod schedule;
pub mod serve;
mod watch;

use std::io::{self, IsTerminal as _};

use records::Records;
use tokio::runtime::{Builder, Runtime};

use crate::{
    config::{Config, Loaded, Sources},
    wire,
};

/// The configuration in effect of a command that does not listen; `None` if there are mistakes in it, which are told.
fn load(sources: &Sources) -> io::Result<Option<Config>> {
    Ok(load_with_origins(sources)?.map(|loaded| loaded.config))
}

fn load_with_origins(sources: &Sources) -> io::Result<Option<Loaded>> {
    let sources = Sources {
        silent: true,
        ..sources.clone()
    };
    match Config::load(&sources) {
        Ok(loaded) => Ok(Some(loaded)),
        Err(mistakes) => {
            let colours = check::colours(&sources.env, io::stderr().is_terminal());
            check::report(&mistakes, colours)?;
            Ok(None)
        }
    }
}

/// The same for a command that says in logs how it goes.
fn load_and_log(sources: &Sources) -> io::Result<Option<Config>> {
    let config = load(sources)?;
    if let Some(config) = &config {
        wire::logs(config, wire::json_logs(config), io::stderr);
    }
    Ok(config)
}

/// The records of a gateway that has run here, for commands that only take something back: they make no data folder.
async fn open_existing_records(config: &Config) -> io::Result<Records> {
    if config.records.postgres.is_none() && !config.data.is_dir() {
        return Err(io::Error::other(format!(
            "there is no data folder {}: name that of the gateway with --data or --config",
            config.data.display()
        )));
    }
    wire::open_records(config).await
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}
