//! What a holder says it owns: which GPUs of its node, by index.

use super::DeviceSet;
use super::gpu_topology::device_index;
use std::fmt::Write as _;

/// What is wrong with what holders of a node say, for the pods that wait there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HolderFault {
    /// It is no list of indexes.
    Unreadable,
    /// It names another number of devices than it requests.
    Miscounted,
    /// It names a device that the node lacks.
    Unknown,
    /// Another holder names a device of it too.
    Claimed,
}

/// Why nothing is given out of what a holder says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderRefusal {
    /// Which kind of fault it is.
    pub fault: HolderFault,
    /// What is wrong and what to do, for who runs the holder.
    pub why: Box<str>,
}

fn refused(fault: HolderFault, why: impl Into<Box<str>>) -> HolderRefusal {
    HolderRefusal { fault, why: why.into() }
}

/// Reads what a holder says that requests so many GPUs: ascending indexes with commas, as many.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read(said: &str, requested: i64) -> Result<DeviceSet, HolderRefusal> {
    let mut devices = DeviceSet::EMPTY;
    let mut last = None;
    for word in said.split(',') {
        let Some(index) = device_index(word) else {
            let mut why = format!("{word:?} is no index of a GPU: ");
            let is_uuid = word.starts_with("GPU-") || word.starts_with("MIG-");
            why += match is_uuid {
                true => {
                    "it is a UUID. Write the indexes of nvidia-smi, as 0,1, and let the device \
                         plugin run with deviceIDStrategy: index"
                }
                false => "write numbers from 0 to 63 with commas and nothing else, as 0,1",
            };
            return Err(refused(HolderFault::Unreadable, why));
        };
        if devices.contains(index) {
            let why = format!("GPU {index} is named twice: name each once");
            return Err(refused(HolderFault::Unreadable, why));
        }
        if let Some(last) = last.filter(|last| *last > index) {
            let why = format!("GPU {index} stands after {last}: name them in ascending order");
            return Err(refused(HolderFault::Unreadable, why));
        }
        devices.insert(index);
        last = Some(index);
    }
    let named = devices.len();
    if usize::try_from(requested) == Ok(named) {
        return Ok(devices);
    }
    let why = format!(
        "it names {named} GPUs and requests {requested} nvidia.com/gpu: name just those that the \
         kubelet gave it"
    );
    Err(refused(HolderFault::Miscounted, why))
}

/// It names devices of which the node has none: it has so many GPUs.
#[must_use]
pub fn unknown(devices: DeviceSet, has: usize) -> HolderRefusal {
    let list = listed(devices);
    let why = format!(
        "the node has {has} GPUs, 0 to {}, so it has no {list}: count from 0, as nvidia-smi does",
        has.saturating_sub(1)
    );
    refused(HolderFault::Unknown, why)
}

/// Another holder names these devices too.
#[must_use]
pub fn claimed(devices: DeviceSet) -> HolderRefusal {
    let list = listed(devices);
    let why = format!(
        "another holder on the node names {list} too, so nothing of that is given out: a GPU has \
         one holder, so one of them is wrong or must go"
    );
    refused(HolderFault::Claimed, why)
}

fn listed(devices: DeviceSet) -> String {
    let mut list = String::from("GPU ");
    let _ = write!(list, "{devices}");
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_what_to_do() {
        assert_eq!(read("0,2", 2), Ok([0, 2].into_iter().collect()));
        let cases = [
            ("GPU-4ff9,GPU-5aa0", 2, HolderFault::Unreadable, "\"GPU-4ff9\" is no index"),
            ("GPU-4ff9", 1, HolderFault::Unreadable, "deviceIDStrategy: index"),
            ("0, 1", 2, HolderFault::Unreadable, "\" 1\" is no index of a GPU: write numbers"),
            ("", 1, HolderFault::Unreadable, "\"\" is no index"),
            ("64", 1, HolderFault::Unreadable, "from 0 to 63"),
            ("0,1,1", 3, HolderFault::Unreadable, "GPU 1 is named twice"),
            ("1,0", 2, HolderFault::Unreadable, "GPU 0 stands after 1"),
            ("0,1", 4, HolderFault::Miscounted, "it names 2 GPUs and requests 4"),
            ("0", 0, HolderFault::Miscounted, "it names 1 GPUs and requests 0"),
        ];
        for (said, requested, fault, expected) in cases {
            let refusal = read(said, requested).expect_err(said);
            assert_eq!(refusal.fault, fault, "{said}");
            assert!(refusal.why.contains(expected), "{said}: {}", refusal.why);
        }
        let refusal = unknown(DeviceSet::one(4), 4);
        assert!(refusal.why.starts_with("the node has 4 GPUs, 0 to 3, so it has no GPU 4"));
    }
}
