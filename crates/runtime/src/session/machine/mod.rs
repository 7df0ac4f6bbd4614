//! What a session does next: a pure function `(state, input) -> (state, effects)`.
//!
//! ```text
//!              Healthy                    call or HealthyBusy
//!  Provisioning -------> Active or Idle <--------------------> Idle
//!       |                      |      nothing in flight, not busy |
//!       | StartFailed          | MaxLifetime, Unhealthy,          | IdleTimeout and all
//!       | MaxLifetime          | AgentExited, Stopped,            | of Active's
//!       | RuntimeDeleted       | RuntimeDeleted, Draining         |
//!       | Draining             |                                  |
//!       v                      v                                  v
//!  Terminating <---------------+----------------------------------+
//!       | Gone
//!       v
//!  Terminated
//! ```
//!
//! - Provisioning: the sandbox is being started, or its agent is not healthy yet. Calls wait.
//! - Provisioning to Active or Idle: the agent has answered `/ping` with 200 for the first time.
//! - Active to Idle and back: whether a call is in flight or the last `/ping` said `HealthyBusy`.
//! - Idle to Terminating by `IdleTimeout`: `idle_timeout` after the last call left and the last sign of business. The
//!   machine asks the owner to shut the gate *if nothing has entered*; only when that worked does it terminate.
//! - anything alive to Terminating: by `MaxLifetime`, counted from the sandbox's start and not extended by anything; by
//!   `Unhealthy` after several bad answers to `/ping` in a row; by the agent's own end; or by command.
//! - Terminating to Terminated: nothing of the sandbox is left.
//!
//! A `/ping` that is not answered counts against a session only while no call is in flight: an agent with one thread
//! cannot answer while it works, and a call has deadlines of its own. A refused connection or another status than
//! 200 always counts.
//!
//! Invariant: the first reason to end stands. Invariant: [`Effect::Stop`] is asked for exactly once, on entering
//! Terminating, and nothing but [`Input::Gone`] leaves it. Invariant: no clock, no I/O, no randomness here; all times
//! are counted from the session's birth.

use super::gate::Look;
use std::fmt;
use std::time::Duration;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Its sandbox is being started.
    Provisioning,
    /// It works.
    Active,
    /// It waits for the next call.
    Idle,
    /// Its sandbox is being ended.
    Terminating(Reason),
    /// Nothing of its sandbox is left.
    Terminated(Reason),
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No call and no business for the version's `idleRuntimeSessionTimeout`.
    IdleTimeout,
    /// It reached the version's `maxLifetime`.
    MaxLifetime,
    /// Its agent answered `/ping` badly several times in a row.
    Unhealthy,
    /// `StopRuntimeSession`.
    Stopped,
    /// Its runtime or endpoint was deleted.
    RuntimeDeleted,
    /// The agent's process ended.
    AgentExited,
    /// The sandbox could not be started or its agent never became healthy.
    StartFailed,
    /// The server is stopping.
    Draining,
}

/// The rules of one session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) idle_timeout: Duration,
    pub(crate) max_lifetime: Duration,
    pub(crate) ping_interval: Duration,
    pub(crate) unhealthy_threshold: u32,
    pub(crate) busy_needs_update_time: bool,
    pub(crate) stop_grace: Duration,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// The driver has started the sandbox: its life begins.
    SandboxStarted,
    /// The agent has answered `/ping` with 200 for the first time.
    Healthy(Answer),
    /// The start has failed.
    StartFailed,
    /// The moment of [`Machine::wake_at`] has come, or may have.
    Tick,
    /// What came of [`Effect::Ping`].
    Ping(Ping),
    /// What came of [`Effect::ShutIfUnchanged`], when it worked.
    ShutWhileIdle,
    /// The agent's process has ended.
    AgentExited,
    /// Somebody wants the session to end.
    End(Reason),
    /// What came of [`Effect::Stop`]: nothing of the sandbox is left.
    Gone,
}

/// What came of a `/ping`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ping {
    /// 200.
    Answered(Answer),
    /// Another status, a refused connection or something that is not HTTP.
    Bad,
    /// No answer in time.
    Silent,
}

/// A good answer to `/ping`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// `HealthyBusy`.
    pub(crate) busy: bool,
    /// `time_of_last_update`, when there is a usable one, counted from the session's birth.
    pub(crate) updated: Option<Duration>,
}

/// What the owner must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Ask `/ping` and report [`Input::Ping`].
    Ping,
    /// Shut the gate if nothing has entered since the look that came with the input; if so, report
    /// [`Input::ShutWhileIdle`].
    ShutIfUnchanged,
    /// Shut the gate, cut what is in flight, end the sandbox and report [`Input::Gone`].
    Stop {
        /// Time for the agent between SIGTERM and SIGKILL.
        grace: Duration,
    },
    /// Forget the session.
    Forget,
}

/// A session's state.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    policy: Policy,
    phase: Phase,
    /// When the sandbox was started.
    started: Option<Duration>,
    /// When the agent became healthy, or last showed that it works without a call.
    kept_alive: Duration,
    /// Whether the last good answer to `/ping` said so.
    busy: bool,
    bad_pings: u32,
    next_ping: NextPing,
    /// Varies the interval between pings, so that many sessions do not ask in step.
    jitter: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextPing {
    At(Duration),
    UnderWay,
}

/// Grace for an agent that never served.
const FAILED_START_GRACE: Duration = Duration::from_secs(1);

impl Machine {
    /// A session that is being started. `seed` varies its pings.
    pub(crate) fn new(policy: Policy, seed: u32) -> Self {
        Self {
            policy,
            phase: Phase::Provisioning,
            started: None,
            kept_alive: Duration::ZERO,
            busy: false,
            bad_pings: 0,
            next_ping: NextPing::At(Duration::ZERO),
            jitter: seed,
        }
    }

    /// Where it stands.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// The transition function. `now` and `seen` are the time and the gate at the moment of the input.
    pub(crate) fn step(mut self, input: Input, now: Duration, seen: Look) -> (Self, Vec<Effect>) {
        let effects = match (self.phase, input) {
            (Phase::Terminated(_), _) => Vec::new(),
            (Phase::Terminating(reason), Input::Gone) => {
                self.phase = Phase::Terminated(reason);
                vec![Effect::Forget]
            }
            (Phase::Terminating(_), _) => Vec::new(),
            (_, Input::End(reason)) => self.terminate(reason),
            (_, Input::AgentExited) => self.terminate(Reason::AgentExited),
            // A sandbox that is gone without having been stopped has ended by itself.
            (_, Input::Gone) => self.terminate(Reason::AgentExited),
            (Phase::Provisioning, Input::SandboxStarted) => {
                self.started.get_or_insert(now);
                Vec::new()
            }
            (Phase::Provisioning, Input::StartFailed) => self.terminate(Reason::StartFailed),
            (Phase::Provisioning, Input::Healthy(answer)) => {
                self.started.get_or_insert(now);
                self.kept_alive = now;
                self.hear(answer, now);
                self.schedule_ping(now);
                self.settle(seen);
                self.tick(now, seen)
            }
            (Phase::Provisioning, _) => self.end_of_life(now),
            (_, Input::ShutWhileIdle) => self.terminate(Reason::IdleTimeout),
            (_, Input::Ping(ping)) => self.pinged(ping, now, seen),
            (_, Input::Tick | Input::SandboxStarted | Input::Healthy(_) | Input::StartFailed) => self.tick(now, seen),
        };
        (self, effects)
    }

    /// When [`Input::Tick`] is due, if time alone can change anything.
    pub(crate) fn wake_at(&self, now: Duration, seen: Look) -> Option<Duration> {
        let death = self.started.map(|at| at.saturating_add(self.policy.max_lifetime));
        match self.phase {
            Phase::Provisioning => death,
            Phase::Active | Phase::Idle => {
                let ping = match self.next_ping {
                    NextPing::At(at) => Some(at),
                    NextPing::UnderWay => None,
                };
                let quiet_from = match (seen.inside, self.busy) {
                    (0, true) => None,
                    (0, false) => Some(self.quiet_since(seen)),
                    // With a call in flight the idle clock cannot run out sooner than a whole timeout from now.
                    _ => Some(now),
                };
                let idle = quiet_from.map(|at| at.saturating_add(self.policy.idle_timeout));
                [death, ping, idle].into_iter().flatten().min()
            }
            Phase::Terminating(_) | Phase::Terminated(_) => None,
        }
    }

    fn tick(&mut self, now: Duration, seen: Look) -> Vec<Effect> {
        let ended = self.end_of_life(now);
        if !ended.is_empty() {
            return ended;
        }
        self.settle(seen);
        if self.phase == Phase::Idle && now >= self.quiet_since(seen).saturating_add(self.policy.idle_timeout) {
            return vec![Effect::ShutIfUnchanged];
        }
        match self.next_ping {
            NextPing::At(at) if now >= at => {
                let heard = seen.last_exit.saturating_add(self.policy.ping_interval);
                if heard > now && !self.busy && self.bad_pings == 0 {
                    // A call has just been answered; that is as good as a ping.
                    self.next_ping = NextPing::At(heard);
                    return Vec::new();
                }
                self.next_ping = NextPing::UnderWay;
                vec![Effect::Ping]
            }
            _ => Vec::new(),
        }
    }

    fn pinged(&mut self, ping: Ping, now: Duration, seen: Look) -> Vec<Effect> {
        match ping {
            Ping::Answered(answer) => {
                self.bad_pings = 0;
                self.hear(answer, now);
            }
            Ping::Silent if seen.inside > 0 => {}
            Ping::Silent | Ping::Bad => {
                self.bad_pings += 1;
                if self.bad_pings >= self.policy.unhealthy_threshold {
                    return self.terminate(Reason::Unhealthy);
                }
            }
        }
        self.schedule_ping(now);
        self.tick(now, seen)
    }

    /// Takes in what a good answer says about business.
    fn hear(&mut self, answer: Answer, now: Duration) {
        let updated = answer.updated.filter(|at| *at <= now);
        self.busy = answer.busy && !self.policy.busy_needs_update_time;
        if self.busy {
            self.kept_alive = now;
        }
        if let Some(at) = updated {
            self.kept_alive = self.kept_alive.max(at);
        }
    }

    fn end_of_life(&mut self, now: Duration) -> Vec<Effect> {
        match self.started {
            Some(at) if now >= at.saturating_add(self.policy.max_lifetime) => self.terminate(Reason::MaxLifetime),
            _ => Vec::new(),
        }
    }

    fn settle(&mut self, seen: Look) {
        self.phase = if seen.inside > 0 || self.busy {
            Phase::Active
        } else {
            Phase::Idle
        };
    }

    fn quiet_since(&self, seen: Look) -> Duration {
        self.kept_alive.max(seen.last_exit)
    }

    /// The next ping comes after 90 to 110 percent of the interval.
    fn schedule_ping(&mut self, now: Duration) {
        self.jitter = self.jitter.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let interval = self.policy.ping_interval * (90 + (self.jitter >> 16) % 21) / 100;
        self.next_ping = NextPing::At(now.saturating_add(interval));
    }

    fn terminate(&mut self, reason: Reason) -> Vec<Effect> {
        self.phase = Phase::Terminating(reason);
        let grace = match reason {
            Reason::StartFailed => self.policy.stop_grace.min(FAILED_START_GRACE),
            _ => self.policy.stop_grace,
        };
        vec![Effect::Stop { grace }]
    }
}

impl Phase {
    /// The phase's name, without its reason.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Terminating(_) => "terminating",
            Self::Terminated(_) => "terminated",
        }
    }

    /// Why it ends, if it does.
    #[must_use]
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Terminating(reason) | Self::Terminated(reason) => Some(reason),
            _ => None,
        }
    }
}

impl Reason {
    /// A short name for logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IdleTimeout => "idle_timeout",
            Self::MaxLifetime => "max_lifetime",
            Self::Unhealthy => "unhealthy",
            Self::Stopped => "stopped",
            Self::RuntimeDeleted => "runtime_deleted",
            Self::AgentExited => "agent_exited",
            Self::StartFailed => "start_failed",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
