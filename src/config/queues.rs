//! What is kept, shown and reckoned of the queues.

use super::Problem;
use super::duration;
use super::section::Section;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Who users can be: namespaces, or those who are stamped at admission.
pub(super) const USERS: &[&str] = &["Namespace", STAMPED];
/// See [`USERS`].
const STAMPED: &str = "Stamped";

/// See the fields of `queues`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Queues {
    /// A file with the whole tree; `None`: it is that of the cluster's objects.
    pub file: Option<PathBuf>,
    /// Who the users below a queue are: `Namespace` or `Stamped`.
    pub users: String,
    /// The order of the queues at the top: a word of `model::queue::Ordering`.
    pub ordering: String,
    /// Parameters of the order `Lsf`.
    pub lsf: Lsf,
    /// How often a queue's status is written at most.
    #[serde(serialize_with = "duration::serialize")]
    pub status_interval: Duration,
    /// How long a drop of the capacity must last before shares follow.
    #[serde(serialize_with = "duration::serialize")]
    pub capacity_hold: Duration,
    /// In what time past usage comes to count half.
    #[serde(serialize_with = "duration::serialize")]
    pub usage_half_life: Duration,
    /// Usage per core and second.
    pub cpu_factor: u32,
    /// Usage per GiB and second.
    pub memory_factor: u32,
    /// Usage per GPU and second.
    pub gpu_factor: u32,
    /// Usage per unit and second of single resources.
    pub factors: Vec<Factor>,
}

/// See the fields of `queues.factors`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Factor {
    /// Name of the resource.
    pub resource: String,
    /// Usage per core, GiB or device, and second.
    pub factor: f64,
}

/// See the fields of `queues.lsf`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub struct Lsf {
    /// Per core-hour.
    pub cpu_time_factor: f64,
    /// Per hour that pods have run.
    pub run_time_factor: f64,
    /// Per hour that pods may still run.
    pub committed_run_time_factor: f64,
    /// Per pod.
    pub run_job_factor: f64,
    /// Per GPU-hour.
    pub gpu_run_time_factor: f64,
    /// Hours in which the past comes to count a tenth.
    pub hist_hours: f64,
    /// The run time of pods that ended counts.
    pub enable_hist_run_time: bool,
    /// The GPU-hours of pods that ended count.
    pub enable_gpu_hist_run_time: bool,
}

impl Queues {
    /// Whether pods are stamped with their users at admission.
    #[must_use]
    pub fn users_are_stamped(&self) -> bool {
        self.users == STAMPED
    }

    pub(super) fn read(section: &Section<'_>, problems: &mut Vec<Problem>) -> Self {
        Queues {
            file: Some(section.text("file")).filter(|path| !path.is_empty()).map(Into::into),
            users: section.text("users"),
            ordering: section.text("ordering"),
            lsf: Lsf::read(&section.section("lsf")),
            status_interval: section.duration("statusInterval"),
            capacity_hold: section.duration("capacityHold"),
            usage_half_life: section.duration("usageHalfLife"),
            cpu_factor: section.integer("cpuFactor"),
            memory_factor: section.integer("memoryFactor"),
            gpu_factor: section.integer("gpuFactor"),
            factors: Factor::read(section, problems),
        }
    }
}

impl Factor {
    fn read(section: &Section<'_>, problems: &mut Vec<Problem>) -> Vec<Self> {
        let mut factors: Vec<Self> = Vec::new();
        for item in section.items("factors") {
            let known = factors.iter().map(|known| &*known.resource);
            let resource = item.name("resource", known, problems);
            factors.push(Factor { resource, factor: item.decimal("factor") });
        }
        factors
    }
}

impl Lsf {
    fn read(section: &Section<'_>) -> Self {
        Lsf {
            cpu_time_factor: section.decimal("CPU_TIME_FACTOR"),
            run_time_factor: section.decimal("RUN_TIME_FACTOR"),
            committed_run_time_factor: section.decimal("COMMITTED_RUN_TIME_FACTOR"),
            run_job_factor: section.decimal("RUN_JOB_FACTOR"),
            gpu_run_time_factor: section.decimal("GPU_RUN_TIME_FACTOR"),
            hist_hours: section.decimal("HIST_HOURS"),
            enable_hist_run_time: section.flag("ENABLE_HIST_RUN_TIME"),
            enable_gpu_hist_run_time: section.flag("ENABLE_GPU_HIST_RUN_TIME"),
        }
    }
}
