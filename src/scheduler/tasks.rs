//! Task groups: parts of a gang with minima of their own.
//!
//! Which members a part lacks is decided by [`Scheduler::required`]: they are placed like headers,
//! without which nothing is. What a part has above its minimum may be evicted singly, as far as the
//! gang has members above its own.

use super::Scheduler;
use super::pods::{PodEntry, PodState};
use crate::cluster::PodIndex;
use crate::model::fault::{Fault, is_made};
use crate::placement::{TaskSpares, weight};
use crate::queue::{GroupIndex, PodGroup, TaskGroup};
use smallvec::SmallVec;

/// The parts of a gang, as they are counted, and what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    pub(super) found: Vec<TaskGroup>,
    pub(super) conflict: Option<String>,
}

impl Tasks {
    /// Counts a member of a part.
    pub(super) fn count(&mut self, pod: &PodEntry, waiting: bool, settled: bool) {
        let Some(said) = pod.task.as_deref() else { return };
        let known = self.found.iter().position(|task| task.name == said.name);
        let place = known.unwrap_or_else(|| {
            let (name, min, topology) = (said.name.clone(), said.min, said.topology.clone());
            self.found.push(TaskGroup { name, min, settled: 0, waiting: 0, topology });
            self.found.len() - 1
        });
        let task = &mut self.found[place];
        task.waiting += u32::from(waiting);
        task.settled += u32::from(settled);
        if task.min != said.min && self.conflict.is_none() {
            let (name, one, other) = (&said.name, task.min, said.min);
            self.conflict = Some(format!("task-group-min of {name} is {one} and {other}"));
        }
        if task.topology != said.topology && self.conflict.is_none() {
            let name = &said.name;
            self.conflict =
                Some(format!("in task group {name} they ask different things of the topology"));
        }
    }

    /// Keeps a part in mind of which nobody is left for the moment.
    pub(super) fn remember(&mut self, known: &[TaskGroup]) {
        for task in known {
            if self.found.iter().all(|found| found.name != task.name) {
                self.found.push(TaskGroup { settled: 0, waiting: 0, ..task.clone() });
            }
        }
    }

    /// What is wrong with the minima together.
    pub(super) fn too_many(&self, max_member: u32) -> Option<String> {
        let all: u64 = self.found.iter().map(|task| u64::from(task.min)).sum();
        (all > u64::from(max_member))
            .then(|| format!("the minima of their task groups are {all}, max-member {max_member}"))
    }

    /// The first part that has too few members.
    pub(super) fn lacking(&self) -> Option<(&str, u32, u32)> {
        let countable = |task: &TaskGroup| task.settled + task.waiting;
        let lacking = self.found.iter().find(|task| countable(task) < task.min)?;
        Some((&lacking.name, countable(lacking), lacking.min))
    }
}

impl Scheduler {
    /// Waiting members without which a part would lack its minimum, ascending: headers first, then
    /// the least demanding, then the oldest. Nobody for a gang without parts.
    pub(super) fn required(&self, index: GroupIndex) -> SmallVec<[PodIndex; 4]> {
        let group = self.groups.get(index);
        let mut required: SmallVec<[PodIndex; 4]> = SmallVec::new();
        for task in group.tasks.iter().filter(|task| task.needed() > 0) {
            let mut waiting = self.waiting_of(group, task);
            waiting.sort_by_cached_key(|at| {
                let pod = self.pods.get(*at);
                (!pod.header, weight(&self.cluster, pod.class), pod.created, pod.name.clone())
            });
            required.extend(waiting.into_iter().take(task.needed() as usize));
        }
        required.sort_unstable();
        required
    }

    fn waiting_of(&self, group: &PodGroup, task: &TaskGroup) -> Vec<PodIndex> {
        let members = group.members.iter().copied().filter(|at| {
            let pod = self.pods.get(*at);
            let own = pod.task.as_ref().is_some_and(|said| said.name == task.name);
            own && pod.state == PodState::Waiting
        });
        members.collect()
    }

    /// How many waiting members must be placed for the parts, with the headers, as none is placed
    /// without them.
    pub(super) fn needed_by_tasks(&self, index: GroupIndex) -> u32 {
        let group = self.groups.get(index);
        if group.tasks.iter().all(|task| task.needed() == 0) || is_made(Fault::TaskLeftOut) {
            return 0;
        }
        let required = self.required(index);
        // those that do not exist yet count too
        let parts: u32 = group.tasks.iter().map(TaskGroup::needed).sum();
        let headers = group.members.iter().filter(|at| {
            let pod = self.pods.get(**at);
            pod.header && pod.state == PodState::Waiting && required.binary_search(at).is_err()
        });
        parts + u32::try_from(headers.count()).expect("groups are bounded")
    }

    /// What may go singly of each part of a gang, and to which each of `pods` belongs.
    pub(super) fn task_spares(&self, index: GroupIndex, pods: &[PodIndex]) -> TaskSpares {
        let group = self.groups.get(index);
        if group.tasks.is_empty() {
            return TaskSpares::default();
        }
        let less = u32::from(is_made(Fault::TaskMinimumIgnored));
        let above = |task: &TaskGroup| task.settled.saturating_sub(task.min.saturating_sub(less));
        // the last is of those that belong to no part
        let spare = group.tasks.iter().map(above).chain([u32::MAX]).collect();
        let place = |pod: &PodEntry| pod.task.as_ref().and_then(|task| group.task(&task.name));
        let pods = pods.iter().map(|pod| self.pods.get(*pod));
        let of = pods.map(|pod| place(pod).unwrap_or(group.tasks.len())).collect();
        TaskSpares { spare, of }
    }

    /// Whether the parts of a gang keep their minima without these members.
    pub(super) fn tasks_spare(&self, index: GroupIndex, pods: &[PodIndex]) -> bool {
        let group = self.groups.get(index);
        group.tasks.iter().all(|task| {
            let of = |at: &&PodIndex| {
                let said = self.pods.get(**at).task.as_ref();
                said.is_some_and(|said| said.name == task.name)
            };
            let taken = pods.iter().filter(of).count();
            taken == 0 || task.settled as usize >= task.min as usize + taken
        })
    }

    /// Whether the parts of a gang have their minima with these members.
    pub(super) fn tasks_met(&self, index: GroupIndex, mut placed: Vec<PodIndex>) -> bool {
        placed.sort_unstable();
        let group = self.groups.get(index);
        group.tasks.iter().filter(|task| task.needed() > 0).all(|task| {
            let waiting = self.waiting_of(group, task);
            let placed = waiting.iter().filter(|at| placed.binary_search(at).is_ok());
            placed.count() >= task.needed() as usize
        })
    }

    /// GPUs of the least demanding members that make the minimum, and those of the parts.
    pub(super) fn gpus_needed(&self, index: GroupIndex) -> i64 {
        let group = self.groups.get(index);
        let mut members: Vec<(i64, Option<&str>)> = group
            .members
            .iter()
            .map(|member| {
                let pod = self.pods.get(*member);
                let requests = self.cluster.class(pod.class).requests.iter();
                let is_gpu = |resource| self.cluster.resources().is_gpu(resource);
                let gpus = requests.filter(|(r, _)| is_gpu(*r)).map(|(_, amount)| *amount);
                (gpus.sum(), pod.task.as_ref().map(|task| &*task.name))
            })
            .collect();
        members.sort_unstable();
        let mut needed = Vec::new();
        for task in &group.tasks {
            for _ in 0..task.min {
                let own = members.iter().position(|(_, part)| *part == Some(&*task.name));
                needed.extend(own.map(|place| members.remove(place).0));
            }
        }
        let more = (group.min_member as usize).saturating_sub(needed.len());
        needed.extend(members.iter().take(more).map(|(gpus, _)| *gpus));
        needed.iter().sum()
    }
}
