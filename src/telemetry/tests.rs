use super::catalogue::{CATALOGUE, Kind};
use super::http::{Endpoints, Health, PATHS, STALLED_AFTER, router};
use super::*;
use axum::body::Body;
use std::collections::BTreeSet;
use std::sync::Arc;
use tower::{Layer as _, ServiceExt as _};

/// The `HELP` and `TYPE` lines of families of ours, with one sample of each where none exists.
fn exposed(metrics: &Metrics) -> String {
    metrics.queue_incoming.with_label_values(&["active", "PodAdd"]).inc();
    metrics.rest_requests.with_label_values(&["200", "GET"]).inc();
    metrics.rest_duration.with_label_values(&["GET"]).observe(0.1);
    metrics.gpu_allocated.set_all([("nvidia.com/gpu", 3)]);
    metrics.gpu_allocatable.set_all([("nvidia.com/gpu", 8)]);
    metrics.unschedulable_gangs.set_all([("resources", 1)]);
    metrics.watch_relists.of("pods").inc();
    metrics.contract_errors.of("quantity").inc();
    metrics.plans.with_label_values(&["Begun"]).inc();
    metrics.quarantines.with_label_values(&["Begun"]).inc();
    metrics.failed_starts.with_label_values(&["Refused"]).inc();
    metrics.profile(0).unschedulable_pods("NodeResourcesFit").set(1);
    metrics.encode()
}

#[test]
fn exactly_the_catalogue_is_exposed() {
    let text = exposed(&Metrics::new(["mss-scheduler"]));
    let head = |line: &&str| line.starts_with("# ") && !line.contains(" process_");
    let found: BTreeSet<String> = text.lines().filter(head).map(str::to_owned).collect();
    let expected: BTreeSet<String> = CATALOGUE
        .iter()
        .flat_map(|family| {
            let (name, kind) = (family.name, family.kind.word());
            [format!("# HELP {name} {}", family.help), format!("# TYPE {name} {kind}")]
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn names_follow_the_conventions() {
    for family in CATALOGUE {
        let counter = family.kind == Kind::Counter;
        assert_eq!(counter, family.name.ends_with("_total"), "{}", family.name);
        assert!(!family.name.contains("milli"), "{}", family.name);
        assert!(family.help.ends_with('.'), "{}", family.name);
        for label in ["pod", "gang", "job", "node", "namespace", "uid"] {
            assert!(!family.labels.contains(&label), "{} has a label per {label}", family.name);
        }
    }
    let names: BTreeSet<&str> = CATALOGUE.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), CATALOGUE.len());
}

#[test]
fn buckets_are_upstreams() {
    let buckets = |name| catalogue::find(name).unwrap().kind.buckets();
    let attempt = buckets("scheduler_scheduling_attempt_duration_seconds");
    assert_eq!((attempt[0], attempt.len()), (0.001, 15));
    assert!((attempt[14] - 16.384).abs() < 1e-9);
    assert_eq!(buckets("scheduler_pod_scheduling_attempts"), [1.0, 2.0, 4.0, 8.0, 16.0]);
    assert_eq!(buckets("scheduler_pod_scheduling_sli_duration_seconds").len(), 20);
    assert_eq!(buckets("scheduler_framework_extension_point_duration_seconds").len(), 12);
}

#[test]
fn many_attempts_are_pooled() {
    let metrics = Metrics::new(["a"]);
    for attempts in [0, 1, 15, 16, 4_000_000_000] {
        metrics.sli_duration(attempts).observe(1.0);
    }
    let text = metrics.encode();
    let count = |label: &str| {
        let head = "scheduler_pod_scheduling_sli_duration_seconds_count";
        let line = format!("{head}{{attempts=\"{label}\"}} ");
        text.lines().find_map(|found| found.strip_prefix(&line)).map(str::to_owned)
    };
    assert_eq!(count("1").as_deref(), Some("2"));
    assert_eq!(count("15").as_deref(), Some("1"));
    assert_eq!(count("15+").as_deref(), Some("2"));
    assert_eq!(count("16"), None);
}

#[test]
fn results_carry_upstreams_words() {
    let metrics = Metrics::new(["a", "b"]);
    metrics.profile(1).attempts(Outcome::Unschedulable).inc_by(7);
    metrics.profile(0).podgroup_attempts(Outcome::Error).inc();
    metrics.profile(0).podgroup_attempt_duration(Outcome::Scheduled).observe(0.5);
    metrics.profile(0).attempt_duration(Outcome::Scheduled).observe(0.5);
    let text = metrics.encode();
    for line in [
        "scheduler_schedule_attempts_total{profile=\"b\",result=\"unschedulable\"} 7",
        "scheduler_podgroup_schedule_attempts_total{profile=\"a\",result=\"error\"} 1",
        concat!("mss_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.contains(line), "{line} not in\n{text}");
    }
    assert!(text.contains("process_resident_memory_bytes"));
}

#[test]
fn labels_from_objects_stay_within_their_bound() {
    let metrics = Metrics::new(["a"]);
    let names: Vec<String> = (0..1_000).map(|n| format!("vendor.example/gpu-{n}")).collect();
    metrics.gpu_allocated.set_all(names.iter().map(|name| (name.as_str(), 2)));
    for name in &names {
        metrics.contract_errors.of(name).inc();
    }
    let text = metrics.encode();
    let series = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(series("mss_gpu_allocated{"), 33);
    assert_eq!(series("mss_contract_errors_total{"), 33);
    assert!(text.contains("mss_gpu_allocated{resource=\"other\"} 1936"), "{text}");
    metrics.gpu_allocated.set_all([("vendor.example/gpu-0", 5)]);
    let text = metrics.encode();
    assert!(text.contains("mss_gpu_allocated{resource=\"vendor.example/gpu-0\"} 5"));
    assert!(text.contains("mss_gpu_allocated{resource=\"other\"} 0"));
}

#[test]
fn series_do_not_grow_with_the_cluster() {
    let text = exposed(&Metrics::new(["mss-scheduler"]));
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    // 16 histograms of attempts are 16 x 23 of these
    assert!(series < 900, "{series} series for one profile");
}

async fn answer(router: &axum::Router, path: &str) -> (u16, String) {
    let request = http_request(path);
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn http_request(path: &str) -> ::http::Request<Body> {
    ::http::Request::get(path).body(Body::empty()).unwrap()
}

fn endpoints(health: &Arc<Health>) -> axum::Router {
    router(Endpoints {
        metrics: Arc::new(Metrics::new(["a"])),
        health: Arc::clone(health),
        configz: serde_json::to_string(&crate::config::Configuration::default()).unwrap(),
    })
}

#[tokio::test]
async fn readiness_follows_sync_and_lease() {
    for (ready_when_standby, standby_status) in [(true, 200), (false, 500)] {
        let health = Arc::new(Health::new(ready_when_standby));
        let router = endpoints(&health);
        assert_eq!(answer(&router, "/readyz").await, (500, "not ok".to_owned()));
        health.set_synced(true);
        assert_eq!(answer(&router, "/readyz").await.0, standby_status);
        health.set_leading(true);
        assert_eq!(answer(&router, "/readyz").await, (200, "ok".to_owned()));
        health.set_synced(false);
        assert_eq!(answer(&router, "/readyz").await.0, 500);
    }
}

#[tokio::test]
async fn every_path_answers() {
    let health = Arc::new(Health::new(true));
    health.set_synced(true);
    let router = endpoints(&health);
    for (path, _) in PATHS {
        assert_eq!(answer(&router, path).await.0, 200, "{path}");
    }
    assert!(answer(&router, "/metrics").await.1.contains("# TYPE mss_leader gauge"));
    assert!(answer(&router, "/configz").await.1.contains("\"leaseDuration\":\"15s\""));
    assert_eq!(answer(&router, "/debug").await.0, 404);
}

#[test]
fn a_silent_thread_is_not_live() {
    let health = Health::new(true);
    health.beat();
    let limit = u64::try_from(STALLED_AFTER.as_millis()).unwrap();
    assert!(health.is_live() && health.is_live_at(limit - 1));
    assert!(!health.is_live_at(limit + 1_000));
}

#[tokio::test]
async fn requests_to_the_api_server_are_counted() {
    let metrics = Arc::new(Metrics::new(["a"]));
    let server = tower::service_fn(|request: ::http::Request<()>| async move {
        match request.uri().path() {
            "/gone" => Err("connection reset"),
            "/busy" => Ok(::http::Response::builder().status(429).body(()).unwrap()),
            _ => Ok(::http::Response::new(())),
        }
    });
    let client = RestClientLayer::new(Arc::clone(&metrics)).layer(server);
    for (method, path) in [("GET", "/"), ("POST", "/busy"), ("BREW", "/gone")] {
        let request = ::http::Request::builder().method(method).uri(path).body(()).unwrap();
        drop(client.clone().oneshot(request).await);
    }
    let text = metrics.encode();
    for labels in ["code=\"200\",method=\"GET\"", "code=\"429\",method=\"POST\""] {
        assert!(text.contains(&format!("rest_client_requests_total{{{labels}}} 1")), "{text}");
    }
    assert!(text.contains("{code=\"<error>\",method=\"OTHER\"} 1"), "{text}");
    assert!(text.contains("rest_client_request_duration_seconds_count{verb=\"POST\"} 1"));
}
