//! The search in the model against all sets of units.

use super::*;

struct Dice(u64);

impl Dice {
    /// 0 up to, not including, `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// Two queues below a third, and one beside them; gangs with and without parts, and budgets.
fn model(dice: &mut Dice) -> Model {
    let resources = 1 + dice.below(2);
    let contested = dice.below(resources);
    let amounts = |dice: &mut Dice, least: usize, end: usize| -> Amounts {
        (0..resources).map(|_| (least + dice.below(end)) as i64).collect()
    };
    let ask = amounts(dice, 1, 4);
    let mut model = Model { ask, contested, needed: 1 + dice.below(4) as u32, ..Model::default() };
    for _ in 0..2 + dice.below(3) {
        let most = [0, 1, model.needed, model.needed][dice.below(4)];
        model.nodes.push(Place { free: amounts(dice, 0, 3), most, pods: SmallVec::new() });
    }
    model.queues = (0..4).map(|_| Tie { room: [NOTHING, 0, 1, 3, 6][dice.below(5)] }).collect();
    model.budgets = vec![dice.below(3) as i64];
    for number in 0..1 + dice.below(4) {
        let first = model.pods.len() as u32;
        let pods = 1 + dice.below(4) as u32;
        let queues: &[u32] = [&[0, 3][..], &[1, 3][..], &[2][..], &[][..]][dice.below(4)];
        let has_parts = dice.below(4) == 0;
        let held = amounts(dice, 0, 4);
        let mut size = 0;
        let mut kinds: BTreeMap<_, u32> = BTreeMap::new();
        for _ in 0..pods {
            let node = dice.below(model.nodes.len()) as u32;
            let budget = (dice.below(5) == 0).then_some(0);
            let part = has_parts.then(|| dice.below(2) as u32);
            let next = kinds.len() as u32;
            let kind = *kinds.entry((node, budget, part)).or_insert(next);
            model.nodes[node as usize].pods.push(model.pods.len() as u32);
            size += held[contested];
            let held = held.clone();
            model.pods.push(Pod { node, gang: number as u32, held, kind, budget, part });
        }
        model.gangs.push(Gang {
            first,
            pods,
            single: pods - dice.below(2) as u32,
            spare: dice.below(pods as usize) as u32,
            parts: if has_parts { vec![dice.below(3) as u32; 2] } else { Vec::new() },
            whole: dice.below(3) > 0,
            level: 1 + dice.below(3) as u32,
            size,
            queues: SmallVec::from_slice(queues),
        });
    }
    model
}

/// Whether the units may go together, and whether the claim is seated then.
fn seats(model: &Model, units: &[Choice]) -> bool {
    let mut free: Vec<Amounts> = model.nodes.iter().map(|node| node.free.clone()).collect();
    let mut given: Vec<(i64, i64)> = vec![(0, 0); model.queues.len()];
    let mut budgets = model.budgets.clone();
    let mut parts: Vec<Vec<u32>> = model.gangs.iter().map(|gang| gang.parts.clone()).collect();
    let mut spare: Vec<u32> = model.gangs.iter().map(|gang| gang.spare).collect();
    for unit in units {
        let (gang, pods) = match *unit {
            Choice::Gang(gang) => (gang as usize, model.gangs[gang as usize].all()),
            Choice::Pod(pod) => {
                let known = &model.pods[pod as usize];
                let gang = known.gang as usize;
                if spare[gang] == 0
                    || known.part.is_some_and(|part| parts[gang][part as usize] == 0)
                {
                    return false;
                }
                spare[gang] -= 1;
                known.part.iter().for_each(|part| parts[gang][*part as usize] -= 1);
                (gang, pod as usize..pod as usize + 1)
            }
        };
        let size: i64 = pods.clone().map(|pod| model.pods[pod].held[model.contested]).sum();
        for queue in &model.gangs[gang].queues {
            let (sum, greatest) = &mut given[*queue as usize];
            (*sum, *greatest) = (*sum + size, size.max(*greatest));
        }
        for pod in &model.pods[pods] {
            pod.budget.iter().for_each(|budget| budgets[*budget as usize] -= 1);
            let free = &mut free[pod.node as usize];
            free.iter_mut().zip(&pod.held).for_each(|(free, held)| *free += held);
        }
    }
    let tied = given.iter().zip(&model.queues);
    let mut used = units.iter().flat_map(|unit| match *unit {
        Choice::Gang(gang) => model.gangs[gang as usize].queues.clone(),
        Choice::Pod(pod) => model.gangs[model.pods[pod as usize].gang as usize].queues.clone(),
    });
    let seats = free.iter().zip(&model.nodes).map(|(free, node)| model.seats(free, node.most));
    used.all(|queue| model.queues[queue as usize].room != NOTHING)
        && tied.into_iter().all(|((sum, greatest), tie)| *sum == 0 || sum - greatest <= tie.room)
        && budgets.iter().all(|left| *left >= 0)
        && seats.sum::<u32>() >= model.needed
}

/// Whether some set of units of a level seats the claim.
fn has_plan(model: &Model, level: u32, gang: usize, units: &mut Vec<Choice>) -> bool {
    let Some(known) = model.gangs.get(gang) else { return seats(model, units) };
    let singles: Vec<usize> = known.singles().collect();
    for set in 0..1_u32 << singles.len() {
        let length = units.len();
        let chosen = singles.iter().enumerate().filter(|(at, _)| set & (1 << at) > 0);
        units.extend(chosen.map(|(_, pod)| Choice::Pod(*pod as u32)));
        let found = set.count_ones() <= known.spare && has_plan(model, level, gang + 1, units);
        units.truncate(length);
        if found {
            return true;
        }
    }
    let mut found = false;
    if known.whole && known.level <= level {
        units.push(Choice::Gang(gang as u32));
        found = has_plan(model, level, gang + 1, units);
        units.pop();
    }
    found
}

#[test]
fn a_plan_is_found_if_there_is_one_and_no_is_said_if_there_is_none() {
    let mut dice = Dice(0x5eed_0011);
    let mut seen = [0; 3];
    for number in 0..6_000 {
        let model = model(&mut dice);
        let levels = 0..=3;
        let least = levels.clone().find(|level| has_plan(&model, *level, 0, &mut Vec::new()));
        let (found, is_none) = search(&model);
        assert_eq!(found.is_some(), least.is_some(), "world {number}");
        assert_eq!(is_none, least.is_none(), "world {number}: no is proved");
        let Some(units) = found else {
            seen[0] += 1;
            continue;
        };
        assert!(seats(&model, &units), "world {number}: {units:?}");
        let ended = units.iter().filter_map(|unit| match *unit {
            Choice::Gang(gang) => Some(model.gangs[gang as usize].level),
            Choice::Pod(_) => None,
        });
        assert!(ended.max() <= least, "world {number}: no gang of a higher priority ends");
        seen[1 + usize::from(units.len() > 1)] += 1;
    }
    assert!(seen.iter().all(|times| *times > 300), "too few of a kind: {seen:?}");
}
