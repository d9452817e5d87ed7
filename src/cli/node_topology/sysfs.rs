//! Reads the PCIe tree from sysfs: which bridges stand between two GPUs.

use crate::model::{GpuTopology, gpu_topology::Link};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

/// PCI vendor of NVIDIA.
const NVIDIA: &str = "0x10de";
/// PCI classes of GPUs: VGA controllers and 3D controllers.
const CLASSES: [&str; 2] = ["0x0300", "0x0302"];

struct Gpu {
    /// address on the bus, by which nvidia-smi counts the devices
    address: String,
    /// host bridge and bridges above it, and itself
    path: Vec<String>,
    /// `None`: the machine does not say
    numa: Option<u8>,
}

/// Reads the GPUs below `folder`, which is laid out as /sys.
pub(super) fn read(folder: &Path) -> anyhow::Result<GpuTopology> {
    let devices = folder.join("bus/pci/devices");
    let shown = devices.display().to_string();
    let entries = std::fs::read_dir(&devices).with_context(|| format!("reading {shown}"))?;
    let mut gpus = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("reading {shown}"))?.path();
        gpus.extend(gpu(&path).with_context(|| format!("reading {}", path.display()))?);
    }
    if gpus.is_empty() {
        bail!("{shown} has no device of vendor {NVIDIA} and class 0x0300 or 0x0302");
    }
    gpus.sort_by(|a, b| a.address.cmp(&b.address));
    let numa: Option<Vec<u8>> = gpus.iter().map(|gpu| gpu.numa).collect();
    let link = |a: usize, b: usize| link(&gpus[a], &gpus[b]);
    Ok(GpuTopology::new(gpus.len(), numa.unwrap_or_default(), link)?)
}

/// The GPU behind a link of `bus/pci/devices`, if it is one.
fn gpu(link: &Path) -> std::io::Result<Option<Gpu>> {
    let says = |file: &str| {
        let text = std::fs::read_to_string(link.join(file))?;
        std::io::Result::Ok(text.trim().to_owned())
    };
    if says("vendor")? != NVIDIA
        || !CLASSES.iter().any(|c| says("class").is_ok_and(|s| s.starts_with(c)))
    {
        return Ok(None);
    }
    let path: PathBuf = std::fs::canonicalize(link)?;
    let names = path.iter().map(|name| name.to_string_lossy().into_owned());
    // host bridges are named pci0000:3a, what is below them by addresses
    let path: Vec<String> = names.skip_while(|name| !is_host_bridge(name)).collect();
    let address = path.last().cloned().unwrap_or_default();
    // -1: the firmware does not say
    let numa = says("numa_node").ok().and_then(|text| text.parse().ok());
    Ok(Some(Gpu { address, path, numa }))
}

fn is_host_bridge(name: &str) -> bool {
    name.strip_prefix("pci").is_some_and(|rest| rest.contains(':'))
}

/// The word that `nvidia-smi topo -m` has for the way between two.
fn link(a: &Gpu, b: &Gpu) -> Link {
    let common = a.path.iter().zip(&b.path).take_while(|(a, b)| a == b).count();
    let below = a.path.len().max(b.path.len()) - common;
    match common {
        0 if a.numa == b.numa => Link::Node,
        0 => Link::Sys,
        1 => Link::Phb,
        // a port of the bridge that both share, and the device
        _ if below <= 2 => Link::Pix,
        _ => Link::Pxb,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A device at `path` below the host bridges, with a link to it.
    fn device(sys: &Path, path: &str, class: &str, vendor: &str, numa: &str) {
        let folder = sys.join("devices").join(path);
        fs::create_dir_all(&folder).unwrap();
        for (file, text) in [("class", class), ("vendor", vendor), ("numa_node", numa)] {
            fs::write(folder.join(file), format!("{text}\n")).unwrap();
        }
        let links = sys.join("bus/pci/devices");
        fs::create_dir_all(&links).unwrap();
        let name = folder.file_name().unwrap().to_owned();
        std::os::unix::fs::symlink(&folder, links.join(name)).unwrap();
    }

    #[test]
    fn bridges_between_gpus_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let sys = folder.path();
        for (path, class, vendor, numa) in [
            // two behind one switch, one behind a switch behind that switch
            (
                "pci0000:16/0000:16:01.0/0000:17:00.0/0000:18:00.0/0000:1a:00.0",
                "0x030200",
                NVIDIA,
                "0",
            ),
            (
                "pci0000:16/0000:16:01.0/0000:17:00.0/0000:18:04.0/0000:1b:00.0",
                "0x030200",
                NVIDIA,
                "0",
            ),
            (
                "pci0000:16/0000:16:01.0/0000:17:00.0/0000:18:08.0/0000:1c:00.0/0000:1d:00.0/0000:1e:00.0",
                "0x030000",
                NVIDIA,
                "0",
            ),
            // another port of the same host bridge, another host bridge, another socket
            ("pci0000:16/0000:16:03.0/0000:20:00.0", "0x030200", NVIDIA, "0"),
            ("pci0000:30/0000:30:01.0/0000:31:00.0", "0x030200", NVIDIA, "0"),
            ("pci0000:97/0000:97:01.0/0000:98:00.0", "0x030200", NVIDIA, "1"),
            // no GPU: its sound, an adapter, another vendor's
            ("pci0000:97/0000:97:01.0/0000:98:00.1", "0x040300", NVIDIA, "1"),
            ("pci0000:97/0000:97:02.0/0000:99:00.0", "0x020700", "0x15b3", "1"),
            ("pci0000:97/0000:97:03.0/0000:9a:00.0", "0x030000", "0x1a03", "1"),
        ] {
            device(sys, path, class, vendor, numa);
        }
        let text = "v1 gpus=6 numa=0:0-4/1:5 PIX=0-1 PXB=0-2 PHB=0-3 NODE=0-4 else=SYS";
        assert_eq!(read(sys).unwrap().to_string(), text);
    }

    #[test]
    fn without_numa_nodes_none_are_said() {
        let folder = tempfile::tempdir().unwrap();
        for (bridge, bus) in [("00", "01"), ("40", "41")] {
            let path = format!("pci0000:{bridge}/0000:{bridge}:01.0/0000:{bus}:00.0");
            device(folder.path(), &path, "0x030000", NVIDIA, "-1");
        }
        assert_eq!(read(folder.path()).unwrap().to_string(), "v1 gpus=2 else=NODE");
    }

    #[test]
    fn a_machine_without_gpus_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(format!("{:#}", read(folder.path()).unwrap_err()).contains("bus/pci/devices"));
        device(folder.path(), "pci0000:00/0000:00:1f.0", "0x060100", "0x8086", "0");
        let error = format!("{:#}", read(folder.path()).unwrap_err());
        assert!(error.contains("has no device of vendor 0x10de"), "{error}");
    }
}
