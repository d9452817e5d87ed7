//! Classes of interchangeable pods.

use super::{CPU, MEMORY, PODS, ResourceId, ResourceTable, is_gpu};
use crate::model::PodClass;
use crate::model::contract::{CPU_SLOTS, GPU_SLOTS};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;

/// Classes without a pod that are kept: what was asked for lately is asked for again, and what is
/// known of the nodes for it need not be found out anew.
const IDLE_MAX: usize = 256;

/// Dense index of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(u32);

impl ClassId {
    /// Index into tables kept per class.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A class with its requests resolved to known resources.
#[derive(Debug)]
pub struct Class {
    /// What the pods of the class share.
    pub spec: Arc<PodClass>,
    /// Requests of known resources, one of [`PODS`] and of a slot included.
    pub requests: SmallVec<[(ResourceId, i64); 5]>,
    /// Requested names that no node has ever offered.
    pub unknown: SmallVec<[Box<str>; 1]>,
    /// What scoring takes as its CPU request once it is on a node, in milli-CPU.
    pub scored_cpu: i64,
    /// What scoring takes as its memory request once it is on a node, in bytes.
    pub scored_memory: i64,
    /// Both while it is placed.
    asked: [i64; 2],
    /// Changes when the slot is reused or resolved anew: caches keep it to notice.
    pub epoch: u32,
    users: u32,
}

impl Class {
    /// Requested amount of a resource.
    #[must_use]
    pub fn request(&self, resource: ResourceId) -> i64 {
        self.requests.iter().find(|(r, _)| *r == resource).map_or(0, |(_, amount)| *amount)
    }

    /// What scoring takes as requested by a pod that is placed.
    #[must_use]
    pub fn asked(&self, resource: ResourceId) -> i64 {
        match resource {
            CPU => self.asked[0],
            MEMORY => self.asked[1],
            other => self.request(other),
        }
    }

    fn resolve(&mut self, resources: &ResourceTable) {
        self.requests.clear();
        self.unknown.clear();
        for (name, amount) in &self.spec.requests {
            match resources.find(name) {
                Some(resource) => self.requests.push((resource, *amount)),
                None => self.unknown.push(name.clone()),
            }
        }
        for way in resources.ways() {
            // what is not claimed a device plugin gives
            let amount = self.request(way.base) - self.request(way.by_claim);
            if amount > 0 {
                self.requests.push((way.by_plugin, amount));
            }
        }
        self.requests.push((PODS, 1));
        // pods of other schedulers, as those of daemon sets, take no slots
        let slot = self.spec.profile.and_then(|_| resources.find(slot(&self.spec)));
        self.requests.extend(slot.map(|slot| (slot, 1)));
        [self.scored_cpu, self.scored_memory] = self.spec.non_zero;
        self.asked = self.spec.non_zero_asked;
        self.epoch += 1;
    }
}

/// The kind of slot that a pod takes.
fn slot(spec: &PodClass) -> &'static str {
    let has_gpu = spec.requests.iter().any(|(name, amount)| *amount > 0 && is_gpu(name));
    if has_gpu { GPU_SLOTS } else { CPU_SLOTS }
}

#[derive(Debug, Default)]
pub(super) struct ClassTable {
    classes: Vec<Class>,
    by_spec: FxHashMap<Arc<PodClass>, ClassId>,
    /// those without a pod, the one that lost its last pod first in front
    idle: VecDeque<ClassId>,
}

impl ClassTable {
    pub(super) fn get(&self, class: ClassId) -> &Class {
        &self.classes[class.index()]
    }

    pub(super) fn in_use(&self) -> impl Iterator<Item = &Class> {
        self.classes.iter().filter(|class| class.users > 0)
    }

    pub(super) fn acquire(&mut self, spec: PodClass, resources: &ResourceTable) -> ClassId {
        if let Some(id) = self.by_spec.get(&spec).copied() {
            let class = &mut self.classes[id.index()];
            if class.users == 0 {
                self.idle.retain(|idle| *idle != id);
            }
            class.users += 1;
            return id;
        }
        let spec = Arc::new(spec);
        let forgotten = (self.idle.len() >= IDLE_MAX).then(|| self.idle.pop_front()).flatten();
        let id = forgotten.unwrap_or_else(|| {
            self.classes.push(Class {
                spec: spec.clone(),
                requests: SmallVec::new(),
                unknown: SmallVec::new(),
                scored_cpu: 0,
                scored_memory: 0,
                asked: [0; 2],
                epoch: 0,
                users: 0,
            });
            ClassId(u32::try_from(self.classes.len() - 1).expect("fewer classes than pods"))
        });
        if forgotten.is_some() {
            self.by_spec.remove(&self.classes[id.index()].spec);
        }
        let class = &mut self.classes[id.index()];
        class.spec = spec.clone();
        class.users = 1;
        class.resolve(resources);
        self.by_spec.insert(spec, id);
        id
    }

    pub(super) fn release(&mut self, id: ClassId) {
        let class = &mut self.classes[id.index()];
        class.users = class.users.checked_sub(1).expect("a class is released once per use");
        if class.users == 0 {
            self.idle.push_back(id);
        }
    }

    /// Resolves classes anew after names became known; `all`: a resource is given by two ways now.
    pub(super) fn resolve(&mut self, resources: &ResourceTable, all: bool) {
        for class in &mut self.classes {
            let slot = class.spec.profile.and_then(|_| resources.find(slot(&class.spec)));
            if all || !class.unknown.is_empty() || slot.is_some_and(|slot| class.request(slot) == 0)
            {
                class.resolve(resources);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(cpu: i64) -> PodClass {
        PodClass { requests: vec![("cpu".into(), cpu)], ..PodClass::default() }
    }

    #[test]
    fn a_class_is_kept_for_a_while_after_its_last_pod() {
        let (mut classes, resources) = (ClassTable::default(), ResourceTable::default());
        let first = classes.acquire(spec(0), &resources);
        let epoch = classes.get(first).epoch;
        classes.release(first);
        assert_eq!(classes.in_use().count(), 0);
        assert_eq!(classes.acquire(spec(0), &resources), first);
        assert_eq!(classes.get(first).epoch, epoch, "what was found out for it holds");
        classes.release(first);
        for cpu in 1..i64::try_from(IDLE_MAX).expect("small") {
            let class = classes.acquire(spec(cpu), &resources);
            classes.release(class);
        }
        let other = classes.acquire(spec(-1), &resources);
        assert_eq!(other, first, "the one that was idle for longest makes way");
        assert!(classes.get(first).epoch > epoch, "nothing found out before holds");
        assert_ne!(classes.acquire(spec(0), &resources), first);
    }
}
