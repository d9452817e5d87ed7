//! Leader election by Lease, with fencing.
//!
//! The algorithm is client-go's: whoever last wrote the lease holds it until its duration has
//! passed, unrenewed, on the observer's own monotonic clock. What client-go leaves to its users is
//! added: a [`Fence`] that says until when a call may leave, counted from the moment the last
//! successful renewal was *sent*, so no call leaves after another could have taken over.

use super::client::Connection;
use super::clock::Clock;
use crate::model::{Timestamp, WallTime};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Times and names of the election; see the configuration's `leaderElection`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who this is: unique per process.
    pub identity: String,
    /// How long a lease holds unrenewed.
    pub duration: Duration,
    /// How long the holder keeps trying to renew.
    pub renew_deadline: Duration,
    /// Time between tries.
    pub retry_period: Duration,
    /// Calls stop leaving this long before the lease runs out.
    pub margin: Duration,
}

/// Until when calls may leave.
#[derive(Clone, Debug)]
pub struct Fence {
    clock: Clock,
    until: Arc<AtomicI64>,
}

impl Fence {
    /// A fence that is closed.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, until: Arc::new(AtomicI64::new(i64::MIN)) }
    }

    /// Opens the fence up to a time.
    pub fn open_until(&self, until: Timestamp) {
        self.until.store(until.0, Ordering::Release);
    }

    /// Opens the fence for good: there is no election.
    pub fn open(&self) {
        self.until.store(i64::MAX, Ordering::Release);
    }

    /// Closes the fence.
    pub fn close(&self) {
        self.until.store(i64::MIN, Ordering::Release);
    }

    /// Whether a call may leave now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.clock.now().0 < self.until.load(Ordering::Acquire)
    }
}

/// Takes part in the election.
pub struct Elector {
    api: Api<Lease>,
    settings: Settings,
    clock: Clock,
    fence: Fence,
    /// the lease as last seen, and when it was first seen so
    observed: Option<(Lease, Timestamp)>,
}

/// Why a try did not make this process the holder.
enum Missed {
    /// Another holds it.
    Held,
    /// The API did not answer well; tried again.
    Failed(String),
}

impl Elector {
    /// An elector that opens and moves the fence.
    #[must_use]
    pub fn new(connection: &Connection, settings: Settings, clock: Clock, fence: Fence) -> Self {
        let api = Api::namespaced(connection.calls.clone(), &settings.namespace);
        Self { api, settings, clock, fence, observed: None }
    }

    /// Waits until this process holds the lease. Returns when the previous holder last renewed it;
    /// the present time if nobody ever held it.
    pub async fn acquire(&mut self) -> WallTime {
        loop {
            let before = self.observed.as_ref().and_then(|(lease, _)| renewed_at(lease));
            match self.try_once().await {
                Ok(previous) => return previous.or(before).unwrap_or_else(Clock::wall),
                Err(Missed::Held) => {}
                Err(Missed::Failed(error)) => tracing::warn!(%error, "cannot read the lease"),
            }
            tokio::time::sleep(self.settings.retry_period).await;
        }
    }

    /// Renews until it cannot be renewed any more, and returns why.
    pub async fn hold(&mut self) -> String {
        let mut last_success = self.clock.now();
        let deadline = millis(self.settings.renew_deadline);
        loop {
            tokio::time::sleep(self.settings.retry_period).await;
            match self.try_once().await {
                Ok(_) => last_success = self.clock.now(),
                Err(Missed::Held) => return "another process took the lease".to_owned(),
                Err(Missed::Failed(error)) => {
                    tracing::warn!(%error, "cannot renew the lease");
                    if self.clock.now().since_ms(last_success) >= deadline {
                        return format!("not renewed for {deadline} ms: {error}");
                    }
                }
            }
        }
    }

    /// Gives the lease up so that another can take it at once.
    ///
    /// # Errors
    /// If the API did not take it; the lease then runs out by itself.
    pub async fn release(&mut self) -> Result<(), kube::Error> {
        self.fence.close();
        let Some((mut lease, _)) = self.observed.take() else { return Ok(()) };
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(jiff::Timestamp::now()));
        self.api.replace(&self.settings.name, &PostParams::default(), &lease).await?;
        Ok(())
    }

    /// Acquires or renews. `Ok`: this process holds the lease; with the last renewal of the holder
    /// before, if it was another.
    async fn try_once(&mut self) -> Result<Option<WallTime>, Missed> {
        let limit = self.settings.renew_deadline;
        match tokio::time::timeout(limit, self.acquire_or_renew()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Missed::Failed(format!("no answer within {limit:?}"))),
        }
    }

    async fn acquire_or_renew(&mut self) -> Result<Option<WallTime>, Missed> {
        let failed = |error: kube::Error| Missed::Failed(error.to_string());
        // the holder writes over what it wrote last; a conflict makes it look again
        let mine = self.observed.as_ref().is_some_and(|(lease, _)| self.is_mine(lease));
        if !mine {
            let found = self.api.get_opt(&self.settings.name).await.map_err(failed)?;
            self.observe(found);
        }
        let sent = self.clock.now();
        let written = match &self.observed {
            None => self.api.create(&PostParams::default(), &self.lease(None)).await,
            Some((lease, since)) if !self.is_mine(lease) && self.is_held(lease, *since) => {
                return Err(Missed::Held);
            }
            Some((lease, _)) => {
                let next = self.lease(Some(lease));
                self.api.replace(&self.settings.name, &PostParams::default(), &next).await
            }
        };
        let previous = self.observed.as_ref().filter(|_| !mine).and_then(|(l, _)| renewed_at(l));
        match written {
            Ok(lease) => {
                self.observed = Some((lease, sent));
                let open_ms = millis(self.settings.duration) - millis(self.settings.margin);
                self.fence.open_until(sent.plus_ms(open_ms));
                Ok(previous)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                // somebody wrote in between, or the lease exists by now: look at it next time
                let found = self.api.get_opt(&self.settings.name).await.map_err(failed)?;
                self.observed = None;
                self.observe(found);
                let mine = self.observed.as_ref().is_some_and(|(lease, _)| self.is_mine(lease));
                Err(if mine { Missed::Failed("conflict".to_owned()) } else { Missed::Held })
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn observe(&mut self, found: Option<Lease>) {
        let same = match (&self.observed, &found) {
            (Some((old, _)), Some(new)) => old.spec == new.spec,
            _ => false,
        };
        if !same {
            self.observed = found.map(|lease| (lease, self.clock.now()));
        }
    }

    fn is_mine(&self, lease: &Lease) -> bool {
        holder(lease) == Some(&*self.settings.identity)
    }

    /// Whether another holds the lease: it was written within its own duration, on our clock.
    fn is_held(&self, lease: &Lease, since: Timestamp) -> bool {
        let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        let duration = i64::from(seconds.unwrap_or(0)) * 1000;
        holder(lease).is_some_and(|holder| !holder.is_empty())
            && self.clock.now() < since.plus_ms(duration)
    }

    fn lease(&self, old: Option<&Lease>) -> Lease {
        let now = MicroTime(jiff::Timestamp::now());
        let old_spec = old.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let mine = old.is_some_and(|lease| self.is_mine(lease));
        let transitions = old_spec.lease_transitions.unwrap_or(0);
        let seconds = self.settings.duration.as_millis().div_ceil(1000);
        let spec = LeaseSpec {
            holder_identity: Some(self.settings.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            acquire_time: if mine { old_spec.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(transitions + i32::from(old.is_some() && !mine)),
            ..old_spec
        };
        let metadata = old.map_or_else(
            || ObjectMeta { name: Some(self.settings.name.clone()), ..ObjectMeta::default() },
            |lease| lease.metadata.clone(),
        );
        Lease { metadata, spec: Some(spec) }
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

fn renewed_at(lease: &Lease) -> Option<WallTime> {
    let renewed = lease.spec.as_ref()?.renew_time.as_ref()?;
    Some(WallTime(renewed.0.as_millisecond()))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
