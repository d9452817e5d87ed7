//! Branch and bound over the units of a [`Model`]: a gang ends or does not, a pod goes singly or
//! does not.

use super::bound::Bound;
use super::model::Model;

/// What became of a gang or a pod on the way down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mark {
    Open,
    In,
    Out,
}

/// A decision: a gang ends, or a pod goes singly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Choice {
    Gang(u32),
    Pod(u32),
}

/// The effort is spent.
pub(super) struct Spent;

/// What is taken of a queue.
#[derive(Clone, Copy, Default)]
pub(super) struct Given {
    pub(super) sum: i64,
    pub(super) greatest: i64,
}

/// The state of a search on its way down.
pub(super) struct Tree<'a> {
    pub(super) model: &'a Model,
    /// gangs of levels beyond this one do not end
    pub(super) level: u32,
    /// `[node]`: free, by resource, and seats that this makes
    pub(super) free: Vec<super::model::Amounts>,
    pub(super) seats: Vec<u32>,
    pub(super) total: u32,
    pub(super) gangs: Vec<Mark>,
    pub(super) pods: Vec<Mark>,
    pub(super) gone: Vec<u32>,
    parts: Vec<Vec<u32>>,
    pub(super) given: Vec<Given>,
    budgets: Vec<i64>,
    /// the way down
    pub(super) taken: Vec<Choice>,
    greatest: Vec<(u32, i64)>,
    bound: Bound,
    effort: u64,
    effort_max: u64,
}

impl<'a> Tree<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        let free: Vec<_> = model.nodes.iter().map(|node| node.free.clone()).collect();
        let seats: Vec<u32> =
            model.nodes.iter().map(|node| model.seats(&node.free, node.most)).collect();
        Self {
            model,
            level: 0,
            total: seats.iter().sum(),
            free,
            seats,
            gangs: vec![Mark::Open; model.gangs.len()],
            pods: vec![Mark::Open; model.pods.len()],
            gone: vec![0; model.gangs.len()],
            parts: model.gangs.iter().map(|gang| gang.parts.clone()).collect(),
            given: vec![Given::default(); model.queues.len()],
            budgets: model.budgets.clone(),
            taken: Vec::new(),
            greatest: Vec::new(),
            bound: Bound::default(),
            effort: 0,
            effort_max: 0,
        }
    }

    /// Takes units until the claim is seated. `Ok(false)`: no units of this level do.
    pub(super) fn search(&mut self, level: u32, effort: u64) -> Result<bool, Spent> {
        self.level = level;
        self.effort_max = self.effort + effort;
        self.down()
    }

    fn down(&mut self) -> Result<bool, Spent> {
        if self.total >= self.model.needed {
            return Ok(true);
        }
        let mut bound = std::mem::take(&mut self.bound);
        let verdict = bound.judge(self);
        self.effort += bound.effort;
        bound.effort = 0;
        let choice = verdict.then(|| self.round(&bound.wanted));
        self.bound = bound;
        if self.effort > self.effort_max {
            return Err(Spent);
        }
        let choice = match choice {
            None => return Ok(false),
            Some(Err(())) => return Ok(true),
            Some(Ok(choice)) => choice,
        };
        let Some(choice) = choice else { return Ok(false) };
        if self.can_take(choice) {
            let start = self.taken.len();
            self.take(choice);
            let found = self.down();
            if !matches!(found, Ok(false)) {
                return found;
            }
            self.undo_to(start);
        }
        let marked = self.close(choice);
        let found = self.down();
        if matches!(found, Ok(false)) {
            for pod in marked {
                self.pods[pod as usize] = Mark::Open;
            }
            if let Choice::Gang(gang) = choice {
                self.gangs[gang as usize] = Mark::Open;
            }
        }
        found
    }

    /// Takes what the bound's answer wants, as far as it may be taken. `Err`: all are seated now;
    /// otherwise what is to be decided first, and nothing is taken.
    fn round(&mut self, wanted: &[(Choice, i64)]) -> Result<Option<Choice>, ()> {
        let start = self.taken.len();
        for (choice, _) in wanted {
            if self.can_take(*choice) {
                self.take(*choice);
                if self.total >= self.model.needed {
                    return Err(());
                }
            }
        }
        self.undo_to(start);
        Ok(wanted.first().map(|(choice, _)| *choice))
    }

    /// A choice is decided against, and with a pod all that are as good.
    fn close(&mut self, choice: Choice) -> Vec<u32> {
        match choice {
            Choice::Gang(gang) => {
                self.gangs[gang as usize] = Mark::Out;
                Vec::new()
            }
            Choice::Pod(pod) => {
                let known = &self.model.pods[pod as usize];
                let gang = &self.model.gangs[known.gang as usize];
                let alike = gang.singles().filter(|other| {
                    self.model.pods[*other].kind == known.kind && self.pods[*other] == Mark::Open
                });
                let alike: Vec<u32> = alike.map(|other| other as u32).collect();
                alike.iter().for_each(|other| self.pods[*other as usize] = Mark::Out);
                alike
            }
        }
    }

    /// Whether a gang may still end as a whole, shares aside.
    pub(super) fn is_whole(&self, gang: usize) -> bool {
        let known = &self.model.gangs[gang];
        known.whole
            && known.level <= self.level
            && self.gangs[gang] == Mark::Open
            && self.gone[gang] == 0
    }

    /// Whether a pod may still go singly, shares aside.
    pub(super) fn is_single(&self, pod: usize) -> bool {
        let known = &self.model.pods[pod];
        let gang = known.gang as usize;
        let part = known.part.is_none_or(|part| self.parts[gang][part as usize] > 0);
        let budget = known.budget.is_none_or(|budget| self.budgets[budget as usize] > 0);
        pod < self.model.gangs[gang].singles().end
            && self.pods[pod] == Mark::Open
            && self.gangs[gang] != Mark::In
            && self.gone[gang] < self.model.gangs[gang].spare
            && part
            && budget
    }

    /// Whether queues may give a unit of this size besides.
    pub(super) fn may_give(&self, gang: usize, size: i64) -> bool {
        self.model.gangs[gang].queues.iter().all(|queue| {
            let Given { sum, greatest } = self.given[*queue as usize];
            sum + size - greatest.max(size) <= self.model.queues[*queue as usize].room
        })
    }

    pub(super) fn can_take(&self, choice: Choice) -> bool {
        match choice {
            Choice::Gang(gang) => {
                let gang = gang as usize;
                self.is_whole(gang)
                    && self.may_give(gang, self.model.gangs[gang].size)
                    && self.budgets_admit(gang)
            }
            Choice::Pod(pod) => {
                let known = &self.model.pods[pod as usize];
                self.is_single(pod as usize)
                    && self.may_give(known.gang as usize, known.held[self.model.contested])
            }
        }
    }

    fn budgets_admit(&self, gang: usize) -> bool {
        let pods = &self.model.pods[self.model.gangs[gang].all()];
        let of = |budget| pods.iter().filter(|pod| pod.budget == Some(budget)).count() as i64;
        pods.iter()
            .filter_map(|pod| pod.budget)
            .all(|budget| of(budget) <= self.budgets[budget as usize])
    }

    pub(super) fn take(&mut self, choice: Choice) {
        let model = self.model;
        let (gang, size, pods) = match choice {
            Choice::Gang(gang) => {
                let known = &model.gangs[gang as usize];
                self.gangs[gang as usize] = Mark::In;
                (gang as usize, known.size, known.all())
            }
            Choice::Pod(pod) => {
                let known = &model.pods[pod as usize];
                let gang = known.gang as usize;
                self.pods[pod as usize] = Mark::In;
                self.gone[gang] += 1;
                known.part.iter().for_each(|part| self.parts[gang][*part as usize] -= 1);
                (gang, known.held[model.contested], pod as usize..pod as usize + 1)
            }
        };
        for queue in &model.gangs[gang].queues {
            let given = &mut self.given[*queue as usize];
            self.greatest.push((*queue, given.greatest));
            given.sum += size;
            given.greatest = given.greatest.max(size);
        }
        self.move_pods(pods, 1);
        self.taken.push(choice);
    }

    pub(super) fn undo_to(&mut self, start: usize) {
        let model = self.model;
        while self.taken.len() > start {
            let choice = self.taken.pop().expect("it is longer");
            let (gang, size, pods) = match choice {
                Choice::Gang(gang) => {
                    let known = &model.gangs[gang as usize];
                    self.gangs[gang as usize] = Mark::Open;
                    (gang as usize, known.size, known.all())
                }
                Choice::Pod(pod) => {
                    let known = &model.pods[pod as usize];
                    let gang = known.gang as usize;
                    self.pods[pod as usize] = Mark::Open;
                    self.gone[gang] -= 1;
                    known.part.iter().for_each(|part| self.parts[gang][*part as usize] += 1);
                    (gang, known.held[model.contested], pod as usize..pod as usize + 1)
                }
            };
            for _ in &model.gangs[gang].queues {
                let (queue, greatest) = self.greatest.pop().expect("it was pushed");
                let given = &mut self.given[queue as usize];
                given.sum -= size;
                given.greatest = greatest;
            }
            self.move_pods(pods, -1);
        }
    }

    fn move_pods(&mut self, pods: std::ops::Range<usize>, sign: i64) {
        let model = self.model;
        self.effort += pods.len() as u64;
        for pod in pods {
            let known = &model.pods[pod];
            known.budget.iter().for_each(|budget| self.budgets[*budget as usize] -= sign);
            let node = known.node as usize;
            let amounts = self.free[node].iter_mut().zip(&known.held);
            amounts.for_each(|(free, held)| *free += sign * held);
            let seats = model.seats(&self.free[node], model.nodes[node].most);
            self.total = self.total - self.seats[node] + seats;
            self.seats[node] = seats;
        }
    }
}
