//! Places a pod group in one statement, or says why not.

use super::Rankings;
use super::gate::{Barred, Gate};
use crate::cluster::{Assignment, ClassId, Cluster, PodIndex, Statement};
use crate::framework::{Diagnosis, Profile};
use smallvec::SmallVec;
use std::sync::Arc;

/// Pending members of one class, in the order they join.
#[derive(Clone, Debug)]
pub struct Demand {
    /// The class.
    pub class: ClassId,
    /// So many of the first pods are headers: nothing is placed without them.
    pub headers: usize,
    /// The pods.
    pub pods: SmallVec<[PodIndex; 4]>,
}

/// How many pods all have.
pub(super) fn members(demands: &[Demand]) -> u32 {
    let pods = demands.iter().map(|demand| demand.pods.len()).sum::<usize>();
    u32::try_from(pods).expect("groups are bounded")
}

/// Why a group was not placed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Pending members that could be placed at once.
    pub placeable: u32,
    /// What the nodes said to the next one.
    pub diagnosis: Arc<Diagnosis>,
}

/// Places as many pending members as fit, at most `most`, at least `needed` of them, or none.
///
/// For members of one class the answer is exact: how many fit on a node does not depend on the
/// order, so taking the best node each time finds the largest number. For several classes the
/// demanding ones go first; if that fails the order is turned round once. O(pods x log nodes) for
/// a class whose ranking is up to date. A gate keeps members off nodes; "exact" holds with one
/// whose refusals of a node do not depend on what is placed on nodes that it treats otherwise.
///
/// # Errors
/// If fewer than `needed` members fit; the cluster is then as it was.
pub fn place_group(
    cluster: &mut Cluster,
    rankings: &mut Rankings,
    profile: &Profile,
    demands: &[Demand],
    (needed, most): (u32, u32),
    mut gate: Option<&mut dyn Gate>,
) -> Result<Statement, Failure> {
    if let [demand] = demands
        && let Some(known) = rankings.exhausted(cluster, demand.class)
        && known.placeable < needed.max(1)
    {
        let diagnosis = known.diagnosis.clone();
        return Err(Failure { placeable: known.placeable, diagnosis });
    }
    let mut order: SmallVec<[&Demand; 4]> = demands.iter().collect();
    order.sort_by_key(|demand| std::cmp::Reverse(weight(cluster, demand.class)));
    let bounds = (needed, most);
    let first = attempt(cluster, rankings, profile, &order, bounds, &mut gate);
    match first {
        Err(_) if order.len() > 1 => {
            order.reverse();
            attempt(cluster, rankings, profile, &order, bounds, &mut gate).or(first)
        }
        outcome => outcome,
    }
}

/// How demanding a class is: GPUs, then CPU, then memory; the spec breaks ties.
#[must_use]
pub fn weight(cluster: &Cluster, class: ClassId) -> (i64, i64, i64, ClassId) {
    let class_id = class;
    let class = cluster.class(class);
    let gpus = class.requests.iter().filter(|(r, _)| cluster.resources().is_gpu(*r));
    (gpus.map(|(_, n)| n).sum(), class.scored_cpu, class.scored_memory, class_id)
}

fn attempt(
    cluster: &mut Cluster,
    rankings: &mut Rankings,
    profile: &Profile,
    order: &[&Demand],
    (needed, most): (u32, u32),
    gate: &mut Option<&mut dyn Gate>,
) -> Result<Statement, Failure> {
    let version = cluster.changes().version();
    let mut statement = Statement::default();
    let mut barred = Barred::default();
    if let Some(gate) = gate {
        gate.begin();
    }
    let mut stuck = None;
    let mut headless = false;
    let mut headers: usize = order.iter().map(|demand| demand.headers).sum();
    for demand in order {
        headers -= demand.headers;
        let left = (most as usize).saturating_sub(statement.len() + headers);
        for (place, pod) in demand.pods.iter().take(left).enumerate() {
            let best = barred.best(cluster, rankings, profile, demand.class, gate);
            let Some(node) = best else {
                headless |= place < demand.headers;
                stuck = stuck.filter(|_| !headless).or(Some(demand.class));
                break;
            };
            let assignment = Assignment { pod: *pod, class: demand.class, node };
            let devices = profile.devices(cluster, cluster.class(demand.class), node);
            statement.assume_on(cluster, assignment, devices);
        }
    }
    let is_gated = !barred.is_empty();
    barred.lift(cluster, rankings, profile);
    let placed = u32::try_from(statement.len()).expect("groups are bounded");
    let Some(stuck) = stuck.filter(|_| headless || placed < needed.max(1)) else {
        return Ok(statement);
    };
    let diagnosis = rankings.diagnose(cluster, profile, stuck);
    statement.rollback(cluster, Statement::default().checkpoint());
    if order.len() == 1 && !is_gated {
        rankings.set_exhausted(stuck, version, placed, diagnosis.clone());
    }
    Err(Failure { placeable: placed, diagnosis })
}
