//! Vacancies to come: where the members of a gang could be seated first, and when, if whoever runs
//! there leaves when it says, or by a date if it says nothing.

use super::Scheduler;
use super::drains::{DrainOptions, SLACK_MS};
use super::pods::{PodState, PodTable};
use crate::cluster::{Assignment, Checkpoint, Cluster, NodeIndex, PodIndex, Statement};
use crate::framework::{Profile, Reads};
use crate::model::Timestamp;
use crate::placement::{Block, Demand, Ground, Within, blocks, lay_all, needed_of};
use crate::queue::GroupIndex;
use rustc_hash::FxHashMap;

/// Domains in which seats are looked for, for a gang that must be in one.
const DOMAINS_MAX: usize = 64;
/// Nodes that are looked at beside one look at each, for a gang that is cut over several domains.
const NODES_MAX: usize = 20_000;

/// When a pod leaves its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    At(Timestamp),
    Unknown,
}

/// A vacancy to come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Vacancy {
    end: End,
    /// pods that must leave before
    pods: usize,
    tie: u32,
    node: NodeIndex,
}

/// Pods on nodes, those that leave first, first.
type Leavers = FxHashMap<NodeIndex, Vec<(End, PodIndex)>>;

/// Seats that are taken on paper, and when each is vacant.
struct Vacant<'a> {
    cluster: &'a mut Cluster,
    pods: &'a PodTable,
    profile: &'a Profile,
    leavers: &'a Leavers,
    statement: Statement,
    seats: Vec<(Assignment, Vacancy)>,
    nodes_left: usize,
}

impl Ground for Vacant<'_> {
    /// the last vacancy, pods that must leave before, a tie
    type Price = (Option<End>, usize, u32);
    type Mark = (Checkpoint, usize);

    fn cluster(&self) -> &Cluster {
        self.cluster
    }

    fn mark(&self) -> Self::Mark {
        (self.statement.checkpoint(), self.seats.len())
    }

    fn seat(&mut self, demands: &[Demand], within: Within) -> Option<()> {
        let nodes = within.nodes(self.cluster);
        self.nodes_left = self.nodes_left.checked_sub(nodes.len())?;
        for demand in demands {
            let found = self.vacancies_of(demand, &nodes)?;
            for (vacancy, pod) in found.into_iter().zip(&demand.pods) {
                let seat = Assignment { pod: *pod, class: demand.class, node: vacancy.node };
                self.statement.assume(self.cluster, seat);
                self.seats.push((seat, vacancy));
            }
        }
        Some(())
    }

    fn price(&self, (_, seats): Self::Mark, place: Within) -> Self::Price {
        let vacancies = self.seats[seats..].iter().map(|(_, vacancy)| vacancy);
        let last = vacancies.clone().map(|vacancy| vacancy.end).max();
        (last, vacancies.map(|vacancy| vacancy.pods).sum(), place.tie(self.cluster))
    }

    fn undo(&mut self, (checkpoint, seats): Self::Mark) {
        self.statement.rollback(self.cluster, checkpoint);
        self.seats.truncate(seats);
    }
}

impl Vacant<'_> {
    /// The first vacancies for all members of a class on these nodes.
    fn vacancies_of(&mut self, demand: &Demand, nodes: &[NodeIndex]) -> Option<Vec<Vacancy>> {
        let needed = demand.pods.len();
        let mut vacancies = Vec::new();
        for node in nodes.iter().copied() {
            let class = self.cluster.class(demand.class);
            if self.cluster.node(node).node.is_none()
                || !self.profile.passes(Reads::Facts, self.cluster, class, node)
            {
                continue;
            }
            let most = if class.spec.host_ports.is_empty() { needed } else { 1 };
            let most = u32::try_from(most).expect("groups are bounded");
            let mut statement = Statement::default();
            let mut room = 0;
            let (mut end, mut pods) = (End::At(Timestamp(i64::MIN)), 0);
            let mut leaving = self.leavers.get(&node).map_or(&[][..], |pods| pods).iter();
            loop {
                let class = self.cluster.class(demand.class);
                let now = self.cluster.room_for(class, node, most);
                let tie = self.cluster.node(node).tie;
                vacancies.extend((room..now).map(|_| Vacancy { end, pods, tie, node }));
                room = room.max(now);
                let Some((left, at)) = leaving.next().filter(|_| room < most) else { break };
                let class = self.pods.get(*at).class;
                statement.evict(self.cluster, Assignment { pod: *at, class, node });
                (end, pods) = (end.max(*left), pods + 1);
            }
            let start = Statement::default().checkpoint();
            statement.rollback(self.cluster, start);
        }
        vacancies.sort_unstable();
        vacancies.truncate(needed);
        (vacancies.len() == needed).then_some(vacancies)
    }
}

impl Scheduler {
    /// Where the gang's members could be seated first, and when. Pods of others, and of other
    /// schedulers, are not expected to leave. O(nodes + pods), and the looks at nodes that are
    /// bounded for a gang that is cut.
    pub(super) fn vacancies(
        &mut self,
        index: GroupIndex,
        options: DrainOptions,
    ) -> Option<(Vec<Assignment>, Timestamp)> {
        let group = self.groups.get(index);
        let (needed, profile) = (group.needed(), usize::from(group.profile));
        let demands = needed_of(&self.cluster, &self.demands(index), needed);
        let leavers = self.leavers(index);
        let (domains, cut) = self.seat_domains(index);
        let listed = domains.map(|domains| {
            domains.into_iter().take(DOMAINS_MAX).map(Within::Domain).collect::<Vec<_>>()
        });
        let latest = self.now.plus_ms(options.for_ms);
        let Self { cluster, pods, profiles, now, .. } = self;
        let nodes_left = cluster.node_slots() + if cut.is_some() { NODES_MAX } else { 0 };
        let statement = Statement::default();
        let (profile, leavers) = (&profiles[profile], &leavers);
        let start = statement.checkpoint();
        let seats = Vec::new();
        let mut ground = Vacant { cluster, pods, profile, leavers, statement, seats, nodes_left };
        // of domains that must hold the whole gang the one that can soonest
        let mut first: Option<(Vec<Assignment>, Timestamp)> = None;
        for within in listed.unwrap_or_else(|| vec![Within::Everywhere]) {
            let all = match &cut {
                Some(wanted) => blocks(ground.cluster, &demands, wanted, within),
                None => Some(vec![Block::anywhere(demands.clone(), within)]),
            };
            let laid = all.and_then(|all| lay_all(&mut ground, &all));
            let last = ground.seats.iter().map(|(_, vacancy)| vacancy.end).max();
            let until = match last {
                Some(End::At(end)) => end.max(*now),
                Some(End::Unknown) => latest,
                None => *now,
            };
            if laid.is_some() && first.as_ref().is_none_or(|(_, known)| until < *known) {
                first = Some((ground.seats.iter().map(|(seat, _)| *seat).collect(), until));
            }
            ground.undo((start, 0));
        }
        // a seat date is a little after the last pod is to have left
        let first = first.filter(|(_, until)| *until <= latest);
        first.map(|(seats, until)| (seats, until.plus_ms(SLACK_MS)))
    }

    /// Pods on nodes by when they leave, but for those of the gang itself; of those that do not say
    /// the oldest is taken to leave first.
    fn leavers(&self, own: GroupIndex) -> Leavers {
        let mut leavers = Leavers::default();
        for (at, pod) in self.pods.iter() {
            let runs = matches!(pod.state, PodState::Bound | PodState::Assumed(_));
            let runs = runs && pod.group != Some(own);
            if let Some(node) = pod.node.filter(|_| runs) {
                leavers.entry(node).or_default().push((self.end_of(at), at));
            }
        }
        for pods in leavers.values_mut() {
            pods.sort_by_key(|(end, at)| (*end, self.pods.get(*at).bound_seen, *at));
        }
        leavers
    }

    /// When a pod leaves its node, as far as it says.
    fn end_of(&self, pod: PodIndex) -> End {
        let pod = self.pods.get(pod);
        if pod.group.is_none() {
            return End::Unknown;
        }
        let since = self.runs_since(pod);
        let limit = self.gone_after(pod).map(|limit| since.plus_ms(limit));
        limit.map_or(End::Unknown, |end| End::At(end.max(self.now)))
    }
}
