//! Published traces through the built binary on a real API server, watched by the auditor.
//!
//! Each test prints what it measured; the figures are those of a test build.

#[path = "support/data.rs"]
mod data;
mod support;

use data::data_file;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Client;
use kube::api::{Api, ListParams};
use mss_scheduler::model::quantity;
use mss_scheduler::simulator::create::{PARALLEL_DEFAULT, create_all};
use mss_scheduler::simulator::kubelet::{Fleet, FleetOptions, GPU, NodeShape, create_nodes};
use mss_scheduler::simulator::traces::load::{Plan, Totals};
use mss_scheduler::simulator::traces::objects::{self, ObjectOptions};
use mss_scheduler::simulator::traces::{TraceGang, philly};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use support::auditor::Auditor;
use support::control_plane::{ControlPlane, User};
use support::scheduler::{Scheduler, Settings};
use support::story::allow_all;
use tokio::sync::Mutex;

const NAMESPACE: &str = "default";

/// The scheduler has done what it can when it has bound nothing for this long.
const QUIET: Duration = Duration::from_secs(8);

/// The whole of a trace on two slow cores.
const PATIENCE: Duration = Duration::from_secs(300);

/// The bound on a gang between zero and its minimum.
const PARTIAL_MAX: Duration = Duration::from_secs(30);

/// The tests share the processors, so they run one after another.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn openb_fills_its_cluster() {
    let Some(nodes) = data_file("openb/openb_node_list_all_node.csv") else { return };
    let Some(pods) = data_file("openb/openb_pod_list_default.csv") else { return };
    let _alone = ALONE.lock().await;
    let Some(servers) = ControlPlane::start().await else { return };
    let client = servers.client(User::Admin).await;
    let plan = Plan { nodes: Some(nodes), pods: Some(pods), ..Plan::default() };
    let totals = plan.totals().expect("the published files are well-formed");
    assert_eq!((totals.nodes, totals.gpus, totals.pods), (1523, 6212, 8152));
    plan.load(&client, PARALLEL_DEFAULT, || ()).await.expect("the API server takes the trace");

    let mut run = Run::begin(&servers, client.clone()).await;
    let bound = run.settle().await;
    run.report("openb", &totals, bound);
    // shares counted as whole GPUs ask for more than there is, so some pods have to wait; none may
    // wait that a node has room for
    assert_eq!(waiting_with_room(&client).await, Vec::<String>::new());
    run.end().await;
}

#[tokio::test]
async fn philly_gangs_are_whole() {
    let file = "philly/philly_dev_2017-09-04_2017-10-31.csv.gz";
    let Some(file) = data_file(file) else { return };
    let _alone = ALONE.lock().await;
    let Some(servers) = ControlPlane::start().await else { return };
    let client = servers.client(User::Admin).await;
    let gangs = philly_slice(
        philly::gangs(&file)
            .expect("it can be opened")
            .map(|row| row.expect("the published file is well-formed")),
    );
    let totals = Totals {
        nodes: PHILLY_NODES,
        gpus: PHILLY_GPUS,
        pods: gangs.iter().map(|gang| gang.members() as usize).sum(),
        gangs: gangs.len(),
        gpus_asked: gangs.iter().map(|gang| u64::from(gang.gpus)).sum(),
    };
    create_nodes(&client, PHILLY_NODES, &NodeShape::default()).await.expect("nodes are taken");
    let options = ObjectOptions::default();
    let pods = gangs.iter().flat_map(|gang| objects::gang(gang, &options));
    create_all(&client, pods, PARALLEL_DEFAULT, || ()).await.expect("pods are taken");

    let mut run = Run::begin(&servers, client).await;
    let bound = run.settle().await;
    run.report("philly", &totals, bound);
    assert_eq!(bound, totals.pods, "the slice leaves room, so that every gang fits");
    run.end().await;
}

/// About what the trace's cluster had (423 nodes on average).
const PHILLY_NODES: usize = 420;
const PHILLY_GPUS: u64 = PHILLY_NODES as u64 * 8;

/// Filled so far that gangs of whole nodes need the small jobs to be packed.
const PHILLY_FILL: u64 = PHILLY_GPUS * 97 / 100;

/// Every job of more than a node, the sizes that only the later part of the trace has (six jobs of
/// 64 GPUs and three of 128, by its description), and small jobs in the order of the trace until
/// the cluster is filled.
fn philly_slice(jobs: impl Iterator<Item = TraceGang>) -> Vec<TraceGang> {
    let jobs: Vec<TraceGang> = jobs.collect();
    let mut slice: Vec<TraceGang> = jobs.iter().filter(|job| job.gpus > 8).cloned().collect();
    let model = slice.first().expect("the trace has jobs of more than a node").clone();
    let later = [64, 64, 64, 64, 64, 64, 128, 128, 128].into_iter().zip(1_000_000..);
    slice.extend(later.map(|(gpus, number)| TraceGang { gpus, number, ..model.clone() }));
    let mut left = PHILLY_FILL - slice.iter().map(|job| u64::from(job.gpus)).sum::<u64>();
    for job in jobs.iter().filter(|job| job.gpus <= 8) {
        if u64::from(job.gpus) <= left {
            left -= u64::from(job.gpus);
            slice.push(job.clone());
        }
    }
    // as they were submitted, so that large and small ones are mixed
    slice.sort_by_key(|job| (job.submitted_s, job.number));
    assert_eq!(left, 0, "jobs of one GPU fill what is left");
    slice
}

/// Kubelets, auditor and scheduler at work.
struct Run {
    fleet: Fleet,
    auditor: Auditor,
    scheduler: Scheduler,
}

impl Run {
    async fn begin(servers: &ControlPlane, client: Client) -> Run {
        allow_all(&client).await;
        let auditor = Auditor::start(client.clone()).await;
        let fleet = Fleet::start(client, FleetOptions::default());
        // the whole machine is busy here, and the lease is not what is tested
        let settings = Settings {
            lease: Duration::from_secs(30),
            renew: Duration::from_secs(20),
            retry: Duration::from_secs(2),
            ..Settings::default()
        };
        let scheduler = Scheduler::start(servers, &settings).await;
        Run { fleet, auditor, scheduler }
    }

    /// Waits until nothing is bound any more; returns how many pods are.
    async fn settle(&mut self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        while !self.auditor.wait_for(QUIET, |ledger| ledger.binds > 0).await {
            let ended = self.scheduler.process.exited();
            let words = self.scheduler.process.last_words();
            assert!(ended.is_none(), "the scheduler ended by itself\n{words}");
            assert!(Instant::now() < deadline, "nothing was bound in {PATIENCE:?}\n{words}");
        }
        loop {
            let binds = self.auditor.read(|ledger| ledger.binds);
            if !self.auditor.wait_for(QUIET, |ledger| ledger.binds > binds).await {
                return self.auditor.read(|ledger| ledger.bound_in(NAMESPACE));
            }
            assert!(Instant::now() < deadline, "still binding after {PATIENCE:?}");
        }
    }

    fn report(&self, name: &str, totals: &Totals, bound: usize) {
        let (first, last, gpus) = self.auditor.read(|ledger| {
            let pods = ledger.live_in(NAMESPACE);
            let mut times: Vec<Instant> =
                pods.filter_map(|pod| pod.nodes.last().map(|(_, at)| *at)).collect();
            times.sort_unstable();
            (times[0], times[times.len() - 1], ledger.used(GPU) / 1000)
        });
        let process = self.scheduler.process.id();
        println!(
            "{name}: {} nodes, {} of {} pods bound in {:.1} s, {gpus} of {} GPUs allocated \
             ({} asked for), {} gangs, scheduler {:.2} CPU-s and {:.0} MB at its peak",
            totals.nodes,
            bound,
            totals.pods,
            (last - first).as_secs_f64(),
            totals.gpus,
            totals.gpus_asked,
            totals.gangs,
            self.scheduler.processor_time().as_secs_f64(),
            peak_mb(process),
        );
    }

    /// What must hold whatever was bound: nodes not oversubscribed, as the auditor and the kubelets
    /// see it, and no gang in parts.
    async fn end(self) {
        let longest = self.auditor.assert_settled(NAMESPACE, PARTIAL_MAX).await;
        println!("  the longest that a gang was bound in part: {longest:?}");
        let counts = self.fleet.counts();
        assert_eq!(counts.rejected, 0, "kubelets rejected pods: {counts:?}");
    }
}

/// Pods without a node although a node has room for them and the right GPUs.
async fn waiting_with_room(client: &Client) -> Vec<String> {
    let all = ListParams::default();
    let nodes = Api::<Node>::all(client.clone()).list(&all).await.expect("nodes can be listed");
    let pods =
        Api::<Pod>::namespaced(client.clone(), NAMESPACE).list(&all).await.expect("and pods");
    let mut free: HashMap<String, [i64; 4]> = HashMap::new();
    for node in &nodes {
        let status = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        let name = node.metadata.name.clone().expect("a stored object has a name");
        free.insert(name, amounts(status));
    }
    let asks = |pod: &Pod| {
        let container = &pod.spec.as_ref().expect("a pod has a spec").containers[0];
        let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        let mut asked = amounts(requests);
        asked[3] = 1;
        asked
    };
    let node_of = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    for pod in &pods {
        if let Some(node) = node_of(pod) {
            let room = free.get_mut(&node).expect("pods are on nodes that exist");
            room.iter_mut().zip(asks(pod)).for_each(|(room, asked)| *room -= asked);
        }
    }
    let waits = pods.iter().filter(|pod| node_of(pod).is_none());
    let fits = |pod: &&Pod| {
        let asked = asks(pod);
        free.values().any(|room| room.iter().zip(asked).all(|(room, asked)| asked <= *room))
    };
    waits.filter(fits).filter_map(|pod| pod.metadata.name.clone()).collect()
}

/// CPU, memory, GPUs and pods of a resource list. The default list of pods names no GPU models, so
/// these decide.
fn amounts(listed: Option<&BTreeMap<String, Quantity>>) -> [i64; 4] {
    [("cpu", 3), ("memory", 0), (GPU, 0), ("pods", 0)].map(|(name, scale)| {
        let quantity = listed.and_then(|listed| listed.get(name));
        quantity.map_or(0, |q| quantity::parse(&q.0, scale).expect("a sound quantity"))
    })
}

/// Largest memory that a process has held, in MB of 10^6 bytes.
fn peak_mb(process: u32) -> f64 {
    let path = format!("/proc/{process}/status");
    let text = std::fs::read_to_string(path).expect("the scheduler runs on Linux");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
    let kib = line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number of KiB");
    kib * 1024.0 / 1e6
}
