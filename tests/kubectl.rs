//! The kubectl of this machine against the embedded API server, with fake kubelets.

use futures::StreamExt;
use mss_scheduler::simulator::api_server::{ApiServer, Handle, Options};
use mss_scheduler::simulator::kubelet::{Fleet, FleetOptions, NodeShape, create_nodes};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The newest kubectl programs of this machine; the one built for the tests comes first.
fn kubectls() -> Vec<PathBuf> {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control_plane/build.sh");
    let built = build.exists().then(|| Command::new(build).output().ok()).flatten();
    let built = built.filter(|o| o.status.success()).and_then(|o| {
        let text = String::from_utf8(o.stdout).ok()?;
        Some(PathBuf::from(text.lines().last()?).join("kubectl"))
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let plain = folders.iter().map(|f| f.join("kubectl"));
    let named =
        folders.iter().flat_map(|f| (29..40).map(move |v| f.join(format!("kubectl.1.{v}"))));
    let extra =
        (29..40).map(|v| PathBuf::from(format!("/usr/lib/google-cloud-sdk/bin/kubectl.1.{v}")));
    built.into_iter().chain(plain).chain(named).chain(extra).filter(|p| p.exists()).collect()
}

/// One kubectl at one server, and a folder for manifests.
struct Kubectl {
    program: PathBuf,
    url: String,
    folder: tempfile::TempDir,
}

impl Kubectl {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["--server", &self.url, "--cache-dir"])
            .arg(self.folder.path().join("cache"))
            .args(arguments)
            .env("KUBECONFIG", "/dev/null");
        command
    }

    fn output(&self, arguments: &[&str]) -> (bool, String, String) {
        let Output { status, stdout, stderr } =
            self.command(arguments).output().expect("kubectl starts");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (status.success(), text(&stdout), text(&stderr))
    }

    /// What a command that works prints.
    fn run(&self, arguments: &[&str]) -> String {
        let (success, text, error) = self.output(arguments);
        assert!(success, "{:?} {arguments:?}: {text}{error}", self.program);
        text
    }

    /// What a command that fails says.
    fn fails(&self, arguments: &[&str]) -> String {
        let (success, text, error) = self.output(arguments);
        assert!(!success, "{:?} {arguments:?} succeeds: {text}{error}", self.program);
        error
    }

    /// Runs a command that must print all of `words`.
    fn shows(&self, arguments: &[&str], words: &[&str]) {
        let text = self.run(arguments);
        for word in words {
            assert!(text.contains(word), "{arguments:?} without {word:?}:\n{text}");
        }
    }

    fn file(&self, name: &str, object: &Value) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, object.to_string()).expect("writable");
        path.to_string_lossy().into_owned()
    }

    /// Binds a pod, as a scheduler would, and waits until its kubelet runs it.
    fn start_pod(&self, name: &str, node: &str) {
        let bind = json!({ "apiVersion": "v1", "kind": "Binding",
            "metadata": { "name": name, "namespace": "default" },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node } });
        let path = format!("/api/v1/namespaces/default/pods/{name}/binding");
        self.run(&["create", "--raw", &path, "-f", &self.file("bind.json", &bind)]);
        self.shows(
            &["wait", "--for=condition=Ready", "pod", name, "--timeout=20s"],
            &["condition met"],
        );
    }
}

fn pod(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "main", "image": "busybox",
            "resources": { "limits": { "nvidia.com/gpu": "1" } } }] } })
}

/// A running `get -w`: the lines that it prints.
struct Watching {
    child: std::process::Child,
    lines: mpsc::Receiver<String>,
}

impl Watching {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("kubectl starts");
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn sees(&self, words: &[&str]) {
        let fits = |line: &str| words.iter().all(|word| line.contains(word));
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(20));
            let line = line.unwrap_or_else(|_| panic!("the watch shows no line of {words:?}"));
            if fits(&line) {
                return;
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn start() -> Handle {
    rustls::crypto::ring::default_provider().install_default().ok();
    ApiServer::start(Options::default()).await.expect("a free loopback port")
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works() {
    let programs = kubectls();
    if programs.is_empty() {
        println!("SKIPPED: no kubectl on this machine, so none was tried");
        assert!(std::env::var_os("CI").is_none(), "with CI set nothing may be skipped");
        return;
    }
    // they mostly wait
    let stories = futures::stream::iter(programs.into_iter().map(begin));
    stories.for_each_concurrent(AT_ONCE, |story| story).await;
}

/// Kubectl programs tried at once.
const AT_ONCE: usize = 4;

/// A cluster of two nodes for one kubectl.
async fn begin(program: PathBuf) {
    let server = start().await;
    create_nodes(&server.client(), 2, &NodeShape::default()).await.expect("creates nodes");
    let fleet = Fleet::start(server.client(), FleetOptions::default());
    let folder = tempfile::tempdir().expect("a folder");
    let kubectl = Kubectl { program, url: server.url(), folder };
    tokio::task::spawn_blocking(move || story(&kubectl)).await.expect("the story holds");
    drop(fleet);
    tokio::time::timeout(Duration::from_secs(5), server.stop()).await.expect("stops");
}

/// What people do, with one kubectl.
fn story(kubectl: &Kubectl) {
    println!("{}", kubectl.run(&["version"]).lines().next().unwrap_or(""));
    manifests(kubectl);
    pods(kubectl);
    nodes(kubectl);
    server_side_apply(kubectl);
    drain(kubectl);
    leftovers(kubectl);
}

/// Apply, and apply again.
fn manifests(kubectl: &Kubectl) {
    let mut manifest = pod("a");
    let created = kubectl.run(&["apply", "-f", &kubectl.file("pod.json", &manifest)]);
    assert!(created.contains("created"), "{created}");
    manifest["metadata"]["labels"] = json!({ "tier": "gold", "app": "x" });
    manifest["spec"]["containers"][0]["image"] = json!("busybox:2");
    let file = kubectl.file("pod.json", &manifest);
    kubectl.shows(&["apply", "-f", &file], &["configured"]);
    kubectl.shows(&["apply", "-f", &file], &["unchanged"]);
    manifest["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = json!("2");
    let refused = kubectl.fails(&["apply", "-f", &kubectl.file("more.json", &manifest)]);
    assert!(refused.contains("pod updates may not change fields"), "{refused}");
}

fn pods(kubectl: &Kubectl) {
    let watching = Watching::start(kubectl.command(&["get", "pods", "-w"]));
    watching.sees(&["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    watching.sees(&["a ", "0/1", "Pending"]);
    kubectl.start_pod("a", "node-0000");
    watching.sees(&["a ", "1/1", "Running"]);
    kubectl.run(&["apply", "-f", &kubectl.file("w.json", &pod("w"))]);
    watching.sees(&["w ", "Pending"]);
    kubectl.run(&["delete", "pod", "w"]);
    drop(watching);
    kubectl.shows(&["get", "pods", "-o", "wide"], &["NOMINATED NODE", "node-0000", "Running"]);
    kubectl.shows(&["get", "pods", "-l", "tier in (gold)"], &["Running"]);
    kubectl.shows(&["get", "pods", "--field-selector", "spec.nodeName=node-0000"], &["Running"]);
    kubectl.shows(&["describe", "pod", "a"], &["busybox:2", "node-0000", "Running", "gold"]);
    kubectl.shows(&["label", "pod", "a", "x=y"], &["labeled"]);
    let refused = kubectl.fails(&["label", "pod", "a", "x=z"]);
    assert!(refused.contains("already has a value"), "{refused}");
    kubectl.run(&["label", "pod", "a", "x-"]);
    kubectl.shows(&["get", "pods", "--show-labels"], &["app=x,tier=gold"]);
    kubectl.shows(&["annotate", "pod", "a", "k=v"], &["annotated"]);
    assert_eq!(kubectl.run(&["get", "pod", "a", "-o", "jsonpath={.metadata.annotations.k}"]), "v");
    kubectl.shows(&["explain", "pod.spec"], &["FIELDS", "nodeSelector", "schedulingGates"]);
}

fn nodes(kubectl: &Kubectl) {
    let wide = ["INTERNAL-IP", "CONTAINER-RUNTIME", "node-0000", "Ready", "fake"];
    kubectl.shows(&["get", "nodes", "-o", "wide"], &wide);
    kubectl.shows(&["cordon", "node-0001"], &["cordoned"]);
    kubectl.shows(&["cordon", "node-0001"], &["already cordoned"]);
    kubectl.shows(&["get", "node", "node-0001"], &["Ready,SchedulingDisabled"]);
    kubectl.shows(&["describe", "node", "node-0001"], &["Unschedulable:      true"]);
    kubectl.shows(&["uncordon", "node-0001"], &["uncordoned"]);
    kubectl.shows(&["describe", "node", "node-0001"], &["Unschedulable:      false"]);
    kubectl.shows(&["taint", "node", "node-0001", "k=v:NoSchedule"], &["tainted"]);
    kubectl.shows(&["describe", "node", "node-0001"], &["k=v:NoSchedule"]);
    kubectl.shows(&["taint", "node", "node-0001", "k-"], &["untainted"]);
    kubectl.shows(&["label", "node", "node-0001", "zone=z"], &["labeled"]);
}

fn server_side_apply(kubectl: &Kubectl) {
    let map = |value: &str| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" },
            "data": { "a": value } })
    };
    let file = kubectl.file("map.json", &map("1"));
    let other = kubectl.file("other.json", &map("2"));
    let apply = ["apply", "--server-side", "-f"];
    kubectl.shows(&[&apply[..], &[&file]].concat(), &["serverside-applied"]);
    kubectl.shows(&[&apply[..], &[&file]].concat(), &["serverside-applied"]);
    let theirs = [&apply[..], &[&other, "--field-manager=other"]].concat();
    let refused = kubectl.fails(&theirs);
    assert!(refused.contains("conflict with \"kubectl\": .data.a"), "{refused}");
    kubectl.shows(&[&theirs[..], &["--force-conflicts"]].concat(), &["serverside-applied"]);
    assert_eq!(kubectl.run(&["get", "configmap", "m", "-o", "jsonpath={.data.a}"]), "2");
    assert!(kubectl.fails(&[&apply[..], &[&file]].concat()).contains("conflict with \"other\""));
}

/// A drain is refused for as long as the budget forbids it.
fn drain(kubectl: &Kubectl) {
    let budget = ["create", "pdb", "b", "--selector=app=x", "--min-available=1"];
    kubectl.run(&budget);
    kubectl.shows(&["get", "pdb"], &["ALLOWED DISRUPTIONS", "N/A"]);
    let drain = ["drain", "node-0000", "--force", "--ignore-daemonsets"];
    let refused = kubectl.fails(&[&drain[..], &["--timeout=2s"]].concat());
    assert!(refused.contains("would violate the pod's disruption budget"), "{refused}");
    kubectl.shows(&["get", "pod", "a"], &["Running"]);
    kubectl.shows(&["get", "node", "node-0000"], &["SchedulingDisabled"]);
    let mut second = pod("b");
    second["metadata"]["labels"] = json!({ "app": "x" });
    kubectl.run(&["apply", "-f", &kubectl.file("second.json", &second)]);
    kubectl.start_pod("b", "node-0001");
    kubectl.shows(&[&drain[..], &["--timeout=30s"]].concat(), &["evicting pod", "drained"]);
    let gone = kubectl.fails(&["get", "pod", "a"]);
    assert!(gone.contains("pods \"a\" not found"), "{gone}");
    kubectl.shows(&["get", "pod", "b"], &["Running"]);
    kubectl.shows(&["uncordon", "node-0000"], &["uncordoned"]);
}

fn leftovers(kubectl: &Kubectl) {
    kubectl.run(&["create", "namespace", "extra"]);
    kubectl.shows(&["get", "ns"], &["extra"]);
    kubectl.run(&["delete", "namespace", "extra"]);
    kubectl.run(&["apply", "-f", &kubectl.file("c.json", &pod("c"))]);
    kubectl.shows(&["delete", "pods", "-l", "app=x"], &["pod \"b\" deleted"]);
    let left = kubectl.run(&["get", "pods"]);
    assert!(left.contains("c ") && !left.contains("b "), "{left}");
    kubectl.run(&["delete", "pod", "c", "--grace-period=0", "--force"]);
    kubectl.run(&["delete", "pods", "--all"]);
    assert!(!kubectl.run(&["get", "pods"]).contains("Running"));
}
