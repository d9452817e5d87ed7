//! The embedded API server over real HTTP: raw JSON, kube-rs, and the kubectl of this machine.

use http::{Method, Request};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, PostParams, WatchEvent, WatchParams};
use mss_scheduler::simulator::api_server::{ApiServer, FaultAction, FaultRule, Handle, Options};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

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

/// The newest kubectl programs of this machine; the one built for the tests comes first.
fn kubectls() -> Vec<PathBuf> {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control_plane/build.sh");
    let built = build.exists().then(|| Command::new(build).output().ok()).flatten();
    let built = built.filter(|o| o.status.success()).and_then(|o| {
        let text = String::from_utf8(o.stdout).ok()?;
        Some(PathBuf::from(text.lines().last()?).join("kubectl"))
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let plain = folders.iter().map(|f| f.join("kubectl"));
    let named =
        folders.iter().flat_map(|f| (29..40).map(move |v| f.join(format!("kubectl.1.{v}"))));
    let extra =
        (29..40).map(|v| PathBuf::from(format!("/usr/lib/google-cloud-sdk/bin/kubectl.1.{v}")));
    built.into_iter().chain(plain).chain(named).chain(extra).filter(|p| p.exists()).collect()
}

fn kubectl(program: &Path, server: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(["--server", server, "--cache-dir"])
        .arg(std::env::temp_dir().join(format!("mss-kubectl-{}", std::process::id())))
        .args(arguments)
        .env("KUBECONFIG", "/dev/null")
        .output()
        .expect("kubectl starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program:?} {arguments:?}: {text}{error}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works() {
    let programs = kubectls();
    if programs.is_empty() {
        println!("SKIPPED: no kubectl on this machine, so none was tried");
        assert!(std::env::var_os("CI").is_none(), "with CI set nothing may be skipped");
        return;
    }
    for program in programs {
        let server = start().await;
        let url = server.url();
        tokio::task::spawn_blocking(move || story(&program, &url)).await.expect("the story holds");
        tokio::time::timeout(Duration::from_secs(5), server.stop()).await.expect("stops");
    }
}

/// What a newcomer does, with one kubectl.
fn story(program: &Path, url: &str) {
    let run = |arguments: &[&str]| kubectl(program, url, arguments);
    let version = run(&["version"]);
    println!("{}", version.lines().next().unwrap_or(""));
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, object: &Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, object.to_string()).expect("writable");
        path.to_string_lossy().into_owned()
    };
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" },
        "status": { "capacity": { "nvidia.com/gpu": "8" },
            "conditions": [{ "type": "Ready", "status": "True" }] } });
    run(&["create", "-f", &file("node.json", &node)]);
    let mut manifest = pod("a");
    run(&["apply", "-f", &file("pod.json", &manifest)]);
    manifest["metadata"]["labels"] = json!({ "tier": "gold" });
    manifest["spec"]["containers"][0]["image"] = json!("busybox:2");
    assert!(run(&["apply", "-f", &file("pod.json", &manifest)]).contains("configured"));
    assert!(run(&["apply", "-f", &file("pod.json", &manifest)]).contains("unchanged"));
    let bind = json!({ "apiVersion": "v1", "kind": "Binding",
        "metadata": { "name": "a", "namespace": "default" },
        "target": { "apiVersion": "v1", "kind": "Node", "name": "n1" } });
    run(&[
        "create",
        "--raw",
        "/api/v1/namespaces/default/pods/a/binding",
        "-f",
        &file("bind.json", &bind),
    ]);
    let wide = run(&["get", "pods", "-o", "wide"]);
    assert!(wide.contains("NOMINATED NODE") && wide.contains("n1"), "{wide}");
    assert!(run(&["get", "pods", "-l", "tier in (gold)"]).contains("Pending"));
    assert!(run(&["describe", "pod", "a"]).contains("busybox:2"));
    run(&["label", "pod", "a", "x=y"]);
    run(&["annotate", "pod", "a", "k=v"]);
    run(&["cordon", "n1"]);
    assert!(run(&["get", "nodes"]).contains("Ready,SchedulingDisabled"));
    assert!(run(&["describe", "node", "n1"]).contains("Unschedulable"));
    run(&[
        "apply",
        "--server-side",
        "-f",
        &file(
            "map.json",
            &json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" },
            "data": { "a": "b" } }),
        ),
    ]);
    run(&["create", "namespace", "extra"]);
    assert!(run(&["get", "ns"]).contains("extra"));
    run(&["delete", "namespace", "extra"]);
    run(&["delete", "pod", "a", "--grace-period=0", "--force"]);
    let events = run(&["get", "pods"]);
    assert!(!events.contains("Pending"), "{events}");
}
