//! `modgate check`: validates a configuration and prints it in effect.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use serde_json::json;

use crate::{
    cli::CheckArgs,
    config::{Config, Env, Loaded, Mistakes},
};

/// Prints the configuration to standard output, or all mistakes to standard
/// error with exit code 1. As JSON both go to standard output.
pub fn run(args: &CheckArgs, env: Env) -> io::Result<ExitCode> {
    let colours = colours(&env, io::stderr().is_terminal());
    match Config::load(&args.config.sources(env)) {
        Ok(loaded) => {
            if args.json {
                write_json(&json!({
                    "ok": true,
                    "digest": loaded.digest(),
                    "settings": loaded.origins.to_json(),
                    "notices": loaded.notices,
                }))?;
            } else {
                print(&loaded)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(mistakes) => {
            if args.json {
                write_json(&json!({ "ok": false, "mistakes": mistakes.to_json() }))?;
            } else {
                report(&mistakes, colours)?;
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Writes mistakes to standard error, as every command does that needs a configuration.
pub fn report(mistakes: &Mistakes, colours: bool) -> io::Result<()> {
    writeln!(io::stderr().lock(), "{}", mistakes.render(colours))
}

/// Whether to colour: only a terminal, and not against NO_COLOR (no-color.org).
pub fn colours(env: &Env, is_terminal: bool) -> bool {
    is_terminal && env.get("NO_COLOR").is_none() && env.get("TERM") != Some("dumb")
}

fn print(loaded: &Loaded) -> io::Result<()> {
    let mut err = io::stderr().lock();
    for notice in &loaded.notices {
        writeln!(err, "note: {notice}")?;
    }
    let mut out = io::stdout().lock();
    writeln!(out, "# The configuration in effect. Secrets are not shown.")?;
    writeln!(
        out,
        "# Its digest, which replicas compare: {}",
        loaded.digest()
    )?;
    write!(out, "{}", loaded.origins)
}

fn write_json(value: &serde_json::Value) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{value:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_willing_terminals() {
        for (vars, terminal, expected) in [
            (Env::of([]), true, true),
            (Env::of([]), false, false),
            (Env::of([("NO_COLOR", "1")]), true, false),
            (Env::of([("NO_COLOR", "")]), true, true),
            (Env::of([("TERM", "dumb")]), true, false),
        ] {
            assert_eq!(colours(&vars, terminal), expected, "{vars:?}");
        }
    }
}
