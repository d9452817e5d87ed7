//! Which devices are chosen, against answers written down before the code and against a search that
//! tries everything.

use mss_scheduler::model::gpu_topology::{DeviceSet, GpuTopology, Link};
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Machine {
    #[serde(rename = "source")]
    _source: String,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    free: Vec<usize>,
    k: usize,
    set: Vec<usize>,
    #[serde(default)]
    alike: Vec<Vec<usize>>,
    /// How many are as good, where they are not listed.
    others: Option<usize>,
    /// What NVIDIA's allocator gives: `same`, or another set.
    nvidia: Option<Nvidia>,
    #[serde(rename = "why")]
    _why: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Nvidia {
    Same(String),
    Other(Vec<usize>),
}

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gpu_topology").join(file)
}

fn machine(name: &str) -> GpuTopology {
    let text = std::fs::read_to_string(path(&format!("{name}.txt"))).unwrap();
    GpuTopology::parse_smi(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn set(devices: &[usize]) -> DeviceSet {
    devices.iter().copied().collect()
}

#[test]
fn the_answers_written_down_before_the_code_are_given() {
    let text = std::fs::read_to_string(path("answers.yaml")).unwrap();
    let machines: BTreeMap<String, Machine> = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(machines.len(), 5);
    for (name, Machine { cases, .. }) in machines {
        let topology = machine(&name);
        for case in cases {
            let given = topology.choose(set(&case.free), case.k).unwrap();
            assert_eq!(given, set(&case.set), "{name}: {case:?}: gave {given}");
            let mut alike: Vec<Vec<usize>> = best_of_all(&topology, &case.free, case.k);
            alike.retain(|other| *other != case.set);
            let mut expected = case.alike.clone();
            expected.sort();
            alike.sort();
            match case.others {
                Some(count) => assert_eq!(alike.len(), count, "{name}: {case:?}"),
                None => assert_eq!(alike, expected, "{name}: {case:?}: those as good"),
            }
            match &case.nvidia {
                None => {}
                Some(Nvidia::Same(word)) => assert_eq!(word, "same"),
                Some(Nvidia::Other(other)) => assert_ne!(set(other), given, "{name}: {case:?}"),
            }
        }
    }
}

#[test]
fn an_output_becomes_an_annotation_and_is_read_back() {
    for (name, text) in [
        (
            "hybrid-cube-mesh",
            "v1 gpus=8 numa=0:0-3/1:4-7 NV2=0+3/0+4/1-2/1+5/2-3/4+7/5-6/6-7 \
             NV1=0-1/0+2/1+3/2+6/3+7/4-5/4+6/5+7 else=SYS",
        ),
        ("pcie-pairs", "v1 gpus=8 numa=0:0-3/1:4-7 PIX=0-1/2-3/4-5/6-7 PHB=0-3/4-7 else=SYS"),
        ("two-islands", "v1 gpus=8 numa=0:0-3/1:4-7 NV6=0-3/4-7 else=SYS"),
        ("nvswitch", "v1 gpus=8 numa=0:0-3/1:4-7 else=NV18"),
        ("sixteen", "v1 gpus=16 numa=0:0-7/1:8-15 else=NV6"),
    ] {
        let topology = machine(name);
        assert_eq!(topology.to_string(), text);
        assert_eq!(GpuTopology::parse(text), Ok(topology), "{name}");
    }
}

/// All sets of `count` of `free`.
fn all_sets(free: &[usize], count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let Some((first, others)) = free.split_first() else { return Vec::new() };
    let with = all_sets(others, count - 1).into_iter().map(|mut set| {
        set.insert(0, *first);
        set
    });
    with.chain(all_sets(others, count)).collect()
}

/// The scores of go-gpuallocator's `calculateGPUPairScore`, written down once more.
fn score(link: Link) -> i64 {
    match link {
        Link::Sys => 10,
        Link::Node => 20,
        Link::Phb => 30,
        Link::Pxb => 40,
        Link::Pix => 50,
        Link::Psb => 60,
        Link::Nv(links) => i64::from(links) * 100,
    }
}

fn pairs(set: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    set.iter().enumerate().flat_map(|(at, a)| set[at + 1..].iter().map(|b| (*a, *b)))
}

/// All that counts of a set but its indexes, by the words of the documentation.
fn worth(topology: &GpuTopology, free: &[usize], set: &[usize]) -> [i64; 5] {
    let rest: Vec<usize> = free.iter().copied().filter(|device| !set.contains(device)).collect();
    let weakest = pairs(set).map(|(a, b)| score(topology.link(a, b))).min().unwrap_or(i64::MAX);
    let sum = |set: &[usize]| pairs(set).map(|(a, b)| score(topology.link(a, b))).sum::<i64>();
    let near = |set: &[usize]| {
        let near = pairs(set).filter(|(a, b)| topology.numa(*a) == topology.numa(*b));
        i64::try_from(near.count()).unwrap()
    };
    [weakest, sum(set), near(set), sum(&rest), near(&rest)]
}

/// All sets than which none is better, the lowest first.
fn best_of_all(topology: &GpuTopology, free: &[usize], count: usize) -> Vec<Vec<usize>> {
    let sets = all_sets(free, count);
    let best = sets.iter().map(|set| worth(topology, free, set)).max();
    sets.into_iter().filter(|set| Some(worth(topology, free, set)) == best).collect()
}

fn link() -> impl Strategy<Value = Link> {
    prop_oneof![
        Just(Link::Sys),
        Just(Link::Node),
        Just(Link::Phb),
        Just(Link::Pxb),
        Just(Link::Pix),
        (1u8..5).prop_map(Link::Nv),
    ]
}

/// Machines in which anything is joined to anything, and machines of groups of groups.
fn topology() -> impl Strategy<Value = GpuTopology> {
    let wild = (2usize..=8, prop::collection::vec(link(), 64), prop::collection::vec(0u8..3, 8))
        .prop_map(|(gpus, links, numa)| {
            let numa = if numa[0] == 2 { Vec::new() } else { numa[..gpus].to_vec() };
            GpuTopology::new(gpus, numa, |a, b| links[a * 8 + b]).unwrap()
        });
    let grouped = (2usize..=10, 1usize..5, 1usize..4, [link(), link(), link()]).prop_map(
        |(gpus, small, large, links)| {
            let large = small * large;
            let numa = (0..gpus).map(|device| u8::try_from(device / large).unwrap()).collect();
            let link = |a: usize, b: usize| match (a / small == b / small, a / large == b / large) {
                (true, _) => links[0],
                (_, true) => links[1],
                _ => links[2],
            };
            GpuTopology::new(gpus, numa, link).unwrap()
        },
    );
    prop_oneof![wild, grouped]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_best_set_is_found(topology in topology(), free in any::<u16>(), count in 0usize..10) {
        let free: Vec<usize> = (0..topology.len()).filter(|at| free >> at & 1 == 1).collect();
        let best = best_of_all(&topology, &free, count);
        let given = topology.choose(set(&free), count);
        prop_assert_eq!(given, best.first().map(|best| set(best)), "of {}", topology);
    }

    #[test]
    fn what_is_written_is_read_back(topology in topology()) {
        prop_assert_eq!(GpuTopology::parse(&topology.to_string()), Ok(topology));
    }
}
