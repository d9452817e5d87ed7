//! Simulates a workload under several policies.

use crate::config::parse_duration;
use crate::simulator::virtual_time::report::{table, write};
use crate::simulator::virtual_time::{Inputs, Outcome, Policy, RunOptions, Sources, policies, run};
use anyhow::{anyhow, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Options of the subcommand.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Nodes as YAML, see docs/simulate.md.
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,
    /// So many nodes: of the one shape of --cluster or, without it, of 8 GPUs, 96 cores and 1 TiB.
    #[arg(long, value_name = "N")]
    nodes: Option<u32>,
    /// Gangs as YAML, or the jobs of the Philly trace as CSV, plain or gzipped.
    #[arg(long, value_name = "FILE")]
    workload: PathBuf,
    /// Takes at most N rows of the trace.
    #[arg(long, value_name = "N")]
    limit_rows: Option<usize>,
    /// Lets the jobs of the trace have a checkpoint so often, such as 30m; without it an evicted
    /// job starts from the beginning.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    checkpoint: Option<Duration>,
    /// Queue objects as YAML documents; without it, the queues that the workload names, of equal
    /// weight.
    #[arg(long, value_name = "FILE")]
    queues: Option<PathBuf>,
    /// Policies to compare, separated by commas: fair-share, fifo, partitions.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "fair-share,fifo")]
    policy: Vec<String>,
    /// Varies how long calls, starts and stops take; the same seed gives the same bytes.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Folder for gangs.csv, queues.csv, summary.json and report.html; it is made if need be.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Checks the invariants of the scheduler after each of its cycles, which is slow.
    #[arg(long)]
    check: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let above_zero = |time: &Duration| *time >= Duration::from_millis(1);
    let expected = "expected a duration such as 90s, 30m or 1h30m";
    parse_duration(text).filter(above_zero).ok_or_else(|| expected.to_owned())
}

pub(super) fn main(args: Args) -> anyhow::Result<ExitCode> {
    let policies = policies(&args.policy).map_err(|problem| anyhow!(problem))?;
    let began = Instant::now();
    let inputs = Inputs::read(&Sources {
        cluster: args.cluster,
        nodes: args.nodes,
        workload: args.workload,
        limit_rows: args.limit_rows,
        checkpoint: args.checkpoint,
        queues: args.queues,
    })?;
    println!(
        "{} gangs in {} queues on {} nodes with {} GPUs",
        inputs.gangs.len(),
        inputs.tenants.len(),
        inputs.cluster.nodes.len(),
        inputs.gpus(),
    );
    let options = RunOptions { seed: args.seed, check: args.check };
    let outcomes = run_all(&inputs, &policies, options)?;
    print!("\n{}", table(&outcomes));
    if let Some(folder) = &args.out {
        write(folder, &inputs, &outcomes, args.seed)?;
        println!("\nfiles in {}", folder.display());
    }
    println!("\nsimulated in {:.1} s", began.elapsed().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

/// Runs every policy on a thread of its own.
fn run_all(
    inputs: &Inputs,
    policies: &[Policy],
    options: RunOptions,
) -> anyhow::Result<Vec<Outcome>> {
    let bars = MultiProgress::new();
    let bar = |policy: &Policy| {
        let style = "{prefix:12} {bar:40} {pos}/{len} gangs ended, {elapsed}";
        let style = ProgressStyle::with_template(style).expect("a valid template");
        let bar = bars.add(ProgressBar::new(inputs.gangs.len() as u64));
        bar.with_style(style).with_prefix(policy.name)
    };
    let bars_of: Vec<ProgressBar> = policies.iter().map(bar).collect();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let start = |(policy, bar): (Policy, &ProgressBar)| {
            let bar = bar.clone();
            scope.spawn(move || run(inputs, &policy, options, |ended| bar.set_position(ended)))
        };
        let runs: Vec<_> = policies.iter().copied().zip(&bars_of).map(start).collect();
        runs.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    bars.clear().ok();
    let mut all = Vec::new();
    for (policy, outcome) in policies.iter().zip(outcomes) {
        let Ok(outcome) = outcome else {
            bail!("the run of {} broke an invariant: please report it with its inputs", policy.name)
        };
        all.push(outcome);
    }
    Ok(all)
}
