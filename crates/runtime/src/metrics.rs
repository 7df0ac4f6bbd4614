//! What the runtime counts. Names and labels are listed in COMPATIBILITY.md; ids never become labels.

use crate::session::Phase;
#[cfg(test)]
use crate::session::Reason;
use crate::session::report::Usage;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Upper bounds in seconds: a container starts in milliseconds, a heavy Python agent in tens of seconds.
const START_BUCKETS: [f64; 14] = [
    0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 120.0,
];

/// Counters of sessions and their agents.
#[derive(Debug, Default)]
pub struct Metrics {
    sessions: Family<State, Gauge>,
    starts: Family<Outcome, Counter>,
    ends: Family<End, Counter>,
    steps: Steps,
    warm: Gauge,
    takes: Family<Outcome, Counter>,
    upstream_errors: Family<Failure, Counter>,
    used: Used,
    records_dropped: Counter,
    spans_exported: Counter,
    spans_dropped: Family<LossLabel, Counter>,
}

/// What sessions have used, all together.
#[derive(Debug, Default)]
struct Used {
    cpu_seconds: Counter<f64, AtomicU64>,
    memory_gb_seconds: Counter<f64, AtomicU64>,
    bytes: Family<Direction, Counter>,
    requests: Counter,
}

/// A step of starting a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// From a session's first call until its start begins.
    Queue,
    /// Until everything is there that the driver needs.
    Prepare,
    /// The driver's part, until the agent's process runs.
    Sandbox,
    /// From there until its port accepts connections.
    Process,
    /// From there until `/ping` answers 200.
    Healthy,
    /// From a session's first call until the first byte of its answer.
    FirstByte,
}

/// Why a span did not reach the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanLoss {
    /// The exporter did not keep up.
    QueueFull,
    /// The collector could not be reached, did not answer in time, or answered with an error.
    Undeliverable,
    /// The collector took the others and not this one.
    Rejected,
}

/// Kinds of failure between us and an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpstreamError {
    /// Nothing could be sent.
    Unsent,
    /// The request's own body broke off.
    Request,
    /// The connection ended before the answer.
    Closed,
    /// Not HTTP.
    Protocol,
    /// The answer broke off.
    Body,
    /// No answer in time.
    Timeout,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct End {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabel {
    step: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LossLabel {
    reason: &'static str,
}

#[derive(Debug)]
struct Steps(Family<StepLabel, Histogram, fn() -> Histogram>);

impl Default for Steps {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(START_BUCKETS)))
    }
}

impl Step {
    /// Its name in metrics and traces.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Prepare => "prepare",
            Self::Sandbox => "sandbox",
            Self::Process => "process",
            Self::Healthy => "healthy",
            Self::FirstByte => "first_byte",
        }
    }
}

impl SpanLoss {
    fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Undeliverable => "undeliverable",
            Self::Rejected => "rejected",
        }
    }
}

impl Metrics {
    /// Makes the counters and shows them in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register("eyot_sessions", "Sessions by state", new.sessions.clone());
        registry.register(
            "eyot_session_starts",
            "Sandbox starts for sessions by result",
            new.starts.clone(),
        );
        registry.register(
            "eyot_warm_sandboxes",
            "Sandboxes that are ready before a session asks",
            new.warm.clone(),
        );
        registry.register(
            "eyot_warm_takes",
            "New sessions of endpoints that may have warm sandboxes, by whether one was there",
            new.takes.clone(),
        );
        registry.register("eyot_session_ends", "Ended sessions by reason", new.ends.clone());
        let help = "Time of each step from a session's first call to the first byte of its answer";
        registry.register("eyot_session_start_seconds", help, new.steps.0.clone());
        let help = "Requests to agents that got no whole answer, by what went wrong";
        registry.register("eyot_upstream_errors", help, new.upstream_errors.clone());
        new.used.register(registry);
        let help = "Records of ended sessions that were dropped because storage did not keep up";
        registry.register("eyot_session_records_dropped", help, new.records_dropped.clone());
        let help = "Spans of traces that the collector took";
        registry.register("eyot_trace_spans_exported", help, new.spans_exported.clone());
        let help = "Spans of traces that did not reach the collector, by why";
        registry.register("eyot_trace_spans_dropped", help, new.spans_dropped.clone());
        new
    }

    /// Sessions have used this, beyond what has been counted.
    pub(crate) fn used(&self, usage: Usage) {
        self.used.cpu_seconds.inc_by(usage.cpu_seconds);
        self.used.memory_gb_seconds.inc_by(usage.memory_gb_seconds);
        for (direction, bytes) in [("in", usage.bytes_in), ("out", usage.bytes_out)] {
            self.used.bytes.get_or_create(&Direction { direction }).inc_by(bytes);
        }
        self.used.requests.inc_by(usage.requests);
    }

    /// The collector took so many spans.
    pub fn spans_exported(&self, count: u64) {
        self.spans_exported.inc_by(count);
    }

    /// So many spans did not reach the collector.
    pub fn spans_dropped(&self, why: SpanLoss, count: u64) {
        let reason = why.name();
        self.spans_dropped.get_or_create(&LossLabel { reason }).inc_by(count);
    }

    /// The record of an ended session was given up.
    pub(crate) fn record_dropped(&self) {
        self.records_dropped.inc();
    }

    /// A session moved from one phase to another; `None` is before its birth. Terminated sessions are not counted.
    pub(crate) fn moved(&self, from: Option<Phase>, to: Phase) {
        let gauge = |phase: Phase| self.sessions.get_or_create(&State { state: phase.name() }).clone();
        if let Some(from) = from {
            gauge(from).dec();
        }
        match to {
            Phase::Terminated(reason) => {
                self.ends.get_or_create(&End { reason: reason.name() }).inc();
            }
            _ => {
                gauge(to).inc();
            }
        }
    }

    pub(crate) fn started(&self, healthy: bool) {
        self.starts
            .get_or_create(&Outcome {
                result: if healthy { "healthy" } else { "failed" },
            })
            .inc();
    }

    pub(crate) fn step(&self, step: Step, took: Duration) {
        let step = step.name();
        self.steps
            .0
            .get_or_create(&StepLabel { step })
            .observe(took.as_secs_f64());
    }

    /// How many warm sandboxes there are.
    pub(crate) fn warm(&self, count: usize) {
        self.warm.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A new session asked for a warm sandbox.
    pub(crate) fn take(&self, hit: bool) {
        let result = if hit { "hit" } else { "miss" };
        self.takes.get_or_create(&Outcome { result }).inc();
    }

    pub(crate) fn upstream_error(&self, error: UpstreamError) {
        let kind = match error {
            UpstreamError::Unsent => "unsent",
            UpstreamError::Request => "request",
            UpstreamError::Closed => "closed",
            UpstreamError::Protocol => "protocol",
            UpstreamError::Body => "body",
            UpstreamError::Timeout => "timeout",
        };
        self.upstream_errors.get_or_create(&Failure { kind }).inc();
    }

    /// How many sessions are in a state; for tests.
    #[cfg(test)]
    pub(crate) fn sessions_in(&self, state: &'static str) -> i64 {
        self.sessions.get_or_create(&State { state }).get()
    }

    /// Calls counted as used, and records dropped; for tests.
    #[cfg(test)]
    pub(crate) fn used_and_dropped(&self) -> (u64, u64) {
        (self.used.requests.get(), self.records_dropped.get())
    }

    /// Spans dropped; for tests.
    #[cfg(test)]
    pub(crate) fn lost_spans(&self, why: SpanLoss) -> u64 {
        let reason = why.name();
        self.spans_dropped.get_or_create(&LossLabel { reason }).get()
    }

    /// How many sessions ended for a reason; for tests.
    #[cfg(test)]
    pub(crate) fn ended(&self, reason: Reason) -> u64 {
        self.ends.get_or_create(&End { reason: reason.name() }).get()
    }
}

impl Used {
    fn register(&self, registry: &mut Registry) {
        let help = "CPU time of sessions";
        registry.register("eyot_session_cpu_seconds", help, self.cpu_seconds.clone());
        let help = "Memory of sessions over time, in gigabytes (10^9 bytes) times seconds";
        registry.register("eyot_session_memory_gb_seconds", help, self.memory_gb_seconds.clone());
        let help = "Payload to agents (in) and from them (out)";
        registry.register("eyot_session_bytes", help, self.bytes.clone());
        registry.register("eyot_session_requests", "Calls of sessions", self.requests.clone());
    }
}
