//! Moves every runtime to where its records say it shall be.
//!
//! Operations only write down what is wanted and queue a [`Job`]; the work is done here, each job from the records
//! alone. So a crash at any point costs nothing: the next start looks at every runtime and goes on.
//!
//! Order of work: publish to the catalog, then commit. A client that reads READY is served at once; a commit that is
//! lost to another call is decided anew and published again.
//!
//! Invariant: a job that fails for a reason of the platform runs again, later and later, and never gives up; a job that
//! fails for a reason of the artifact writes the reason down and is done.

use super::Inner;
use super::fitness::{Known, digest_of};
use super::idempotency::outlives_runtime;
use super::lifecycle::{self, Fitness};
use super::publish::Versions;
use super::record::{
    ClientToken, Document, Endpoint, Name, Pinned, Runtime, Settings, State, USAGE_KEY, Usage, VersionRecord,
    VersionState, children_of, version_key,
};
use super::store::{Change, Outcome, Stored, Tries};
use super::work::Job;
use crate::deployment::{Deployment, SessionStorage, Warmup};
use crate::session::Reason;
use crate::switches::Switches;
use domain::Error;
use domain::error::Origin;
use domain::id::{EndpointName, RuntimeId, Version};
use futures_util::FutureExt;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// How often expired client tokens are looked for.
const EXPIRY_PERIOD: Duration = Duration::from_secs(3600);
/// After a version's lost package could not be fetched again, the next try comes this much later.
const RESTORE_PERIOD: Duration = Duration::from_secs(30);
/// All sessions of a runtime end in this time, or the deletion tries again.
const END_SESSIONS: Duration = Duration::from_secs(120);
/// How many documents one commit deletes.
const CHUNK: usize = 500;

impl Inner {
    /// Takes jobs from the queue until the control plane is shut down.
    pub(super) async fn dispatch(self: Arc<Self>) {
        let mut expiry = interval(EXPIRY_PERIOD);
        expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let job = tokio::select! {
                () = self.cancel.cancelled() => return,
                _ = expiry.tick() => {
                    self.queue.add(Job::Expire);
                    continue;
                }
                job = self.queue.next() => job,
            };
            self.spawn(Arc::clone(&self).work(job));
        }
    }

    /// Runs something of ours that is dropped when the control plane is shut down.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = work => {}
            }
        });
    }

    async fn work(self: Arc<Self>, job: Job) {
        // A job that panics must not count as running for ever: its runtime would hang.
        let run = AssertUnwindSafe(Arc::clone(&self).run(&job)).catch_unwind();
        let result = run.await.unwrap_or_else(|_| Err(Error::internal("it panicked")));
        let Err(error) = result else {
            return self.queue.done(&job);
        };
        let wait = self.queue.failed(&job);
        tracing::warn!(?job, %error, ?wait, "work of the control plane failed and will be tried again");
        let inner = Arc::clone(&self);
        self.spawn(async move {
            sleep(wait).await;
            inner.queue.add(job);
        });
    }

    async fn run(self: Arc<Self>, job: &Job) -> Result<(), Error> {
        match job {
            Job::Settle(id) => self.settle(id).await,
            Job::Prepare(id, version) => self.prepare(id, *version).await,
            Job::Expire => self.expire().await,
            Job::Collect => self.collect().await,
        }
    }

    /// Moves one runtime and its endpoints on as far as it goes now.
    pub(super) async fn settle(&self, id: &RuntimeId) -> Result<(), Error> {
        let mut tries = Tries::default();
        loop {
            let Some(runtime) = self.store.get::<Runtime>(id.as_str()).await? else {
                self.withdraw(id);
                self.fitness.forget(id);
                return Ok(());
            };
            if runtime.value.state == State::Deleting {
                return self.finish_deletion(id).await;
            }
            let endpoints = self.store.all::<Endpoint>(&children_of(id)).await?;
            let versions = self.look_at_versions(&runtime.value, &endpoints).await?;
            let (leaving, staying): (Vec<_>, Vec<_>) = endpoints
                .into_iter()
                .partition(|endpoint| endpoint.value.state == State::Deleting);

            let mut new_runtime = runtime.value.clone();
            let mut new_endpoints: Vec<Endpoint> = staying.iter().map(|e| e.value.clone()).collect();
            let switches = Arc::new(Switches::recorded(id, &runtime.value.tags));
            let cold = self.still_cold(id, &new_endpoints, |e, version| versions.target(e, version, &switches));
            let fitness = |version| versions.fitness.get(&version).cloned().unwrap_or(Fitness::Preparing);
            let is_warm = |endpoint: &Endpoint| !cold.contains(&endpoint.name);
            let now = self.clock.now();
            let moved = lifecycle::settle(&mut new_runtime, &mut new_endpoints, now, fitness, is_warm);
            let guarded = self.guarded(&new_runtime, &new_endpoints);
            self.publish(id, versions.entry(&new_endpoints, guarded, switches));
            if !moved && leaving.is_empty() {
                return Ok(());
            }

            new_runtime.endpoints -= u32::try_from(leaving.len())
                .unwrap_or(u32::MAX)
                .min(new_runtime.endpoints);
            let mut change = Change::default();
            change.replace(&runtime, &new_runtime);
            for (old, new) in staying
                .iter()
                .zip(&new_endpoints)
                .filter(|(old, new)| old.value != **new)
            {
                change.replace(old, new);
            }
            for endpoint in &leaving {
                change.delete(endpoint);
                self.end_sessions_of(id, &endpoint.value.name);
            }
            if self.store.commit(change).await? == Outcome::Done {
                if runtime.value.state != new_runtime.state {
                    let reason = new_runtime.state.reason();
                    tracing::info!(runtime = %id, version = %new_runtime.latest, status = new_runtime.state.word(), reason, "runtime settled");
                }
                return Ok(());
            }
            tries.again().await?;
        }
    }

    /// How fit the versions are that the runtime waits for or its endpoints use; queues what is still to be prepared.
    async fn look_at_versions(&self, runtime: &Runtime, endpoints: &[Stored<Endpoint>]) -> Result<Versions, Error> {
        let mut wanted: BTreeSet<Version> = runtime.pending.into_iter().collect();
        for endpoint in endpoints
            .iter()
            .map(|e| &e.value)
            .filter(|e| e.state != State::Deleting)
        {
            wanted.extend(endpoint.live);
            wanted.extend(endpoint.target.filter(|_| !endpoint.state.is_settled()));
        }
        self.fitness.retain(&runtime.id, &wanted);
        let mut found = Versions::default();
        for version in wanted {
            let record = self
                .store
                .get::<VersionRecord>(&version_key(&runtime.id, version))
                .await?;
            let fitness = match record.map(|record| record.value) {
                None => Fitness::Unfit {
                    reason: format!("version {version} has been deleted"),
                },
                Some(VersionRecord {
                    state: VersionState::Failed { reason },
                    ..
                }) => Fitness::Unfit { reason },
                Some(VersionRecord {
                    state: VersionState::Preparing,
                    ..
                }) => Fitness::Preparing,
                Some(VersionRecord {
                    state: VersionState::Ready { pinned },
                    settings,
                    ..
                }) => match self.known(runtime, version, &settings, &pinned).await {
                    None => Fitness::Preparing,
                    Some(Known::Unfit(reason)) => Fitness::Unfit { reason },
                    Some(Known::Fit(deployment)) => {
                        found.deployments.insert(version, deployment);
                        Fitness::Fit
                    }
                },
            };
            if fitness == Fitness::Preparing {
                self.queue.add(Job::Prepare(runtime.id.clone(), version));
            }
            found.fitness.insert(version, fitness);
        }
        Ok(found)
    }

    /// What is known of a version that was fit once; nothing when its package is lost and must be made again.
    async fn known(&self, runtime: &Runtime, version: Version, settings: &Settings, pinned: &Pinned) -> Option<Known> {
        if let Some(known) = self.fitness.get(&runtime.id, version) {
            return Some(known);
        }
        let known = match self.artifacts.find(&settings.code, pinned).await {
            Ok(None) => return None,
            Ok(Some(prepared)) => Known::Fit(Arc::new(self.deployment(runtime, version, settings, prepared))),
            Err(reason) => {
                self.try_again_later(&runtime.id, version);
                Known::Unfit(reason)
            }
        };
        self.fitness.set(&runtime.id, version, known.clone());
        Some(known)
    }

    /// Ends the sessions of an endpoint that is gone from the catalog. Nobody waits for it: an agent may take its grace.
    pub(super) fn end_sessions_of(&self, runtime: &RuntimeId, endpoint: &EndpointName) {
        let (sessions, runtime, name) = (self.sessions.clone(), runtime.clone(), endpoint.clone());
        self.spawn(async move {
            let ended = sessions.end_endpoint(&runtime, &name, Reason::RuntimeDeleted);
            if timeout(END_SESSIONS, ended).await.is_err() {
                tracing::error!(%runtime, endpoint = %name, "sessions of a deleted endpoint do not end");
            }
        });
    }

    /// Makes a version's package: for the first time, or again after it was lost.
    async fn prepare(&self, id: &RuntimeId, version: Version) -> Result<(), Error> {
        let runtime = self.store.get::<Runtime>(id.as_str()).await?;
        let record = self.store.get::<VersionRecord>(&version_key(id, version)).await?;
        let (Some(runtime), Some(record)) = (runtime, record) else {
            return Ok(());
        };
        if runtime.value.state == State::Deleting {
            return Ok(());
        }
        let settings = &record.value.settings;
        let pinned = match &record.value.state {
            VersionState::Failed { .. } => None,
            VersionState::Preparing => {
                let made = self.artifacts.prepare(&settings.code, None).await;
                let made = match made {
                    Err(reason) => Err(reason),
                    Ok(prepared) => {
                        let pinned = prepared.pinned.clone();
                        let deployment = Arc::new(self.deployment(&runtime.value, version, settings, prepared));
                        self.try_out(&deployment, settings)
                            .await?
                            .map(|()| (pinned, deployment))
                    }
                };
                let (state, known) = match made {
                    Err(reason) => (VersionState::Failed { reason: reason.clone() }, Known::Unfit(reason)),
                    Ok((pinned, deployment)) => (VersionState::Ready { pinned }, Known::Fit(deployment)),
                };
                let new = VersionRecord {
                    state,
                    updated_at: self.clock.now(),
                    ..record.value.clone()
                };
                let mut change = Change::default();
                change.replace(&record, &new);
                // Only a deletion can have come in between; then there is nothing to write down.
                if self.store.commit(change).await? == Outcome::Done {
                    self.fitness.set(id, version, known);
                }
                None
            }
            VersionState::Ready { pinned } => Some(pinned),
        };
        if let Some(pinned) = pinned.filter(|_| !self.fitness.is_fit(id, version)) {
            match self.artifacts.prepare(&settings.code, Some(pinned)).await {
                Ok(prepared) => {
                    tracing::info!(runtime = %id, %version, "a lost package was made again");
                    let deployment = self.deployment(&runtime.value, version, settings, prepared);
                    self.fitness.set(id, version, Known::Fit(Arc::new(deployment)));
                }
                Err(reason) => {
                    let reason = format!("its unpacked package was lost and cannot be made again: {reason}");
                    tracing::warn!(runtime = %id, %version, reason, "a version cannot serve");
                    self.fitness.set(id, version, Known::Unfit(reason));
                    self.try_again_later(id, version);
                }
            }
        }
        self.queue.add(Job::Settle(id.clone()));
        Ok(())
    }

    /// Calls a version's warm-up hook, if it has one. The inner error is the version's fault; the outer one is not.
    async fn try_out(&self, deployment: &Arc<Deployment>, settings: &Settings) -> Result<Result<(), String>, Error> {
        let Some(hook) = &settings.warmup else {
            return Ok(Ok(()));
        };
        let warmup = Warmup {
            path: hook.path.clone(),
            port: hook.port,
        };
        match self.sessions.trial(deployment, &warmup).await {
            Ok(()) => Ok(Ok(())),
            // What the agent said is below the first line: see `Catalog::resolve`.
            Err(error) if error.origin() == Origin::Agent => Ok(Err(match error.detail {
                Some(said) => format!("{}\nThe agent said: {said}", error.message),
                None => error.message,
            })),
            Err(error) => Err(error),
        }
    }

    /// Looks again at a version that was fit once and is not now, for as long as an endpoint uses it.
    fn try_again_later(&self, id: &RuntimeId, version: Version) {
        let (queue, fitness, id) = (Arc::clone(&self.queue), Arc::clone(&self.fitness), id.clone());
        self.spawn(async move {
            sleep(RESTORE_PERIOD).await;
            if fitness.is_unfit(&id, version) {
                queue.add(Job::Prepare(id, version));
            }
        });
    }

    /// Ends a runtime's sessions and removes all its records, those that others depend on last.
    async fn finish_deletion(&self, id: &RuntimeId) -> Result<(), Error> {
        self.withdraw(id);
        let ended = timeout(END_SESSIONS, self.sessions.end_runtime(id, Reason::RuntimeDeleted)).await;
        ended.map_err(|_| Error::internal(format!("the sessions of '{id}' do not end")))?;
        self.delete_children::<ClientToken>(id, |token| !outlives_runtime(&token.key, id))
            .await?;
        self.delete_children::<VersionRecord>(id, |_| true).await?;

        let mut tries = Tries::default();
        loop {
            let Some(runtime) = self.store.get::<Runtime>(id.as_str()).await? else {
                break;
            };
            let usage = self.store.get::<Usage>(USAGE_KEY).await?;
            let mut change = Change::default();
            for endpoint in self.store.all::<Endpoint>(&children_of(id)).await? {
                change.delete(&endpoint);
            }
            change.delete(&runtime);
            change.remove::<Name>(runtime.value.name.as_str().to_owned());
            if let Some(token) = &runtime.value.created_by {
                change.remove::<ClientToken>(token.clone());
            }
            let runtimes = usage.as_ref().map_or(0, |usage| usage.value.runtimes).saturating_sub(1);
            change.upsert(usage.as_ref(), &Usage { runtimes });
            if self.store.commit(change).await? == Outcome::Done {
                tracing::info!(runtime = %id, "runtime deleted");
                break;
            }
            tries.again().await?;
        }
        self.fitness.forget(id);
        self.queue.add(Job::Collect);
        Ok(())
    }

    async fn delete_children<T: Document>(&self, id: &RuntimeId, doomed: impl Fn(&T) -> bool) -> Result<(), Error> {
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list::<T>(&children_of(id), after.as_deref(), CHUNK).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.value.key());
            let mut change = Change::default();
            for child in page.iter().filter(|child| doomed(&child.value)) {
                change.remove::<T>(child.value.key());
            }
            self.store.commit(change).await?;
        }
    }

    /// Removes client tokens that are too old to be asked for.
    async fn expire(&self) -> Result<(), Error> {
        let now = self.clock.now();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list::<ClientToken>("", after.as_deref(), CHUNK).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.value.key());
            let mut change = Change::default();
            for token in page.iter().filter(|token| token.value.expires_at <= now) {
                change.delete(token);
            }
            // A token that is written anew at this very moment spoils the chunk; the next round gets the rest.
            self.store.commit(change).await?;
        }
    }

    /// Removes packages that neither a version nor a running session uses.
    async fn collect(&self) -> Result<(), Error> {
        let mut keep: HashSet<String> = self.fitness.packages_in_use();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list::<VersionRecord>("", after.as_deref(), CHUNK).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.value.key());
            keep.extend(page.into_iter().filter_map(|version| match version.value.state {
                VersionState::Ready { pinned } => Some(pinned.package),
                _ => None,
            }));
        }
        keep.extend(self.sessions.packages().iter().filter_map(|path| digest_of(path)));
        self.artifacts.collect(keep).await.map_err(Error::internal)
    }
}

impl Inner {
    fn deployment(
        &self,
        runtime: &Runtime,
        version: Version,
        settings: &Settings,
        prepared: crate::artifacts::Prepared,
    ) -> Deployment {
        // What the user says wins over what the managed runtime suggests.
        let mut environment: BTreeMap<String, String> = prepared.launch.env.into_iter().collect();
        environment.extend(settings.environment.clone());
        let protocol = settings.protocol.clone().unwrap_or_default();
        Deployment {
            arn: self.arn(&runtime.id),
            name: runtime.name.clone(),
            version,
            package: prepared.root,
            read_only: prepared.launch.read_only,
            command: prepared.launch.command,
            environment: environment.into_iter().collect(),
            port: protocol.port.unwrap_or(super::settings::DEFAULT_PORT),
            path: protocol
                .path
                .unwrap_or_else(|| super::settings::DEFAULT_PATH.to_owned()),
            idle_timeout: Duration::from_secs(settings.idle_timeout_seconds.into()),
            max_lifetime: Duration::from_secs(settings.max_lifetime_seconds.into()),
            header_allowlist: settings
                .header_allowlist
                .iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
            storage: settings.storage.as_deref().map(|said| SessionStorage {
                mount_path: super::hooks::mount_path(said),
            }),
            authorizer: settings.authorizer.clone(),
            role: settings.role_arn.clone(),
        }
    }
}
