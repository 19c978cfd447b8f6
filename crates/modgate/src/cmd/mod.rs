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

/// The same for a command that works beside a server, on what is there: it makes no data folder. `enough` is what else may
/// be there.
fn load_beside(sources: &Sources, enough: impl Fn(&Config) -> bool) -> io::Result<Option<Config>> {
    let Some(Loaded {
        config, origins, ..
    }) = load_with_origins(sources)?
    else {
        return Ok(None);
    };
    if !wire::has_data(&config) && !enough(&config) {
        let from = origins.get("data");
        let from = from.map_or_else(String::new, |from| format!(" (from {from})"));
        return Err(io::Error::other(format!(
            "there is no modgate data in {}{from}: name the server's with --data or --config",
            config.data.display()
        )));
    }
    Ok(Some(config))
}

/// The same for a command that says in logs how it goes.
fn load_and_log(sources: &Sources) -> io::Result<Option<Config>> {
    let config = load(sources)?;
    if let Some(config) = &config {
        wire::logs(config, wire::json_logs(config), io::stderr);
    }
    Ok(config)
}

/// Both.
fn load_beside_and_log(
    sources: &Sources,
    enough: impl Fn(&Config) -> bool,
) -> io::Result<Option<Config>> {
    let config = load_beside(sources, enough)?;
    if let Some(config) = &config {
        wire::logs(config, wire::json_logs(config), io::stderr);
    }
    Ok(config)
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}
