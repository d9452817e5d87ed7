//! A story on an embedded cluster.

use std::process::ExitCode;

/// Options of the subcommand.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn main(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this subcommand is being built")
}
