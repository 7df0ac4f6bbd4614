//! What a session does next: a pure function `(state, input) -> (state, effects)`.
//!
//! ```text
//!              Healthy             call or HealthyBusy             pause_after
//!  Provisioning -------> Active <------------------------> Idle --------------> Paused
//!       |                  |    nothing in flight, not busy  |                     |
//!       | StartFailed      |  ^                              |                     | call
//!       | MaxLifetime      |  +-------------------------------------------<--------+
//!       | RuntimeDeleted   |                                 |                     |
//!       | Draining         | MaxLifetime, Unhealthy,         | IdleTimeout and     | IdleTimeout and
//!       |                  | AgentExited, Stopped,           | all of Active's     | all of Active's
//!       |                  | RuntimeDeleted, Draining        |                     | but Unhealthy
//!       v                  v                                 v                     v
//!  Terminating <-----------+---------------------------------+---------------------+
//!       | Gone
//!       v
//!  Terminated
//! ```
//!
//! - Provisioning: the sandbox is being started, or its agent is not healthy yet. Calls wait. A warm sandbox skips it.
//! - Provisioning to Active or Idle: the agent has answered `/ping` with 200 for the first time. A session that an
//!   earlier server process left is born into Idle.
//! - Active to Idle and back: whether a call is in flight or the last `/ping` said `HealthyBusy`.
//! - Idle to Paused: `pause_after` without a call or business, where the operator wants it. The machine asks the owner to
//!   mark the session asleep *if nothing has entered* and to freeze it; it is Paused when it is frozen.
//! - Paused to Active: a call has entered. It waits until the sandbox runs again.
//! - Idle or Paused to Terminating by `IdleTimeout`: `idle_timeout` after the last call left and the last sign of
//!   business. An agent that has not been heard lately is asked first. Then the machine asks the owner to shut the gate
//!   *if nothing has entered*; only when that worked does it terminate.
//! - anything alive to Terminating: by `MaxLifetime`, counted from the sandbox's start and not extended by anything; by
//!   `Unhealthy` after several bad answers to `/ping` in a row; by the agent's own end; or by command.
//! - Terminating to Terminated: nothing of the sandbox is left.
//!
//! A quiet session is asked `/ping` less and less often, up to a bound; a call, business or a bad answer ends that.
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
    /// It waits for the next call and its processes do not run.
    Paused,
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
    /// The longest interval between pings of a quiet session.
    pub(crate) ping_interval_quiet: Duration,
    /// When an idle session is paused, if ever.
    pub(crate) pause_after: Option<Duration>,
    /// Whether an agent that has reported business may be paused, when it reports none.
    pub(crate) pause_busy: bool,
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
    /// What came of [`Effect::PauseIfUnchanged`]: it is frozen.
    Paused,
    /// What came of [`Effect::PauseIfUnchanged`]: a call came first, or (`for_good`) it cannot be frozen.
    NotPaused {
        /// It is of no use to try again.
        for_good: bool,
    },
    /// A call has entered while the session was asleep.
    Woken,
    /// What came of [`Effect::Resume`]: it runs again.
    Resumed,
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
    /// There is a `time_of_last_update` that cannot be used: text, or milliseconds.
    pub(crate) odd_time: bool,
}

/// What the owner must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Ask `/ping` and report [`Input::Ping`].
    Ping,
    /// Shut the gate if nothing has entered since the look that came with the input; if so, report
    /// [`Input::ShutWhileIdle`].
    ShutIfUnchanged,
    /// Mark the session as asleep if nothing has entered since the look that came with the input, and freeze it; report
    /// [`Input::Paused`] or [`Input::NotPaused`].
    PauseIfUnchanged,
    /// Let it run again and report [`Input::Resumed`].
    Resume,
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
    /// Whether any answer ever did.
    ever_busy: bool,
    bad_pings: u32,
    next_ping: NextPing,
    /// The interval that the next ping is scheduled by.
    interval: Duration,
    /// When the last answer to a ping, or its absence, was noticed, and the last exit of a call seen then.
    heard: Duration,
    exit_heard: Duration,
    freezing: Freezing,
    /// Varies the interval between pings, so that many sessions do not ask in step.
    jitter: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextPing {
    At(Duration),
    UnderWay,
}

/// What is being done about pausing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freezing {
    /// Nothing.
    No,
    /// It is being paused, or resumed.
    UnderWay,
    /// It cannot be paused.
    Never,
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
            ever_busy: false,
            bad_pings: 0,
            next_ping: NextPing::At(Duration::ZERO),
            interval: policy.ping_interval,
            heard: Duration::ZERO,
            exit_heard: Duration::ZERO,
            freezing: Freezing::No,
            jitter: seed,
        }
    }

    /// A session that an earlier server process started at `started` and left healthy. It is asked how it is at once.
    pub(crate) fn adopted(policy: Policy, seed: u32, started: Duration, kept_alive: Duration, now: Duration) -> Self {
        Self {
            phase: Phase::Idle,
            started: Some(started),
            kept_alive,
            next_ping: NextPing::At(now),
            ..Self::new(policy, seed)
        }
    }

    /// The owner has let go of it as it is; nothing happens any more.
    pub(crate) fn let_go(self) -> Self {
        Self {
            phase: Phase::Terminated(Reason::Draining),
            ..self
        }
    }

    /// When its sandbox was started, and when its agent last showed that it works without a call.
    pub(crate) fn life(&self) -> (Option<Duration>, Duration) {
        (self.started, self.kept_alive)
    }

    /// Whether the last good answer to `/ping` said `HealthyBusy`.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    /// When it ends whatever happens; nothing until its sandbox was started.
    fn last_deadline(&self) -> Option<Duration> {
        self.started.map(|at| at.saturating_add(self.policy.max_lifetime))
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
                self.hear(answer, now, seen);
                self.interval = self.policy.ping_interval;
                self.schedule_ping(now);
                self.settle(seen);
                self.tick(now, seen)
            }
            (Phase::Provisioning, _) => self.end_of_life(now),
            (_, Input::ShutWhileIdle) => self.terminate(Reason::IdleTimeout),
            (Phase::Paused, Input::Resumed) => {
                self.freezing = Freezing::No;
                self.phase = Phase::Idle;
                self.interval = self.policy.ping_interval;
                self.schedule_ping(now);
                self.settle(seen);
                self.tick(now, seen)
            }
            (Phase::Paused, _) => self.wake_if_called(now, seen),
            (_, Input::Paused) => {
                self.phase = Phase::Paused;
                self.freezing = Freezing::No;
                self.wake_if_called(now, seen)
            }
            (_, Input::NotPaused { for_good }) => {
                self.freezing = if for_good { Freezing::Never } else { Freezing::No };
                self.tick(now, seen)
            }
            (_, Input::Ping(ping)) => self.pinged(ping, now, seen),
            (
                _,
                Input::Tick
                | Input::SandboxStarted
                | Input::Healthy(_)
                | Input::StartFailed
                | Input::Woken
                | Input::Resumed,
            ) => self.tick(now, seen),
        };
        (self, effects)
    }

    /// When [`Input::Tick`] is due, if time alone can change anything.
    pub(crate) fn wake_at(&self, now: Duration, seen: Look) -> Option<Duration> {
        let death = self.last_deadline();
        match self.phase {
            Phase::Provisioning => death,
            Phase::Paused => {
                let idle = self.quiet_since(seen).saturating_add(self.policy.idle_timeout);
                let idle = (self.freezing == Freezing::No).then_some(idle);
                [death, idle].into_iter().flatten().min()
            }
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
                // Whatever is under way reports, and that is looked at then.
                let quiet_from = quiet_from.filter(|_| ping.is_some() && self.freezing != Freezing::UnderWay);
                let ping = ping.filter(|_| self.freezing != Freezing::UnderWay);
                let idle = quiet_from.map(|at| at.saturating_add(self.policy.idle_timeout));
                let pause = quiet_from.and_then(|at| Some(at.saturating_add(self.pause_after()?)));
                [death, ping, idle, pause].into_iter().flatten().min()
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
        let NextPing::At(mut next_ping) = self.next_ping else {
            return Vec::new();
        };
        if seen.last_exit > self.exit_heard {
            // A call may have left work behind: it is asked soon.
            next_ping = next_ping.min(seen.last_exit.saturating_add(self.policy.ping_interval).max(now));
            self.next_ping = NextPing::At(next_ping);
        }
        if self.freezing == Freezing::UnderWay {
            return Vec::new();
        }
        let quiet = now.saturating_sub(self.quiet_since(seen));
        if self.phase == Phase::Idle && quiet >= self.policy.idle_timeout {
            // It may have begun to work by itself since it was asked last.
            if self.has_heard_lately(now, seen) {
                return vec![Effect::ShutIfUnchanged];
            }
            self.next_ping = NextPing::UnderWay;
            return vec![Effect::Ping];
        }
        if self.phase == Phase::Idle && self.bad_pings == 0 && self.pause_after().is_some_and(|after| quiet >= after) {
            // The last call may have left work behind.
            if !self.has_heard_lately(now, seen) {
                self.next_ping = NextPing::UnderWay;
                return vec![Effect::Ping];
            }
            self.freezing = Freezing::UnderWay;
            return vec![Effect::PauseIfUnchanged];
        }
        if now < next_ping {
            return Vec::new();
        }
        let heard = seen.last_exit.saturating_add(self.policy.ping_interval);
        if heard > now && !self.busy && self.bad_pings == 0 {
            // A call has just been answered; that is as good as a ping.
            self.next_ping = NextPing::At(heard);
            return Vec::new();
        }
        self.next_ping = NextPing::UnderWay;
        vec![Effect::Ping]
    }

    /// Of a paused session: whether it must run again, or end.
    fn wake_if_called(&mut self, now: Duration, seen: Look) -> Vec<Effect> {
        let ended = self.end_of_life(now);
        if !ended.is_empty() || self.freezing == Freezing::UnderWay {
            return ended;
        }
        if seen.inside > 0 {
            self.freezing = Freezing::UnderWay;
            return vec![Effect::Resume];
        }
        if now >= self.quiet_since(seen).saturating_add(self.policy.idle_timeout) {
            return vec![Effect::ShutIfUnchanged];
        }
        Vec::new()
    }

    /// Whether the agent has said how it is since the last call left, and not long ago.
    fn has_heard_lately(&self, now: Duration, seen: Look) -> bool {
        seen.last_exit <= self.exit_heard && now.saturating_sub(self.heard) <= self.policy.ping_interval
    }

    /// Whether the owner looks so rarely that a call which leaves should wake it.
    pub(crate) fn looks_rarely(&self) -> bool {
        matches!(self.phase, Phase::Active | Phase::Idle) && self.interval > self.policy.ping_interval
    }

    /// When an idle session is paused, if this one may be.
    fn pause_after(&self) -> Option<Duration> {
        let may = (!self.ever_busy || self.policy.pause_busy) && !self.busy && self.freezing == Freezing::No;
        self.policy.pause_after.filter(|_| may)
    }

    fn pinged(&mut self, ping: Ping, now: Duration, seen: Look) -> Vec<Effect> {
        match ping {
            Ping::Answered(answer) => {
                self.bad_pings = 0;
                self.hear(answer, now, seen);
            }
            Ping::Silent if seen.inside > 0 => {
                self.interval = self.policy.ping_interval;
                self.exit_heard = seen.last_exit;
            }
            Ping::Silent | Ping::Bad => {
                self.interval = self.policy.ping_interval;
                (self.heard, self.exit_heard) = (now, seen.last_exit);
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
    fn hear(&mut self, answer: Answer, now: Duration, seen: Look) {
        let updated = answer.updated.filter(|at| *at <= now);
        self.busy = answer.busy && !self.policy.busy_needs_update_time;
        self.ever_busy |= answer.busy;
        let called = seen.inside > 0 || seen.last_exit > self.exit_heard;
        self.interval = if called || answer.busy {
            self.policy.ping_interval
        } else {
            (self.interval * 2).min(self.longest_interval())
        };
        (self.heard, self.exit_heard) = (now, seen.last_exit);
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

    /// Business that began by itself is noticed several times before the idle timeout, however short that is.
    fn longest_interval(&self) -> Duration {
        let quiet = self.policy.ping_interval_quiet.min(self.policy.idle_timeout / 4);
        quiet.max(self.policy.ping_interval)
    }

    /// The next ping comes after 90 to 110 percent of the interval.
    fn schedule_ping(&mut self, now: Duration) {
        self.jitter = self.jitter.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let interval = self.interval * (90 + (self.jitter >> 16) % 21) / 100;
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
            Self::Paused => "paused",
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
