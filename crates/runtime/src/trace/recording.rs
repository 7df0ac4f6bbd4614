//! Follows one call, if it is to be recorded.
//!
//! A caller's own decision is kept: a `traceparent` whose sampled flag is set is recorded, one without it is not, and the
//! agent gets it as it came. Of calls without one a share is drawn, by the trace's id, which is the request id.

use super::{Invocation, Outcome, Target};
use crate::metrics::{Metrics, SpanLoss};
use crate::session::{Key, Session};
use domain::trace::TraceId;
use domain::{Clock, Error, TraceParent};
use front_door::service::Call;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// One more than the largest [`TraceId::lot`].
const LOTS: f64 = (1_u64 << 56) as f64;

/// Begins the traces of calls. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tracer(Arc<Shared>);

/// What a tracer is made of.
#[derive(Debug)]
pub struct Settings {
    /// The share of the calls without a usable `traceparent` that are recorded, from 0 to 1.
    pub share: f64,
    /// How many finished calls may wait to be taken from the queue.
    pub queue: usize,
    /// Wall time.
    pub clock: Clock,
    /// Where lost spans are counted.
    pub metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Shared {
    /// Lots below it are recorded.
    below: u64,
    clock: Clock,
    queue: mpsc::Sender<Invocation>,
    metrics: Arc<Metrics>,
}

/// The trace of one call, or nothing if it is not recorded. Dropping it says that the caller went away.
#[derive(Debug, Default)]
pub(crate) struct Recording(Option<Box<Live>>);

#[derive(Debug)]
struct Live {
    tracer: Tracer,
    received: Instant,
    /// The sessions that the call started; how, is asked in the end.
    started: Vec<Arc<Session>>,
    invocation: Invocation,
}

impl Tracer {
    /// A tracer, and the queue that finished calls come out of.
    #[must_use]
    pub fn new(settings: Settings) -> (Self, mpsc::Receiver<Invocation>) {
        let (sender, receiver) = mpsc::channel(settings.queue.max(1));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float becomes an integer by saturating, and the share is clamped"
        )]
        let below = (settings.share.clamp(0.0, 1.0) * LOTS) as u64;
        let shared = Shared {
            below,
            clock: settings.clock,
            queue: sender,
            metrics: settings.metrics,
        };
        (Self(Arc::new(shared)), receiver)
    }

    fn begin(&self, call: &Call) -> Recording {
        let text = |member| call.input.get(member).and_then(Value::as_str);
        let parent = text("traceParent").and_then(TraceParent::parse);
        let context = match parent {
            Some(parent) => parent.is_sampled().then(|| parent.child()),
            None => TraceId::new(call.request_id.as_u128())
                .filter(|trace| trace.lot() < self.0.below)
                .map(TraceParent::first),
        };
        let Some(context) = context else {
            return Recording::default();
        };
        let age = SignedDuration::try_from(call.received.elapsed()).unwrap_or_default();
        let invocation = Invocation {
            context,
            parent: parent.map(|parent| parent.span),
            state: parent.and_then(|_| text("traceState").map(str::to_owned)),
            request_id: call.request_id,
            begun: self.0.clock.now().checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH),
            took: age.unsigned_abs(),
            target: None,
            starts: Vec::new(),
            answering: false,
            outcome: Outcome::Left,
        };
        Recording(Some(Box::new(Live {
            tracer: self.clone(),
            received: call.received,
            started: Vec::new(),
            invocation,
        })))
    }
}

impl Recording {
    /// Begins to record a call, if there is a tracer and the call is to be recorded.
    pub(crate) fn begin(tracer: Option<&Tracer>, call: &Call) -> Self {
        tracer.map_or_else(Self::default, |tracer| tracer.begin(call))
    }

    /// What the call is for.
    pub(crate) fn aims(&mut self, key: &Key, target: &crate::deployment::Target) {
        if let Some(live) = &mut self.0 {
            live.invocation.target = Some(Target {
                endpoint: key.endpoint.clone(),
                deployment: Arc::clone(&target.deployment),
                session: key.session.clone(),
            });
        }
    }

    /// The call is in a session, which may run another version than its endpoint serves by now, and which it may have
    /// started.
    pub(crate) fn entered(&mut self, session: &Arc<Session>, started: bool) {
        let Some(live) = &mut self.0 else { return };
        if let Some(target) = &mut live.invocation.target {
            target.deployment = Arc::clone(&session.deployment);
        }
        if started {
            live.started.push(Arc::clone(session));
        }
    }

    /// Tells the agent of the call's span, so that the agent's own stand below it.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        if let Some(live) = &self.0
            && let Ok(value) = HeaderValue::try_from(live.invocation.context.to_string())
        {
            headers.insert(TRACE_PARENT, value);
        }
    }

    /// The head of the answer is there.
    pub(crate) fn answering(&mut self) {
        if let Some(live) = &mut self.0 {
            live.invocation.answering = true;
        }
    }

    /// The call failed; does nothing if it has ended already.
    pub(crate) fn failed(&mut self, error: &Error) {
        if self.0.is_some() {
            self.end(Outcome::Failed(Box::new(without_detail(error))));
        }
    }

    /// The call has ended; does nothing if it has before.
    pub(crate) fn end(&mut self, outcome: Outcome) {
        if let Some(live) = self.0.take() {
            live.end(outcome);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.end(Outcome::Left);
    }
}

impl Live {
    fn end(self, outcome: Outcome) {
        let Self {
            tracer: Tracer(shared),
            received,
            started,
            mut invocation,
        } = self;
        invocation.took = received.elapsed();
        invocation.starts = started.iter().map(|session| session.start_times()).collect();
        for start in &mut invocation.starts {
            start.error = start.error.as_ref().map(without_detail);
        }
        invocation.outcome = outcome;
        if let Err(error) = shared.queue.try_send(invocation) {
            let lost = error.into_inner().spans();
            shared.metrics.spans_dropped(SpanLoss::QueueFull, lost as u64);
        }
    }
}

/// What an agent said is for its operator, not for whoever keeps the traces.
fn without_detail(error: &Error) -> Error {
    Error {
        detail: None,
        ..error.clone()
    }
}
