//! Reviews: kinds that are asked and not kept. Everyone may do everything here.

use super::{Api, Target, Written};
use serde_json::{Value, json};

impl Api {
    pub(super) fn answer_virtual(&self, target: &Target, mut body: Value) -> Written {
        let user = json!({ "username": "admin", "groups": ["system:masters"] });
        body["apiVersion"] = json!(target.kind.api_version());
        body["kind"] = json!(target.kind.kind);
        if body["metadata"].is_null() {
            body["metadata"] = json!({});
        }
        body["status"] = match target.kind.resource.as_str() {
            "tokenreviews" => json!({ "authenticated": true, "user": user }),
            "selfsubjectreviews" => json!({ "userInfo": user }),
            "selfsubjectrulesreviews" => json!({
                "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }],
                "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
                "incomplete": false,
            }),
            _ => json!({ "allowed": true }),
        };
        Written { code: 201, body, warnings: Vec::new() }
    }
}
