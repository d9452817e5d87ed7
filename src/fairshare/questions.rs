//! What is asked of the shares: amounts, limits, entitlement, and the order of claims.

use super::FairShare;
use super::column::Column;
use super::tree::QueueIndex;
use crate::cluster::ResourceId;
use crate::model::fault::{Fault, is_made};
use std::cmp::Ordering;

/// A wide amount as callers know amounts.
fn narrow(amount: i128) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// The requested amount of a resource, 0 if it is not requested.
fn requested(requests: &[(ResourceId, i64)], resource: ResourceId) -> i128 {
    let same = requests.iter().filter(|(requested, _)| *requested == resource);
    same.map(|(_, amount)| i128::from(*amount)).sum()
}

impl FairShare {
    pub(super) fn column(&self, resource: ResourceId) -> Option<&Column> {
        self.columns.get(resource.index())?.as_deref()
    }

    /// The column with its shares up to date.
    fn refreshed(&mut self, resource: ResourceId) -> Option<&Column> {
        let column = self.columns.get_mut(resource.index())?.as_deref_mut()?;
        column.refresh(&self.tree, &mut self.buffers);
        Some(column)
    }

    /// What queues share of a request: accounted resources of which something is requested.
    fn accounted(
        &self,
        requests: &[(ResourceId, i64)],
    ) -> impl Iterator<Item = (ResourceId, i128)> {
        let some = requests
            .iter()
            .filter(|(resource, amount)| *amount > 0 && self.is_accounted(*resource));
        some.map(|(resource, amount)| (*resource, i128::from(*amount)))
    }

    /// Room held by a queue and all below it, in base units. O(1).
    #[must_use]
    pub fn allocated(&self, queue: QueueIndex, resource: ResourceId) -> i64 {
        self.column(resource).map_or(0, |column| narrow(column.allocated(queue)))
    }

    /// Allocated and pending of a queue and all below it, in base units. O(1).
    #[must_use]
    pub fn demand(&self, queue: QueueIndex, resource: ResourceId) -> i64 {
        self.column(resource).map_or(0, |column| narrow(column.demand(queue)))
    }

    /// Guarantee of a declared queue in base units; 0 for users and the root. O(1).
    #[must_use]
    pub fn guarantee(&self, queue: QueueIndex, resource: ResourceId) -> i64 {
        self.column(resource).map_or(0, |column| narrow(column.guarantee(queue)))
    }

    /// Capacity of a resource in base units. O(1).
    #[must_use]
    pub fn capacity(&self, resource: ResourceId) -> i64 {
        self.capacity.get(resource.index()).copied().unwrap_or(0).max(0)
    }

    /// The deserved share D in thousandths of the resource's base unit; that of the root is the
    /// capacity. O(1) if nothing changed since the last question about the resource. Else
    /// O(changed leaves x depth + c log c), with c the children of the queues whose room or whose
    /// children's wishes changed, and a look at one flag for each declared queue.
    pub fn deserved_milli(&mut self, queue: QueueIndex, resource: ResourceId) -> i128 {
        if queue == QueueIndex::ROOT {
            return i128::from(self.capacity(resource)) * 1000;
        }
        self.refreshed(resource).map_or(0, |column| column.deserved(queue))
    }

    /// The topmost queue on the path whose limit, or guarantee and borrow limit, would be exceeded
    /// by `extra` more; `None`: all is well. O(depth x resources).
    #[must_use]
    pub fn limited_by(&self, leaf: QueueIndex, extra: &[(ResourceId, i64)]) -> Option<QueueIndex> {
        let exceeds = |queue: &QueueIndex| {
            self.accounted(extra).any(|(resource, amount)| {
                let column = self.column(resource);
                let ceiling = column
                    .and_then(|c| Some((c.allocated(*queue), c.ceiling(&self.tree, *queue)?)));
                let slack = i128::from(is_made(Fault::LimitByOne));
                ceiling.is_some_and(|(allocated, ceiling)| allocated + amount > ceiling + slack)
            })
        };
        self.path(leaf).filter(exceeds).last()
    }

    /// Whether a queue whose allocation rises by `extra` and falls by `less` stays below its limit,
    /// and its guarantee and borrow limit, in what `extra` asks for. O(resources).
    #[must_use]
    pub fn is_within_ceiling(
        &self,
        queue: QueueIndex,
        extra: &[(ResourceId, i64)],
        less: &[(ResourceId, i64)],
    ) -> bool {
        self.accounted(extra).all(|(resource, amount)| {
            self.column(resource).is_none_or(|column| {
                let held = column.allocated(queue) + amount - requested(less, resource);
                let slack = i128::from(is_made(Fault::LimitByOne));
                column.ceiling(&self.tree, queue).is_none_or(|ceiling| held <= ceiling + slack)
            })
        })
    }

    /// The lowest queue above the leaf whose children keep idle guarantees for themselves so that
    /// `extra` finds no room beside them; `None`: it does, or physical room alone decides.
    /// `less`: what is taken of each queue on paper. Room of a queue's D is its children's but for
    /// what one of them keeps; beyond D the same holds one level up. O(depth x resources) and the
    /// cost of [`Self::deserved_milli`].
    pub fn withheld_by<'a>(
        &mut self,
        leaf: QueueIndex,
        extra: &[(ResourceId, i64)],
        less: impl Fn(QueueIndex) -> &'a [(ResourceId, i64)],
    ) -> Option<QueueIndex> {
        extra.iter().filter(|(_, amount)| *amount > 0).find_map(|(resource, amount)| {
            self.column(*resource).filter(|column| column.is_kept())?;
            self.refreshed(*resource)?;
            let mut need = i128::from(*amount) * 1000;
            let mut keeper = None;
            let mut queue = leaf;
            while let Some(parent) = self.parent(queue) {
                let deserved = self.deserved_milli(parent, *resource);
                let column = self.column(*resource)?;
                let held = column.allocated(parent) - requested(less(parent), *resource);
                let kept = column.kept_beside(&self.tree, queue);
                if kept > 0 {
                    keeper = keeper.or(Some(parent));
                }
                need += kept;
                if held * 1000 + need <= deserved {
                    return None;
                }
                queue = parent;
            }
            keeper
        })
    }

    /// Whether allocated and `extra` stay within D at this one queue, in each accounted resource
    /// of which `extra` asks something. O(resources) and the cost of [`Self::deserved_milli`].
    pub fn is_entitled(&mut self, queue: QueueIndex, extra: &[(ResourceId, i64)]) -> bool {
        self.is_entitled_less(queue, extra, &[])
    }

    /// The lowest queue on the path whose D is less than `extra`, whatever it holds. Cost as
    /// [`Self::is_entitled`], for each queue.
    pub fn too_small_for(
        &mut self,
        leaf: QueueIndex,
        extra: &[(ResourceId, i64)],
    ) -> Option<QueueIndex> {
        let mut path = Some(leaf);
        while let Some(queue) = path {
            let asked = extra.iter().filter(|(_, amount)| *amount > 0);
            let mut exceeds = |(resource, amount): &(ResourceId, i64)| {
                self.is_accounted(*resource)
                    && i128::from(*amount) * 1000 > self.deserved_milli(queue, *resource)
            };
            if asked.copied().any(|asked| exceeds(&asked)) {
                return Some(queue);
            }
            path = self.parent(queue);
        }
        None
    }

    /// As [`Self::is_entitled`], with `less` taken from the queue on paper.
    pub fn is_entitled_less(
        &mut self,
        queue: QueueIndex,
        extra: &[(ResourceId, i64)],
        less: &[(ResourceId, i64)],
    ) -> bool {
        extra.iter().filter(|(_, amount)| *amount > 0).all(|(resource, amount)| {
            let deserved = self.deserved_milli(queue, *resource);
            let allocated = self.column(*resource).map_or(0, |column| column.allocated(queue));
            let wanted = allocated + i128::from(*amount) - requested(less, *resource);
            let slack = if is_made(Fault::EntitledByOne) { 1000 } else { 0 };
            !self.is_accounted(*resource) || wanted * 1000 <= deserved + slack
        })
    }

    /// Whether allocated less `less` is above D in one of the `contested` resources, at this one
    /// queue. `less`: what is taken on paper already. Cost as [`Self::is_entitled`].
    pub fn is_above(
        &mut self,
        queue: QueueIndex,
        contested: &[ResourceId],
        less: &[(ResourceId, i64)],
    ) -> bool {
        contested.iter().any(|resource| {
            let deserved = self.deserved_milli(queue, *resource);
            let Some(column) = self.column(*resource) else { return false };
            let held = (column.allocated(queue) - requested(less, *resource)) * 1000;
            held > deserved || is_made(Fault::AboveOrEqual) && held == deserved
        })
    }

    /// The order of the claims of two siblings; `Less`: `a` goes first. Queue priority, higher
    /// first; then the greatest part of a share that would be held, max over requested resources
    /// of (allocated + extra) / D, less first; then decayed usage / weight, less first. After
    /// that they are equal, and pod priority and age decide.
    ///
    /// The parts are compared exactly; without any share the part is infinite.
    /// O(resources) and the cost of [`Self::deserved_milli`].
    pub fn compare(
        &mut self,
        a: QueueIndex,
        a_extra: &[(ResourceId, i64)],
        b: QueueIndex,
        b_extra: &[(ResourceId, i64)],
    ) -> Ordering {
        let priority = |queue| self.tree.node(queue).priority;
        let by_priority = priority(b).cmp(&priority(a));
        if by_priority != Ordering::Equal {
            return by_priority;
        }
        let parts = (self.part(a, a_extra), self.part(b, b_extra));
        compare_parts(parts.0, parts.1).then_with(|| {
            let weighted = |queue| self.usage(queue) / f64::from(self.tree.node(queue).weight);
            weighted(a).total_cmp(&weighted(b))
        })
    }

    /// max of (allocated + extra) / D as a fraction; 0 / 1 if nothing accounted is requested.
    fn part(&mut self, queue: QueueIndex, extra: &[(ResourceId, i64)]) -> (i128, i128) {
        let mut most = (0, 1);
        for (resource, amount) in extra.iter().filter(|(_, amount)| *amount > 0) {
            if !self.is_accounted(*resource) {
                continue;
            }
            let deserved = self.deserved_milli(queue, *resource);
            let allocated = self.column(*resource).map_or(0, |column| column.allocated(queue));
            let part = (allocated + i128::from(*amount), deserved);
            if compare_parts(part, most) == Ordering::Greater {
                most = part;
            }
        }
        most
    }

    /// Decayed usage of a queue and all below it now, in weighted resource-seconds. O(resources
    /// with a factor).
    #[must_use]
    pub fn usage(&self, queue: QueueIndex) -> f64 {
        self.usage.amount(queue, self.flow(queue))
    }
}

/// Compares `a.0 / a.1` with `b.0 / b.1`, of positive numerators or zero; over 0: infinite.
fn compare_parts(a: (i128, i128), b: (i128, i128)) -> Ordering {
    match (a.1 == 0, b.1 == 0) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    if let (Some(left), Some(right)) = (a.0.checked_mul(b.1), b.0.checked_mul(a.1)) {
        return left.cmp(&right);
    }
    // too wide to multiply: by whole parts, then by what remains, upside down
    let whole = (a.0 / a.1).cmp(&(b.0 / b.1));
    let (a_rest, b_rest) = (a.0 % a.1, b.0 % b.1);
    match whole {
        Ordering::Equal if a_rest == 0 || b_rest == 0 => a_rest.cmp(&b_rest),
        Ordering::Equal => compare_parts((b.1, b_rest), (a.1, a_rest)),
        decided => decided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_compare_exactly_however_wide() {
        let huge = i128::MAX;
        let cases = [
            ((1, 2), (2, 4), Ordering::Equal),
            ((1, 3), (333, 1000), Ordering::Greater),
            ((5, 0), (huge, 1), Ordering::Greater),
            ((1, 0), (0, 0), Ordering::Equal),
            ((huge, huge - 1), (huge - 1, huge - 2), Ordering::Less),
            ((huge - 1, huge), (huge - 2, huge - 1), Ordering::Greater),
            ((huge, 2), (huge, 3), Ordering::Greater),
            ((huge, huge), (7, 7), Ordering::Equal),
            ((0, huge), (1, huge), Ordering::Less),
        ];
        for (a, b, expected) in cases {
            assert_eq!(compare_parts(a, b), expected, "{a:?} {b:?}");
            assert_eq!(compare_parts(b, a), expected.reverse(), "{b:?} {a:?}");
        }
    }
}
