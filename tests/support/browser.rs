//! A real Chromium without a window, told what to do through pipes (the Chrome DevTools Protocol).

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Names under which distributions install it.
const NAMES: [&str; 5] = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
];

/// `MSS_CHROMIUM`, or the first of the known names on the path.
fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("MSS_CHROMIUM") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let tries = NAMES.iter().flat_map(|name| folders.iter().map(move |f| f.join(name)));
    tries.into_iter().find(|program| program.exists())
}

/// One page of a running browser.
pub(crate) struct Browser {
    child: Child,
    /// `None` once it is told to end
    commands: Option<ChildStdin>,
    answers: mpsc::Receiver<Value>,
    serial: u64,
    session: Value,
    /// what the page did, as the browser told it
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// A browser with an empty page. Where there is none this says so and returns `None`; with
    /// `CI=true` that is a panic.
    pub(crate) fn start() -> Option<Self> {
        let Some(program) = program() else {
            let reason = "no Chromium on this machine; install chromium-headless-shell or chromium, \
                          or name the program in MSS_CHROMIUM";
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!ci, "pictures of pages must not be skipped with CI=true: {reason}");
            eprintln!("SKIPPED pictures of pages: {reason}");
            return None;
        };
        let profile = tempfile::tempdir().expect("a folder");
        // it reads commands from descriptor 3 and answers on 4
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#])
            .arg(&program)
            // without a sandbox it also starts for root; the pages are our own
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--disable-quic", "--disable-dev-shm-usage"])
            .args(["--hide-scrollbars", "--force-color-profile=srgb"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let commands = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for message in stdout.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("it speaks JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            commands,
            answers,
            serial: 0,
            session: Value::Null,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.ask("Target.createTarget", &json!({ "url": "about:blank" }));
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.ask("Target.attachToTarget", &target)["sessionId"].clone();
        for domain in ["Page", "Network", "Runtime", "Log"] {
            browser.ask(&format!("{domain}.enable"), &json!({}));
        }
        Some(browser)
    }

    /// Gives a command and waits for its result.
    ///
    /// # Panics
    /// If the browser refuses it or does not answer.
    pub(crate) fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.serial += 1;
        let mut command = json!({ "id": self.serial, "method": method, "params": parameters });
        if !self.session.is_null() {
            command["sessionId"] = self.session.clone();
        }
        let pipe = self.commands.as_mut().expect("it runs");
        let sent = pipe.write_all(format!("{command}\0").as_bytes());
        sent.unwrap_or_else(|error| panic!("the browser has ended before {method}: {error}"));
        let begun = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let message = self.answers.recv_timeout(left);
            let message = message.unwrap_or_else(|_| panic!("the browser does not do {method}"));
            if message["id"] == self.serial {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    /// Opens a file and waits until all of it is there. What it asked for or complained about
    /// before is forgotten.
    pub(crate) fn open(&mut self, page: &Path) {
        self.events.clear();
        let page = page.canonicalize().expect("it exists");
        let url = format!("file://{}", page.display());
        let went = self.ask("Page.navigate", &json!({ "url": url }));
        assert!(went["errorText"].is_null(), "{url}: {}", went["errorText"]);
        let begun = Instant::now();
        while !self.saw("Page.loadEventFired") {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let event = self.answers.recv_timeout(left);
            self.events.push(event.unwrap_or_else(|_| panic!("{url} does not load")));
        }
    }

    fn saw(&self, method: &str) -> bool {
        self.events.iter().any(|event| event["method"] == method)
    }

    /// The value of an expression in the page; promises are waited for.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let asked = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
        });
        let answer = self.ask("Runtime.evaluate", &asked);
        assert!(answer["exceptionDetails"].is_null(), "{}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// What the page asked for besides itself, and what it complained about.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let complaint = |event: &Value| {
            let told = &event["params"];
            match event["method"].as_str()? {
                "Network.requestWillBeSent" => {
                    let is_page = told["requestId"] == told["loaderId"];
                    (!is_page).then(|| format!("asks for {}", told["request"]["url"]))
                }
                "Log.entryAdded" => Some(format!("logs {}", told["entry"]["text"])),
                "Runtime.consoleAPICalled" => Some(format!("logs {}", told["args"])),
                "Runtime.exceptionThrown" => Some(format!("throws {}", told["exceptionDetails"])),
                _ => None,
            }
        };
        self.events.iter().filter_map(complaint).collect()
    }

    /// A part of the page, in its own coordinates, as a PNG in base64.
    pub(crate) fn picture(&mut self, part: &Value) -> String {
        let mut clip = part.clone();
        clip["scale"] = json!(1);
        let asked = json!({ "format": "png", "clip": clip, "captureBeyondViewport": true });
        let answer = self.ask("Page.captureScreenshot", &asked);
        answer["data"].as_str().expect("base64").to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // it ends when nobody can tell it anything any more; its children with it
        self.commands = None;
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > Duration::from_secs(5) {
                self.child.kill().ok();
                self.child.wait().ok();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
