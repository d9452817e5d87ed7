//! Places the members of a pack, which share one device.

use super::gate::Gate;
use super::{Demand, Failure, Rankings};
use crate::cluster::{Assignment, ClassId, Cluster, NodeIndex, Statement};
use crate::framework::{Diagnosis, Profile, Reads};
use crate::model::DeviceSet;
use std::cmp::Reverse;
use std::sync::Arc;

/// Where one member of a pack is, or may go.
pub type Place = (NodeIndex, usize);

/// Places at least `needed` and at most `most` members on one device: `pinned`, if members run
/// there already, else the fullest that takes the needed ones of the best node that has one. Small
/// parts go first, so that on a device nothing is missed. O(nodes x devices x pods).
///
/// # Errors
/// If no device takes the needed ones; the cluster is then as it was.
pub fn place_pack(
    cluster: &mut Cluster,
    rankings: &mut Rankings,
    profile: &Profile,
    demands: &[Demand],
    (needed, most): (u32, u32),
    (pinned, mut gate): (Option<Place>, Option<&mut dyn Gate>),
) -> Result<Statement, Failure> {
    let size = |cluster: &Cluster, class: ClassId| {
        let asked = cluster.class(class).spec.gpu_part.map(|part| part.request().1);
        (asked, class)
    };
    let mut demands: Vec<&Demand> = demands.iter().collect();
    demands.sort_by_key(|demand| size(cluster, demand.class));
    let first = demands.first().expect("a group that is placed has members").class;
    let places = match pinned {
        Some(place) => vec![place],
        None => places(cluster, rankings, profile, first),
    };
    let mut placeable = 0;
    for place in places {
        if let Some(gate) = &mut gate {
            gate.begin();
        }
        let mut statement = fill(cluster, profile, &demands, most, place, &mut gate);
        let placed = u32::try_from(statement.len()).expect("groups are bounded");
        if placed >= needed.max(1) {
            return Ok(statement);
        }
        placeable = placeable.max(placed);
        statement.rollback(cluster, Statement::default().checkpoint());
    }
    rankings.best(cluster, profile, first);
    let passed = |node| rankings.facts_pass(first, node);
    let diagnosis = Arc::new(Diagnosis::of(cluster, profile, first, passed));
    Err(Failure { placeable, diagnosis })
}

/// The devices of the nodes on which the class fits: the best nodes first, of a node the fullest.
fn places(
    cluster: &Cluster,
    rankings: &mut Rankings,
    profile: &Profile,
    class: ClassId,
) -> Vec<Place> {
    let (_, keys) = rankings.fits(cluster, profile, class);
    let mut nodes: Vec<usize> = (0..keys.len()).filter(|node| keys[*node] > 0).collect();
    nodes.sort_by_key(|node| Reverse(keys[*node]));
    let mut places = Vec::new();
    for node in nodes.into_iter().map(NodeIndex::at) {
        let Some(shared) = cluster.shared_devices(node) else { continue };
        let mut devices: Vec<(u16, usize)> =
            shared.lefts().map(|(device, left)| (left, device)).collect();
        devices.sort_unstable();
        places.extend(devices.into_iter().map(|(_, device)| (node, device)));
    }
    places
}

/// Puts members on a device until there are no more, or none fits.
fn fill(
    cluster: &mut Cluster,
    profile: &Profile,
    demands: &[&Demand],
    most: u32,
    (node, device): Place,
    gate: &mut Option<&mut dyn Gate>,
) -> Statement {
    let mut statement = Statement::default();
    for demand in demands {
        for pod in &demand.pods {
            let class = cluster.class(demand.class);
            let left = cluster.shared_devices(node).map_or(0, |shared| shared.left(device));
            let fits = cluster.node(node).node.is_some()
                && cluster.device_ask(class, node).is_some_and(|ask| ask.milli <= left)
                && profile.passes(Reads::Facts, cluster, class, node)
                && profile.passes(Reads::Usage, cluster, class, node);
            if statement.len() == most as usize
                || !fits
                || !gate.as_mut().is_none_or(|gate| gate.admits(cluster, demand.class, node))
            {
                break;
            }
            let assignment = Assignment { pod: *pod, class: demand.class, node };
            statement.assume_on(cluster, assignment, DeviceSet::one(device));
        }
    }
    statement
}
