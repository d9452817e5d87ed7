//! Faults by rule: what goes wrong, how often, decided by a seed and a count.

use super::status::{ApiError, Reason};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// More rules are refused.
pub const MAX_RULES: usize = 256;

/// What a rule does to a request that it hits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum FaultAction {
    /// Answers so many milliseconds later.
    Latency(u64),
    /// 429 with `Retry-After` of so many seconds; nothing is done.
    TooManyRequests(u64),
    /// 500; nothing is done.
    InternalError,
    /// 504; nothing is done.
    TimeoutBefore,
    /// 504, and yet it is done.
    TimeoutAfter,
    /// The connection is cut without an answer, and yet it is done.
    ResetAfter,
    /// 409 as if another write had come between; nothing is done.
    Conflict,
    /// The watch ends after so many lines.
    DropWatch(u64),
    /// The watch tells every event so many milliseconds later.
    DelayWatch(u64),
    /// The list is as of so many revisions ago.
    StaleList(u64),
}

/// One rule. Empty fields match everything. A rule hits every `every`-th of the requests that it
/// matches, or each with `probability`; the first rule that hits decides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FaultRule {
    /// get, list, watch, create, update, patch, delete, deletecollection.
    pub verb: String,
    /// Plural, such as `pods`.
    pub resource: String,
    /// Such as `binding` or `status`.
    pub subresource: String,
    /// Hits with this chance, 0 to 1.
    pub probability: Option<f64>,
    /// Hits the n-th, the 2n-th, ... matching request.
    pub every: Option<u64>,
    /// Hits at most so many times; 0 for no bound.
    pub limit: u64,
    /// What happens.
    pub action: Option<FaultAction>,
}

/// A rule and what it did so far.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultCounter {
    /// The rule.
    pub rule: FaultRule,
    /// Requests that it matched.
    pub matched: u64,
    /// Requests that it hit.
    pub hit: u64,
}

struct State {
    counters: Vec<FaultCounter>,
    random: Vec<ChaCha8Rng>,
}

/// The rules in force. The n-th request that a rule matches meets the same fate for the same
/// seed, whatever other requests do.
pub(crate) struct Faults {
    seed: u64,
    state: Mutex<State>,
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faults").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// Checks what the types cannot.
pub(crate) fn check(rules: &[FaultRule]) -> Result<(), String> {
    if rules.len() > MAX_RULES {
        return Err(format!("at most {MAX_RULES} fault rules are taken, not {}", rules.len()));
    }
    for (index, rule) in rules.iter().enumerate() {
        if rule.action.is_none() {
            return Err(format!("fault rule {index} has no action"));
        }
        if rule.probability.is_some() == rule.every.is_some() {
            return Err(format!("fault rule {index} needs either probability or every"));
        }
        if rule.every == Some(0) || rule.probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
            return Err(format!("fault rule {index}: every is 1 or more, probability 0 to 1"));
        }
    }
    Ok(())
}

impl Faults {
    pub(crate) fn new(seed: u64, rules: Vec<FaultRule>) -> Self {
        let faults =
            Self { seed, state: Mutex::new(State { counters: Vec::new(), random: Vec::new() }) };
        faults.set(rules);
        faults
    }

    /// Replaces the rules; counters begin at zero.
    pub(crate) fn set(&self, rules: Vec<FaultRule>) {
        let mut state = self.state.lock();
        let each = 0..rules.len() as u64;
        state.random = each.map(|i| ChaCha8Rng::seed_from_u64(self.seed ^ (i << 32))).collect();
        let fresh = |rule| FaultCounter { rule, matched: 0, hit: 0 };
        state.counters = rules.into_iter().map(fresh).collect();
    }

    pub(crate) fn counters(&self) -> Vec<FaultCounter> {
        self.state.lock().counters.clone()
    }

    /// What happens to a request.
    pub(crate) fn decide(
        &self,
        verb: &str,
        resource: &str,
        subresource: &str,
    ) -> Option<FaultAction> {
        let mut state = self.state.lock();
        let State { counters, random } = &mut *state;
        let fits = |wanted: &str, value: &str| wanted.is_empty() || wanted == value;
        let mut decided = None;
        for (counter, random) in counters.iter_mut().zip(random) {
            let rule = &counter.rule;
            let matches = fits(&rule.verb, verb)
                && fits(&rule.resource, resource)
                && fits(&rule.subresource, subresource);
            if !matches {
                continue;
            }
            counter.matched += 1;
            let lucky = match (rule.every, rule.probability) {
                (Some(every), _) => counter.matched % every.max(1) == 0,
                (None, chance) => random.random_bool(chance.unwrap_or(0.0).clamp(0.0, 1.0)),
            };
            let spent = rule.limit > 0 && counter.hit >= rule.limit;
            if lucky && !spent && decided.is_none() {
                counter.hit += 1;
                decided = rule.action.clone();
            }
        }
        decided
    }
}

impl FaultAction {
    /// The answer given instead of doing anything.
    pub(crate) fn refusal(&self, resource: &str, name: &str) -> Option<ApiError> {
        match self {
            FaultAction::TooManyRequests(seconds) => Some(ApiError::too_many_requests(
                "The apiserver is currently overloaded, please try again later (injected fault)",
                *seconds,
            )),
            FaultAction::InternalError => Some(ApiError::new(
                Reason::InternalError,
                "Internal error occurred: injected fault",
            )),
            FaultAction::TimeoutBefore => Some(timeout()),
            FaultAction::Conflict => Some(ApiError::conflict(
                "",
                resource,
                name,
                "the object has been modified; please apply your changes to the latest version \
                 and try again (injected fault)",
            )),
            _ => None,
        }
    }

    /// How much later the answer is.
    pub(crate) fn latency(&self) -> Option<Duration> {
        match self {
            FaultAction::Latency(milliseconds) => Some(Duration::from_millis(*milliseconds)),
            _ => None,
        }
    }
}

/// The answer of a server that gave up waiting.
pub(crate) fn timeout() -> ApiError {
    ApiError::new(
        Reason::Timeout,
        "Timeout: request did not complete within requested timeout \
        (injected fault)",
    )
}

#[cfg(test)]
mod tests {
    use super::{FaultAction, FaultRule, Faults};

    #[test]
    fn the_same_seed_hits_the_same_requests() {
        let rule = FaultRule {
            verb: "create".into(),
            subresource: "binding".into(),
            probability: Some(0.3),
            action: Some(FaultAction::Conflict),
            ..FaultRule::default()
        };
        let run = |seed, noise: bool| -> Vec<bool> {
            let faults = Faults::new(seed, vec![rule.clone()]);
            (0..64)
                .map(|_| {
                    if noise {
                        faults.decide("get", "pods", "");
                    }
                    faults.decide("create", "pods", "binding").is_some()
                })
                .collect()
        };
        assert_eq!(run(7, false), run(7, true));
        assert_ne!(run(7, false), run(8, false));
    }
}
