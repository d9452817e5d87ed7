//! The embedded API server over real HTTP: raw JSON and kube-rs.

use http::{Method, Request};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, PostParams, WatchEvent, WatchParams};
use mss_scheduler::simulator::api_server::{ApiServer, FaultAction, FaultRule, Handle, Options};
use serde_json::{Value, json};

async fn start() -> Handle {
    rustls::crypto::ring::default_provider().install_default().ok();
    ApiServer::start(Options::default()).await.expect("a free loopback port")
}

/// Sends a request; returns the body, whatever the code.
async fn ask(server: &Handle, method: Method, path: &str, body: Value) -> Value {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let kind = match method {
        Method::PATCH => "application/strategic-merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(body)
        .expect("a valid request");
    match server.client().request::<Value>(request).await {
        Ok(answer) => answer,
        Err(kube::Error::Api(status)) => serde_json::to_value(&*status).expect("a status"),
        Err(error) => panic!("{path}: {error}"),
    }
}

fn pod(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "main", "image": "busybox",
            "resources": { "limits": { "nvidia.com/gpu": "1" } } }] } })
}

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn a_pod_is_completed_bound_once_and_removed() {
    let server = start().await;
    let made = ask(&server, Method::POST, PODS, pod("a")).await;
    assert_eq!(made["status"], json!({ "phase": "Pending", "qosClass": "BestEffort" }));
    assert_eq!(made["spec"]["containers"][0]["resources"]["requests"]["nvidia.com/gpu"], "1");
    assert_eq!(made["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
    assert_eq!(made["spec"]["priority"], 0);

    let bind = |uid: &Value, node: &str| {
        let metadata = json!({ "name": "a", "uid": uid });
        json!({ "metadata": metadata, "target": { "name": node } })
    };
    let path = format!("{PODS}/a/binding");
    let wrong = ask(&server, Method::POST, &path, bind(&json!("other"), "n1")).await;
    assert_eq!((&wrong["reason"], &wrong["code"]), (&json!("Conflict"), &json!(409)));
    let uid = &made["metadata"]["uid"];
    let bound = ask(&server, Method::POST, &path, bind(uid, "n1")).await;
    assert_eq!(bound["status"], "Success");
    let again = ask(&server, Method::POST, &path, bind(uid, "n2")).await;
    let message = "Operation cannot be fulfilled on pods/binding \"a\": pod a is already assigned \
        to node \"n1\"";
    assert_eq!(again["message"], message);

    let leaving = ask(&server, Method::DELETE, &format!("{PODS}/a"), Value::Null).await;
    assert_eq!(leaving["metadata"]["deletionGracePeriodSeconds"], 30);
    let path = format!("{PODS}/a?gracePeriodSeconds=0");
    ask(&server, Method::DELETE, &path, Value::Null).await;
    let gone = ask(&server, Method::GET, &format!("{PODS}/a"), Value::Null).await;
    assert_eq!(gone["message"], "pods \"a\" not found");
    server.stop().await;
}

#[tokio::test]
async fn a_watch_tells_what_starts_and_stops_to_match() {
    use futures::{StreamExt, TryStreamExt};
    let server = start().await;
    let pods: Api<Pod> = Api::namespaced(server.client(), "default");
    let begin = pods.list(&ListParams::default()).await.expect("lists").metadata.resource_version;
    let watch = WatchParams::default().labels("color=red").timeout(5);
    let stream = pods.watch(&watch, &begin.expect("a version")).await.expect("watches");
    let mut red = pod("a");
    red["metadata"]["labels"] = json!({ "color": "red" });
    ask(&server, Method::POST, PODS, red).await;
    for color in ["blue", "red"] {
        let patch = json!({ "metadata": { "labels": { "color": color } } });
        ask(&server, Method::PATCH, &format!("{PODS}/a"), patch).await;
    }
    ask(&server, Method::DELETE, &format!("{PODS}/a"), Value::Null).await;
    let events: Vec<_> = stream.take(5).try_collect().await.expect("events");
    let names: Vec<_> = events
        .iter()
        .map(|event| match event {
            WatchEvent::Added(_) => "ADDED",
            WatchEvent::Modified(_) => "MODIFIED",
            WatchEvent::Deleted(_) => "DELETED",
            _ => "other",
        })
        .collect();
    assert_eq!(names, ["ADDED", "DELETED", "ADDED", "MODIFIED", "DELETED"]);
}

#[tokio::test]
async fn refusals_are_upstreams() {
    let server = start().await;
    let mut classless = pod("p");
    classless["spec"]["priorityClassName"] = json!("nope");
    let mut unlimited = pod("p");
    unlimited["spec"]["containers"][0]["resources"] =
        json!({ "requests": { "nvidia.com/gpu": "1" } });
    let cases = [
        (
            PODS,
            json!({ "metadata": { "name": "x" }, "spec": {} }),
            422,
            "Pod \"x\" is invalid: spec.containers: Required value",
        ),
        ("/api/v1/namespaces/none/pods", pod("x"), 404, "namespaces \"none\" not found"),
        (
            PODS,
            classless,
            403,
            "pods \"p\" is forbidden: no PriorityClass with name nope was found",
        ),
        (
            PODS,
            unlimited,
            422,
            "Pod \"p\" is invalid: spec.containers[0].resources.limits: \
            Required value: Limit must be set for non overcommitable resources",
        ),
    ];
    for (path, body, code, message) in cases {
        let answer = ask(&server, Method::POST, path, body).await;
        assert_eq!((&answer["code"], &answer["message"]), (&json!(code), &json!(message)));
    }
}

#[tokio::test]
async fn faults_come_before_and_after_the_commit() {
    let server = start().await;
    let rule = |action| FaultRule {
        verb: "create".into(),
        resource: "pods".into(),
        every: Some(1),
        action: Some(action),
        ..FaultRule::default()
    };
    server.set_faults(vec![rule(FaultAction::TimeoutBefore)]).expect("valid");
    assert_eq!(ask(&server, Method::POST, PODS, pod("a")).await["code"], 504);
    server.set_faults(vec![rule(FaultAction::TimeoutAfter)]).expect("valid");
    assert_eq!(ask(&server, Method::POST, PODS, pod("b")).await["code"], 504);
    assert_eq!(server.fault_counters()[0].hit, 1);
    server.set_faults(vec![rule(FaultAction::ResetAfter)]).expect("valid");
    let pods: Api<Pod> = Api::namespaced(server.client(), "default");
    let c: Pod = serde_json::from_value(pod("c")).expect("a pod");
    assert!(pods.create(&PostParams::default(), &c).await.is_err());
    let names: Vec<_> = pods.list(&ListParams::default()).await.expect("lists").items;
    let names: Vec<_> = names.into_iter().filter_map(|p| p.metadata.name).collect();
    assert_eq!(names, ["b", "c"], "done, though nobody was told; and a was not");
}

#[tokio::test]
async fn an_eviction_asks_the_budget() {
    let server = start().await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let mut member = pod("a");
    member["metadata"]["labels"] = json!({ "app": "x" });
    ask(&server, Method::POST, PODS, member).await;
    let bind = json!({ "metadata": { "name": "a" }, "target": { "name": "n" } });
    ask(&server, Method::POST, &format!("{PODS}/a/binding"), bind).await;
    let running = json!({ "status": { "phase": "Running",
        "conditions": [{ "type": "Ready", "status": "True" }] } });
    ask(&server, Method::PATCH, &format!("{PODS}/a/status"), running).await;
    let budget = json!({ "metadata": { "name": "b" }, "spec": { "minAvailable": 1,
        "selector": { "matchLabels": { "app": "x" } } } });
    ask(&server, Method::POST, budgets, budget).await;
    let kept = ask(&server, Method::GET, &format!("{budgets}/b"), Value::Null).await;
    assert_eq!(kept["status"]["disruptionsAllowed"], 0);
    assert_eq!(kept["status"]["currentHealthy"], 1);
    let evict = json!({ "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": { "name": "a" } });
    let path = format!("{PODS}/a/eviction");
    let refused = ask(&server, Method::POST, &path, evict.clone()).await;
    assert_eq!(refused["code"], 429);
    assert_eq!(
        refused["details"]["causes"][0]["message"],
        "The disruption budget b needs 1 healthy pods and has 1 currently"
    );
    ask(&server, Method::DELETE, &format!("{budgets}/b"), Value::Null).await;
    assert_eq!(ask(&server, Method::POST, &path, evict).await["status"], "Success");
}

/// Members of the budget that many evict at once.
const MEMBERS: usize = 12;
const ROUNDS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn of_many_evictions_at_once_no_more_succeed_than_the_budget_allows() {
    let server = std::sync::Arc::new(start().await);
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    for index in 0..MEMBERS {
        let name = format!("p{index}");
        let mut member = pod(&name);
        member["metadata"]["labels"] = json!({ "app": "x" });
        ask(&server, Method::POST, PODS, member).await;
        let bind = json!({ "metadata": { "name": name }, "target": { "name": "n" } });
        ask(&server, Method::POST, &format!("{PODS}/{name}/binding"), bind).await;
        let running = json!({ "status": { "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "True" }] } });
        ask(&server, Method::PATCH, &format!("{PODS}/{name}/status"), running).await;
    }
    let budget = json!({ "metadata": { "name": "b" }, "spec": { "minAvailable": MEMBERS,
        "selector": { "matchLabels": { "app": "x" } } } });
    ask(&server, Method::POST, budgets, budget).await;
    let mut members: Vec<_> = (0..MEMBERS).map(|index| format!("p{index}")).collect();
    for round in 1..=ROUNDS {
        let fewer = json!({ "spec": { "minAvailable": MEMBERS - round } });
        ask(&server, Method::PATCH, &format!("{budgets}/b"), fewer).await;
        let evictions = members.iter().cloned().map(|name| {
            let server = server.clone();
            tokio::spawn(async move {
                let body = json!({ "apiVersion": "policy/v1", "kind": "Eviction",
                    "metadata": { "name": name } });
                let path = format!("{PODS}/{name}/eviction");
                (name, ask(&server, Method::POST, &path, body).await)
            })
        });
        let mut gone = Vec::new();
        for eviction in evictions.collect::<Vec<_>>() {
            let (name, answer) = eviction.await.expect("no panic");
            if answer["status"] == "Success" {
                gone.push(name);
                continue;
            }
            assert_eq!(answer["code"], 429, "{answer}");
            let message = "Cannot evict pod as it would violate the pod's disruption budget.";
            assert_eq!(answer["message"], message);
            assert_eq!(answer["details"]["causes"][0]["reason"], "DisruptionBudget");
        }
        assert_eq!(gone.len(), 1, "round {round}: the budget allows one");
        members.retain(|name| !gone.contains(name));
        let kept = ask(&server, Method::GET, &format!("{budgets}/b"), Value::Null).await;
        let status = &kept["status"];
        assert_eq!(status["disruptionsAllowed"], 0);
        assert_eq!(status["currentHealthy"], MEMBERS - round);
        assert!(status["disruptedPods"].is_null(), "the pod is seen to leave: {status}");
    }
}

#[tokio::test]
async fn a_watch_older_than_the_log_is_told() {
    let server = start().await;
    ask(&server, Method::POST, PODS, pod("a")).await;
    server.store().compact();
    let path = format!("{PODS}?watch=true&resourceVersion=1&timeoutSeconds=2");
    let answer = ask(&server, Method::GET, &path, Value::Null).await;
    assert_eq!((&answer["type"], &answer["object"]["code"]), (&json!("ERROR"), &json!(410)));
}

#[tokio::test]
async fn custom_kinds_are_served_at_once() {
    let server = start().await;
    let definition = json!({
        "metadata": { "name": "jobs.example.com" },
        "spec": { "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "jobs", "kind": "Job" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": {
                    "type": "object", "required": ["size"], "properties": {
                        "size": { "type": "integer", "minimum": 1 },
                        "queue": { "type": "string", "default": "main" } } } } } } }] },
    });
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    ask(&server, Method::POST, path, definition).await;
    let jobs = "/apis/example.com/v1/namespaces/default/jobs";
    let body = |size: i64| {
        json!({ "apiVersion": "example.com/v1", "kind": "Job", "metadata": { "name": "j" },
            "spec": { "size": size, "other": true } })
    };
    assert_eq!(ask(&server, Method::POST, jobs, body(0)).await["code"], 422);
    let made = ask(&server, Method::POST, jobs, body(2)).await;
    assert_eq!(made["spec"], json!({ "size": 2, "queue": "main" }));
}

/// Binds in flight at once.
const IN_FLIGHT: usize = 64;
const BINDS: usize = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn binds_are_counted_and_all_are_watched() {
    use futures::{StreamExt, TryStreamExt, stream};
    let server = start().await;
    for index in 0..BINDS {
        let mut object = pod(&format!("p{index}"));
        object["metadata"]["namespace"] = json!("default");
        server.create(&object).expect("valid");
    }
    let pods: Api<Pod> = Api::namespaced(server.client(), "default");
    let begin = server.store().revision().to_string();
    let events = pods.watch(&WatchParams::default().timeout(60), &begin).await.expect("watches");
    let watcher = tokio::spawn(events.take(BINDS).try_collect::<Vec<_>>());
    let client = server.client();
    let started = std::time::Instant::now();
    stream::iter(0..BINDS)
        .for_each_concurrent(IN_FLIGHT, |index| {
            let client = client.clone();
            async move {
                let name = format!("p{index}");
                let body = json!({ "metadata": { "name": name }, "target": { "name": "n" } });
                let request = Request::post(format!("{PODS}/{name}/binding"))
                    .header("content-type", "application/json")
                    .body(body.to_string().into_bytes())
                    .expect("a valid request");
                let done: Value = client.request(request).await.expect("bound");
                assert_eq!(done["status"], "Success");
            }
        })
        .await;
    let seconds = started.elapsed().as_secs_f64();
    println!("{BINDS} binds in {seconds:.2} s: {:.0}/s", BINDS as f64 / seconds);
    let seen = watcher.await.expect("no panic").expect("no error in the stream");
    assert_eq!(seen.len(), BINDS);
}
