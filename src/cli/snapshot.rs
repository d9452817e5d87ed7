//! Writes a live cluster into a file, as a starting point for `simulate`.

use crate::kubernetes::client::configure;
use crate::kubernetes::snapshot::take;
use anyhow::Context as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of the subcommand.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Kubeconfig file; without it KUBECONFIG, then the credentials of the pod this runs in.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The file; without it, standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn main(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(snapshot(args))
}

async fn snapshot(args: Args) -> anyhow::Result<ExitCode> {
    let cluster = configure(args.kubeconfig.as_deref()).await?;
    let client = kube::Client::try_from(cluster).context("cannot connect to the cluster")?;
    let snapshot = take(&client, jiff::Timestamp::now().to_string()).await?;
    let mut text = serde_json::to_string_pretty(&snapshot)?;
    text.push('\n');
    let Some(path) = &args.out else {
        std::io::stdout().write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    };
    let shown = path.display();
    std::fs::write(path, text).with_context(|| format!("writing {shown}: choose another file"))?;
    println!(
        "{} nodes, {} queues and {} pods in {shown}",
        snapshot.nodes.len(),
        snapshot.queues.len(),
        snapshot.pods.len()
    );
    Ok(ExitCode::SUCCESS)
}
