//! What is read of the objects that report the GPUs of nodes: `NodeResourceTopology` of
//! `topology.node.k8s.io`, and the ResourceSlices of NVIDIA's driver of dynamic resource
//! allocation. What is not as expected reports nothing.

use crate::model::gpu_part::GPU;
use crate::model::gpu_topology::{Reported, ReportedGpu};
use crate::model::quantity;
use serde_json::Value;
use std::collections::BTreeMap;

/// The driver whose ResourceSlices are read.
pub const DRIVER: &str = "gpu.nvidia.com";
/// Prefixes under which a driver may name what it says of a device: that of attributes on which all
/// drivers agree, its own, the network driver's from before they did, and none, which is its own.
const PREFIXES: [&str; 4] = ["resource.kubernetes.io/", "gpu.nvidia.com/", "dra.net/", ""];

/// What is read of a device, without a prefix.
const ATTRIBUTES: [&str; 6] =
    ["type", "numaNode", "pciBusID", "pcieBusID", "productName", "pcieRoot"];

/// Whether an attribute of a device is read, under its whole name.
#[must_use]
pub fn is_read(name: &str) -> bool {
    let rest = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
    rest.is_some_and(|rest| ATTRIBUTES.contains(&rest))
}

/// The GPUs of each NUMA node, and which NUMA nodes are nearer to each other than others. Zones of
/// NUMA nodes have the type `Node` and the name `node-N`.
#[must_use]
pub fn zones(object: &Value) -> Option<Reported> {
    let zones = list(&object["zones"]).iter().filter(|zone| zone["type"] == "Node");
    let mut counts = BTreeMap::new();
    let mut costs = BTreeMap::new();
    for zone in zones {
        let gpus = list(&zone["resources"]).iter().find(|resource| resource["name"] == GPU);
        let count = gpus.map_or(Some(0), |gpus| amount(&gpus["capacity"]))?;
        if count == 0 {
            continue;
        }
        let number = numa(&zone["name"])?;
        // a NUMA node that is listed twice is not understood
        if counts.insert(number, count).is_some() {
            return None;
        }
        for cost in list(&zone["costs"]) {
            if let (Some(other), Some(value)) = (numa(&cost["name"]), cost["value"].as_i64()) {
                costs.insert((number, other), value);
            }
        }
    }
    let near = near(&counts, &costs);
    Reported::counted(&counts.into_iter().collect::<Vec<_>>(), near)
}

/// The pairs of least cost, if others cost more and the cost of each pair is known.
fn near(counts: &BTreeMap<u8, usize>, costs: &BTreeMap<(u8, u8), i64>) -> Vec<(u8, u8)> {
    let numas: Vec<u8> = counts.keys().copied().collect();
    let after = |at: usize| numas[at + 1..].iter().map(move |other| (at, *other));
    let pairs = (0..numas.len()).flat_map(after).map(|(at, other)| (numas[at], other));
    let dearer = |(one, other): (u8, u8)| {
        let (there, back) = (costs.get(&(one, other))?, costs.get(&(other, one))?);
        Some(((one, other), *there.max(back)))
    };
    let pairs: Option<Vec<((u8, u8), i64)>> = pairs.map(dearer).collect();
    let pairs = pairs.unwrap_or_default();
    let Some(least) = pairs.iter().map(|(_, cost)| *cost).min() else { return Vec::new() };
    if pairs.iter().all(|(_, cost)| *cost == least) {
        return Vec::new();
    }
    pairs.into_iter().filter(|(_, cost)| *cost == least).map(|(pair, _)| pair).collect()
}

fn numa(name: &Value) -> Option<u8> {
    name.as_str()?.strip_prefix("node-")?.parse().ok()
}

fn amount(value: &Value) -> Option<usize> {
    let count = match value {
        Value::String(text) => quantity::parse(text, 0)?,
        value => value.as_i64()?,
    };
    usize::try_from(count).ok()
}

/// A ResourceSlice of the driver, as far as it names GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The node whose devices these are.
    pub node: Box<str>,
    pool: Box<str>,
    generation: i64,
    /// Slices of the pool.
    of: usize,
    gpus: Vec<Gpu>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Gpu {
    /// domain, bus, device and function
    place: Option<[u32; 4]>,
    product: Option<Box<str>>,
    gpu: ReportedGpu,
}

/// A slice of the driver whose devices one node has; `None`: it is another.
#[must_use]
pub fn slice(object: &Value) -> Option<Slice> {
    let spec = &object["spec"];
    if spec["driver"] != DRIVER {
        return None;
    }
    let pool = &spec["pool"];
    Some(Slice {
        node: spec["nodeName"].as_str().filter(|node| !node.is_empty())?.into(),
        pool: pool["name"].as_str()?.into(),
        generation: pool["generation"].as_i64()?,
        of: usize::try_from(pool["resourceSliceCount"].as_i64()?).ok()?,
        gpus: list(&spec["devices"]).iter().filter_map(gpu).collect(),
    })
}

/// A device that is a whole GPU.
fn gpu(device: &Value) -> Option<Gpu> {
    let text = |names: &[&str]| names.iter().find_map(|name| said(device, name)?.text());
    if text(&["type"]) != Some("gpu") {
        return None;
    }
    let number = said(device, "numaNode").and_then(Said::number);
    Some(Gpu {
        place: text(&["pciBusID", "pcieBusID"]).and_then(place),
        product: text(&["productName"]).map(Into::into),
        gpu: ReportedGpu {
            numa: number.and_then(|number| u8::try_from(number).ok()),
            root: text(&["pcieRoot"]).map(Into::into),
        },
    })
}

/// Where on the PCI bus a device is; `None`: it is no whole GPU.
pub(super) fn place_of_gpu(device: &Value) -> Option<Option<[u32; 4]>> {
    gpu(device).map(|gpu| gpu.place)
}

/// The value of an attribute of a device.
#[derive(Clone, Copy)]
struct Said<'a>(&'a Value);

fn said<'a>(device: &'a Value, name: &str) -> Option<Said<'a>> {
    let attributes = device["attributes"].as_object()?;
    let find = |prefix: &&str| attributes.get(&format!("{prefix}{name}"));
    PREFIXES.iter().find_map(find).map(Said)
}

impl<'a> Said<'a> {
    /// A value, or the only one of a list: of several it is not known which counts.
    fn one(self, single: &str, several: &str) -> Option<&'a Value> {
        self.0.get(single).or_else(|| match list(&self.0[several]) {
            [only] => Some(only),
            _ => None,
        })
    }

    fn text(self) -> Option<&'a str> {
        self.one("string", "strings")?.as_str()
    }

    fn number(self) -> Option<i64> {
        self.one("int", "ints")?.as_i64()
    }
}

/// Reads `0000:0f:00.0`.
fn place(text: &str) -> Option<[u32; 4]> {
    let (bus, function) = text.rsplit_once('.')?;
    let mut parts = bus.split(':');
    let mut part = || u32::from_str_radix(parts.next()?, 16).ok();
    let found = [part()?, part()?, part()?, u32::from_str_radix(function, 16).ok()?];
    parts.next().is_none().then_some(found)
}

/// The slices of each pool that are of its newest generation. `of` tells the two of a slice.
pub(super) fn newest<'a, T>(
    slices: impl Iterator<Item = &'a T>,
    of: impl Fn(&'a T) -> (&'a str, i64),
) -> BTreeMap<&'a str, Vec<&'a T>> {
    let mut pools: BTreeMap<&str, Vec<&T>> = BTreeMap::new();
    for slice in slices {
        let (pool, generation) = of(slice);
        let pool = pools.entry(pool).or_default();
        let newest = pool.first().map_or(i64::MIN, |first| of(first).1);
        if generation > newest {
            pool.clear();
        }
        if generation >= newest {
            pool.push(slice);
        }
    }
    pools
}

/// What the slices of one node report, the newest of each pool: GPUs in the order of the PCI bus.
/// `None`: a pool is not complete, as when its driver is replacing it.
#[must_use]
pub fn of_slices<'a>(slices: impl Iterator<Item = &'a Slice>) -> Option<Option<Reported>> {
    let pools = newest(slices, |slice| (&slice.pool, slice.generation));
    if pools.values().any(|pool| pool.iter().any(|slice| slice.of != pool.len())) {
        return None;
    }
    let mut gpus: Vec<&Gpu> = pools.values().flatten().flat_map(|slice| &slice.gpus).collect();
    gpus.sort_by_key(|gpu| gpu.place);
    let product = gpus.first().and_then(|first| first.product.clone());
    let product = product.filter(|_| gpus.windows(2).all(|two| two[0].product == two[1].product));
    // without their places on the bus it is not known which index is whose
    let ordered = gpus.iter().all(|gpu| gpu.place.is_some())
        && gpus.windows(2).all(|two| two[0].place != two[1].place);
    let gpus = gpus.iter().map(|gpu| gpu.gpu.clone()).collect();
    Some(if ordered { Reported::named(gpus, product) } else { None })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn gpus(reported: Option<Reported>, product: &str) -> String {
        let reported = reported.expect("it reports GPUs");
        let count = reported.len().to_string();
        let label = |key: &str| match key {
            "nvidia.com/gpu.count" => Some(&*count),
            _ => Some(product).filter(|product| !product.is_empty()),
        };
        let known = crate::model::gpu_topology::of_node(None, label, Some(&reported));
        known.expect("no annotation").expect("it is known").to_string()
    }

    /// As node feature discovery and the resource topology exporter write them.
    fn zone(name: &str, gpus: Value, costs: Value) -> Value {
        json!({ "name": name, "type": "Node", "costs": costs, "resources": [
            { "name": "cpu", "capacity": "64", "allocatable": "62", "available": "3" },
            { "name": "nvidia.com/gpu", "capacity": gpus, "allocatable": gpus, "available": "1" },
        ] })
    }

    #[test]
    fn zones_count_the_gpus_of_numa_nodes() {
        let object = json!({ "zones": [
            zone("node-1", json!(2), json!([{ "name": "node-0", "value": 21 }])),
            zone("node-0", json!("6"), json!([{ "name": "node-1", "value": 21 }])),
            zone("node-2", json!("0"), Value::Null),
            { "name": "socket-0", "type": "Socket" },
        ] });
        let text = "v1 gpus=8 numa=0:0-5/1:6-7 NODE=0-5/6-7 else=SYS";
        assert_eq!(gpus(zones(&object), ""), text);
        for (path, wrong) in [
            ("/zones/1/name", json!("numa0")),
            ("/zones/1/name", json!("node-1")),
            ("/zones/1/resources/1/capacity", json!("six")),
            ("/zones/1/resources/1/capacity", json!(9000)),
            ("/zones", json!({})),
        ] {
            let mut object = object.clone();
            *object.pointer_mut(path).expect("it is there") = wrong;
            assert_eq!(zones(&object), None, "{path}: {object}");
        }
    }

    #[test]
    fn numa_nodes_of_one_socket_are_near_by_their_costs() {
        let far = |number: u8| {
            let costs = (0..4).map(|other: u8| {
                let value = if number == other {
                    10
                } else if number / 2 == other / 2 {
                    12
                } else {
                    32
                };
                json!({ "name": format!("node-{other}"), "value": value })
            });
            zone(&format!("node-{number}"), json!("1"), costs.collect())
        };
        let mut object = json!({ "zones": (0..4).map(far).collect::<Vec<_>>() });
        let text = "v1 gpus=4 numa=0:0/1:1/2:2/3:3 NODE=0-1/2-3 else=SYS";
        assert_eq!(gpus(zones(&object), ""), text);
        object["zones"][2]["costs"] = json!([]);
        assert_eq!(gpus(zones(&object), ""), "v1 gpus=4 numa=0:0/1:1/2:2/3:3 else=SYS");
    }

    fn device(bus: &str, numa: Value, root: &str) -> Value {
        json!({ "name": format!("gpu-{bus}"), "attributes": {
            "type": { "string": "gpu" },
            "uuid": { "string": format!("GPU-{bus}") },
            "productName": { "string": "NVIDIA L40S" },
            "resource.kubernetes.io/pciBusID": { "string": format!("0000:{bus}:00.0") },
            "resource.kubernetes.io/pcieRoot": { "string": root },
            "resource.kubernetes.io/numaNode": numa,
        } })
    }

    fn object(generation: i64, of: u32, devices: &[Value]) -> Value {
        json!({ "metadata": { "name": "n-gpu.nvidia.com-x" }, "spec": {
            "driver": "gpu.nvidia.com", "nodeName": "n", "devices": devices,
            "pool": { "name": "n", "generation": generation, "resourceSliceCount": of },
        } })
    }

    fn read(objects: &[Value]) -> Option<Option<Reported>> {
        let slices: Vec<Slice> = objects.iter().filter_map(slice).collect();
        of_slices(slices.iter())
    }

    #[test]
    fn gpus_of_slices_have_the_order_of_the_bus() {
        let one = |numa: i64| json!({ "int": numa });
        let mig =
            json!({ "name": "gpu-0-mig-1g10gb-0", "attributes": { "type": { "string": "mig" } } });
        let devices = [
            device("e1", json!({ "ints": [1] }), "pci0000:e0"),
            mig,
            device("0f", one(0), "pci0000:00"),
        ];
        let rest = [device("1b", one(0), "pci0000:00")];
        let text = "v1 gpus=3 numa=0:0-1/1:2 PHB=0-1 else=SYS";
        let both = [object(2, 2, &devices), object(2, 2, &rest)];
        assert_eq!(gpus(read(&both).expect("complete"), ""), text);
        let stale = [both[0].clone(), object(1, 1, &rest), both[1].clone()];
        assert_eq!(gpus(read(&stale).expect("complete"), ""), text, "older ones do not count");
        assert_eq!(read(&both[..1]), None, "the other slice is missing");
        assert_eq!(read(&[]), Some(None));

        let mut unplaced = devices[0].clone();
        unplaced["attributes"]["resource.kubernetes.io/pciBusID"] = Value::Null;
        assert_eq!(read(&[object(1, 1, &[unplaced])]), Some(None));
        let mut other = object(1, 1, &devices);
        other["spec"]["driver"] = json!("gpu.example.com");
        assert_eq!(slice(&other), None);
    }

    #[test]
    fn attributes_of_older_drivers_are_read() {
        let old = |bus: &str, numa: i64| {
            json!({ "name": "gpu-0", "attributes": {
                "gpu.nvidia.com/type": { "string": "gpu" },
                "gpu.nvidia.com/productName": { "string": "NVIDIA H200" },
                "pcieBusID": { "string": format!("00000000:{bus}:00.0") },
                "dra.net/numaNode": { "int": numa },
            } })
        };
        let found = read(&[object(1, 1, &[old("0F", 0), old("0A", 1)])]).expect("complete");
        assert_eq!(gpus(found, ""), "v1 gpus=2 numa=0:1/1:0 else=NV18");
    }

    #[test]
    fn places_on_the_bus_are_hexadecimal() {
        assert_eq!(place("0000:0f:00.1"), Some([0, 15, 0, 1]));
        for text in ["", "0f:00.0", "0000:0f:00", "0000:0f:00:01.0", "0000:xx:00.0"] {
            assert_eq!(place(text), None, "{text:?}");
        }
    }
}
