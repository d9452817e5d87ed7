//! One operation sent to both servers, and what must be equal in their answers.

use super::operations::Operation;
use http::{Method, Request, header};
use kube::client::Body;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// More disagreements of a kind are counted, not printed.
const MAX_PRINTED: usize = 5;

/// Fields that differ by nature.
const NATURAL: [&str; 8] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
    "lastTransitionTime",
    "continue",
    "disruptedPods",
];

/// Both servers, and what was compared of them so far.
pub(crate) struct Pair {
    pub(crate) real: kube::Client,
    pub(crate) ours: kube::Client,
    /// Comparisons by what was done.
    pub(crate) counts: BTreeMap<&'static str, usize>,
    /// Successes of the real server among them.
    pub(crate) successes: BTreeMap<&'static str, usize>,
    /// Disagreements by what was done.
    pub(crate) apart: BTreeMap<&'static str, usize>,
}

impl Pair {
    pub(crate) fn new(real: kube::Client, ours: kube::Client) -> Self {
        let (counts, successes, apart) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { real, ours, counts, successes, apart }
    }

    /// Sends an operation to both and compares the answers; returns the real one's.
    pub(crate) async fn both(&mut self, place: &str, operation: &Operation) -> Value {
        let theirs = ask(&self.real, operation).await;
        let mine = ask(&self.ours, operation).await;
        *self.counts.entry(operation.label).or_default() += 1;
        *self.successes.entry(operation.label).or_default() +=
            usize::from(theirs["error"].is_null());
        self.judge(operation.label, &format!("{place}: {operation:?}"), &theirs, &mine);
        theirs
    }

    fn judge(&mut self, label: &'static str, what: &str, theirs: &Value, mine: &Value) {
        if theirs == mine {
            return;
        }
        let apart = self.apart.entry(label).or_default();
        *apart += 1;
        if *apart <= MAX_PRINTED {
            println!("{what}\n  real:     {theirs}\n  embedded: {mine}");
        }
    }

    /// Sends an operation to both without comparing.
    pub(crate) async fn prepare(&self, operation: &Operation) {
        ask(&self.real, operation).await;
        ask(&self.ours, operation).await;
    }

    /// The versions of a collection, of the real server and of the embedded one.
    pub(crate) async fn versions(&self, collection: &str) -> [String; 2] {
        [version_of(&self.real, collection).await, version_of(&self.ours, collection).await]
    }

    /// Runs watches on both servers, all at once, and compares their events.
    pub(crate) async fn watches(&mut self, watches: &[Watch]) {
        let both = watches.iter().map(|watch| {
            let [real, ours] = &watch.begin;
            let (real, ours) = (watch.path(real), watch.path(ours));
            futures::future::join(watched(&self.real, real), watched(&self.ours, ours))
        });
        let answers = futures::future::join_all(both).await;
        for (watch, (theirs, mine)) in watches.iter().zip(answers) {
            let (theirs, mine) = match watch.initial {
                true => (until_end(&theirs), until_end(&mine)),
                false => (theirs, mine),
            };
            self.streams(watch.label, &watch.path("..."), &theirs, &mine);
        }
    }

    fn streams(&mut self, label: &'static str, what: &str, theirs: &[Value], mine: &[Value]) {
        *self.counts.entry(label).or_default() += theirs.len();
        *self.successes.entry(label).or_default() += theirs.len();
        if theirs.len() != mine.len() {
            let what = format!("{what}: {}/{} events", theirs.len(), mine.len());
            let kinds = |events: &[Value]| {
                events
                    .iter()
                    .map(|e| format!("{} {}", e["type"], e["object"]["metadata"]["name"]))
                    .collect::<Vec<_>>()
            };
            self.judge(label, &what, &json!(kinds(theirs)), &json!(kinds(mine)));
            return;
        }
        for (theirs, mine) in theirs.iter().zip(mine) {
            self.judge(label, what, theirs, mine);
        }
    }
}

/// One watch, of each server since its own version.
pub(crate) struct Watch {
    label: &'static str,
    collection: String,
    query: String,
    begin: [String; 2],
    initial: bool,
}

impl Watch {
    pub(crate) fn since(
        label: &'static str,
        begin: &[String; 2],
        collection: &str,
        query: &str,
    ) -> Self {
        let (collection, query) = (collection.to_owned(), query.to_owned());
        Self { label, collection, query, begin: begin.clone(), initial: false }
    }

    /// Begins with the present state, and is compared until the bookmark that ends it, by type
    /// and name.
    pub(crate) fn initial(label: &'static str, collection: &str) -> Self {
        let query = "sendInitialEvents=true&allowWatchBookmarks=true\
            &resourceVersionMatch=NotOlderThan";
        let begin = [String::new(), String::new()];
        Self { initial: true, ..Self::since(label, &begin, collection, query) }
    }

    fn path(&self, version: &str) -> String {
        let (collection, query) = (&self.collection, &self.query);
        format!("{collection}?watch=true&timeoutSeconds=1&resourceVersion={version}&{query}")
    }
}

const END: &str = "k8s.io/initial-events-end";

fn until_end(events: &[Value]) -> Vec<Value> {
    let end = |e: &Value| e["object"]["metadata"]["annotations"][END] == "true";
    let at = events.iter().position(end).expect("the bookmark after the initial events");
    let named = events[..=at].iter().map(|event| {
        let object = &event["object"];
        json!([event["type"], object["kind"], object["metadata"]["name"]])
    });
    named.collect()
}

async fn send(client: &kube::Client, request: Request<Vec<u8>>) -> (Value, Vec<String>, u16) {
    let path = request.uri().to_string();
    let response = client.send(request.map(Body::from)).await;
    let response = response.unwrap_or_else(|error| panic!("{path}: {error}"));
    let code = response.status().as_u16();
    let warnings = response.headers().get_all(header::WARNING).iter();
    let warnings = warnings.map(|w| w.to_str().unwrap_or("").to_owned()).collect();
    let bytes = response.into_body().collect_bytes().await.expect("a whole answer");
    (serde_json::from_slice(&bytes).unwrap_or(Value::Null), warnings, code)
}

/// Sends one operation; returns what is to be equal in the answer.
pub(crate) async fn ask(client: &kube::Client, operation: &Operation) -> Value {
    let mut body = operation.body.clone();
    let path = operation.path.split('?').next().unwrap_or("");
    if operation.onto_current {
        let get = Request::get(path).body(Vec::new()).expect("a valid request");
        let (current, _, code) = send(client, get).await;
        if code == 200 {
            body = current;
            merge(&mut body, &operation.body);
        }
    }
    let body = match &body {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    };
    let request = Request::builder()
        .method(operation.method.clone())
        .uri(&operation.path)
        .header("content-type", operation.content_type)
        .header("accept", operation.accept)
        .body(body)
        .expect("a valid request");
    let (mut answer, warnings, code) = send(client, request).await;
    if code >= 400 {
        return refusal(&answer, code);
    }
    natural(&mut answer);
    if answer["kind"] == "Table" {
        mask_ages(&mut answer);
    }
    if operation.method == Method::GET {
        return answer;
    }
    json!({ "code": code, "warnings": warnings, "answer": answer })
}

fn refusal(status: &Value, code: u16) -> Value {
    let details = &status["details"];
    let text = |value: &Value| first_line(value.as_str().unwrap_or(""));
    let causes = details["causes"].as_array().into_iter().flatten().map(|cause| {
        json!({ "reason": cause["reason"], "field": cause["field"],
            "message": text(&cause["message"]) })
    });
    // upstream walks maps in random order, so several causes come in any order
    let mut causes: Vec<_> = causes.collect();
    causes.sort_by_key(Value::to_string);
    let message = text(&status["message"]);
    let message = message.split(" is invalid: [").next().unwrap_or("");
    json!({ "error": code, "reason": status["reason"], "message": message,
        "name": details["name"], "kind": details["kind"], "group": details["group"],
        "retryAfter": details["retryAfterSeconds"], "causes": causes })
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().map(|map| map.remove(key));
        } else {
            merge(&mut target[key], value);
        }
    }
}

/// Upstream appends a Go-syntax difference to some messages, and names versions in others.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or("");
    let line = line.split(" does not match the ").next().unwrap_or("");
    let line = line.split(" is missing in '").next().unwrap_or("");
    let line = line.split("UID in object meta").next().unwrap_or("");
    // keys of etcd
    match (line.split_once("StorageError: "), line.split_once("AdditionalErrorMsg: ")) {
        (Some((what, _)), Some((_, why))) => format!("{what}{why}"),
        _ => line.to_owned(),
    }
}

fn natural(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| {
                !NATURAL.contains(&key.as_str()) && !key.ends_with("controller-uid")
            });
            map.values_mut().for_each(natural);
        }
        Value::Array(items) => items.iter_mut().for_each(natural),
        _ => {}
    }
}

/// Ages depend on the clock, and descriptions of columns are not kept.
fn mask_ages(table: &mut Value) {
    let columns = table["columnDefinitions"].as_array_mut().into_iter().flatten();
    let mut ages = Vec::new();
    for (index, column) in columns.enumerate() {
        if column["name"] == "Age" {
            ages.push(index);
        }
        column["description"] = Value::Null;
    }
    for row in table["rows"].as_array_mut().into_iter().flatten() {
        for age in &ages {
            row["cells"][*age] = Value::Null;
        }
    }
}

async fn watched(client: &kube::Client, path: String) -> Vec<Value> {
    let request = Request::get(path).body(Vec::new()).expect("a valid request");
    let text = client.request_text(request).await.expect("a watch that ends");
    let lines = text.lines().filter(|line| !line.is_empty());
    let mut events: Vec<Value> =
        lines.map(|line| serde_json::from_str(line).expect("an event")).collect();
    events.iter_mut().for_each(natural);
    events
}

async fn version_of(client: &kube::Client, collection: &str) -> String {
    let request = Request::get(collection).body(Vec::new()).expect("a valid request");
    let list: Value = client.request(request).await.expect("lists");
    list["metadata"]["resourceVersion"].as_str().expect("a version").to_owned()
}
