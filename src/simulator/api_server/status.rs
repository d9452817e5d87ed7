//! Errors as the API tells them: `Status` objects with upstream's reasons, codes and messages.

use serde_json::{Value, json};

/// Upstream's `metav1.StatusReason`, with its HTTP code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 400.
    BadRequest,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 406.
    NotAcceptable,
    /// 409: the name is taken.
    AlreadyExists,
    /// 409: the object changed, or cannot be changed so.
    Conflict,
    /// 410: the resource version is too old.
    Expired,
    /// 413.
    RequestEntityTooLarge,
    /// 415.
    UnsupportedMediaType,
    /// 422.
    Invalid,
    /// 429.
    TooManyRequests,
    /// 500.
    InternalError,
    /// 504.
    Timeout,
    /// A code without a reason, as upstream answers errors that it did not expect.
    Unknown(u16),
}

impl Reason {
    /// The HTTP status code.
    pub fn code(self) -> u16 {
        match self {
            Reason::BadRequest => 400,
            Reason::Forbidden => 403,
            Reason::NotFound => 404,
            Reason::MethodNotAllowed => 405,
            Reason::NotAcceptable => 406,
            Reason::AlreadyExists | Reason::Conflict => 409,
            Reason::Expired => 410,
            Reason::RequestEntityTooLarge => 413,
            Reason::UnsupportedMediaType => 415,
            Reason::Invalid => 422,
            Reason::TooManyRequests => 429,
            Reason::InternalError => 500,
            Reason::Timeout => 504,
            Reason::Unknown(code) => code,
        }
    }

    fn name(self) -> String {
        match self {
            Reason::Unknown(_) => String::new(),
            named => format!("{named:?}"),
        }
    }
}

/// One answer that is not a success. The client decides by `reason` whether to try again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people; upstream's words.
    pub message: String,
    /// Upstream's `StatusDetails`, `Null` when there are none.
    pub details: Value,
    /// The value of the `Retry-After` header, in seconds.
    pub retry_after: Option<u64>,
}

/// One field that is not as it must be.
#[derive(Clone, Debug)]
pub(crate) struct FieldError {
    /// Upstream's `field.ErrorType`, such as `FieldValueRequired`.
    pub(crate) reason: &'static str,
    pub(crate) field: String,
    pub(crate) message: String,
}

impl FieldError {
    pub(crate) fn required(field: impl Into<String>, detail: &str) -> Self {
        let colon = if detail.is_empty() { "" } else { ": " };
        let message = format!("Required value{colon}{detail}");
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    pub(crate) fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        let message = format!("Invalid value: {value}: {detail}");
        Self { reason: "FieldValueInvalid", field: field.into(), message }
    }

    pub(crate) fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        let message = format!("Forbidden: {detail}");
        Self { reason: "FieldValueForbidden", field: field.into(), message }
    }

    pub(crate) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        let message = format!("Duplicate value: {value}");
        Self { reason: "FieldValueDuplicate", field: field.into(), message }
    }

    pub(crate) fn not_supported(field: impl Into<String>, value: &str, valid: &[&str]) -> Self {
        let valid: Vec<_> = valid.iter().map(|v| format!("{v:?}")).collect();
        let message =
            format!("Unsupported value: {value:?}: supported values: {}", valid.join(", "));
        Self { reason: "FieldValueNotSupported", field: field.into(), message }
    }
}

impl ApiError {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), details: Value::Null, retry_after: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Reason::Unknown(500), message)
    }

    /// `resource` is as upstream qualifies it: `pods`, or `leases.coordination.k8s.io`.
    fn about(reason: Reason, message: String, group: &str, resource: &str, name: &str) -> Self {
        let mut details = json!({ "kind": resource });
        if !name.is_empty() {
            details["name"] = json!(name);
        }
        if !group.is_empty() {
            details["group"] = json!(group);
        }
        Self { details, ..Self::new(reason, message) }
    }

    pub(crate) fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(group, resource));
        Self::about(Reason::NotFound, message, group, resource, name)
    }

    /// The answer for a path that nothing serves.
    pub(crate) fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self { details: json!({}), ..Self::new(Reason::NotFound, message) }
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self { details: json!({}), ..Self::new(Reason::MethodNotAllowed, message) }
    }

    pub(crate) fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(group, resource));
        Self::about(Reason::AlreadyExists, message, group, resource, name)
    }

    pub(crate) fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let what = qualified(group, resource);
        let message = format!("Operation cannot be fulfilled on {what} {name:?}: {why}");
        Self::about(Reason::Conflict, message, group, resource, name)
    }

    pub(crate) fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let what = qualified(group, resource);
        let message = match name {
            "" => format!("{what} is forbidden: {why}"),
            _ => format!("{what} {name:?} is forbidden: {why}"),
        };
        Self::about(Reason::Forbidden, message, group, resource, name)
    }

    pub(crate) fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let texts: Vec<_> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
        let list = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} {name:?} is invalid: {list}", qualified(group, kind));
        let mut error = Self::about(Reason::Invalid, message, group, kind, name);
        error.details["causes"] = errors
            .iter()
            .map(|e| json!({ "reason": e.reason, "message": e.message, "field": e.field }))
            .collect();
        error
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(Reason::Expired, message)
    }

    pub(crate) fn too_large_version(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let cause = json!({ "reason": "ResourceVersionTooLarge",
            "message": "Too large resource version" });
        Self {
            details: json!({ "causes": [cause], "retryAfterSeconds": 1 }),
            retry_after: Some(1),
            ..Self::new(Reason::Timeout, message)
        }
    }

    pub(crate) fn too_many_requests(message: impl Into<String>, seconds: u64) -> Self {
        let mut error = Self::new(Reason::TooManyRequests, message);
        error.details = json!({});
        if seconds > 0 {
            error.details["retryAfterSeconds"] = json!(seconds);
            error.retry_after = Some(seconds);
        }
        error
    }

    /// The `Status` object of the answer's body.
    pub fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.reason.code(),
        });
        let reason = self.reason.name();
        if !reason.is_empty() {
            body["reason"] = json!(reason);
        }
        if !self.details.is_null() {
            body["details"] = self.details.clone();
        }
        body
    }
}

fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}
