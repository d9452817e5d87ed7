//! The core as the configuration describes it.

use super::Configuration;
use crate::fairshare::{Decay, LsfOptions, UsageOptions};
use crate::model::narrowed::base;
use crate::model::queue::Ordering;
use crate::model::{EvictionBudget, Level};
use crate::plugins::{
    self, ArchitecturePreference, Arguments, DedicatedNodes, NodeResourcesBalancedAllocation,
    NodeResourcesFit,
};
use crate::scheduler::{DrainOptions, Evictions, Options, QuarantineOptions, Scheduler};
use std::time::Duration;

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The core as configured.
#[must_use]
pub fn scheduler(configuration: &Configuration) -> Scheduler {
    Scheduler::new(options(configuration), profiles(configuration))
}

/// The plugins of each profile as configured.
#[must_use]
pub fn profiles(configuration: &Configuration) -> Vec<crate::framework::Profile> {
    let profiles = configuration.profiles.iter();
    profiles.map(|configured| profile(configuration, configured)).collect()
}

/// Bounds and times of the core as configured.
#[must_use]
pub fn options(configuration: &Configuration) -> Options {
    Options {
        backoff_initial_ms: millis(configuration.pod_initial_backoff),
        backoff_max_ms: millis(configuration.pod_max_backoff),
        // a third of the time is left for the deletions themselves
        partial_deadline_ms: millis(configuration.limits.partial_bind_deadline) * 2 / 3,
        queues_watched: true,
        budgets_watched: true,
        evictions: match configuration.evictions.mode {
            super::EvictionMode::Allowed => Evictions::Allowed,
            super::EvictionMode::ReportOnly => Evictions::ReportOnly,
            super::EvictionMode::Off => Evictions::Off,
        },
        searches_per_cycle: configuration.evictions.searches_per_cycle,
        vacate_deadline_ms: millis(configuration.evictions.vacate_deadline),
        protected_ms: millis(configuration.evictions.protected_for),
        eviction_budget: (configuration.evictions.budget_pods > 0).then(|| EvictionBudget {
            pods: configuration.evictions.budget_pods,
            window_ms: millis(configuration.evictions.budget_window),
        }),
        drains: (!configuration.drains.after.is_zero()).then(|| DrainOptions {
            after_ms: millis(configuration.drains.after),
            for_ms: millis(configuration.drains.lasting),
            percent: configuration.drains.percent,
        }),
        quarantine: quarantine(&configuration.quarantine),
        capacity_hold_ms: millis(configuration.queues.capacity_hold),
        queue_status_interval_ms: match configuration.queues.file {
            None => Some(millis(configuration.queues.status_interval)),
            Some(_) => None,
        },
        usage: UsageOptions {
            cpu_factor: f64::from(configuration.queues.cpu_factor),
            memory_factor: f64::from(configuration.queues.memory_factor),
            gpu_factor: f64::from(configuration.queues.gpu_factor),
            factors: configuration.queues.factors.iter().map(per_base_unit).collect(),
            decay: Decay::HalfLife(millis(configuration.queues.usage_half_life)),
        },
        lsf: lsf(&configuration.queues.lsf),
        root_order: Ordering::parse(&configuration.queues.ordering).unwrap_or_default(),
        topology_levels: topology_levels(configuration),
        ..Options::default()
    }
}

/// The configured levels of the network.
#[must_use]
pub fn topology_levels(configuration: &Configuration) -> Vec<Level> {
    let level = |configured: &super::Level| {
        let level = Level::from(configured.node_label.as_str());
        let name = configured.name.as_deref().map(Into::into);
        Level { name: name.unwrap_or(level.name), ..level }
    };
    configuration.topology.levels.iter().map(level).collect()
}

fn per_base_unit(configured: &super::Factor) -> (Box<str>, f64) {
    let units = match base(&configured.resource) {
        "cpu" => 1000.0,
        "memory" => f64::from(1 << 30),
        _ => 1.0,
    };
    (configured.resource.as_str().into(), configured.factor / units)
}

fn quarantine(configured: &super::Quarantine) -> Option<QuarantineOptions> {
    let deadline = configured.start_deadline;
    (configured.failures > 0).then(|| QuarantineOptions {
        failures: configured.failures,
        window_ms: millis(configured.window),
        start_deadline_ms: (!deadline.is_zero()).then(|| millis(deadline)),
        for_ms: millis(configured.lasting),
        for_max_ms: millis(configured.for_max),
        percent: configured.percent,
    })
}

fn lsf(configured: &super::Lsf) -> LsfOptions {
    LsfOptions {
        cpu_time_factor: configured.cpu_time_factor,
        run_time_factor: configured.run_time_factor,
        committed_run_time_factor: configured.committed_run_time_factor,
        run_job_factor: configured.run_job_factor,
        gpu_run_time_factor: configured.gpu_run_time_factor,
        hist_hours: configured.hist_hours,
        enable_hist_run_time: configured.enable_hist_run_time,
        enable_gpu_hist_run_time: configured.enable_gpu_hist_run_time,
    }
}

fn profile(
    configuration: &Configuration,
    configured: &super::Profile,
) -> crate::framework::Profile {
    let fit = &configured.fit;
    let resources = fit.resources.iter();
    let strategy = match &fit.strategy {
        super::ScoringStrategy::LeastAllocated => plugins::ScoringStrategy::LeastAllocated,
        super::ScoringStrategy::MostAllocated => plugins::ScoringStrategy::MostAllocated,
        super::ScoringStrategy::RequestedToCapacityRatio(shape) => {
            let point = |point: &super::ShapePoint| plugins::ShapePoint {
                utilization: i64::from(point.utilization),
                score: i64::from(point.score) * 10,
            };
            plugins::ScoringStrategy::RequestedToCapacityRatio(shape.iter().map(point).collect())
        }
    };
    let arguments = Arguments {
        fit: NodeResourcesFit {
            strategy,
            resources: resources.map(|r| (r.name.as_str().into(), i64::from(r.weight))).collect(),
        },
        balanced: NodeResourcesBalancedAllocation {
            resources: configured
                .balanced_allocation
                .resources
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
        },
        architectures: ArchitecturePreference {
            preferences: configuration
                .architectures
                .iter()
                .map(|said| (said.name.as_str().into(), said.preference))
                .collect(),
        },
        dedicated: DedicatedNodes {
            label_key: configuration.dedicated_nodes.label_key.as_deref().map(Into::into),
        },
        ..Arguments::default()
    };
    plugins::profile(
        &configured.scheduler_name,
        configured.filters.iter().map(String::as_str),
        configured.scores.iter().map(|(name, weight)| (name.as_str(), i64::from(*weight))),
        &arguments,
    )
}
