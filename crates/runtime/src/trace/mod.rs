//! Traces: what a call did and when, as plain facts for whoever makes spans of them.
//!
//! `recording` decides which calls are recorded, follows one from its receipt to the end of its answer, and puts the
//! finished [`Invocation`] into a bounded queue. Who empties the queue, and how a span looks on the wire, is not known here.
//!
//! Invariant: a call never waits for its trace. When the queue is full the trace is dropped and its spans are counted.
//! Invariant: nothing that a caller sent to an agent or an agent said is in a trace.

mod recording;
#[cfg(test)]
mod tests;

pub(crate) use recording::Recording;
pub use recording::{Settings, Tracer};

use crate::deployment::Deployment;
use crate::metrics::Step;
use domain::Error;
use domain::TraceParent;
use domain::id::{EndpointName, SandboxId, SessionId};
use domain::trace::SpanId;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// One `InvokeAgentRuntime`, from its receipt to the end of its answer.
#[derive(Debug)]
pub struct Invocation {
    /// Its trace, and the span that stands for it.
    pub context: TraceParent,
    /// The span of the caller, if it told one.
    pub parent: Option<SpanId>,
    /// The caller's `tracestate`, which goes with the caller's trace.
    pub state: Option<String>,
    /// Its request id.
    pub request_id: Uuid,
    /// When its head had been read.
    pub begun: Timestamp,
    /// From there to its end.
    pub took: Duration,
    /// What it was for, once that was known.
    pub target: Option<Target>,
    /// The sessions that it started: none or one, unless a sandbox ended under it.
    pub starts: Vec<Start>,
    /// Whether its answer had begun.
    pub answering: bool,
    /// How it ended.
    pub outcome: Outcome,
}

/// What a call is for.
#[derive(Debug, Clone)]
pub struct Target {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The version that serves it.
    pub deployment: Arc<Deployment>,
    /// The session.
    pub session: SessionId,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its answer was passed on to the end.
    Answered,
    /// Its caller was told this; without what an agent itself said.
    Failed(Box<Error>),
    /// Its answer broke off, and why.
    BrokeOff(String),
    /// Its caller went away.
    Left,
}

/// The start of a session, as far as it got.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// When the session's first call came.
    pub begun: Timestamp,
    /// From there to the first byte of its first answer; where there was none, to the healthy agent or the failure.
    pub took: Duration,
    /// Whether it got a warm sandbox.
    pub warm: bool,
    /// Its sandbox, once there was one.
    pub sandbox: Option<SandboxId>,
    /// The steps that ended, in their order.
    pub steps: Vec<StepTimes>,
    /// Why it failed, if it did; without what an agent itself said.
    pub error: Option<Error>,
}

/// When a step of a start was, counted from its beginning.
///
/// Each step begins where the one before it ended, `FirstByte` too: from the healthy agent, while the metric of that name
/// counts from the session's first call, as the whole start does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepTimes {
    /// Which.
    pub step: Step,
    /// Its beginning.
    pub from: Duration,
    /// Its end.
    pub to: Duration,
}

impl Invocation {
    /// How many spans it makes: itself, each start, each step.
    #[must_use]
    pub fn spans(&self) -> usize {
        1 + self.starts.iter().map(|start| 1 + start.steps.len()).sum::<usize>()
    }
}
