//! Users by name: the admission policies of `manifests/users` stamp pods and templates with who
//! created them, nobody else can, and shares go by that.

use super::SOON;
use super::queues::{QUEUES, install, queue, remove, send};
use super::shares::shown;
use super::support::control_plane::ControlPlane;
use super::support::objects::bare_pod;
use super::support::scheduler::{Scheduler, Settings};
use super::support::story::Story;
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const POLICIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/users");
const USER: &str = "mss-scheduler.io/user";
const JOBS: &str = "system:serviceaccount:kube-system:job-controller";
const DEPLOYMENTS: &str = "system:serviceaccount:kube-system:deployment-controller";
const OPERATOR: &str = "system:serviceaccount:operators:somebody";

/// Asks in the name of somebody else, as a cluster's administrator may.
async fn ask(
    client: &kube::Client,
    user: &str,
    method: Method,
    path: &str,
    body: &Value,
) -> Result<Value, String> {
    let kind = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, kind)
        .header("Impersonate-User", user)
        .body(body.to_string().into_bytes())
        .expect("a valid request");
    client.request(request).await.map_err(|error| error.to_string())
}

fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

/// A pod that says who its user is.
fn claiming(namespace: &str, name: &str, user: Option<&str>) -> Value {
    let mut pod = serde_json::to_value(bare_pod(namespace, name, 0)).expect("a pod is JSON");
    if let Some(user) = user {
        pod["metadata"]["annotations"] = json!({ USER: user });
    }
    pod
}

fn stamp(object: &Value) -> &str {
    object["metadata"]["annotations"][USER].as_str().unwrap_or("nobody")
}

/// The rights to do all that is tried here, so that only the policies refuse.
async fn entitle(story: &Story) {
    let people = ["alice", "bob", JOBS, DEPLOYMENTS, OPERATOR];
    let subjects = people.map(
        |name| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name }),
    );
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "test-users"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin",
        },
        "subjects": subjects,
    });
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    send(&story.client, Method::POST, path, &binding).await.expect("the rights can be given");
}

/// Applies the policies and waits until the API server goes by them.
async fn enforce(story: &Story) {
    story.servers.run_kubectl(&["apply", "-k", POLICIES]).expect("the policies are accepted");
    let path = format!("{}?dryRun=All", pods(&story.namespace));
    let template = template(None);
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "trial"},
        "spec": {"template": template},
    });
    let jobs = format!("/apis/batch/v1/namespaces/{}/jobs?dryRun=All", story.namespace);
    let deadline = Instant::now() + SOON;
    loop {
        let trial = claiming(&story.namespace, "trial", None);
        let pod = ask(&story.client, "alice", Method::POST, &path, &trial).await;
        let job = ask(&story.client, "alice", Method::POST, &jobs, &job).await;
        if let (Ok(pod), Ok(job)) = (&pod, &job)
            && stamp(pod) == "alice"
            && stamp(&job["spec"]["template"]) == "alice"
        {
            break;
        }
        assert!(Instant::now() < deadline, "the policies do nothing: {pod:?}, {job:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // those that refuse are looked at last
    let path = format!("{}/settled", pods(&story.namespace));
    let pod = claiming(&story.namespace, "settled", None);
    ask(&story.client, "alice", Method::POST, &pods(&story.namespace), &pod).await.expect("a pod");
    for number in 0.. {
        let other = json!({ "metadata": { "annotations": { USER: format!("bob-{number}") } } });
        if ask(&story.client, "alice", Method::PATCH, &path, &other).await.is_err() {
            break;
        }
        assert!(Instant::now() < deadline, "edits are not refused");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn template(claimed: Option<&str>) -> Value {
    let pod = claiming("", "", claimed);
    let mut metadata = json!({ "labels": { "app": "a" } });
    if claimed.is_some() {
        metadata["annotations"] = pod["metadata"]["annotations"].clone();
    }
    let mut spec = pod["spec"].clone();
    spec["restartPolicy"] = json!("Never");
    json!({ "metadata": metadata, "spec": spec })
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_stamped_with_their_users_and_shares_go_by_them() {
    let Some(story) = Story::begin("users", 1, 8).await else { return };
    entitle(&story).await;
    enforce(&story).await;
    people_are_stamped(&story).await;
    templates_are_stamped(&story).await;
    workloads_keep_their_stamp(&story).await;
    super::support::objects::delete_pods(&story.client, &story.namespace).await;
    shares_go_by_user(&story).await;
    remove(story.servers);
    withdraw(story.servers);
}

fn withdraw(servers: &ControlPlane) {
    servers.run_kubectl(&["delete", "-k", POLICIES]).expect("the policies can be removed");
}

/// What a person says does not count, before or after; what an account creates is its namespace's.
async fn people_are_stamped(story: &Story) {
    let (client, ns) = (&story.client, &*story.namespace);
    let create = async |user, name, claimed| {
        let pod = claiming(ns, name, claimed);
        ask(client, user, Method::POST, &pods(ns), &pod).await.expect("the pod is taken")
    };
    assert_eq!(stamp(&create("alice", "plain", None).await), "alice");
    assert_eq!(stamp(&create("alice", "forged", Some("bob")).await), "alice");
    assert_eq!(stamp(&create(OPERATOR, "operated", Some("bob")).await), ns);
    let foreign = {
        let mut pod = claiming(ns, "foreign", None);
        pod["spec"]["schedulerName"] = json!("default-scheduler");
        ask(client, "alice", Method::POST, &pods(ns), &pod).await.expect("the pod is taken")
    };
    assert_eq!(stamp(&foreign), "nobody", "pods of other schedulers are left alone");

    let path = format!("{}/plain", pods(ns));
    for (path, value) in [
        (path.clone(), json!("bob")),
        (path.clone(), Value::Null),
        (path.clone() + "/status", json!("bob")),
    ] {
        let edit = json!({ "metadata": { "annotations": { USER: value } } });
        let error = ask(client, "alice", Method::PATCH, &path, &edit).await;
        let error = error.expect_err(&format!("{path} to {value} is refused"));
        assert!(error.contains("mss-scheduler.io/user does not change"), "{error}");
    }
    let edit = json!({ "metadata": { "annotations": { "example.com/note": "mine" } } });
    let edited = ask(client, "alice", Method::PATCH, &path, &edit).await.expect("other edits");
    assert_eq!(stamp(&edited), "alice");
    let edited = ask(client, "alice", Method::PATCH, &(path + "/status"), &edit).await;
    assert_eq!(stamp(&edited.expect("other edits")), "alice");
}

/// The pods that controllers make belong to whoever created the workload.
async fn templates_are_stamped(story: &Story) {
    let (client, ns) = (&story.client, &*story.namespace);
    let path = format!("/apis/batch/v1/namespaces/{ns}/jobs");
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train"},
        "spec": {"template": template(Some("alice"))},
    });
    let job = ask(client, "bob", Method::POST, &path, &job).await.expect("the job is taken");
    assert_eq!(stamp(&job["spec"]["template"]), "bob", "what he wrote does not count");
    // as its controller does it
    let of_template = |name: &str, template: &Value| {
        let mut pod = template.clone();
        pod["metadata"]["name"] = name.into();
        pod["metadata"]["namespace"] = ns.into();
        pod
    };
    let pod = of_template("train-0", &job["spec"]["template"]);
    let pod = ask(client, JOBS, Method::POST, &pods(ns), &pod).await.expect("the pod is taken");
    assert_eq!(stamp(&pod), "bob", "its pods are his and not the controller's");

    let path = format!("/apis/batch/v1/namespaces/{ns}/cronjobs");
    let nightly = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
        "spec": {
            "schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": template(Some("bob"))}},
        },
    });
    let nightly = ask(client, "alice", Method::POST, &path, &nightly).await.expect("it is taken");
    assert_eq!(stamp(&nightly["spec"]["jobTemplate"]["spec"]["template"]), "alice");
}

/// Edits by others move nothing to them, and nobody moves his own to others.
async fn workloads_keep_their_stamp(story: &Story) {
    let (client, ns) = (&story.client, &*story.namespace);
    let path = format!("/apis/apps/v1/namespaces/{ns}/deployments");
    let mut template = template(None);
    template["spec"]["restartPolicy"] = json!("Always");
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "serve"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template},
    });
    let created = ask(client, "bob", Method::POST, &path, &deployment).await.expect("it is taken");
    let serve = format!("{path}/serve");
    // a replacement that does not say it
    let mut whole = deployment.clone();
    whole["metadata"]["resourceVersion"] = created["metadata"]["resourceVersion"].clone();
    let replaced = ask(client, "alice", Method::PUT, &serve, &whole).await.expect("it is taken");
    assert_eq!(stamp(&replaced["spec"]["template"]), "bob");
    // and an edit that says otherwise
    let edit =
        json!({ "spec": { "template": { "metadata": { "annotations": { USER: "alice" } } } } });
    let edited = ask(client, "alice", Method::PATCH, &serve, &edit).await.expect("it is taken");
    assert_eq!(stamp(&edited["spec"]["template"]), "bob");
    // its controller's sets carry it on
    let sets = format!("/apis/apps/v1/namespaces/{ns}/replicasets");
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "serve-1"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": edited["spec"]["template"]},
    });
    let set = ask(client, DEPLOYMENTS, Method::POST, &sets, &set).await.expect("it is taken");
    assert_eq!(stamp(&set["spec"]["template"]), "bob");
    // one that is no template's own is stamped as any other
    let mut forged = set.clone();
    forged["metadata"] = json!({ "name": "serve-2" });
    let forged = ask(client, "alice", Method::POST, &sets, &forged).await.expect("it is taken");
    assert_eq!(stamp(&forged["spec"]["template"]), "alice");
}

/// Two people in one namespace: who comes later gets half, though the first had everything.
async fn shares_go_by_user(story: &Story) {
    let (client, ns) = (&story.client, &*story.namespace);
    install(story.servers);
    let team = queue("team", &json!({ "namespaces": [ns] }));
    send(client, Method::POST, QUEUES, &team).await.expect("a good queue");
    let settings = Settings { more: "queues:\n  users: Stamped\n", ..Settings::default() };
    let _scheduler = Scheduler::start(story.servers, &settings).await;
    let bound = |user: &'static str| {
        move |ledger: &super::Ledger| {
            let of = ledger.live_in(ns).filter(|pod| pod.name.starts_with(user));
            of.filter(|pod| pod.node().is_some()).count()
        }
    };
    let ask_for_eight = async |user: &str| {
        for number in 0..8 {
            let pod = bare_pod(ns, &format!("{user}-{number}"), 1);
            let pod = serde_json::to_value(pod).expect("a pod is JSON");
            ask(client, user, Method::POST, &pods(ns), &pod).await.expect("the pod is taken");
        }
    };
    ask_for_eight("alice").await;
    story.auditor.expect(SOON, "alice has all 8 GPUs", |l| bound("alice")(l) == 8).await;
    ask_for_eight("bob").await;
    let half = |ledger: &super::Ledger| bound("alice")(ledger) == 4 && bound("bob")(ledger) == 4;
    story.auditor.expect(SOON, "each has half", half).await;
    story.auditor.assert_clean();
    let users = |status: &Value| {
        let users = status["usage"]["users"].as_array().cloned().unwrap_or_default();
        users.iter().filter_map(|user| user["name"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let status = shown(client, "team", |status| users(status).len() == 2).await;
    assert_eq!(users(&status), ["alice", "bob"], "{status}");
}
