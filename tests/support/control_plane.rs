//! A real kube-apiserver and etcd on loopback, with throw-away data.

use super::audit;
use super::children::Process;
pub(crate) use super::servers::{Options, User};
use super::servers::{api_server_command, etcd_command, free_ports, write_tokens};
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A running pair of servers. Dropping it kills both and removes their data.
pub(crate) struct ControlPlane {
    binaries: PathBuf,
    folder: PathBuf,
    url: String,
    // dropped in this order: the API server goes before its store
    api_server: Process,
    etcd: Process,
}

/// The folder with the programs, building them when they are missing. Where Go is not installed
/// it says so and returns `None`; with `CI=true` that is a panic.
pub(crate) fn required() -> Option<PathBuf> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOUND.get_or_init(programs) {
        Ok(folder) => Some(folder.clone()),
        Err(reason) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
            panic!("real-API tests must not be skipped with CI=true: {reason}")
        }
        Err(reason) => {
            eprintln!("SKIPPED real-API tests: {reason}");
            None
        }
    }
}

/// Asks `build.sh`. Only a missing Go is a reason to skip; a failed build is a failure.
fn programs() -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control_plane/build.sh");
    let output = Command::new(&script)
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("running {} failed: {error}", script.display()));
    match output.status.code() {
        Some(0) => {
            let text = String::from_utf8_lossy(&output.stdout);
            Ok(PathBuf::from(text.lines().last().expect("the script prints a folder")))
        }
        Some(3) => Err("go is not installed; install Go 1.26 or newer, or point \
                        KUBEBUILDER_ASSETS at a folder with the programs"
            .into()),
        _ => panic!("{} failed ({}); its output says why", script.display(), output.status),
    }
}

impl ControlPlane {
    /// Starts both servers; `None` where they cannot be had, see [`required`].
    pub(crate) async fn start() -> Option<ControlPlane> {
        Self::start_with(Options::default()).await
    }

    pub(crate) async fn start_with(options: Options) -> Option<ControlPlane> {
        let binaries = required()?;
        // kube and the proxy are built without a default crypto provider
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut attempt = 1;
        loop {
            match Self::launch(binaries.clone(), &options).await {
                Ok(running) => return Some(running),
                // a port that was free may be taken before the server has it
                Err(error) if attempt < 3 => eprintln!("control plane: {error}; trying again"),
                Err(error) => panic!("starting the control plane failed: {error}"),
            }
            attempt += 1;
        }
    }

    async fn launch(binaries: PathBuf, options: &Options) -> Result<ControlPlane, String> {
        let folder = data_folder().map_err(|error| format!("creating a data folder: {error}"))?;
        let [client, peer, secure] = free_ports();
        let failed =
            |what: &'static str| move |error: io::Error| format!("starting {what}: {error}");

        let command = etcd_command(&binaries, &folder, client, peer, options);
        let etcd =
            Process::start("etcd", command, folder.join("etcd.log")).map_err(failed("etcd"))?;

        write_tokens(&folder).map_err(failed("kube-apiserver"))?;
        audit::write_policy(&folder).map_err(failed("kube-apiserver"))?;
        let command = api_server_command(&binaries, &folder, client, secure, options);
        let api_server = Process::start("kube-apiserver", command, folder.join("apiserver.log"))
            .map_err(failed("kube-apiserver"))?;

        let url = format!("https://127.0.0.1:{secure}");
        let mut running = ControlPlane { binaries, folder, url, api_server, etcd };
        running.wait_ready(Duration::from_secs(90)).await?;
        Ok(running)
    }

    async fn wait_ready(&mut self, within: Duration) -> Result<(), String> {
        let deadline = Instant::now() + within;
        loop {
            if self.is_ready().await {
                return Ok(());
            }
            if let Some(status) = self.api_server.exited() {
                return Err(format!("kube-apiserver ended, {status}\n{}", self.last_words()));
            }
            if Instant::now() > deadline {
                return Err(format!("not ready within {within:?}\n{}", self.last_words()));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn is_ready(&self) -> bool {
        // the certificate is made by the server, so there is nothing to trust before it is up
        if !self.certificate().is_file() {
            return false;
        }
        let request = http::Request::get("/readyz").body(Vec::new()).expect("a valid request");
        self.client(User::Admin).await.request_text(request).await.is_ok()
    }

    fn last_words(&self) -> String {
        format!("{}\n{}", self.api_server.last_words(), self.etcd.last_words())
    }

    /// `https://127.0.0.1:port`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The certificate of the server together with the authority that signed it.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("certificates/apiserver.crt")
    }

    /// A folder that goes away with the servers.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn kubectl(&self) -> PathBuf {
        self.binaries.join("kubectl")
    }

    pub(crate) fn kube_scheduler(&self) -> PathBuf {
        self.binaries.join("kube-scheduler")
    }

    /// A kubeconfig file for `user`.
    pub(crate) fn kubeconfig(&self, user: User) -> PathBuf {
        self.kubeconfig_via(user, &self.url)
    }

    /// A kubeconfig file for `user` that reaches the server by another address, such as a proxy's.
    pub(crate) fn kubeconfig_via(&self, user: User, url: &str) -> PathBuf {
        let port = url.rsplit(':').next().expect("a url ends in a port");
        let path = self.folder.join(format!("{}-{port}.kubeconfig", user.slug()));
        let authority = match url.starts_with("https") {
            true => format!("    certificate-authority: {}\n", self.certificate().display()),
            false => String::new(),
        };
        let token = self.token(user);
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             contexts:\n- name: test\n  context: {{cluster: test, user: test}}\n\
             clusters:\n- name: test\n  cluster:\n    server: {url}\n{authority}\
             users:\n- name: test\n  user:\n    token: {token}\n"
        );
        // written aside and renamed: another process may be reading the file of the same name
        let aside = path.with_extension(format!("{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(&aside, text).expect("the data folder is writable");
        std::fs::rename(&aside, &path).expect("the data folder is writable");
        path
    }

    fn token(&self, user: User) -> String {
        std::fs::read_to_string(self.folder.join(user.slug())).expect("each user has a token")
    }

    /// A client that belongs to the calling test's async runtime.
    pub(crate) async fn client(&self, user: User) -> kube::Client {
        self.client_via(user, &self.url).await
    }

    /// A client that reaches the server by another address, such as a proxy's.
    pub(crate) async fn client_via(&self, user: User, url: &str) -> kube::Client {
        let path = self.kubeconfig_via(user, url);
        let file = Kubeconfig::read_from(path).expect("a valid kubeconfig");
        let options = KubeConfigOptions::default();
        let mut config =
            kube::Config::from_custom_kubeconfig(file, &options).await.expect("a valid kubeconfig");
        // a test sees each answer as it was given
        config.default_retry = false;
        kube::Client::try_from(config).expect("a client can be made of a valid configuration")
    }

    /// Runs kubectl as the administrator and returns what it printed.
    pub(crate) fn run_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(self.kubectl())
            .arg("--kubeconfig")
            .arg(self.kubeconfig(User::Admin))
            .args(arguments)
            .env("HOME", &self.folder)
            .output()
            .map_err(|error| format!("running kubectl: {error}"))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.api_server.kill();
        self.etcd.kill();
        // kept when a test fails: the logs may say why
        if !std::thread::panicking() {
            std::fs::remove_dir_all(&self.folder).ok();
        }
    }
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A new folder named by this process, after removing those of processes that are gone.
fn data_folder() -> io::Result<PathBuf> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("control-planes");
    std::fs::create_dir_all(&root)?;
    for entry in std::fs::read_dir(&root)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.split('-').next().unwrap_or_default();
        if Path::new("/proc").is_dir() && !Path::new("/proc").join(owner).exists() {
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = root.join(format!("{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
