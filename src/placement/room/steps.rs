//! The greedy search: the cheapest way to fit one more pod anywhere, again and again.

use super::{Cost, NO_PRIORITY, NO_RANK, Search, Unit, Within};
use crate::cluster::{Class, ClassId, NodeIndex, ResourceId};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

impl Search<'_> {
    pub(super) fn take_steps(&mut self, gangs: bool) {
        let mut nodes: Vec<NodeIndex> = match self.within {
            Within::Everywhere => self.on_node.nodes().to_vec(),
            within => within.nodes(self.cluster),
        };
        nodes.sort_unstable();
        let mut heap: BinaryHeap<Reverse<(Cost, NodeIndex)>> = BinaryHeap::new();
        for node in nodes {
            heap.extend(self.step(node, gangs).map(|(cost, _)| Reverse((cost, node))));
        }
        while self.total < self.needed {
            let Some(Reverse((expected, node))) = heap.pop() else { return };
            // other steps may have changed what this one costs
            let Some((cost, units)) = self.step(node, gangs) else { continue };
            if cost > expected {
                heap.push(Reverse((cost, node)));
                continue;
            }
            let mut touched: SmallVec<[NodeIndex; 4]> = SmallVec::new();
            for unit in units {
                if self.is_legal(unit) {
                    let taken = self.take_off(unit);
                    let pods = taken.pods.iter();
                    touched.extend(pods.map(|(place, at)| self.candidates[*place].pods[*at].node));
                    self.units.push(taken);
                }
            }
            touched.push(node);
            touched.sort_unstable();
            touched.dedup();
            touched.iter().for_each(|node| self.recount(*node));
            for node in touched {
                heap.extend(self.step(node, gangs).map(|(cost, _)| Reverse((cost, node))));
            }
        }
    }

    /// The cheapest way to fit one more pod on a node.
    fn step(&mut self, node: NodeIndex, gangs: bool) -> Option<(Cost, SmallVec<[Unit; 8]>)> {
        // with nothing lacking, what keeps pods off is nothing that an eviction is sure to help
        let mut lacking = self.lacking(node).filter(|lacking| !lacking.is_empty())?;
        let mut units: SmallVec<[Unit; 8]> = SmallVec::new();
        let on_node = self.on_node;
        let here = on_node.of(node);
        let mut used: FxHashMap<(usize, Option<usize>), u32> = FxHashMap::default();
        let mut seen: FxHashMap<usize, u32> = FxHashMap::default();
        let mut elastic = Vec::new();
        for (place, at) in here {
            let candidate = &self.candidates[*place];
            if self.spare[*place] == 0 {
                continue;
            }
            let single = at + candidate.kept < candidate.pods.len();
            if single && self.is_legal(Unit::Elastic(*place, *at)) {
                let useful = self.useful(&lacking, candidate.pods[*at].class);
                let costs = !candidate.leaving;
                let before = seen.entry(*place).or_default();
                let rank = candidate.single_rank(self.gone(*place) + *before);
                *before += 1;
                elastic.push((costs, Reverse(useful), rank, *place, *at));
            }
        }
        elastic.sort_unstable();
        for (_, _, _, place, at) in elastic {
            let task = self.candidates[place].tasks.of.get(at).copied();
            let used_of = |part| used.get(&(place, part)).copied().unwrap_or(0);
            let is_left = used_of(None) < self.spare[place]
                && task.is_none_or(|part| used_of(task) < self.task_spare[place][part]);
            if is_left && self.reduce(&mut lacking, self.candidates[place].pods[at].class, 1) {
                *used.entry((place, None)).or_default() += 1;
                if task.is_some() {
                    *used.entry((place, task)).or_default() += 1;
                }
                units.push(Unit::Elastic(place, at));
            }
        }
        if gangs && !lacking.is_empty() {
            self.add_gangs(here, &mut lacking, &mut units);
        }
        if !lacking.is_empty() {
            return None;
        }
        let tie = self.cluster.node(node).tie;
        // neighbours often hold the same gangs
        if let Some((known, cost)) = &self.costed
            && *known == units
        {
            let (highest, ended, pods, rank, _) = *cost;
            return Some(((highest, ended, pods, rank, tie), units));
        }
        let cost = self.cost(tie, &units, gangs);
        if gangs {
            self.costed = Some((units.clone(), cost));
        }
        Some((cost, units))
    }

    fn add_gangs(
        &mut self,
        here: &[(usize, usize)],
        lacking: &mut SmallVec<[(ResourceId, i64); 4]>,
        units: &mut SmallVec<[Unit; 8]>,
    ) {
        let singles = units.len();
        // those of one gang stand together, and most often those of one class
        let mut amounts: SmallVec<[(usize, i64, [usize; 2]); 8]> = SmallVec::new();
        let mut last: Option<(ClassId, Option<i64>)> = None;
        for (number, (place, at)) in here.iter().enumerate() {
            if self.taken[*place][*at] || units.contains(&Unit::Elastic(*place, *at)) {
                continue;
            }
            let class = self.candidates[*place].pods[*at].class;
            let known = last.filter(|(known, _)| *known == class);
            let (_, useful) = *last.insert(known.unwrap_or_else(|| {
                (class, self.helps(lacking, class).then(|| self.useful(lacking, class)))
            }));
            let Some(useful) = useful else { continue };
            match amounts.last_mut().filter(|(last, ..)| last == place) {
                Some((_, sum, stand)) => (*sum, stand[1]) = (*sum + useful, number + 1),
                None => amounts.push((*place, useful, [number, number + 1])),
            }
        }
        amounts.retain(|(place, ..)| self.is_legal(Unit::Gang(*place)));
        // what makes room for more than is needed is worth no more
        let more = i64::from(self.needed.saturating_sub(self.total + 1));
        let most = lacking.iter().max().map_or(0, |(resource, short)| {
            short + more * self.cluster.class(self.class).request(*resource)
        });
        let candidates = self.candidates;
        let key = |(place, useful, _): &(usize, i64, [usize; 2])| {
            let candidate = &candidates[*place];
            (Reverse((*useful).min(most)), candidate.pods.len(), &candidate.rank, *place)
        };
        amounts.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        for (place, _, [from, to]) in amounts {
            if lacking.is_empty() {
                return;
            }
            let mut helps = false;
            let left = here[from..to].iter().filter(|(_, at)| {
                !self.taken[place][*at] && !units[..singles].contains(&Unit::Elastic(place, *at))
            });
            let mut classes = left.map(|(_, at)| self.candidates[place].pods[*at].class).peekable();
            let mut pods = 0;
            while let Some(class) = classes.next() {
                pods += 1;
                if classes.peek() != Some(&class) {
                    helps |= self.reduce(lacking, class, std::mem::take(&mut pods));
                }
            }
            if helps {
                units.push(Unit::Gang(place));
            }
        }
    }

    fn cost(&self, tie: u32, units: &[Unit], gangs: bool) -> Cost {
        let mut highest = NO_PRIORITY;
        let mut ended = 0;
        let mut pods = 0;
        let mut rank = NO_RANK;
        let mut singles: SmallVec<[usize; 8]> = SmallVec::new();
        for unit in units {
            match *unit {
                Unit::Elastic(place, _) => {
                    let before = singles.iter().filter(|known| **known == place).count() as u32;
                    rank = rank.max(self.candidates[place].single_rank(self.gone(place) + before));
                    singles.push(place);
                    pods += u64::from(!self.candidates[place].leaving);
                }
                Unit::Gang(place) => {
                    ended += 1;
                    rank = rank.max(self.candidates[place].rank);
                    highest = highest.max(self.priority(place));
                    pods += self.taken[place].iter().filter(|taken| !**taken).count() as u64;
                }
            }
        }
        // a whole gang makes room on other nodes too
        let mut gained = 1;
        if gangs && ended > 0 {
            gained = u64::from(self.gained(units)).max(1);
        }
        (highest, ended * 1000 / gained, pods * 1000 / gained, rank, tie)
    }

    /// How many more of the members that lack a seat fit without these units, by what they ask for.
    fn gained(&self, units: &[Unit]) -> u32 {
        let mut pods: SmallVec<[(NodeIndex, ClassId); 64]> = SmallVec::new();
        let singles = units.iter().any(|unit| matches!(unit, Unit::Elastic(..)));
        for unit in units {
            match *unit {
                Unit::Elastic(place, at) => {
                    let pod = self.candidates[place].pods[at];
                    pods.push((pod.node, pod.class));
                }
                Unit::Gang(place) => {
                    let all = self.candidates[place].pods.iter().enumerate();
                    let others = all.filter(|(at, _)| {
                        let counted = singles && units.contains(&Unit::Elastic(place, *at));
                        !self.taken[place][*at] && !counted
                    });
                    pods.extend(others.map(|(_, pod)| (pod.node, pod.class)));
                }
            }
        }
        pods.sort_unstable();
        let slots = pods.chunk_by(|a, b| a.0 == b.0).map(|here| {
            let node = here[0].0;
            self.fits_moved(node, here, 1).saturating_sub(self.slots[node.index()])
        });
        let slots: u32 = slots.sum();
        slots.min(self.needed.saturating_sub(self.total))
    }

    /// How many pods of the class fit on a node by resources without these (`sign` 1), or with them
    /// (-1). Those of one class stand together.
    pub(super) fn fits_moved(
        &self,
        node: NodeIndex,
        pods: &[(NodeIndex, ClassId)],
        sign: i64,
    ) -> u32 {
        let class = self.cluster.class(self.class);
        if self.cluster.node(node).node.is_none() || self.is_closed(node) || !self.suits(node) {
            return 0;
        }
        let mut most = if class.spec.host_ports.is_empty() { self.needed } else { 1 };
        let mut classes: SmallVec<[(&Class, i64); 4]> = SmallVec::new();
        for alike in pods.chunk_by(|a, b| a.1 == b.1) {
            classes.push((self.cluster.class(alike[0].1), sign * alike.len() as i64));
        }
        // GPUs are known after CPU and memory, and scarcer
        for (r, amount) in class.requests.iter().rev().filter(|(_, amount)| *amount > 0) {
            let moved: i64 = classes.iter().map(|(class, pods)| pods * class.request(*r)).sum();
            let free = self.cluster.allocatable(*r, node) - self.cluster.requested(*r, node);
            let fits = ((free + moved) / amount).clamp(0, i64::from(most));
            most = u32::try_from(fits).expect("clamped");
            if most == 0 {
                break;
            }
        }
        most
    }

    /// What keeps one more pod off a node, by resource; `None`: something that no eviction helps.
    fn lacking(&self, node: NodeIndex) -> Option<SmallVec<[(ResourceId, i64); 4]>> {
        let class = self.cluster.class(self.class);
        if self.cluster.node(node).node.is_none()
            || !class.unknown.is_empty()
            || self.is_closed(node)
            || !self.suits(node)
        {
            return None;
        }
        let wanted = i64::from(self.slots[node.index()]) + 1;
        if wanted > 1 && !class.spec.host_ports.is_empty() {
            return None;
        }
        let mut lacking = SmallVec::new();
        for (resource, amount) in &class.requests {
            let allocatable = self.cluster.allocatable(*resource, node);
            let short = wanted * amount - (allocatable - self.cluster.requested(*resource, node));
            if wanted * amount > allocatable {
                return None;
            }
            if short > 0 {
                lacking.push((*resource, short));
            }
        }
        Some(lacking)
    }

    /// How much of what is lacking most specially a pod holds: GPUs are known after CPU and memory.
    fn useful(&self, lacking: &[(ResourceId, i64)], class: ClassId) -> i64 {
        let class = self.cluster.class(class);
        lacking.iter().max().map_or(0, |(resource, short)| class.request(*resource).min(*short))
    }

    /// Whether a pod holds some of what is lacking.
    fn helps(&self, lacking: &[(ResourceId, i64)], class: ClassId) -> bool {
        let class = self.cluster.class(class);
        lacking.iter().any(|(resource, _)| class.request(*resource) > 0)
    }

    /// Whether a node lacks nothing that is counted for one more pod, and takes none all the same:
    /// a port or a device may come free with a victim.
    pub(super) fn lacks_other(&self) -> bool {
        let lacks =
            |node: &NodeIndex| self.lacking(*node).is_some_and(|lacking| lacking.is_empty());
        self.on_node.nodes().iter().any(lacks)
    }

    /// Takes what so many pods hold off what is lacking; whether that helped.
    fn reduce(
        &self,
        lacking: &mut SmallVec<[(ResourceId, i64); 4]>,
        class: ClassId,
        pods: i64,
    ) -> bool {
        let class = self.cluster.class(class);
        let mut helped = false;
        for (resource, short) in lacking.iter_mut() {
            let held = class.request(*resource);
            helped |= held > 0;
            *short -= pods * held;
        }
        lacking.retain(|(_, short)| *short > 0);
        helped
    }
}
