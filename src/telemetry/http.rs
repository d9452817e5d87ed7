//! `/livez`, `/readyz`, `/healthz`, `/metrics` and `/configz`.
//!
//! Health answers carry no content beyond `ok` or `not ok`: they are served without
//! authentication, and whoever may read metrics learns the rest there.

use super::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// A scheduler thread that shows no sign of life for this long is restarted by the kubelet. The
/// largest cycle takes milliseconds, and the thread beats at least every few seconds when idle.
pub const STALLED_AFTER: Duration = Duration::from_secs(60);

/// What the endpoints tell, kept by the runtime.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    beat_ms: AtomicU64,
    synced: AtomicBool,
    leading: AtomicBool,
    ready_when_standby: bool,
}

impl Health {
    /// Alive, neither synced nor leading.
    #[must_use]
    pub fn new(ready_when_standby: bool) -> Self {
        Health {
            started: Instant::now(),
            beat_ms: AtomicU64::new(0),
            synced: AtomicBool::new(false),
            leading: AtomicBool::new(false),
            ready_when_standby,
        }
    }

    /// The scheduler's thread is alive; to be called well within [`STALLED_AFTER`], also if idle.
    pub fn beat(&self) {
        self.beat_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// Every kind has been listed (or the caches are stale again).
    pub fn set_synced(&self, synced: bool) {
        self.synced.store(synced, Ordering::Relaxed);
    }

    /// The lease is held (or lost).
    pub fn set_leading(&self, leading: bool) {
        self.leading.store(leading, Ordering::Relaxed);
    }

    /// Whether the scheduler's thread has shown life recently.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.is_live_at(self.elapsed_ms())
    }

    pub(super) fn is_live_at(&self, now_ms: u64) -> bool {
        let silent = now_ms.saturating_sub(self.beat_ms.load(Ordering::Relaxed));
        u128::from(silent) < STALLED_AFTER.as_millis()
    }

    /// Whether this replica can do its part: synced, and leading unless a standby counts.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let leading = self.leading.load(Ordering::Relaxed);
        self.synced.load(Ordering::Relaxed) && (leading || self.ready_when_standby)
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What the router serves.
#[derive(Debug)]
pub struct Endpoints {
    /// `/metrics`
    pub metrics: Arc<Metrics>,
    /// The health paths.
    pub health: Arc<Health>,
    /// `/configz`: the effective configuration as JSON.
    pub configz: String,
}

/// The paths that are served, for the docs.
pub const PATHS: [(&str, &str); 5] = [
    ("/livez", "200 while the scheduler's thread shows life, else 500"),
    ("/readyz", "200 once every kind is listed (and, with readyWhenStandby: false, leading)"),
    ("/healthz", "the same as /livez, for older tools"),
    ("/metrics", "metrics in Prometheus' text format"),
    ("/configz", "the configuration in effect, as JSON"),
];

/// The router of all paths.
pub fn router(endpoints: Endpoints) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/healthz", get(live))
        .route("/metrics", get(metrics))
        .route("/configz", get(configz))
        .with_state(Arc::new(endpoints))
}

/// Serves until `shutdown` is done.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    endpoints: Endpoints,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(endpoints)).with_graceful_shutdown(shutdown).await
}

async fn live(State(endpoints): State<Arc<Endpoints>>) -> Response {
    verdict(endpoints.health.is_live())
}

async fn ready(State(endpoints): State<Arc<Endpoints>>) -> Response {
    verdict(endpoints.health.is_ready())
}

async fn metrics(State(endpoints): State<Arc<Endpoints>>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, endpoints.metrics.encode()).into_response()
}

async fn configz(State(endpoints): State<Arc<Endpoints>>) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, endpoints.configz.clone()).into_response()
}

fn verdict(good: bool) -> Response {
    match good {
        true => "ok".into_response(),
        false => (StatusCode::INTERNAL_SERVER_ERROR, "not ok").into_response(),
    }
}
