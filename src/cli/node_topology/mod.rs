//! Finds out how the GPUs of a node are joined, and prints or writes the annotation that says so.

mod sysfs;

use crate::model::GpuTopology;
use crate::model::contract::GPU_TOPOLOGY;
use anyhow::{Context, anyhow, bail};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Options of the subcommand.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Reads what `nvidia-smi topo -m` printed from a file (`-`: from the standard input), instead
    /// of running it here.
    #[arg(long, value_name = "FILE", conflicts_with = "sysfs")]
    from_file: Option<PathBuf>,
    /// Reads PCIe and NUMA from a sysfs instead, as /sys; NVLinks do not stand there.
    #[arg(long, value_name = "DIR")]
    sysfs: Option<PathBuf>,
    /// Writes the annotation on this node of the cluster.
    #[arg(long, value_name = "NODE")]
    write: Option<String>,
    /// Kubeconfig of the cluster; without it, the pod's own service account.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

pub(super) fn main(args: Args) -> anyhow::Result<ExitCode> {
    let topology = find(&args)?;
    let text = topology.to_string();
    println!("{GPU_TOPOLOGY}: {text}");
    for island in topology.islands().iter().filter(|island| island.len() > 1) {
        eprintln!("joined by NVLink: {island}");
    }
    if let Some(node) = &args.write {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let written = runtime.block_on(write(node, &text, args.kubeconfig.as_deref()));
        written.with_context(|| format!("writing the annotation on node {node}"))?;
        eprintln!("written on node {node}");
    }
    Ok(ExitCode::SUCCESS)
}

fn find(args: &Args) -> anyhow::Result<GpuTopology> {
    if let Some(folder) = &args.sysfs {
        eprintln!("from sysfs, which shows no NVLink: on a node with NVLink use nvidia-smi");
        return sysfs::read(folder);
    }
    let (text, source) = match &args.from_file {
        Some(file) if file.as_os_str() == "-" => {
            let text = std::io::read_to_string(std::io::stdin());
            (text.context("reading the standard input")?, "the standard input".to_owned())
        }
        Some(file) => {
            let shown = file.display().to_string();
            (std::fs::read_to_string(file).with_context(|| format!("reading {shown}"))?, shown)
        }
        None => (run()?, "nvidia-smi topo -m".to_owned()),
    };
    GpuTopology::parse_smi(&text).with_context(|| format!("reading the matrix of {source}"))
}

fn run() -> anyhow::Result<String> {
    let ran = Command::new("nvidia-smi").args(["topo", "-m"]).output().context(
        "running nvidia-smi topo -m: run this on the node, or name its output with --from-file",
    )?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        bail!("nvidia-smi topo -m ended with {}: {}", ran.status, said.trim());
    }
    String::from_utf8(ran.stdout).map_err(|_| anyhow!("nvidia-smi topo -m printed no text"))
}

async fn write(node: &str, text: &str, kubeconfig: Option<&Path>) -> anyhow::Result<()> {
    let config = match kubeconfig {
        Some(path) => {
            let shown = path.display();
            let file = Kubeconfig::read_from(path).with_context(|| format!("reading {shown}"))?;
            let options = KubeConfigOptions::default();
            let used = kube::Config::from_custom_kubeconfig(file, &options).await;
            used.with_context(|| format!("using {shown}"))?
        }
        None => kube::Config::incluster().context("outside of a cluster: give --kubeconfig")?,
    };
    let nodes: Api<Node> = Api::all(kube::Client::try_from(config)?);
    let patch = serde_json::json!({ "metadata": { "annotations": { GPU_TOPOLOGY: text } } });
    nodes.patch(node, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}
