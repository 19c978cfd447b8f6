//! The `modgate` program: one match on the command.

use std::{io, process::ExitCode};

use clap::Parser;
use modgate::{
    cli::{Cli, Command},
    cmd,
    config::Env,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let env = Env::of_process();
    let done = match &cli.command {
        Command::Backup(args) => cmd::backup::backup(args, env),
        Command::Check(args) => cmd::check::run(args, env),
        Command::Completions(args) => cmd::completions::run(args),
        Command::Copy(args) => cmd::copy::run(args, env),
        Command::Export(args) => cmd::export::run(args, env),
        Command::Fsck(args) => cmd::fsck::run(args, env),
        Command::Gc(args) => cmd::gc::run(args, env),
        Command::Import(args) => cmd::import::run(args, env),
        Command::Pin(args) => cmd::gc::pin(args, env),
        Command::Pinned(args) => cmd::listed::pinned(args, env),
        Command::Restore(args) => cmd::backup::restore(args, env),
        Command::Retire(args) => cmd::retire::retire(args, env),
        Command::Retired(args) => cmd::listed::retired(args, env),
        Command::Serve(args) => cmd::serve::run(args, env),
        Command::Unpin(args) => cmd::gc::unpin(args, env),
        Command::Unretire(args) => cmd::retire::unretire(args, env),
    };
    match done {
        Ok(code) => code,
        // The reader of our output has gone: nobody is left to tell.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
