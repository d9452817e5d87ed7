//! Claims beyond their share, whose own queues must give first, against all sets of victims.

use super::*;

type Units = Vec<Vec<(usize, usize)>>;

impl World {
    /// What is taken of a queue with the units.
    fn less(&self, units: &Units, queue: QueueIndex) -> Vec<(ResourceId, i64)> {
        let below = units.iter().flatten().map(|(place, at)| (&self.candidates[*place], at));
        let below =
            below.filter(|(candidate, _)| self.fair.path(candidate.leaf).any(|q| q == queue));
        let gpus = below
            .map(|(candidate, at)| self.cluster.class(candidate.pods[*at].class).request(self.gpu));
        vec![(self.gpu, gpus.sum())]
    }

    /// Whether no limit of the claimant is exceeded, and it may have what others give.
    fn is_settled(&mut self, units: &Units, extra: &[(ResourceId, i64)]) -> bool {
        let own: Vec<QueueIndex> =
            self.fair.path(self.claimant).filter(|queue| *queue != QueueIndex::ROOT).collect();
        for queue in &own {
            let less = self.less(units, *queue);
            if !self.fair.is_within_ceiling(*queue, extra, &less) {
                return false;
            }
        }
        for unit in units {
            let candidate = &self.candidates[unit[0].0];
            if candidate.given {
                continue;
            }
            let ancestor = self.fair.common_ancestor(candidate.leaf, self.claimant);
            for queue in own.iter().take_while(|queue| **queue != ancestor) {
                let less = self.less(units, *queue);
                if !self.fair.is_entitled_less(*queue, extra, &less) {
                    return false;
                }
            }
        }
        true
    }

    /// Whether some set of units seats the claim, and may stay so.
    fn has_plan(&mut self, place: usize, units: &mut Units, extra: &[(ResourceId, i64)]) -> bool {
        let Some(candidate) = self.candidates.get(place).cloned() else {
            return self.is_settled(units, extra) && self.seats(units);
        };
        choices(place, &candidate).into_iter().any(|choice| {
            let length = units.len();
            units.extend(choice);
            let found = self.has_plan(place + 1, units, extra);
            units.truncate(length);
            found
        })
    }
}

#[test]
fn what_the_own_queues_must_give_first_is_found_or_proved_in_small_worlds() {
    let mut dice = Dice(0x5eed_000c);
    let profile = default_profile("mss-scheduler");
    let (mut placed, mut proved, mut unproved, mut must_give) = (0, 0, 0, 0);
    for number in 0..3_000 {
        let mut world = World::random(&mut dice);
        let needed = world.demand.pods.len() as u32;
        let gpus = world.cluster.class(world.demand.class).request(world.gpu);
        let extra = [(world.gpu, gpus * i64::from(needed))];
        must_give += u32::from(!world.fair.is_entitled(world.claimant, &extra));
        let has_plan = world.has_plan(0, &mut Vec::new(), &extra);
        let demands = [world.demand.clone()];
        let claim = Claim {
            leaf: world.claimant,
            demands: &demands,
            needed,
            extra: &extra,
            going: &[],
            allowed: &[],
            domains: None,
            cut: None,
            narrowed: NarrowedClaim::default(),
        };
        let World { cluster, fair, candidates, .. } = &mut world;
        let mut rankings = Rankings::default();
        match make_room(cluster, &mut rankings, fair, &profile, &claim, candidates) {
            RoomAnswer::Placed(plan) => {
                placed += 1;
                let units = plan.victims.iter().flat_map(|(place, pods, whole)| {
                    let at = |pod: &PodIndex| {
                        candidates[*place].pods.iter().position(|known| known.pod == *pod)
                    };
                    let pods = pods.iter().map(|pod| (*place, at(pod).expect("its pod")));
                    let pods: Vec<(usize, usize)> = pods.collect();
                    if *whole {
                        vec![pods]
                    } else {
                        pods.into_iter().map(|pod| vec![pod]).collect()
                    }
                });
                let units: Units = units.collect();
                assert!(has_plan, "world {number}: a plan where there is none");
                assert!(world.is_settled(&units, &extra), "world {number}: {units:?}");
                assert!(world.seats(&units), "world {number}: {units:?}");
            }
            RoomAnswer::No => {
                assert!(!has_plan, "world {number}: \"no\" is proved");
                proved += 1;
            }
            RoomAnswer::NotFound => {
                assert!(!has_plan, "world {number}: a plan is missed");
                unproved += 1;
            }
        }
    }
    println!("{placed} placed, {proved} proved, {unproved} unproved; {must_give} had to give");
    assert!(placed > 300 && proved > 300 && must_give > 300);
    assert!(unproved < 30, "{unproved} end without a proof");
}
