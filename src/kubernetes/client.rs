//! A connection whose calls are sent once, with a deadline, and whose replies are classified here.
//!
//! The client library can repeat a POST on its own after 429, 503 and 504. A repeated bind answers
//! 409 for a success, and may run for minutes; so that layer is off, and each caller repeats what
//! it knows to be safe.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize;
use std::path::Path;
use std::time::Duration;

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

impl Connection {
    /// Connects with a kubeconfig file, or as the environment suggests: `KUBECONFIG`, the home
    /// folder's file, or the service account of the pod this runs in.
    ///
    /// # Errors
    /// See [`enum@Error`].
    pub async fn open(kubeconfig: Option<&Path>) -> Result<Self, Error> {
        let config = match kubeconfig {
            Some(path) => {
                let error = |source| Error::Kubeconfig { path: path.display().to_string(), source };
                let file = Kubeconfig::read_from(path).map_err(error)?;
                let options = KubeConfigOptions::default();
                kube::Config::from_custom_kubeconfig(file, &options).await.map_err(error)?
            }
            None => kube::Config::infer().await.map_err(Error::NoCredentials)?,
        };
        Self::of(config)
    }

    /// Connects with a client configuration.
    ///
    /// # Errors
    /// [`Error::Client`].
    pub fn of(mut config: kube::Config) -> Result<Self, Error> {
        config.default_retry = false;
        let calls = kube::Client::try_from(config.clone()).map_err(Error::Client)?;
        let watches = kube::Client::try_from(config).map_err(Error::Client)?;
        Ok(Self { calls, watches })
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
