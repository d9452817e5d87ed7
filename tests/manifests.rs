//! The manifests: understood field by field, granting exactly the rights used, agreeing with each
//! other and with the program, and accepted by a real API server.

mod support;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, Namespace, Pod, PodSpec, Service, ServiceAccount,
};
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PostParams};
use mss_scheduler::config::Configuration;
use mss_scheduler::kubernetes::convert;
use mss_scheduler::kubernetes::objects::QueueObject;
use mss_scheduler::kubernetes::permissions::{PERMISSIONS, Permission};
use mss_scheduler::model::contract;
use mss_scheduler::model::queue::{QueueSpec, WEIGHT_MAX};
use mss_scheduler::simulator::api_server::ApiServer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use support::control_plane::{ControlPlane, User};

const NAME: &str = "mss-scheduler";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

/// The objects of a file.
fn objects(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder().join(file)).unwrap();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The one object of a kind.
fn object<T: DeserializeOwned>(file: &str, kind: &str) -> T {
    let found = objects(file).into_iter().find(|object| object["kind"] == kind);
    serde_json::from_value(found.unwrap_or_else(|| panic!("{file} has no {kind}"))).unwrap()
}

fn resources() -> Vec<String> {
    resources_of(".")
}

/// Every field of an object survives the typed form: none is misspelt or misplaced.
fn round_trips<T: DeserializeOwned + Serialize>(object: &Value) {
    let typed: T = serde_json::from_value(object.clone()).unwrap();
    let back = serde_json::to_value(typed).unwrap();
    let mut lost = Vec::new();
    compare(object, &back, "", &mut lost);
    assert!(lost.is_empty(), "{}: unknown fields {lost:?}", object["kind"]);
}

fn compare(before: &Value, after: &Value, path: &str, lost: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(fields), _) => {
            for (name, value) in fields {
                compare(value, &after[name], &format!("{path}.{name}"), lost);
            }
        }
        (Value::Array(items), _) => {
            for (index, item) in items.iter().enumerate() {
                compare(item, &after[index], &format!("{path}[{index}]"), lost);
            }
        }
        // quantities and ports may be numbers in YAML and texts when typed
        (before, after) => {
            let text = |value: &Value| value.to_string().trim_matches('"').to_owned();
            let equal = before.is_number() && before.as_f64() == after.as_f64();
            if !equal && text(before) != text(after) {
                lost.push(path.to_owned());
            }
        }
    }
}

#[test]
fn every_field_is_known_to_the_api() {
    let mut files = resources();
    files.push("examples/gang.yaml".to_owned());
    files.push("examples/queues.yaml".to_owned());
    for file in files {
        for object in objects(&file) {
            match object["kind"].as_str().unwrap() {
                "Namespace" => round_trips::<Namespace>(&object),
                "ServiceAccount" => round_trips::<ServiceAccount>(&object),
                "ClusterRole" => round_trips::<ClusterRole>(&object),
                "ClusterRoleBinding" => round_trips::<ClusterRoleBinding>(&object),
                "Role" => round_trips::<Role>(&object),
                "RoleBinding" => round_trips::<RoleBinding>(&object),
                "ConfigMap" => round_trips::<ConfigMap>(&object),
                "Deployment" => round_trips::<Deployment>(&object),
                "PodDisruptionBudget" => round_trips::<PodDisruptionBudget>(&object),
                "Service" => round_trips::<Service>(&object),
                "NetworkPolicy" => round_trips::<NetworkPolicy>(&object),
                "FlowSchema" => round_trips::<FlowSchema>(&object),
                "Job" => round_trips::<Job>(&object),
                "CustomResourceDefinition" => round_trips::<CustomResourceDefinition>(&object),
                // what is misspelt there, the API server refuses below
                "Queue" => drop(queue(&object)),
                other => panic!("{file}: kind {other} is not checked"),
            }
        }
    }
}

/// The policies that stamp users, which are applied apart from the rest. What they do is shown on a
/// real API server.
#[test]
fn policies_of_users_are_whole_and_agree() {
    let files = resources_of("users");
    assert_eq!(files, ["pods.yaml", "workloads.yaml"]);
    let mut policies = Vec::new();
    for file in files {
        let [list] = objects(&format!("users/{file}")).try_into().unwrap();
        for item in list["items"].as_array().unwrap() {
            match item["kind"].as_str().unwrap() {
                "MutatingAdmissionPolicy" => round_trips::<MutatingAdmissionPolicy>(item),
                "ValidatingAdmissionPolicy" => round_trips::<ValidatingAdmissionPolicy>(item),
                "MutatingAdmissionPolicyBinding" => {
                    round_trips::<MutatingAdmissionPolicyBinding>(item);
                }
                "ValidatingAdmissionPolicyBinding" => {
                    round_trips::<ValidatingAdmissionPolicyBinding>(item);
                }
                other => panic!("{file}: kind {other} is not checked"),
            }
            if item["kind"].as_str().unwrap().ends_with("Binding") {
                assert_eq!(item["spec"]["policyName"], item["metadata"]["name"]);
            } else {
                policies.push(item.clone());
            }
        }
    }
    // who a user is, and who makes pods of templates, is the same in all that say it
    for wanted in ["user", "byPerson"] {
        let variables = policies.iter().flat_map(|p| p["spec"]["variables"].as_array().unwrap());
        let said: BTreeSet<&str> = variables
            .filter(|variable| variable["name"] == wanted)
            .map(|variable| variable["expression"].as_str().unwrap())
            .collect();
        assert_eq!(said.len(), 1, "{wanted}: {said:?}");
    }
    for policy in &policies {
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        let text = policy.to_string();
        assert!(text.contains(contract::USER), "{}", policy["metadata"]["name"]);
        assert!(text.contains(NAME));
    }
}

fn resources_of(folder: &str) -> Vec<String> {
    let [kustomization] = objects(&format!("{folder}/kustomization.yaml")).try_into().unwrap();
    let files = kustomization["resources"].as_array().unwrap();
    files.iter().map(|file| file.as_str().unwrap().to_owned()).collect()
}

#[test]
fn kustomization_lists_every_file() {
    for inside in [".", "users"] {
        let entries = std::fs::read_dir(folder().join(inside)).unwrap();
        let files: BTreeSet<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".yaml") && name != "kustomization.yaml")
            .collect();
        assert_eq!(files, resources_of(inside).into_iter().collect(), "{inside}");
    }
}

/// In the whole cluster or not, group, resource, verb.
type Right = (bool, String, String, String);

fn granted(cluster_wide: bool, rules: &[PolicyRule]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.as_ref().unwrap() {
            for resource in rule.resources.as_ref().unwrap() {
                for verb in &rule.verbs {
                    let right = (cluster_wide, group.clone(), resource.clone(), verb.clone());
                    assert!(rights.insert(right), "{group}/{resource} {verb} twice");
                }
            }
        }
    }
    rights
}

fn used() -> Vec<(&'static Permission, &'static str)> {
    let verbs = |right: &'static Permission| right.verbs.iter().map(move |verb| (right, *verb));
    PERMISSIONS.iter().flat_map(verbs).collect()
}

#[test]
fn rbac_grants_exactly_what_the_code_uses() {
    let cluster: ClusterRole = object("rbac.yaml", "ClusterRole");
    let own: Role = object("rbac.yaml", "Role");
    let (cluster, own) = (cluster.rules.unwrap(), own.rules.unwrap());
    let mut rights = granted(true, &cluster);
    rights.extend(granted(false, &own));
    let right = |(used, verb): (&Permission, &str)| {
        (used.cluster_wide, used.group.to_owned(), used.resource.to_owned(), verb.to_owned())
    };
    assert_eq!(rights, used().into_iter().map(right).collect());
    assert!(rights.iter().all(|right| !format!("{right:?}").contains('*')));

    // a create cannot be limited to a name, everything else on leases is
    let lease = configuration().leader_election.resource_name;
    assert!(cluster.iter().all(|rule| rule.resource_names.is_none()));
    for rule in own.iter().filter(|rule| rule.verbs != ["create"]) {
        assert_eq!(rule.resource_names, Some(vec![lease.clone()]));
    }
}

#[test]
fn roles_are_bound_to_the_one_account() {
    let cluster: ClusterRoleBinding = object("rbac.yaml", "ClusterRoleBinding");
    let own: RoleBinding = object("rbac.yaml", "RoleBinding");
    assert_eq!(
        (cluster.role_ref.kind.as_str(), cluster.role_ref.name.as_str()),
        ("ClusterRole", NAME)
    );
    assert_eq!((own.role_ref.kind.as_str(), own.role_ref.name.as_str()), ("Role", NAME));
    for subjects in [cluster.subjects, own.subjects] {
        let [Subject { kind, name, namespace, .. }] = subjects.unwrap().try_into().unwrap();
        assert_eq!((kind.as_str(), name.as_str()), ("ServiceAccount", NAME));
        assert_eq!(namespace.as_deref(), Some(NAME));
    }
}

fn pod_spec() -> PodSpec {
    let deployment: Deployment = object("deployment.yaml", "Deployment");
    deployment.spec.template.spec.unwrap()
}

fn container() -> Container {
    let [container] = pod_spec().containers.try_into().unwrap();
    container
}

fn configuration() -> Configuration {
    let map: ConfigMap = object("config.yaml", "ConfigMap");
    let text = &map.data.unwrap()["config.yaml"];
    Configuration::parse(text, "config.yaml").unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn labels_and_selectors_agree() {
    for file in resources() {
        for object in objects(&file) {
            let label = &object["metadata"]["labels"]["app.kubernetes.io/name"];
            assert_eq!(label, NAME, "{file} {}", object["kind"]);
            let namespaced = !matches!(
                object["kind"].as_str().unwrap(),
                "Namespace"
                    | "ClusterRole"
                    | "ClusterRoleBinding"
                    | "CustomResourceDefinition"
                    | "FlowSchema"
            );
            assert_eq!(object["metadata"]["namespace"] == NAME, namespaced, "{file}");
        }
    }
    let label = serde_json::json!({"app.kubernetes.io/name": NAME});
    for (file, kind, path) in [
        ("deployment.yaml", "Deployment", "/spec/selector/matchLabels"),
        ("deployment.yaml", "Deployment", "/spec/template/metadata/labels"),
        ("deployment.yaml", "PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("service.yaml", "Service", "/spec/selector"),
        ("network-policy.yaml", "NetworkPolicy", "/spec/podSelector/matchLabels"),
    ] {
        let object: Value = object(file, kind);
        assert_eq!(object.pointer(path), Some(&label), "{file} {kind} {path}");
    }
}

#[test]
fn the_configuration_agrees_with_the_deployment() {
    let config = configuration();
    let address = config.health_bind_address.expect("probes need an address");
    assert!(address.ip().is_unspecified());
    let container = container();
    let [port] = container.ports.unwrap().try_into().unwrap();
    assert_eq!(port.container_port, i32::from(address.port()));
    let service: Service = object("service.yaml", "Service");
    assert_eq!(service.spec.unwrap().ports.unwrap()[0].port, i32::from(address.port()));

    assert_eq!(config.leader_election.resource_namespace, NAME);

    let grace = pod_spec().termination_grace_period_seconds.unwrap();
    let drain = i64::try_from(config.limits.shutdown_grace_period.as_secs()).unwrap();
    assert!(grace > drain, "the kubelet kills after {grace} s, draining may take {drain} s");

    let mount = &container.volume_mounts.unwrap()[0];
    let argument = format!("--config={}/config.yaml", mount.mount_path);
    let args = container.args.unwrap();
    assert_eq!(args[0], "run");
    assert!(args.contains(&argument), "{args:?} lacks {argument}");
    let image = format!("{NAME}:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(container.image.as_deref(), Some(image.as_str()));
    let [kustomization] = objects("kustomization.yaml").try_into().unwrap();
    assert_eq!(kustomization["images"][0]["newTag"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_pod_is_restricted() {
    let spec = pod_spec();
    let pod = spec.security_context.unwrap();
    assert_eq!(pod.run_as_non_root, Some(true));
    assert_eq!(pod.seccomp_profile.unwrap().type_, "RuntimeDefault");
    let own = container().security_context.unwrap();
    assert_eq!(own.allow_privilege_escalation, Some(false));
    assert_eq!(own.read_only_root_filesystem, Some(true));
    assert_eq!(own.capabilities.unwrap().drop.unwrap(), ["ALL"]);
    assert_eq!(spec.automount_service_account_token, Some(false));
    let namespace: Namespace = object("namespace.yaml", "Namespace");
    let labels = namespace.metadata.labels.unwrap();
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
}

#[test]
fn the_example_is_a_gang_we_serve() {
    let job: Job = object("examples/gang.yaml", "Job");
    let spec = job.spec.unwrap();
    let template = spec.template;
    let annotations = template.metadata.unwrap().annotations.unwrap();
    let known: BTreeSet<&str> = contract::ANNOTATIONS.iter().map(|(key, _)| *key).collect();
    assert!(annotations.keys().all(|key| known.contains(key.as_str())));
    let annotation = |key: &str| annotations.get(key).map(String::as_str);
    let group = contract::parse_group(annotation, 10_000).unwrap().unwrap();
    assert_eq!(i64::from(spec.parallelism.unwrap()), i64::from(group.min_member));
    let scheduler = template.spec.unwrap().scheduler_name.unwrap();
    assert!(configuration().profiles.iter().any(|profile| profile.scheduler_name == scheduler));
}

fn queue(object: &Value) -> QueueSpec {
    let object: QueueObject = serde_json::from_value(object.clone()).unwrap();
    convert::queue::queue(&object).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_definition_and_the_converter_know_the_same_defaults_and_bounds() {
    let [crd] = objects("crd.yaml").try_into().unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let fields = schema["properties"].as_object().unwrap();
    let default = |fields: &serde_json::Map<String, Value>| -> Value {
        let set = fields.iter().filter_map(|(name, field)| {
            Some((name.clone(), field.get("default").filter(|value| !value.is_null())?.clone()))
        });
        set.collect::<serde_json::Map<_, _>>().into()
    };
    let mut spec = default(fields);
    spec["preemption"] = default(fields["preemption"]["properties"].as_object().unwrap());
    assert_eq!(spec["preemption"].as_object().unwrap().len(), 5);
    let explicit = serde_json::json!({"metadata": {"name": "default"}, "spec": spec});
    assert_eq!(queue(&explicit), QueueSpec::default());
    let empty = serde_json::json!({"metadata": {"name": "default"}, "spec": {}});
    assert_eq!(queue(&empty), QueueSpec::default());

    for weight in ["weight", "overQuotaWeight"] {
        assert_eq!(fields[weight]["maximum"], WEIGHT_MAX);
    }
    for map in ["quota", "limit", "lendLimit", "borrowLimit", "userLimit"] {
        assert_eq!(fields[map]["maxProperties"], convert::queue::RESOURCES_MAX);
    }
    assert_eq!(fields["namespaces"]["maxItems"], convert::queue::NAMESPACES_MAX);
}

#[test]
fn the_example_tree_says_what_its_comments_say() {
    let tree: Vec<QueueSpec> = objects("examples/queues.yaml").iter().map(queue).collect();
    let named = |name: &str| tree.iter().find(|queue| &*queue.name == name).unwrap();
    assert_eq!(named("research").quota, [("nvidia.com/gpu".into(), 64)]);
    assert!(!named("production").preemption.reclaimable);
    assert_eq!((named("vision").weight, named("language").weight), (2, 1));
    for team in ["vision", "language"] {
        assert_eq!(named(team).parent.as_deref(), Some("research"));
        assert_eq!(named(team).namespaces, [team.into()]);
    }
}

#[tokio::test]
async fn the_embedded_api_server_serves_queues() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let server = ApiServer::start(Default::default()).await.unwrap();
    let client = server.client();
    let definition: CustomResourceDefinition = object("crd.yaml", "CustomResourceDefinition");
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.create(&PostParams::default(), &definition).await.unwrap();
    let post = async |object: &Value| {
        let request = http::Request::post("/apis/mss-scheduler.io/v1alpha1/queues")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(object.to_string().into_bytes())
            .unwrap();
        client.request::<Value>(request).await
    };
    for example in objects("examples/queues.yaml") {
        let stored = post(&example).await.unwrap();
        let read = QueueSpec { generation: 0, ..queue(&stored) };
        assert_eq!(read, queue(&example), "defaults change nothing");
        assert_eq!(stored["spec"]["preemption"]["mayEvict"], true);
    }
    let bad = serde_json::json!({
        "apiVersion": "mss-scheduler.io/v1alpha1", "kind": "Queue",
        "metadata": {"name": "bad"}, "spec": {"weight": 0},
    });
    let refused = post(&bad).await.unwrap_err().to_string();
    assert!(refused.contains("spec.weight"), "{refused}");
    server.stop().await;
}

/// Asks the API server whether the client's user may do this, everywhere or in our namespace.
async fn may(
    client: &kube::Client,
    (group, resource, verb): (&str, &str, &str),
    everywhere: bool,
) -> bool {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(verb.to_owned()),
                // the one lease that may be read and renewed
                name: (!everywhere && verb != "create").then(|| NAME.to_owned()),
                namespace: (!everywhere).then(|| NAME.to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        },
        ..Default::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await.unwrap();
    answer.status.unwrap().allowed
}

#[tokio::test]
async fn a_real_api_server_accepts_and_grants_them() {
    let Some(plane) = ControlPlane::start().await else { return };
    let manifests = folder();
    let applied = plane.run_kubectl(&["apply", "-k", manifests.to_str().unwrap()]).unwrap();
    for kind in [
        "namespace",
        "deployment.apps",
        "flowschema",
        "networkpolicy",
        "clusterrole",
        "customresourcedefinition",
    ] {
        assert!(applied.contains(kind), "{applied}");
    }
    plane
        .run_kubectl(&["wait", "--for=condition=Established", "crd/queues.mss-scheduler.io"])
        .unwrap();
    for example in ["examples/gang.yaml", "examples/queues.yaml"] {
        let example = folder().join(example);
        let dry_run = ["apply", "--validate=strict", "--dry-run=server", "-f"];
        // strict: an unknown field is an error, not a warning
        plane.run_kubectl(&[&dry_run[..], &[example.to_str().unwrap()]].concat()).unwrap();
    }

    // the namespace enforces the restricted profile on the pod itself
    let admin = plane.client(User::Admin).await;
    let mut pod = Pod { spec: Some(pod_spec()), ..Default::default() };
    pod.metadata.name = Some("probe".to_owned());
    let pods: Api<Pod> = Api::namespaced(admin, NAME);
    let dry_run = PostParams { dry_run: true, ..Default::default() };
    pods.create(&dry_run, &pod).await.expect("the pod is admitted under the restricted profile");
    pod.spec.as_mut().unwrap().host_network = Some(true);
    let refused = pods.create(&dry_run, &pod).await.unwrap_err().to_string();
    assert!(refused.contains("PodSecurity"), "{refused}");

    let scheduler = plane.client(User::Scheduler).await;
    for (right, verb) in used() {
        let asked = (right.group, right.resource, verb);
        assert!(may(&scheduler, asked, right.cluster_wide).await, "{asked:?} is not granted");
    }
    for asked in [
        ("", "secrets", "get"),
        ("", "nodes", "patch"),
        ("", "pods", "create"),
        ("", "pods", "update"),
        ("", "pods", "patch"),
        ("", "configmaps", "get"),
        ("coordination.k8s.io", "leases", "get"),
        ("rbac.authorization.k8s.io", "clusterroles", "create"),
    ] {
        assert!(!may(&scheduler, asked, true).await, "{asked:?} is granted");
    }
}
