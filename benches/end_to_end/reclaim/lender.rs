//! The queue that holds everything: its pods, as running as a kubelet would say, and its budgets.

use super::fewest::Placement;
use super::{GANG, Terms, pod_name};
use crate::args::Budgets;
use crate::scenarios::{Bench, NODE_GPUS};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams, Patch, PatchParams};
use mss_scheduler::simulator::create::{PARALLEL_DEFAULT, create_all};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Label of the members of a gang, by which their budget finds them.
const LABEL: &str = "gang";

/// A member that is bound and not on its way out.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) gang: String,
    pub(super) node: String,
}

impl Bench {
    pub(super) async fn members(&self, namespace: &str) -> Vec<Member> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pods = pods.list(&ListParams::default()).await.expect("pods can be listed");
        let bound = pods.items.into_iter().filter_map(|pod| {
            let node = pod.spec?.node_name?;
            let stays = pod.metadata.deletion_timestamp.is_none();
            stays.then_some((pod.metadata, node))
        });
        let members = bound.map(|(meta, node)| Member {
            name: meta.name.expect("a stored pod has a name"),
            uid: meta.uid.expect("a stored pod has a uid"),
            gang: meta.labels.expect("members have labels")[LABEL].clone(),
            node,
        });
        members.collect()
    }

    /// Says of all members what the kubelet of a healthy node says: only a pod that runs is
    /// protected by a disruption budget.
    pub(super) async fn run_members(&self, namespace: &str, count: usize) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let status = json!({"status": {
            "phase": "Running",
            "conditions": [{
                "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z",
            }],
        }});
        stream::iter(0..count)
            .for_each_concurrent(PARALLEL_DEFAULT, |index| {
                let (pods, patch) = (pods.clone(), Patch::Strategic(&status));
                async move {
                    let params = PatchParams::default();
                    let told = pods.patch_status(&pod_name(index), &params, &patch).await;
                    told.expect("a status can be patched");
                }
            })
            .await;
    }

    /// One budget for each gang, or one for all, as their controller would have them stand.
    pub(super) async fn declare_budgets(&self, namespace: &str, gangs: usize, terms: Terms) {
        let spare = terms.spare_of_gang();
        let budgets: Vec<(String, Value, usize)> = match self.args.budgets {
            Budgets::None => Vec::new(),
            Budgets::Queue => vec![("all".into(), json!({}), gangs)],
            Budgets::Gang => {
                let of = |index: usize| {
                    let gang = gang_name(index);
                    (gang.clone(), json!({"matchLabels": {LABEL: gang}}), 1)
                };
                (0..gangs).map(of).collect()
            }
        };
        let objects = budgets.iter().map(|(name, selector, gangs)| {
            let spec = json!({"selector": selector, "minAvailable": gangs * (GANG - spare)});
            let meta = json!({"namespace": namespace, "name": name});
            let object = json!({"metadata": meta, "spec": spec});
            serde_json::from_value::<PodDisruptionBudget>(object).expect("a budget")
        });
        create_all(&self.client, objects, PARALLEL_DEFAULT, || ())
            .await
            .expect("budgets are taken");
        let api: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), namespace);
        for (name, _, gangs) in &budgets {
            let status = json!({"status": {
                "observedGeneration": 1, "disruptionsAllowed": gangs * spare,
                "currentHealthy": gangs * GANG, "desiredHealthy": gangs * (GANG - spare),
                "expectedPods": gangs * GANG,
            }});
            let told = api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await;
            told.expect("a status can be patched");
        }
    }

    /// How many evictions the budgets of a namespace still allow.
    pub(super) async fn disruptions_allowed(&self, namespace: &str) -> usize {
        let api: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), namespace);
        let budgets = api.list(&ListParams::default()).await.expect("budgets can be listed");
        let allowed = budgets.items.into_iter().filter_map(|budget| budget.status);
        let allowed = allowed.map(|status| status.disruptions_allowed.unwrap_or(0));
        allowed.map(|allowed| usize::try_from(allowed).expect("not negative")).sum()
    }
}

pub(super) fn placement(members: &[Member]) -> Placement {
    let mut placement = Placement::new();
    for member in members {
        let gangs = placement.entry(member.node.clone()).or_default();
        *gangs.entry(member.gang.clone()).or_default() += 1;
    }
    placement
}

/// Members of each gang.
pub(super) fn by_gang(members: &[Member]) -> BTreeMap<&str, usize> {
    let mut gangs = BTreeMap::new();
    members.iter().for_each(|member| *gangs.entry(&*member.gang).or_default() += 1);
    gangs
}

pub(super) fn gang_name(index: usize) -> String {
    format!("gang-{index:04}")
}

/// A pod of a gang of `size`, of which `minimum` must run.
pub(super) fn member(
    scheduler: &str,
    namespace: &str,
    index: usize,
    (size, minimum): (usize, usize),
    gpus: usize,
) -> Pod {
    assert!(gpus <= NODE_GPUS, "no node has {gpus} GPUs");
    let resources = json!({"nvidia.com/gpu": gpus.to_string()});
    let gang = gang_name(index / size);
    serde_json::from_value(json!({
        "metadata": {
            "namespace": namespace, "name": pod_name(index), "labels": {LABEL: gang},
            "annotations": {
                "mss-scheduler.io/pod-group": gang,
                "mss-scheduler.io/min-member": minimum.to_string(),
            },
        },
        "spec": {
            "schedulerName": scheduler,
            // gone with the eviction: no kubelet takes part
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": "registry.k8s.io/pause:3.10",
                "resources": {"limits": resources, "requests": resources},
            }],
        },
    }))
    .expect("a pod")
}
