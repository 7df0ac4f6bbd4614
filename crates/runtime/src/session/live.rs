//! What calls, the router and the owner share of one session.

use super::calls::Calls;
use super::config::Config;
use super::gate::{Gate, Gated, Look};
use super::machine::{Phase, Reason};
use super::router::Key;
use crate::credentials::wallet::{Outstanding, Wallet};
use crate::deployment::{Deployment, Target};
use crate::switches::Switches;
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
    /// What its runtime's owner had switched when it began.
    pub(super) switches: Arc<Switches>,
    /// When its first call came.
    pub(super) since: Timestamp,
    /// What its calls have done and moved.
    pub(crate) calls: Calls,
    gate: Gate,
    phase: watch::Sender<Phase>,
    /// The first wish to end it.
    wish: watch::Sender<Option<Wish>>,
    /// A call has found it asleep, or left while the owner looked but rarely.
    woken: Notify,
    /// It is no longer asleep.
    awake: Notify,
    /// The way to its agent, once that is healthy.
    upstream: OnceLock<Arc<Upstream>>,
    /// Why it ends; there before the phase says that it does.
    ended: OnceLock<Ended>,
    cut: Arc<Notify>,
    /// The `clientToken` of the call that stopped it.
    stop_token: OnceLock<String>,
    /// The credentials of its sandbox, once there is one.
    wallet: OnceLock<Arc<Wallet>>,
    /// What its owner has written down about it; the owner alone writes.
    pub(super) facts: super::facts::Shared,
}

/// What somebody wants of a session's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// End the session.
    End(Reason),
    /// Let go of it as it is, for the next server process.
    Leave,
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

/// A session in short.
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

/// What is known of a session before this process had it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Past {
    /// How old it is.
    pub(super) age: Duration,
    /// When its last call left.
    pub(super) last_exit: Duration,
}

impl Session {
    pub(super) fn new(key: Key, target: &Target, since: Timestamp, past: Past, config: &Config) -> Self {
        Self {
            key,
            deployment: Arc::clone(&target.deployment),
            limits: (&config.limits).into(),
            switches: Arc::clone(&target.switches),
            since,
            calls: Calls::default(),
            gate: Gate::new(Instant::now(), past.age, past.last_exit, config.max_calls_per_session),
            phase: watch::Sender::new(Phase::Provisioning),
            wish: watch::Sender::new(None),
            woken: Notify::new(),
            awake: Notify::new(),
            upstream: OnceLock::new(),
            ended: OnceLock::new(),
            cut: Arc::new(Notify::new()),
            stop_token: OnceLock::new(),
            wallet: OnceLock::new(),
            facts: super::facts::Shared::default(),
        }
    }

    /// The way to the agent; waits for the start, or until a session that is asleep runs again. The owner bounds the
    /// wait. The error is what the caller is told.
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
            (Some(upstream), _) => {
                if self.gate.is_asleep() {
                    self.rouse().await;
                }
                Ok(upstream)
            }
            (None, Some(ended)) => Err(ended.before_start()),
            (None, None) => Err(Error::internal("The session's start ended without a result.")),
        }
    }

    /// Has the owner wake the session, and waits until it runs, or ends.
    async fn rouse(&self) {
        loop {
            let awake = self.awake.notified();
            tokio::pin!(awake);
            // Before the look, so that a waking in between is not missed.
            awake.as_mut().enable();
            if !self.gate.is_asleep() || self.ended.get().is_some() {
                return;
            }
            self.woken.notify_one();
            awake.await;
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
        self.want(Wish::End(reason));
    }

    /// Asks the owner for something. The first wish stands.
    pub(super) fn want(&self, wanted: Wish) {
        self.wish.send_if_modified(|wish| {
            let first = wish.is_none();
            wish.get_or_insert(wanted);
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

    pub(super) fn wishes(&self) -> watch::Receiver<Option<Wish>> {
        self.wish.subscribe()
    }

    /// Resolves when a call has something for the owner.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
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

    pub(super) fn sleep_if_unchanged(&self, seen: Look) -> bool {
        self.gate.sleep_if_unchanged(seen)
    }

    /// For the owner: whether the next call that leaves shall wake it.
    pub(super) fn watch(&self, unwatched: bool) {
        self.gate.watch(unwatched);
    }

    /// It runs again.
    pub(super) fn awoke(&self) {
        self.gate.wake();
        self.awake.notify_waiters();
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

    /// The way to the agent, if there is one already.
    pub(super) fn upstream(&self) -> Option<&Arc<Upstream>> {
        self.upstream.get()
    }

    /// For the owner: the agent is healthy.
    pub(super) fn opened(&self, upstream: Arc<Upstream>) {
        let _ = self.upstream.set(upstream);
    }

    /// For the owner: these are its sandbox's credentials.
    pub(super) fn holds(&self, wallet: &Arc<Wallet>) {
        let _ = self.wallet.set(Arc::clone(wallet));
    }

    /// Credentials that its agent may be using.
    pub(super) fn credentials(&self) -> Vec<Outstanding> {
        self.wallet.get().map(|wallet| wallet.outstanding()).unwrap_or_default()
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
        self.awake.notify_waiters();
    }
}

impl Gated for Session {
    fn gate(&self) -> &Gate {
        &self.gate
    }

    fn left(&self) {
        self.woken.notify_one();
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
