//! The one task that runs a session: feeds its machine and does what the machine says.
//!
//! It is woken by five things only: a wish to end the session or to let go of it, the agent's exit, the end of its own
//! job (start, ping, pause or resume), a call that finds the session asleep or is the first to leave after a quiet time,
//! and time. Other calls never wake it; it looks at the gate when it wakes.
//!
//! [`birth`] is how a session gets its sandbox; the rest is here.
//!
//! Invariant: at most one job runs. Invariant: however this task ends, even by a panic, waiting calls are released and
//! the session is forgotten.

mod birth;

pub(super) use birth::{Adopted, Birth};

use super::config::Config;
use super::environment;
use super::facts::Facts;
use super::gate::Look;
use super::inside::Inside;
use super::live::{Ended, Session, Wish};
use super::machine::{Answer, Effect, Input, Machine, Phase, Ping, Policy, Reason};
use super::ping;
use super::pool::Warm;
use super::report;
use super::room::Hold;
use super::router::Shared;
use super::start::{self, Healthy, exit_of, log_tail};
use super::storage;
use crate::credentials::session_name;
use crate::metrics::Step;
use crate::switches::PauseAfter;
use crate::upstream::Upstream;
use domain::Error;
use domain::id::SandboxId;
use sandbox::{Driver, Exit, Sandbox, State, Usage};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// Beyond its grace, for the driver to remove what is left of a sandbox.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(30);
/// How often at most it is looked what a sandbox uses: files to read, of which a thousand idle sessions have thousands.
const SAMPLE_PERIOD: Duration = Duration::from_secs(60);
/// For questions to a sandbox that only complete a record.
const QUESTION_DEADLINE: Duration = Duration::from_secs(1);
const ODD_TIME: &str = "the agent's /ping has a time_of_last_update that is not whole seconds since 1970 (text, \
                        milliseconds or a time to come); it is ignored, and HealthyBusy counts without it";

/// Owner of one session.
pub(super) struct Owner {
    session: Arc<Session>,
    shared: Arc<Shared>,
    machine: Machine,
    birth: Option<Birth>,
    start_deadline: Instant,
    job: Option<Job>,
    sandbox: Option<Arc<dyn Sandbox>>,
    /// What the sandbox reaches of this server.
    inside: Option<Inside>,
    upstream: Option<Arc<Upstream>>,
    /// Watched once the agent is healthy; before, the start watches it.
    exits: Option<watch::Receiver<State>>,
    start_error: Option<Error>,
    exit: Option<(Exit, String)>,
    /// Memory that is spoken for until the session's own use can be seen.
    hold: Option<Hold>,
    /// Counted among the sessions that are being started.
    starting: bool,
    /// The agent's odd times have been noted in its log.
    noted: bool,
    /// When it was looked last what the sandbox uses.
    sampled: Option<Duration>,
}

type Job = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What came of a job.
enum Done {
    Assigned(Result<(), sandbox::Error>, Box<Warm>),
    Sandbox(Result<Arc<dyn Sandbox>, Error>, Duration),
    Healthy(Result<Healthy, Error>),
    Pinged(ping::Outcome, Option<Usage>),
    Paused(Result<(), sandbox::Error>),
    Resumed(Result<(), sandbox::Error>),
}

impl Owner {
    pub(super) fn new(session: Arc<Session>, shared: Arc<Shared>, birth: Birth) -> Self {
        let policy = policy(&session, &shared.config);
        let seed = jitter_seed(&session);
        let machine = match &birth {
            Birth::Adopted(adopted) if adopted.healthy => {
                Machine::adopted(policy, seed, Duration::ZERO, adopted.kept_alive, session.now())
            }
            _ => Machine::new(policy, seed),
        };
        shared.metrics.moved(None, machine.phase());
        shared.begin_start();
        Self {
            start_deadline: Instant::now() + shared.config.start_deadline,
            session,
            shared,
            machine,
            birth: Some(birth),
            job: None,
            sandbox: None,
            inside: None,
            upstream: None,
            exits: None,
            start_error: None,
            exit: None,
            hold: None,
            starting: true,
            noted: false,
            sampled: None,
        }
    }

    /// Runs the session to its end.
    pub(super) async fn run(mut self) {
        let mut wishes = self.session.wishes();
        self.be_born();
        while !matches!(self.machine.phase(), Phase::Terminated(_)) {
            match self.next_input(&mut wishes).await {
                Some(input) => self.take(input).await,
                None => return self.leave(),
            }
        }
    }

    /// What happens next; nothing when the session is to be let go of as it is.
    async fn next_input(&mut self, wishes: &mut watch::Receiver<Option<Wish>>) -> Option<Input> {
        let wake = self.machine.wake_at(self.session.now(), self.session.look());
        let wake = wake.map(|at| self.session.at(at));
        self.session.watch(self.machine.looks_rarely());
        let done = tokio::select! {
            biased;
            wish = wish(wishes) => return match wish {
                Wish::End(reason) => Some(Input::End(reason)),
                Wish::Leave => None,
            },
            exit = exited(&mut self.exits) => {
                let log = match &self.sandbox {
                    Some(sandbox) => log_tail(sandbox).await,
                    None => String::new(),
                };
                self.exit = Some((exit, log));
                return Some(Input::AgentExited);
            }
            done = finished(&mut self.job) => done,
            () = self.session.woken() => return Some(Input::Woken),
            () = until(wake) => return Some(Input::Tick),
        };
        self.job = None;
        self.finish(done)
    }

    /// Turns what came of a job into an input, and starts the job that follows.
    fn finish(&mut self, done: Done) -> Option<Input> {
        Some(match done {
            Done::Assigned(Ok(()), warm) => {
                let Warm {
                    sandbox,
                    upstream,
                    answer,
                    inside,
                    ..
                } = *warm;
                inside.wallet().rename(session_name(&self.session.key.session));
                self.attach(inside);
                self.session.facts.lock().sandbox = Some(sandbox.id().clone());
                self.sandbox = Some(sandbox);
                self.upstream = Some(upstream);
                self.open();
                self.shared.metrics.started(true);
                // The times that it told were counted from its own birth.
                let answer = Answer {
                    updated: None,
                    ..answer
                };
                Input::Healthy(answer)
            }
            Done::Assigned(Err(error), warm) => {
                tracing::error!(sandbox = %warm.sandbox.id(), %error, "a warm sandbox could not be assigned; starting another");
                super::pool::end(&self.shared, *warm);
                self.session.facts.lock().start.warm = false;
                self.start_cold();
                return Some(Input::Tick);
            }
            Done::Sandbox(Ok(sandbox), took) => {
                let born = self.session.at(Duration::ZERO);
                let (shared, deployment) = (&self.shared, &self.session.deployment);
                let agent = start::Agent::new(shared, Arc::clone(&sandbox), deployment, born, self.start_deadline);
                self.upstream = Some(Arc::clone(&agent.upstream));
                let mut facts = self.session.facts.lock();
                facts.sandbox = Some(sandbox.id().clone());
                facts.step(Step::Sandbox, self.session.now(), took);
                drop(facts);
                let inside = self.open_inside(&sandbox);
                self.attach(inside);
                self.sandbox = Some(sandbox);
                self.job = Some(Box::pin(async move { Done::Healthy(agent.healthy().await) }));
                Input::SandboxStarted
            }
            Done::Healthy(Ok(healthy)) => {
                self.shared.metrics.started(true);
                let mut facts = self.session.facts.lock();
                let now = self.session.now();
                facts.step(Step::Process, now.saturating_sub(healthy.healthy), healthy.process);
                facts.step(Step::Healthy, now, healthy.healthy);
                drop(facts);
                self.open();
                self.mark_healthy();
                self.note_odd_time(healthy.answer);
                Input::Healthy(healthy.answer)
            }
            Done::Sandbox(Err(error), _) | Done::Healthy(Err(error)) => {
                self.shared.metrics.started(false);
                self.start_error = Some(error);
                Input::StartFailed
            }
            Done::Pinged(outcome, usage) => {
                if let Some(usage) = usage {
                    self.sampled(&usage);
                }
                if let ping::Outcome::Good(answer) = outcome {
                    self.note_odd_time(answer);
                }
                Input::Ping(Ping::from(outcome))
            }
            Done::Paused(Ok(())) => Input::Paused,
            Done::Paused(Err(error)) => {
                tracing::warn!(session = %self.session.key.session, %error, "a session could not be paused");
                self.session.awoke();
                Input::NotPaused { for_good: true }
            }
            Done::Resumed(Ok(())) => {
                self.session.awoke();
                Input::Resumed
            }
            Done::Resumed(Err(error)) => {
                tracing::error!(session = %self.session.key.session, %error, "a paused session could not be resumed");
                Input::End(Reason::Unhealthy)
            }
        })
    }

    /// The agent is healthy: calls may come.
    fn open(&mut self) {
        self.exits = self.sandbox.as_ref().map(|sandbox| sandbox.state());
        if let Some(upstream) = &self.upstream {
            self.session.opened(Arc::clone(upstream));
        }
        self.started();
    }

    /// Writes into the sandbox that its agent has been healthy, so that a later server process knows it too. Nobody waits
    /// for it: without it, that process asks the agent first.
    fn mark_healthy(&self) {
        let Some(sandbox) = self.sandbox.clone() else { return };
        let labels = environment::healthy_label(self.shared.clock.now());
        self.shared.owners.spawn(async move {
            if let Err(error) = sandbox.assign(labels).await {
                tracing::debug!(sandbox = %sandbox.id(), %error, "a sandbox could not be marked as healthy");
            }
        });
    }

    /// Says once in the session's log that its agent tells times that cannot be used.
    fn note_odd_time(&mut self, answer: Answer) {
        if !answer.odd_time || std::mem::replace(&mut self.noted, true) {
            return;
        }
        let Some(sandbox) = self.sandbox.clone() else { return };
        self.shared.owners.spawn(async move {
            let _ = timeout(QUESTION_DEADLINE, sandbox.note(ODD_TIME)).await;
        });
    }

    fn sampled(&mut self, usage: &Usage) {
        let now = self.session.now();
        self.sampled = Some(now);
        self.session.facts.lock().sample(now, usage);
        let peak = usage.memory_peak.max(usage.memory);
        self.shared.room.learn(&self.session.deployment, peak);
        // From here on the host's own figures show what the session uses.
        self.hold = None;
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
                let follows = self.act(effect, seen).await;
                next = next.or(follows);
            }
        }
    }

    async fn act(&mut self, effect: Effect, seen: Look) -> Option<Input> {
        match effect {
            Effect::Ping => self.ping(),
            Effect::ShutIfUnchanged => return self.session.shut_if_unchanged(seen).then_some(Input::ShutWhileIdle),
            Effect::PauseIfUnchanged => {
                if !self.session.sleep_if_unchanged(seen) {
                    return Some(Input::NotPaused { for_good: false });
                }
                let sandbox = self.sandbox.clone()?;
                self.job = Some(Box::pin(async move { Done::Paused(sandbox.pause().await) }));
            }
            Effect::Resume => {
                let sandbox = self.sandbox.clone()?;
                self.job = Some(Box::pin(async move { Done::Resumed(sandbox.resume().await) }));
            }
            Effect::Stop { grace } => {
                self.stop(grace).await;
                return Some(Input::Gone);
            }
            Effect::Forget => {
                // In this order: whoever looks finds it among the living or among the ended, at any moment.
                self.shared.journal.ended(self.session.report(&self.shared.node));
                self.shared.forget(&self.session);
                self.session.publish(self.machine.phase());
            }
        }
        None
    }

    fn ping(&mut self) {
        let (Some(upstream), Some(sandbox)) = (self.upstream.clone(), self.sandbox.clone()) else {
            return;
        };
        let (patience, clock, now) = (
            self.shared.config.ping_timeout,
            self.shared.clock.clone(),
            self.session.now(),
        );
        let due = self.sampled.is_none_or(|at| now.saturating_sub(at) >= SAMPLE_PERIOD);
        self.job = Some(Box::pin(async move {
            let outcome = ping::ask(&upstream, patience, &clock, now).await;
            let usage = match due {
                true => timeout(QUESTION_DEADLINE, sandbox.usage())
                    .await
                    .ok()
                    .and_then(Result::ok),
                false => None,
            };
            Done::Pinged(outcome, usage)
        }));
    }

    /// Ends the sandbox. Calls in flight break off first: they must not outlive the decision.
    async fn stop(&mut self, grace: Duration) {
        // Dropping a start under way leaves nothing behind; that is the driver's contract.
        self.job = None;
        self.exits = None;
        self.started();
        let reason = self.machine.phase().reason().unwrap_or(Reason::Draining);
        let last_words = match (&self.exit, &self.sandbox) {
            (Some((_, log)), _) => log.clone(),
            (None, Some(sandbox)) if reason.is_bad() => log_tail(sandbox).await,
            _ => String::new(),
        };
        {
            let mut facts = self.session.facts.lock();
            facts.exit = self.exit.as_ref().map(|(exit, _)| report::Exit::from(exit));
            facts.log_tail = (reason.is_bad() && !last_words.is_empty()).then_some(last_words);
        }
        self.shut();
        if let Some(upstream) = self.upstream.take() {
            upstream.close();
        }
        if let Some(sandbox) = self.sandbox.take() {
            if let Ok(Ok(usage)) = timeout(QUESTION_DEADLINE, sandbox.usage()).await {
                self.sampled(&usage);
            }
            end(&self.shared.driver, &*sandbox, grace).await;
        }
        // After its agent's last words, which may be a signed call.
        if let Some(inside) = self.inside.take() {
            inside.end().await;
        }
        self.hold = None;
        if let Some(storage) = storage::of(
            &self.shared.storage_dir,
            &self.session.key,
            &self.session.deployment,
            &self.shared.config,
        ) {
            storage::touch(&storage.dir).await;
        }
        self.session.facts.lock().ended = Some(self.session.now());
    }

    fn shut(&mut self) {
        let reason = self.machine.phase().reason().unwrap_or(Reason::Draining);
        self.session.shut(Ended {
            reason,
            start_error: self.start_error.take(),
            exit: self.exit.take(),
        });
    }

    /// Lets go of the session: its sandbox goes on, and the next server process takes it over.
    fn leave(mut self) {
        self.keep();
        self.started();
        let phase = self.machine.phase();
        // What is still in flight has had its time; those who wait for a start are told to come again.
        self.session.shut(Ended {
            reason: Reason::Draining,
            start_error: None,
            exit: None,
        });
        self.shared
            .metrics
            .moved(Some(phase), Phase::Terminated(Reason::Draining));
        self.shared.forget(&self.session);
        self.session.publish(Phase::Terminated(Reason::Draining));
        // Nothing is left to be done when this is dropped.
        self.machine = self.machine.clone().let_go();
    }

    /// Publishes, counts and logs a change of phase. The end's beginning is published by `shut`, with its particulars.
    fn moved(&mut self, before: Phase) {
        let after = self.machine.phase();
        let mut facts = self.session.facts.lock();
        facts.follow(&self.machine);
        if before == after {
            return;
        }
        note_move(&mut facts, self.shared.clock.now(), before, &self.machine);
        drop(facts);
        self.shared.metrics.moved(Some(before), after);
        if matches!(after, Phase::Active | Phase::Idle | Phase::Paused) {
            self.session.publish(after);
            self.keep();
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

    /// Has the journal know how the session stands.
    fn keep(&self) {
        if self.sandbox.is_some() {
            self.shared.journal.lives(self.session.report(&self.shared.node));
        }
    }

    /// It is no longer among those that are being started.
    fn started(&mut self) {
        if std::mem::replace(&mut self.starting, false) {
            self.shared.end_start();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.started();
        let phase = self.machine.phase();
        if matches!(phase, Phase::Terminated(_)) {
            return;
        }
        // A panic, or the async runtime is going down under us.
        tracing::error!(session = %self.session.key.session, phase = phase.name(), "a session lost its owner");
        if let Some(inside) = self.inside.take() {
            self.shared.owners.spawn(inside.end());
        }
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

/// Writes a change of phase and its reason down.
fn note_move(facts: &mut Facts, at: jiff::Timestamp, before: Phase, machine: &Machine) {
    let after = machine.phase();
    let reason = match (before, after) {
        (_, Phase::Terminating(reason) | Phase::Terminated(reason)) => reason.name(),
        (Phase::Provisioning, _) => "healthy",
        (_, Phase::Active) if machine.is_busy() => "healthy_busy",
        (Phase::Paused, _) | (_, Phase::Active) => "call",
        (_, Phase::Paused) => "pause_after",
        (_, Phase::Idle) => "quiet",
        (_, Phase::Provisioning) => "first_call",
    };
    facts.moved(at, after.into(), reason);
}

fn policy(session: &Session, config: &Config) -> Policy {
    let pause_after = match session.switches.pause_after {
        Some(PauseAfter::Never) => None,
        Some(PauseAfter::Idle(after)) => Some(after),
        None => (!config.pause_after.is_zero()).then_some(config.pause_after),
    };
    Policy {
        idle_timeout: session.deployment.idle_timeout,
        max_lifetime: session.deployment.max_lifetime,
        ping_interval: config.ping_interval,
        ping_interval_quiet: config.ping_interval_quiet,
        pause_after,
        pause_busy: session.switches.pause_after.is_some(),
        unhealthy_threshold: config.unhealthy_threshold.max(1),
        busy_needs_update_time: config.busy_needs_update_time,
        stop_grace: config.stop_grace,
    }
}

/// Ends a sandbox, by force if it must be.
async fn end(driver: &Arc<dyn Driver>, sandbox: &dyn Sandbox, grace: Duration) {
    match timeout(grace + REMOVAL_DEADLINE, sandbox.stop(grace)).await {
        Ok(Ok(_)) => {}
        // Another server has it now; what becomes of it is that one's matter.
        Ok(Err(error @ sandbox::Error::Fenced(_))) => {
            tracing::error!(sandbox = %sandbox.id(), %error, "a sandbox belongs to another server");
        }
        Ok(Err(error)) => {
            tracing::error!(sandbox = %sandbox.id(), %error, "a sandbox could not be stopped; destroying it");
            destroy(driver, sandbox.id()).await;
        }
        Err(_) => {
            tracing::error!(sandbox = %sandbox.id(), "stopping a sandbox took too long; destroying it");
            destroy(driver, sandbox.id()).await;
        }
    }
}

/// The last resort after a stop that failed.
pub(super) async fn destroy(driver: &Arc<dyn Driver>, sandbox: &SandboxId) {
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

async fn wish(wishes: &mut watch::Receiver<Option<Wish>>) -> Wish {
    let wish = wishes.wait_for(Option::is_some).await.ok().and_then(|wish| *wish);
    match wish {
        Some(wish) => wish,
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
