//! Counts requests to the API server, as client-go does.

use super::Metrics;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// A tower layer for the Kubernetes client that counts requests and measures their latency.
#[derive(Debug, Clone)]
pub struct RestClientLayer {
    metrics: Arc<Metrics>,
}

impl RestClientLayer {
    /// A layer that counts into `metrics`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        RestClientLayer { metrics }
    }
}

impl<S> tower::Layer<S> for RestClientLayer {
    type Service = RestClientService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RestClientService { inner, metrics: Arc::clone(&self.metrics) }
    }
}

/// The service of [`RestClientLayer`].
#[derive(Debug, Clone)]
pub struct RestClientService<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, B, R> tower::Service<Request<B>> for RestClientService<S>
where
    S: tower::Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = word(request.method());
        let metrics = Arc::clone(&self.metrics);
        let start = Instant::now();
        let count = move |outcome: &Result<Response<R>, S::Error>| {
            let elapsed = start.elapsed().as_secs_f64();
            metrics.rest_duration.with_label_values(&[method]).observe(elapsed);
            let code = outcome.as_ref().map_or("<error>", |answer| text(answer.status().as_u16()));
            metrics.rest_requests.with_label_values(&[code, method]).inc();
        };
        self.inner.call(request).inspect(count).boxed()
    }
}

/// The method as a label; a closed set.
fn word(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "OTHER",
    }
}

/// The status codes an API server answers with; others are pooled by class.
fn text(code: u16) -> &'static str {
    match code {
        200 => "200",
        201 => "201",
        202 => "202",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        409 => "409",
        410 => "410",
        422 => "422",
        429 => "429",
        500 => "500",
        503 => "503",
        504 => "504",
        other => match other / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        },
    }
}
