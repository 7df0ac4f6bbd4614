//! The one task that runs a session: feeds its machine and does what the machine says.
//!
//! It is woken by four things only: a wish to end the session, the agent's exit, the end of its own job (start or
//! ping), and time. Calls never wake it; it looks at the gate when it wakes.
//!
//! Invariant: at most one job runs. Invariant: however this task ends, even by a panic, waiting calls are released and
//! the session is forgotten.

use super::config::Config;
use super::environment;
use super::live::{Ended, Session};
use super::machine::{Answer, Effect, Input, Machine, Phase, Ping, Policy, Reason};
use super::ping;
use super::router::Shared;
use super::start::{self, exit_of, log_tail};
use crate::upstream::Upstream;
use domain::Error;
use domain::id::SandboxId;
use sandbox::{Driver, Exit, Sandbox, State};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// Beyond its grace, for the driver to remove what is left of a sandbox.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(30);

/// Owner of one session.
pub(super) struct Owner {
    session: Arc<Session>,
    shared: Arc<Shared>,
    machine: Machine,
    born: Instant,
    start_deadline: Instant,
    job: Option<Job>,
    sandbox: Option<Arc<dyn Sandbox>>,
    upstream: Option<Arc<Upstream>>,
    /// Watched once the agent is healthy; before, the start watches it.
    exits: Option<watch::Receiver<State>>,
    start_error: Option<Error>,
    exit: Option<(Exit, String)>,
}

type Job = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What came of a job.
enum Done {
    Sandbox(Result<Arc<dyn Sandbox>, Error>),
    Healthy(Result<Answer, Error>),
    Pinged(Ping),
}

impl Owner {
    pub(super) fn new(session: Arc<Session>, shared: Arc<Shared>) -> Self {
        let config = &shared.config;
        let machine = Machine::new(policy(&session, config), jitter_seed(&session));
        let born = session.at(Duration::ZERO);
        shared.metrics.moved(None, Phase::Provisioning);
        Self {
            start_deadline: born + config.start_deadline,
            session,
            shared,
            machine,
            born,
            job: None,
            sandbox: None,
            upstream: None,
            exits: None,
            start_error: None,
            exit: None,
        }
    }

    /// Runs the session to its end.
    pub(super) async fn run(mut self) {
        let mut wishes = self.session.wishes();
        let spec = environment::spec(
            &self.session.key,
            &self.session.deployment,
            &self.shared.config,
            &self.shared.server,
        );
        let (driver, metrics) = (Arc::clone(&self.shared.driver), Arc::clone(&self.shared.metrics));
        let (deadline, started) = (self.start_deadline, start::sandbox);
        self.job = Some(Box::pin(async move {
            Done::Sandbox(started(driver, spec, deadline, metrics).await)
        }));
        while !matches!(self.machine.phase(), Phase::Terminated(_)) {
            let input = self.next_input(&mut wishes).await;
            self.take(input).await;
        }
    }

    async fn next_input(&mut self, wishes: &mut watch::Receiver<Option<Reason>>) -> Input {
        let wake = self.machine.wake_at(self.session.now(), self.session.look());
        let wake = wake.map(|at| self.session.at(at));
        let done = tokio::select! {
            biased;
            reason = wish(wishes) => return Input::End(reason),
            exit = exited(&mut self.exits) => {
                let log = match &self.sandbox {
                    Some(sandbox) => log_tail(sandbox).await,
                    None => String::new(),
                };
                self.exit = Some((exit, log));
                return Input::AgentExited;
            }
            done = finished(&mut self.job) => done,
            () = until(wake) => return Input::Tick,
        };
        self.job = None;
        self.finish(done)
    }

    /// Turns what came of a job into an input, and starts the job that follows.
    fn finish(&mut self, done: Done) -> Input {
        match done {
            Done::Sandbox(Ok(sandbox)) => {
                let port = self.session.deployment.port;
                let (config, metrics) = (Arc::clone(&self.shared.config), Arc::clone(&self.shared.metrics));
                let upstream = Upstream::new(Arc::clone(&sandbox), port, config.keep_alive, Arc::clone(&metrics));
                self.sandbox = Some(Arc::clone(&sandbox));
                self.upstream = Some(Arc::clone(&upstream));
                let agent = start::Agent {
                    sandbox,
                    upstream,
                    port,
                    born: self.born,
                    began: self.born,
                    deadline: self.start_deadline,
                    config,
                    clock: self.shared.clock.clone(),
                    metrics,
                };
                self.job = Some(Box::pin(async move { Done::Healthy(agent.healthy().await) }));
                Input::SandboxStarted
            }
            Done::Healthy(Ok(answer)) => {
                self.shared.metrics.started(true);
                self.exits = self.sandbox.as_ref().map(|sandbox| sandbox.state());
                if let Some(upstream) = &self.upstream {
                    self.session.opened(Arc::clone(upstream));
                }
                Input::Healthy(answer)
            }
            Done::Sandbox(Err(error)) | Done::Healthy(Err(error)) => {
                self.shared.metrics.started(false);
                self.start_error = Some(error);
                Input::StartFailed
            }
            Done::Pinged(ping) => Input::Ping(ping),
        }
    }

    /// Steps the machine and does what it says, until it wants nothing more at this moment.
    async fn take(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let (seen, now) = (self.session.look(), self.session.now());
            let before = self.machine.phase();
            let (machine, effects) = self.machine.clone().step(input, now, seen);
            self.machine = machine;
            self.moved(before);
            for effect in effects {
                let follows = match effect {
                    Effect::Ping => {
                        self.ping();
                        None
                    }
                    Effect::ShutIfUnchanged => self.session.shut_if_unchanged(seen).then_some(Input::ShutWhileIdle),
                    Effect::Stop { grace } => {
                        self.stop(grace).await;
                        Some(Input::Gone)
                    }
                    Effect::Forget => {
                        self.shared.forget(&self.session);
                        self.session.publish(self.machine.phase());
                        None
                    }
                };
                next = next.or(follows);
            }
        }
    }

    fn ping(&mut self) {
        let Some(upstream) = self.upstream.clone() else { return };
        let (patience, clock, now) = (
            self.shared.config.ping_timeout,
            self.shared.clock.clone(),
            self.session.now(),
        );
        self.job = Some(Box::pin(async move {
            Done::Pinged(ping::ask(&upstream, patience, &clock, now).await.into())
        }));
    }

    /// Ends the sandbox. Calls in flight break off first: they must not outlive the decision.
    async fn stop(&mut self, grace: Duration) {
        // Dropping a start under way leaves nothing behind; that is the driver's contract.
        self.job = None;
        self.exits = None;
        self.shut();
        if let Some(upstream) = self.upstream.take() {
            upstream.close();
        }
        let Some(sandbox) = self.sandbox.take() else { return };
        match timeout(grace + REMOVAL_DEADLINE, sandbox.stop(grace)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::error!(sandbox = %sandbox.id(), %error, "a sandbox could not be stopped; destroying it");
                destroy(&self.shared.driver, sandbox.id()).await;
            }
            Err(_) => {
                tracing::error!(sandbox = %sandbox.id(), "stopping a sandbox took too long; destroying it");
                destroy(&self.shared.driver, sandbox.id()).await;
            }
        }
    }

    fn shut(&mut self) {
        let reason = self.machine.phase().reason().unwrap_or(Reason::Draining);
        self.session.shut(Ended {
            reason,
            start_error: self.start_error.take(),
            exit: self.exit.take(),
        });
    }

    /// Publishes, counts and logs a change of phase. The end's beginning is published by `shut`, with its particulars.
    fn moved(&self, before: Phase) {
        let after = self.machine.phase();
        if before == after {
            return;
        }
        self.shared.metrics.moved(Some(before), after);
        if matches!(after, Phase::Active | Phase::Idle) {
            self.session.publish(after);
        }
        let key = &self.session.key;
        let (from, to) = (before.name(), after.name());
        let version = self.session.deployment.version;
        let (runtime, endpoint, session) = (&key.runtime, &key.endpoint, &key.session);
        match after.reason() {
            Some(reason) => {
                let (exit, error) = (self.exit.as_ref().map(|(exit, _)| exit), self.start_error.as_ref());
                tracing::info!(%runtime, %endpoint, %version, %session, from, to, %reason, ?exit, ?error, "session");
            }
            None if before == Phase::Provisioning => {
                tracing::info!(%runtime, %endpoint, %version, %session, from, to, "session");
            }
            None => tracing::debug!(%runtime, %endpoint, %version, %session, from, to, "session"),
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let phase = self.machine.phase();
        if matches!(phase, Phase::Terminated(_)) {
            return;
        }
        // A panic, or the async runtime is going down under us.
        tracing::error!(session = %self.session.key.session, phase = phase.name(), "a session lost its owner");
        let reason = phase.reason().unwrap_or(Reason::Draining);
        let error = Error::internal("The session was lost. The same call will start a new one.");
        self.session.shut(Ended {
            reason,
            start_error: Some(error),
            exit: None,
        });
        self.shared.metrics.moved(Some(phase), Phase::Terminated(reason));
        self.shared.forget(&self.session);
        self.session.publish(Phase::Terminated(reason));
    }
}

fn policy(session: &Session, config: &Config) -> Policy {
    Policy {
        idle_timeout: session.deployment.idle_timeout,
        max_lifetime: session.deployment.max_lifetime,
        ping_interval: config.ping_interval,
        unhealthy_threshold: config.unhealthy_threshold.max(1),
        busy_needs_update_time: config.busy_needs_update_time,
        stop_grace: config.stop_grace,
    }
}

/// The last resort after a stop that failed.
async fn destroy(driver: &Arc<dyn Driver>, sandbox: &SandboxId) {
    match timeout(REMOVAL_DEADLINE, driver.destroy(sandbox)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%sandbox, %error, "a sandbox is left over until the server starts again"),
        Err(_) => tracing::error!(%sandbox, "a sandbox is left over until the server starts again"),
    }
}

/// Any number that differs between sessions will do.
fn jitter_seed(session: &Session) -> u32 {
    session
        .key
        .session
        .as_str()
        .bytes()
        .fold(0, |seed: u32, byte| seed.wrapping_mul(31).wrapping_add(u32::from(byte)))
}

async fn wish(wishes: &mut watch::Receiver<Option<Reason>>) -> Reason {
    let wish = wishes.wait_for(Option::is_some).await.ok().and_then(|wish| *wish);
    match wish {
        Some(reason) => reason,
        // The sender lives in the session, which the owner holds.
        None => std::future::pending().await,
    }
}

async fn exited(exits: &mut Option<watch::Receiver<State>>) -> Exit {
    match exits {
        Some(exits) => exit_of(exits).await,
        None => std::future::pending().await,
    }
}

async fn finished(job: &mut Option<Job>) -> Done {
    match job {
        Some(job) => job.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
