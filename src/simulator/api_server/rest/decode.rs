//! From a request body to an object in its storage form.

use super::super::events;
use super::super::kinds::Kind;
use super::super::schema::normalise;
use super::super::status::ApiError;
use super::super::{admission, crd};
use super::query::FieldValidation;
use serde_json::{Value, json};

/// Decodes `body` as an object of `kind`; returns it with the warnings to tell.
pub(super) fn decode(
    kind: &Kind,
    mut body: Value,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), ApiError> {
    check_identity(kind, &mut body)?;
    let mut unknown = Vec::new();
    let failed = |why: String| {
        let (version, name) = (kind.api_version(), &kind.kind);
        let version = version.rsplit('/').next().unwrap_or("").to_owned();
        ApiError::bad_request(format!(
            "{name} in version {version:?} cannot be handled as a {name}: {why}"
        ))
    };
    if let Some(custom) = &kind.custom {
        let mut metadata = body["metadata"].take();
        if metadata.is_null() {
            metadata = json!({});
        }
        normalise("meta.ObjectMeta", &mut metadata, &mut unknown).map_err(failed)?;
        body["metadata"] = metadata;
        crd::prune_and_default(&custom.schema, &mut body, "", &mut unknown);
    } else {
        let type_name = if kind.is_new_event() { "events.Event" } else { &kind.type_name };
        normalise(type_name, &mut body, &mut unknown).map_err(failed)?;
        if kind.is_new_event() {
            events::to_stored(&mut body);
        }
        admission::set_defaults(kind, &mut body);
    }
    unknown.sort();
    let told: Vec<_> = unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
    match validation {
        FieldValidation::Strict if !told.is_empty() => {
            Err(failed(format!("strict decoding error: {}", told.join(", "))))
        }
        FieldValidation::Warn => Ok((body, told)),
        _ => Ok((body, Vec::new())),
    }
}

fn check_identity(kind: &Kind, body: &mut Value) -> Result<(), ApiError> {
    let Some(map) = body.as_object_mut() else {
        return Err(ApiError::bad_request(
            "couldn't get version/kind; json parse error: the body \
            is not an object",
        ));
    };
    let expected = kind.api_version();
    let version = map.get("apiVersion").and_then(Value::as_str).unwrap_or("").to_owned();
    if !version.is_empty() && version != expected {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version \
             ({expected})"
        )));
    }
    let name = map.get("kind").and_then(Value::as_str).unwrap_or("").to_owned();
    if kind.custom.is_some() {
        if name.is_empty() {
            return Err(ApiError::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): Object 'Kind' is \
                 missing in '{body}'",
                kind.kind
            )));
        }
        // a wrong one is found by the validation
        map.insert("apiVersion".into(), json!(expected));
        return Ok(());
    }
    if !name.is_empty() && name != kind.kind {
        let short = &kind.version;
        return Err(ApiError::bad_request(format!(
            "{name} in version {short:?} cannot be handled as a {}: converting (v1.{name}) to \
             (v1.{}): unknown conversion",
            kind.kind, kind.kind
        )));
    }
    map.insert("apiVersion".into(), json!(expected));
    map.insert("kind".into(), json!(kind.kind));
    Ok(())
}
