//! One accounted resource: what queues hold and ask for, and what they deserve of it.
//!
//! Charges change the ledger at once and only note the leaf. A question about shares first brings
//! the shares up to date: E climbs from the noted leaves as far as it changes, then the queues
//! below which something changed divide their room again, from the root down. A pod that turns
//! from pending into running changes no demand, so it costs nothing here.

use super::check::amount;
use super::deal::{Claim, Scratch, deal};
use super::tree::{QueueIndex, Tree};

/// What is declared of a queue, in base units.
#[derive(Clone, Copy, Debug)]
struct Terms {
    guarantee: i64,
    /// min(limit, guarantee + borrow limit).
    ceiling: i64,
    lend: i64,
}

impl Terms {
    /// Of users, and of queues that say nothing about the resource.
    const NONE: Self = Self { guarantee: 0, ceiling: i64::MAX, lend: i64::MAX };
}

/// What a queue holds and asks for, in base units.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// With everything below.
    allocated: i128,
    /// With everything below.
    pending: i128,
    /// Both, charged to this very slot.
    own: i128,
}

/// What follows, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    /// The own demand that E was computed from.
    own: i128,
    /// Sum of the children's E.
    below: i128,
    /// E.
    wish: i128,
    /// D.
    deserved: i128,
}

/// Buffers shared by all columns.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    claims: Vec<Claim>,
    scratch: Scratch,
}

#[derive(Debug)]
pub(super) struct Column {
    capacity: i64,
    /// `[queue]`
    terms: Vec<Terms>,
    /// `[queue]`: the most one of its users may hold
    user_ceilings: Vec<i64>,
    /// `[slot]`
    held: Vec<Held>,
    /// `[slot]`
    shares: Vec<Share>,
    /// slots whose own demand changed, each once
    touched: Vec<QueueIndex>,
    /// `[slot]`
    is_touched: Vec<bool>,
    /// `[queue]`: its room must be divided again
    stale: Vec<bool>,
    /// no queue before it is stale
    stale_from: usize,
    /// `[queue]`: idle guarantees of its children that may not be lent, in thousandths
    withheld: Vec<i128>,
    /// some queue has a lend limit
    is_kept: bool,
}

impl Column {
    /// The column of a resource by name; an unknown name has no terms. O(slots).
    pub(super) fn new(tree: &Tree, resource: Option<&str>, capacity: i64) -> Self {
        let mut column = Self {
            capacity,
            terms: vec![Terms::NONE; tree.declared()],
            user_ceilings: vec![i64::MAX; tree.declared()],
            held: vec![Held::default(); tree.slots()],
            shares: vec![Share::default(); tree.slots()],
            touched: Vec::new(),
            is_touched: vec![false; tree.slots()],
            stale: vec![false; tree.declared()],
            stale_from: tree.declared(),
            withheld: vec![0; tree.declared()],
            is_kept: false,
        };
        column.set_capacity(capacity);
        if let Some(resource) = resource {
            column.set_terms(tree, resource);
        }
        column
    }

    /// Reads what the queues say about the resource. O(queues).
    pub(super) fn set_terms(&mut self, tree: &Tree, resource: &str) {
        for (terms, spec) in self.terms.iter_mut().zip(tree.specs()) {
            let guarantee = amount(&spec.quota, resource).unwrap_or(0);
            let borrow = amount(&spec.borrow_limit, resource);
            let limit = amount(&spec.limit, resource).unwrap_or(i64::MAX);
            let with_borrowed = borrow.map_or(i64::MAX, |borrow| guarantee.saturating_add(borrow));
            let lend = amount(&spec.lend_limit, resource).unwrap_or(i64::MAX);
            *terms = Terms { guarantee, ceiling: limit.min(with_borrowed), lend };
        }
        self.is_kept = self.terms.iter().any(|terms| terms.lend < terms.guarantee);
        for (ceiling, spec) in self.user_ceilings.iter_mut().zip(tree.specs()) {
            *ceiling = amount(&spec.user_limit, resource).unwrap_or(i64::MAX);
        }
        for queue in (0..self.held.len()).map(QueueIndex::at) {
            self.settle(tree, queue);
        }
        self.stale.fill(true);
        self.stale_from = 0;
    }

    /// Room for the slots of the tree.
    pub(super) fn grow(&mut self, slots: usize) {
        if self.held.len() < slots {
            self.held.resize(slots, Held::default());
            self.shares.resize(slots, Share::default());
            self.is_touched.resize(slots, false);
        }
    }

    pub(super) fn set_capacity(&mut self, capacity: i64) {
        self.capacity = capacity.max(0);
        self.shares[0].deserved = i128::from(self.capacity) * 1000;
        self.mark(QueueIndex::ROOT);
    }

    /// Charges a leaf. O(depth).
    pub(super) fn charge(&mut self, tree: &Tree, leaf: QueueIndex, amount: i128) {
        for queue in tree.path(leaf) {
            self.held[queue.index()].allocated += amount;
        }
        self.touch(leaf, amount);
    }

    /// Counts pending demand of a leaf. O(depth).
    pub(super) fn pend(&mut self, tree: &Tree, leaf: QueueIndex, amount: i128) {
        for queue in tree.path(leaf) {
            self.held[queue.index()].pending += amount;
        }
        self.touch(leaf, amount);
    }

    fn touch(&mut self, leaf: QueueIndex, amount: i128) {
        let held = &mut self.held[leaf.index()];
        held.own += amount;
        debug_assert!(held.own >= 0 && held.allocated >= 0 && held.pending >= 0, "{held:?}");
        if !std::mem::replace(&mut self.is_touched[leaf.index()], true) {
            self.touched.push(leaf);
        }
    }

    /// Forgets everything charged and pending. O(slots).
    pub(super) fn forget(&mut self) {
        self.held.fill(Held::default());
        self.shares[1..].fill(Share::default());
        self.shares[0] = Share { deserved: self.shares[0].deserved, ..Share::default() };
        self.touched.clear();
        self.is_touched.fill(false);
    }

    /// Ends a slot that holds and asks for nothing. O(depth).
    pub(super) fn clear(&mut self, tree: &Tree, slot: QueueIndex) {
        self.settle(tree, slot);
        self.shares[slot.index()].deserved = 0;
    }

    pub(super) fn is_charged(&self, queue: QueueIndex) -> bool {
        let held = &self.held[queue.index()];
        held.allocated != 0 || held.pending != 0
    }

    pub(super) fn allocated(&self, queue: QueueIndex) -> i128 {
        self.held[queue.index()].allocated
    }

    pub(super) fn demand(&self, queue: QueueIndex) -> i128 {
        let held = &self.held[queue.index()];
        held.allocated + held.pending
    }

    /// That of users is 0.
    pub(super) fn guarantee(&self, queue: QueueIndex) -> i128 {
        self.terms.get(queue.index()).map_or(0, |terms| i128::from(terms.guarantee))
    }

    /// min(limit, guarantee + borrow limit), or the limit of a user; `None`: none is declared.
    pub(super) fn ceiling(&self, tree: &Tree, queue: QueueIndex) -> Option<i128> {
        let ceiling = self.terms(tree, queue).ceiling;
        (ceiling != i64::MAX).then(|| i128::from(ceiling))
    }

    fn terms(&self, tree: &Tree, queue: QueueIndex) -> Terms {
        self.terms.get(queue.index()).copied().unwrap_or_else(|| {
            let above = tree.parent(queue).map_or(0, QueueIndex::index);
            Terms { ceiling: self.user_ceilings[above], ..Terms::NONE }
        })
    }

    /// D in thousandths, as of the last [`Self::refresh`].
    pub(super) fn deserved(&self, queue: QueueIndex) -> i128 {
        self.shares[queue.index()].deserved
    }

    /// Brings a slot's E, and that of the queues above, in line with its demand. O(depth).
    pub(super) fn settle(&mut self, tree: &Tree, slot: QueueIndex) {
        self.shares[slot.index()].own = self.held[slot.index()].own * 1000;
        let mut queue = slot;
        loop {
            let ceiling = if tree.is_shut(queue) { 0 } else { self.terms(tree, queue).ceiling };
            let ceiling = i128::from(ceiling) * 1000;
            let share = &mut self.shares[queue.index()];
            let wish = (share.own + share.below).min(ceiling);
            let change = wish - std::mem::replace(&mut share.wish, wish);
            let Some(parent) = tree.parent(queue).filter(|_| change != 0) else { return };
            self.shares[parent.index()].below += change;
            self.mark(parent);
            queue = parent;
        }
    }

    /// Has a queue's room divided again.
    pub(super) fn mark(&mut self, queue: QueueIndex) {
        self.stale[queue.index()] = true;
        self.stale_from = self.stale_from.min(queue.index());
    }

    /// Brings all shares up to date. O(changed leaves x depth + children of the queues whose room
    /// or children changed, sorted), and a look at one flag per queue.
    pub(super) fn refresh(&mut self, tree: &Tree, buffers: &mut Buffers) {
        while let Some(slot) = self.touched.pop() {
            self.is_touched[slot.index()] = false;
            self.settle(tree, slot);
        }
        while self.stale_from < self.stale.len() {
            let index = self.stale_from;
            self.stale_from += 1;
            if std::mem::replace(&mut self.stale[index], false) {
                self.divide(tree, QueueIndex::at(index), buffers);
            }
        }
    }

    /// What a queue keeps of its guarantee though it does not ask for it, in thousandths.
    fn kept_by(&self, queue: QueueIndex) -> i128 {
        let terms = self.terms.get(queue.index()).copied().unwrap_or(Terms::NONE);
        let idle = i128::from(terms.guarantee) * 1000 - self.shares[queue.index()].wish;
        (idle - i128::from(terms.lend) * 1000).max(0)
    }

    /// Whether any queue may keep what it does not ask for.
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// What the siblings of a queue keep of their guarantees without asking for it, in thousandths,
    /// as of the last [`Self::refresh`].
    pub(super) fn kept_beside(&self, tree: &Tree, queue: QueueIndex) -> i128 {
        let parent = tree.parent(queue);
        parent.map_or(0, |parent| self.withheld[parent.index()] - self.kept_by(queue))
    }

    /// Divides a queue's room among its children.
    fn divide(&mut self, tree: &Tree, queue: QueueIndex, buffers: &mut Buffers) {
        let claims = &mut buffers.claims;
        claims.clear();
        let mut withheld = 0;
        for child in tree.children(queue) {
            let terms = self.terms(tree, child);
            withheld += self.kept_by(child);
            let share = &mut self.shares[child.index()];
            if share.wish > 0 {
                let node = tree.node(child);
                claims.push(Claim {
                    queue: child.index(),
                    wish: share.wish,
                    guarantee: terms.guarantee,
                    weight: node.surplus_weight,
                    priority: node.priority,
                    deserved: 0,
                });
            } else if std::mem::take(&mut share.deserved) != 0 && tree.has_children(child) {
                // below it somebody may ask on: it is shut
                self.mark(child);
            }
        }
        let room = self.shares[queue.index()].deserved;
        self.withheld[queue.index()] = withheld;
        deal(room, withheld, claims, &mut buffers.scratch);
        for claim in claims.iter() {
            let share = &mut self.shares[claim.queue];
            if std::mem::replace(&mut share.deserved, claim.deserved) != claim.deserved {
                let child = QueueIndex::at(claim.queue);
                if tree.has_children(child) {
                    self.mark(child);
                }
            }
        }
    }
}
