//! From nothing to a healthy agent, or to a sentence that says why not.
//!
//! Three steps, each measured: the driver starts the sandbox, the agent's port accepts connections (pushed by the
//! driver), `/ping` answers 200 (asked again and again, at first after a millisecond). One deadline covers all three.
//!
//! Invariant: whatever fails, the message says which step it was and what was seen instead; what the agent itself wrote is
//! in the error's detail, and only there.

use super::config::Config;
use super::machine::Answer;
use super::ping::{self, Outcome};
use super::router::Shared;
use super::wording::{EXCERPT, how_it_ended, list_ports, tail};
use crate::deployment::Deployment;
use crate::metrics::{Metrics, Step};
use crate::upstream::Upstream;
use domain::{Clock, Error};
use sandbox::{Driver, Exit, Limits, Sandbox, Spec, State};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// For questions to a sandbox that only improve a message.
const QUESTION_DEADLINE: Duration = Duration::from_secs(1);

/// The first step: a sandbox whose agent's process runs.
pub(super) async fn sandbox(
    driver: Arc<dyn Driver>,
    spec: Spec,
    deadline: Instant,
    metrics: Arc<Metrics>,
) -> Result<Arc<dyn Sandbox>, Error> {
    let began = Instant::now();
    let id = spec.id.clone();
    let started = timeout_at(deadline, driver.start(spec)).await;
    metrics.step(Step::Sandbox, began.elapsed());
    match started {
        Ok(Ok(sandbox)) => Ok(sandbox),
        Ok(Err(sandbox::Error::Artifact(said))) => Err(Error::agent(format!("The agent could not be started: {said}"))),
        Ok(Err(error)) => {
            tracing::error!(sandbox = %id, driver = driver.name(), %error, "a sandbox could not be started");
            Err(Error::internal(format!(
                "The {} driver could not start a sandbox. The server's log says why (sandbox {id}).",
                driver.name()
            )))
        }
        Err(_) => {
            let seconds = began.elapsed().as_secs();
            tracing::error!(sandbox = %id, driver = driver.name(), seconds, "starting a sandbox took too long");
            Err(Error::internal(format!(
                "Starting a sandbox took longer than {seconds} s; the server may be overloaded."
            )))
        }
    }
}

/// What the second and third step need.
pub(super) struct Agent {
    pub(super) sandbox: Arc<dyn Sandbox>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) port: u16,
    pub(super) born: Instant,
    pub(super) deadline: Instant,
    pub(super) config: Arc<Config>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
}

/// An agent that has answered `/ping` with 200.
#[derive(Debug)]
pub(super) struct Healthy {
    pub(super) answer: Answer,
    /// From the start of its process until it listened.
    pub(super) process: Duration,
    /// From there until it was healthy.
    pub(super) healthy: Duration,
}

impl Agent {
    /// One of a sandbox that has just been started, or taken over; `born` is what its answers' times are counted from.
    pub(super) fn new(
        shared: &Shared,
        sandbox: Arc<dyn Sandbox>,
        deployment: &Deployment,
        born: Instant,
        deadline: Instant,
    ) -> Self {
        let (config, metrics) = (Arc::clone(&shared.config), Arc::clone(&shared.metrics));
        let port = deployment.port;
        let upstream = Upstream::new(Arc::clone(&sandbox), port, config.keep_alive, Arc::clone(&metrics));
        Self {
            sandbox,
            upstream,
            port,
            born,
            deadline,
            config,
            clock: shared.clock.clone(),
            metrics,
        }
    }

    /// Waits until the agent listens and is healthy.
    pub(super) async fn healthy(self) -> Result<Healthy, Error> {
        let mut state = self.sandbox.state();
        let step = Instant::now();
        let listening = timeout_at(self.deadline, state.wait_for(|state| *state != State::Started)).await;
        match listening.map(|state| state.map(|state| state.clone())) {
            Err(_) => return Err(self.never_listened().await),
            Ok(Ok(State::Exited(exit))) => {
                return Err(self
                    .exited(&exit, &format!("before it listened on port {}", self.port))
                    .await);
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(Error::internal("The driver lost the sandbox while its agent started.")),
        }
        let process = step.elapsed();
        self.metrics.step(Step::Process, process);
        let step = Instant::now();
        let mut last = Outcome::Silent;
        let mut pause = FIRST_PAUSE;
        let asking = async {
            loop {
                let patience = self
                    .config
                    .ping_timeout
                    .min(self.deadline.saturating_duration_since(Instant::now()));
                match ping::ask(&self.upstream, patience, &self.clock, self.born.elapsed()).await {
                    Outcome::Good(answer) => return answer,
                    bad => last = bad,
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        tokio::select! {
            biased;
            exit = exit_of(&mut state) => Err(self.exited(&exit, "before it answered /ping").await),
            answer = timeout_at(self.deadline, asking) => {
                let healthy = step.elapsed();
                self.metrics.step(Step::Healthy, healthy);
                let answer = answer.map_err(|_| self.never_healthy(&last))?;
                Ok(Healthy { answer, process, healthy })
            }
        }
    }

    fn never_healthy(&self, last: &Outcome) -> Error {
        let port = self.port;
        let seconds = self.born.elapsed().as_secs();
        let seen = match last {
            Outcome::Status(status) => format!("answers GET /ping with status {} instead of 200", status.as_u16()),
            Outcome::Broken(said) => format!("does not answer GET /ping on port {port}: {said}"),
            Outcome::Silent | Outcome::Good(_) => {
                format!("accepts connections on port {port} but never answers GET /ping; it may be blocked")
            }
        };
        Error::agent(format!(
            "Runtime initialization time exceeded: after {seconds} s the agent {seen}."
        ))
    }

    async fn exited(&self, exit: &Exit, when: &str) -> Error {
        let how = how_it_ended(exit, &Limits::from(&self.config.limits));
        let log = log_tail(&self.sandbox).await;
        Error::agent(format!("The agent {how} {when}.")).with_detail(tail(&log, EXCERPT))
    }

    async fn never_listened(&self) -> Error {
        let port = self.port;
        let seconds = self.born.elapsed().as_secs();
        let ports = match timeout(QUESTION_DEADLINE, self.sandbox.ports()).await {
            Ok(Ok(ports)) => ports,
            _ => Vec::new(),
        };
        let others: Vec<u16> = ports.into_iter().filter(|other| *other != port).collect();
        if others.is_empty() {
            let log = log_tail(&self.sandbox).await;
            return Error::agent(format!(
                "Runtime initialization time exceeded: after {seconds} s nothing listens on port {port}, where the \
                 agent must serve POST /invocations and GET /ping."
            ))
            .with_detail(tail(&log, EXCERPT));
        }
        Error::agent(format!(
            "Runtime initialization time exceeded: after {seconds} s nothing listens on port {port}; the agent listens on \
             port {} instead. Let it listen on 0.0.0.0:{port}.",
            list_ports(&others)
        ))
    }
}

/// Waits until the sandbox has ended. Also when its driver has lost it, which is an end without particulars.
pub(super) async fn exit_of(state: &mut watch::Receiver<State>) -> Exit {
    match state
        .wait_for(|state| matches!(state, State::Exited(_)))
        .await
        .as_deref()
    {
        Ok(State::Exited(exit)) => exit.clone(),
        _ => Exit {
            code: None,
            signal: None,
            out_of_memory: false,
        },
    }
}

/// The end of a sandbox's log, or nothing if it cannot be had quickly.
pub(super) async fn log_tail(sandbox: &Arc<dyn Sandbox>) -> String {
    match timeout(QUESTION_DEADLINE, sandbox.log_tail(4096)).await {
        Ok(Ok(log)) => log,
        _ => String::new(),
    }
}
