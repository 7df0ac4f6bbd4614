//! Why there is no answer, said to the caller.
//!
//! AWS says only that the runtime failed and points to its logs. Here the caller is told what happened, with a short
//! excerpt of the agent's own words: the caller is proven, and who may call an agent may read its answers.
//!
//! Invariant: the fault of an agent is [`Kind::Agent`], which no SDK retries, and so is the end of a session on which
//! a call was in flight, because the agent may have done part of its work.

use crate::session::wording::{EXCERPT, head, how_it_ended, last_words};
use crate::session::{Ended, Reason, Session};
use crate::upstream::{self, Unsent};
use domain::{Error, Kind};
use front_door::body::BodyError;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::time::timeout;

/// Bytes of an error answer that are read for the excerpt.
const EXCERPT_BYTES: usize = 4096;
const EXCERPT_DEADLINE: Duration = Duration::from_secs(2);

/// The session ended while the call was in flight.
pub(super) fn cut(session: &Session) -> Error {
    let Some(Ended { reason, exit, .. }) = session.ended() else {
        return Error::internal("The session was cut without a reason.");
    };
    let lifetime = session.deployment.max_lifetime.as_secs();
    match (reason, exit) {
        (Reason::AgentExited, Some((exit, log))) => {
            let how = how_it_ended(exit, &session.limits);
            Error::agent(format!("The agent {how} before it had answered. {}", last_words(log)))
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
        Unsent::ClosedAtOnce(error) => Error::agent(format!(
            "The agent closes each new connection on port {port} at once ({error})."
        )),
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
    let excerpt = match is_text(response.headers()) {
        true => excerpt(response.into_body()).await,
        false => String::new(),
    };
    if excerpt.is_empty() {
        return Error::agent(format!(
            "Received error ({status}) from runtime. The agent gave no reason."
        ));
    }
    Error::agent(format!(
        "Received error ({status}) from runtime. The agent said: {excerpt}"
    ))
}

/// What comes soon of the body's start.
async fn excerpt(mut body: upstream::Body) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        while bytes.len() < EXCERPT_BYTES
            && let Some(Ok(frame)) = body.frame().await
        {
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data[..data.len().min(EXCERPT_BYTES - bytes.len())]);
            }
        }
    };
    // What has come until then will do.
    let _ = timeout(EXCERPT_DEADLINE, reading).await;
    // The cut may have split a character; nothing else can make it one that is not there.
    let text = String::from_utf8_lossy(&bytes);
    head(text.trim_end_matches(char::REPLACEMENT_CHARACTER), EXCERPT)
}

fn is_text(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let media = value.split(';').next().unwrap_or_default().trim();
    media.starts_with("text/") || ["json", "xml"].iter().any(|kind| media.ends_with(kind))
}
