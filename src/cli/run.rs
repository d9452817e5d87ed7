//! Schedules the pods of a cluster.

use crate::config::Configuration;
use crate::runtime::{self, End};
use crate::telemetry::logs;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Threads for what is not the engine: watches, calls, health. More do not help a scheduler.
const THREADS: usize = 2;

/// Options of the subcommand.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration file; without it the defaults apply (see `config default`).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Kubeconfig file; without it KUBECONFIG, then the credentials of the pod this runs in.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// File with the tree of queues; it takes the place of `queues.file` of the configuration.
    #[arg(long, value_name = "FILE")]
    queues: Option<PathBuf>,
    #[command(flatten)]
    logs: logs::Args,
}

pub(super) fn main(args: Args) -> anyhow::Result<ExitCode> {
    logs::init(&args.logs)?;
    let mut configuration = match &args.config {
        Some(path) => Configuration::load(path)?,
        None => Configuration::default(),
    };
    configuration.queues.file = args.queues.or(configuration.queues.file);
    let threads =
        tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let end = threads.block_on(async {
        runtime::run(configuration, args.kubeconfig.as_deref(), terminated()?).await
    })?;
    match end {
        End::Stopped => Ok(ExitCode::SUCCESS),
        End::LostLease(reason) => anyhow::bail!("lost the lease: {reason}"),
    }
}

/// Done when the process is asked to end.
fn terminated() -> std::io::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}
