//! The text of a topology, as it stands in the annotation of a node.
//!
//! ```text
//! v1 gpus=8 numa=0:0-3/1:4-7 else=NV18
//! v1 gpus=8 numa=0:0-3/1:4-7 PIX=0-1/2-3/4-5/6-7 PHB=0-3/4-7 else=SYS
//! v1 gpus=4 NV2=0+3/1+2 NV1=0+1/2+3 else=SYS
//! ```
//!
//! Words stand apart by blanks. `v1` and the number of devices come first. `0-3` are devices 0, 1,
//! 2 and 3, `0+3` are two; sets stand apart by `/`. A link names sets within which each is joined
//! to each by it; a pair that is named by several links has the strongest. `else` is the link of
//! all pairs that are not named. `numa` names the devices of NUMA nodes, all of them or none.

use super::set::{index, number};
use super::{DEVICES_MAX, DeviceSet, GpuTopology, Link, TopologyError, pairs, wrong};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

impl GpuTopology {
    /// Reads the text.
    ///
    /// # Errors
    /// The first word that is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, TopologyError> {
        let mut words = text.split_whitespace();
        if words.next() != Some("v1") {
            return Err(wrong("it does not begin with v1, the only version there is"));
        }
        let gpus = words.next().and_then(|word| number(word.strip_prefix("gpus=")?));
        let Some(gpus) = gpus.filter(|gpus| (1..=DEVICES_MAX).contains(gpus)) else {
            return Err(wrong("after v1: expected the number of devices, as gpus=8"));
        };
        let mut said = Said { gpus, numa: Vec::new(), links: BTreeMap::new(), otherwise: None };
        let mut keys = BTreeSet::new();
        for word in words {
            let key = word.split('=').next().unwrap_or_default();
            if !keys.insert(key) {
                return Err(wrong(format!("{key} is said twice")));
            }
            said.read(word)?;
        }
        said.topology()
    }
}

/// What the words say.
struct Said {
    gpus: usize,
    numa: Vec<u8>,
    links: BTreeMap<Link, Vec<DeviceSet>>,
    otherwise: Option<Link>,
}

impl Said {
    fn read(&mut self, word: &str) -> Result<(), TopologyError> {
        let expected = "expected numa=, else= or a link as NV4=, with a value";
        let pair = word.split_once('=').filter(|(_, value)| !value.is_empty());
        let (key, value) = pair.ok_or_else(|| wrong(format!("{word:?}: {expected}")))?;
        match (key, Link::parse(key)) {
            ("numa", _) => self.read_numa(value)?,
            ("else", _) => {
                let link = Link::parse(value);
                let expected = || wrong(format!("else={value}: expected a link, as SYS or NV4"));
                self.otherwise = Some(link.ok_or_else(expected)?);
            }
            (_, Some(link)) => {
                let sets: Result<Vec<DeviceSet>, _> =
                    value.split('/').map(|set| self.set(word, set, 2)).collect();
                self.links.insert(link, sets?);
            }
            _ => return Err(wrong(format!("{word:?}: {expected}"))),
        }
        Ok(())
    }

    fn read_numa(&mut self, value: &str) -> Result<(), TopologyError> {
        let mut nodes: Vec<Option<u8>> = vec![None; self.gpus];
        for part in value.split('/') {
            let expected =
                || wrong(format!("numa: {part:?}: expected devices of a node, as 0:0-3"));
            let (node, set) = part.split_once(':').ok_or_else(expected)?;
            let node = index(node).and_then(|node| u8::try_from(node).ok()).ok_or_else(expected)?;
            for device in self.set("numa", set, 1)?.iter() {
                if nodes[device].replace(node).is_some() {
                    return Err(wrong(format!("numa: device {device} is named twice")));
                }
            }
        }
        let missing = nodes.iter().position(Option::is_none);
        if let Some(device) = missing {
            return Err(wrong(format!("numa: device {device} is not named")));
        }
        self.numa = nodes.into_iter().flatten().collect();
        Ok(())
    }

    /// A set of at least `least` devices.
    fn set(&self, word: &str, text: &str, least: usize) -> Result<DeviceSet, TopologyError> {
        let mut devices = DeviceSet::EMPTY;
        let range = |part: &str| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let (low, high) = (index(low)?, index(high)?);
            (low <= high && high < self.gpus).then_some(low..=high)
        };
        for part in text.split('+') {
            let expected = || {
                let last = self.gpus - 1;
                wrong(format!("{word}: {text:?}: expected devices of 0 to {last}, as 0-3 or 0+3"))
            };
            for device in range(part).ok_or_else(expected)? {
                if devices.contains(device) {
                    return Err(wrong(format!("{word}: {text:?}: device {device} is named twice")));
                }
                devices.insert(device);
            }
        }
        if devices.len() < least {
            return Err(wrong(format!("{word}: {text:?}: a link joins two devices or more")));
        }
        Ok(devices)
    }

    fn topology(self) -> Result<GpuTopology, TopologyError> {
        let joined = |a: usize, b: usize| {
            let named = self
                .links
                .iter()
                .rev()
                .find(|(_, sets)| sets.iter().any(|set| set.contains(a) && set.contains(b)));
            named.map(|(link, _)| *link).or(self.otherwise)
        };
        if let Some((a, b)) = pairs(self.gpus).find(|(a, b)| joined(*a, *b).is_none()) {
            let problem =
                format!("devices {a} and {b} are joined by no link: name it, or add else=SYS");
            return Err(wrong(problem));
        }
        let link = |a, b| joined(a, b).expect("all pairs are joined");
        GpuTopology::new(self.gpus, self.numa.clone(), link)
    }
}

impl fmt::Display for GpuTopology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1 gpus={}", self.gpus)?;
        let mut nodes: BTreeMap<u8, DeviceSet> = BTreeMap::new();
        for (device, node) in self.numa.iter().enumerate() {
            nodes.entry(*node).or_default().insert(device);
        }
        for (place, (node, devices)) in nodes.into_iter().enumerate() {
            let before = if place == 0 { " numa=" } else { "/" };
            write!(f, "{before}{node}:{}", ranges(devices))?;
        }
        let links: BTreeSet<Link> = pairs(self.gpus).map(|(a, b)| self.link(a, b)).collect();
        let mut links = links.into_iter();
        let weakest = links.next();
        for link in links.rev() {
            let sets: Vec<String> = self.sets(link).into_iter().map(ranges).collect();
            write!(f, " {link}={}", sets.join("/"))?;
        }
        weakest.map_or(Ok(()), |link| write!(f, " else={link}"))
    }
}

impl GpuTopology {
    /// The sets to name for a link: groups, where it and stronger ones form such, or else pairs.
    fn sets(&self, link: Link) -> Vec<DeviceSet> {
        let group = |device: usize| -> DeviceSet {
            let joined = |other: usize| other == device || self.link(device, other) >= link;
            (0..self.gpus).filter(|other| joined(*other)).collect()
        };
        let groups: Vec<DeviceSet> = (0..self.gpus).map(group).collect();
        let whole = groups.iter().all(|group| group.iter().all(|other| groups[other] == *group));
        if !whole {
            let exactly = pairs(self.gpus).filter(|(a, b)| self.link(*a, *b) == link);
            return exactly.map(|(a, b)| DeviceSet::from_iter([a, b])).collect();
        }
        let firsts = groups.into_iter().enumerate();
        let firsts = firsts.filter(|(device, group)| group.first() == Some(*device));
        firsts.map(|(_, group)| group).filter(|group| group.len() > 1).collect()
    }
}

/// `0-3`, `0+3`, `0-2+5`; two in a row are a range.
fn ranges(set: DeviceSet) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for device in set.iter() {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == device => *last = device,
            _ => runs.push((device, device)),
        }
    }
    let run = |(low, high): &(usize, usize)| match low == high {
        true => low.to_string(),
        false => format!("{low}-{high}"),
    };
    runs.iter().map(run).collect::<Vec<_>>().join("+")
}
