//! Starting each binder as a process of its own.

use crate::args::Binder;
use crate::support::children::Process;
use crate::support::control_plane::{ControlPlane, User};
use std::process::Command;

/// Client limits given to every peer that has them.
const QPS: u32 = 5000;

/// Starts `binder` on the pods that name `scheduler_name`. Each has an own lease, so that none
/// waits for its predecessor's.
pub(crate) fn start(servers: &ControlPlane, binder: Binder, scheduler_name: &str) -> Process {
    let folder = servers.folder();
    let command = match binder {
        Binder::Bare | Binder::BareEvents => {
            let program = std::env::current_exe().expect("the path of this program is known");
            let mut command = Command::new(program);
            command.arg("--bare-loop").arg(servers.kubeconfig(User::Admin)).arg(scheduler_name);
            if binder == Binder::BareEvents {
                command.arg("--events");
            }
            command
        }
        Binder::Mss | Binder::MssGangs => {
            let config = folder.join(format!("{scheduler_name}.yaml"));
            std::fs::write(&config, mss_config(scheduler_name)).expect("the folder is writable");
            let mut command = Command::new(env!("CARGO_BIN_EXE_mss-scheduler"));
            command.arg("run").arg("--config").arg(config);
            command.arg("--kubeconfig").arg(servers.kubeconfig(User::Admin));
            command
        }
        Binder::KubeScheduler => {
            let kubeconfig = servers.kubeconfig(User::KubeScheduler);
            let config = folder.join(format!("{scheduler_name}.yaml"));
            let text = kube_config(scheduler_name, &kubeconfig.display().to_string());
            std::fs::write(&config, text).expect("the folder is writable");
            let mut command = Command::new(servers.kube_scheduler());
            command.arg("--config").arg(config).arg("--secure-port=0");
            command
        }
    };
    let log = folder.join(format!("{scheduler_name}.log"));
    Process::start(binder.slug(), command, log).expect("the binder can be started")
}

/// Starts the bare loop that makes room as `orders` say.
pub(crate) fn start_room_maker(servers: &ControlPlane, name: &str, orders: &str) -> Process {
    let path = servers.folder().join(format!("{name}.orders"));
    std::fs::write(&path, orders).expect("the folder is writable");
    let program = std::env::current_exe().expect("the path of this program is known");
    let mut command = Command::new(program);
    command.arg("--bare-room").arg(servers.kubeconfig(User::Admin)).arg(path);
    let log = servers.folder().join(format!("{name}-bare.log"));
    Process::start("bare room", command, log).expect("the bare loop can be started")
}

fn mss_config(scheduler_name: &str) -> String {
    let [port] = crate::support::servers::free_ports();
    format!(
        "apiVersion: mss-scheduler.io/v1alpha1\nkind: MssSchedulerConfiguration\n\
         leaderElection:\n  resourceName: {scheduler_name}\n  resourceNamespace: kube-system\n\
         healthBindAddress: 127.0.0.1:{port}\nprofiles:\n- schedulerName: {scheduler_name}\n"
    )
}

fn kube_config(scheduler_name: &str, kubeconfig: &str) -> String {
    format!(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n\
         leaderElection:\n  leaderElect: false\n\
         clientConnection:\n  kubeconfig: {kubeconfig}\n  qps: {QPS}\n  burst: {QPS}\n\
         profiles:\n- schedulerName: {scheduler_name}\n"
    )
}
