//! Disruption budgets that the scheduler hears of (E7): no plan takes more pods than they allow.

use crate::judge::Plan;
use crate::scene::Scene;
use crate::shadow::Shadow;
use crate::world::World;
use mss_scheduler::model::{Budget, Labels, Operator, Pod, Requirement, Uid};
use mss_scheduler::scheduler::Event;

/// The label by which budgets select pods.
const TIER: &str = "tier";
const NAMESPACES: [&str; 6] = ["a", "b", "c", "d", "ns", "other"];

/// Namespace and name.
pub(crate) type BudgetKey = (Box<str>, Box<str>);

pub(crate) fn key(budget: &Budget) -> BudgetKey {
    (budget.namespace.clone(), budget.name.clone())
}

pub(crate) fn tier(odd: bool) -> Labels {
    Labels::new([(TIER, if odd { "odd" } else { "even" })].into_iter())
}

fn protects(budget: &Budget, pod: &Pod) -> bool {
    let selects = |one: &Requirement| {
        pod.labels.get(&one.key).is_some_and(|value| one.values.iter().any(|all| **all == *value))
    };
    let selector = budget.selector.as_ref();
    *budget.namespace == *pod.key.namespace && selector.is_some_and(|all| all.iter().all(selects))
}

impl Shadow {
    /// A pod leaves; if it was evicted, its budgets allow one less until they are heard of again.
    pub(crate) fn note_leaving(&mut self, uid: Uid) {
        let Some(pod) = self.pods.get(&uid).filter(|pod| !pod.ended() && !pod.deleting) else {
            return;
        };
        if self.evicted.contains_key(&uid) {
            let budgets = self.budgets.values_mut().filter(|(budget, _)| protects(budget, pod));
            budgets.for_each(|(_, taken)| *taken += 1);
        }
    }

    /// E7: what a plan takes is allowed by each budget, less what other plans will take.
    pub(crate) fn check_budgets(&self, scene: &Scene, plan: &Plan) {
        for uid in &plan.victims {
            let pod = &scene.pods[uid].pod;
            let count = self.budgets.values().filter(|(budget, _)| protects(budget, pod)).count();
            assert!(count < 2, "E7: {uid} is protected by {count} disruption budgets");
        }
        for (key, (budget, left)) in &self.budgets {
            let own = |uid: &&Uid| protects(budget, &scene.pods[*uid].pod);
            let stays = |uid: &&Uid| !scene.pods[*uid].pod.deleting;
            let others = scene.awaited.iter().filter(|uid| scene.pods.contains_key(*uid));
            let others = others.filter(stays).filter(own).count();
            let taken = plan.victims.iter().filter(own).count();
            let allowed = (budget.allowed as usize).saturating_sub(*left as usize + others);
            assert!(
                taken <= allowed,
                "E7: {taken} pods are taken of {key:?}, which allows {allowed}"
            );
        }
    }
}

impl World {
    /// Counts plans that disruption budgets bound.
    pub(crate) fn note_budgets(&mut self, plan: &Plan) {
        let protected = |uid: &Uid| {
            let pod = self.pods.get(uid).map(|truth| &truth.pod);
            let mut budgets = self.shadow.budgets.values();
            pod.is_some_and(|pod| budgets.any(|(budget, _)| protects(budget, pod)))
        };
        self.tally.judged_budgets += u64::from(plan.victims.iter().any(protected));
    }

    /// A budget comes, changes or goes.
    pub(crate) fn edit_budget(&mut self) {
        if !self.features.budgets || self.random.below(6) > 0 {
            return;
        }
        let at = usize::try_from(self.random.below(NAMESPACES.len() as u64)).expect("small");
        let (name, what) = (self.random.below(4), self.random.below(8));
        let name = if name == 0 { "all" } else { "odd" };
        let requirement =
            Requirement { key: TIER.into(), operator: Operator::In, values: vec!["odd".into()] };
        let budget = Budget {
            namespace: NAMESPACES[at].into(),
            name: name.into(),
            selector: Some(if name == "all" { Vec::new() } else { vec![requirement] }),
            allowed: u32::try_from(what).expect("small"),
        };
        let event = if what > 4 {
            self.budgets.remove(&key(&budget));
            Event::BudgetDeleted { namespace: budget.namespace, name: budget.name }
        } else {
            self.budgets.insert(key(&budget), budget.clone());
            Event::BudgetApplied(Box::new(budget))
        };
        self.send(event);
    }
}
