//! Loads traces into a cluster through its API.

use super::objects::{self, ObjectOptions};
use super::{TraceError, openb, philly};
use crate::simulator::create::{CreateError, Created, create_all};
use crate::simulator::kubelet::{NodeShape, node_name};
use kube::Client;
use std::path::PathBuf;

/// Why a load stopped.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file is not as it should be. Files are read through before anything is created.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The cluster refused an object.
    #[error(transparent)]
    Create(#[from] CreateError),
}

/// What to load; each part may be absent.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// An openb node list.
    pub nodes: Option<PathBuf>,
    /// So many nodes of the default shape: 8 GPUs, 96 cores, 1 TiB.
    pub gpu_nodes: usize,
    /// An openb pod list.
    pub pods: Option<PathBuf>,
    /// A Philly job list.
    pub philly: Option<PathBuf>,
    /// At most so many rows of each list of work; nodes are not limited.
    pub limit: Option<usize>,
    /// What the rows do not say.
    pub options: ObjectOptions,
}

/// Objects by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Nodes.
    pub nodes: usize,
    /// Pods, members of gangs among them.
    pub pods: usize,
    /// Gangs.
    pub gangs: usize,
    /// GPUs that the nodes have.
    pub gpus: u64,
    /// GPUs that the pods ask for.
    pub gpus_asked: u64,
}

impl Plan {
    /// Reads all files through, creating nothing.
    ///
    /// # Errors
    /// The first malformed row.
    pub fn totals(&self) -> Result<Totals, TraceError> {
        let gpus = self.gpu_nodes as u64 * u64::from(NodeShape::default().gpus);
        let mut totals = Totals { nodes: self.gpu_nodes, gpus, ..Totals::default() };
        if let Some(path) = &self.nodes {
            for row in openb::nodes(path)? {
                totals.nodes += 1;
                totals.gpus += u64::from(row?.gpus);
            }
        }
        if let Some(path) = &self.pods {
            for row in openb::pods(path)?.take(self.rows()) {
                totals.pods += 1;
                totals.gpus_asked += u64::from(row?.gpus);
            }
        }
        if let Some(path) = &self.philly {
            for row in philly::gangs(path)?.take(self.rows()) {
                let row = row?;
                totals.gangs += 1;
                totals.pods += row.members() as usize;
                totals.gpus_asked += u64::from(row.gpus);
            }
        }
        Ok(totals)
    }

    fn rows(&self) -> usize {
        self.limit.unwrap_or(usize::MAX)
    }

    /// Creates everything, nodes first, `parallel` objects at a time, in the order of the files.
    /// `on_created` is called after each object.
    ///
    /// # Errors
    /// A malformed row or a refused object; what was created stays.
    pub async fn load(
        &self,
        client: &Client,
        parallel: usize,
        mut on_created: impl FnMut(),
    ) -> Result<Created, LoadError> {
        self.totals()?;
        let shape = NodeShape::default();
        let nodes = (0..self.gpu_nodes).map(|index| shape.node(&node_name(index)));
        let mut created = create_all(client, nodes, parallel, &mut on_created).await?;
        if let Some(path) = &self.nodes {
            let rows = openb::nodes(path)?.map(|row| row.map(|row| objects::node(&row)));
            add(&mut created, create_rows(client, rows, parallel, &mut on_created).await?);
        }
        let options = &self.options;
        if let Some(path) = &self.pods {
            let rows = openb::pods(path)?.take(self.rows());
            let rows = rows.map(|row| row.map(|row| objects::pod(&row, options)));
            add(&mut created, create_rows(client, rows, parallel, &mut on_created).await?);
        }
        if let Some(path) = &self.philly {
            let rows = philly::gangs(path)?.take(self.rows()).flat_map(|row| match row {
                Ok(row) => objects::gang(&row, options).map(Ok).collect(),
                Err(error) => vec![Err(error)],
            });
            add(&mut created, create_rows(client, rows, parallel, &mut on_created).await?);
        }
        Ok(created)
    }
}

fn add(total: &mut Created, more: Created) {
    total.new += more.new;
    total.existing += more.existing;
}

async fn create_rows<K>(
    client: &Client,
    rows: impl Iterator<Item = Result<K, TraceError>>,
    parallel: usize,
    on_created: impl FnMut(),
) -> Result<Created, LoadError>
where
    K: kube::Resource<DynamicType = ()> + serde::Serialize + std::fmt::Debug,
{
    let mut failure = None;
    let objects = rows.map_while(|row| row.map_err(|error| failure = Some(error)).ok());
    let created = create_all(client, objects, parallel, on_created).await?;
    failure.map_or(Ok(created), |error| Err(error.into()))
}
