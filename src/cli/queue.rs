//! Tells what an edit of the queues would change, before it is made.

use super::queue_import;
use crate::config::Configuration;
use crate::kubernetes::client::configure;
use crate::kubernetes::convert::queue::file;
use crate::model::{QueueSpec, ResourceList};
use crate::runtime::preview::{Cluster, Outcome, evicts};
use crate::scheduler::{Amount, Facts};
use anyhow::{Context as _, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of the subcommand.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Tell what edited queues would change: shares, and who would give room back. Nothing is
    /// written. Exit 1 if the tree would be refused.
    Preview(Preview),
    /// Say as queues what MSS's msd_profile.json says, on standard output; what has no counterpart
    /// is told on standard error.
    ImportMss(ImportMss),
}

#[derive(Debug, clap::Args)]
struct ImportMss {
    /// The profile.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the configuration file that goes with it instead of the queues.
    #[arg(long)]
    configuration: bool,
}

#[derive(Debug, clap::Args)]
struct Preview {
    /// Queues as YAML documents, as for `kubectl apply`: those named in it are changed or added.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    file: PathBuf,
    /// The file is the whole tree: queues that it lacks would be deleted.
    #[arg(long)]
    replace: bool,
    /// Configuration file of the scheduler; without it the defaults apply.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Kubeconfig file; without it KUBECONFIG, then the credentials of the pod this runs in.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

pub(super) fn main(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Preview(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(preview(args))
        }
        Command::ImportMss(args) => {
            let imported = queue_import::read(&args.file)?;
            imported.notes.iter().for_each(|note| eprintln!("note: {note}"));
            let both = (imported.queues, imported.configuration);
            print!("{}", if args.configuration { both.1 } else { both.0 });
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn preview(args: Preview) -> anyhow::Result<ExitCode> {
    let configuration = match &args.config {
        Some(path) => Configuration::load(path)?,
        None => Configuration::default(),
    };
    let edited = file::read(&args.file)?;
    if edited.is_empty() {
        bail!("{} declares no queue", args.file.display());
    }
    let cluster = configure(args.kubeconfig.as_deref()).await?;
    let client = kube::Client::try_from(cluster).context("cannot connect to the cluster")?;
    let mut cluster = Cluster::list(client, &configuration).await?;
    if let Some(path) = &configuration.queues.file {
        cluster.set_specs(file::read_tree(path)?);
    }
    let mut specs = cluster.specs().clone();
    if args.replace {
        specs.clear();
    }
    specs.extend(edited.into_iter().map(|spec| (spec.name.clone(), spec)));
    let before = cluster.decide(&configuration, cluster.specs());
    let after = cluster.decide(&configuration, &specs);
    print!("{}", told(&before, &after));
    if !evicts(&configuration) {
        println!("Evictions are not allowed by the configuration: nothing is evicted at all.");
    }
    let refused = after.queues.values().any(|(_, facts)| facts.fault.is_some());
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The table of queues, the faults, and who gives room back.
fn told(before: &Outcome, after: &Outcome) -> String {
    let mut text = String::new();
    let names: BTreeSet<&Box<str>> = before.queues.keys().chain(after.queues.keys()).collect();
    let row = |cells: [&str; 7]| {
        let [queue, resource, weight, guarantee, deserved, held, wanted] = cells;
        format!(
            "{queue:24} {resource:20} {weight:>12} {guarantee:>12} {deserved:>16} {held:>8} \
             {wanted:>8}\n"
        )
    };
    let heads = ["QUEUE", "RESOURCE", "WEIGHT", "GUARANTEED", "DESERVED", "HELD", "ASKED"];
    text += &row(heads);
    for name in names {
        let (old, new) = (before.queues.get(name), after.queues.get(name));
        for resource in resources(old, new) {
            let amount = |side: Option<&(QueueSpec, Facts)>| side.map(|(_, f)| amount(f, resource));
            let (was, is) = (amount(old), amount(new));
            let weight = change(old.map(|(s, _)| s.weight), new.map(|(s, _)| s.weight));
            let quota =
                |side: Option<&(QueueSpec, Facts)>| side.map(|(s, _)| of(&s.quota, resource));
            let cells = [
                &**name,
                resource,
                &weight,
                &change(quota(old), quota(new)),
                &change(was.map(|a| a.deserved), is.map(|a| a.deserved)),
                &is.or(was).unwrap_or_default().allocated.to_string(),
                &is.or(was).unwrap_or_default().requested.to_string(),
            ];
            text += &row(cells);
        }
    }
    for (name, (_, facts)) in &after.queues {
        if let Some(fault) = &facts.fault {
            writeln!(text, "REFUSED queue {name}: {fault}").expect("a text takes everything");
        }
    }
    let already: BTreeMap<_, _> = before.victims.iter().collect();
    let more: Vec<_> =
        after.victims.iter().filter(|(gang, counts)| already.get(gang) != Some(counts)).collect();
    let pods: usize = more.iter().map(|(_, (taken, _))| taken).sum();
    writeln!(text, "{pods} pods of {} gangs would be evicted at once.", more.len())
        .expect("a text takes everything");
    for ((namespace, name), (taken, of)) in more {
        let end = if taken == of { ": it ends" } else { "" };
        writeln!(text, "  {namespace}/{name}: {taken} of {of} pods{end}")
            .expect("a text takes everything");
    }
    text
}

/// GPU resources of either side; where there are none, all.
fn resources<'a>(
    old: Option<&'a (QueueSpec, Facts)>,
    new: Option<&'a (QueueSpec, Facts)>,
) -> Vec<&'a str> {
    let sides = [old, new].into_iter().flatten();
    let amounts = sides.flat_map(|(_, facts)| facts.amounts.iter().map(|(name, _)| &**name));
    let all: BTreeSet<&str> = amounts.collect();
    let gpus: Vec<&str> = all.iter().copied().filter(|name| crate::cluster::is_gpu(name)).collect();
    match (gpus.is_empty(), all.is_empty()) {
        (false, _) => gpus,
        (true, false) => all.into_iter().collect(),
        (true, true) => vec!["-"],
    }
}

fn amount(facts: &Facts, resource: &str) -> Amount {
    let found = facts.amounts.iter().find(|(name, _)| &**name == resource);
    found.map(|(_, amount)| *amount).unwrap_or_default()
}

fn of(list: &ResourceList, resource: &str) -> i64 {
    list.iter().find(|(name, _)| &**name == resource).map_or(0, |(_, amount)| *amount)
}

fn change<T: PartialEq + std::fmt::Display>(old: Option<T>, new: Option<T>) -> String {
    match (old, new) {
        (Some(old), Some(new)) if old == new => new.to_string(),
        (Some(old), Some(new)) => format!("{old} -> {new}"),
        (None, Some(new)) => format!("+{new}"),
        (Some(old), None) => format!("{old} -> none"),
        (None, None) => "-".to_owned(),
    }
}
