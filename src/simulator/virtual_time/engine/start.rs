//! How a run begins: the lists that a scheduler reads first, and what is to happen later.

use super::{Engine, Happening, Setting};
use crate::config::core::topology_levels;
use crate::kubernetes::convert::levels::merged;
use crate::model::{Pod, Uid, WallTime};
use crate::scheduler::{Event, Kind, Leadership};
use crate::simulator::virtual_time::world::Stage;

/// The uids of pods that stand begin here, above those of all others.
const STANDING: u128 = 1 << 96;

/// A pod that stands on its node, since the node came for the so-manieth time.
pub(super) fn stands(pod: &Pod, number: u32, count: u32) -> Event {
    let uid = stands_as(number, count);
    Event::PodApplied(Box::new(Pod { uid, ..pod.clone() }))
}

pub(super) fn stands_as(number: u32, count: u32) -> Uid {
    Uid(STANDING | u128::from(count) << 32 | u128::from(number))
}

impl Engine<'_> {
    pub(super) fn start(&mut self, setting: &Setting) {
        let known = topology_levels(&self.world.inputs.configuration);
        let named = self.world.inputs.cluster.levels.iter().map(Vec::as_slice);
        let levels = merged(&known, named);
        if levels != known {
            self.hear(Event::LevelsFound(levels));
        }
        let queues = setting.queues.iter().cloned();
        let queues = queues.map(|spec| Event::QueueApplied(Box::new(spec))).collect();
        let nodes = setting.nodes.iter().cloned();
        let nodes = nodes.map(|node| Event::NodeApplied(Box::new(node))).collect();
        let mut pods = self.present();
        let standing = self.world.inputs.cluster.standing.iter().zip(0..);
        pods.extend(standing.map(|(pod, number)| stands(pod, number, 0)));
        let lists: [(Kind, Vec<Event>); 4] = [
            (Kind::Queue, queues),
            (Kind::Node, nodes),
            (Kind::Namespace, Vec::new()),
            (Kind::Pod, pods),
        ];
        for (kind, events) in lists {
            self.hear(Event::ListStarted(kind));
            events.into_iter().for_each(|event| self.hear(event));
            self.hear(Event::ListEnded(kind));
        }
        let wall: WallTime = self.world.inputs.start;
        self.hear(Event::Leading(Leadership { previous_renewal: wall, wall }));
        for (gang, index) in self.world.inputs.gangs.iter().zip(0..) {
            if !self.world.is_present(index) {
                self.at(gang.arrival_ms.max(0), Happening::Arrives { gang: index });
            }
        }
        self.foresee_failures();
    }

    /// The pods that are there before the run begins; those that are bound run.
    fn present(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for (spec, gang) in self.world.inputs.gangs.iter().zip(0..) {
            for (template, member) in spec.templates.iter().zip(0..) {
                let Some(before) = &template.before else { continue };
                let pod = self.world.create(0, gang, member);
                if let Some((node, at)) = &before.bound {
                    let seat = (self.world.node(node), template.given());
                    self.world.advance(*at, pod, Stage::Bound, Some(seat));
                    self.world.advance(0, pod, Stage::Running, None);
                    self.world.change(0, gang, 1);
                    let entry = self.world.gang(gang);
                    if entry.progress.runs() {
                        let first = entry.started_ms.get_or_insert(*at);
                        *first = (*first).max(*at);
                    }
                }
                events.push(Event::PodApplied(Box::new(self.world.object(pod))));
            }
            self.foresee(gang);
        }
        events
    }
}
