//! An embedded Kubernetes API server: JSON over HTTP, in memory.
//!
//! It speaks what a scheduler, its tests and kubectl ask of an API server, and is compared with
//! the real one (`tests/api_parity.rs`; deliberate differences are in `docs/embedded-cluster.md`).
//! From the bottom up: [`store`] keeps objects and their past; `schema`, `quantity`, `selector`
//! and `patch` know what objects look like; `admission` gives them defaults and refuses bad ones;
//! `rest` is the verbs; `table`, `discovery` and `http` are what clients see; [`FaultRule`]s break
//! it on purpose.

mod admission;
mod crd;
mod discovery;
mod events;
mod faults;
mod http;
mod kinds;
mod patch;
mod quantity;
mod rest;
mod schema;
mod seed;
mod selector;
mod status;
pub mod store;
mod table;

pub use faults::{FaultAction, FaultCounter, FaultRule, MAX_RULES};
pub use status::{ApiError, Reason};

use axum::serve::ListenerExt;
use http::Server;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use store::{CollectionId, Store};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a stopping server waits for answers that are on their way.
const DRAIN: Duration = Duration::from_secs(2);

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Decides what [`FaultRule`]s with a probability hit.
    pub seed: u64,
    /// Faults from the start.
    pub faults: Vec<FaultRule>,
    /// Events kept a resource. A watch that is further behind gets 410. Memory is up to so many
    /// times two versions of an object.
    pub log_length: usize,
    /// Between bookmarks of an idle watch; upstream sends one about every minute.
    pub bookmark_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            seed: 0,
            faults: Vec::new(),
            log_length: 32_768,
            bookmark_interval: Duration::from_secs(60),
        }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be had; choose another.
    #[error("listening on {address} for the embedded API: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The rules contradict themselves; correct them.
    #[error("reading the fault rules: {0}")]
    Faults(String),
}

/// Starts servers.
#[derive(Debug)]
pub struct ApiServer;

impl ApiServer {
    /// Starts a server with the system namespaces and priority classes on the current runtime.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: Options) -> Result<Handle, StartError> {
        faults::check(&options.faults).map_err(StartError::Faults)?;
        let refused = |source| StartError::Listen { address: options.bind, source };
        let listener = tokio::net::TcpListener::bind(options.bind).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let store = Arc::new(Store::new(options.log_length));
        let api = Arc::new(rest::Api::new(store, options.bookmark_interval));
        seed::system_objects(&api);
        let stop = CancellationToken::new();
        let server = Arc::new(Server {
            api,
            faults: faults::Faults::new(options.seed, options.faults),
            address: address.to_string(),
            stop: stop.clone(),
        });
        let router = axum::Router::new().fallback(http::handle).with_state(server.clone());
        // small answers must not wait for the client's acknowledgement of earlier ones
        let listener = listener.tap_io(|socket| {
            socket.set_nodelay(true).ok();
        });
        let task = tokio::spawn(async move {
            let served = axum::serve(listener, router);
            served.with_graceful_shutdown(stop.cancelled_owned()).await.ok();
        });
        Ok(Handle { server, address, task })
    }
}

/// A running server. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Handle {
    server: Arc<Server>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Handle {
    /// `http://ADDRESS:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig file for kubectl and the scheduler; there are no credentials.
    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: embedded\n  cluster:\n    \
             server: {}\nusers:\n- name: embedded\n  user: {{}}\ncontexts:\n- name: embedded\n  \
             context:\n    cluster: embedded\n    user: embedded\ncurrent-context: embedded\n",
            self.url()
        )
    }

    /// A client of this server, in namespace `default`, without hidden retries.
    ///
    /// # Panics
    /// Never: the URL is one of an address that was bound.
    pub fn client(&self) -> kube::Client {
        let url = self.url().parse().expect("a bound address makes a URL");
        let mut config = kube::Config::new(url);
        config.default_retry = false;
        kube::Client::try_from(config).expect("plain HTTP needs nothing that can be missing")
    }

    /// The objects behind the API.
    pub fn store(&self) -> &Arc<Store> {
        &self.server.api.store
    }

    /// The collection of a resource, such as `("", "v1", "pods")`.
    pub fn collection(&self, group: &str, version: &str, resource: &str) -> Option<CollectionId> {
        let registry = self.server.api.registry();
        registry.find(group, version, resource).map(|kind| kind.collection)
    }

    /// Creates an object as POST would, in the namespace it names or in `default`.
    ///
    /// # Errors
    /// As POST; 404 for a kind that is not served.
    pub fn create(&self, object: &serde_json::Value) -> Result<serde_json::Value, ApiError> {
        let api = &self.server.api;
        let text = |field: &str| object[field].as_str().unwrap_or("");
        let registry = api.registry();
        let kind = registry.by_kind(text("apiVersion"), text("kind"));
        let kind = kind.ok_or_else(ApiError::no_such_path)?.clone();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
        let namespace = if kind.namespaced { namespace.to_owned() } else { String::new() };
        let (name, subresource) = (String::new(), String::new());
        let target = rest::Target { kind, namespace, name, subresource };
        api.create(&target, object.clone(), &rest::Query::default()).map(|made| made.body)
    }

    /// Replaces the fault rules.
    ///
    /// # Errors
    /// [`StartError::Faults`].
    pub fn set_faults(&self, rules: Vec<FaultRule>) -> Result<(), StartError> {
        faults::check(&rules).map_err(StartError::Faults)?;
        self.server.faults.set(rules);
        Ok(())
    }

    /// What the fault rules did so far.
    pub fn fault_counters(&self) -> Vec<FaultCounter> {
        self.server.faults.counters()
    }

    /// Ends all watches, answers what was asked, and stops.
    pub async fn stop(mut self) {
        self.server.stop.cancel();
        if tokio::time::timeout(DRAIN, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.server.stop.cancel();
    }
}
