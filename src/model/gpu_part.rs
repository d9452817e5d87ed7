//! Parts of GPUs: what pods ask of devices that a holder pod keeps to be shared.
//!
//! A kubelet gives any device to a pod that asks for a whole one, so a part may only come from a
//! device that no kubelet gives out any more: one that a holder pod owns. See
//! `docs/gpu-sharing.md`.

use super::contract::{ContractError, GPU_COUNT, GPU_FRACTION, GPU_MEMORY, PACK_ID};
use super::contract::{malformed, parse_count};
use super::gpu_topology::DEVICES_MAX;
use super::{ResourceList, quantity};

/// The resource of whole devices, as device plugins offer it.
pub const GPU: &str = "nvidia.com/gpu";
/// Thousandths of the devices that are shared: what parts by fraction are counted as.
pub const GPU_MILLI: &str = "mss-scheduler.io/gpu-milli";
/// Bytes of the memory of the devices that are shared: what parts by memory are counted as.
pub const GPU_BYTES: &str = GPU_MEMORY;
/// Thousandths of a device.
pub const DEVICE: u16 = 1000;

/// What a pod asks of shared devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GpuPart {
    /// How many devices; more than one only of whole ones.
    pub count: u8,
    /// How much of each.
    pub amount: PartAmount,
    /// It shares one device with the other members of its group.
    pub packed: bool,
}

/// How much of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartAmount {
    /// Thousandths, 1 to [`DEVICE`].
    Milli(u16),
    /// Bytes of its memory.
    Bytes(i64),
}

impl GpuPart {
    /// What nodes and queues are charged for it.
    #[must_use]
    pub fn request(self) -> (&'static str, i64) {
        match self.amount {
            PartAmount::Milli(milli) => (GPU_MILLI, i64::from(self.count) * i64::from(milli)),
            PartAmount::Bytes(bytes) => (GPU_BYTES, bytes),
        }
    }

    /// Thousandths of each device, where a device has `memory` bytes; `None`: it does not fit, or
    /// is unknown. Rounded up.
    #[must_use]
    pub fn milli(self, memory: Option<i64>) -> Option<u16> {
        let bytes = match self.amount {
            PartAmount::Milli(milli) => return Some(milli),
            PartAmount::Bytes(bytes) => i128::from(bytes),
        };
        let memory = i128::from(memory.filter(|memory| *memory > 0)?);
        let milli = (bytes * i128::from(DEVICE) + memory - 1) / memory;
        u16::try_from(milli).ok().filter(|milli| *milli <= DEVICE)
    }
}

/// Reads what a pod asks of shared devices. `requests` are those of its containers.
///
/// # Errors
/// If an annotation is malformed or contradicts another or the requests.
pub fn parse_part<'a>(
    annotation: impl Fn(&str) -> Option<&'a str>,
    requests: &ResourceList,
) -> Result<Option<GpuPart>, ContractError> {
    let own = |name: &str| [GPU_MILLI, GPU_BYTES].contains(&name);
    if let Some((name, _)) = requests.iter().find(|(name, _)| own(name)) {
        let problem = format!("{name} is counted for parts of GPUs: ask by {GPU_FRACTION}");
        return Err(ContractError::Malformed { field: "resources", problem: problem.into() });
    }
    let amount = match (annotation(GPU_FRACTION), annotation(GPU_MEMORY)) {
        (None, None) => {
            let alone = [GPU_COUNT, PACK_ID].into_iter().find(|key| annotation(key).is_some());
            let missing = || format!("1 to 1000, as {} is set", alone.unwrap_or_default());
            return alone.map_or(Ok(None), |_| Err(malformed(GPU_FRACTION, "", missing())));
        }
        (Some(text), Some(_)) => {
            return Err(malformed(GPU_FRACTION, text, format!("nothing, as {GPU_MEMORY} is set")));
        }
        (Some(text), None) => {
            let milli = number(text).filter(|milli| (1..=DEVICE).contains(milli));
            let expected = || "thousandths of a GPU, 1 to 1000".to_owned();
            PartAmount::Milli(milli.ok_or_else(|| malformed(GPU_FRACTION, text, expected()))?)
        }
        (None, Some(text)) => {
            let bytes = quantity::parse(text, 0).filter(|bytes| *bytes > 0);
            let expected = || "a quantity of memory above 0, as 8Gi".to_owned();
            PartAmount::Bytes(bytes.ok_or_else(|| malformed(GPU_MEMORY, text, expected()))?)
        }
    };
    let packed = annotation(PACK_ID).is_some();
    let most = match amount {
        PartAmount::Milli(DEVICE) if !packed => u8::try_from(DEVICES_MAX).expect("it is 64"),
        _ => 1,
    };
    let count = annotation(GPU_COUNT).map_or(Ok(1), |text| {
        let count = number(text).and_then(|count| u8::try_from(count).ok());
        let expected = || match most {
            1 => "1, as only whole GPUs may be several".to_owned(),
            most => format!("a whole number from 1 to {most}"),
        };
        let count = count.filter(|count| (1..=most).contains(count));
        count.ok_or_else(|| malformed(GPU_COUNT, text, expected()))
    })?;
    if requests.iter().any(|(name, _)| name.starts_with("nvidia.com/")) {
        let (key, text) = match amount {
            PartAmount::Milli(_) => (GPU_FRACTION, annotation(GPU_FRACTION)),
            PartAmount::Bytes(_) => (GPU_MEMORY, annotation(GPU_MEMORY)),
        };
        let expected = "nothing, as a container requests GPUs: a part of a GPU comes without";
        return Err(malformed(key, text.unwrap_or_default(), expected.to_owned()));
    }
    Ok(Some(GpuPart { count, amount, packed }))
}

fn number(text: &str) -> Option<u16> {
    parse_count(text).and_then(|number| u16::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &'static str)], requests: &[(&str, i64)]) -> Result<String, String> {
        let find = |key: &str| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        let requests = requests.iter().map(|(name, n)| ((*name).into(), *n)).collect();
        let part = parse_part(find, &requests).map_err(|error| error.to_string())?;
        Ok(part.map_or(String::new(), |part| format!("{} {:?}", part.count, part.amount)))
    }

    #[test]
    fn parts_are_read_and_contradictions_refused() {
        let asks: &[(&[(&str, &'static str)], &str)] = &[
            (&[], ""),
            (&[(GPU_FRACTION, "250")], "1 Milli(250)"),
            (&[(GPU_FRACTION, "1000"), (GPU_COUNT, "3")], "3 Milli(1000)"),
            (&[(GPU_MEMORY, "8Gi")], "1 Bytes(8589934592)"),
            (&[(GPU_MEMORY, "8Gi"), (GPU_COUNT, "1")], "1 Bytes(8589934592)"),
        ];
        for (pairs, expected) in asks {
            assert_eq!(read(pairs, &[("cpu", 1)]).as_deref(), Ok(*expected), "{pairs:?}");
        }
        let wrong: &[(&[(&str, &'static str)], &str)] = &[
            (&[(GPU_FRACTION, "0")], "thousandths of a GPU, 1 to 1000"),
            (&[(GPU_FRACTION, "1001")], "thousandths of a GPU, 1 to 1000"),
            (&[(GPU_FRACTION, "0.5")], "thousandths of a GPU, 1 to 1000"),
            (&[(GPU_MEMORY, "0")], "a quantity of memory above 0, as 8Gi"),
            (&[(GPU_FRACTION, "5"), (GPU_MEMORY, "8Gi")], "nothing, as mss-scheduler.io/gpu-mem"),
            (&[(GPU_FRACTION, "500"), (GPU_COUNT, "2")], "1, as only whole GPUs may be several"),
            (&[(GPU_FRACTION, "1000"), (GPU_COUNT, "65")], "a whole number from 1 to 64"),
            (&[(GPU_COUNT, "2")], "1 to 1000, as mss-scheduler.io/gpu-count is set"),
            (&[(PACK_ID, "a")], "1 to 1000, as mss-scheduler.io/pack-id is set"),
        ];
        for (pairs, expected) in wrong {
            let error = read(pairs, &[]).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        let both = read(&[(GPU_FRACTION, "500")], &[(GPU, 1)]).expect_err("both");
        assert!(both.contains("nothing, as a container requests GPUs"), "{both}");
        let own = read(&[], &[(GPU_MILLI, 1)]).expect_err("a resource of ours");
        assert!(own.contains("is counted for parts of GPUs"), "{own}");
    }

    #[test]
    fn memory_becomes_thousandths_rounded_up() {
        let part = |bytes| GpuPart { count: 1, amount: PartAmount::Bytes(bytes), packed: false };
        assert_eq!(part(1).milli(Some(16 << 30)), Some(1));
        assert_eq!(part(8 << 30).milli(Some(16 << 30)), Some(500));
        assert_eq!(part((8 << 30) + 1).milli(Some(16 << 30)), Some(501));
        assert_eq!(part(16 << 30).milli(Some(16 << 30)), Some(1000));
        assert_eq!(part((16 << 30) + 1).milli(Some(16 << 30)), None);
        assert_eq!(part(1).milli(None), None);
    }
}
