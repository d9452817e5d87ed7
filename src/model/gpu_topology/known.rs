//! What is known of well-known machines by the names of their GPUs.
//!
//! | GPUs | how they are joined | from `nvidia-smi topo -m` in |
//! |---|---|---|
//! | A100, H100, H200, B200 and kin on an SXM board | each to each | nccl 933, 1505, 1617 |
//! | sixteen V100 SXM3 (DGX-2) | each to each | nccl-tests 78 |
//! | eight V100 SXM2 (DGX-1 and its like) | hybrid cube mesh | nccl 671 |
//! | cards on PCIe, 2, 4 or 8 | pairs behind a bridge, halves on sockets | assumed |
//!
//! The numbers are issues of NVIDIA/nccl and NVIDIA/nccl-tests.
//!
//! That the first half of the devices is on one socket and the second on another is so in all of
//! the outputs above, and assumed of the rest. Of all other names and numbers nothing is known.

use super::{GpuTopology, Link, Reported, TopologyError};
use crate::model::contract::{GPU_TOPOLOGY, cut};

/// Label: product name, as NVIDIA's GPU feature discovery writes it.
pub const PRODUCT_LABEL: &str = "nvidia.com/gpu.product";
/// Label: number of GPUs of the node, from the same source.
pub const COUNT_LABEL: &str = "nvidia.com/gpu.count";

/// Most devices on one NVSwitch board.
const BOARD_MAX: usize = 8;

/// Pairs of the hybrid cube mesh that have two links, and one.
const MESH_TWO: [(usize, usize); 8] =
    [(0, 3), (0, 4), (1, 2), (1, 5), (2, 3), (4, 7), (5, 6), (6, 7)];
const MESH_ONE: [(usize, usize); 8] =
    [(0, 1), (0, 2), (1, 3), (2, 6), (3, 7), (4, 5), (4, 6), (5, 7)];

/// How the GPUs of a node are joined: by its annotation or else, if its labels name a well-known
/// machine, as in that, but for what is `reported` otherwise. `None`: unknown.
///
/// # Errors
/// If the annotation cannot be read; nothing else is looked at then, as its writer knew better.
pub fn of_node<'a>(
    annotation: Option<&str>,
    label: impl Fn(&str) -> Option<&'a str>,
    reported: Option<&'a Reported>,
) -> Result<Option<GpuTopology>, TopologyError> {
    if let Some(text) = annotation {
        let said = |error| {
            let found = cut(text);
            super::wrong(format!("annotation {GPU_TOPOLOGY} is {found:?}: {error}"))
        };
        return GpuTopology::parse(text).map(Some).map_err(said);
    }
    let count = label(COUNT_LABEL).and_then(super::set::index);
    let reported = reported.filter(|reported| reported.agrees(count));
    let product = label(PRODUCT_LABEL).or_else(|| reported?.product());
    // slices and replicas are no devices
    if product.is_some_and(|product| is_divided(&words(product))) {
        return Ok(None);
    }
    let count = count.or_else(|| reported.map(Reported::len));
    let known = product.zip(count).and_then(|(product, count)| by_product(product, count));
    Ok(match reported {
        Some(reported) => reported.joined(known),
        None => known,
    })
}

/// The words of a product's name: labels have dashes where the name has blanks.
fn words(product: &str) -> Vec<String> {
    let upper = product.to_ascii_uppercase();
    upper.split(['-', ' ']).map(str::to_owned).collect()
}

fn is_divided(words: &[String]) -> bool {
    words.iter().any(|word| word == "MIG" || word == "SHARED")
}

fn by_product(product: &str, count: usize) -> Option<GpuTopology> {
    let words = words(product);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let has = |word: &str| words.contains(&word);
    if !(2..=16).contains(&count) {
        return None;
    }
    let halves: Vec<u8> = (0..count).map(|device| u8::from(device >= count.div_ceil(2))).collect();
    let link: Box<dyn FnMut(usize, usize) -> Link> = match nvlinks(&words) {
        _ if has("V100") && has("SXM2") => {
            return (count == 8).then(|| GpuTopology::new(8, halves, mesh).ok())?;
        }
        _ if has("V100") && has("SXM3") => Box::new(|_, _| Link::Nv(6)),
        Some(links) if count <= BOARD_MAX => Box::new(move |_, _| Link::Nv(links)),
        None if is_pcie(&words) && [2, 4, 8].contains(&count) => Box::new(move |a, b| {
            let half = count / 2;
            match (a / 2 == b / 2, a / half == b / half) {
                (true, _) => Link::Pix,
                (_, true) => Link::Node,
                _ => Link::Sys,
            }
        }),
        _ => return None,
    };
    GpuTopology::new(count, halves, link).ok()
}

fn mesh(a: usize, b: usize) -> Link {
    let joins = |pairs: &[(usize, usize)]| pairs.contains(&(a, b));
    match (joins(&MESH_TWO), joins(&MESH_ONE)) {
        (true, _) => Link::Nv(2),
        (_, true) => Link::Nv(1),
        _ => Link::Sys,
    }
}

/// Links between each two of the GPUs on an SXM board; `None`: they are on no such board.
fn nvlinks(words: &[&str]) -> Option<u8> {
    let has = |word: &str| words.contains(&word);
    if is_pcie(words) || has("NVL") {
        return None;
    }
    // the 80 GB of H100 and H800 on boards are HBM3, those of cards are not named
    let sxm = words.iter().any(|word| word.starts_with("SXM")) || has("HBM3");
    match () {
        () if has("A800") && sxm => Some(8),
        () if has("A100") && sxm => Some(12),
        () if has("H800") && sxm => Some(8),
        () if has("H100") && sxm => Some(18),
        () if has("H200") || has("H20") || has("B200") || has("B300") => Some(18),
        () => None,
    }
}

/// Whether it is a card: it says so, or there is nothing else of that name.
fn is_pcie(words: &[&str]) -> bool {
    const CARDS: [&str; 10] = ["PCIE", "T4", "L4", "L40", "L40S", "A10", "A16", "A30", "A40", "A2"];
    words.iter().any(|word| CARDS.contains(word))
}
