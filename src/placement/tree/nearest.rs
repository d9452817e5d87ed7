//! How members lie nearest to each other within one domain: exact, where there is little to choose.
//!
//! Two members are as far apart as the smallest domain of both is above the node, in levels. So the
//! sum over all pairs is least where the sum over domains of pairs within each is largest, and how
//! many members go to each of the domains right below one is a matter of that domain alone, for
//! each number that may come to it.

use super::fill::{Counts, Place};

/// Steps in which it is looked for; where there would be more the greedy rule stands. A step takes
/// about a nanosecond.
const STEPS_MAX: usize = 32_768;

/// What lies below a place, with the most that pairs there gain by each number of members.
struct Part {
    place: Place,
    gains: Vec<u64>,
    below: Vec<Part>,
    /// by place below, and members in it and those before it: how many are in it
    chosen: Vec<Vec<u32>>,
}

fn pairs(members: usize) -> u64 {
    let members = members as u64;
    members * members.saturating_sub(1) / 2
}

impl Counts<'_> {
    /// Whether there is something to choose beside what the greedy rule finds, and little enough
    /// to look at all of it: places with places below them, in few steps.
    fn is_open(&self, at: Place, count: u32) -> bool {
        let Place::Domain(domain) = at else { return false };
        if self.domains.get(domain).children.is_empty() {
            return false;
        }
        let mut steps = (count as usize).pow(2);
        let mut is_deep = false;
        let mut stack = vec![at];
        while let Some(place) = stack.pop() {
            if self.crowd(place).is_some() {
                return false;
            }
            for below in self.below(place).filter(|below| self.count(*below) > 0) {
                steps += (count.min(self.count(below)) as usize) * count as usize;
                if steps > STEPS_MAX {
                    return false;
                }
                is_deep |= place != at;
                stack.push(below);
            }
        }
        is_deep
    }

    /// Puts so many into a place so that they are nearer to each other than these are that lie in
    /// it by the greedy rule; `None`: they cannot be, or it is not looked for.
    pub(super) fn nearer(&self, at: Place, found: &[(Place, u32)]) -> Option<Vec<(Place, u32)>> {
        if found.len() < 2 {
            return None;
        }
        let count: u32 = found.iter().map(|(_, count)| count).sum();
        if !self.is_open(at, count) {
            return None;
        }
        let part = self.part(at, count as usize);
        if part.gains[count as usize] <= self.gained(at, found) {
            return None;
        }
        let mut out = Vec::new();
        part.list(count, &mut out);
        Some(out)
    }

    /// Pairs within each domain below a place, and levels between them.
    fn gained(&self, at: Place, found: &[(Place, u32)]) -> u64 {
        let below = self.below(at).map(|below| {
            let inside = found.iter().copied().filter(|(place, _)| self.is_in(*place, below));
            let inside: Vec<(Place, u32)> = inside.collect();
            if inside.is_empty() {
                return 0;
            }
            let members: u32 = inside.iter().map(|(_, count)| count).sum();
            let levels = u64::from(self.depth(below) - self.depth(at));
            levels * pairs(members as usize) + self.gained(below, &inside)
        });
        below.sum()
    }

    fn part(&self, place: Place, most: usize) -> Part {
        let most = most.min(self.count(place) as usize);
        let places = self.below(place).filter(|below| self.count(*below) > 0);
        let below: Vec<Part> = places.map(|below| self.part(below, most)).collect();
        let mut part = Part { place, gains: vec![0; most + 1], below, chosen: Vec::new() };
        if part.below.is_empty() {
            return part;
        }
        // by members in the places before; as many as do not fit there gain nothing at all
        let mut before: Vec<Option<u64>> = vec![Some(0)];
        for inner in &part.below {
            let levels = u64::from(self.depth(inner.place) - self.depth(place));
            let gain = |own: usize| levels * pairs(own) + inner.gains[own];
            let fit = (before.len() + inner.gains.len() - 1).min(most + 1);
            let (mut with, mut chosen) = (vec![None; fit], vec![0_u32; fit]);
            for (members, known) in before.iter().enumerate() {
                let Some(known) = known else { continue };
                for own in 0..inner.gains.len().min(fit - members) {
                    let sum = Some(known + gain(own));
                    if sum > with[members + own] {
                        with[members + own] = sum;
                        chosen[members + own] = u32::try_from(own).expect("groups are bounded");
                    }
                }
            }
            before = with;
            part.chosen.push(chosen);
        }
        part.gains = before.into_iter().map(|gain| gain.unwrap_or(0)).collect();
        part
    }
}

impl Part {
    /// Where so many lie; what is in one domain is together.
    fn list(&self, count: u32, out: &mut Vec<(Place, u32)>) {
        if self.below.is_empty() {
            out.push((self.place, count));
            return;
        }
        let mut left = count;
        let mut counts = Vec::with_capacity(self.below.len());
        for (below, chosen) in self.below.iter().zip(&self.chosen).rev() {
            let own = chosen[left as usize];
            left -= own;
            counts.push((own, below));
        }
        // the fullest first, as the greedy rule has it
        counts.retain(|(own, _)| *own > 0);
        counts.reverse();
        counts.sort_by_key(|(own, _)| std::cmp::Reverse(*own));
        counts.into_iter().for_each(|(own, below)| below.list(own, out));
    }
}
