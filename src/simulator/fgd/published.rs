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

/// Percent of all GPUs allocated at the end, by list, policy and seed.
#[derive(Debug, Default)]
pub struct Published {
    at_end: BTreeMap<(String, String, u32), f64>,
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
        let [list, policy, seed, end] =
            [column("workload")?, column("sc_policy")?, column("seed")?, column("130")?];
        let mut at_end = BTreeMap::new();
        for row in rows.records() {
            let row = row.map_err(|error| malformed(&error.to_string()))?;
            let text = |column: usize| row.get(column).unwrap_or_default();
            let name = text(list).trim_start_matches("openb_pod_list_").to_owned();
            let number = text(seed).parse().ok().zip(text(end).parse().ok());
            let (seed, value) = number.ok_or_else(|| malformed("a seed or value is no number"))?;
            at_end.insert((name, text(policy).to_owned(), seed), value);
        }
        Ok(Self { at_end })
    }

    /// The mean over these seeds; `None`: not published for each of them.
    #[must_use]
    pub fn mean(&self, list: &str, policy: &str, seeds: &[u32]) -> Option<f64> {
        let value = |seed: &u32| self.at_end.get(&(list.to_owned(), policy.to_owned(), *seed));
        let values: Option<Vec<f64>> = seeds.iter().map(|seed| value(seed).copied()).collect();
        let values = values.filter(|values| !values.is_empty())?;
        Some(values.iter().sum::<f64>() / values.len() as f64)
    }
}
