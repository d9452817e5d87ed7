//! Which pods were refused: shapes, and kinds of them.

use crate::cluster::Shape;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Kinds of pods by what they ask for, as columns are headed.
pub const KINDS: [&str; 6] = ["part", "1 GPU", "2 GPUs", "4 GPUs", "8 GPUs", "no GPU"];

/// What became of the pods of one shape, or of several runs or shapes together.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    /// So many came.
    pub arrived: u32,
    /// So many of them found no room.
    pub refused: u32,
    /// For each run that refused one: percent of all GPUs that had been asked for by then.
    pub first: Vec<f64>,
}

impl Refused {
    /// A pod arrived.
    pub(super) fn count(&mut self, is_placed: bool, percent: f64) {
        self.arrived += 1;
        if is_placed {
            return;
        }
        if self.refused == 0 {
            self.first.push(percent);
        }
        self.refused += 1;
    }

    fn add(&mut self, other: &Self) {
        self.arrived += other.arrived;
        self.refused += other.refused;
        self.first.extend(&other.first);
    }

    /// Percent of those that came; `None`: none came.
    #[must_use]
    pub fn percent(&self) -> Option<f64> {
        (self.arrived > 0).then(|| 100.0 * f64::from(self.refused) / f64::from(self.arrived))
    }
}

/// By shape.
pub type Refusals = BTreeMap<Shape, Refused>;

/// Of several runs together.
pub(super) fn together<'a>(runs: impl IntoIterator<Item = &'a Refusals>) -> Refusals {
    let mut all = Refusals::new();
    for (shape, refused) in runs.into_iter().flatten() {
        all.entry(shape.clone()).or_default().add(refused);
    }
    all
}

/// By kind, in the order of [`KINDS`].
#[must_use]
pub fn by_kind(refusals: &Refusals) -> [Refused; KINDS.len()] {
    let mut kinds: [Refused; KINDS.len()] = Default::default();
    for (shape, refused) in refusals {
        let kind = match (shape.gpus, shape.milli) {
            (0, _) => 5,
            (1, 1..1000) => 0,
            (1, _) => 1,
            (2, _) => 2,
            (4, _) => 3,
            _ => 4,
        };
        kinds[kind].add(refused);
    }
    kinds
}

pub(super) const CSV_HEAD: &str = "list,policy,cpu_milli,gpus,gpu_milli,models,arrived,refused,\
     refused_percent,runs_that_refuse,first_refused_at_percent_mean,first_refused_at_percent_least\n";

/// A line per shape of a list under a policy. The first refusals are means and the least of the
/// runs that refused such a pod.
pub(super) fn csv_lines(list: &str, policy: &str, refusals: &Refusals) -> String {
    let mut lines = String::new();
    for (shape, of) in refusals {
        let number = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.2}"));
        let runs = of.first.len();
        let mean = (runs > 0).then(|| of.first.iter().sum::<f64>() / runs as f64);
        let least = of.first.iter().copied().reduce(f64::min);
        let _ = writeln!(
            lines,
            "{list},{policy},{},{},{},{},{},{},{},{runs},{},{}",
            shape.cpu,
            shape.gpus,
            shape.milli,
            shape.models.join("|"),
            of.arrived,
            of.refused,
            number(of.percent()),
            number(mean),
            number(least)
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_refusal_of_each_run_is_told() {
        let shape = |gpus, milli| Shape { gpus, milli, ..Shape::default() };
        let run = |events: &[(usize, u16, bool, f64)]| {
            let mut refusals = Refusals::new();
            for (gpus, milli, is_placed, percent) in events {
                refusals.entry(shape(*gpus, *milli)).or_default().count(*is_placed, *percent);
            }
            refusals
        };
        let one = run(&[(1, 500, true, 10.0), (1, 500, false, 90.0), (1, 500, false, 95.0)]);
        let other = run(&[(1, 500, false, 80.0), (1, 300, true, 81.0), (0, 0, true, 82.0)]);
        let all = together([&one, &other]);
        let half = &all[&shape(1, 500)];
        assert_eq!((half.arrived, half.refused, &*half.first), (4, 3, &[90.0, 80.0][..]));
        assert_eq!(half.percent(), Some(75.0));
        let kinds = by_kind(&all).map(|kind| (kind.arrived, kind.refused));
        assert_eq!(kinds, [(5, 3), (0, 0), (0, 0), (0, 0), (0, 0), (1, 0)]);
        let lines = csv_lines("default", "Ours", &all);
        assert!(lines.contains("default,Ours,0,1,500,,4,3,75.00,2,85.00,80.00\n"), "{lines}");
        assert!(lines.contains("default,Ours,0,0,0,,1,0,0.00,0,,\n"), "{lines}");
    }
}
