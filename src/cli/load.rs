//! Loads published traces into a cluster.

use crate::simulator::create::PARALLEL_DEFAULT;
use crate::simulator::traces::load::{Plan, Totals};
use crate::simulator::traces::objects::ObjectOptions;
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::PathBuf;
use std::process::ExitCode;

/// Most creates in flight that may be asked for.
const PARALLEL_MAX: u16 = 1024;

/// Options of the subcommand.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Kubeconfig of the cluster to load.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: PathBuf,
    /// A node list of the openb trace (CSV, plain or gzipped).
    #[arg(long, value_name = "FILE")]
    nodes: Option<PathBuf>,
    /// Creates so many nodes with 8 GPUs, 96 cores and 1 TiB.
    #[arg(long, value_name = "N", default_value_t = 0)]
    gpu_nodes: usize,
    /// A pod list of the openb trace (CSV, plain or gzipped).
    #[arg(long, value_name = "FILE")]
    pods: Option<PathBuf>,
    /// A job list of the Philly trace (CSV, plain or gzipped); each job becomes a gang.
    #[arg(long, value_name = "FILE")]
    philly: Option<PathBuf>,
    /// Takes at most N rows of each list of pods or jobs.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Lets Philly pods end after their recorded duration divided by this; without it they stay.
    #[arg(long, value_name = "FACTOR", value_parser = speed)]
    speed: Option<f64>,
    /// Namespace of the pods; it has to exist.
    #[arg(long, default_value = "default")]
    namespace: String,
    /// Scheduler that the pods name.
    #[arg(long, default_value = "mss-scheduler")]
    scheduler_name: String,
    /// Creates in flight.
    #[arg(long, value_name = "N", default_value_t = PARALLEL_DEFAULT as u16,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(PARALLEL_MAX)))]
    parallel: u16,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if (1e-3..=1e9).contains(&speed) => Ok(speed),
        _ => Err("expected a number from 0.001 to 1000000000".into()),
    }
}

pub(super) fn main(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(load(args))
}

async fn load(args: Args) -> anyhow::Result<ExitCode> {
    let plan = Plan {
        nodes: args.nodes,
        gpu_nodes: args.gpu_nodes,
        pods: args.pods,
        philly: args.philly,
        limit: args.limit,
        options: ObjectOptions {
            namespace: args.namespace,
            scheduler_name: args.scheduler_name,
            speed: args.speed,
            ..ObjectOptions::default()
        },
    };
    let totals = plan.totals()?;
    if totals == Totals::default() {
        bail!("nothing to load: name a list with --nodes, --pods or --philly, or use --gpu-nodes");
    }
    let path = &args.kubeconfig;
    let shown = path.display();
    let file = Kubeconfig::read_from(path).with_context(|| format!("reading {shown}"))?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("using {shown}"))?;
    let client = kube::Client::try_from(config).with_context(|| format!("using {shown}"))?;

    let bar = progress_bar((totals.nodes + totals.pods) as u64);
    let created = plan.load(&client, args.parallel.into(), || bar.inc(1)).await?;
    bar.finish_and_clear();
    println!(
        "{} nodes with {} GPUs and {} pods that ask for {} GPUs, in {} gangs: \
         {} objects created, {} were there, {:.1} s",
        totals.nodes,
        totals.gpus,
        totals.pods,
        totals.gpus_asked,
        totals.gangs,
        created.new,
        created.existing,
        bar.elapsed().as_secs_f64(),
    );
    Ok(ExitCode::SUCCESS)
}

fn progress_bar(objects: u64) -> ProgressBar {
    let style = "{bar:40} {pos}/{len} objects, {per_sec}, {eta} left";
    ProgressBar::new(objects)
        .with_style(ProgressStyle::with_template(style).expect("a valid template"))
}
