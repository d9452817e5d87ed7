//! Serves the embedded Kubernetes API.

use crate::simulator::api_server::{ApiServer, FaultRule, Handle, Options};
use crate::simulator::kubelet::{Fleet, FleetOptions, NodeShape, create_nodes};
use anyhow::Context as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Options of the subcommand.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8001")]
    bind: SocketAddr,
    /// Create so many nodes.
    #[arg(long, default_value_t = 0)]
    nodes: usize,
    /// GPUs of each node (`nvidia.com/gpu`).
    #[arg(long, default_value_t = 8)]
    gpus_per_node: u32,
    /// Processors of each node.
    #[arg(long, default_value_t = 96)]
    cpus: u64,
    /// Memory of each node in GiB.
    #[arg(long, default_value_t = 1024)]
    memory: u64,
    /// Let no fake kubelets run the pods of the nodes.
    #[arg(long)]
    no_kubelets: bool,
    /// Fault rules, a YAML list.
    #[arg(long)]
    faults: Option<PathBuf>,
    /// Decides which requests the fault rules hit.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Objects to create at start, YAML documents.
    #[arg(long)]
    load: Option<PathBuf>,
    /// Write a kubeconfig file here.
    #[arg(long)]
    write_kubeconfig: Option<PathBuf>,
}

pub(super) fn main(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let faults = args.faults.as_deref().map(read_faults).transpose()?.unwrap_or_default();
    let options = Options { bind: args.bind, seed: args.seed, faults, ..Options::default() };
    let server = ApiServer::start(options).await?;
    let shape = NodeShape {
        cpu_milli: args.cpus * 1000,
        memory_mib: args.memory * 1024,
        gpus: args.gpus_per_node,
        ..NodeShape::default()
    };
    create_nodes(&server.client(), args.nodes, &shape).await.context("creating the nodes")?;
    // held until the end: the kubelets stop when it is dropped
    let _kubelets =
        (!args.no_kubelets).then(|| Fleet::start(server.client(), FleetOptions::default()));
    if let Some(path) = &args.load {
        load(&server, path)?;
    }
    println!("serving {}", server.url());
    match &args.write_kubeconfig {
        Some(path) => {
            std::fs::write(path, server.kubeconfig())
                .with_context(|| format!("writing the kubeconfig {}", path.display()))?;
            println!("export KUBECONFIG={}", path.display());
        }
        None => println!("kubectl --server {} get nodes", server.url()),
    }
    stopped().await?;
    server.stop().await;
    Ok(())
}

fn read_faults(path: &Path) -> anyhow::Result<Vec<FaultRule>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading the fault rules {}", path.display()))?;
    serde_saphyr::from_str(&text)
        .with_context(|| format!("reading the fault rules {}", path.display()))
}

fn load(server: &Handle, path: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading the objects of {}", path.display()))?;
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text)
        .with_context(|| format!("reading the objects of {}", path.display()))?;
    for object in objects.iter().filter(|o| !o.is_null()) {
        let name = object["metadata"]["name"].as_str().unwrap_or("");
        server.create(object).with_context(|| format!("creating {} {name:?}", object["kind"]))?;
    }
    Ok(())
}

/// Returns at SIGINT or SIGTERM.
async fn stopped() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        done = tokio::signal::ctrl_c() => done?,
    }
    Ok(())
}
