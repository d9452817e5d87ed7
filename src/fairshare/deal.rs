//! Dividing room among siblings: guarantees, withheld room, bands, and the exact filling.
//!
//! Amounts are thousandths of base units. Weights are those of queues, or guarantees in base units
//! where guarantees are scaled down. No product here reaches 2^127: an amount is below 2^76, a sum
//! of weights below 2^34; a sum of guarantees is at most 2^60, and the amounts that are compared
//! with it are guarantees themselves, below 2^62, or less than their sum, below 2^70.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// What one sibling may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// Slot of the queue.
    pub(super) queue: usize,
    /// Most it may have: E. More than zero.
    pub(super) wish: i128,
    /// Guarantee in base units.
    pub(super) guarantee: i64,
    /// Share of the surplus.
    pub(super) weight: u32,
    /// Band of the surplus.
    pub(super) priority: i32,
    /// The result: D.
    pub(super) deserved: i128,
}

impl Claim {
    /// What it is given before any surplus.
    fn guaranteed(&self) -> i128 {
        self.wish.min(i128::from(self.guarantee) * 1000)
    }
}

/// What is kept between calls so that none allocates.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    parts: Vec<Part>,
    steps: Vec<Step>,
    tied: Vec<usize>,
}

/// Divides `room` among siblings; `withheld` is idle guarantee that may not be lent, over all
/// siblings, those without a claim included. Sets `deserved` of every claim, and may change their
/// order. O(claims log claims).
pub(super) fn deal(room: i128, withheld: i128, claims: &mut [Claim], scratch: &mut Scratch) {
    let guaranteed: i128 = claims.iter().map(Claim::guaranteed).sum();
    if guaranteed > room {
        scratch.set(claims, |claim| (claim.guaranteed(), i128::from(claim.guarantee)));
        fill(room, scratch);
        scratch.give(claims, |_| 0);
        return;
    }
    let mut rest = room - guaranteed;
    rest -= withheld.min(rest);
    if claims.iter().any(|claim| claim.priority != claims[0].priority) {
        claims.sort_unstable_by_key(|claim| std::cmp::Reverse(claim.priority));
    }
    for band in claims.chunk_by_mut(|a, b| a.priority == b.priority) {
        scratch.set(band, |claim| (claim.wish - claim.guaranteed(), i128::from(claim.weight)));
        // what rounding leaves in a band goes to nobody, lower bands included
        rest = fill(rest, scratch).unwrap_or(0);
        scratch.give(band, Claim::guaranteed);
    }
}

/// One sibling in a filling.
#[derive(Clone, Copy, Debug)]
struct Part {
    cap: i128,
    weight: i128,
    given: i128,
    claim: usize,
}

/// The next thousandth of a part comes at the level `given / weight`.
#[derive(Clone, Copy, Debug)]
struct Step {
    given: i128,
    weight: i128,
    part: usize,
}

impl Ord for Step {
    /// The lowest level is the greatest, for a heap of maxima.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.given * self.weight).cmp(&(self.given * other.weight))
    }
}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Step {}

impl Scratch {
    fn set(&mut self, claims: &[Claim], terms: impl Fn(&Claim) -> (i128, i128)) {
        self.parts.clear();
        for (claim, (cap, weight)) in claims.iter().map(terms).enumerate() {
            // without a cap there is nothing to give; a weight is 0 only where the cap is
            if cap > 0 {
                self.parts.push(Part { cap, weight, given: 0, claim });
            }
        }
    }

    fn give(&self, claims: &mut [Claim], base: impl Fn(&Claim) -> i128) {
        claims.iter_mut().for_each(|claim| claim.deserved = base(claim));
        for part in &self.parts {
            claims[part.claim].deserved += part.given;
        }
    }
}

/// Gives every part min(cap, floor(l x weight)) with the largest l whose sum is at most `room`.
/// What is left if all parts reach their caps, else `None`.
///
/// The parts that are full at the level `room / weight`, ignoring floors, are found along the
/// order of cap / weight. The floors then leave less than one thousandth for each part that is not
/// full; it is dealt by raising the level from one step to the next while all that step there fit.
/// O(parts log parts).
fn fill(room: i128, scratch: &mut Scratch) -> Option<i128> {
    let Scratch { parts, steps, tied } = scratch;
    let caps: i128 = parts.iter().map(|part| part.cap).sum();
    if caps <= room {
        parts.iter_mut().for_each(|part| part.given = part.cap);
        return Some(room - caps);
    }
    let mut weight: i128 = parts.iter().map(|part| part.weight).sum();
    let is_even = parts.iter().all(|part| part.weight == parts[0].weight);
    if is_even {
        parts.sort_unstable_by_key(|part| part.cap);
    } else {
        parts.sort_unstable_by(|a, b| (a.cap * b.weight).cmp(&(b.cap * a.weight)));
    }
    let mut rest = room;
    let mut full = 0;
    while full < parts.len() && parts[full].cap * weight <= rest * parts[full].weight {
        let part = &mut parts[full];
        part.given = part.cap;
        rest -= part.cap;
        weight -= part.weight;
        full += 1;
    }
    let open = &mut parts[full..];
    if is_even {
        // all would step at once, and there is less left than one for each
        let each = rest / i128::try_from(open.len()).expect("a length fits");
        open.iter_mut().for_each(|part| part.given = each);
        return None;
    }
    let room = rest;
    for part in open.iter_mut() {
        part.given = room * part.weight / weight;
        rest -= part.given;
    }
    if rest > 0 {
        raise(rest, open, steps, tied);
    }
    None
}

/// Raises the level while all parts that step there fit into `rest`.
fn raise(mut rest: i128, open: &mut [Part], steps: &mut Vec<Step>, tied: &mut Vec<usize>) {
    steps.clear();
    let step = |index: usize, part: &Part| Step {
        given: part.given + 1,
        weight: part.weight,
        part: index,
    };
    steps.extend(open.iter().enumerate().map(|(index, part)| step(index, part)));
    let mut heap = BinaryHeap::from(std::mem::take(steps));
    while let Some(lowest) = heap.pop() {
        tied.clear();
        tied.push(lowest.part);
        while heap.peek() == Some(&lowest) && tied.len() as i128 <= rest {
            tied.extend(heap.pop().map(|step| step.part));
        }
        if tied.len() as i128 > rest {
            break;
        }
        rest -= tied.len() as i128;
        for index in tied.iter().copied() {
            let part = &mut open[index];
            part.given += 1;
            if part.given < part.cap {
                heap.push(step(index, part));
            }
        }
    }
    *steps = heap.into_vec();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest level that fits, tried one after the other: with weights of 1, 3 and 5 parts
    /// change at fifteenths.
    fn tried(room: i128, parts: &[(i128, i128)]) -> Vec<i128> {
        let at = |l: i128| parts.iter().map(move |(cap, weight)| (*cap).min(l * weight / 15));
        let fitting = (0..=15 * 4).take_while(|l| at(*l).sum::<i128>() <= room);
        at(fitting.last().unwrap_or(0)).collect()
    }

    #[test]
    fn all_small_fillings_are_those_found_by_trying() {
        let mut scratch = Scratch::default();
        let mut count = 0;
        let terms: Vec<(i128, i128)> =
            [1, 3, 4].into_iter().flat_map(|cap| [1, 3, 5].map(|weight| (cap, weight))).collect();
        for number in 0..9 * 9 * 9 * 9 {
            let parts = [729, 81, 9, 1].map(|digit| terms[number / digit % 9]);
            for room in 0..=16 {
                scratch.parts.clear();
                scratch.parts.extend(parts.iter().enumerate().map(|(claim, (cap, weight))| Part {
                    cap: *cap,
                    weight: *weight,
                    given: 0,
                    claim,
                }));
                let left = fill(room, &mut scratch);
                scratch.parts.sort_unstable_by_key(|part| part.claim);
                let given: Vec<i128> = scratch.parts.iter().map(|part| part.given).collect();
                assert_eq!(given, tried(room, &parts), "{room} among {parts:?}");
                let caps: i128 = parts.iter().map(|(cap, _)| cap).sum();
                assert_eq!(left, (caps <= room).then(|| room - caps));
                count += 1;
            }
        }
        assert_eq!(count, 9 * 9 * 9 * 9 * 17);
    }
}
