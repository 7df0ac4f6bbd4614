//! What calls, the router and the owner share of one session.

use super::config::Config;
use super::gate::{Gate, Gated, Look};
use super::machine::{Phase, Reason};
use super::router::Key;
use crate::deployment::Deployment;
use crate::upstream::Upstream;
use domain::id::Version;
use domain::{Error, Kind};
use jiff::Timestamp;
use sandbox::{Exit, Limits};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    /// Whose it is.
    pub(crate) key: Key,
    /// The version that it runs, whatever its endpoint serves meanwhile.
    pub(crate) deployment: Arc<Deployment>,
    /// What its sandbox may use.
    pub(crate) limits: Limits,
    gate: Gate,
    since: Timestamp,
    phase: watch::Sender<Phase>,
    /// The first wish to end it.
    wish: watch::Sender<Option<Reason>>,
    /// The way to its agent, once that is healthy.
    upstream: OnceLock<Arc<Upstream>>,
    /// Why it ends; there before the phase says that it does.
    ended: OnceLock<Ended>,
    cut: Arc<Notify>,
    /// The `clientToken` of the call that stopped it.
    stop_token: OnceLock<String>,
}

/// How and why a session ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// Why.
    pub(crate) reason: Reason,
    /// What calls that waited for its start are told.
    pub(crate) start_error: Option<Error>,
    /// How the agent ended, if it did by itself, and the last lines of its log.
    pub(crate) exit: Option<(Exit, String)>,
}

/// A session as an operator sees it.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Whose it is.
    pub key: Key,
    /// Where it stands, and why if it ends.
    pub phase: Phase,
    /// The version that it runs.
    pub version: Version,
    /// When its first call came.
    pub since: Timestamp,
    /// Calls in flight.
    pub calls: u32,
}

impl Session {
    pub(super) fn new(key: Key, deployment: Arc<Deployment>, since: Timestamp, config: &Config) -> Self {
        Self {
            key,
            deployment,
            limits: (&config.limits).into(),
            gate: Gate::new(Instant::now(), config.max_calls_per_session),
            since,
            phase: watch::Sender::new(Phase::Provisioning),
            wish: watch::Sender::new(None),
            upstream: OnceLock::new(),
            ended: OnceLock::new(),
            cut: Arc::new(Notify::new()),
            stop_token: OnceLock::new(),
        }
    }

    /// The way to the agent; waits for the start. The owner bounds the wait. The error is what the caller is told.
    pub(crate) async fn ready(&self) -> Result<&Arc<Upstream>, Error> {
        if self.upstream.get().is_none() {
            // The sender lives in `self`, so waiting cannot fail.
            let _ = self
                .phase
                .subscribe()
                .wait_for(|phase| *phase != Phase::Provisioning)
                .await;
        }
        match (self.upstream.get(), self.ended.get()) {
            (Some(upstream), _) => Ok(upstream),
            (None, Some(ended)) => Err(ended.before_start()),
            (None, None) => Err(Error::internal("The session's start ended without a result.")),
        }
    }

    /// Resolves when the session begins to end; what is in flight must then break off.
    pub(crate) fn cut(&self) -> OwnedNotified {
        Arc::clone(&self.cut).notified_owned()
    }

    /// How it ended, if it has begun to.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        self.ended.get()
    }

    /// How it ended, if it begins to within `patience`.
    pub(crate) async fn ended_within(&self, patience: Duration) -> Option<&Ended> {
        let mut phase = self.phase.subscribe();
        let _ = timeout(patience, phase.wait_for(|phase| phase.reason().is_some())).await;
        self.ended.get()
    }

    /// Waits until nothing of it is left; false if `patience` ran out.
    pub(crate) async fn gone_within(&self, patience: Duration) -> bool {
        let mut phase = self.phase.subscribe();
        timeout(patience, phase.wait_for(|phase| matches!(phase, Phase::Terminated(_))))
            .await
            .is_ok()
    }

    /// Asks the owner to end it. The first wish stands.
    pub(super) fn end(&self, reason: Reason) {
        self.wish.send_if_modified(|wish| {
            let first = wish.is_none();
            wish.get_or_insert(reason);
            first
        });
    }

    /// Remembers which `StopRuntimeSession` ended it; answers whether it is this one.
    pub(super) fn claim_stop(&self, token: Option<&str>) -> bool {
        match token {
            Some(token) => self.stop_token.get_or_init(|| token.to_owned()) == token,
            None => false,
        }
    }

    pub(super) fn is_stopped_by(&self, token: Option<&str>) -> bool {
        token.is_some() && self.stop_token.get().map(String::as_str) == token
    }

    pub(super) fn wishes(&self) -> watch::Receiver<Option<Reason>> {
        self.wish.subscribe()
    }

    pub(super) fn now(&self) -> Duration {
        self.gate.now()
    }

    pub(super) fn look(&self) -> Look {
        self.gate.look()
    }

    pub(super) fn at(&self, since_birth: Duration) -> Instant {
        self.gate.at(since_birth)
    }

    pub(super) fn shut_if_unchanged(&self, seen: Look) -> bool {
        self.gate.shut_if_unchanged(seen)
    }

    /// The phase as calls in flight make it at this moment; the owner notices them only when it looks.
    pub(super) fn phase(&self) -> Phase {
        match *self.phase.borrow() {
            Phase::Idle if self.look().inside > 0 => Phase::Active,
            phase => phase,
        }
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            key: self.key.clone(),
            phase: self.phase(),
            version: self.deployment.version,
            since: self.since,
            calls: self.look().inside,
        }
    }

    /// For the owner: the agent is healthy.
    pub(super) fn opened(&self, upstream: Arc<Upstream>) {
        let _ = self.upstream.set(upstream);
    }

    /// For the owner: publishes a phase.
    pub(super) fn publish(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// For the owner: nobody enters any more and what is in flight breaks off.
    pub(super) fn shut(&self, ended: Ended) {
        self.gate.shut();
        let reason = ended.reason;
        let _ = self.ended.set(ended);
        if let Some(upstream) = self.upstream.get() {
            upstream.close();
        }
        self.publish(Phase::Terminating(reason));
        self.cut.notify_waiters();
    }
}

impl Gated for Session {
    fn gate(&self) -> &Gate {
        &self.gate
    }
}

impl Ended {
    /// For a call of which nothing has reached the agent.
    fn before_start(&self) -> Error {
        if let Some(error) = &self.start_error {
            return error.clone();
        }
        match self.reason {
            Reason::Draining => Error::new(
                Kind::Draining,
                "The server is stopping; send the call again in a moment.",
            ),
            Reason::RuntimeDeleted => {
                Error::not_found("The runtime or its endpoint was deleted while the session started.")
            }
            Reason::MaxLifetime => Error::agent(
                "The session reached its maxLifetime before the agent was healthy. Raise maxLifetime or start faster.",
            ),
            _ => Error::new(Kind::SessionBusy, "Session operation in progress, please retry."),
        }
    }
}
