//! How a session gets its sandbox: it starts one, is given one that is ready, or goes on with the one it had.

use super::super::environment;
use super::super::inside::Inside;
use super::super::pool::Warm;
use super::super::report::Outstanding;
use super::super::room::Hold;
use super::super::start;
use super::super::storage;
use super::{Done, Owner};
use crate::credentials::session_name;
use crate::metrics::Step;
use sandbox::Sandbox;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How a session gets its sandbox.
#[derive(Debug)]
pub(in crate::session) enum Birth {
    /// One is started.
    Cold(Hold),
    /// One is ready.
    Warm(Warm),
    /// An earlier server process had it.
    Adopted(Adopted),
}

/// What an earlier server process left of a session.
#[derive(Debug)]
pub(in crate::session) struct Adopted {
    pub(in crate::session) sandbox: Arc<dyn Sandbox>,
    /// Whether its agent had been healthy.
    pub(in crate::session) healthy: bool,
    /// When it last showed that it works without a call, counted from the session's birth.
    pub(in crate::session) kept_alive: Duration,
    /// The credentials that it has been given.
    pub(in crate::session) credentials: Vec<Outstanding>,
}

impl Owner {
    /// Begins, the one time.
    pub(super) fn be_born(&mut self) {
        match self.birth.take() {
            Some(Birth::Cold(hold)) => {
                self.hold = Some(hold);
                self.start_cold();
            }
            Some(Birth::Warm(warm)) => self.start_warm(warm),
            Some(Birth::Adopted(adopted)) => self.take_over(adopted),
            None => {}
        }
    }

    /// A sandbox of its own is started.
    pub(super) fn start_cold(&mut self) {
        let queued = self.session.now();
        let (key, deployment, shared) = (&self.session.key, &self.session.deployment, &self.shared);
        let mut spec = environment::spec(&key.endpoint, deployment, &shared.config, &shared.node);
        spec.labels.extend(environment::session_labels(
            key,
            self.session.since,
            &self.session.switches,
        ));
        spec.storage = storage::of(&shared.storage_dir, key, deployment, &shared.config);
        let prepared = self.session.now().saturating_sub(queued);
        shared.metrics.step(Step::Queue, queued);
        shared.metrics.step(Step::Prepare, prepared);
        let mut facts = self.session.facts.lock();
        facts.steps.clear();
        facts.step(Step::Queue, queued, queued);
        facts.step(Step::Prepare, queued + prepared, prepared);
        drop(facts);
        let (driver, metrics) = (Arc::clone(&shared.driver), Arc::clone(&shared.metrics));
        let deadline = self.start_deadline;
        self.job = Some(Box::pin(async move {
            if let Some(storage) = &spec.storage {
                storage::touch(&storage.dir).await;
            }
            let began = Instant::now();
            let started = start::sandbox(driver, spec, deadline, metrics).await;
            Done::Sandbox(started, began.elapsed())
        }));
    }

    /// It gets a sandbox that is ready, which learns whose it is before the first byte of a call reaches it.
    fn start_warm(&mut self, warm: Warm) {
        let queued = self.session.now();
        self.shared.metrics.step(Step::Queue, queued);
        let mut facts = self.session.facts.lock();
        facts.start.warm = true;
        facts.step(Step::Queue, queued, queued);
        drop(facts);
        let now = self.shared.clock.now();
        let mut labels = environment::session_labels(&self.session.key, self.session.since, &self.session.switches);
        labels.extend(environment::healthy_label(now));
        self.job = Some(Box::pin(async move {
            let assigned = warm.sandbox.assign(labels).await;
            Done::Assigned(assigned, Box::new(warm))
        }));
    }

    /// Answers the session's sandbox from now on.
    pub(super) fn open_inside(&self, sandbox: &Arc<dyn Sandbox>) -> Inside {
        let deployment = &self.session.deployment;
        let name = session_name(&self.session.key.session);
        Inside::open(&self.shared, sandbox, &deployment.arn, &deployment.role, name)
    }

    /// The session's sandbox is answered by this from now on.
    pub(super) fn attach(&mut self, inside: Inside) {
        self.session.holds(inside.wallet());
        self.inside = Some(inside);
    }

    /// It goes on where an earlier server process was.
    fn take_over(&mut self, adopted: Adopted) {
        let Adopted {
            sandbox,
            healthy,
            credentials,
            ..
        } = adopted;
        let inside = self.open_inside(&sandbox);
        inside.resume(credentials);
        self.attach(inside);
        let (session, shared) = (&self.session, &self.shared);
        let born = Instant::now();
        let agent = start::Agent::new(
            shared,
            Arc::clone(&sandbox),
            &session.deployment,
            born,
            self.start_deadline,
        );
        self.upstream = Some(Arc::clone(&agent.upstream));
        let mut facts = session.facts.lock();
        facts.sandbox = Some(sandbox.id().clone());
        facts.moved(shared.clock.now(), self.machine.phase().into(), "adopted");
        facts.follow(&self.machine);
        drop(facts);
        self.sandbox = Some(sandbox);
        if healthy {
            self.open();
            self.session.publish(self.machine.phase());
            self.keep();
        } else {
            self.job = Some(Box::pin(async move { Done::Healthy(agent.healthy().await) }));
        }
    }
}
