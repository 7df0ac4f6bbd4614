//! What a client receives: the modelled headers, and the agent's bytes as they come.
//!
//! Invariant: a body that the agent did not finish ends in an error, never like a complete one.

use super::explain;
use super::request::{SESSION_ID, TRACE};
use crate::metrics::{Metrics, UpstreamError};
use crate::session::InFlight;
use crate::trace::{Outcome, Recording};
use crate::upstream;
use bytes::Bytes;
use domain::id::SessionId;
use front_door::body::BodyError;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, Sleep};

/// The headers of a successful answer. `Content-Encoding` belongs to the bytes as much as their type does: it goes through
/// when an agent sets it although nobody asked for it.
pub(super) fn headers(from_agent: &HeaderMap, session: &SessionId) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(6);
    let traces = TRACE.iter().map(|(_, name)| name);
    for name in [&CONTENT_TYPE, &CONTENT_ENCODING].into_iter().chain(traces) {
        if let Some(value) = from_agent.get(name) {
            headers.insert(name.clone(), value.clone());
        }
    }
    let id = HeaderValue::from_str(session.as_str()).expect("an id of visible ASCII is a header value");
    headers.insert(SESSION_ID, id);
    headers
}

/// An answer on its way; while it lives the call is in flight.
#[derive(Debug)]
pub(super) struct Body {
    /// Nothing once the answer has ended, well or badly.
    live: Option<Live>,
    /// Why it ended badly, until that has been told.
    failure: Option<String>,
    metrics: Arc<Metrics>,
    trace: Recording,
}

#[derive(Debug)]
struct Live {
    // Before the pass: the connection is back in its pool, or closed, when the call no longer counts as in flight.
    upstream: upstream::Body,
    cut: Pin<Box<OwnedNotified>>,
    deadline: Pin<Box<Sleep>>,
    pass: InFlight,
}

impl Body {
    pub(super) fn new(
        upstream: upstream::Body,
        pass: InFlight,
        cut: Pin<Box<OwnedNotified>>,
        deadline: Pin<Box<Sleep>>,
        metrics: Arc<Metrics>,
        mut trace: Recording,
    ) -> Self {
        if upstream.is_end_stream() {
            trace.end(Outcome::Answered);
        }
        let live = (!upstream.is_end_stream()).then_some(Live {
            upstream,
            cut,
            deadline,
            pass,
        });
        Self {
            live,
            failure: None,
            metrics,
            trace,
        }
    }

    /// The agent has said all.
    fn ended(&mut self) {
        self.live = None;
        self.trace.end(Outcome::Answered);
    }

    /// The failure is told at the next turn. What stands before it (the head, or the last bytes) is then on its way: a
    /// connection that breaks off without a head looks to SDKs like one that never reached us, and they call again.
    fn fail(&mut self, cx: &Context<'_>, said: String) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.live = None;
        self.metrics.upstream_error(UpstreamError::Body);
        self.trace.end(Outcome::BrokeOff(said.clone()));
        self.failure = Some(said);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(said) = this.failure.take() {
            return Poll::Ready(Some(Err(BodyError::Agent(said))));
        }
        let Some(live) = &mut this.live else {
            return Poll::Ready(None);
        };
        // Looked at before the data, or an agent that never pauses could stream for ever; cheaper than polling.
        if live.pass.ended().is_some() {
            let said = explain::cut(&live.pass).message;
            return this.fail(cx, said);
        }
        if Instant::now() >= live.deadline.deadline() {
            return this.fail(cx, "it streamed for longer than is allowed".to_owned());
        }
        match Pin::new(&mut live.upstream).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                live.pass.calls.sent(bytes as u64);
                if live.upstream.is_end_stream() {
                    this.ended();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // Trailers come last and are not passed on.
            Poll::Ready(None | Some(Ok(_))) => {
                this.ended();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => this.fail(cx, error.to_string()),
            Poll::Pending => {
                if live.cut.as_mut().poll(cx).is_ready() {
                    let said = explain::cut(&live.pass).message;
                    return this.fail(cx, said);
                }
                if live.deadline.as_mut().poll(cx).is_ready() {
                    return this.fail(cx, "it streamed for longer than is allowed".to_owned());
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.live.is_none() && self.failure.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.live {
            Some(live) => live.upstream.size_hint(),
            None if self.failure.is_some() => SizeHint::default(),
            None => SizeHint::with_exact(0),
        }
    }
}
