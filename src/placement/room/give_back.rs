//! Giving back what can be spared, so that the victim set is inclusion-minimal.

use super::{Search, Taken, Unit};
use crate::cluster::{ClassId, NodeIndex};
use crate::model::fault::{Fault, is_made};
use smallvec::SmallVec;
use std::cmp::Reverse;

impl Search<'_> {
    /// Gives back what the class can spare.
    pub(super) fn give_back(&mut self) {
        let may = |search: &Self, taken: &Taken| search.most_with(taken) >= search.needed;
        self.give_back_those(may, |search| search.total >= search.needed);
    }

    /// Gives back every unit without which it is still `enough`: whole gangs first, the highest
    /// rank first.
    pub(super) fn give_back_while(&mut self, enough: impl FnMut(&mut Self) -> bool) {
        self.give_back_those(|_, _| true, enough);
    }

    /// Without a unit that `may` not be spared it would not be enough.
    fn give_back_those(
        &mut self,
        may: impl Fn(&Self, &Taken) -> bool,
        mut enough: impl FnMut(&mut Self) -> bool,
    ) {
        if is_made(Fault::NothingSpared) {
            return;
        }
        let mut units = std::mem::take(&mut self.units);
        // of single members the last that was taken
        units.reverse();
        units.sort_by_key(|taken| match taken.unit {
            Unit::Gang(place) => (false, Reverse(self.candidates[place].rank)),
            Unit::Elastic(place, _) => (true, Reverse(self.candidates[place].class_rank())),
        });
        let mut ended: Vec<bool> = vec![false; self.candidates.len()];
        for mut taken in units {
            // a member of a gang that goes whole is no unit of its own, unless that is spared later
            if ended[taken.place()] {
                self.units.push(taken);
                continue;
            }
            if may(self, &taken) {
                self.put_back(&taken);
                if enough(self) && self.is_settled() {
                    continue;
                }
                taken = self.take(taken.unit);
            }
            ended[taken.place()] = matches!(taken.unit, Unit::Gang(_));
            self.units.push(taken);
        }
    }

    /// At most how many pods of the class fit once a unit is put back.
    fn most_with(&self, taken: &Taken) -> u32 {
        let candidate = &self.candidates[taken.place()];
        let pods = taken.pods.iter().map(|(_, at)| &candidate.pods[*at]);
        let mut pods: SmallVec<[(NodeIndex, ClassId); 16]> =
            pods.map(|pod| (pod.node, pod.class)).collect();
        pods.sort_unstable();
        let (mut before, mut after) = (0, 0);
        for here in pods.chunk_by(|a, b| a.0 == b.0) {
            let node = here[0].0;
            before += self.slots[node.index()];
            after += self.fits_moved(node, here, -1);
        }
        self.total - before + after
    }
}
