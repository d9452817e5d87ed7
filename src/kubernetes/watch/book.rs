//! What is known of claims, of device classes, and of the pods and nodes that they concern.
//!
//! A pod with claims is converted anew whenever something changes that they depend on.

use crate::kubernetes::convert::claims::{
    Claim, Claimed, DeviceClass, DeviceSlice, Request, Selector, node_devices, parsed, resource_of,
};
use crate::kubernetes::objects::PodObject;
use crate::model::claim::{ClaimRequest, DeviceKind};
use crate::model::{ContractError, NodeDevices, PodClaim, Uid};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most kinds of devices that are told apart, so that tenants cannot name them without end.
const KINDS_MAX: usize = 1024;
/// Most pods for which a claim may be reserved, as the API has it.
const RESERVED_MAX: usize = 256;

/// Namespace and name of a claim.
pub(super) type ClaimKey = (Box<str>, Box<str>);

#[derive(Default)]
pub(super) struct Book {
    /// as what devices count, by class, where the class does not say so
    pub(super) resources: BTreeMap<String, String>,
    slices: FxHashMap<Box<str>, DeviceSlice>,
    /// slices by node
    on_node: FxHashMap<Box<str>, BTreeSet<Box<str>>>,
    classes: BTreeMap<Box<str>, DeviceClass>,
    claims: FxHashMap<ClaimKey, Claim>,
    pods: FxHashMap<Uid, Arc<PodObject>>,
    /// pods that name a claim
    users: FxHashMap<ClaimKey, BTreeSet<Uid>>,
    /// selectors that make a kind, and its number
    kinds: BTreeMap<Vec<Box<str>>, (DeviceKind, Vec<Selector>)>,
    last_kind: u64,
    /// nodes whose devices are others, or are told apart otherwise, than when they were last told
    changed: BTreeSet<Box<str>>,
}

impl Book {
    /// An empty one. `resources`: what devices count as, by class, where the class does not say so.
    pub(super) fn new(resources: BTreeMap<String, String>) -> Self {
        Self { resources, ..Self::default() }
    }

    /// Whether the devices of any node are known.
    pub(super) fn has_slices(&self) -> bool {
        !self.slices.is_empty()
    }

    /// Nodes to be told of again.
    pub(super) fn take_changed(&mut self) -> BTreeSet<Box<str>> {
        std::mem::take(&mut self.changed)
    }

    /// Takes in a slice as it is now; `None`: it is gone.
    pub(super) fn put_slice(&mut self, name: &str, slice: Option<DeviceSlice>) {
        let before = self.slices.remove(name);
        if before == slice {
            self.slices.extend(slice.map(|slice| (name.into(), slice)));
            return;
        }
        if let Some(before) = before {
            if let Some(names) = self.on_node.get_mut(&before.node) {
                names.remove(name);
                if names.is_empty() {
                    self.on_node.remove(&before.node);
                }
            }
            self.changed.insert(before.node);
        }
        if let Some(slice) = slice {
            self.on_node.entry(slice.node.clone()).or_default().insert(name.into());
            self.changed.insert(slice.node.clone());
            self.slices.insert(name.into(), slice);
        }
    }

    /// Names of the slices that are known.
    pub(super) fn slices(&self) -> impl Iterator<Item = &str> {
        self.slices.keys().map(|name| &**name)
    }

    /// The devices of a node.
    pub(super) fn devices(&self, node: &str) -> Option<NodeDevices> {
        let slices = self.on_node.get(node)?;
        let kinds = self.kinds.values().map(|(kind, selectors)| (*kind, &**selectors));
        let mut kinds: Vec<(DeviceKind, &[Selector])> = kinds.collect();
        kinds.sort_by_key(|(kind, _)| *kind);
        let classes = self.classes.values().filter(|class| class.selectors.is_ok());
        let offers = classes.map(|class| (&*class.resource, &*class.parsed));
        let offers: Vec<(&str, &[Selector])> = offers.collect();
        node_devices(slices.iter().filter_map(|name| self.slices.get(name)), &kinds, &offers)
    }

    /// Takes in a class as it is now; `None`: it is gone. Whether pods have to be told of again.
    pub(super) fn put_class(&mut self, name: &str, class: Option<DeviceClass>) -> bool {
        let before = match class.clone() {
            Some(class) => self.classes.insert(name.into(), class),
            None => self.classes.remove(name),
        };
        if before == class {
            return false;
        }
        self.changed.extend(self.on_node.keys().cloned());
        true
    }

    /// Names of the classes that are known.
    pub(super) fn classes(&self) -> impl Iterator<Item = &str> {
        self.classes.keys().map(|name| &**name)
    }

    /// Takes in a claim as it is now; `None`: it is gone. What it was before.
    pub(super) fn put_claim(&mut self, key: &ClaimKey, claim: Option<Claim>) -> Option<Claim> {
        match claim {
            Some(claim) => self.claims.insert(key.clone(), claim),
            None => self.claims.remove(key),
        }
    }

    /// The claims that are known.
    pub(super) fn claims(&self) -> impl Iterator<Item = &ClaimKey> {
        self.claims.keys()
    }

    /// Takes in a pod that names claims. Others that name one of them: it may be another's turn.
    pub(super) fn put_pod(&mut self, uid: Uid, pod: PodObject) -> BTreeSet<Uid> {
        let mut others = self.drop_pod(uid);
        for key in names(&pod) {
            let users = self.users.entry(key).or_default();
            others.extend(users.iter().copied());
            users.insert(uid);
        }
        self.pods.insert(uid, Arc::new(pod));
        others.remove(&uid);
        others
    }

    /// Forgets a pod. Others that name one of its claims.
    pub(super) fn drop_pod(&mut self, uid: Uid) -> BTreeSet<Uid> {
        let Some(pod) = self.pods.remove(&uid) else { return BTreeSet::new() };
        let mut others = BTreeSet::new();
        for key in names(&pod) {
            if let Some(users) = self.users.get_mut(&key) {
                users.remove(&uid);
                others.extend(users.iter().copied());
                if users.is_empty() {
                    self.users.remove(&key);
                }
            }
        }
        others
    }

    /// A pod that names claims.
    pub(super) fn pod(&self, uid: Uid) -> Option<Arc<PodObject>> {
        self.pods.get(&uid).cloned()
    }

    /// All pods that name claims.
    pub(super) fn pods(&self) -> BTreeSet<Uid> {
        self.pods.keys().copied().collect()
    }

    /// Pods that name a claim.
    pub(super) fn users(&self, key: &ClaimKey) -> BTreeSet<Uid> {
        self.users.get(key).cloned().unwrap_or_default()
    }

    /// What the claims of a pod come to now.
    pub(super) fn resolve(&mut self, uid: Uid, pod: &PodObject) -> Claimed {
        let mut claimed = Claimed::default();
        let is_bound = pod.spec.node_name.as_deref().is_some_and(|node| !node.is_empty());
        let found: Result<(), ContractError> =
            pod.spec.resource_claims.iter().try_for_each(|named| {
                let (key, is_own) = match name(pod, named) {
                    Name::Claim(key, is_own) => (key, is_own),
                    Name::None => return Ok(()),
                    Name::NotMade => {
                        let name = &named.name;
                        let what = format!("waits for the claim {name} to be made of its template");
                        return Err(ContractError::ClaimAwaited(what.into()));
                    }
                };
                self.resolve_one(&mut claimed, (uid, is_bound), &key, is_own)
            });
        claimed.fault = found.err();
        claimed.asks.sort_unstable();
        claimed.asks.dedup_by(|later, first| {
            let is_same = later.0 == first.0;
            first.1 += if is_same { later.1 } else { 0 };
            is_same
        });
        claimed
    }

    fn resolve_one(
        &mut self,
        claimed: &mut Claimed,
        (uid, is_bound): (Uid, bool),
        key: &ClaimKey,
        is_own: bool,
    ) -> Result<(), ContractError> {
        let name = &key.1;
        let awaited = |what: String| ContractError::ClaimAwaited(what.into());
        let refused = |why: &str| ContractError::Claim(format!("claim {name}: {why}").into());
        let Some(claim) = self.claims.get(key) else {
            return Err(awaited(format!("waits for the claim {name}, which does not exist")));
        };
        if is_own && claim.owner != Some(uid) {
            return Err(refused("it was not made for this pod"));
        }
        if claim.deleting && !is_bound {
            return Err(awaited(format!("waits for the claim {name}, which is being deleted")));
        }
        let is_reserved = claim.reserved.contains(&uid);
        let first = claim.reserved.first().copied().or_else(|| self.first_user(key));
        if let Some(allocation) = &claim.allocation {
            let counted = first == Some(uid);
            if counted {
                for (request, _) in &allocation.devices {
                    let class = claim.class_of(request).unwrap_or_default();
                    let known = self.classes.get(class).map(|class| class.resource.clone());
                    let resource = known.unwrap_or_else(|| resource_of(class, &self.resources));
                    claimed.counts.push((resource, 1));
                }
            }
            let entry = PodClaim {
                uid: claim.uid,
                name: name.clone(),
                allocated: true,
                counted,
                requests: Vec::new(),
            };
            claimed.claims.push(entry);
            if is_bound {
                return Ok(());
            }
            if let Some(nodes) = &allocation.nodes {
                claimed.nodes.push(nodes.clone().map_err(|why| refused(&why))?);
            }
            if !is_reserved && (claim.reserved.is_empty() && !counted) {
                return Err(awaited(format!("waits for the claim {name}: another pod is first")));
            }
            if !is_reserved && claim.reserved.len() >= RESERVED_MAX {
                let what = format!("waits for the claim {name}: {RESERVED_MAX} pods have it");
                return Err(awaited(what));
            }
            return Ok(());
        }
        if is_bound {
            return Ok(());
        }
        if first != Some(uid) {
            return Err(awaited(format!("waits for the claim {name}: another pod is first")));
        }
        let (claim_uid, requests) = (claim.uid, claim.requests.clone());
        self.ask(claimed, name, claim_uid, requests.map_err(|why| refused(&why))?)
    }

    /// Has a pod ask for what a claim requests that has no devices yet.
    fn ask(
        &mut self,
        claimed: &mut Claimed,
        name: &str,
        claim: Uid,
        requests: Vec<Request>,
    ) -> Result<(), ContractError> {
        let awaited = |what: String| ContractError::ClaimAwaited(what.into());
        let refused = |why: &str| ContractError::Claim(format!("claim {name}: {why}").into());
        let mut asks = Vec::new();
        for request in requests {
            let Some(class) = self.classes.get(&request.class) else {
                let class = &request.class;
                return Err(awaited(format!(
                    "waits for the device class {class} of the claim {name}, which does not exist"
                )));
            };
            let texts = class
                .selectors
                .clone()
                .map_err(|why| refused(&format!("device class {}: {why}", request.class)))?;
            claimed.counts.push((class.resource.clone(), request.count));
            let Some(kind) = self.kind(texts, &request) else {
                return Err(refused("too many kinds of devices are asked for"));
            };
            claimed.asks.push((kind, request.count));
            asks.push(ClaimRequest { name: request.name, kind, count: request.count });
        }
        claimed.claims.push(PodClaim {
            uid: claim,
            name: name.into(),
            allocated: false,
            counted: true,
            requests: asks,
        });
        Ok(())
    }

    /// Whose turn it is to be given a claim: the oldest of the pods that name it.
    fn first_user(&self, key: &ClaimKey) -> Option<Uid> {
        let users = self.users.get(key)?.iter();
        let age = |uid: &&Uid| (self.pods.get(uid).map(|pod| pod.meta.created), **uid);
        users.min_by_key(age).copied()
    }

    /// The number of the kind of device that a request is for.
    fn kind(&mut self, mut texts: Vec<Box<str>>, request: &Request) -> Option<DeviceKind> {
        texts.extend(request.selectors.iter().cloned());
        texts.sort_unstable();
        texts.dedup();
        if let Some((kind, _)) = self.kinds.get(&texts) {
            return Some(*kind);
        }
        if self.kinds.len() >= KINDS_MAX {
            self.forget_kinds();
        }
        if self.kinds.len() >= KINDS_MAX {
            return None;
        }
        self.last_kind += 1;
        let kind = DeviceKind(self.last_kind);
        let selectors = parsed(&texts);
        self.kinds.insert(texts, (kind, selectors));
        self.changed.extend(self.on_node.keys().cloned());
        Some(kind)
    }

    /// Drops kinds for which no claim asks that has no devices yet.
    fn forget_kinds(&mut self) {
        let open = self.claims.values().filter(|claim| claim.allocation.is_none());
        let asked = open.filter_map(|claim| claim.requests.as_ref().ok()).flatten();
        let mut used: BTreeSet<Vec<Box<str>>> = BTreeSet::new();
        for request in asked {
            let class = self.classes.get(&request.class);
            let Some(Ok(selectors)) = class.map(|class| &class.selectors) else { continue };
            let mut texts: Vec<Box<str>> =
                selectors.iter().chain(&request.selectors).cloned().collect();
            texts.sort_unstable();
            texts.dedup();
            used.insert(texts);
        }
        self.kinds.retain(|texts, _| used.contains(texts));
    }
}

/// What a pod's name for a claim stands for.
enum Name {
    /// The claim, and whether it was made for the pod.
    Claim(ClaimKey, bool),
    /// A template of which none is needed.
    None,
    /// A template of which none was made yet.
    NotMade,
}

fn name(pod: &PodObject, named: &crate::kubernetes::objects::ClaimReference) -> Name {
    let key = |name: &str| (pod.meta.namespace().into(), name.into());
    if let Some(name) = named.resource_claim_name.as_deref().filter(|name| !name.is_empty()) {
        return Name::Claim(key(name), false);
    }
    let made = pod.status.resource_claim_statuses.iter().find(|made| made.name == named.name);
    match made.map(|made| made.resource_claim_name.as_deref()) {
        Some(Some(name)) => Name::Claim(key(name), true),
        Some(None) => Name::None,
        None => Name::NotMade,
    }
}

/// The claims that a pod names.
fn names(pod: &PodObject) -> Vec<ClaimKey> {
    let named = pod.spec.resource_claims.iter().filter_map(|named| match name(pod, named) {
        Name::Claim(key, _) => Some(key),
        Name::None | Name::NotMade => None,
    });
    let mut keys: Vec<ClaimKey> = named.collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::convert::Converter;
    use crate::kubernetes::convert::claims::{claim, device_class};
    use crate::kubernetes::convert::default_classes;
    use serde_json::{Value, json};

    const ONE: &str = "11111111-0000-0000-0000-000000000000";
    const TWO: &str = "22222222-0000-0000-0000-000000000000";

    fn book() -> Book {
        let mut book = Book::new(default_classes());
        let class = device_class("gpu.nvidia.com", &json!({ "spec": {} }), &default_classes());
        assert!(book.put_class("gpu.nvidia.com", Some(class.clone())));
        assert!(!book.put_class("gpu.nvidia.com", Some(class)), "nothing is new");
        book
    }

    fn key(name: &str) -> ClaimKey {
        ("ns".into(), name.into())
    }

    fn put(book: &mut Book, name: &str, count: u32, status: Value, owner: Option<&str>) {
        let owner = owner.map(|uid| json!({ "uid": uid, "controller": true }));
        let exactly = json!({ "deviceClassName": "gpu.nvidia.com", "count": count });
        let object = json!({
            "metadata": { "name": name, "uid": name, "ownerReferences": [owner] },
            "spec": { "devices": { "requests": [{ "name": "r", "exactly": exactly }] } },
            "status": status,
        });
        book.put_claim(&key(name), claim(&object));
    }

    fn pod(uid: &str, created: u32, claims: Value, status: Value) -> PodObject {
        let value = json!({
            "metadata": { "namespace": "ns", "name": uid, "uid": uid,
                "creationTimestamp": format!("2026-01-01T00:00:0{created}Z") },
            "spec": { "schedulerName": "mss-scheduler", "resourceClaims": claims },
            "status": status,
        });
        serde_json::from_str(&value.to_string()).expect("a pod")
    }

    fn naming(uid: &str, created: u32, claim: &str) -> PodObject {
        let claims = json!([{ "name": "g", "resourceClaimName": claim }]);
        pod(uid, created, claims, Value::Null)
    }

    fn resolved(book: &mut Book, uid: &str) -> Claimed {
        let uid = Uid::parse(uid);
        let pod = book.pod(uid).expect("it is known");
        book.resolve(uid, &pod)
    }

    fn fault(book: &mut Book, uid: &str) -> String {
        resolved(book, uid).fault.map_or_else(String::new, |fault| fault.to_string())
    }

    fn allocated(reserved: &[&str]) -> Value {
        let result = |device: u32| {
            json!({ "request": "r", "driver": "gpu.nvidia.com", "pool": "n",
                "device": format!("gpu-{device}") })
        };
        let term = json!({ "matchFields": [
            { "key": "metadata.name", "operator": "In", "values": ["n"] } ] });
        let pods: Vec<Value> =
            reserved.iter().map(|uid| json!({ "resource": "pods", "uid": uid })).collect();
        json!({ "allocation": { "devices": { "results": [result(0), result(1)] },
                "nodeSelector": { "nodeSelectorTerms": [term] } }, "reservedFor": pods })
    }

    #[test]
    fn a_claim_of_a_template_is_waited_for() {
        let mut book = book();
        let claims = json!([{ "name": "g", "resourceClaimTemplateName": "t" }]);
        let of_template = |status| pod(ONE, 0, claims.clone(), status);
        book.put_pod(Uid::parse(ONE), of_template(Value::Null));
        assert!(fault(&mut book, ONE).contains("g to be made of its template"));
        let made = json!({ "resourceClaimStatuses": [{ "name": "g", "resourceClaimName": "c" }] });
        book.put_pod(Uid::parse(ONE), of_template(made));
        assert!(fault(&mut book, ONE).contains("claim c, which does not exist"));
        put(&mut book, "c", 2, Value::Null, Some(TWO));
        assert!(fault(&mut book, ONE).contains("it was not made for this pod"));
        put(&mut book, "c", 2, Value::Null, Some(ONE));
        let claimed = resolved(&mut book, ONE);
        assert!(claimed.fault.is_none());
        assert_eq!(claimed.counts, [("nvidia.com/gpu".into(), 2)]);
        assert_eq!(claimed.asks, [(DeviceKind(1), 2)]);
        assert_eq!(book.users(&key("c")), BTreeSet::from([Uid::parse(ONE)]));

        let pod = book.pod(Uid::parse(ONE)).expect("it is known");
        let class = Converter::default().pod_with(&pod, Some(claimed)).class;
        let counted: Vec<(&str, i64)> =
            class.requests.iter().map(|(name, amount)| (&**name, *amount)).collect();
        assert_eq!(counted, [("nvidia.com/gpu", 2), ("nvidia.com/gpu by claim", 2)]);
        assert!(book.put_class("gpu.nvidia.com", None));
        assert!(fault(&mut book, ONE).contains("waits for the device class gpu.nvidia.com"));
    }

    #[test]
    fn a_shared_claim_is_counted_with_the_first_of_its_pods() {
        let mut book = book();
        put(&mut book, "c", 2, Value::Null, None);
        assert!(book.put_pod(Uid::parse(ONE), naming(ONE, 2, "c")).is_empty());
        let others = book.put_pod(Uid::parse(TWO), naming(TWO, 1, "c"));
        assert_eq!(others, BTreeSet::from([Uid::parse(ONE)]), "it is not the first any more");
        assert!(fault(&mut book, ONE).contains("another pod is first"));
        assert_eq!(resolved(&mut book, TWO).asks.len(), 1);

        put(&mut book, "c", 2, allocated(&[TWO]), None);
        let (first, second) = (resolved(&mut book, TWO), resolved(&mut book, ONE));
        assert_eq!(first.counts.len(), 2, "one for each device");
        assert!(first.asks.is_empty() && second.asks.is_empty());
        assert!(second.counts.is_empty() && second.fault.is_none(), "it joins, and is not counted");
        assert_eq!(second.nodes.len(), 1, "it goes where the claim is");

        put(&mut book, "c", 2, allocated(&[ONE]), None);
        let others = book.drop_pod(Uid::parse(TWO));
        assert_eq!(others, BTreeSet::from([Uid::parse(ONE)]));
        assert_eq!(resolved(&mut book, ONE).counts.len(), 2, "the next is counted");
    }

    #[test]
    fn kinds_are_told_apart_by_selectors_and_are_bounded() {
        let mut book = book();
        let request = |number: usize| Request {
            name: "r".into(),
            class: "k".into(),
            count: 1,
            selectors: vec![format!("device.driver == '{number}'").into()],
        };
        let first = book.kind(vec![], &request(0)).expect("there is room");
        assert_eq!(book.kind(vec![], &request(0)), Some(first));
        for number in 1..KINDS_MAX {
            assert_ne!(book.kind(vec![], &request(number)), Some(first));
        }
        // none of them is asked for by a claim: they make way
        let later = book.kind(vec![], &request(KINDS_MAX)).expect("there is room again");
        assert!(later > first && book.kinds.len() == 1);
    }
}
