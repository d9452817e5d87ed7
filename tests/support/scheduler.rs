//! The built scheduler as a process, as a user would run it.

use super::children::Process;
use super::control_plane::{ControlPlane, User};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The lease that the tests' schedulers share.
pub(crate) const LEASE: &str = "mss-scheduler-test";

/// What a test may want different from the defaults of the configuration file.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) lease: Duration,
    pub(crate) renew: Duration,
    pub(crate) retry: Duration,
    /// `spec.schedulerName` of the pods that are served.
    pub(crate) names: Vec<String>,
    /// `--queues`.
    pub(crate) queues: Option<PathBuf>,
    /// More lines of the file.
    pub(crate) more: &'static str,
}

impl Default for Settings {
    /// A lease that a busy machine does not lose.
    fn default() -> Self {
        Settings {
            lease: Duration::from_secs(8),
            renew: Duration::from_secs(5),
            retry: Duration::from_millis(500),
            names: vec![super::objects::SCHEDULER.to_owned()],
            queues: None,
            more: "",
        }
    }
}

impl Settings {
    /// The shortest lease that the configuration allows: a killed leader's successor waits it out.
    pub(crate) fn short_lease() -> Self {
        Settings {
            lease: Duration::from_secs(2),
            renew: Duration::from_millis(1400),
            retry: Duration::from_millis(200),
            ..Settings::default()
        }
    }

    fn file(&self, port: u16) -> String {
        let profiles: Vec<String> =
            self.names.iter().map(|name| format!("- schedulerName: {name}\n")).collect();
        format!(
            "apiVersion: mss-scheduler.io/v1alpha1\nkind: MssSchedulerConfiguration\n\
             leaderElection:\n  resourceName: {LEASE}\n  resourceNamespace: kube-system\n  \
             leaseDuration: {}ms\n  renewDeadline: {}ms\n  retryPeriod: {}ms\n\
             healthBindAddress: 127.0.0.1:{port}\nlimits:\n  leaseMargin: {}ms\n{}profiles:\n{}",
            self.lease.as_millis(),
            self.renew.as_millis(),
            self.retry.as_millis(),
            (self.lease - self.renew).as_millis() / 2,
            self.more,
            profiles.concat()
        )
    }
}

/// A running scheduler; killed when dropped. If the test is failing then, its log is shown.
pub(crate) struct Scheduler {
    pub(crate) process: Process,
    /// Where health and metrics are served.
    pub(crate) port: u16,
    // what to start again with
    kubeconfig: PathBuf,
    settings: Settings,
    folder: PathBuf,
}

impl Scheduler {
    /// Starts the scheduler against the API server itself and waits until it knows the cluster.
    pub(crate) async fn start(servers: &ControlPlane, settings: &Settings) -> Scheduler {
        Self::start_via(servers, servers.url(), settings).await
    }

    /// Starts the scheduler against another address, such as a proxy's.
    pub(crate) async fn start_via(
        servers: &ControlPlane,
        url: &str,
        settings: &Settings,
    ) -> Scheduler {
        let kubeconfig = servers.kubeconfig_via(User::Scheduler, url);
        let folder = servers.folder().to_owned();
        let mut scheduler = Self::launch(kubeconfig, settings.clone(), folder);
        scheduler.wait_ready(Duration::from_secs(30)).await;
        scheduler
    }

    fn launch(kubeconfig: PathBuf, settings: Settings, folder: PathBuf) -> Scheduler {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let [port] = super::servers::free_ports();
        let config = folder.join(format!("scheduler-{number}.yaml"));
        std::fs::write(&config, settings.file(port)).expect("the data folder is writable");
        let mut command = Command::new(env!("CARGO_BIN_EXE_mss-scheduler"));
        command.arg("run").arg("--config").arg(&config).arg("--kubeconfig").arg(&kubeconfig);
        if let Some(queues) = &settings.queues {
            command.arg("--queues").arg(queues);
        }
        let log = folder.join(format!("scheduler-{number}.log"));
        let process =
            Process::start("mss-scheduler", command, log).expect("the built binary can be started");
        Scheduler { process, port, kubeconfig, settings, folder }
    }

    /// Kills this one if it still runs and starts another with the same settings at once.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        let (kubeconfig, folder) = (self.kubeconfig.clone(), self.folder.clone());
        *self = Self::launch(kubeconfig, self.settings.clone(), folder);
    }

    /// Starts it again whenever it ends by itself, as a cluster would. Never returns.
    pub(crate) async fn supervise(&mut self) {
        loop {
            if let Some(status) = self.process.exited() {
                eprintln!("the scheduler ended by itself, {status}; {}", self.process.last_words());
                self.restart();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until `/readyz` answers 200: as leader, or as a standby that knows the cluster.
    pub(crate) async fn wait_ready(&mut self, within: Duration) {
        let deadline = Instant::now() + within;
        while !self.is_ready().await {
            if let Some(status) = self.process.exited() {
                panic!("the scheduler ended, {status}");
            }
            assert!(Instant::now() < deadline, "not ready within {within:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn is_ready(&self) -> bool {
        self.get("/readyz").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// The whole answer of an endpoint; `None`: there was none.
    async fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        stream.write_all(request.as_bytes()).await.ok()?;
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    /// Waits until a metric, by its name and labels as they are written, has a value.
    pub(crate) async fn shows(&self, series: &str, value: f64) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.metric(series).await != Some(value) {
            let found = self.metric(series).await;
            assert!(Instant::now() < deadline, "{series} is {found:?}, not {value}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn metric(&self, series: &str) -> Option<f64> {
        let answer = self.get("/metrics").await?;
        let value = answer.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        value.trim().parse().ok()
    }

    /// Processor time used so far, in user and kernel mode.
    pub(crate) fn processor_time(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.process.id());
        let text = std::fs::read_to_string(path).expect("the scheduler runs on Linux");
        // the name in parentheses may hold spaces; times are the 12th and 13th field after it
        let after = text.rsplit(')').next().expect("split gives at least one part");
        let fields: Vec<&str> = after.split_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<u64>().expect("a number of ticks");
        // Linux reports in hundredths of a second on every architecture
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.process.last_words());
        }
    }
}
