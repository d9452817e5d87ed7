//! LSF's GPU requirement string: the value of `bsub -gpu`, `GPU_REQ` and `LSB_GPU_REQ`.
//!
//! ```text
//! num=2:mode=shared:j_exclusive=yes:gmodel=A100-80G:glink=yes
//! ```
//!
//! What it says becomes demands on nodes ([`GpuNeeds`]); the number itself stays with the pod's
//! `nvidia.com/gpu`, as only that makes a kubelet give devices, and both have to agree. What cannot
//! be honoured is refused with the reason, never ignored. Syntax and defaults are those of IBM
//! Spectrum LSF 10.1, `bsub -gpu`.

use super::contract::{ContractError, cut};
use super::{Node, ResourceList};
use std::collections::BTreeMap;

/// Label: memory of each GPU in MiB, as NVIDIA's GPU feature discovery writes it.
pub const MEMORY_LABEL: &str = "nvidia.com/gpu.memory";
/// The field that errors name.
const FIELD: &str = "annotation mss-scheduler.io/gpu-request";
/// The keys of the grammar; `nvlink` is the old word for `glink`.
const KEYS: [&str; 14] = [
    "num",
    "mode",
    "mps",
    "j_exclusive",
    "aff",
    "block",
    "gpack",
    "gvendor",
    "gmodel",
    "gtile",
    "gmem",
    "glink",
    "nvlink",
    "mig",
];

/// What the GPUs of a node must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GpuNeeds {
    /// Words of the product name, in lower case, without what stands between them.
    pub model: Option<Box<str>>,
    /// Memory of the model in MiB, to within a tenth.
    pub model_memory: Option<i64>,
    /// Least memory of each GPU in MiB.
    pub memory: Option<i64>,
    /// NVLink joins each GPU of the node to each, so that any that are given are joined.
    pub joined: bool,
}

impl GpuNeeds {
    /// Whether the node's GPUs are of the model.
    #[must_use]
    pub fn is_model(&self, node: &Node) -> bool {
        let product = node.label(super::gpu_topology::PRODUCT_LABEL).unwrap_or_default();
        let named = self.model.as_deref().is_none_or(|model| names(product, model));
        let memory = gpu_memory(node);
        let near = |asked: i64| memory.is_some_and(|found| (found - asked).abs() * 10 <= asked);
        named && self.model_memory.is_none_or(near)
    }

    /// Whether the node's GPUs have the memory.
    #[must_use]
    pub fn has_memory(&self, node: &Node) -> bool {
        self.memory.is_none_or(|least| gpu_memory(node).is_some_and(|found| found >= least))
    }

    /// Whether NVLink joins the node's GPUs.
    #[must_use]
    pub fn is_joined(&self, node: &Node) -> bool {
        !self.joined || node.gpus.as_ref().is_some_and(|gpus| gpus.is_one_island())
    }
}

/// Memory of each GPU of the node, in MiB.
#[must_use]
pub fn gpu_memory(node: &Node) -> Option<i64> {
    node.label(MEMORY_LABEL)?.parse().ok()
}

/// Whether some whole words of a product name, taken together, are the model.
fn names(product: &str, model: &str) -> bool {
    let words: Vec<String> = words(product);
    (0..words.len()).any(|first| {
        let mut joined = String::new();
        words[first..].iter().any(|word| {
            joined += word;
            joined == model
        })
    })
}

fn words(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_ascii_alphanumeric());
    parts.filter(|part| !part.is_empty()).map(str::to_ascii_lowercase).collect()
}

fn refuse<T>(problem: impl Into<Box<str>>) -> Result<T, ContractError> {
    Err(ContractError::Malformed { field: FIELD, problem: problem.into() })
}

/// Reads the string of a pod that makes these requests. `Ok(None)`: any node will do.
///
/// # Errors
/// If it is malformed, contradicts itself or the requests, or says what cannot be honoured.
pub fn parse(text: &str, requests: &ResourceList) -> Result<Option<Box<GpuNeeds>>, ContractError> {
    if text == "-" {
        return Ok(None);
    }
    let said = Said::read(text)?;
    said.check_words()?;
    said.check_conflicts()?;
    said.check_sharing()?;
    said.check_number(requests)?;
    let needs = said.needs()?;
    Ok((needs != GpuNeeds::default()).then(|| Box::new(needs)))
}

/// The values by key.
struct Said<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Said<'a> {
    fn read(text: &'a str) -> Result<Self, ContractError> {
        let mut values = BTreeMap::new();
        for part in text.split(':') {
            let pair = part.split_once('=').filter(|(_, value)| !value.is_empty());
            let Some((key, value)) = pair else {
                return refuse(format!("{:?}: expected key=value, as num=2", cut(part)));
            };
            if !KEYS.contains(&key) {
                let known = KEYS.join(", ");
                return refuse(format!("{:?} is not a key; those are {known}", cut(key)));
            }
            if values.insert(key, value).is_some() {
                return refuse(format!("{key} is said twice"));
            }
        }
        Ok(Self(values))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).copied()
    }

    fn is(&self, key: &str, value: &str) -> bool {
        self.get(key) == Some(value)
    }

    /// Values of closed sets.
    fn check_words(&self) -> Result<(), ContractError> {
        const YES_NO: &[&str] = &["yes", "no"];
        let closed: [(&str, &[&str]); 8] = [
            ("mode", &["shared", "exclusive_process"]),
            ("j_exclusive", YES_NO),
            ("aff", YES_NO),
            ("block", YES_NO),
            ("gpack", YES_NO),
            ("gvendor", &["amd", "nvidia"]),
            ("glink", &["yes"]),
            ("nvlink", &["yes"]),
        ];
        for (key, values) in closed {
            if let Some(value) = self.get(key).filter(|value| !values.contains(value)) {
                return wrong(key, value, &values.join(" or "));
            }
        }
        let Some(mps) = self.get("mps") else { return Ok(()) };
        let mut parts = mps.split(',');
        let first = parts.next().unwrap_or_default();
        let options: Vec<&str> = parts.collect();
        let known = match first {
            "no" => options.is_empty(),
            "yes" | "per_socket" | "per_gpu" => {
                let all = options.iter().all(|option| ["shared", "nocvd"].contains(option));
                all && options.len() < 3 && options.first() != options.get(1)
            }
            _ => false,
        };
        let expected = "no, or yes, per_socket or per_gpu with ,shared and ,nocvd";
        if known { Ok(()) } else { wrong("mps", mps, expected) }
    }

    /// Words that contradict each other.
    fn check_conflicts(&self) -> Result<(), ContractError> {
        let conflicts = [
            (("gpack", "yes"), ("mode", "exclusive_process"), "only shared GPUs are packed"),
            (("gpack", "yes"), ("j_exclusive", "yes"), "only shared GPUs are packed"),
            (("block", "yes"), ("aff", "yes"), "blocks do not follow the CPUs"),
            (("gvendor", "amd"), ("mode", "exclusive_process"), "AMD's GPUs have no such mode"),
            (("glink", "yes"), ("nvlink", "yes"), "nvlink is the old word for glink: keep one"),
            (("gvendor", "amd"), ("nvlink", "yes"), "NVLink joins NVIDIA's GPUs alone"),
        ];
        for ((a, of_a), (b, of_b), why) in conflicts {
            if self.is(a, of_a) && self.is(b, of_b) {
                return refuse(format!("{a}={of_a} contradicts {b}={of_b}: {why}"));
            }
        }
        let mig = self.get("mig").is_some();
        if mig && self.linked() {
            return refuse("glink=yes contradicts mig: NVLink does not join slices of GPUs");
        }
        if mig && self.is("gvendor", "amd") {
            return refuse("mig contradicts gvendor=amd: MIG is NVIDIA's");
        }
        Ok(())
    }

    /// What only who runs the node can do.
    fn check_sharing(&self) -> Result<(), ContractError> {
        let not = |what: &str, why: &str| refuse(format!("{what} is not honoured: {why}"));
        if let Some(mps) = self.get("mps").filter(|mps| *mps != "no") {
            let why = "the node's device plugin starts the MPS daemon, not a scheduler";
            return not(&format!("mps={mps}"), why);
        }
        if self.is("gpack", "yes") {
            return not("gpack=yes", "a kubelet gives a whole GPU to one pod alone");
        }
        if self.is("block", "yes") {
            return not("block=yes", "a pod is one task, and its GPUs are all its own");
        }
        if self.is("aff", "yes") {
            let why = "the kubelet binds CPUs; set its topologyManagerPolicy, and leave aff out";
            return not("aff=yes", why);
        }
        if self.linked() && self.is("gvendor", "amd") {
            return not("glink=yes", "how AMD's GPUs are joined is not known here");
        }
        if let Some(tile) = self.get("gtile") {
            if tile != "!" && tile != "'!'" && whole(tile).is_none() {
                return wrong("gtile", tile, "a whole number from 1, or !");
            }
            let why = "the kubelet picks the GPUs that a pod gets, of whatever sockets";
            return not(&format!("gtile={tile}"), why);
        }
        Ok(())
    }

    fn linked(&self) -> bool {
        self.is("glink", "yes") || self.is("nvlink", "yes")
    }

    /// The pod's requests say the same number.
    fn check_number(&self, requests: &ResourceList) -> Result<(), ContractError> {
        let num = match self.get("num") {
            None => None,
            Some(text) => {
                let number = text.strip_suffix("/task").or(text.strip_suffix("/host"));
                let number = whole(number.unwrap_or(text));
                if number.is_none() {
                    return wrong(
                        "num",
                        text,
                        "a whole number from 1, alone or with /task or /host",
                    );
                }
                number
            }
        };
        let resource = self.resource()?;
        let is_it = |name: &str| match resource.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == resource,
        };
        let asked = requests.iter().find(|(name, _)| is_it(name)).map_or(0, |(_, count)| *count);
        let number = num.unwrap_or(asked);
        match asked {
            0 => refuse(format!(
                "the pod asks for no {resource}: give its containers {resource}: {} as a limit",
                num.unwrap_or(1)
            )),
            asked if asked == number => Ok(()),
            asked => refuse(format!("num={number}, but the pod asks for {asked} {resource}")),
        }
    }

    /// The resource that the string speaks of; `*` stands for the rest of a name.
    fn resource(&self) -> Result<String, ContractError> {
        let Some(mig) = self.get("mig") else {
            let vendor = self.get("gvendor").unwrap_or("nvidia");
            return Ok(format!("{vendor}.com/gpu"));
        };
        let slices = |text: &str| whole(text).filter(|slices| [1, 2, 3, 4, 7].contains(slices));
        let (gpu, compute) = match mig.split_once('/') {
            None => (slices(mig), Some(None)),
            Some((gpu, compute)) => (slices(gpu), slices(compute).map(Some)),
        };
        match (gpu, compute) {
            (Some(gpu), Some(None)) => Ok(format!("nvidia.com/mig-{gpu}g.*")),
            (Some(gpu), Some(Some(all))) if all == gpu => Ok(format!("nvidia.com/mig-{gpu}g.*")),
            (Some(gpu), Some(Some(compute))) if compute < gpu => {
                Ok(format!("nvidia.com/mig-{compute}c.{gpu}g.*"))
            }
            _ => wrong("mig", mig, "1, 2, 3, 4 or 7, perhaps with / and no larger such number"),
        }
    }

    fn needs(&self) -> Result<GpuNeeds, ContractError> {
        let mut needs = GpuNeeds { joined: self.linked(), ..GpuNeeds::default() };
        if let Some(model) = self.get("gmodel") {
            let split = model.rsplit_once(['-', '#']);
            let sized = split.and_then(|(name, size)| Some((name, mebibytes(size, None)?)));
            needs.model_memory = sized.map(|(_, memory)| memory);
            let name = words(sized.map_or(model, |(name, _)| name)).concat();
            if name.is_empty() {
                return wrong(
                    "gmodel",
                    model,
                    "a product name, perhaps with its memory, as A100-80G",
                );
            }
            needs.model = Some(name.into());
        }
        if let Some(memory) = self.get("gmem") {
            needs.memory = mebibytes(memory, Some(1));
            if needs.memory.is_none() {
                return wrong("gmem", memory, "an amount of memory, as 16G; without a unit, MB");
            }
        }
        Ok(needs)
    }
}

fn wrong<T>(key: &str, found: &str, expected: &str) -> Result<T, ContractError> {
    refuse(format!("{key}={}: expected {expected}", cut(found)))
}

/// A whole number from 1, in plain digits.
fn whole(text: &str) -> Option<i64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| plain && (1..=1 << 40).contains(number))
}

/// LSF's units are powers of 1024. `bare`: MiB that a number without a unit counts in.
fn mebibytes(text: &str, bare: Option<i64>) -> Option<i64> {
    let upper = text.to_ascii_uppercase();
    let digits = upper.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &upper[digits.len()..] {
        "" => bare?,
        "M" | "MB" => 1,
        "G" | "GB" => 1 << 10,
        "T" | "TB" => 1 << 20,
        _ => return None,
    };
    whole(digits)?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, requests: &[(&str, i64)]) -> Result<GpuNeeds, String> {
        let requests = requests.iter().map(|(name, count)| ((*name).into(), *count)).collect();
        let needs = parse(text, &requests).map_err(|error| error.to_string())?;
        Ok(needs.map(|needs| *needs).unwrap_or_default())
    }

    const TWO: &[(&str, i64)] = &[("cpu", 1000), ("nvidia.com/gpu", 2)];

    #[test]
    fn what_is_said_of_all_nodes_needs_nothing() {
        for text in [
            "-",
            "num=2",
            "num=2/task",
            "num=2/host:mode=shared:mps=no:j_exclusive=no",
            "mode=exclusive_process:j_exclusive=yes:aff=no:block=no:gpack=no:gvendor=nvidia",
        ] {
            assert_eq!(read(text, TWO), Ok(GpuNeeds::default()), "{text}");
        }
        assert_eq!(read("num=2:gvendor=amd", &[("amd.com/gpu", 2)]), Ok(GpuNeeds::default()));
        for (mig, resource) in
            [("3", "mig-3g.20gb"), ("3/3", "mig-3g.20gb"), ("3/1", "mig-1c.3g.20gb")]
        {
            let requests = [(&*format!("nvidia.com/{resource}"), 1)];
            assert_eq!(read(&format!("mig={mig}"), &requests), Ok(GpuNeeds::default()), "{mig}");
        }
    }

    #[test]
    fn demands_on_nodes_are_kept() {
        let joined = GpuNeeds { joined: true, ..GpuNeeds::default() };
        assert_eq!(read("glink=yes", TWO), Ok(joined.clone()));
        assert_eq!(read("num=2:nvlink=yes", TWO), Ok(joined));
        for (text, memory) in [("512", 512), ("100M", 100), ("16G", 16 << 10), ("1TB", 1 << 20)] {
            let needs = read(&format!("gmem={text}"), TWO).unwrap();
            assert_eq!(needs.memory, Some(memory), "{text}");
        }
        for (text, model, memory) in [
            ("TeslaV100_SXM2_32GB", "teslav100sxm232gb", None),
            ("A100-80G", "a100", Some(80 << 10)),
            ("K40-12GB", "k40", Some(12 << 10)),
            ("A100#40G", "a100", Some(40 << 10)),
            ("NVIDIA-H200", "nvidiah200", None),
        ] {
            let needs = read(&format!("gmodel={text}"), TWO).unwrap();
            let found = (needs.model.as_deref(), needs.model_memory);
            assert_eq!(found, (Some(model), memory), "{text}");
        }
    }

    /// What is written, and what is said about it.
    const REFUSED: &[(&str, &str)] = &[
        ("", "\"\": expected key=value, as num=2"),
        ("num", "\"num\": expected key=value, as num=2"),
        ("num=2:", "\"\": expected key=value, as num=2"),
        ("num=2:num=2", "num is said twice"),
        ("num=0", "num=0: expected a whole number from 1, alone or with /task or /host"),
        ("num=2/job", "num=2/job: expected a whole number from 1, alone or with /task or /host"),
        ("num=4", "num=4, but the pod asks for 2 nvidia.com/gpu"),
        ("mode=fast", "mode=fast: expected shared or exclusive_process"),
        ("glink=no", "glink=no: expected yes"),
        (
            "mps=yes,yes",
            "mps=yes,yes: expected no, or yes, per_socket or per_gpu with ,shared \
            and ,nocvd",
        ),
        ("gtile=0", "gtile=0: expected a whole number from 1, or !"),
        ("gmem=much", "gmem=much: expected an amount of memory, as 16G; without a unit, MB"),
        ("gmodel=-", "gmodel=-: expected a product name, perhaps with its memory, as A100-80G"),
        ("mig=5", "mig=5: expected 1, 2, 3, 4 or 7, perhaps with / and no larger such number"),
        (
            "mig=1/2",
            "mig=1/2: expected 1, 2, 3, 4 or 7, perhaps with / and no larger such \
            number",
        ),
        (
            "gpack=yes:j_exclusive=yes",
            "gpack=yes contradicts j_exclusive=yes: only shared GPUs \
            are packed",
        ),
        (
            "glink=yes:nvlink=yes",
            "glink=yes contradicts nvlink=yes: nvlink is the old word for \
            glink: keep one",
        ),
        ("mig=1:glink=yes", "glink=yes contradicts mig: NVLink does not join slices of GPUs"),
        (
            "gvendor=amd",
            "the pod asks for no amd.com/gpu: give its containers amd.com/gpu: 1 as \
            a limit",
        ),
        (
            "mig=1",
            "the pod asks for no nvidia.com/mig-1g.*: give its containers \
            nvidia.com/mig-1g.*: 1 as a limit",
        ),
        (
            "mps=per_gpu,nocvd",
            "mps=per_gpu,nocvd is not honoured: the node's device plugin \
            starts the MPS daemon, not a scheduler",
        ),
        ("gpack=yes", "gpack=yes is not honoured: a kubelet gives a whole GPU to one pod alone"),
        (
            "block=yes",
            "block=yes is not honoured: a pod is one task, and its GPUs are all its \
            own",
        ),
        (
            "aff=yes",
            "aff=yes is not honoured: the kubelet binds CPUs; set its \
            topologyManagerPolicy, and leave aff out",
        ),
        (
            "gtile='!'",
            "gtile='!' is not honoured: the kubelet picks the GPUs that a pod gets, \
            of whatever sockets",
        ),
    ];

    #[test]
    fn what_is_wrong_is_refused_with_the_reason() {
        for (text, problem) in REFUSED {
            let expected = format!("annotation mss-scheduler.io/gpu-request: {problem}");
            assert_eq!(read(text, TWO), Err(expected), "{text}");
        }
        let error = read("gpus=2", TWO).unwrap_err();
        assert!(error.contains("\"gpus\" is not a key; those are num, mode"), "{error}");
    }

    #[test]
    fn models_are_found_by_whole_words() {
        for (product, model, found) in [
            ("NVIDIA-A100-SXM4-80GB", "a100", true),
            ("NVIDIA-A100-SXM4-80GB", "nvidiaa100", true),
            ("NVIDIA-A100-SXM4-80GB", "a100sxm4", true),
            ("NVIDIA-A100-SXM4-80GB", "a10", false),
            ("NVIDIA-A100-SXM4-80GB", "100", false),
            ("Tesla-V100-SXM2-32GB", "teslav100sxm232gb", true),
            ("", "a100", false),
        ] {
            assert_eq!(names(product, model), found, "{product} {model}");
        }
    }

    #[test]
    fn memory_of_a_model_is_met_to_within_a_tenth() {
        let node = |memory: &str| Node {
            labels: vec![(MEMORY_LABEL.into(), memory.into())],
            ..Node::default()
        };
        let needs = read("gmodel=A-80G:gmem=80G", TWO).unwrap();
        let needs = GpuNeeds { model: None, ..needs };
        for (memory, model, enough) in [
            ("81920", true, true),
            ("81559", true, false),
            ("40960", false, false),
            ("", false, false),
        ] {
            assert_eq!(needs.is_model(&node(memory)), model, "{memory}");
            assert_eq!(needs.has_memory(&node(memory)), enough, "{memory}");
        }
    }
}
