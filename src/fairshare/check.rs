//! What is wrong with a declared tree, and its queues in the order of the index.

use super::accounts;
use crate::model::quantity::VALUE_MAX;
use crate::model::queue::{DEFAULT_QUEUE, DEPTH_MAX, QUEUES_MAX, WEIGHT_MAX};
use crate::model::{NarrowedName, QueueSpec, ResourceList};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// Name of the root: the whole cluster. No queue may be called so; a queue that names it as its
/// parent is a child of the root, as one that names no parent.
pub const ROOT: &str = "root";

/// Guarantees of the root's children together, in base units. With it, every product in the
/// division of shares stays below 2^127.
const GUARANTEES_MAX: i128 = 1 << 60;

/// Why a declared tree is refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreeFault {
    /// The queue at fault.
    pub queue: Box<str>,
    /// What is wrong and what to do.
    pub problem: String,
}

impl std::fmt::Display for TreeFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "queue {}: {}", self.queue, self.problem)
    }
}

impl std::error::Error for TreeFault {}

/// A queue with its place in the tree.
#[derive(Debug)]
pub(super) struct Arranged {
    pub(super) spec: QueueSpec,
    /// Position of its parent; its own at the root.
    pub(super) parent: usize,
    pub(super) depth: usize,
    /// Its children are consecutive.
    pub(super) children: std::ops::Range<usize>,
}

/// Checks the declared queues and arranges them by breadth: the root, then parents before
/// children, siblings next to each other in the order of their names. Adds the default queue.
/// O(queues log queues x resources).
pub(super) fn arrange(specs: &[QueueSpec]) -> Result<Vec<Arranged>, Vec<TreeFault>> {
    if specs.len() > QUEUES_MAX {
        let problem = format!(
            "{} queues are declared, {QUEUES_MAX} are possible: declare fewer; users need no queue",
            specs.len()
        );
        return Err(vec![TreeFault { queue: ROOT.into(), problem }]);
    }
    let mut faults = Faults::default();
    let fallback = QueueSpec::default();
    let mut by_name = Specs::default();
    for spec in specs {
        faults.check_alone(spec);
        if by_name.insert(&spec.name, spec).is_some() {
            faults.add(spec, "it is declared more than once: give each a name of its own".into());
        }
    }
    by_name.entry(DEFAULT_QUEUE).or_insert(&fallback);
    let mut children = Children::default();
    for spec in by_name.values() {
        children.entry(parent_of(spec)).or_default().push(spec);
    }
    faults.check_shape(&by_name, &children);
    for (parent, below) in &children {
        faults.check_guarantees(by_name.get(parent).copied(), below);
    }
    if faults.0.is_empty() {
        Ok(by_breadth(children))
    } else {
        faults.0.sort();
        faults.0.dedup();
        Err(faults.0)
    }
}

/// Whether a weight is possible.
pub(super) fn is_weight(weight: u32) -> bool {
    (1..=WEIGHT_MAX).contains(&weight)
}

/// Declared queues by name.
type Specs<'a> = FxHashMap<&'a str, &'a QueueSpec>;
/// Queues by the name of their parent.
type Children<'a> = FxHashMap<&'a str, Vec<&'a QueueSpec>>;

/// Name of the parent.
fn parent_of(spec: &QueueSpec) -> &str {
    spec.parent.as_deref().unwrap_or(ROOT)
}

fn by_breadth(mut children: Children) -> Vec<Arranged> {
    let root = QueueSpec { name: ROOT.into(), ..QueueSpec::default() };
    let mut arranged = vec![Arranged { spec: root, parent: 0, depth: 0, children: 0..0 }];
    let mut at = 0;
    while at < arranged.len() {
        let mut below = children.remove(&*arranged[at].spec.name).unwrap_or_default();
        below.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let depth = arranged[at].depth + 1;
        let first = arranged.len();
        arranged.extend(below.into_iter().map(|spec| Arranged {
            spec: spec.clone(),
            parent: at,
            depth,
            children: 0..0,
        }));
        arranged[at].children = first..arranged.len();
        at += 1;
    }
    arranged
}

/// The amount that a list names for a resource.
pub(super) fn amount(list: &ResourceList, resource: &str) -> Option<i64> {
    list.iter().find(|(name, _)| &**name == resource).map(|(_, amount)| *amount)
}

#[derive(Default)]
struct Faults(Vec<TreeFault>);

impl Faults {
    fn add(&mut self, spec: &QueueSpec, problem: String) {
        self.0.push(TreeFault { queue: spec.name.clone(), problem });
    }

    fn check_alone(&mut self, spec: &QueueSpec) {
        if &*spec.name == ROOT {
            self.add(spec, format!("{ROOT} names the whole cluster: choose another name"));
        }
        if spec.name.is_empty() || spec.name.contains('/') {
            self.add(spec, "a name is not empty and has no slash: choose another name".into());
        }
        let weights =
            [("weight", Some(spec.weight)), ("over_quota_weight", spec.over_quota_weight)];
        for (field, weight) in weights {
            if weight.is_some_and(|weight| !is_weight(weight)) {
                let hint = "to keep a queue from room beyond its guarantee set a borrow limit of 0";
                self.add(spec, format!("{field} must be 1 to {WEIGHT_MAX}; {hint}"));
            }
        }
        let lists = [
            ("quota", &spec.quota),
            ("limit", &spec.limit),
            ("lend_limit", &spec.lend_limit),
            ("borrow_limit", &spec.borrow_limit),
        ];
        for (field, list) in lists {
            for (resource, amount) in list {
                if !(0..=VALUE_MAX).contains(amount) {
                    let range = format!("0 to {VALUE_MAX}");
                    self.add(spec, format!("{field} of {resource} is {amount}, must be {range}"));
                }
                if !accounts(resource) {
                    let problem = format!("{field} names {resource}, which queues do not share");
                    self.add(spec, format!("{problem}: remove it"));
                }
            }
        }
        self.check_narrowed(spec);
        for (resource, limit) in &spec.limit {
            let guarantee = amount(&spec.quota, resource).unwrap_or(0);
            if *limit < guarantee {
                let problem = format!("limit {limit} of {resource} is below its quota {guarantee}");
                self.add(spec, format!("{problem}: raise the limit or lower the quota"));
            }
        }
    }

    /// Guarantees of narrowed resources against that of the resource: what is not deserved in all
    /// cannot be in part.
    fn check_narrowed(&mut self, spec: &QueueSpec) {
        let mut sums: BTreeMap<(&str, &str), i128> = BTreeMap::new();
        for (name, amount) in &spec.quota {
            if let Some(NarrowedName { resource, key, .. }) = NarrowedName::parse(name) {
                *sums.entry((resource, key)).or_default() += i128::from(*amount);
            }
        }
        for ((resource, key), sum) in sums {
            let quota = amount(&spec.quota, resource).unwrap_or(0);
            if sum > i128::from(quota) {
                let problem = format!("quotas of {resource} by {key} add up to {sum}");
                let problem = format!("{problem}, above that of {resource}, {quota}");
                self.add(spec, format!("{problem}: raise it to {sum} or lower them"));
            }
        }
    }

    /// Depth from the root down, and what hangs on no root. O(queues).
    fn check_shape<'a>(&mut self, by_name: &Specs<'a>, children: &Children<'a>) {
        let mut seen: FxHashMap<&str, usize> = FxHashMap::default();
        let mut level = vec![ROOT];
        let mut depth = 0;
        while !level.is_empty() {
            depth += 1;
            let below = level.iter().filter_map(|name| children.get(name)).flatten();
            let below = below.filter(|spec| seen.insert(&spec.name, 0).is_none());
            let below: Vec<&QueueSpec> = below.copied().collect();
            for spec in below.iter().filter(|_| depth >= DEPTH_MAX) {
                // its users are one below it
                let problem = format!("it is {depth} levels below the root");
                self.add(spec, format!("{problem}, {} at most: hang it higher", DEPTH_MAX - 1));
            }
            level = below.into_iter().map(|spec| &*spec.name).collect();
        }
        for (walk, start) in by_name.values().enumerate() {
            let mut spec = *start;
            // towards the root, as far as no walk went before
            while !seen.contains_key(&*spec.name) {
                seen.insert(&spec.name, walk + 1);
                let parent = parent_of(spec);
                match by_name.get(parent) {
                    Some(above) => spec = above,
                    None => {
                        let problem = format!("its parent {parent} is not declared");
                        self.add(spec, format!("{problem}: declare it, or name no parent"));
                        break;
                    }
                }
                if seen.get(&*spec.name) == Some(&(walk + 1)) {
                    self.add_cycle(spec, by_name);
                }
            }
        }
    }

    /// Tells every queue of a cycle, given one of them.
    fn add_cycle(&mut self, start: &QueueSpec, by_name: &Specs) {
        let mut spec = start;
        loop {
            self.add(spec, "it is an ancestor of itself: give it another parent".into());
            spec = by_name[parent_of(spec)];
            if spec.name == start.name {
                return;
            }
        }
    }

    /// The guarantees of siblings against that of their parent; `None`: the root, or unknown.
    fn check_guarantees(&mut self, parent: Option<&QueueSpec>, children: &[&QueueSpec]) {
        let mut sums: BTreeMap<&str, i128> = BTreeMap::new();
        for (resource, amount) in children.iter().flat_map(|child| &child.quota) {
            *sums.entry(resource).or_default() += i128::from(*amount);
        }
        for (resource, sum) in sums {
            let Some(parent) = parent else {
                if sum > GUARANTEES_MAX {
                    let problem = format!("quotas of {resource} below the root add up to {sum}");
                    let problem = format!("{problem}, {GUARANTEES_MAX} at most: lower them");
                    self.0.push(TreeFault { queue: ROOT.into(), problem });
                }
                continue;
            };
            let quota = amount(&parent.quota, resource).unwrap_or(0);
            if sum > i128::from(quota) {
                let limit = amount(&parent.limit, resource).map(i128::from);
                let beyond = limit.filter(|limit| sum > *limit);
                let and_limit = beyond.map_or(String::new(), |l| format!(" and its limit {l}"));
                let problem = format!("quotas of {resource} of its children add up to {sum}");
                let problem = format!("{problem}, above its own {quota}{and_limit}");
                self.add(parent, format!("{problem}: lower them or raise its own"));
            }
        }
    }
}
