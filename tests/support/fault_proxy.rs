//! An HTTP proxy between the scheduler and the API server that answers wrongly by rule and seed.
//! The scheduler reaches it by plain HTTP on loopback; it goes on by TLS with the same headers.

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Which faults, and how often. Rates are probabilities from 0 to 1; the default has no faults.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) seed: u64,
    /// Of every k-th bind the reply is lost after the API server has committed it.
    pub(crate) lose_every_bind_reply: Option<u64>,
    /// 429 with `Retry-After: 1`, not forwarded.
    pub(crate) too_many: f64,
    /// 504, not forwarded.
    pub(crate) timeout_before: f64,
    /// 504 in place of the answer to a request that was forwarded and carried out.
    pub(crate) timeout_after: f64,
    /// Watches are cut after a time in this range.
    pub(crate) watch_life: Option<Range<Duration>>,
    /// Each request waits for a time in this range before it is forwarded.
    pub(crate) delay: Option<Range<Duration>>,
    /// Binds wait, before they are forwarded, until rules without this are set.
    pub(crate) hold_binds: bool,
}

/// How often each fault happened.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicU64,
    pub(crate) binds: AtomicU64,
    pub(crate) held_binds: AtomicU64,
    pub(crate) lost_bind_replies: AtomicU64,
    pub(crate) too_many: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) cut_watches: AtomicU64,
}

/// A running proxy; it stops when dropped.
pub(crate) struct FaultProxy {
    url: String,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

struct State {
    faults: Mutex<Faults>,
    random: Mutex<ChaCha8Rng>,
    counts: Counts,
    upstream: String,
    tls: TlsConnector,
}

/// What happens to one request, drawn before it is forwarded.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Pass,
    TooMany,
    TimeoutBefore,
    TimeoutAfter,
    LoseReply,
    CutAfter(Duration),
}

impl FaultProxy {
    /// Serves on a free loopback port. `upstream` is `https://host:port`; `authority` is the file
    /// of certificates that it is checked against.
    pub(crate) async fn start(upstream: &str, authority: &Path, faults: Faults) -> FaultProxy {
        let state = Arc::new(State {
            random: Mutex::new(ChaCha8Rng::seed_from_u64(faults.seed)),
            faults: Mutex::new(faults),
            counts: Counts::default(),
            upstream: upstream.trim_start_matches("https://").to_owned(),
            tls: trusting(authority),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let task = tokio::spawn(accept(listener, state.clone()));
        FaultProxy { url: format!("http://{address}"), state, task }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.state.counts
    }

    /// Replaces the rules while the proxy runs.
    pub(crate) fn set(&self, faults: Faults) {
        *self.state.faults.lock().expect("no holder panics") = faults;
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn trusting(authority: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(authority).expect("a readable certificate");
    for certificate in certificates {
        roots.add(certificate.expect("a valid certificate")).expect("a usable certificate");
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // a set, so that all connections end with the proxy
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).ok();
        connections.spawn(serve(stream, state.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Each client connection has one connection of its own to the API server. HTTP/1.1 carries one
/// request at a time, so the lock around it is never waited for.
async fn serve(stream: TcpStream, state: Arc<State>) {
    let upstream = Arc::new(tokio::sync::Mutex::new(None));
    let service = hyper::service::service_fn(move |request| {
        let (state, upstream) = (state.clone(), upstream.clone());
        async move { state.answer(request, &mut *upstream.lock().await).await }
    });
    // an error here is a connection that a rule broke off, or one that the client closed
    let io = TokioIo::new(stream);
    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await.ok();
}

type Upstream = Option<SendRequest<Incoming>>;

impl State {
    /// An error makes hyper close the connection without an answer.
    async fn answer(
        &self,
        request: Request<Incoming>,
        upstream: &mut Upstream,
    ) -> Result<Response<Body>, io::Error> {
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        let (fate, delay) = self.draw(&request);
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        if is_bind(&request) && self.holds_binds() {
            self.counts.held_binds.fetch_add(1, Ordering::Relaxed);
            while self.holds_binds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        match fate {
            Fate::TooMany => {
                self.counts.too_many.fetch_add(1, Ordering::Relaxed);
                let mut refusal = status(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests");
                refusal.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from(1));
                return Ok(refusal);
            }
            Fate::TimeoutBefore => {
                self.counts.timeouts.fetch_add(1, Ordering::Relaxed);
                return Ok(status(StatusCode::GATEWAY_TIMEOUT, "Timeout"));
            }
            _ => {}
        }
        let answer = self.forward(request, upstream).await?;
        match fate {
            Fate::TimeoutAfter => {
                self.counts.timeouts.fetch_add(1, Ordering::Relaxed);
                // read to its end, so that the connection can be used again
                answer.collect().await.map_err(io::Error::other)?;
                Ok(status(StatusCode::GATEWAY_TIMEOUT, "Timeout"))
            }
            Fate::LoseReply => {
                answer.collect().await.map_err(io::Error::other)?;
                self.counts.lost_bind_replies.fetch_add(1, Ordering::Relaxed);
                Err(io::Error::other("the reply is lost on purpose"))
            }
            Fate::CutAfter(life) => {
                self.counts.cut_watches.fetch_add(1, Ordering::Relaxed);
                Ok(answer.map(|body| cut_after(body, life)))
            }
            _ => Ok(answer.map(|body| body.map_err(io::Error::other).boxed_unsync())),
        }
    }

    fn holds_binds(&self) -> bool {
        self.faults.lock().expect("no holder panics").hold_binds
    }

    fn draw(&self, request: &Request<Incoming>) -> (Fate, Option<Duration>) {
        let faults = self.faults.lock().expect("no holder panics").clone();
        let mut random = self.random.lock().expect("no holder panics");
        let delay = faults.delay.map(|range| random.random_range(range));
        let query = request.uri().query().unwrap_or_default();
        if query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1") {
            let life = faults.watch_life.map(|range| random.random_range(range));
            return (life.map_or(Fate::Pass, Fate::CutAfter), delay);
        }
        if is_bind(request) {
            let number = self.counts.binds.fetch_add(1, Ordering::Relaxed) + 1;
            if faults.lose_every_bind_reply.is_some_and(|every| number.is_multiple_of(every)) {
                return (Fate::LoseReply, delay);
            }
        }
        let mut roll: f64 = random.random();
        let rules = [
            (faults.too_many, Fate::TooMany),
            (faults.timeout_before, Fate::TimeoutBefore),
            (faults.timeout_after, Fate::TimeoutAfter),
        ];
        for (rate, fate) in rules {
            if roll < rate {
                return (fate, delay);
            }
            roll -= rate;
        }
        (Fate::Pass, delay)
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
        upstream: &mut Upstream,
    ) -> Result<Response<Incoming>, io::Error> {
        let host = header::HeaderValue::from_str(&self.upstream).map_err(io::Error::other)?;
        request.headers_mut().insert(header::HOST, host);
        let usable = match upstream {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            *upstream = Some(self.connect().await?);
        }
        let sender = upstream.as_mut().expect("set in the lines above");
        sender.send_request(request).await.map_err(io::Error::other)
    }

    async fn connect(&self) -> Result<SendRequest<Incoming>, io::Error> {
        let stream = TcpStream::connect(&self.upstream).await?;
        stream.set_nodelay(true)?;
        let host = self.upstream.split(':').next().unwrap_or_default().to_owned();
        let stream =
            self.tls.connect(ServerName::try_from(host).map_err(io::Error::other)?, stream).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn is_bind(request: &Request<Incoming>) -> bool {
    request.method() == Method::POST && request.uri().path().ends_with("/binding")
}

/// Passes the body on and breaks off when its time is over, wherever in a line that may be.
fn cut_after(body: Incoming, life: Duration) -> Body {
    let frames =
        body.into_data_stream().map(|data| data.map(Frame::data).map_err(io::Error::other));
    let cut = stream::once(async { Err(io::Error::other("the watch is cut on purpose")) });
    let frames = frames.take_until(tokio::time::sleep(life)).chain(cut);
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

/// The error object that the API server itself would send.
fn status(code: StatusCode, reason: &str) -> Response<Body> {
    let text = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "injected by the test", "reason": reason, "code": code.as_u16(),
    });
    let body =
        Full::new(Bytes::from(text.to_string())).map_err(|never| match never {}).boxed_unsync();
    Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .expect("a valid response")
}
