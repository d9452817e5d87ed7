//! The dispatcher on a real API server: victims are given notice, then evicted, each answered once.

use super::SOON;
use super::support::audit;
use super::support::control_plane::{ControlPlane, User};
use super::support::fault_proxy::{FaultProxy, Faults};
use super::support::objects::{bare_pod, bind, create_pod, delete_pod};
use super::support::story::Story;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::api::events::v1::Event as PodEvent;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use mss_scheduler::kubernetes::client::configure;
use mss_scheduler::kubernetes::dispatch::{Dispatcher, Identity, Limits, Observer};
use mss_scheduler::kubernetes::lease::Fence;
use mss_scheduler::kubernetes::{Clock, Connection, watch};
use mss_scheduler::model::{PodKey, Uid};
use mss_scheduler::scheduler::{ApiCall, BindOutcome, CallId, Event, EvictOutcome, PodRef, Victim};
use mss_scheduler::simulator::kubelet::node_name;
use mss_scheduler::telemetry::Metrics;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

const NOTE: &str = "Preempted to make room for team/llama-ft, which is within its share";
const SPARED: &str = "not evicted after all";
const EVICT_AT: &str = "mss-scheduler.io/evict-at";

#[derive(Default)]
struct Counted {
    evicted: AtomicU64,
}

impl Observer for Counted {
    fn bound(&self, _: u8, _: &BindOutcome, _: Duration) {}
    fn bind_unknown(&self) {}
    fn evicted(&self, _: &EvictOutcome) {
        self.evicted.fetch_add(1, Ordering::Relaxed);
    }
    fn events_dropped(&self, _: u64) {}
    fn queued(&self, _: usize, _: usize) {}
}

/// A dispatcher with its channels.
struct Harness {
    calls: mpsc::Sender<ApiCall>,
    replies: mpsc::Receiver<Event>,
    counted: Arc<Counted>,
    last: u64,
    _stop: oneshot::Sender<()>,
}

impl Harness {
    async fn start(servers: &ControlPlane, url: &str, open: bool) -> Harness {
        let path = servers.kubeconfig_via(User::Scheduler, url);
        let config = configure(Some(&path)).await.expect("a valid kubeconfig");
        let metrics = Arc::new(Metrics::new(["mss-scheduler"]));
        let connection = Connection::of(config, &metrics, (None, None)).expect("a client");
        let fence = Fence::new(Clock::default());
        if open {
            fence.open();
        }
        let limits = Limits {
            binds_in_flight: 16,
            deadline: Duration::from_secs(10),
            writes_in_flight: 4,
            events_queued: 1000,
            drain: Duration::from_secs(5),
        };
        let identity = Identity { controller: "mss-scheduler".into(), instance: "test".into() };
        let (events, replies) = mpsc::channel(1000);
        let (calls, inbox) = mpsc::channel(16);
        let (stop, stopped) = oneshot::channel();
        let counted = Arc::new(Counted::default());
        let observer = counted.clone();
        let (advice, jobs) = mpsc::channel(16);
        let (watches, schedulers) = (connection.watches.clone(), vec!["mss-scheduler".into()]);
        tokio::spawn(watch::jobs::run(watches, schedulers, fence.clone(), advice));
        let dispatcher = Dispatcher::new(connection, fence, limits, identity, events, observer);
        tokio::spawn(dispatcher.run(inbox, jobs, stopped));
        Harness { calls, replies, counted, last: 0, _stop: stop }
    }

    async fn warn(&self, pods: &[PodRef], evict_in_ms: i64) {
        let call = ApiCall::Warn { pods: pods.to_vec(), note: NOTE.into(), evict_in_ms };
        self.calls.send(call).await.expect("the dispatcher runs");
    }

    async fn spare(&self, pods: &[PodRef]) {
        let call = ApiCall::Spare { pods: pods.to_vec(), note: SPARED.into() };
        self.calls.send(call).await.expect("the dispatcher runs");
    }

    /// Evicts, each for itself, and waits for all answers; each pod has exactly one.
    async fn evict(&mut self, pods: &[PodRef]) -> BTreeMap<Uid, EvictOutcome> {
        let mut asked = BTreeMap::new();
        for pod in pods {
            asked.insert(pod.uid, self.ask(std::slice::from_ref(pod)).await);
        }
        self.answers(&asked).await
    }

    /// Asks for evictions that stand and fall together.
    async fn ask(&mut self, pods: &[PodRef]) -> CallId {
        self.last += 1;
        let call = CallId(self.last);
        let victim = |pod: &PodRef| Victim { pod: pod.clone(), budget: None, goes_at_once: false };
        let asked = ApiCall::Evict { call, victims: pods.iter().map(victim).collect() };
        self.calls.send(asked).await.expect("the dispatcher runs");
        call
    }

    /// What becomes of the pods, by the call that each belongs to.
    async fn answers(&mut self, asked: &BTreeMap<Uid, CallId>) -> BTreeMap<Uid, EvictOutcome> {
        let mut answers = BTreeMap::new();
        while answers.len() < asked.len() {
            let reply = tokio::time::timeout(SOON, self.replies.recv()).await;
            match reply.expect("an answer in time").expect("the dispatcher runs") {
                Event::EvictFinished { call, pod, outcome } => {
                    assert_eq!(asked.get(&pod), Some(&call));
                    assert_eq!(answers.insert(pod, outcome), None, "{pod} is answered twice");
                }
                other => panic!("{other:?}"),
            }
        }
        let more = tokio::time::timeout(Duration::from_millis(300), self.replies.recv()).await;
        assert!(more.is_err(), "one answer too many: {more:?}");
        answers
    }
}

/// Creates a pod with a label and binds it.
async fn victim(story: &Story, name: &str, labels: &[&str], hold: bool) -> PodRef {
    let mut pod = bare_pod(&story.namespace, name, 1);
    let pairs = labels.iter().map(|label| ((*label).to_owned(), "yes".to_owned()));
    pod.metadata.labels = Some(pairs.collect());
    // what is held stays to be looked at after it was deleted
    pod.metadata.finalizers = hold.then(|| vec!["example.com/hold".to_owned()]);
    create_pod(&story.client, &pod).await;
    let number = name.bytes().map(usize::from).sum::<usize>() % 8;
    let node = node_name(number);
    bind(&story.client, &story.namespace, name, &node).await.expect("the pod can be bound");
    reference(story, name).await
}

async fn get(story: &Story, name: &str) -> Option<Pod> {
    let pods: Api<Pod> = Api::namespaced(story.client.clone(), &story.namespace);
    pods.get_opt(name).await.expect("pods can be read")
}

async fn reference(story: &Story, name: &str) -> PodRef {
    let pod = get(story, name).await.expect("the pod exists");
    let uid = Uid::parse(&pod.metadata.uid.expect("a stored object has a uid"));
    let key = PodKey { namespace: story.namespace.as_str().into(), name: name.into() };
    PodRef { key, uid }
}

fn disruption(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "DisruptionTarget")
}

fn is_ours(pod: &Pod) -> bool {
    let said =
        disruption(pod).map(|c| (c.status.as_str(), c.reason.as_deref(), c.message.as_deref()));
    said == Some(("True", Some("PreemptionByScheduler"), Some(NOTE)))
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A budget as its controller would have computed it: so many healthy, so many may go.
pub(super) async fn budget(story: &Story, namespace: &str, label: &str, counts: (i32, i32)) {
    let (healthy, allowed) = counts;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(story.client.clone(), namespace);
    let object = json!({
        "metadata": {"name": label},
        "spec": {
            "minAvailable": healthy - allowed, "selector": {"matchLabels": {label: "yes"}},
        },
    });
    let object = serde_json::from_value(object).expect("a valid budget");
    budgets.create(&PostParams::default(), &object).await.expect("the budget can be created");
    let status = json!({"status": {
        "observedGeneration": 1, "expectedPods": healthy, "currentHealthy": healthy,
        "desiredHealthy": healthy - allowed, "disruptionsAllowed": allowed,
    }});
    let (patch, parameters) = (Patch::Merge(&status), PatchParams::default());
    budgets.patch_status(label, &parameters, &patch).await.expect("its status can be written");
}

async fn running(story: &Story, count: usize) {
    let ns = &story.namespace;
    let all = |ledger: &super::Ledger| {
        ledger.live_in(ns).filter(|pod| pod.phase == "Running").count() == count
    };
    story.auditor.expect(SOON, "the victims running", all).await;
}

/// What has not left when another of its call is refused, or when it is withdrawn, never does.
#[tokio::test(flavor = "multi_thread")]
async fn evictions_of_a_plan_that_is_given_up_do_not_leave() {
    let Some(story) = Story::begin("withdrawn", 8, 16).await else { return };
    let mut victims = vec![victim(&story, "guarded", &["guarded"], false).await];
    for number in 0..96 {
        victims.push(victim(&story, &format!("plain-{number}"), &[], false).await);
    }
    budget(&story, &story.namespace, "guarded", (1, 0)).await;
    running(&story, 97).await;

    let mut harness = Harness::start(story.servers, story.servers.url(), true).await;
    let (refused, rest) = victims.split_at(65);
    let call = harness.ask(refused).await;
    let asked = refused.iter().map(|pod| (pod.uid, call)).collect();
    let answers = harness.answers(&asked).await;
    let is_protected = matches!(answers[&refused[0].uid], EvictOutcome::Protected(_));
    assert!(is_protected, "{answers:?}");
    let left = stayed(&story, refused, &answers).await;
    // sixteen are under way at a time, so four turns were to come
    assert!((1..64).contains(&left), "{left} of 64 were withdrawn: {answers:?}");

    let call = harness.ask(rest).await;
    let withdraw = ApiCall::Withdraw { calls: vec![call] };
    harness.calls.send(withdraw).await.expect("the dispatcher runs");
    let asked = rest.iter().map(|pod| (pod.uid, call)).collect();
    let answers = harness.answers(&asked).await;
    let left = stayed(&story, rest, &answers).await;
    assert!(left > 0, "none of {} was withdrawn: {answers:?}", rest.len());
}

/// How many were withdrawn, of which all run on; the others go, but for what a budget protects.
async fn stayed(story: &Story, pods: &[PodRef], answers: &BTreeMap<Uid, EvictOutcome>) -> usize {
    let mut withdrawn = 0;
    for pod in pods {
        let found = get(story, &pod.key.name).await;
        let stays = found.is_some_and(|found| found.metadata.deletion_timestamp.is_none());
        let goes = answers[&pod.uid] == EvictOutcome::Evicted;
        assert_eq!(stays, !goes, "{}: {:?}", pod.key, answers[&pod.uid]);
        withdrawn += usize::from(answers[&pod.uid] == EvictOutcome::Withdrawn);
    }
    withdrawn
}

#[tokio::test(flavor = "multi_thread")]
async fn victims_are_given_notice_and_evicted_unless_protected() {
    let Some(story) = Story::begin("evictions", 8, 8).await else { return };
    let mut victims = Vec::new();
    for number in 0..13 {
        victims.push(victim(&story, &format!("plain-{number}"), &[], number == 1).await);
    }
    for number in 0..6 {
        victims.push(victim(&story, &format!("guarded-{number}"), &["guarded"], false).await);
    }
    victims.push(victim(&story, "twice", &["one", "two"], false).await);
    for (label, healthy, allowed) in [("guarded", 6, 2), ("one", 1, 1), ("two", 1, 1)] {
        budget(&story, &story.namespace, label, (healthy, allowed)).await;
    }
    running(&story, 20).await;

    let mut harness = Harness::start(story.servers, story.servers.url(), true).await;
    let before = jiff::Timestamp::now();
    harness.warn(&victims, 60_000).await;
    assert_notice(&story, &victims, before).await;

    // a namesake in the place of a victim
    delete_pod(&story.client, &story.namespace, "plain-0").await;
    victim(&story, "plain-0", &[], false).await;
    running(&story, 20).await;
    let answers = harness.evict(&victims).await;
    let count = |holds: fn(&EvictOutcome) -> bool| answers.values().filter(|o| holds(o)).count();
    assert_eq!(count(|outcome| *outcome == EvictOutcome::Evicted), 15, "{answers:?}");
    assert_eq!(count(|outcome| *outcome == EvictOutcome::Failed), 0, "{answers:?}");
    assert_eq!(answers.len(), 20);
    for pod in &victims {
        let EvictOutcome::Protected(why) = &answers[&pod.uid] else { continue };
        let expected = if &*pod.key.name == "twice" {
            "more than one PodDisruptionBudget"
        } else {
            assert!(pod.key.name.starts_with("guarded"), "{pod:?} has no budget");
            "The disruption budget guarded "
        };
        assert!(why.contains(expected), "{pod:?}: {why}");
        let left = get(&story, &pod.key.name).await.expect("what is protected stays");
        assert_eq!(left.metadata.deletion_timestamp, None);
    }
    let namesake = get(&story, "plain-0").await.expect("the namesake survives");
    assert_eq!(
        (namesake.metadata.deletion_timestamp.as_ref(), disruption(&namesake)),
        (None, None)
    );
    assert_eq!(get(&story, "plain-2").await.map(|pod| pod.metadata.name), None);

    // the API's own reason does not stay over ours
    eventually("our reason on a pod that goes", async || {
        let pod = get(&story, "plain-1").await.expect("it is held");
        pod.metadata.deletion_timestamp.is_some() && is_ours(&pod)
    })
    .await;
    assert_eq!(harness.counted.evicted.load(Ordering::Relaxed), 20);
    release(&story, "plain-1").await;
    eprintln!("evictions: of 20 victims 15 gone (1 of them a namesake's), 5 protected");
}

/// Conditions, annotations and events on all victims.
async fn assert_notice(story: &Story, victims: &[PodRef], before: jiff::Timestamp) {
    let ns = &story.namespace;
    let (pods, all): (Api<Pod>, _) =
        (Api::namespaced(story.client.clone(), ns), ListParams::default());
    eventually("the condition on every victim", async || {
        pods.list(&all).await.expect("pods can be listed").iter().filter(|p| is_ours(p)).count()
            == victims.len()
    })
    .await;
    for pod in pods.list(&all).await.expect("pods can be listed") {
        let text = &pod.metadata.annotations.as_ref().expect("annotations")[EVICT_AT];
        let at: jiff::Timestamp = text.parse().expect("a time as in RFC 3339");
        let after = at.as_second() - before.as_second();
        assert!((59..=75).contains(&after), "{text} is {after} s after the notice");
        assert_eq!(pod.metadata.deletion_timestamp, None, "notice is no eviction");
    }
    let events: Api<PodEvent> = Api::namespaced(story.client.clone(), ns);
    let of_ours = async || {
        let events = events.list(&all).await.expect("events can be listed");
        let ours = |event: &&PodEvent| event.reason.as_deref() == Some("Preempted");
        events.items.iter().filter(ours).cloned().collect::<Vec<_>>()
    };
    eventually("an event on each", async || of_ours().await.len() == victims.len()).await;
    for event in of_ours().await {
        assert_eq!((event.type_.as_deref(), event.note.as_deref()), (Some("Warning"), Some(NOTE)));
        let uid = event.regarding.and_then(|pod| pod.uid).expect("it is about a pod");
        assert!(victims.iter().any(|pod| pod.uid == Uid::parse(&uid)), "{uid}");
    }
}

/// Lets go of a pod that was held.
async fn release(story: &Story, name: &str) {
    let pods: Api<Pod> = Api::namespaced(story.client.clone(), &story.namespace);
    let none = json!({"metadata": {"finalizers": null}});
    let patch = Patch::Merge(&none);
    pods.patch(name, &PatchParams::default(), &patch).await.expect("the pod can be let go");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_is_taken_back_and_given_again() {
    let Some(story) = Story::begin("spared", 8, 8).await else { return };
    let mut victims = Vec::new();
    for number in 0..6 {
        victims.push(victim(&story, &format!("victim-{number}"), &[], false).await);
    }
    running(&story, 6).await;
    let mut harness = Harness::start(story.servers, story.servers.url(), true).await;
    let marked = async |wanted: &[(bool, bool)]| {
        let mut seen = Vec::new();
        for pod in &victims {
            let pod = get(&story, &pod.key.name).await.expect("it is not evicted");
            let marks = pod.metadata.annotations.as_ref();
            let has_time = marks.is_some_and(|marks| marks.contains_key(EVICT_AT));
            let status = disruption(&pod).map(|condition| condition.status.clone());
            seen.push((status.as_deref() == Some("True"), has_time));
        }
        seen == wanted
    };
    harness.warn(&victims, 60_000).await;
    eventually("all are told", async || marked(&[(true, true); 6]).await).await;

    // four need not go; two of those are named again before the word has gone out
    harness.spare(&victims[..4]).await;
    harness.warn(&victims[2..4], 60_000).await;
    let wanted =
        [(false, false), (false, false), (true, true), (true, true), (true, true), (true, true)];
    eventually("two are told that they stay", async || marked(&wanted).await).await;
    let pod = get(&story, "victim-0").await.expect("it stays");
    let said =
        disruption(&pod).map(|c| (c.status.as_str(), c.reason.as_deref(), c.message.as_deref()));
    assert_eq!(said, Some(("False", Some("PreemptionCancelled"), Some(SPARED))));

    // one of them is named again later: the notice is whole again, and so is what follows
    harness.warn(&victims[..1], 60_000).await;
    eventually("it is told again", async || {
        is_ours(&get(&story, "victim-0").await.expect("it is not evicted yet"))
    })
    .await;
    let answers = harness.evict(&victims[..1]).await;
    assert!(answers.values().all(|outcome| *outcome == EvictOutcome::Evicted), "{answers:?}");
    let events: Api<PodEvent> = Api::namespaced(story.client.clone(), &story.namespace);
    eventually("an event on each that stays", async || {
        let all = events.list(&ListParams::default()).await.expect("events can be listed");
        let told = |event: &&PodEvent| event.reason.as_deref() == Some("PreemptionCancelled");
        all.iter().filter(told).count() == 4
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notice_comes_first_even_if_the_eviction_follows_at_once() {
    let Some(story) = Story::begin("at-once", 8, 8).await else { return };
    let mut victims = Vec::new();
    for number in 0..12 {
        victims.push(victim(&story, &format!("victim-{number}"), &[], false).await);
    }
    running(&story, 12).await;
    let mut harness = Harness::start(story.servers, story.servers.url(), true).await;
    let position = audit::position(story.servers.folder());
    harness.warn(&victims, 0).await;
    let answers = harness.evict(&victims).await;
    assert!(answers.values().all(|outcome| *outcome == EvictOutcome::Evicted), "{answers:?}");

    let requests = audit::requests(story.servers.folder(), position);
    for pod in &victims {
        let of = |resource: &str| {
            let mine = |r: &&audit::Request| r.resource == resource && r.name == *pod.key.name;
            requests.iter().filter(mine).map(|request| request.code).collect::<Vec<_>>()
        };
        let place = |resource: &str| {
            let mine = |r: &audit::Request| r.resource == resource && r.name == *pod.key.name;
            requests.iter().position(mine).expect(resource)
        };
        assert_eq!(of("pods/status")[0], 200, "{pod:?}");
        assert_eq!(of("pods/eviction"), [201], "{pod:?} is asked for once");
        assert!(place("pods/status") < place("pods/eviction"), "{pod:?}");
    }
    assert!(requests.iter().all(|request| !(request.resource == "pods" && request.is_write())));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_whose_answer_is_lost_is_asked_for_again() {
    let Some(story) = Story::begin("lost-evictions", 8, 8).await else { return };
    let mut victims = Vec::new();
    for number in 0..12 {
        victims.push(victim(&story, &format!("victim-{number}"), &[], false).await);
    }
    running(&story, 12).await;

    // no lease: nothing leaves
    let mut fenced = Harness::start(story.servers, story.servers.url(), false).await;
    let position = audit::position(story.servers.folder());
    fenced.warn(&victims, 0).await;
    let answers = fenced.evict(&victims).await;
    assert!(answers.values().all(|outcome| *outcome == EvictOutcome::Failed), "{answers:?}");
    let writes = audit::requests(story.servers.folder(), position);
    assert_eq!(writes.iter().filter(|request| request.is_write()).count(), 0, "{writes:?}");

    let faults = Faults {
        seed: 1,
        too_many: 0.1,
        timeout_before: 0.2,
        timeout_after: 0.5,
        ..Faults::default()
    };
    let (url, authority) = (story.servers.url(), story.servers.certificate());
    let proxy = FaultProxy::start(url, &authority, faults).await;
    let mut harness = Harness::start(story.servers, proxy.url(), true).await;
    let answers = harness.evict(&victims).await;
    assert!(answers.values().all(|outcome| *outcome == EvictOutcome::Evicted), "{answers:?}");
    assert!(proxy.counts().timeouts.load(Ordering::Relaxed) >= 6, "answers were lost");
    let ns = &story.namespace;
    let gone = |ledger: &super::Ledger| ledger.live_in(ns).count() == 0;
    story.auditor.expect(SOON, "all victims gone", gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_counts_evictions_as_failures_is_told_so() {
    let Some(story) = Story::begin("jobs", 1, 8).await else { return };
    let _harness = Harness::start(story.servers, story.servers.url(), true).await;
    let jobs: Api<Job> = Api::namespaced(story.client.clone(), &story.namespace);
    let ignores = json!({ "rules": [
        { "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] },
    ]});
    for (name, scheduler, policy) in [
        ("ignores", "mss-scheduler", ignores),
        ("another", "default-scheduler", json!(null)),
        ("counts", "mss-scheduler", json!(null)),
    ] {
        let container = json!({ "name": "train", "image": "registry.example/train:1" });
        let pod = json!({
            "schedulerName": scheduler, "restartPolicy": "Never", "containers": [container],
        });
        let spec = json!({ "template": { "spec": pod }, "podFailurePolicy": policy });
        let job = json!({ "metadata": { "name": name }, "spec": spec });
        let job: Job = serde_json::from_value(job).expect("a Job");
        jobs.create(&PostParams::default(), &job).await.expect("the Job is accepted");
    }
    let events: Api<PodEvent> = Api::namespaced(story.client.clone(), &story.namespace);
    let warnings = async || {
        let events = events.list(&ListParams::default()).await.expect("events can be listed");
        let ours = |event: &&PodEvent| event.reason.as_deref() == Some("EvictionsCountAsFailures");
        let about = |event: &PodEvent| event.regarding.clone().expect("it is about something");
        events.items.iter().filter(ours).map(about).collect::<Vec<_>>()
    };
    eventually("a warning", async || !warnings().await.is_empty()).await;
    let uid = jobs.get("counts").await.expect("it is there").metadata.uid;
    let about = warnings().await;
    assert_eq!(about.len(), 1, "{about:?}");
    assert_eq!((about[0].kind.as_deref(), about[0].name.as_deref()), (Some("Job"), Some("counts")));
    assert_eq!((about[0].uid.clone(), about[0].api_version.as_deref()), (uid, Some("batch/v1")));
}
