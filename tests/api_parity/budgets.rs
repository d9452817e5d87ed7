//! Evictions that a disruption budget allows and refuses. No controller runs beside the real
//! server, so the status that one would write is written to both after every step.

use super::compare::Pair;
use super::operations::{MERGE, Operation, STRATEGIC};
use serde_json::{Value, json};

const PODS: usize = 3;

fn status(
    healthy: usize,
    desired: usize,
    allowed: usize,
    expected: usize,
    generation: u64,
) -> Value {
    let (state, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    json!({ "status": { "currentHealthy": healthy, "desiredHealthy": desired,
        "disruptionsAllowed": allowed, "expectedPods": expected, "disruptedPods": null,
        "observedGeneration": generation,
        "conditions": [{ "type": "DisruptionAllowed", "status": state, "reason": reason,
            "message": "", "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z" }] } })
}

async fn running_pods(pair: &mut Pair, pods: &str, ready: &str) {
    for index in 0..PODS {
        let name = format!("e{index}");
        let pod = json!({ "metadata": { "name": name, "labels": { "app": "x" } },
            "spec": { "containers": [{ "name": "a", "image": "x" }] } });
        pair.both("budget", &Operation::post("budget pod", pods.into(), pod)).await;
        let bind = json!({ "metadata": { "name": name }, "target": { "name": "n" } });
        let path = format!("{pods}/{name}/binding");
        pair.both("budget", &Operation::post("budget pod", path, bind)).await;
        let running = json!({ "status": { "phase": "Running",
            "conditions": [{ "type": "Ready", "status": ready }] } });
        let path = format!("{pods}/{name}/status");
        let run = Operation::patch("budget pod", path, STRATEGIC, running);
        pair.both("budget", &run).await;
    }
}

/// The story, in a namespace of its own; `minimum` pods must stay.
pub(crate) async fn story(pair: &mut Pair, namespace: &str, minimum: usize, ready: bool) {
    let create = json!({ "metadata": { "name": namespace } });
    pair.prepare(&Operation::post("", "/api/v1/namespaces".into(), create)).await;
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let budgets = format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets");
    running_pods(pair, &pods, if ready { "True" } else { "False" }).await;
    let budget = json!({ "metadata": { "name": "b" }, "spec": { "minAvailable": minimum,
        "selector": { "matchLabels": { "app": "x" } } } });
    pair.prepare(&Operation::post("", budgets.clone(), budget)).await;
    let path = format!("{budgets}/b");
    let healthy = |left: usize| if ready { left } else { 0 };
    let allowed = |left: usize| healthy(left).saturating_sub(minimum);
    let mut evicted = 0;
    for _ in 0..=PODS {
        let left = PODS - evicted;
        let status = status(healthy(left), minimum, allowed(left), PODS, 1);
        pair.prepare(&Operation::patch("", format!("{path}/status"), MERGE, status)).await;
        pair.both("budget", &Operation::get("budget get", path.clone())).await;
        pair.both("budget", &Operation::table("budget table", budgets.clone())).await;
        for query in ["?dryRun=All", ""] {
            let name = format!("e{}", evicted.min(PODS - 1));
            let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": { "name": name } });
            let path = format!("{pods}/{name}/eviction{query}");
            let eviction = Operation::post("budget eviction", path, eviction);
            let answer = pair.both("budget", &eviction).await;
            if query.is_empty() && answer["code"] == 201 && evicted < PODS {
                evicted += 1;
            }
        }
        pair.both("budget", &Operation::get("budget pod", pods.clone())).await;
    }
    let second = json!({ "metadata": { "name": "c" }, "spec": { "maxUnavailable": 0,
        "selector": {} } });
    pair.prepare(&Operation::post("", budgets, second)).await;
    let name = format!("e{}", PODS - 1);
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": { "name": name } });
    let path = format!("{pods}/{name}/eviction");
    pair.both("budget", &Operation::post("budget eviction", path, eviction)).await;
}
