//! The API server's own record of what the scheduler asked of it.

use super::servers::User;
use serde::Deserialize;
use std::io;
use std::path::Path;

/// One request that was answered (or a watch that began).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Request {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` ...
    pub(crate) verb: String,
    pub(crate) group: String,
    /// With the subresource, as RBAC spells it: `pods/binding`.
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) code: u16,
}

impl Request {
    pub(crate) fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    pub(crate) fn is_lease(&self) -> bool {
        self.resource == "leases"
    }
}

/// Only the scheduler is recorded, and only once for each request.
pub(crate) fn write_policy(folder: &Path) -> io::Result<()> {
    let (user, _) = User::Scheduler.identity();
    let policy = format!(
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived, ResponseStarted]\n\
         rules:\n- {{level: Metadata, users: [\"{user}\"]}}\n- {{level: None}}\n"
    );
    std::fs::write(folder.join("audit-policy.yaml"), policy)
}

/// How much is on record; hand it to [`requests`] to leave out what came before.
pub(crate) fn position(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("audit.log")).map_or(0, |file| file.len())
}

/// The requests on record from `position` on, in the order of their ends.
pub(crate) fn requests(folder: &Path, position: u64) -> Vec<Request> {
    let text = std::fs::read(folder.join("audit.log")).unwrap_or_default();
    let start = usize::try_from(position).expect("a log fits in memory").min(text.len());
    // a last line without an end is still being written
    let whole = text[start..].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = text[start..start + whole].split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty()).map(parse).collect()
}

#[derive(Deserialize)]
struct Record {
    verb: String,
    #[serde(rename = "objectRef", default)]
    object: Object,
    #[serde(rename = "responseStatus", default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Object {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
}

fn parse(line: &[u8]) -> Request {
    let record: Record = serde_json::from_slice(line).expect("an audit log line is JSON");
    let resource = match record.object.subresource.as_str() {
        "" => record.object.resource,
        subresource => format!("{}/{subresource}", record.object.resource),
    };
    Request {
        verb: record.verb,
        group: record.object.api_group,
        resource,
        namespace: record.object.namespace,
        name: record.object.name,
        code: record.status.code,
    }
}
