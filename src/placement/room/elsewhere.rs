//! A claim that must be in one domain takes the first in which room can be made. What was taken
//! there may be more than what another one of the domains needs of the same, or nodes that were
//! closed to it before some of it was taken (`narrowed`): then that is spared.

use super::{Candidate, Claim, Demand, Rankings, RoomPlan, Search, Unit, Within, contested};
use crate::cluster::{Assignment, Cluster, Statement};
use crate::placement::place::members;

impl RoomPlan {
    /// Whether fewer victims may do in a place: some of several are there, or room comes free that
    /// the claim was not placed on before.
    pub(super) fn may_do_in(
        &self,
        cluster: &Cluster,
        candidates: &[Candidate],
        (claim, within): (&Claim<'_>, Within),
    ) -> bool {
        let mut victims = self.victims.iter().flat_map(|(place, pods, _)| {
            candidates[*place].pods.iter().filter(|pod| pods.contains(&pod.pod))
        });
        let is_several = victims.clone().count() > 1;
        !claim.going.is_empty()
            || is_several && victims.any(|pod| within.contains(cluster.domains(), pod.node))
    }
}

impl Search<'_> {
    /// Makes a plan one of fewer units, if fewer of them seat the claim where it is searched now.
    /// As fewer of them do not where the plan was made, none of what is left can be spared.
    pub(super) fn spare_within(
        &mut self,
        rankings: &mut Rankings,
        demands: &[Demand],
        claim: &Claim<'_>,
        plan: &mut RoomPlan,
    ) {
        self.contested = contested(self.cluster, demands);
        self.clear_going(claim);
        self.is_bound = self.must_give();
        for (place, pods, whole) in &plan.victims {
            let candidate = &self.candidates[*place];
            let is_gang = *whole && candidate.whole && !candidate.may_all_go_singly();
            let at = (0..candidate.pods.len()).filter(|at| pods.contains(&candidate.pods[*at].pod));
            let units: Vec<Unit> = match is_gang {
                true => vec![Unit::Gang(*place)],
                false => at.map(|at| Unit::Elastic(*place, at)).collect(),
            };
            for unit in units {
                let taken = self.take(unit);
                self.units.push(taken);
            }
        }
        let before = self.units.len();
        let needed = members(demands);
        let mut seats: Option<Vec<Assignment>> = None;
        let fits = self.seats_by(rankings, demands, needed, claim.cut).is_ok();
        if fits && self.is_settled() {
            self.give_back_while(|search| {
                search.close_overdrawn(claim.narrowed.sought);
                let found = search.seats_by(rankings, demands, needed, claim.cut).ok();
                let found = found.filter(|seats| search.overdrawn(seats).is_none());
                let is_seated = found.is_some();
                seats = found.or(seats.take());
                is_seated
            });
        }
        if let Some(seats) = seats
            && self.units.len() < before
            && self.overdrawn(&seats).is_none()
        {
            *plan = RoomPlan { victims: self.victims(), seats };
        }
        let start = Statement::default().checkpoint();
        self.statement.rollback(self.cluster, start);
    }
}
