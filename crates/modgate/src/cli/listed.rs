//! Flags of the commands that list what other commands set.

use clap::Args;

use super::ConfigArgs;

/// Flags of `retired`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  modgate retired
  modgate retired --json | jq -r '.retired[].reason'")]
pub struct RetiredArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON, for machines
    #[arg(long)]
    pub json: bool,
}

/// Flags of `pinned`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  modgate pinned
  modgate pinned --json | jq '[.pinned[].bytes] | add'")]
pub struct PinnedArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON, for machines
    #[arg(long)]
    pub json: bool,
}
