//! The Philly trace: virtual clusters as queues of one cluster, or as partitions.

use super::data::data_file;
use super::philly_late::{Case, look_into};
use super::{MINUTE_MS, SETTLED_MS, policy, without_drains};
use mss_scheduler::simulator::virtual_time::{Inputs, Outcome, RunOptions, Sources, watch};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const TRACE: &str = "philly/philly_dev_2017-09-04_2017-10-31.csv.gz";
/// Rows by default, for time; `MSS_PHILLY_ROWS=60000` takes all.
const ROWS: usize = 12_000;

fn queues(nodes: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/studies/philly-{nodes}.yaml"))
}

/// Nodes of each virtual cluster: the published numbers scaled to so many nodes in all, the
/// largest remainders rounded up.
fn parts(text: &str, nodes: u32) -> BTreeMap<String, u32> {
    let rows = text.lines().skip(1).map(|row| row.split_once(',').expect("two columns"));
    let rows: Vec<(&str, u32)> = rows.map(|(vc, n)| (vc, n.parse().expect("a number"))).collect();
    let sum: u32 = rows.iter().map(|(_, n)| n).sum();
    let whole = rows.iter().map(|(vc, n)| ((*vc).to_owned(), n * nodes / sum));
    let mut parts: BTreeMap<String, u32> = whole.collect();
    let mut rest: Vec<(u32, &str)> =
        rows.iter().map(|(vc, n)| (sum - n * nodes % sum, *vc)).collect();
    rest.sort_unstable();
    let missing = nodes - parts.values().sum::<u32>();
    for (_, vc) in rest.into_iter().take(missing as usize) {
        *parts.get_mut(vc).expect("it is a row") += 1;
    }
    parts
}

fn read(nodes: u32) -> Option<Inputs> {
    let workload = data_file(TRACE)?;
    let rows = std::env::var("MSS_PHILLY_ROWS").ok().and_then(|rows| rows.parse().ok());
    let sources = Sources {
        nodes: Some(nodes),
        workload: Some(workload),
        limit_rows: Some(rows.unwrap_or(ROWS)),
        queues: Some(queues(nodes)),
        ..Sources::default()
    };
    Some(without_drains(Inputs::read(&sources).unwrap_or_else(|error| panic!("{error}"))))
}

/// Guaranteed GPUs by tenant.
pub(crate) fn guarantees(inputs: &Inputs) -> Vec<i64> {
    let guarantee = |name: &str| {
        let spec = inputs.queues.iter().find(|spec| *spec.name == *name).expect("it is declared");
        spec.quota.iter().find(|(r, _)| &**r == "nvidia.com/gpu").map_or(0, |(_, gpus)| *gpus)
    };
    inputs.tenants.iter().map(|name| guarantee(name)).collect()
}

#[test]
fn guarantees_are_the_published_partitions() {
    let Some(path) = data_file("philly/philly_vc_nodes.csv") else { return };
    let text = std::fs::read_to_string(path).expect("it is readable");
    for nodes in [48, 64, 80] {
        let Some(inputs) = read(nodes) else { return };
        let parts = parts(&text, nodes);
        assert_eq!(parts.values().sum::<u32>(), nodes);
        for (tenant, guarantee) in inputs.tenants.iter().zip(guarantees(&inputs)) {
            let expected = parts.get(&**tenant).copied().unwrap_or(0);
            assert_eq!(guarantee, i64::from(expected) * 8, "{tenant} of {nodes} nodes");
        }
    }
}

/// By tenant, when it held how many GPUs.
type Held = Vec<Vec<(i64, i64)>>;

fn run(inputs: &Inputs, name: &str) -> (Outcome, Held) {
    let mut held: Held = vec![vec![(0, 0)]; inputs.tenants.len()];
    let outcome = watch(inputs, &policy(name), RunOptions::default(), |moment| {
        for (tenant, series) in held.iter_mut().enumerate() {
            let gpus = moment.held(tenant).whole;
            if series.last().is_some_and(|(_, before)| *before != gpus) {
                series.push((moment.now_ms, gpus));
            }
        }
    });
    (outcome, held)
}

/// The longest time between two moments in which never more than `most` were held.
fn longest_below(series: &[(i64, i64)], from: i64, to: i64, most: i64) -> i64 {
    let first = series.partition_point(|(at, _)| *at <= from) - 1;
    let (mut longest, mut since) = (0, None);
    for (at, held) in series[first..].iter().take_while(|(at, _)| *at < to) {
        if *held <= most {
            since.get_or_insert((*at).max(from));
        } else if let Some(since) = since.take() {
            longest = longest.max(at - since);
        }
    }
    longest.max(since.map_or(0, |since| to - since))
}

#[derive(Debug, Default)]
struct Late {
    /// later than in its partition by more than T
    later: u32,
    /// of these, though its queue had so much of its guarantee left for as long
    inside: u32,
    /// of these, of one GPU
    single: u32,
    longest_ms: i64,
    /// those inside
    cases: Vec<Case>,
}

fn late(inputs: &Inputs, fair: &(Outcome, Held), own: &Outcome, t_ms: i64) -> Late {
    let guarantees = guarantees(inputs);
    let mut late = Late::default();
    for (gang, theirs) in fair.0.gangs.iter().zip(&own.gangs) {
        let (Some(start), Some(own_start)) = (gang.started_ms, theirs.started_ms) else { continue };
        if start <= own_start + t_ms {
            continue;
        }
        late.later += 1;
        let (spec, tenant) = (&inputs.gangs[gang.gang], inputs.tenant_of[gang.gang]);
        let most = guarantees[tenant] - spec.gpus().whole;
        let from = spec.arrival_ms.max(own_start);
        let inside = longest_below(&fair.1[tenant], from, start, most);
        if inside > t_ms {
            late.inside += 1;
            late.single += u32::from(spec.gpus().whole == 1);
            late.longest_ms = late.longest_ms.max(inside);
            late.cases.push(Case { gang: gang.gang, from_ms: from, to_ms: start, most });
        }
    }
    late
}

#[test]
fn no_gang_inside_its_guarantee_starts_later_than_in_a_partition() {
    for nodes in [48, 64, 80] {
        let Some(inputs) = read(nodes) else { return };
        let all: Vec<(Outcome, Held)> = std::thread::scope(|scope| {
            let inputs = &inputs;
            let names = ["fair-share", "fifo", "partitions"];
            let runs = names.map(|name| scope.spawn(move || run(inputs, name)));
            runs.into_iter().map(|run| run.join().expect("no panic")).collect()
        });
        let mean = |outcome: &Outcome| outcome.summary.wait_mean_s;
        let [fair, fifo, own] = &all[..] else { panic!("three policies") };
        let late = late(&inputs, fair, &own.0, MINUTE_MS);
        println!(
            "{nodes} nodes, {} rows: mean wait {:.0} s, FIFO {:.0} s, partitions {:.0} s; \
             later {}, inside {}, of one GPU {}, longest {} s",
            inputs.gangs.len(),
            mean(&fair.0),
            mean(&fifo.0),
            mean(&own.0),
            late.later,
            late.inside,
            late.single,
            late.longest_ms / 1000,
        );
        for (case, found) in late.cases.iter().zip(look_into(&inputs, &late.cases)) {
            let spec = &inputs.gangs[case.gang];
            println!(
                "  gang {} of {}: {} pods, {} GPUs, late from {} for {} s: {found:?}",
                case.gang,
                spec.namespace,
                spec.members,
                spec.gpus().whole,
                case.from_ms,
                (case.to_ms - case.from_ms) / 1000,
            );
            // the victims of one plan stop, and its seat is bound
            assert!(found.longest_ms < SETTLED_MS + 1_000, "room that could be made was not");
        }
        assert_eq!(fair.0.summary.done, inputs.gangs.len());
        assert!(mean(&fair.0) <= mean(&fifo.0) && mean(&fair.0) <= mean(&own.0));
        assert_eq!(late.single, 0, "gangs of one GPU, for which any room does");
    }
}
