//! HTTP in front of the REST verbs.

use super::discovery;
use super::faults::{self, FaultAction, FaultRule, Faults};
use super::rest::{Api, Query, Target, WatchStream, Written, served};
use super::schema::protobuf;
use super::status::{ApiError, Reason};
use super::table::{self, TableForm};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Upstream's limit of a request body.
const MAX_BODY: usize = 3 * 1024 * 1024;
/// Upstream's limit of `Warning` headers.
const MAX_WARNINGS: usize = 16;

/// What every request needs.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) api: Arc<Api>,
    pub(super) faults: Faults,
    pub(super) address: String,
    pub(super) stop: CancellationToken,
}

/// One request, with what was read from it.
struct Asked {
    method: Method,
    path: String,
    query: Query,
    table: Option<TableForm>,
    content_type: String,
    body: Bytes,
}

pub(super) async fn handle(State(server): State<Arc<Server>>, request: Request) -> Response {
    match server.answer(request).await {
        Ok(response) => response,
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &ApiError) -> Response {
    let mut response = reply(error.reason.code(), error.body().to_string());
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn reply(code: u16, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::OK);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn written(answer: Written, asked: &Asked, target: &Target) -> Response {
    let body = match asked.table {
        Some(form) if answer.body["kind"] == target.kind.kind.as_str() => {
            table::table(&target.kind, form, [&answer.body].into_iter(), json!({}))
        }
        _ => answer.body,
    };
    let mut response = reply(answer.code, body.to_string());
    for warning in answer.warnings.iter().take(MAX_WARNINGS) {
        if let Ok(value) = HeaderValue::from_str(&format!("299 - {warning:?}")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// A body that breaks off: the client sees a reset connection.
fn reset() -> Response {
    let broken = stream::once(async { Err::<Bytes, _>(std::io::Error::other("injected reset")) });
    let mut response = reply(200, Body::from_stream(broken));
    // promises more than comes, so that not even an empty answer can be mistaken for a whole one
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(MAX_BODY));
    response
}

/// Whether tables are wanted, and which.
fn table_form(headers: &HeaderMap, query: &str) -> Option<TableForm> {
    let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
    let wanted = accept.split(',').next()?;
    if !(wanted.contains("as=Table") && wanted.contains("g=meta.k8s.io")) {
        return None;
    }
    let include = query.split('&').find_map(|p| p.strip_prefix("includeObject="));
    Some(match include {
        Some("Object") => TableForm::Object,
        Some("None") => TableForm::None,
        _ => TableForm::Metadata,
    })
}

impl Server {
    async fn answer(self: Arc<Self>, request: Request) -> Result<Response, ApiError> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        if let Some(response) = self.fixed(&parts.method, &path) {
            return Ok(response);
        }
        let body = to_bytes(body, MAX_BODY).await.map_err(|_| {
            let message = format!("Request entity too large: limit is {MAX_BODY}");
            ApiError::new(Reason::RequestEntityTooLarge, message)
        })?;
        if path == "/faults" {
            return self.configure_faults(&parts.method, &body);
        }
        let text = parts.uri.query().unwrap_or("");
        let given = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let content_type = given.unwrap_or("application/json").split(';').next().unwrap_or("");
        let asked = Asked {
            query: Query::parse(text)?,
            table: table_form(&parts.headers, text),
            content_type: content_type.trim().to_owned(),
            method: parts.method,
            path,
            body,
        };
        self.resource(asked).await
    }

    /// Paths that are not objects.
    fn fixed(&self, method: &Method, path: &str) -> Option<Response> {
        if *method != Method::GET {
            return None;
        }
        if matches!(path.trim_end_matches('/'), "/healthz" | "/livez" | "/readyz") {
            return Some(Response::new(Body::from("ok")));
        }
        let registry = self.api.registry();
        let answer = discovery::answer(&registry, path, &self.address)?;
        Some(reply(200, answer.to_string()))
    }

    fn configure_faults(&self, method: &Method, body: &[u8]) -> Result<Response, ApiError> {
        match *method {
            Method::PUT => {
                let rules: Vec<FaultRule> = serde_json::from_slice(body)
                    .map_err(|e| ApiError::bad_request(format!("reading fault rules: {e}")))?;
                faults::check(&rules).map_err(ApiError::bad_request)?;
                self.faults.set(rules);
            }
            Method::DELETE => self.faults.set(Vec::new()),
            Method::GET => {}
            _ => return Err(ApiError::method_not_allowed()),
        }
        let counters = serde_json::to_string(&self.faults.counters())
            .map_err(|e| ApiError::internal(e.to_string()))?;
        Ok(reply(200, counters))
    }

    async fn resource(self: Arc<Self>, asked: Asked) -> Result<Response, ApiError> {
        let registry = self.api.registry();
        let target = Target::parse(&registry, &asked.path).ok_or_else(ApiError::no_such_path)?;
        let verb = verb(&asked, &target)?;
        let kind = &target.kind;
        let fault = self.faults.decide(verb, &kind.resource, &target.subresource);
        if let Some(error) = fault.as_ref().and_then(|f| f.refusal(&kind.resource, &target.name)) {
            return Err(error);
        }
        if let Some(latency) = fault.as_ref().and_then(FaultAction::latency) {
            tokio::time::sleep(latency).await;
        }
        let response = match verb {
            "watch" => self.watch(&asked, &target, fault.as_ref())?,
            "list" => self.list(&asked, &target, fault.as_ref())?,
            "get" => self.get(&asked, &target)?,
            _ => self.write(verb, &asked, &target)?,
        };
        match fault {
            Some(FaultAction::TimeoutAfter) => Err(faults::timeout()),
            Some(FaultAction::ResetAfter) => Ok(reset()),
            _ => Ok(response),
        }
    }

    fn get(&self, asked: &Asked, target: &Target) -> Result<Response, ApiError> {
        let object = self.api.get(target)?;
        if !["", "status"].contains(&target.subresource.as_str()) {
            let message = format!("a simulated node has no {:?} of pods", target.subresource);
            return Err(ApiError::new(Reason::MethodNotAllowed, message));
        }
        if let Some(form) = asked.table {
            let value = served(&target.kind, &object.value);
            let metadata = json!({ "resourceVersion": object.revision.to_string() });
            let table = table::table(&target.kind, form, [&value].into_iter(), metadata);
            return Ok(reply(200, table.to_string()));
        }
        if super::rest::is_stored_form(&target.kind, &object.value) {
            return Ok(reply(200, object.json()));
        }
        Ok(reply(200, served(&target.kind, &object.value).to_string()))
    }

    fn list(
        &self,
        asked: &Asked,
        target: &Target,
        fault: Option<&FaultAction>,
    ) -> Result<Response, ApiError> {
        let stale = match fault {
            Some(FaultAction::StaleList(lag)) => {
                Some(self.api.store.revision().saturating_sub(*lag).max(1))
            }
            _ => None,
        };
        let listed = match self.api.list_as_of(target, &asked.query, stale) {
            // older than the log: the present is the best there is
            Err(error) if stale.is_some() && error.reason == Reason::Expired => {
                self.api.list(target, &asked.query)?
            }
            other => other?,
        };
        let Some(form) = asked.table else { return Ok(reply(200, listed.encode(target))) };
        let objects: Vec<Value> =
            listed.objects.iter().map(|o| served(&target.kind, &o.value)).collect();
        let table = table::table(&target.kind, form, objects.iter(), listed.metadata());
        Ok(reply(200, table.to_string()))
    }

    fn watch(
        &self,
        asked: &Asked,
        target: &Target,
        fault: Option<&FaultAction>,
    ) -> Result<Response, ApiError> {
        let mut target = target.clone();
        let mut query = asked.query.clone();
        if !target.name.is_empty() {
            query.field_selector = format!("metadata.name={}", target.name);
            target.name.clear();
        }
        let mut watch = WatchStream::start(self.api.clone(), target, &query, asked.table)?;
        let mut lines_left = u64::MAX;
        match fault {
            Some(FaultAction::DropWatch(lines)) => lines_left = *lines,
            Some(FaultAction::DelayWatch(milliseconds)) => {
                watch.delay = std::time::Duration::from_millis(*milliseconds);
            }
            _ => {}
        }
        let stop = self.stop.clone();
        let lines = stream::unfold((watch, lines_left), move |(mut watch, left)| {
            let stop = stop.clone();
            async move {
                if left == 0 {
                    return None;
                }
                let line = tokio::select! {
                    line = watch.next() => line?,
                    () = stop.cancelled() => return None,
                };
                Some((Ok::<_, std::convert::Infallible>(line), (watch, left - 1)))
            }
        });
        Ok(reply(200, Body::from_stream(lines)))
    }

    fn write(&self, verb: &str, asked: &Asked, target: &Target) -> Result<Response, ApiError> {
        use super::rest::DeleteOptions;
        let query = &asked.query;
        let api = &self.api;
        let answer = match verb {
            "patch" => api.patch(target, &asked.content_type, &asked.body, query)?,
            "delete" => {
                let body = if asked.body.is_empty() { Value::Null } else { self.body(asked)? };
                api.delete(target, &DeleteOptions::parse(&body, query))?
            }
            "deletecollection" => {
                let body = if asked.body.is_empty() { Value::Null } else { self.body(asked)? };
                api.delete_collection(target, query, &DeleteOptions::parse(&body, query))?
            }
            "update" => api.update(target, self.body(asked)?, query)?,
            _ => match (target.kind.is_pod(), target.subresource.as_str()) {
                (true, "binding") => api.bind(target, &self.body(asked)?, query)?,
                (true, "eviction") => api.evict(target, &self.body(asked)?, query)?,
                (_, "") => api.create(target, self.body(asked)?, query)?,
                _ => return Err(ApiError::no_such_path()),
            },
        };
        Ok(written(answer, asked, target))
    }

    /// The body as JSON, whichever of the three forms it came in.
    fn body(&self, asked: &Asked) -> Result<Value, ApiError> {
        let bad = |why: String| ApiError::bad_request(why);
        match asked.content_type.as_str() {
            "application/json" | "" | "application/x-www-form-urlencoded" => {
                serde_json::from_slice(&asked.body)
                    .map_err(|e| bad(format!("couldn't get version/kind; json parse error: {e}")))
            }
            "application/yaml" => {
                let text = std::str::from_utf8(&asked.body).map_err(|e| bad(e.to_string()))?;
                serde_saphyr::from_str(text).map_err(|e| bad(format!("error parsing YAML: {e}")))
            }
            "application/vnd.kubernetes.protobuf" => {
                let registry = self.api.registry();
                let type_of = |version: &str, kind: &str| match kind {
                    "DeleteOptions" => Some("meta.DeleteOptions".to_owned()),
                    "Eviction" => Some("policy.Eviction".to_owned()),
                    "Binding" => Some("core.Binding".to_owned()),
                    _ => registry.by_kind(version, kind).map(|k| k.type_name.clone()),
                };
                protobuf::decode(&asked.body, type_of)
                    .ok_or_else(|| bad("the protobuf body cannot be decoded".into()))
            }
            other => Err(ApiError::new(
                Reason::UnsupportedMediaType,
                format!(
                    "the body of the request was in an unknown format - accepted media types \
                    include: application/json, application/yaml, \
                    application/vnd.kubernetes.protobuf; it was {other:?}"
                ),
            )),
        }
    }
}

/// Upstream's request verb, by which fault rules are written too.
fn verb(asked: &Asked, target: &Target) -> Result<&'static str, ApiError> {
    let collection = target.name.is_empty();
    let binding = target.subresource == "binding";
    if target.kind.virtual_ && asked.method != Method::POST {
        return Err(ApiError::method_not_allowed());
    }
    if target.subresource == "status" && !target.kind.status {
        return Err(ApiError::no_such_path());
    }
    match asked.method {
        Method::GET if asked.query.watch => Ok("watch"),
        Method::GET if collection => Ok("list"),
        Method::GET => Ok("get"),
        Method::POST if collection || !target.subresource.is_empty() || binding => Ok("create"),
        Method::PUT if !collection => Ok("update"),
        Method::PATCH if !collection => Ok("patch"),
        Method::DELETE if collection => Ok("deletecollection"),
        Method::DELETE if target.subresource.is_empty() => Ok("delete"),
        _ => Err(ApiError::method_not_allowed()),
    }
}
