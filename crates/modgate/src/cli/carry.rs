//! Flags of the commands that carry versions from one place to another.

use std::path::PathBuf;

use clap::Args;

use super::{ConfigArgs, ModuleVersions, Rate, rate};

/// Flags of `import`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every file is verified before it is kept: against the checksum database, or, in a bundle, against the proofs \
that it brings, without any line. What is there already stays. What is private or exempt has no proof; it is compared with \
the hash that the bundle has of it, and told as `unproven`. No server may run on the data folder meanwhile.

Examples:
  modgate import modules.bundle --data /var/lib/modgate
  modgate import \"$(go env GOMODCACHE)/cache/download\"
  modgate import /mnt/usb/goproxy --data /var/lib/modgate --json"
)]
pub struct ImportArgs {
    /// Bundle, or folder, to take over
    #[arg(value_name = "BUNDLE|DIR")]
    pub from: PathBuf,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the report as JSON, for machines
    #[arg(long)]
    pub json: bool,
}

/// Flags of `export`.
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("what").required(true).multiple(true),
    after_help = "The gateway of the configuration is asked, as by a client: what is not kept is fetched and verified, as always. \
Without a running server the command is one itself. Where a version that was named cannot be had, nothing is written, unless it \
is not there and --allow-missing is given.

Examples:
  modgate export --out modules.bundle --go-mod ~/project/go.mod
  modgate export --out more.bundle github.com/user/repo@v1.2.3 corp.example/base
  modgate export --out week.bundle --since 2026-11-19T00:00:00Z
  modgate export --out more.bundle --continues 31415926 --go-mod go.mod"
)]
pub struct ExportArgs {
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Versions; a module alone is all of it that is kept
    #[arg(value_name = "MODULE[@VERSION]", group = "what")]
    pub modules: Vec<ModuleVersions>,
    /// All that is needed to build the main module of this file
    #[arg(long, value_name = "FILE", group = "what")]
    pub go_mod: Option<PathBuf>,
    /// Everything that was kept since then
    #[arg(long, value_name = "TIME", group = "what", value_parser = care::backup::parse_time)]
    pub since: Option<i64>,
    /// Leave out what upstream says is not there, and tell it: the go command may never need it
    #[arg(long)]
    pub allow_missing: bool,
    /// Size of the checksum database's tree that the importing gateway knows, if `import` asks for it
    #[arg(long, value_name = "RECORDS")]
    pub continues: Vec<u64>,
    /// Address of the gateway to ask; by default that of the configuration
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the report as JSON, for machines
    #[arg(long)]
    pub json: bool,
}

/// Flags of `copy`.
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("there").required(true).multiple(true),
    after_help = "A storage is named as in logs: `disk`, or the tier of its [[storage]], with bucket and prefix where there are several \
(`s3:bucket/prefix`). What is there already is compared and not sent again: one that was interrupted goes on when it is run \
again. What comes meanwhile is copied too. Exits with 1 if something was not copied.

Examples:
  modgate copy --from disk --to s3 --dry-run
  modgate copy --to-config new.toml               to where that configuration keeps
  modgate copy --from s3 --to-config new.toml --to disk --rate 50MiB"
)]
pub struct CopyArgs {
    /// Storage to copy from; by default the one that keeps: the last bucket, else the disk
    #[arg(long, value_name = "NAME")]
    pub from: Option<String>,
    /// Storage to copy to; with --to-config by default the one that keeps there
    #[arg(long, value_name = "NAME", group = "there")]
    pub to: Option<String>,
    /// Configuration that has the storage to copy to
    #[arg(long, value_name = "FILE", group = "there")]
    pub to_config: Option<PathBuf>,
    /// Bytes that are read in a second, or `off`
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = rate)]
    pub rate: Rate,
    /// Only say what would be copied
    #[arg(long)]
    pub dry_run: bool,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the report as JSON, for machines
    #[arg(long)]
    pub json: bool,
}
