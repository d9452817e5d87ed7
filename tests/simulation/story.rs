//! What the scheduler decided, as the history of a failure tells it.

use mss_scheduler::scheduler::{ApiCall, PodRef};

/// What is told of a call; `None`: nothing.
pub(crate) fn short(call: &ApiCall) -> Option<String> {
    let names =
        |pods: &[PodRef]| -> Vec<String> { pods.iter().map(|pod| pod.key.to_string()).collect() };
    match call {
        ApiCall::Bind { members, .. } => {
            let seats = members.iter().map(|m| format!("{} to {}", m.pod.key, m.node));
            Some(format!("bind {}", seats.collect::<Vec<_>>().join(", ")))
        }
        ApiCall::Warn { pods, note, .. } | ApiCall::Spare { pods, note } => {
            Some(format!("{}: {note}", names(pods).join(", ")))
        }
        ApiCall::Evict { victims, .. } => {
            let pods = victims.iter().map(|victim| victim.pod.key.to_string());
            Some(format!("evict {}", pods.collect::<Vec<_>>().join(", ")))
        }
        ApiCall::Delete { pods, .. } | ApiCall::End { pods, .. } => {
            Some(format!("delete {}", names(pods).join(", ")))
        }
        ApiCall::Withdraw { calls } => Some(format!("withdraw {calls:?}")),
        ApiCall::Tell { .. }
        | ApiCall::Report { .. }
        | ApiCall::TellHolder { .. }
        | ApiCall::TellNode { .. }
        | ApiCall::ShowQueue(_)
        | ApiCall::NoteIgnored { .. } => None,
    }
}
