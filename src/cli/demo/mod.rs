//! A story on an embedded cluster: the real scheduler, over real HTTP, in one process.

mod cluster;
mod story;
mod table;

use anyhow::Context;
use cluster::Cluster;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Options of the subcommand.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Leave the cluster running afterwards and print how to reach it.
    #[arg(long)]
    keep: bool,
    /// Where --keep writes the kubeconfig; by default a file in the temporary folder.
    #[arg(long, value_name = "FILE", requires = "keep")]
    write_kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    logs: QuietLogs,
}

/// The scheduler's log is part of the demo only on request.
#[derive(Debug, clap::Args)]
struct QuietLogs {
    /// Show the scheduler's log lines.
    #[arg(long)]
    log: bool,
}

pub(super) fn main(args: Args) -> anyhow::Result<ExitCode> {
    if args.logs.log {
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).init();
    }
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    threads.block_on(show(&args))
}

async fn show(args: &Args) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let cluster = Cluster::start().await?;
    println!(
        "embedded cluster at {} with 8 nodes x 8 GPUs, in two islands of 4 each\n",
        cluster.url()
    );
    let outcome = story::tell(&cluster).await;
    match &outcome {
        Ok(()) => println!("PASS in {:.1} s", began.elapsed().as_secs_f64()),
        Err(error) => println!("FAIL: {error:#}"),
    }
    if args.keep {
        keep(args, &cluster).await?;
    }
    cluster.stop().await;
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn keep(args: &Args, cluster: &Cluster) -> anyhow::Result<()> {
    let path = args.write_kubeconfig.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("mss-scheduler-demo-{}.kubeconfig", std::process::id()))
    });
    std::fs::write(&path, cluster.kubeconfig())
        .with_context(|| format!("cannot write the kubeconfig {}", path.display()))?;
    println!("\nthe cluster stays up; in another terminal:\n");
    println!("  export KUBECONFIG={}", path.display());
    println!("  kubectl get pods -o wide\n");
    println!("Ctrl-C ends it");
    tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")
}
