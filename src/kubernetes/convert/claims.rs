//! Reads what dynamic resource allocation goes by: ResourceClaims, DeviceClasses and the devices of
//! ResourceSlices (`resource.k8s.io/v1`).
//!
//! Honoured are claims of so many devices of a class (`exactly`, `ExactCount`), with selectors as
//! far as `cel` reads them. What is not is refused with the reason; it is counted all the
//! same where another allocator has carried it out.

use super::affinity::term_of;
use super::cel::Facts;
pub use super::cel::Selector;
use super::reports::newest;
use crate::kubernetes::objects::NodeSelector;
use crate::model::claim::{DeviceAsks, DeviceKind, NODE_DEVICES_MAX};
use crate::model::contract::{ContractError, cut};
use crate::model::{ClaimState, DeviceName, DeviceSet, NodeDevices, NodeSelectorTerm};
use crate::model::{PodClaim, PodClass, ResourceList, Uid};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a DeviceClass without a resource of its own is charged as, before its name: the name by
/// which Kubernetes lets containers ask for it.
const OF_CLASS: &str = "deviceclass.resource.kubernetes.io/";

/// A DeviceClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceClass {
    /// What a device of it counts as.
    pub resource: Box<str>,
    /// All of these must select a device, or why they cannot be told.
    pub selectors: Result<Vec<Box<str>>, Box<str>>,
    /// The same, read.
    pub parsed: Vec<Selector>,
}

/// What a device of a class counts as that does not exist any more.
#[must_use]
pub fn resource_of(class: &str, resources: &BTreeMap<String, String>) -> Box<str> {
    resources.get(class).map_or_else(|| format!("{OF_CLASS}{class}"), String::clone).into()
}

/// What the claims of a pod come to.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// Devices that are counted with the pod, by what they count as.
    pub counts: Vec<(Box<str>, u32)>,
    /// What has to be allocated when it is bound.
    pub asks: DeviceAsks,
    /// Where the claims can be used that are allocated: alternatives, of each claim.
    pub nodes: Vec<Vec<NodeSelectorTerm>>,
    /// Its claims.
    pub claims: Vec<PodClaim>,
    /// Why it cannot be placed, or not yet.
    pub fault: Option<ContractError>,
}

impl Claimed {
    /// Counts devices and confines the pod.
    pub(super) fn apply(&self, class: &mut PodClass, bound: bool) {
        for (resource, count) in &self.counts {
            class.count_claimed(resource, *count);
        }
        if bound {
            return;
        }
        class.devices.clone_from(&self.asks);
        for alternatives in &self.nodes {
            let before = class.required.take();
            class.required = Some(match before {
                None => alternatives.clone(),
                Some(terms) => both(&terms, alternatives),
            });
        }
    }
}

/// Terms of which one holds if one of each list does. A term without requirements holds nowhere.
fn both(one: &[NodeSelectorTerm], other: &[NodeSelectorTerm]) -> Vec<NodeSelectorTerm> {
    let is_empty = |term: &NodeSelectorTerm| term.expressions.is_empty() && term.fields.is_empty();
    let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
    let real = pairs.filter(|(a, b)| !is_empty(a) && !is_empty(b));
    let joined = real.map(|(a, b)| NodeSelectorTerm {
        expressions: a.expressions.iter().chain(&b.expressions).cloned().collect(),
        fields: a.fields.iter().chain(&b.fields).cloned().collect(),
    });
    joined.collect()
}

/// Reads a DeviceClass. `resources`: what classes count as that do not say so themselves.
#[must_use]
pub fn device_class(
    name: &str,
    object: &Value,
    resources: &BTreeMap<String, String>,
) -> DeviceClass {
    let spec = &object["spec"];
    let said = spec["extendedResourceName"].as_str().filter(|name| !name.is_empty());
    let resource = said.or_else(|| resources.get(name).map(|resource| &**resource));
    let resource = resource.map_or_else(|| format!("{OF_CLASS}{name}"), str::to_owned);
    let selectors = selectors(&spec["selectors"]);
    let parsed = selectors.as_deref().map(parsed).unwrap_or_default();
    DeviceClass { resource: resource.into(), selectors, parsed }
}

/// The expressions, each of which can be read.
fn selectors(list: &Value) -> Result<Vec<Box<str>>, Box<str>> {
    let read = |selector: &Value| {
        let text = selector["cel"]["expression"].as_str().ok_or("a selector is not of CEL")?;
        Selector::parse(text).map(|_| text.into()).map_err(|why| -> Box<str> {
            format!("the selector {:?} is not honoured: {why}", &*cut(text)).into()
        })
    };
    array(list).iter().map(read).collect()
}

/// Expressions that can be read.
#[must_use]
pub fn parsed(texts: &[Box<str>]) -> Vec<Selector> {
    texts.iter().filter_map(|text| Selector::parse(text).ok()).collect()
}

/// A ResourceClaim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Identity.
    pub uid: Uid,
    /// It is being deleted.
    pub deleting: bool,
    /// Whose it is, if it was made for a pod.
    pub owner: Option<Uid>,
    /// `metadata.resourceVersion` as a number; 0: it is none.
    pub version: u64,
    /// What it asks for, or why it is refused.
    pub requests: Result<Vec<Request>, Box<str>>,
    /// The class of each request, those of alternatives under `request/alternative`.
    classes: BTreeMap<Box<str>, Box<str>>,
    /// What it was given.
    pub allocation: Option<Allocation>,
    /// The pods for which it is reserved, in order; others that it is reserved for are left out.
    pub reserved: Vec<Uid>,
}

/// A request for so many devices of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its name.
    pub name: Box<str>,
    /// The class.
    pub class: Box<str>,
    /// How many.
    pub count: u32,
    /// All of these must select a device, beside those of the class.
    pub selectors: Vec<Box<str>>,
}

/// What a claim was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Devices, by the name of the request; without those for administrators.
    pub devices: Vec<(Box<str>, DeviceName)>,
    /// Where they can be used: alternatives; `None`: anywhere.
    pub nodes: Option<Result<Vec<NodeSelectorTerm>, Box<str>>>,
}

impl Claim {
    /// What it was given, as the core is told.
    #[must_use]
    pub fn state(&self) -> ClaimState {
        let devices = self.allocation.iter().flat_map(|allocation| &allocation.devices);
        let devices = devices.map(|(_, name)| name.clone()).collect();
        ClaimState { uid: self.uid, version: self.version, devices }
    }

    /// The class of a request.
    #[must_use]
    pub fn class_of(&self, request: &str) -> Option<&str> {
        self.classes.get(request).map(|class| &**class)
    }
}

/// Reads a claim. `None`: it is none.
#[must_use]
pub fn claim(object: &Value) -> Option<Claim> {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let requests = array(&spec["devices"]["requests"]);
    let class = |request: &Value| request["deviceClassName"].as_str().map(Into::into);
    let mut classes = BTreeMap::new();
    for request in requests {
        let name = request["name"].as_str().unwrap_or_default();
        if let Some(class) = class(&request["exactly"]) {
            classes.insert(name.into(), class);
        }
        for other in array(&request["firstAvailable"]) {
            let inner = other["name"].as_str().unwrap_or_default();
            if let Some(class) = class(other) {
                classes.insert(format!("{name}/{inner}").into(), class);
            }
        }
    }
    let reserved = array(&status["reservedFor"]).iter();
    let pods = reserved.filter(|consumer| consumer["resource"] == "pods");
    let version = meta["resourceVersion"].as_str().and_then(|version| version.parse().ok());
    Some(Claim {
        uid: Uid::parse(meta["uid"].as_str()?),
        deleting: !meta["deletionTimestamp"].is_null(),
        owner: owner(meta),
        version: version.unwrap_or(0),
        requests: asked(spec),
        classes,
        allocation: allocation(&status["allocation"]),
        reserved: pods.filter_map(|pod| Some(Uid::parse(pod["uid"].as_str()?))).collect(),
    })
}

fn owner(meta: &Value) -> Option<Uid> {
    let owners = array(&meta["ownerReferences"]);
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    Some(Uid::parse(owner["uid"].as_str()?))
}

fn asked(spec: &Value) -> Result<Vec<Request>, Box<str>> {
    let devices = &spec["devices"];
    if !array(&devices["constraints"]).is_empty() {
        return Err("constraints between devices are not honoured".into());
    }
    let requests =
        array(&devices["requests"]).iter().map(request).collect::<Result<Vec<_>, _>>()?;
    if requests.is_empty() {
        return Err("it requests no devices".into());
    }
    Ok(requests)
}

fn request(request: &Value) -> Result<Request, Box<str>> {
    let name = request["name"].as_str().unwrap_or_default();
    let refused = |why: &str| -> Box<str> { format!("request {}: {why}", cut(name)).into() };
    let exactly = &request["exactly"];
    let Some(class) = exactly["deviceClassName"].as_str() else {
        return Err(refused("alternatives (firstAvailable) are not honoured"));
    };
    if !matches!(exactly["allocationMode"].as_str(), None | Some("" | "ExactCount")) {
        return Err(refused("allocationMode is not ExactCount, others are not honoured"));
    }
    if exactly["adminAccess"] == true {
        return Err(refused("adminAccess is not honoured"));
    }
    if !exactly["capacity"].is_null() {
        return Err(refused("parts of devices (capacity) are not honoured"));
    }
    let count = exactly["count"].as_u64().filter(|count| *count > 0).unwrap_or(1);
    Ok(Request {
        name: name.into(),
        class: class.into(),
        count: u32::try_from(count).map_err(|_| refused("it asks for too many devices"))?,
        selectors: selectors(&exactly["selectors"]).map_err(|why| refused(&why))?,
    })
}

fn allocation(object: &Value) -> Option<Allocation> {
    object.as_object()?;
    let results = array(&object["devices"]["results"]).iter();
    let devices = results.filter(|result| result["adminAccess"] != true).filter_map(|result| {
        let text = |key: &str| result[key].as_str();
        let name = device_name(text("driver")?, text("pool")?, text("device")?);
        Some((text("request")?.into(), name))
    });
    let selector = &object["nodeSelector"];
    let nodes = (!selector.is_null()).then(|| {
        let selector: NodeSelector = serde_json::from_value(selector.clone())
            .map_err(|_| "its node selector cannot be read")?;
        let terms = selector.node_selector_terms.iter();
        let terms = terms.map(|found| term_of("status.allocation.nodeSelector", found));
        terms.collect::<Result<_, _>>().map_err(|error| error.to_string().into())
    });
    Some(Allocation { devices: devices.collect(), nodes })
}

fn device_name(driver: &str, pool: &str, device: &str) -> DeviceName {
    format!("{driver}/{pool}/{device}").into()
}

/// The devices of a ResourceSlice that one node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSlice {
    /// The node.
    pub node: Box<str>,
    pool: DeviceName,
    generation: i64,
    /// Slices of the pool.
    of: usize,
    devices: Vec<Device>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    name: DeviceName,
    facts: Facts,
    /// it may be given to one claim as a whole
    is_plain: bool,
    /// of a whole GPU: domain, bus, device and function
    place: Option<Option<[u32; 4]>>,
}

/// Reads a slice. `None`: its devices are no node's own.
#[must_use]
pub fn device_slice(object: &Value) -> Option<DeviceSlice> {
    let spec = &object["spec"];
    let driver = spec["driver"].as_str()?;
    let pool = &spec["pool"];
    let pool_name = pool["name"].as_str()?;
    let read = |device: &Value| {
        let name = device["name"].as_str()?;
        let is_gpu = driver == super::reports::DRIVER;
        Some(Device {
            name: device_name(driver, pool_name, name),
            facts: Facts::read(driver, device),
            is_plain: is_plain(device),
            place: if is_gpu { super::reports::place_of_gpu(device) } else { None },
        })
    };
    Some(DeviceSlice {
        node: spec["nodeName"].as_str().filter(|node| !node.is_empty())?.into(),
        pool: format!("{driver}/{pool_name}").into(),
        generation: pool["generation"].as_i64()?,
        of: usize::try_from(pool["resourceSliceCount"].as_i64()?).ok()?,
        devices: array(&spec["devices"]).iter().filter_map(read).collect(),
    })
}

/// Whether a device may be given as a whole and independently of others: it has no taint that keeps
/// claims away, is not cut of something that others are cut of, is not for several claims, and
/// needs no preparation that would have to be waited for.
fn is_plain(device: &Value) -> bool {
    let keeps_away =
        |taint: &Value| matches!(taint["effect"].as_str(), Some("NoSchedule" | "NoExecute"));
    !array(&device["taints"]).iter().any(keeps_away)
        && array(&device["consumesCounters"]).is_empty()
        && array(&device["bindingConditions"]).is_empty()
        && device["allowMultipleAllocations"] != true
}

/// What the slices of one node make of it: devices of the newest generation of each pool that is
/// complete. GPUs come first, in the order of the PCI bus, if it is known of all of them.
/// `offers`: of each class what its devices count as, and its selectors.
#[must_use]
pub fn node_devices<'a>(
    slices: impl Iterator<Item = &'a DeviceSlice>,
    kinds: &[(DeviceKind, &[Selector])],
    offers: &[(&str, &[Selector])],
) -> Option<NodeDevices> {
    let mut pools = newest(slices, |slice| (&slice.pool, slice.generation));
    pools.retain(|_, pool| pool.iter().all(|slice| slice.of == pool.len()));
    let mut devices: Vec<&Device> =
        pools.values().flatten().flat_map(|slice| &slice.devices).collect();
    if devices.is_empty() {
        return None;
    }
    devices.sort_by_key(|device| {
        (device.place.is_none(), device.place, device.name.len(), device.name.clone())
    });
    devices.dedup_by(|later, first| later.name == first.name);
    let gpus = devices.iter().filter(|device| device.place.is_some()).count();
    let places: Vec<_> = devices.iter().take(gpus).map(|device| device.place.flatten()).collect();
    let is_ordered = places.iter().all(Option::is_some)
        && places.windows(2).all(|two| two[0] != two[1])
        && gpus <= NODE_DEVICES_MAX;
    devices.truncate(NODE_DEVICES_MAX);
    let those = |selectors: &[Selector]| -> DeviceSet {
        let selected = |device: &Device| {
            device.is_plain && selectors.iter().all(|selector| selector.selects(&device.facts))
        };
        let all = devices.iter().enumerate();
        all.filter(|(_, device)| selected(device)).map(|(place, _)| place).collect()
    };
    let mut counted: BTreeMap<&str, DeviceSet> = BTreeMap::new();
    for (resource, selectors) in offers {
        let set = counted.entry(resource).or_default();
        *set = set.union(those(selectors));
    }
    counted.retain(|_, set| !set.is_empty());
    Some(NodeDevices {
        names: devices.iter().map(|device| device.name.clone()).collect(),
        kinds: kinds.iter().map(|(kind, selectors)| (*kind, those(selectors))).collect(),
        offers: counted.into_iter().map(|(resource, set)| (resource.into(), set)).collect(),
        gpus: if is_ordered { gpus } else { 0 },
    })
}

/// Leaves to a device plugin what it gives: where it offers a resource of a node, the devices that
/// count as that are taken to be the same ones, and no claim is given any of them.
#[must_use]
pub fn without_plugins(mut devices: NodeDevices, allocatable: &ResourceList) -> NodeDevices {
    let of_plugin = |resource: &str| {
        allocatable.iter().any(|(name, amount)| **name == *resource && *amount > 0)
    };
    let offers = devices.offers.iter().filter(|(resource, _)| of_plugin(resource));
    let taken = offers.fold(DeviceSet::EMPTY, |taken, (_, set)| taken.union(*set));
    if !taken.is_empty() {
        devices.offers.iter_mut().for_each(|(_, set)| *set = set.minus(taken));
        devices.offers.retain(|(_, set)| !set.is_empty());
        devices.kinds.iter_mut().for_each(|(_, set)| *set = set.minus(taken));
    }
    devices
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::convert::default_classes;
    use serde_json::json;

    fn read(devices: Value, status: Value) -> Claim {
        let object = json!({
            "metadata": { "name": "c", "uid": "11111111-2222-3333-4444-555555555555",
                "resourceVersion": "17" },
            "spec": { "devices": devices }, "status": status,
        });
        claim(&object).expect("a claim")
    }

    fn exactly(more: Value) -> Value {
        let mut exactly = json!({ "deviceClassName": "gpu.nvidia.com" });
        let fields = more.as_object().expect("fields").clone();
        exactly.as_object_mut().expect("an object").extend(fields);
        json!({ "requests": [{ "name": "r", "exactly": exactly }] })
    }

    #[test]
    fn requests_for_so_many_devices_are_read() {
        let selector = json!([{ "cel": { "expression": "device.driver == 'a'" } }]);
        let claim = read(exactly(json!({ "count": 3, "selectors": selector })), Value::Null);
        let request = Request {
            name: "r".into(),
            class: "gpu.nvidia.com".into(),
            count: 3,
            selectors: vec!["device.driver == 'a'".into()],
        };
        assert_eq!(claim.requests, Ok(vec![request]));
        assert_eq!((claim.version, claim.allocation), (17, None));
        let one = read(exactly(json!({ "allocationMode": "ExactCount" })), Value::Null);
        assert_eq!(one.requests.expect("it is honoured")[0].count, 1);
    }

    #[test]
    fn what_is_not_honoured_is_refused_by_name() {
        let constraint = json!([{ "matchAttribute": "a/b" }]);
        let mut constrained = exactly(json!({}));
        constrained["constraints"] = constraint;
        let selector = |text: &str| json!([{ "cel": { "expression": text } }]);
        let first = json!([{ "name": "a", "deviceClassName": "x", "count": 1 }]);
        for (devices, why) in [
            (constrained, "constraints between devices"),
            (json!({ "requests": [{ "name": "r", "firstAvailable": first }] }), "firstAvailable"),
            (exactly(json!({ "allocationMode": "All" })), "request r: allocationMode is not"),
            (exactly(json!({ "adminAccess": true })), "adminAccess is not honoured"),
            (exactly(json!({ "capacity": { "requests": {} } })), "(capacity)"),
            (exactly(json!({ "selectors": selector("device.x") })), "device.x is not understood"),
            (json!({}), "it requests no devices"),
        ] {
            let refused = read(devices, Value::Null).requests.expect_err("refused");
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn what_others_allocated_is_counted_whatever_was_asked() {
        let first = json!([{ "name": "large", "deviceClassName": "h200", "count": 1 }]);
        let result = |device: &str, admin: bool| {
            json!({ "request": "r/large", "driver": "d", "pool": "a/b", "device": device,
                "adminAccess": admin })
        };
        let term = json!({ "matchFields": [
            { "key": "metadata.name", "operator": "In", "values": ["n"] } ] });
        let status = json!({
            "allocation": { "devices": { "results": [result("x", false), result("y", true)] },
                "nodeSelector": { "nodeSelectorTerms": [term] } },
            "reservedFor": [{ "resource": "pods", "name": "p", "uid": "u" }, { "resource": "x" }],
        });
        let claim = read(json!({ "requests": [{ "name": "r", "firstAvailable": first }] }), status);
        assert_eq!(claim.class_of("r/large"), Some("h200"));
        assert_eq!(claim.state().devices, [DeviceName::from("d/a/b/x")]);
        assert_eq!(claim.reserved, [Uid::parse("u")]);
        let nodes = claim.allocation.expect("allocated").nodes.expect("confined");
        assert_eq!(nodes.expect("it can be read")[0].fields[0].values, [Box::from("n")]);
    }

    #[test]
    fn classes_count_as_what_they_or_the_configuration_say() {
        let class = |name: &str, spec: Value| {
            device_class(name, &json!({ "spec": spec }), &default_classes()).resource
        };
        assert_eq!(&*class("gpu.nvidia.com", json!({})), "nvidia.com/gpu");
        assert_eq!(&*class("nic", json!({})), "deviceclass.resource.kubernetes.io/nic");
        let named = json!({ "extendedResourceName": "example.com/fast" });
        assert_eq!(&*class("gpu.nvidia.com", named), "example.com/fast");
    }

    fn slice(generation: i64, of: u32, devices: &[Value]) -> DeviceSlice {
        let object = json!({ "spec": {
            "driver": "gpu.nvidia.com", "nodeName": "n", "devices": devices,
            "pool": { "name": "n", "generation": generation, "resourceSliceCount": of },
        } });
        device_slice(&object).expect("a node's own")
    }

    fn gpu(name: &str, bus: &str, more: Value) -> Value {
        let mut device = json!({ "name": name, "attributes": { "type": { "string": "gpu" },
            "pciBusID": { "string": format!("0000:{bus}:00.0") } } });
        let fields = more.as_object().expect("fields").clone();
        device.as_object_mut().expect("an object").extend(fields);
        device
    }

    fn made(slices: &[DeviceSlice]) -> Option<NodeDevices> {
        let all = [Selector::parse("device.driver == 'gpu.nvidia.com'").expect("it is read")];
        let kinds = [(DeviceKind(1), &all[..])];
        node_devices(slices.iter(), &kinds, &[("nvidia.com/gpu", &all[..])])
    }

    #[test]
    fn devices_of_whole_pools_count_that_may_be_given() {
        let tainted = json!({ "taints": [{ "key": "k", "effect": "NoSchedule" }] });
        let devices = [
            gpu("gpu-1", "1f", json!({})),
            gpu("gpu-0", "0f", json!({})),
            gpu("gpu-2", "2f", tainted),
            json!({ "name": "nic" }),
        ];
        let found = made(&[slice(1, 1, &devices)]).expect("devices");
        let names: Vec<&str> =
            found.names.iter().map(|name| name.rsplit('/').next().expect("a name")).collect();
        assert_eq!((&*names, found.gpus), (&["gpu-0", "gpu-1", "gpu-2", "nic"][..], 3));
        let plain: DeviceSet = [0, 1, 3].into_iter().collect();
        assert_eq!(found.of(DeviceKind(1)), plain, "the tainted one keeps its place");
        assert_eq!(found.offers, [(Box::from("nvidia.com/gpu"), plain)]);

        assert_eq!(made(&[slice(1, 2, &devices)]), None, "a slice is missing");
        let newer = [slice(1, 1, &devices), slice(2, 1, &devices[..1])];
        assert_eq!(made(&newer).expect("devices").names.len(), 1, "the newest generation counts");
        let counters = json!({ "consumesCounters": [{ "counterSet": "s" }] });
        let cut = [gpu("gpu-0", "0f", counters)];
        assert_eq!(made(&[slice(1, 1, &cut)]).expect("a device").offers, []);
    }

    #[test]
    fn what_a_device_plugin_offers_is_not_given_to_claims() {
        let devices = made(&[slice(1, 1, &[gpu("gpu-0", "0f", json!({}))])]).expect("devices");
        let other = vec![("cpu".into(), 1)];
        assert_eq!(without_plugins(devices.clone(), &other), devices);
        let left = without_plugins(devices, &vec![("nvidia.com/gpu".into(), 1)]);
        assert_eq!((left.offers.len(), left.of(DeviceKind(1))), (0, DeviceSet::EMPTY));
    }
}
