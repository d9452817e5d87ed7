//! Shares over many queues: what one event costs.

use super::{Run, Target, report, time};
use mss_scheduler::cluster::{CPU, Cluster, ResourceId};
use mss_scheduler::fairshare::{FairShare, QueueIndex};
use mss_scheduler::model::QueueSpec;
use std::time::Duration;

const CAPACITY: i64 = 8_000_000;
const PENDING: usize = 10_000;

/// Leaves, by the name of their queue, and the tree above them.
fn tree(fan_outs: &[usize]) -> (Vec<QueueSpec>, Vec<String>) {
    let mut specs = Vec::new();
    let mut level = vec![String::new()];
    for fan_out in fan_outs {
        let mut below = Vec::new();
        for parent in &level {
            for number in 0..*fan_out {
                let name = format!("{}q{number}", parent.replace('q', "x"));
                specs.push(QueueSpec {
                    name: name.as_str().into(),
                    parent: (!parent.is_empty()).then(|| parent.as_str().into()),
                    weight: u32::try_from(1 + number % 7).expect("small"),
                    ..QueueSpec::default()
                });
                below.push(name);
            }
        }
        level = below;
    }
    (specs, level)
}

struct Shares {
    fair: FairShare,
    leaves: Vec<QueueIndex>,
    specs: Vec<QueueSpec>,
    names: Vec<String>,
    pending: Vec<i64>,
    capacity: i64,
}

impl Shares {
    fn new(fan_outs: &[usize]) -> Self {
        let (specs, names) = tree(fan_outs);
        let pending = vec![0; names.len()];
        let fair = FairShare::default();
        let mut all = Self { fair, leaves: Vec::new(), specs, names, pending, capacity: CAPACITY };
        all.pending = (0..all.names.len())
            .map(|leaf| (PENDING / all.names.len()) as i64 * (500 + 37 * (leaf as i64 % 50)))
            .collect();
        all.fair = all.recomputed();
        all.leaves = all.find_leaves();
        all
    }

    fn find_leaves(&self) -> Vec<QueueIndex> {
        let mut fair = self.recomputed();
        let leaf = |name: &String| {
            let queue = fair.find(name).expect("declared");
            fair.acquire_leaf(queue, "user")
        };
        self.names.iter().map(leaf).collect()
    }

    /// The same from nothing.
    fn recomputed(&self) -> FairShare {
        let mut fair = FairShare::default();
        fair.bind_resources(Cluster::default().resources());
        fair.replace(&self.specs).expect("a good tree");
        fair.set_capacity(CPU, self.capacity);
        for (name, pending) in self.names.iter().zip(&self.pending) {
            let queue = fair.find(name).expect("declared");
            let leaf = fair.acquire_leaf(queue, "user");
            fair.pend(leaf, &[(CPU, *pending)], 1);
        }
        fair
    }

    fn shares(fair: &mut FairShare) -> Vec<i128> {
        let queues: Vec<QueueIndex> = fair.shape().collect();
        queues.into_iter().map(|queue| fair.deserved_milli(queue, CPU)).collect()
    }

    fn check(&mut self, what: &str) {
        let mut from_nothing = self.recomputed();
        assert_eq!(Self::shares(&mut self.fair), Self::shares(&mut from_nothing), "{what}");
    }
}

/// One gang comes or goes, nodes are lost, the weight or quota of a queue at the top changes;
/// after each, the share of one leaf is asked for, and all are as if computed from nothing.
pub(crate) fn one_event(run: &Run) {
    for fan_outs in [&[1_000][..], &[10, 10, 10][..]] {
        let shape: Vec<String> = fan_outs.iter().map(ToString::to_string).collect();
        let tree = format!("1000 leaves as {}, 10000 pending gangs", shape.join(" x "));
        let name = format!("shares: {tree}");
        if !run.wants(&name) {
            continue;
        }
        let mut shares = Shares::new(fan_outs);
        shares.check(&name);
        let (mut gangs, mut losses) = (Vec::new(), Vec::new());
        let (mut weights, mut quotas) = (Vec::new(), Vec::new());
        for round in 0..run.rounds(10_000) {
            let leaf = round * 7 % shares.leaves.len();
            let (queue, sign) = (shares.leaves[leaf], if round % 2 == 0 { 1 } else { -1 });
            let amount: [(ResourceId, i64); 1] = [(CPU, 501)];
            let asked = shares.leaves[(leaf + 500) % 1_000];
            let event = || {
                shares.fair.pend(queue, &amount, sign);
                shares.fair.deserved_milli(asked, CPU)
            };
            gangs.push(time(event).1);
            shares.pending[leaf] += sign * 501;
            shares.capacity -= if round % 2 == 0 { 8_000 } else { -8_000 };
            let capacity = shares.capacity;
            let event = || {
                shares.fair.set_capacity(CPU, capacity);
                shares.fair.deserved_milli(asked, CPU)
            };
            losses.push(time(event).1);
            if round % 100 == 0 {
                shares.check(&name);
            }
        }
        for round in 0..run.rounds(10_000) {
            let top = shares.specs.iter_mut().find(|spec| spec.parent.is_none());
            top.expect("a queue at the top").weight = u32::try_from(1 + round % 9).expect("small");
            let event = || {
                assert!(shares.fair.reweigh(&shares.specs), "weights alone were edited");
                shares.fair.deserved_milli(shares.leaves[0], CPU)
            };
            weights.push(time(event).1);
            if round % 100 == 0 {
                shares.check(&name);
            }
        }
        for round in 0..run.rounds(100) {
            let top = shares.specs.iter_mut().find(|spec| spec.parent.is_none());
            let guarantee = i64::try_from(1 + round % 9).expect("small") * 1_000;
            top.expect("a queue at the top").quota = vec![("cpu".into(), guarantee)];
            // everything is charged anew, as the scheduler does after such an edit
            let mut edited = None;
            let (_, took) = time(|| edited = Some(shares.recomputed()));
            let mut edited = edited.expect("it was made");
            let (_, asked) = time(|| edited.deserved_milli(shares.leaves[0], CPU));
            quotas.push(took + asked);
            shares.fair = edited;
            shares.check(&name);
        }
        let most = Duration::from_millis(1);
        let target = Target { p50: Some(most), p99: Some(most), bytes: None };
        report(&format!("{name}, a gang comes or goes"), gangs, 0, target);
        report(&format!("{name}, a node is lost or back"), losses, 0, target);
        report(&format!("{name}, the weight of a queue at the top is edited"), weights, 0, target);
        report(&format!("{name}, the quota of a queue at the top is edited"), quotas, 0, target);
    }
}
