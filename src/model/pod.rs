//! A pod, as far as scheduling is concerned.

use super::claim::{DeviceAsks, by_claim};
use super::{
    ContractError, DeviceSet, GpuNeeds, GpuPart, GroupSpec, Labels, NodeSelectorTerm, PodClaim,
    ResourceList, TopologyAsk,
};
use super::{HolderRefusal, WallTime};
use super::{Taint, TaintEffect, Task};
use std::fmt;

/// Namespace and name of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    /// `metadata.namespace`.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// `metadata.uid`: the identity of an object, which a re-created namesake does not share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uid(pub u128);

impl Uid {
    /// Reads a UUID. API servers give every object one; the uid of a static pod's mirror is other
    /// text, which is hashed: such a pod is bound from birth, so its uid is never sent back.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(parse_uuid(text).unwrap_or_else(|| fnv128(text)))
    }
}

fn parse_uuid(text: &str) -> Option<u128> {
    let dashes = [8, 13, 18, 23];
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    bytes.iter().enumerate().try_fold(0u128, |value, (index, byte)| match byte {
        b'-' if dashes.contains(&index) => Some(value),
        _ if dashes.contains(&index) => None,
        b'0'..=b'9' => Some(value << 4 | u128::from(byte - b'0')),
        b'a'..=b'f' => Some(value << 4 | u128::from(byte - b'a' + 10)),
        _ => None,
    })
}

/// FNV-1a, 128 bit: stable across runs and machines.
fn fnv128(text: &str) -> u128 {
    text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash: u128, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |shift: u32, bits: u32| (self.0 >> shift) & ((1u128 << bits) - 1);
        let (a, b, c) = (part(96, 32), part(80, 16), part(64, 16));
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", part(48, 16), part(0, 48))
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `status.phase`, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not ended: pending, running or unknown.
    #[default]
    Live,
    /// All containers ended well.
    Succeeded,
    /// Ended otherwise.
    Failed,
}

/// A pod as the API server shows it.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// Namespace and name.
    pub key: PodKey,
    /// Identity.
    pub uid: Uid,
    /// Index of the profile that serves `spec.schedulerName`; `None`: another scheduler's pod.
    pub profile: Option<u8>,
    /// `spec.nodeName`, if set.
    pub node: Option<Box<str>>,
    /// Whether it has ended, and how.
    pub phase: Phase,
    /// A container of it has run, or runs.
    pub started: bool,
    /// `status.reason` of a pod that failed before anything of it ran.
    pub failed_as: Option<Box<str>>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// It was given notice that it will be evicted, and that was not taken back.
    pub noticed: bool,
    /// `spec.schedulingGates` is not empty.
    pub gated: bool,
    /// `spec.priority`, resolved by the API server.
    pub priority: i32,
    /// `spec.preemptionPolicy` is `Never`: nobody is evicted for it.
    pub never_preempts: bool,
    /// `spec.activeDeadlineSeconds`, in milliseconds.
    pub run_limit_ms: Option<i64>,
    /// How long it may take to stop, in milliseconds: `metadata.deletionGracePeriodSeconds` of a
    /// pod that is being deleted, else `spec.terminationGracePeriodSeconds`.
    pub termination_ms: i64,
    /// `metadata.creationTimestamp`.
    pub created: WallTime,
    /// When the `PodScheduled` condition became true.
    pub bound_at: Option<WallTime>,
    /// When the last container ended; for an ended pod without container states, when its
    /// conditions last changed.
    pub finished_at: Option<WallTime>,
    /// The owner reference that is the controller.
    pub controller: Option<Uid>,
    /// The gang it names, or why it is refused.
    pub group: Option<Result<GroupSpec, ContractError>>,
    /// Its labels, if it is ours.
    pub labels: Labels,
    /// Who created it, where that is stamped; `None`: its namespace stands for its user.
    pub user: Option<Box<str>>,
    /// The queue it names; `None`: the first queue that names its namespace, or the default.
    pub queue: Option<Box<str>>,
    /// The member of its gang without which the others are worth nothing.
    pub header: bool,
    /// The part of its gang to which it belongs.
    pub task: Option<Box<Task>>,
    /// What its gang asks of the topology.
    pub topology: Option<Box<TopologyAsk>>,
    /// Its rank in its gang.
    pub rank: Option<u32>,
    /// How dear its gang is to interrupt; the lowest goes first.
    pub reclaim_rank: i16,
    /// When its gang last saved its work.
    pub checkpoint: Option<WallTime>,
    /// Must never be evicted; then it is placed only within guarantees.
    pub non_preemptible: bool,
    /// The GPUs that it was given, as its bind wrote them; empty: none, or unknown.
    pub devices: DeviceSet,
    /// The GPUs that it owns to be shared; empty: it is no holder.
    pub holds: DeviceSet,
    /// Why what it says of that is not believed; then it owns none.
    pub holder_refused: Option<Box<HolderRefusal>>,
    /// The claims that it names; none once it has ended.
    pub claims: Vec<PodClaim>,
    /// [`digest`] of the message of its `PodScheduled=False` condition; 0: none.
    pub told: u64,
    /// All that decides where it may run.
    pub class: PodClass,
}

/// All that decides where a pod may run and how nodes are scored for it. Pods with equal classes
/// are interchangeable, which is what makes gangs of thousands cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodClass {
    /// Profile that serves the pod; `None` for other schedulers' pods.
    pub profile: Option<u8>,
    /// Effective requests, as upstream's `resourcehelper.PodRequests` counts them.
    pub requests: ResourceList,
    /// What scores count instead of `requests` for milli-CPU and bytes of memory: each container
    /// without a request is taken to use 100 m and 200 MiB. Upstream `PodResource.Non0CPU`,
    /// `Non0Mem`.
    pub non_zero: [i64; 2],
    /// The same while the pod itself is placed: upstream's `NodeResourcesFit` scores the sum over
    /// containers then, whatever is requested for the pod as a whole.
    pub non_zero_asked: [i64; 2],
    /// `spec.nodeName` of a pod that is to be placed on just that node; `None` for pods that are
    /// bound, which need no placing.
    pub node_name: Option<Box<str>>,
    /// `spec.nodeSelector`, sorted by key.
    pub node_selector: Vec<(Box<str>, Box<str>)>,
    /// Required node affinity: the terms are alternatives; `None`: no requirement.
    pub required: Option<Vec<NodeSelectorTerm>>,
    /// Preferred node affinity with weights 1 to 100.
    pub preferred: Vec<(i32, NodeSelectorTerm)>,
    /// `spec.tolerations`.
    pub tolerations: Vec<Toleration>,
    /// Host ports of containers and restartable init containers, sorted.
    pub host_ports: Vec<HostPort>,
    /// What the GPUs of its node must be; `None`: any will do.
    pub gpu_needs: Option<Box<GpuNeeds>>,
    /// What it asks of shared GPUs; `requests` have what is counted for it.
    pub gpu_part: Option<GpuPart>,
    /// What it asks of devices that claims are given; `requests` have what is counted for it.
    pub devices: DeviceAsks,
}

impl PodClass {
    /// Counts devices that claims take, beside what is requested otherwise.
    pub fn count_claimed(&mut self, resource: &str, count: u32) {
        for name in [resource.into(), by_claim(resource)] {
            match self.requests.iter_mut().find(|(known, _)| *known == name) {
                Some((_, amount)) => *amount += i64::from(count),
                None => self.requests.push((name, i64::from(count))),
            }
        }
        self.requests.sort_unstable();
    }

    /// Has it ask for a part of a shared GPU, which its requests then count.
    pub fn set_gpu_part(&mut self, part: Option<GpuPart>) {
        self.gpu_part = part;
        if let Some((name, amount)) = part.map(GpuPart::request) {
            self.requests.push((name.into(), amount));
            self.requests.sort_unstable();
        }
    }
}

/// A toleration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Toleration {
    /// Key; empty with [`TolerationOperator::Exists`]: every taint.
    pub key: Box<str>,
    /// How the value relates.
    pub operator: TolerationOperator,
    /// Value; ignored by `Exists`.
    pub value: Box<str>,
    /// `None`: every effect.
    pub effect: Option<TaintEffect>,
}

/// Operator of a toleration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TolerationOperator {
    /// Key and value are equal.
    #[default]
    Equal,
    /// The key is equal (or empty), whatever the value.
    Exists,
    /// The taint's value is an integer above this one.
    Gt,
    /// The taint's value is an integer below this one.
    Lt,
}

impl Toleration {
    /// Upstream `Toleration.ToleratesTaint`.
    #[must_use]
    pub fn tolerates(&self, taint: &Taint) -> bool {
        let effect = self.effect.is_none_or(|effect| effect == taint.effect);
        let key = self.key.is_empty() || self.key == taint.key;
        let number = |text: &str| decimal(text);
        let compared = |holds: fn(&i64, &i64) -> bool| {
            let (found, bound) = (number(&taint.value), number(&self.value));
            found.zip(bound).is_some_and(|(found, bound)| holds(&found, &bound))
        };
        effect
            && key
            && match self.operator {
                TolerationOperator::Exists => true,
                TolerationOperator::Equal => self.value == taint.value,
                TolerationOperator::Gt => compared(i64::gt),
                TolerationOperator::Lt => compared(i64::lt),
            }
    }
}

/// Upstream `content.IsDecimalInteger`: no plus sign, no leading zero.
fn decimal(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = text == "0" || digits.starts_with(|first: char| ('1'..='9').contains(&first));
    if plain { text.parse().ok() } else { None }
}

/// A port on the host that a pod occupies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// Port number.
    pub port: u16,
    /// Transport.
    pub protocol: Protocol,
    /// Stable hash of the host address; [`HostPort::ANY_ADDRESS`] for all addresses.
    pub address: u64,
}

impl HostPort {
    /// All addresses: no host IP given, or `0.0.0.0`.
    pub const ANY_ADDRESS: u64 = 0;

    /// Upstream `HostPortInfo.CheckConflict`: same protocol and port, on the same address or with
    /// either on all addresses.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = self.address == Self::ANY_ADDRESS || other.address == Self::ANY_ADDRESS;
        self.port == other.port
            && self.protocol == other.protocol
            && (any || self.address == other.address)
    }
}

/// Transport protocol of a host port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, the default.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Stable 64-bit digest of a text (FNV-1a), never 0: what was told is remembered by it.
#[must_use]
pub fn digest(text: &str) -> u64 {
    digest_of(&[text])
}

/// [`digest`] of a text that consists of these, one after the other.
#[must_use]
pub fn digest_of(texts: &[&str]) -> u64 {
    let bytes = texts.iter().flat_map(|text| text.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.max(1)
}

/// SplitMix64's finisher (Steele, Lea and Flood, OOPSLA'14): the same on every machine.
#[must_use]
pub fn mixed(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The next number of a generator: SplitMix64 (Steele, Lea and Flood, OOPSLA'14).
pub fn draw(state: &mut u64) -> u64 {
    let drawn = mixed(*state);
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    drawn
}

impl Pod {
    /// Whether the pod has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.phase != Phase::Live
    }
}
