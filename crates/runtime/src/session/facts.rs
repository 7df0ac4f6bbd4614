//! What a session's owner knows of it, written down for whoever asks: the making of a [`Report`].
//!
//! Invariant: only the owner writes, and reading asks nobody else, so looking at a session never wakes it.

use super::live::Session;
use super::machine::{Machine, Phase};
use super::report::{Exit, Lease, Report, RuntimeArnText, Start, State, Transition, Usage, milliseconds};
use super::router::Node;
use crate::metrics::Step;
use crate::trace::{self, StepTimes};
use domain::id::SandboxId;
use jiff::{SignedDuration, Timestamp};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Changes of state that are remembered.
const TRANSITIONS: usize = 32;
const GIGABYTE: f64 = 1e9;

/// The facts behind their lock.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Facts>);

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) sandbox: Option<SandboxId>,
    pub(super) start: Start,
    /// When each step of the start in this process was, counted from the session's birth.
    pub(super) steps: Vec<StepTimes>,
    pub(super) exit: Option<Exit>,
    pub(super) log_tail: Option<String>,
    pub(super) ended: Option<Duration>,
    transitions: VecDeque<Transition>,
    /// Of the machine.
    started: Option<Duration>,
    kept_alive: Duration,
    busy: bool,
    usage: Usage,
    /// When memory was looked at last, and how much it was.
    sampled: Option<(Duration, u64)>,
    /// From when on this process counts memory.
    counted_from: Option<Duration>,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Facts> {
        // Plain data: nothing that a panic could leave half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    /// Goes on where an earlier server process was. Memory between its last look and now is not counted.
    pub(super) fn resume(&mut self, report: Report, now: Duration) {
        self.counted_from = Some(now);
        self.start = report.start;
        self.usage = report.usage;
        self.transitions = report.transitions.into();
    }

    /// A step of the start has just ended, so long after the session's birth.
    pub(super) fn step(&mut self, step: Step, to: Duration, took: Duration) {
        let start = &mut self.start;
        let field = match step {
            Step::Queue => &mut start.queue_ms,
            Step::Prepare => &mut start.prepare_ms,
            Step::Sandbox => &mut start.sandbox_ms,
            Step::Process => &mut start.process_ms,
            Step::Healthy => &mut start.healthy_ms,
            Step::FirstByte => &mut start.first_byte_ms,
        };
        *field = Some(milliseconds(took));
        let from = to.saturating_sub(took);
        self.steps.push(StepTimes { step, from, to });
    }

    /// What the machine says of itself.
    pub(super) fn follow(&mut self, machine: &Machine) {
        (self.started, self.kept_alive) = machine.life();
        self.busy = machine.is_busy();
    }

    /// A change of state.
    pub(super) fn moved(&mut self, at: Timestamp, to: State, reason: impl Into<String>) {
        if self.transitions.len() == TRANSITIONS {
            self.transitions.pop_front();
        }
        let reason = reason.into();
        self.transitions.push_back(Transition { at, to, reason });
    }

    /// What the sandbox uses at a moment.
    pub(super) fn sample(&mut self, now: Duration, usage: &sandbox::Usage) {
        self.usage.cpu_seconds = usage.cpu.as_secs_f64().max(self.usage.cpu_seconds);
        let peak = usage.memory_peak.max(usage.memory);
        self.usage.memory_peak_bytes = self.usage.memory_peak_bytes.max(peak);
        let (since, before) = self.sampled.unwrap_or_else(|| {
            let from = self.counted_from.or(self.started).unwrap_or(now);
            (from, usage.memory)
        });
        #[expect(
            clippy::cast_precision_loss,
            reason = "memory in gigabytes needs no more than 52 bits"
        )]
        let mean = (before as f64 + usage.memory as f64) / 2.0 / GIGABYTE;
        self.usage.memory_gb_seconds += mean * now.saturating_sub(since).as_secs_f64();
        self.sampled = Some((now, usage.memory));
    }
}

impl Session {
    /// How it was started, so far; of one that an earlier process started only what is known here.
    pub(crate) fn start_times(&self) -> trace::Start {
        let facts = self.facts.lock();
        let mut steps = facts.steps.clone();
        let ready = steps.last().map(|last| last.to).filter(|_| self.upstream().is_some());
        let first_byte = self.calls.first_byte();
        if let (Some(from), Some(to)) = (ready, first_byte) {
            let step = Step::FirstByte;
            steps.push(StepTimes { step, from, to });
        }
        trace::Start {
            begun: self.since,
            took: first_byte.or(ready).unwrap_or_else(|| self.now()),
            warm: facts.start.warm,
            sandbox: facts.sandbox.clone(),
            steps,
            error: self.ended().and_then(|ended| ended.start_error.clone()),
        }
    }

    /// The session as an operator sees it.
    pub(super) fn report(&self, node: &Node) -> Report {
        let seen = self.look();
        let phase = self.phase();
        let facts = self.facts.lock();
        let time = |since_birth: Duration| later(self.since, since_birth);
        let quiet_since = facts.kept_alive.max(seen.last_exit);
        let rests = matches!(phase, Phase::Idle | Phase::Paused) && !facts.busy;
        let mut usage = facts.usage;
        self.calls.add_to(&mut usage);
        let mut start = facts.start.clone();
        start.first_byte_ms = start
            .first_byte_ms
            .or_else(|| self.calls.first_byte().map(milliseconds));
        let reason = match (phase.reason(), facts.transitions.back()) {
            (Some(reason), _) => reason.name().to_owned(),
            (None, Some(last)) if last.to == State::from(phase) => last.reason.clone(),
            // A call that the owner has not noticed yet.
            (None, Some(_)) if phase == Phase::Active => "call".to_owned(),
            _ => "first_call".to_owned(),
        };
        Report {
            session_id: self.key.session.clone(),
            agent_runtime_arn: RuntimeArnText::from(&self.deployment.arn),
            endpoint: self.key.endpoint.clone(),
            version: self.deployment.version,
            state: phase.into(),
            reason,
            created_at: self.since,
            last_active_at: time(if seen.inside > 0 { self.now() } else { quiet_since }),
            idle_deadline: rests.then(|| time(quiet_since + self.deployment.idle_timeout)),
            max_lifetime_deadline: facts.started.map(|at| time(at + self.deployment.max_lifetime)),
            ended_at: facts.ended.map(time),
            sandbox: facts.sandbox.clone(),
            lease: Lease {
                owner: node.owner.clone(),
                epoch: node.epoch,
            },
            start,
            credentials: self.credentials(),
            usage,
            calls_in_flight: seen.inside,
            last_failure: self.calls.last_failure(),
            exit: facts.exit.clone(),
            log_tail: facts.log_tail.clone(),
            transitions: facts.transitions.iter().cloned().collect(),
        }
    }
}

/// A moment, as far as the calendar goes.
pub(super) fn later(since: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    since.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// How long before `now` a moment was; nothing for one that is to come.
pub(super) fn age(now: Timestamp, of: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(of)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_summed_over_time() {
        let mut facts = Facts::default();
        let usage = |cpu, memory| sandbox::Usage {
            cpu: Duration::from_secs(cpu),
            memory,
            memory_peak: 0,
        };
        facts.sample(Duration::from_secs(10), &usage(1, 1_000_000_000));
        facts.sample(Duration::from_secs(20), &usage(2, 3_000_000_000));
        facts.sample(Duration::from_secs(21), &usage(2, 0));
        let Usage {
            cpu_seconds,
            memory_gb_seconds,
            memory_peak_bytes,
            ..
        } = facts.usage;
        assert_eq!((cpu_seconds, memory_peak_bytes), (2.0, 3_000_000_000));
        assert!((memory_gb_seconds - 21.5).abs() < 1e-9, "{memory_gb_seconds}");
    }

    #[test]
    fn memory_is_not_counted_twice_over_a_restart() {
        let mut facts = Facts {
            started: Some(Duration::ZERO),
            counted_from: Some(Duration::from_secs(100)),
            ..Facts::default()
        };
        facts.usage.memory_gb_seconds = 5.0;
        let usage = sandbox::Usage {
            memory: 1_000_000_000,
            ..sandbox::Usage::default()
        };
        facts.sample(Duration::from_secs(101), &usage);
        assert!((facts.usage.memory_gb_seconds - 6.0).abs() < 1e-9);
    }

    #[test]
    fn only_the_last_changes_are_kept() {
        let mut facts = Facts::default();
        for number in 0..100 {
            facts.moved(Timestamp::UNIX_EPOCH, State::Idle, number.to_string());
        }
        assert_eq!(facts.transitions.len(), TRANSITIONS);
        assert_eq!(facts.transitions.back().unwrap().reason, "99");
    }
}
