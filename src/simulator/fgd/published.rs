//! The results that the artifact publishes.

use flate2::read::MultiGzDecoder;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// The file, below the folder of the trace.
const FILE: &str = "fgd_expected/analysis_allo_discrete.csv.gz";

/// Why the published results cannot be read; for the person who chose the folder.
#[derive(Debug, thiserror::Error)]
pub enum PublishedError {
    /// It cannot be opened.
    #[error("opening published results {path}: {source}: choose the folder of openb with --data")]
    Open {
        /// The file.
        path: Box<str>,
        /// The cause.
        source: std::io::Error,
    },
    /// It is not what the artifact publishes.
    #[error("published results {path}: {problem}")]
    Malformed {
        /// The file.
        path: Box<str>,
        /// What is wrong.
        problem: Box<str>,
    },
}

/// Percent of demand that has arrived, for which results are looked at: all of it, and as much as
/// there are GPUs.
pub const LOOKED_AT: [usize; 2] = [130, 100];

/// Percent of all GPUs allocated at [`LOOKED_AT`], by list, policy and seed.
#[derive(Debug, Default)]
pub struct Published {
    values: BTreeMap<(String, String, u32), [f64; 2]>,
}

impl Published {
    /// Reads the results from the folder of the trace.
    ///
    /// # Errors
    /// If the file is absent or malformed.
    pub fn read(folder: &Path) -> Result<Self, PublishedError> {
        let path = folder.join(FILE);
        let shown = || path.display().to_string().into();
        let file =
            File::open(&path).map_err(|source| PublishedError::Open { path: shown(), source })?;
        let malformed =
            |problem: &str| PublishedError::Malformed { path: shown(), problem: problem.into() };
        let mut rows = csv::Reader::from_reader(MultiGzDecoder::new(file));
        let header = rows.headers().map_err(|error| malformed(&error.to_string()))?.clone();
        let column = |name: &str| {
            let found = header.iter().position(|column| column == name);
            found.ok_or_else(|| malformed(&format!("no column {name:?}")))
        };
        let [list, policy, seed] = [column("workload")?, column("sc_policy")?, column("seed")?];
        let [end, full] = LOOKED_AT.map(|percent| column(&percent.to_string()));
        let (end, full) = (end?, full?);
        let mut values = BTreeMap::new();
        for row in rows.records() {
            let row = row.map_err(|error| malformed(&error.to_string()))?;
            let text = |column: usize| row.get(column).unwrap_or_default();
            let name = text(list).trim_start_matches("openb_pod_list_").to_owned();
            let number = |column| text(column).parse::<f64>().ok();
            let value = number(end).zip(number(full)).zip(text(seed).parse().ok());
            let ((end, full), seed) =
                value.ok_or_else(|| malformed("a seed or value is no number"))?;
            values.insert((name, text(policy).to_owned(), seed), [end, full]);
        }
        Ok(Self { values })
    }

    /// What is published of one run.
    #[must_use]
    pub fn of(&self, list: &str, policy: &str, seed: u32) -> Option<[f64; 2]> {
        self.values.get(&(list.to_owned(), policy.to_owned(), seed)).copied()
    }

    /// The mean over these seeds in the end; `None`: not published for each of them.
    #[must_use]
    pub fn mean(&self, list: &str, policy: &str, seeds: &[u32]) -> Option<f64> {
        let value = |seed: &u32| Some(self.of(list, policy, *seed)?[0]);
        let values: Option<Vec<f64>> = seeds.iter().map(value).collect();
        let values = values.filter(|values| !values.is_empty())?;
        Some(values.iter().sum::<f64>() / values.len() as f64)
    }
}
