//! A connection whose calls are sent once, with a deadline, and whose replies are classified here.
//!
//! The client library can repeat a POST on its own after 429, 503 and 504. A repeated bind answers
//! 409 for a success, and may run for minutes; so that layer is off, and each caller repeats what
//! it knows to be safe.

use crate::telemetry::{Metrics, RestClientLayer};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use parking_lot::Mutex;
use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Largest reply that is read, in bytes: a pod is at most 1.5 MiB.
const REPLY_MAX: usize = 4 << 20;

/// Errors of connecting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig file cannot be used; a person must correct it.
    #[error("cannot use kubeconfig {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: String,
        /// Why.
        source: kube::config::KubeconfigError,
    },
    /// Neither a kubeconfig nor in-cluster credentials were found; a person must give one.
    #[error("found neither a kubeconfig nor in-cluster credentials: give --kubeconfig ({0})")]
    NoCredentials(kube::config::InferConfigError),
    /// The client cannot be built from the credentials; a person must correct them.
    #[error("cannot build a client: {0}")]
    Client(kube::Error),
}

/// A client for calls, and one for watches, of one API server.
#[derive(Clone)]
pub struct Connection {
    /// For calls: no hidden retries.
    pub calls: kube::Client,
    /// For watches.
    pub watches: kube::Client,
    limiter: Option<Arc<Limiter>>,
}

/// A token bucket: so many calls a second, and so many at once after a pause.
#[derive(Debug)]
struct Limiter {
    every: Duration,
    burst: u32,
    /// when the bucket would be full again; behind now if it is
    full_at: Mutex<Instant>,
}

impl Limiter {
    /// How long the next call has to wait for its token, which is taken.
    fn take(&self, now: Instant) -> Duration {
        let mut full_at = self.full_at.lock();
        *full_at = (*full_at).max(now) + self.every;
        let empty_at = *full_at - self.every * self.burst;
        empty_at.saturating_duration_since(now)
    }
}

/// What came back of a call.
#[derive(Debug)]
pub enum Reply {
    /// An HTTP answer.
    Answer {
        /// Its status.
        status: StatusCode,
        /// `Retry-After`, if it was given in seconds.
        retry_after: Option<Duration>,
        /// Its body.
        body: Bytes,
    },
    /// No answer: the call may or may not have been carried out.
    Unknown(String),
}

/// The part of a `Status` body that is of use.
#[derive(Debug, Default, Deserialize)]
pub struct StatusBody {
    /// For people.
    #[serde(default)]
    pub message: String,
}

/// Reads a kubeconfig file, or what the environment suggests: `KUBECONFIG`, the home folder's
/// file, or the service account of the pod this runs in.
///
/// # Errors
/// [`Error::Kubeconfig`] or [`Error::NoCredentials`].
pub async fn configure(kubeconfig: Option<&Path>) -> Result<kube::Config, Error> {
    let Some(path) = kubeconfig else {
        return kube::Config::infer().await.map_err(Error::NoCredentials);
    };
    let error = |source| Error::Kubeconfig { path: path.display().to_string(), source };
    let file = Kubeconfig::read_from(path).map_err(error)?;
    kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(error)
}

impl Connection {
    /// Connects. `qps` and `burst` bound the calls, not the watches; `None`: no bound.
    ///
    /// # Errors
    /// [`Error::Client`].
    pub fn of(
        mut config: kube::Config,
        metrics: &Arc<Metrics>,
        (qps, burst): (Option<u32>, Option<u32>),
    ) -> Result<Self, Error> {
        config.default_retry = false;
        let counted = RestClientLayer::new(metrics.clone());
        let client = || -> Result<kube::Client, Error> {
            let builder = ClientBuilder::try_from(config.clone()).map_err(Error::Client)?;
            Ok(builder.with_layer(&counted).build())
        };
        let limiter = qps.filter(|qps| *qps > 0).map(|qps| {
            let every = Duration::from_secs(1) / qps;
            let burst = burst.unwrap_or(qps).max(1);
            Arc::new(Limiter { every, burst, full_at: Mutex::new(Instant::now()) })
        });
        Ok(Self { calls: client()?, watches: client()?, limiter })
    }

    /// Sends one request and reads the whole answer, within a deadline.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Vec<u8>,
        deadline: Duration,
    ) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content_type)
            .header(http::header::ACCEPT, "application/json")
            .body(Body::from(body));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Reply::Unknown(format!("cannot build a request: {error}")),
        };
        if let Some(limiter) = &self.limiter {
            tokio::time::sleep(limiter.take(Instant::now())).await;
        }
        match tokio::time::timeout(deadline, self.exchange(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Reply::Unknown(error),
            Err(_) => Reply::Unknown(format!("no answer within {deadline:?}")),
        }
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Reply, String> {
        let response = self.calls.send(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let header = response.headers().get(http::header::RETRY_AFTER);
        let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok());
        let body = http_body_util::Limited::new(response.into_body(), REPLY_MAX);
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Reply::Answer { status, retry_after: seconds.map(Duration::from_secs), body })
    }
}

/// The message of a `Status` body, or the body itself.
#[must_use]
pub fn message(body: &[u8]) -> String {
    match serde_json::from_slice::<StatusBody>(body) {
        Ok(status) if !status.message.is_empty() => status.message,
        _ => String::from_utf8_lossy(&body[..body.len().min(512)]).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_rest_waits_its_turn() {
        let now = Instant::now();
        let every = Duration::from_millis(100);
        let limiter = Limiter { every, burst: 3, full_at: Mutex::new(now) };
        let waits: Vec<u128> = (0..5).map(|_| limiter.take(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200]);
        assert_eq!(limiter.take(now + Duration::from_secs(10)).as_millis(), 0);
    }
}
