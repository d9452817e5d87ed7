//! Reads what `nvidia-smi topo -m` prints.

use super::{GpuTopology, Link, TopologyError, wrong};

impl GpuTopology {
    /// Reads the output of `nvidia-smi topo -m` of any driver: with or without columns and rows of
    /// network adapters, CPU and NUMA affinity, underlining, legends, and lines around it. Where no
    /// NUMA node is printed, devices of equal CPU affinity are taken to share one.
    ///
    /// # Errors
    /// If there is no matrix of GPUs in it, or it is not whole.
    pub fn parse_smi(text: &str) -> Result<Self, TopologyError> {
        let text = without_escapes(text);
        let mut lines = text.lines();
        let header = lines.by_ref().map(words).find(|words| words.first() == Some(&"GPU0"));
        let Some(header) = header else {
            return Err(wrong(
                "no line begins with GPU0: expected the output of nvidia-smi topo -m",
            ));
        };
        let gpus = header.iter().enumerate().take_while(|(at, word)| is_gpu(word, *at)).count();
        let rows: Vec<Vec<&str>> = lines.map(words).collect();
        let row = |gpu: usize| {
            let found = rows.iter().find(|row| row.first().is_some_and(|name| is_gpu(name, gpu)));
            found.ok_or_else(|| wrong(format!("the row of GPU{gpu} is missing")))
        };
        let rows: Vec<&Vec<&str>> = (0..gpus).map(row).collect::<Result<_, _>>()?;
        let mut links = vec![Link::Sys; gpus * gpus];
        for (from, row) in rows.iter().enumerate() {
            for to in 0..gpus {
                links[from * gpus + to] = cell(row, from, to)?;
            }
        }
        for (a, b) in super::pairs(gpus) {
            let (there, back) = (links[a * gpus + b], links[b * gpus + a]);
            if there != back {
                let problem = format!("GPU{a} to GPU{b} is {there}, GPU{b} to GPU{a} is {back}");
                return Err(wrong(problem));
            }
        }
        let numa = numa(&header, gpus, &rows).unwrap_or_default();
        Self::new(gpus, numa, |a, b| links[a * gpus + b])
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn is_gpu(word: &str, index: usize) -> bool {
    word.strip_prefix("GPU").and_then(super::set::index) == Some(index)
}

fn cell(row: &[&str], from: usize, to: usize) -> Result<Link, TopologyError> {
    let found = row.get(to + 1).copied().unwrap_or_default();
    let link = if from == to { (found == "X").then_some(Link::Sys) } else { Link::parse(found) };
    link.ok_or_else(|| {
        let expected = if from == to { "X" } else { "SYS, NODE, PHB, PXB, PIX, PSB or NV#" };
        wrong(format!("GPU{from} to GPU{to} is {found:?}: expected {expected}"))
    })
}

/// The NUMA node of each device; `None` if any is not said.
fn numa(header: &[&str], gpus: usize, rows: &[&Vec<&str>]) -> Option<Vec<u8>> {
    let cpu = header.iter().position(|word| *word == "CPU")?;
    let titles: Vec<&str> = header[cpu..].to_vec();
    let has_numa = titles.get(2..4) == Some(&["NUMA", "Affinity"]);
    // "CPU Affinity", "NUMA Affinity", "GPU NUMA ID"
    let columns = 1 + usize::from(has_numa) + usize::from(titles.len() > 4);
    let adapters = cpu - gpus;
    let affinities: Vec<&[&str]> = rows
        .iter()
        .map(|row| row.get(1 + gpus + adapters..).filter(|rest| rest.len() == columns))
        .collect::<Option<_>>()?;
    if has_numa {
        return affinities.iter().map(|of| of[1].parse().ok()).collect();
    }
    let mut known: Vec<&str> = Vec::new();
    let mut numbers = Vec::with_capacity(gpus);
    for cpus in affinities.iter().map(|of| of[0]) {
        let place = known.iter().position(|other| *other == cpus).unwrap_or(known.len());
        if place == known.len() {
            known.push(cpus);
        }
        numbers.push(u8::try_from(place).ok()?);
    }
    Some(numbers)
}

/// Strips what underlines the header: `ESC [ ... m`.
fn without_escapes(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or(part, |(_, after)| after))
}
