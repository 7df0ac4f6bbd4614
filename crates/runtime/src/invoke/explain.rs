//! Why there is no answer, said to the caller and to the operator.
//!
//! A message says which kind of failure it was, in AWS's words first where it has any. What the agent itself said or wrote
//! is the error's detail: the operator finds it in the session's record and in the log, the caller gets it in a header if
//! the runtime's owner, or else the server's configuration, wants that.
//!
//! Invariant: nothing that an agent said or wrote is in a message.
//! Invariant: the fault of an agent is [`Kind::Agent`], which no SDK retries, and so is the end of a session on which
//! a call was in flight, because the agent may have done part of its work.

use crate::session::wording::{EXCERPT, how_it_ended, tail};
use crate::session::{Ended, Key, Reason, Session, excerpt};
use crate::upstream::{self, Unsent};
use domain::error::Origin;
use domain::{Error, Kind};
use front_door::body::BodyError;
use http::Response;
use std::time::Duration;
use uuid::Uuid;

/// The session ended while the call was in flight.
pub(super) fn cut(session: &Session) -> Error {
    let Some(Ended { reason, exit, .. }) = session.ended() else {
        return Error::internal("The session was cut without a reason.");
    };
    let lifetime = session.deployment.max_lifetime.as_secs();
    match (reason, exit) {
        (Reason::AgentExited, Some((exit, log))) => {
            let how = how_it_ended(exit, &session.limits);
            Error::agent(format!("The agent {how} before it had answered.")).with_detail(tail(log, EXCERPT))
        }
        (Reason::AgentExited, None) => Error::agent("The agent exited before it had answered."),
        (Reason::Unhealthy, _) => Error::agent(
            "The session was ended before the agent had answered, because GET /ping failed several times in a row.",
        ),
        (Reason::MaxLifetime, _) => Error::agent(format!(
            "The session reached its maxLifetime of {lifetime} s before the agent had answered."
        )),
        (Reason::Stopped, _) => Error::agent("The session was stopped before the agent had answered."),
        (Reason::RuntimeDeleted, _) => {
            Error::agent("The runtime or its endpoint was deleted before the agent had answered.")
        }
        (Reason::Draining, _) => Error::new(
            Kind::Draining,
            "The server stopped before the agent had answered. The agent may have done its work.",
        ),
        (Reason::IdleTimeout | Reason::StartFailed, _) => Error::internal("The session ended with a call in flight."),
    }
}

/// No answer in time.
pub(super) fn too_late(deadline: Duration) -> Error {
    let seconds = deadline.as_secs();
    Error::new(
        Kind::AgentTimeout,
        format!("The agent did not begin to answer within {seconds} s. The session goes on."),
    )
}

/// The agent lives but cannot be reached.
pub(super) fn unreachable(cause: &Unsent, port: u16) -> Error {
    match cause {
        Unsent::Dial(sandbox::Error::Refused(_)) => Error::agent(format!(
            "The agent still runs but nothing accepts connections on port {port} any more."
        )),
        Unsent::Dial(sandbox::Error::Gone) | Unsent::Closed => {
            Error::new(Kind::SessionBusy, "The session is ending, please retry.")
        }
        Unsent::Dial(error) => {
            tracing::error!(%error, "a sandbox could not be dialled");
            Error::internal("The agent's sandbox could not be reached. The server's log says why.")
        }
    }
}

/// The agent lives but gave no answer.
pub(super) fn no_answer(error: &upstream::Error) -> Error {
    Error::agent(format!("The agent did not answer: {error}."))
}

/// The caller's own body broke off.
pub(super) fn request_broke(cause: &BodyError) -> Error {
    match cause {
        BodyError::Digest => Error::denied("The body does not match its signed x-amz-content-sha256."),
        BodyError::TooLarge(limit) => Error::invalid_field("payload", format!("has more than {limit} bytes")),
        BodyError::Client(said) | BodyError::Agent(said) => {
            Error::cannot_parse(format!("The request's body ended before it was complete: {said}."))
        }
        BodyError::Spool(error) => {
            tracing::error!(%error, "a request's spool file failed");
            Error::internal("The request's body could not be kept. The server's log says why.")
        }
    }
}

/// The agent answered with an error.
pub(super) async fn error_status(response: Response<upstream::Body>) -> Error {
    let status = response.status().as_u16();
    let said = excerpt(response).await;
    // AWS's words; tools look for them.
    Error::agent(format!("Received error ({status}) from runtime.")).with_detail(said)
}

/// What leaves of an error: the operator's log gets all, the caller the agent's own words only if `told`.
pub(super) fn tell(mut error: Error, key: &Key, request_id: Uuid, told: bool) -> Error {
    if error.origin() == Origin::Agent {
        let (runtime, endpoint, session) = (&key.runtime, &key.endpoint, &key.session);
        let detail = error.detail.as_deref();
        tracing::info!(%runtime, %endpoint, %session, %request_id, %error, detail, "an agent failed a call");
    }
    if !told && error.detail.take().is_some() {
        error
            .message
            .push_str(" Please check the session's record for more information.");
    }
    error
}
