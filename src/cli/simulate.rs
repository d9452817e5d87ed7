//! Simulates a workload under several policies.

use super::fgd;
use crate::config::{Configuration, parse_duration};
use crate::runtime::holder_namespace;
use crate::simulator::virtual_time::report::{csv, json, table, write};
use crate::simulator::virtual_time::{
    Failures, Inputs, Outcome, Policy, RunOptions, Sources, policies, run,
};
use anyhow::{anyhow, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Most times at which nodes are drawn.
const MAPS_MAX: usize = 64;

/// Options of the subcommand.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Nodes as YAML, or a list of nodes as CSV: of openb, of Lingjun, or of
    /// cluster-trace-v2026-spot-gpu; see docs/simulate.md.
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,
    /// So many nodes: of the one shape of --cluster or, without it, of 8 GPUs, 96 cores and 1 TiB;
    /// of a list, the first so many.
    #[arg(long, value_name = "N")]
    nodes: Option<u32>,
    /// The host list of Lingjun: the nodes get the labels of its switches, in its order.
    #[arg(long, value_name = "FILE")]
    network: Option<PathBuf>,
    /// Gangs, pods or a generator as YAML; jobs of Philly, openb, Pollux or with the columns of
    /// docs/simulate.md as CSV; a log in the standard workload format (.swf). CSV and logs may be
    /// gzipped.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["snapshot", "protocol"])]
    workload: Option<PathBuf>,
    /// A live cluster as `mss-scheduler snapshot` wrote it: the run begins with its nodes, queues
    /// and pods. A workload comes on top; --cluster, --nodes and --queues replace what it has.
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// Takes at most N rows of the trace.
    #[arg(long, value_name = "N")]
    limit_rows: Option<usize>,
    /// Lets the jobs of the trace have a checkpoint so often, such as 30m; without it an evicted
    /// job starts from the beginning.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    checkpoint: Option<Duration>,
    /// A job of a log that has more processors than N is a gang of pods with N GPUs each.
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    gpus_per_member: u32,
    /// Gives pods that use a part of a GPU a whole one; without it they are an error where GPUs
    /// are not shared.
    #[arg(long)]
    whole_gpus: bool,
    /// Shares the GPUs of all nodes of --cluster or --nodes, as holder pods do: parts of them are
    /// given out, and whole ones as such parts.
    #[arg(long)]
    shared_gpus: bool,
    /// Run time of pods that do not state it; those of a snapshot that run, run so long from now.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    run: Option<Duration>,
    /// Divides the times between arrivals of the workload by this: 2 brings twice the load.
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    speed_up: Option<f64>,
    /// Folder of measured speeds, as published with Pollux: a folder for each application.
    #[arg(long, value_name = "DIR")]
    curves: Option<PathBuf>,
    /// Queue objects as YAML documents; without it those of the snapshot, or the queues that the
    /// workload names, of equal weight.
    #[arg(long, value_name = "FILE")]
    queues: Option<PathBuf>,
    /// The configuration of `run`, of which the first profile, evictions, drains, quarantine,
    /// queues, topology and, for a snapshot, the namespace of holders count.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Policies to compare, separated by commas: fair-share, fifo, partitions; without it the first
    /// two. With --protocol fgd some of Random, DotProduct, Clustering, Packing, BestFit, FGD and
    /// Ours; without it all.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    policy: Vec<String>,
    /// Lets nodes fail: so long is the mean time between a node's coming and its loss.
    #[arg(long, value_name = "MTBF", value_parser = duration)]
    failures: Option<Duration>,
    /// How long a lost node is away in the mean.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h")]
    repair: Duration,
    /// Varies how long calls, starts and stops take, and draws generated gangs and failures; the
    /// same seed gives the same bytes. With --protocol fgd the seeds that order the pods, separated
    /// by commas; without it 42 to 51.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    seed: Vec<u64>,
    /// Repeats the experiments of a paper instead: fgd.
    #[arg(long, value_name = "NAME", requires = "data", value_parser = ["fgd"])]
    protocol: Option<String>,
    /// The folder of the openb trace, for --protocol fgd.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Lists of pods of the trace, separated by commas, for --protocol fgd; without it all with
    /// published results.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    list: Vec<String>,
    /// Which order of nodes breaks ties, for --protocol fgd.
    #[arg(long, value_name = "N", default_value_t = 0)]
    order: u32,
    /// Folder for gangs.csv, queues.csv, time.csv, summary.csv, summary.json and report.html; it
    /// is made if need be.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Draws each node and its GPUs in the report as they are after these times, such as 1h,36h.
    #[arg(long, value_name = "DURATIONS", value_delimiter = ',', value_parser = duration)]
    map_at: Vec<Duration>,
    /// What is printed at the end.
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Output::Table)]
    output: Output,
    /// Checks the invariants of the scheduler after each of its cycles, which is slow.
    #[arg(long)]
    check: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// A table for people.
    Table,
    /// The figures of the table, and the same by queue.
    Json,
    /// The figures of the table.
    Csv,
}

fn duration(text: &str) -> Result<Duration, String> {
    let above_zero = |time: &Duration| *time >= Duration::from_millis(1);
    let expected = "expected a duration such as 90s, 30m or 1h30m";
    parse_duration(text).filter(above_zero).ok_or_else(|| expected.to_owned())
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if (1e-3..=1e6).contains(&factor) => Ok(factor),
        _ => Err("expected a number from 0.001 to 1000000".into()),
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn paper(args: Args, data: PathBuf) -> anyhow::Result<ExitCode> {
    let seeds: Result<Vec<u32>, _> = args.seed.into_iter().map(u32::try_from).collect();
    fgd::main(fgd::Plan {
        data,
        policies: args.policy,
        lists: args.list,
        seeds: seeds.map_err(|_| anyhow!("--seed is above 2^32: choose a smaller one"))?,
        order: args.order,
        out: args.out,
    })
}

pub(super) fn main(mut args: Args) -> anyhow::Result<ExitCode> {
    if args.protocol.is_some() {
        let data = args.data.take().expect("the protocol requires it");
        return paper(args, data);
    }
    let seed = match &args.seed[..] {
        [] => 0,
        [seed] => *seed,
        _ => bail!("--seed takes one seed without --protocol"),
    };
    if args.policy.is_empty() {
        args.policy = ["fair-share", "fifo"].map(str::to_owned).to_vec();
    }
    let policies = policies(&args.policy).map_err(|problem| anyhow!(problem))?;
    let began = Instant::now();
    let inputs = read(&args, seed)?;
    let told = args.output == Output::Table;
    if told {
        println!(
            "{} gangs in {} queues on {} nodes with {} GPUs",
            inputs.gangs.len(),
            inputs.tenants.len(),
            inputs.cluster.nodes.len(),
            inputs.gpus(),
        );
    }
    let options = RunOptions { seed, check: args.check };
    let (outcomes, took_s) = run_all(&inputs, &policies, options)?;
    let mut stdout = std::io::stdout().lock();
    match args.output {
        Output::Table => print!("\n{}", table(&outcomes, &took_s)),
        Output::Json => json(&inputs, &outcomes, seed, &mut stdout)?,
        Output::Csv => csv(&outcomes, &mut stdout)?,
    }
    if let Some(folder) = &args.out {
        write(folder, &inputs, &outcomes, seed)?;
    }
    if told {
        if let Some(folder) = &args.out {
            println!("\nfiles in {}", folder.display());
        }
        println!("\nsimulated in {:.1} s", began.elapsed().as_secs_f64());
    }
    Ok(ExitCode::SUCCESS)
}

fn read(args: &Args, seed: u64) -> anyhow::Result<Inputs> {
    if args.map_at.len() > MAPS_MAX {
        bail!("--map-at has {} times: at most {MAPS_MAX} are drawn", args.map_at.len());
    }
    let configuration = args.config.as_deref().map(Configuration::load).transpose()?;
    let mut inputs = Inputs::read(&Sources {
        cluster: args.cluster.clone(),
        nodes: args.nodes,
        network: args.network.clone(),
        workload: args.workload.clone(),
        snapshot: args.snapshot.clone(),
        limit_rows: args.limit_rows,
        checkpoint: args.checkpoint,
        gpus_per_member: Some(args.gpus_per_member),
        whole_gpus: args.whole_gpus,
        shared_gpus: args.shared_gpus,
        holder_namespace: configuration.as_ref().map(|c| holder_namespace(c).into()),
        run: args.run,
        speed_up: args.speed_up,
        curves: args.curves.clone(),
        queues: args.queues.clone(),
        seed,
        without_objects: configuration.as_ref().is_some_and(|c| !c.topology.from_objects),
    })?;
    if let Some(mtbf) = args.failures {
        let failures = Failures { mtbf_ms: millis(mtbf), repair_ms: millis(args.repair) };
        inputs.cluster.failures = Some(failures);
    }
    if let Some(configuration) = configuration {
        inputs.configuration = configuration;
    }
    inputs.map_at_ms = args.map_at.iter().map(|at| millis(*at)).collect();
    inputs.map_at_ms.sort_unstable();
    Ok(inputs)
}

/// Runs every policy on a thread of its own; says how many seconds each took.
fn run_all(
    inputs: &Inputs,
    policies: &[Policy],
    options: RunOptions,
) -> anyhow::Result<(Vec<Outcome>, Vec<f64>)> {
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
            scope.spawn(move || {
                let began = Instant::now();
                let outcome = run(inputs, &policy, options, |ended| bar.set_position(ended));
                (outcome, began.elapsed().as_secs_f64())
            })
        };
        let runs: Vec<_> = policies.iter().copied().zip(&bars_of).map(start).collect();
        runs.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    bars.clear().ok();
    let mut all = (Vec::new(), Vec::new());
    for (policy, outcome) in policies.iter().zip(outcomes) {
        let Ok((outcome, took_s)) = outcome else {
            bail!("the run of {} broke an invariant: please report it with its inputs", policy.name)
        };
        all.0.push(outcome);
        all.1.push(took_s);
    }
    Ok(all)
}
