//! The way of an invocation: into its session, to the agent and back.
//!
//! Read in this order: `request` (what the agent receives), `answer` (what the client receives), `explain` (why there is
//! no answer). A call comes here from the service with the version that its endpoint serves, goes through
//! [`crate::session`] into a sandbox and through `upstream` to the agent.
//!
//! A call of which nothing has reached an agent may be tried again in the session's next sandbox; afterwards never, for
//! an agent must not do its work twice.
//!
//! Invariant: a call counts as in flight until its answer has been read to the end or dropped. Invariant: payloads are
//! passed on as they come, never collected.

mod answer;
mod explain;
mod request;

#[cfg(test)]
mod tests;

use crate::deployment::Target;
use crate::metrics::UpstreamError;
use crate::session::{InFlight, Key, Router, Session};
use crate::trace::Recording;
use crate::upstream::{self, Upstream};
use domain::error::Origin;
use domain::id::{EndpointName, RuntimeId, SessionId};
use domain::{Error, Kind};
use front_door::body::Incoming;
use front_door::service::{Call, Reply};
use http::Request;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use uuid::Uuid;

/// How often a call may move on to a new sandbox because the one it was given ended before anything was sent.
const SANDBOXES: usize = 3;
/// After a connection broke, how long to wait for the driver to say that the agent has exited.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);

/// Sends calls to agents.
#[derive(Debug, Clone)]
pub struct Invoker {
    router: Router,
}

/// What became of one attempt.
enum Attempt {
    /// Nothing was sent and the session is ending: the call goes on to the next sandbox.
    Again(Incoming),
    /// It is over.
    Failed(Error),
}

impl Invoker {
    /// Sends calls into the sessions of `router`.
    #[must_use]
    pub fn new(router: Router) -> Self {
        Self { router }
    }

    /// `InvokeAgentRuntime`. Answers when the head of the agent's answer is there; dropping the future or the reply's
    /// body cancels the call and leaves the session usable. The reply's body takes the trace with it.
    pub(crate) async fn invoke(&self, call: Call, target: Target, trace: &mut Recording) -> Result<Reply, Error> {
        let session = request::session_id(&call.input)?;
        let key = Key {
            runtime: target.deployment.arn.id.clone(),
            endpoint: target.endpoint.clone(),
            session,
        };
        trace.aims(&key, &target);
        let request_id = call.request_id;
        let told = target
            .switches
            .agent_errors
            .unwrap_or(self.router.config().agent_errors);
        let outcome = self.attempt(call, &key, &target, trace).await;
        outcome.map_err(|error| explain::tell(error, &key, request_id, told))
    }

    async fn attempt(&self, call: Call, key: &Key, target: &Target, trace: &mut Recording) -> Result<Reply, Error> {
        let Call {
            input,
            headers,
            request_id,
            mut body,
            ..
        } = call;
        for _ in 0..SANDBOXES {
            let (pass, started) = self.router.enter(key, target).await?;
            let session = pass.share();
            trace.entered(&session, started);
            let upstream = match pass.ready().await {
                Ok(upstream) => Arc::clone(upstream),
                Err(error) => return Err(self.failed(&session, request_id, error)),
            };
            let mut head = request::head(&pass.deployment, &key.session, &input, &headers, request_id)?;
            trace.mark(head.headers_mut());
            let flight = InFlight::new(pass, request_id);
            match self.exchange(flight, &upstream, head.map(|()| body), trace).await {
                Ok(reply) => return Ok(reply),
                Err(Attempt::Again(back)) => body = back,
                Err(Attempt::Failed(error)) => return Err(self.failed(&session, request_id, error)),
            }
        }
        Err(Error::new(
            Kind::SessionBusy,
            "The session's sandbox ended again and again; please retry.",
        ))
    }

    /// Notes an agent's failure in its session's record.
    fn failed(&self, session: &Session, request_id: Uuid, error: Error) -> Error {
        if error.origin() == Origin::Agent {
            session.calls.failed(self.router.now(), request_id, &error);
        }
        error
    }

    /// `StopRuntimeSession`: ends the session's sandbox (SIGTERM, the grace, SIGKILL), cuts what is in flight and waits
    /// until nothing is left. [`Kind::NotFound`] if there is no such session, [`Kind::SessionBusy`] while it starts or ends.
    pub async fn stop(
        &self,
        runtime: &RuntimeId,
        endpoint: &EndpointName,
        session: &SessionId,
        client_token: Option<&str>,
    ) -> Result<(), Error> {
        let key = Key {
            runtime: runtime.clone(),
            endpoint: endpoint.clone(),
            session: session.clone(),
        };
        self.router.stop(&key, client_token).await
    }

    async fn exchange(
        &self,
        pass: InFlight,
        upstream: &Arc<Upstream>,
        request: Request<Incoming>,
        trace: &mut Recording,
    ) -> Result<Reply, Attempt> {
        let config = self.router.config();
        let metrics = self.router.metrics();
        let mut cut = Box::pin(pass.cut());
        // The cut only wakes those who asked before it; the look after asking closes the gap.
        if pass.ended().is_some() {
            return Err(Attempt::Again(request.into_body()));
        }
        let mut deadline = Box::pin(sleep(config.first_answer_deadline));
        let request = request.map(|body| request::counted(body, &pass));
        let answered = tokio::select! {
            biased;
            answered = upstream.send(request) => answered,
            () = cut.as_mut() => return Err(Attempt::Failed(explain::cut(&pass))),
            () = deadline.as_mut() => {
                metrics.upstream_error(UpstreamError::Timeout);
                return Err(Attempt::Failed(explain::too_late(config.first_answer_deadline)));
            }
        };
        let response = match answered {
            Ok(response) => response,
            Err(upstream::Error::Unsent(cause, request)) => {
                return Err(match pass.ended_within(EXIT_PATIENCE).await {
                    Some(_) => Attempt::Again(request.into_body()),
                    None => Attempt::Failed(explain::unreachable(&cause, pass.deployment.port)),
                });
            }
            Err(upstream::Error::Request(cause)) => return Err(Attempt::Failed(explain::request_broke(&cause))),
            Err(error) => {
                return Err(Attempt::Failed(match pass.ended_within(EXIT_PATIENCE).await {
                    Some(_) => explain::cut(&pass),
                    None => explain::no_answer(&error),
                }));
            }
        };
        if !response.status().is_success() {
            return Err(Attempt::Failed(explain::error_status(response).await));
        }
        if let Some(took) = pass.answered() {
            self.router.first_answer(&pass, took);
        }
        let headers = answer::headers(response.headers(), &pass.key.session);
        let sent_by = tokio::time::Instant::now() + config.stream_deadline;
        deadline.as_mut().reset(sent_by);
        trace.answering();
        let trace = std::mem::take(trace);
        let body = answer::Body::new(response.into_body(), pass, cut, deadline, Arc::clone(metrics), trace);
        Ok(Reply::Stream {
            headers,
            body: Incoming::new(body),
        })
    }
}
