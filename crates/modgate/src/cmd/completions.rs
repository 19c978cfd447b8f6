//! `modgate completions SHELL`: the completion script of a shell.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};

/// Writes the script to standard output.
pub fn run(args: &CompletionsArgs) -> io::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "modgate", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
