//! Making room: a queue that borrowed the whole cluster gives back for one large gang of another.
//!
//! The lender's gangs of 16 hold every GPU; the asker, of equal weight, wants whole nodes for one
//! gang within its share. Each victim is told by condition and event and goes through the Eviction
//! API past a disruption budget. What happened is read from the API server's own history and
//! asserted, for the bare loop as well, before any time counts.

pub(crate) mod blindly;
mod fewest;
mod lender;
mod witness;

use crate::args::{Binder, Budgets};
use crate::binders;
use crate::observer::{self, Observer, ServerWork};
use crate::scenarios::{Bench, NODE_GPUS, PATIENCE, Sample};
use crate::support::children::Process;
use blindly::Orders;
use fewest::{fewest_gangs, nodes_above_minimum};
use lender::{Member, by_gang, member, placement};
use mss_scheduler::simulator::create::{PARALLEL_DEFAULT, create_all};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Members of each gang of the lender.
const GANG: usize = 16;
/// Of 100 nodes the asker wants so many.
const ASKED_OF_100: usize = 32;

/// What the lender's gangs may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    /// Each keeps at least four members.
    Elastic,
    /// Each is at its minimum: it is spared or goes as a whole.
    Whole,
}

impl Terms {
    fn minimum(self) -> usize {
        match self {
            Terms::Elastic => 4,
            Terms::Whole => GANG,
        }
    }

    /// What a budget lets go of one gang: the surplus, or all of it where only that is of use.
    fn spare_of_gang(self) -> usize {
        match self {
            Terms::Elastic => GANG - self.minimum(),
            Terms::Whole => GANG,
        }
    }
}

/// The two queues, in namespaces of their names.
struct Queues {
    lender: String,
    asker: String,
}

/// What the asker wants, and what was there before.
struct Before {
    held: Vec<Member>,
    allowed: usize,
    version: String,
    asked: usize,
}

impl Bench {
    pub(crate) async fn reclaim(&self, binder: Binder, terms: Terms, name: &str) -> Sample {
        let queues = Queues { lender: format!("{name}-lender"), asker: format!("{name}-asker") };
        let Queues { lender, asker } = &queues;
        self.declare_queues(lender, asker).await;
        let held = self.args.nodes * NODE_GPUS;
        let asked = self.args.nodes * ASKED_OF_100 / 100;
        let mut process = self.lend_all(terms, name, lender, held).await;
        let before = Before {
            held: self.members(lender).await,
            allowed: self.disruptions_allowed(lender).await,
            version: witness::version(&self.client, lender).await,
            asked,
        };
        assert_eq!(before.held.len(), held, "{name}: members of the lender");
        if binder == Binder::Bare {
            process = self.start_bare(terms, name, &queues, &before).await;
        }

        let mut observer = Observer::start(self.client.clone(), asker.clone()).await;
        let members = (0..asked).map(|index| member(name, asker, index, (asked, asked), NODE_GPUS));
        let work = ServerWork::read(&self.client).await;
        let cpu = observer::cpu(process.id());
        let started = Instant::now();
        create_all(&self.client, members, PARALLEL_DEFAULT, || ()).await.expect("pods are taken");
        if !observer.wait(asked, PATIENCE).await {
            let bound = observer.binds().nodes.len();
            panic!("{name}: {bound} of {asked} are bound\n{}", process.last_words());
        }
        let binds = observer.binds();
        let (first, last) =
            (binds.first.expect("all are bound"), binds.last.expect("all are bound"));
        let evicted = asked * NODE_GPUS;
        let quiet = self.wait_for_events(work.events, evicted + asked, true).await;
        let after = ServerWork::read(&self.client).await;
        let cpu = observer::cpu(process.id()) - cpu;
        let peak_mb = observer::peak_mb(process.id());
        self.assert_outcome(terms, name, &queues, &before).await;
        drop(process);
        self.remove_pods(lender).await;
        self.remove_pods(asker).await;
        self.remove_queues(&queues).await;
        let per_victim = 1000.0 / evicted as f64;
        Sample {
            first_bind_s: Some((first - started).as_secs_f64()),
            last_bind_s: Some((last - started).as_secs_f64()),
            evicted: Some(evicted as f64),
            events: Some((after.events - work.events) as f64),
            events_after_s: quiet.map(|at| at.saturating_duration_since(last).as_secs_f64()),
            cpu_ms_per_pod: Some(cpu.as_secs_f64() * per_victim),
            server_ms_per_pod: Some((after.cpu - work.cpu) * per_victim),
            peak_mb: Some(peak_mb),
            ..Sample::default()
        }
    }

    /// The scheduler lets the lender have everything, and all of it runs. Returns the scheduler.
    async fn lend_all(&self, terms: Terms, name: &str, lender: &str, held: usize) -> Process {
        let mut observer = Observer::start(self.client.clone(), lender.to_owned()).await;
        let mut process = binders::start(&self.servers, Binder::Mss, name);
        let shape = (GANG, terms.minimum());
        let members = (0..held).map(|index| member(name, lender, index, shape, 1));
        create_all(&self.client, members, PARALLEL_DEFAULT, || ()).await.expect("pods are taken");
        assert!(observer.wait(held, PATIENCE).await, "{name}: the lender cannot borrow all");
        self.declare_budgets(lender, held / GANG, terms).await;
        self.run_members(lender, held).await;
        // the events of its binds are no part of what is measured
        self.wait_until_quiet(&mut process).await;
        process
    }

    /// Starts the bare loop with its orders, and waits until it waits for the gang.
    async fn start_bare(
        &self,
        terms: Terms,
        name: &str,
        queues: &Queues,
        before: &Before,
    ) -> Process {
        let placement = placement(&before.held);
        let (victims, nodes): (Vec<&Member>, BTreeSet<String>) = match terms {
            Terms::Elastic => {
                let nodes = nodes_above_minimum(&placement, terms.minimum(), before.asked);
                (before.held.iter().filter(|m| nodes.contains(&m.node)).collect(), nodes)
            }
            Terms::Whole => {
                let gangs = fewest_gangs(&placement, before.asked);
                let emptied =
                    placement.iter().filter(|(_, on)| on.keys().all(|g| gangs.contains(g)));
                let nodes = emptied.map(|(node, _)| node.clone()).collect();
                (before.held.iter().filter(|m| gangs.contains(&m.gang)).collect(), nodes)
            }
        };
        let row = |m: &Member| [queues.lender.clone(), m.name.clone(), m.uid.clone()];
        let mut lanes: BTreeMap<&str, Vec<[String; 3]>> = BTreeMap::new();
        for victim in victims {
            let lane = match self.args.budgets {
                Budgets::Gang => &*victim.gang,
                Budgets::Queue => "all",
                Budgets::None => &*victim.name,
            };
            lanes.entry(lane).or_default().push(row(victim));
        }
        let lanes = lanes.into_values().collect();
        let asker = queues.asker.clone();
        let orders = Orders { asker, victims: lanes, nodes: nodes.into_iter().collect() };
        let text = serde_json::to_string(&orders).expect("orders can be written");
        let process = binders::start_room_maker(&self.servers, name, &text);
        let began = Instant::now();
        let is_ready =
            || std::fs::read_to_string(process.log()).is_ok_and(|t| t.contains(blindly::READY));
        while !is_ready() {
            assert!(began.elapsed() < Duration::from_secs(20), "{}", process.last_words());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        process
    }

    async fn assert_outcome(&self, terms: Terms, name: &str, queues: &Queues, before: &Before) {
        let Queues { lender, asker } = queues;
        let (left, seated) = (self.members(lender).await, self.members(asker).await);
        let remain: BTreeSet<&str> = left.iter().map(|member| &*member.uid).collect();
        let victims = before.held.iter().filter(|member| !remain.contains(&*member.uid));
        let victims: BTreeSet<&str> = victims.map(|member| &*member.uid).collect();
        // they are the fewest: the gang needs every GPU of so many nodes, and none was free
        let wanted = before.asked * NODE_GPUS;
        assert_eq!(victims.len(), wanted, "{name}: pods evicted");

        let fates = witness::fates(&self.client, lender, &before.version, wanted).await;
        for uid in &victims {
            let fate = fates.get(*uid).copied().unwrap_or_default();
            assert!(fate.gone, "{name}: {uid} went otherwise: {fate:?}");
        }
        let others = fates.iter().filter(|(uid, _)| !victims.contains(&***uid));
        let others: Vec<_> = others.filter(|(_, f)| f.told || f.evicted).collect();
        assert!(others.is_empty(), "{name}: disturbed without need: {others:?}");
        let told = witness::preempted(&self.client, lender).await;
        assert!(victims.iter().all(|uid| told.contains(*uid)), "{name}: an event is missing");
        assert_eq!(told.len(), wanted, "{name}: victims that have an event");
        let checked = before.allowed - self.disruptions_allowed(lender).await;
        let counted = if self.args.budgets == Budgets::None { 0 } else { wanted };
        assert_eq!(checked, counted, "{name}: evictions that a budget has counted");

        let nodes: BTreeSet<&str> = seated.iter().map(|member| &*member.node).collect();
        assert_eq!(nodes.len(), before.asked, "{name}: each member of the gang has a node");
        assert!(left.iter().all(|member| !nodes.contains(&*member.node)), "{name}: a full node");

        let (gangs, all) = (by_gang(&left), before.held.len() / GANG);
        match terms {
            Terms::Elastic => {
                assert_eq!(gangs.len(), all, "{name}: gangs that still run");
                let least = gangs.values().min().copied().unwrap_or_default();
                assert!(least >= terms.minimum(), "{name}: a gang has {least} members: {gangs:?}");
            }
            Terms::Whole => {
                let ended = fewest_gangs(&placement(&before.held), before.asked).len();
                assert_eq!(all - gangs.len(), ended, "{name}: gangs that were ended");
                assert!(gangs.values().all(|members| *members == GANG), "{name}: {gangs:?}");
            }
        }
    }

    async fn declare_queues(&self, lender: &str, asker: &str) {
        let crd = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/crd.yaml");
        self.servers.run_kubectl(&["apply", "-f", crd]).expect("the definition is accepted");
        let established = ["wait", "--for=condition=Established", "crd/queues.mss-scheduler.io"];
        self.servers.run_kubectl(&established).expect("the definition is served");
        for queue in [lender, asker] {
            self.create_namespace(queue).await;
            let object = json!({
                "apiVersion": "mss-scheduler.io/v1alpha1", "kind": "Queue",
                "metadata": {"name": queue}, "spec": {"namespaces": [queue]},
            });
            let request = http::Request::post("/apis/mss-scheduler.io/v1alpha1/queues")
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(object.to_string().into_bytes())
                .expect("a valid request");
            self.client.request::<Value>(request).await.expect("a good queue");
        }
    }

    async fn remove_queues(&self, queues: &Queues) {
        for queue in [&queues.lender, &queues.asker] {
            let path = format!("/apis/mss-scheduler.io/v1alpha1/queues/{queue}");
            let request = http::Request::delete(path).body(Vec::new()).expect("a valid request");
            self.client.request::<Value>(request).await.expect("it can be deleted");
        }
    }
}

fn pod_name(index: usize) -> String {
    format!("pod-{index:06}")
}
