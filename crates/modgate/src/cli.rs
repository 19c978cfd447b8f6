//! The command line: commands, flags and their help.
//!
//! Flags that set configuration stay texts here: [`crate::config`] checks them
//! together with the file and the environment, and reports all mistakes at once.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use gomod::pattern::Patterns;

use crate::config::{BackupTarget, Env, Flags, Sources, Uses, duration_of_flag, size_of_flag};

mod carry;
mod listed;
mod module_version;

pub use carry::{CopyArgs, ExportArgs, ImportArgs};
pub use listed::{PinnedArgs, RetiredArgs};
pub use module_version::{ModuleVersion, ModuleVersionError, ModuleVersions};

/// Longest reason of a tombstone, in bytes: clients see it in one line.
const MAX_REASON_BYTES: usize = 500;

/// A self-hosted gateway for Go modules.
#[derive(Debug, Parser)]
#[command(
    name = "modgate",
    version,
    about,
    arg_required_else_help = true,
    after_help = "Examples:
  modgate serve                           start with defaults on 127.0.0.1:3000
  GOPROXY=http://127.0.0.1:3000 go build  use it
  modgate check --config modgate.toml     validate a configuration"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the gateway
    Serve(ServeArgs),
    /// Validate a configuration and print it in effect, with the origin of each value
    Check(CheckArgs),
    /// Take over a bundle, a Go module cache, or a folder in file:// GOPROXY layout
    Import(ImportArgs),
    /// Write versions and their proofs into one file, for a network without a line
    Export(ExportArgs),
    /// Copy everything that is kept to another storage, while servers go on
    Copy(CopyArgs),
    /// Retire a version: it disappears from lists and answers 410 with the reason
    Retire(RetireArgs),
    /// Take back a retirement
    Unretire(UnretireArgs),
    /// List the retired versions, since when and why
    Retired(RetiredArgs),
    /// Compare everything that is kept with its hashes, in every tier, and put right what is wrong
    Fsck(FsckArgs),
    /// Remove versions that were not used for long
    Gc(GcArgs),
    /// Keep versions whatever is cleaned up
    Pin(PinArgs),
    /// Take back a pin
    Unpin(UnpinArgs),
    /// List the pinned versions
    Pinned(PinnedArgs),
    /// Write a backup of the records and of the index of what is kept
    Backup(BackupArgs),
    /// Restore a backup, or the state of a moment
    Restore(RestoreArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
}

/// Flags that set configuration; they win over the environment and the file.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigArgs {
    /// Configuration file (TOML) [env: MODGATE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port to listen on [env: MODGATE_LISTEN]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Folder of what is kept [env: MODGATE_DATA]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// Upstreams in GOPROXY's syntax [env: MODGATE_CHAIN]
    #[arg(long, value_name = "CHAIN")]
    pub upstream: Option<String>,
    /// Checksum database in GOSUMDB's syntax [env: MODGATE_SUMDB_NAME]
    #[arg(long, value_name = "NAME|KEY|off")]
    pub sumdb: Option<String>,
}

impl ConfigArgs {
    /// What the configuration is read from, given these flags.
    pub fn sources(&self, env: Env) -> Sources {
        Sources {
            file: self.config.clone(),
            env,
            flags: Flags {
                listen: self.listen.clone(),
                data: self.data.clone(),
                upstream: self.upstream.clone(),
                sumdb: self.sumdb.clone(),
            },
            silent: false,
            uses: Uses::All,
        }
    }
}

/// Flags of `serve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  modgate serve
  modgate serve --listen 0.0.0.0:3000 --data /var/lib/modgate
  modgate serve --upstream 'https://goproxy.cn|https://goproxy.io,direct'
  modgate serve --config /etc/modgate/modgate.toml")]
pub struct ServeArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Flags of `check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exits with 1 if there are mistakes. Secrets are never printed.

Examples:
  modgate check
  modgate check --config /etc/modgate/modgate.toml
  modgate check --json | jq '.settings[] | select(.origin != \"default\")'"
)]
pub struct CheckArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON, for machines
    #[arg(long)]
    pub json: bool,
}

/// Flags of `retire`.
#[derive(Debug, Args)]
#[command(
    after_help = "A running server follows within a second, replicas that share their records (PostgreSQL) within two.

Examples:
  modgate retire github.com/user/repo@v1.2.3 --reason 'licence changed, use v1.2.4'"
)]
pub struct RetireArgs {
    /// The version to retire
    #[arg(value_name = "MODULE@VERSION")]
    pub version: ModuleVersion,
    /// Why; clients see it
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: String,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Flags of `unretire`.
#[derive(Debug, Args)]
#[command(
    after_help = "A running server follows within a second, replicas that share their records (PostgreSQL) within two.

Examples:
  modgate unretire github.com/user/repo@v1.2.3"
)]
pub struct UnretireArgs {
    /// The version to take back
    #[arg(value_name = "MODULE@VERSION")]
    pub version: ModuleVersion,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Flags of `fsck`.
#[derive(Debug, Args)]
#[command(
    after_help = "It works beside a running server, and reads no faster than --rate. Without --repair nothing is changed. \
Exits with 1 if something is wrong and was not put right.

Examples:
  modgate fsck
  modgate fsck --repair --rate 200MiB
  modgate fsck --resume                   go on after an interruption
  modgate fsck --json | jq .findings"
)]
pub struct FsckArgs {
    /// Put right what is wrong: from another tier, or from upstream
    #[arg(long)]
    pub repair: bool,
    /// Bytes that are read in a second, or `off`
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = rate)]
    pub rate: Rate,
    /// Go on where the last one was interrupted
    #[arg(long)]
    pub resume: bool,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the report as JSON, for machines
    #[arg(long)]
    pub json: bool,
}

/// Bytes in a second; `None` is as fast as it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub Option<u64>);

fn rate(text: &str) -> Result<Rate, String> {
    match text {
        "off" => Ok(Rate(None)),
        text => match size_of_flag(text)? {
            0 => Err("it would never end".to_owned()),
            bytes => Ok(Rate(Some(bytes))),
        },
    }
}

/// Flags of `gc`.
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("what").required(true).multiple(true),
    after_help = "Of several bounds each must be met. What is pinned stays. Without --yes nothing is removed.

Examples:
  modgate gc --older-than 180d
  modgate gc --max-size 200GiB --yes
  modgate gc --match 'corp.example/old/*' --yes
  modgate gc --older-than 90d --json | jq .removed_bytes"
)]
pub struct GcArgs {
    /// Versions that were not used for so long
    #[arg(long, value_name = "TIME", group = "what", value_parser = duration_of_flag)]
    pub older_than: Option<Duration>,
    /// The longest unused versions, until no more than this is kept
    #[arg(long, value_name = "SIZE", group = "what", value_parser = size_of_flag)]
    pub max_size: Option<u64>,
    /// Versions of modules that match, in GOPRIVATE's syntax
    #[arg(long = "match", value_name = "PATTERNS", group = "what", value_parser = patterns)]
    pub matching: Option<Patterns>,
    /// Do it
    #[arg(long)]
    pub yes: bool,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the report as JSON, for machines
    #[arg(long)]
    pub json: bool,
}

fn patterns(text: &str) -> Result<Patterns, String> {
    let patterns = Patterns::parse(text).map_err(|error| error.to_string())?;
    if patterns.is_empty() {
        return Err("it matches nothing".to_owned());
    }
    Ok(patterns)
}

/// Flags of `pin`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  modgate pin github.com/user/repo@v1.2.3
  modgate pin corp.example/base           all versions that are kept now")]
pub struct PinArgs {
    /// A version, or a module with all its kept versions
    #[arg(value_name = "MODULE[@VERSION]")]
    pub what: ModuleVersions,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Flags of `unpin`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  modgate unpin github.com/user/repo@v1.2.3")]
pub struct UnpinArgs {
    /// A version, or a module with all its kept versions
    #[arg(value_name = "MODULE[@VERSION]")]
    pub what: ModuleVersions,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Flags of `backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "The files of modules are not in it: those are in the tiers that keep. A bucket is reached with the address and keys of the \
[[storage]] of that kind.

Examples:
  modgate backup /var/backups/modgate
  modgate backup --incremental s3://modgate/backups
  modgate backup                          to where backup.to says"
)]
pub struct BackupArgs {
    /// A folder, or s3://bucket/prefix (gs://, az://); without it what `backup.to` says
    #[arg(value_name = "TO", value_parser = backup_target)]
    pub to: Option<BackupTarget>,
    /// Only what changed since the last one there
    #[arg(long)]
    pub incremental: bool,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print what was written as JSON, for machines
    #[arg(long)]
    pub json: bool,
}

/// Flags of `restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "Everything is verified before anything is changed. A running server takes it over at once. Afterwards \
`modgate fsck --repair` brings index and files together.

Examples:
  modgate restore /var/backups/modgate
  modgate restore s3://modgate/backups --at 2026-11-26T04:53:00Z"
)]
pub struct RestoreArgs {
    /// A folder, or s3://bucket/prefix (gs://, az://); without it what `backup.to` says
    #[arg(value_name = "FROM", value_parser = backup_target)]
    pub from: Option<BackupTarget>,
    /// The moment to go back to; without it the last backup
    #[arg(long, value_name = "TIME", value_parser = care::backup::parse_time)]
    pub at: Option<i64>,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print what was restored as JSON, for machines
    #[arg(long)]
    pub json: bool,
}

fn backup_target(text: &str) -> Result<BackupTarget, String> {
    BackupTarget::parse(text)
        .ok_or_else(|| "write a folder, or s3://bucket/prefix (gs://, az://)".to_owned())
}

/// Flags of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  modgate completions bash > /etc/bash_completion.d/modgate
  modgate completions zsh > \"${fpath[1]}/_modgate\"
  modgate completions fish > ~/.config/fish/completions/modgate.fish")]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// A reason that fits into one line of an answer.
fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("the reason is empty".to_owned());
    }
    if text.len() > MAX_REASON_BYTES {
        return Err(format!(
            "the reason is longer than {MAX_REASON_BYTES} bytes"
        ));
    }
    if text.chars().any(char::is_control) {
        return Err("the reason must be one line of text".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_has_examples() {
        let cli = Cli::command();
        cli.clone().debug_assert();
        for command in std::iter::once(&cli).chain(cli.get_subcommands()) {
            let help = command.get_after_help().map(ToString::to_string);
            assert!(
                help.unwrap_or_default().contains("Examples:"),
                "{}",
                command.get_name()
            );
        }
    }

    #[test]
    fn a_unit_that_is_none_is_told_with_the_one_that_was_meant() {
        for (args, hint) in [
            (&["gc", "--max-size", "10MB"], "\"10MiB\""),
            (&["gc", "--older-than", "10days"], "\"10d\""),
            (&["fsck", "--rate", "5"], "\"5MiB\""),
        ] {
            let args = [&["modgate"], &args[..]].concat();
            let told = Cli::try_parse_from(args).unwrap_err().to_string();
            assert!(told.contains(hint), "{told}");
        }
    }

    #[test]
    fn a_retirement_needs_a_version_and_a_reason() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["modgate", "retire"], args].concat());
        assert!(parse(&["example.com/m@v1.2.3", "--reason", "broken"]).is_ok());
        for args in [
            &["example.com/m@v1.2.3"][..],
            &["example.com/m", "--reason", "x"],
            &["example.com/m@main", "--reason", "x"],
            &["-@v1.2.3", "--reason", "x"],
            &["example.com/m@v2.0.0", "--reason", "x"],
            &["example.com/m@v1.2.3", "--reason", " "],
            &["example.com/m@v1.2.3", "--reason", "a\nb"],
        ] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }
}
