//! How the servers are started: who may ask them, and their flags.

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// Who asks; each has a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// Group `system:masters`: may do everything.
    Admin,
    /// The service account of `manifests/`: may do what the manifests grant once they are applied.
    Scheduler,
    /// Upstream's scheduler, with the rights that the API server gives it by itself.
    KubeScheduler,
}

impl User {
    pub(crate) const ALL: [User; 3] = [User::Admin, User::Scheduler, User::KubeScheduler];

    pub(crate) fn slug(self) -> &'static str {
        match self {
            User::Admin => "admin",
            User::Scheduler => "mss-scheduler",
            User::KubeScheduler => "kube-scheduler",
        }
    }

    /// User name and groups, as the API server's token file wants them.
    pub(crate) fn identity(self) -> (&'static str, &'static str) {
        match self {
            User::Admin => ("admin", "system:masters"),
            User::Scheduler => (
                "system:serviceaccount:mss-scheduler:mss-scheduler",
                "system:serviceaccounts,system:serviceaccounts:mss-scheduler",
            ),
            User::KubeScheduler => ("system:kube-scheduler", ""),
        }
    }
}

/// What a test may want different.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Lets etcd answer before data is on disk. For benches, where the disk is not the subject.
    pub(crate) unsafe_no_fsync: bool,
    /// Records each request of [`User::Scheduler`], for `audit::requests`.
    pub(crate) audit: bool,
    /// More flags for kube-apiserver.
    pub(crate) api_server_flags: Vec<String>,
}

/// Ports of loopback that nobody uses now.
pub(crate) fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    // all are held until the last is known, so they differ
    let held = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    held.map(|listener| listener.local_addr().expect("a bound socket has an address").port())
}

pub(crate) fn write_tokens(folder: &Path) -> io::Result<()> {
    let mut rows = String::new();
    for user in User::ALL {
        let token = uuid::Uuid::new_v4().to_string();
        let (name, groups) = user.identity();
        rows.push_str(&format!("{token},{name},{name},\"{groups}\"\n"));
        std::fs::write(folder.join(user.slug()), token)?;
    }
    std::fs::write(folder.join("tokens.csv"), rows)
}

pub(crate) fn etcd_command(
    binaries: &Path,
    folder: &Path,
    client: u16,
    peer: u16,
    options: &Options,
) -> Command {
    let mut command = Command::new(binaries.join("etcd"));
    let client = format!("http://127.0.0.1:{client}");
    let peer = format!("http://127.0.0.1:{peer}");
    command
        .arg(format!("--data-dir={}", folder.join("etcd").display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        .arg("--log-level=warn");
    if options.unsafe_no_fsync {
        command.arg("--unsafe-no-fsync");
    }
    command
}

pub(crate) fn api_server_command(
    binaries: &Path,
    folder: &Path,
    etcd: u16,
    secure: u16,
    options: &Options,
) -> Command {
    let certificates = folder.join("certificates");
    // the server makes its own serving key; it signs service account tokens as well, which no test
    // uses but the server insists on
    let key = certificates.join("apiserver.key");
    let mut command = Command::new(binaries.join("kube-apiserver"));
    command
        .arg(format!("--etcd-servers=http://127.0.0.1:{etcd}"))
        .arg("--bind-address=127.0.0.1")
        .arg("--advertise-address=127.0.0.1")
        .arg("--endpoint-reconciler-type=none")
        .arg(format!("--secure-port={secure}"))
        .arg(format!("--cert-dir={}", certificates.display()))
        .arg(format!("--token-auth-file={}", folder.join("tokens.csv").display()))
        .arg("--authorization-mode=RBAC")
        .arg("--service-cluster-ip-range=10.0.0.0/24")
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(format!("--service-account-key-file={}", key.display()))
        .arg(format!("--service-account-signing-key-file={}", key.display()))
        // no controllers run here: the first would wait for accounts that nobody makes, the second
        // taints new nodes not-ready, which nobody would take back
        .arg("--disable-admission-plugins=ServiceAccount,TaintNodesByCondition")
        .arg("--profiling=false")
        .args(&options.api_server_flags);
    if options.audit {
        command
            .arg(format!("--audit-policy-file={}", folder.join("audit-policy.yaml").display()))
            .arg(format!("--audit-log-path={}", folder.join("audit.log").display()))
            // a request is on record before it is answered
            .arg("--audit-log-mode=blocking");
    }
    command
}
