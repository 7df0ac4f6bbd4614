//! The one place that writes an error to a client.
//!
//! A [`domain::Error`] says what kind of failure it is; [`exception`] finds the exception that the operation models for
//! that kind, and its status. [`Edge`] failures exist only between socket and service: no operation, no body in time.
//!
//! The wire form, for every SDK: `x-amzn-ErrorType: NAME`, `Content-Type: application/json`, body `{"message": ...}`;
//! a `ValidationException` adds `reason` and `fieldList`, as its shape says. What may succeed later says when, in
//! `Retry-After`; what an agent said is in `x-eyot-agent-error`, where the service hands it on (see `detail`).
//!
//! Decisions where the model is silent:
//! - A kind that an operation does not model keeps its usual name and status. Clients without that class in their
//!   model see a plain service error with the name as its code, which says more than a wrong class.
//! - `Conflict` never becomes `RetryableConflictException`, even where only that is modelled (InvokeAgentRuntime): SDKs
//!   would call again and again into a state that does not pass by itself.
//! - `AgentTimeout` is 504 `GatewayTimeoutException`; the model has no name for it.
//! - `Unsupported` is 501 `NotImplementedException`; SDKs do not retry it.
//!
//! Invariant: a container's fault is 424, never 5xx; SDKs retry 5xx and would run the agent three times.
//! Invariant: `WWW-Authenticate` is in answers about bearer tokens only; signed calls have no use for it.
//!
//! STS has another wire form, see `sts`.

mod detail;
mod sts;
#[cfg(test)]
mod tests;

use crate::auth::Refusal;
use crate::body::source::Fault;
use api::Operation;
use bytes::Bytes;
use domain::error::{FieldError, InvalidReason};
use domain::{Error, Kind};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use uuid::Uuid;

/// The header that names the exception.
pub(crate) const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
/// The header with what an agent said. A service hands that on only where the agent's owner wants it.
pub(crate) const AGENT_ERROR: HeaderName = HeaderName::from_static("x-eyot-agent-error");
/// The type of every document that the front door writes.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Seconds after which a client may try again when nobody has said more.
const RETRY_SECONDS: u64 = 1;

/// In which form a client reads an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A JSON document and an exception's name in a header.
    Json,
    /// The query protocol's XML.
    Sts,
}

/// What ends a request early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A failure in the words of the domain.
    Domain(Error),
    /// A signature that is not believed.
    Refused(Refusal),
    /// A bearer token that is not accepted, and where to get one that is.
    Unauthorized(String, HeaderValue),
    /// A failure of the way in.
    Edge(Edge, String),
}

/// Failures that only the way from socket to service knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    /// The bytes are not a request.
    BadRequest,
    /// No such route, and no credentials that would earn a better answer.
    MissingToken,
    /// No such route.
    UnknownOperation,
    /// The client took too long to send its body.
    BodyTimeout,
    /// The request line is too long.
    UriTooLong,
    /// The head is too large.
    HeadTooLarge,
}

/// An error as it goes on the wire, but for its request id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    /// Status.
    pub(crate) status: StatusCode,
    /// Headers, `Content-Type` included.
    pub(crate) headers: HeaderMap,
    /// The JSON document.
    pub(crate) body: Bytes,
}

impl Failure {
    /// The error's wire form for a caller of `operation`.
    pub(crate) fn write(&self, operation: Option<&Operation>) -> Written {
        let (name, status) = match self {
            Self::Domain(error) => exception(&error.kind, operation),
            // What SDKs know as a reason to fetch new credentials.
            Self::Refused(Refusal::ExpiredToken) => ("ExpiredTokenException", StatusCode::FORBIDDEN),
            Self::Refused(_) => exception(&Kind::Denied, operation),
            Self::Unauthorized(..) => ("UnauthorizedException", StatusCode::UNAUTHORIZED),
            Self::Edge(edge, _) => edge.exception(),
        };
        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ERROR_TYPE, HeaderValue::from_static(name));
        if let Self::Unauthorized(_, challenge) = self {
            headers.insert(WWW_AUTHENTICATE, challenge.clone());
        }
        if let Self::Domain(error) = self {
            if let Some(seconds) = retry_after(error) {
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            if let Some(said) = error.detail.as_deref().and_then(detail::header) {
                headers.insert(AGENT_ERROR, said);
            }
        }
        Written {
            status,
            headers,
            body: match self {
                Self::Refused(refusal) => Document::of(&refusal.to_string()).to_bytes(),
                Self::Domain(Error { message, .. }) | Self::Unauthorized(message, _) | Self::Edge(_, message) => {
                    self.document(message).to_bytes()
                }
            },
        }
    }

    /// Its wire form for a caller of STS, which names the request in the document too.
    pub(crate) fn write_sts(&self, request_id: Uuid) -> Written {
        sts::write(self, request_id)
    }

    fn document<'a>(&'a self, message: &'a str) -> Document<'a> {
        match self {
            Self::Domain(Error {
                kind: Kind::Invalid { reason, fields },
                ..
            }) => {
                let reason = match reason {
                    InvalidReason::CannotParse => "CannotParse",
                    InvalidReason::FieldValidationFailed => "FieldValidationFailed",
                };
                Document {
                    message,
                    reason: Some(reason),
                    field_list: fields,
                }
            }
            _ => Document::of(message),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

impl Edge {
    fn exception(self) -> (&'static str, StatusCode) {
        match self {
            Self::BadRequest => ("BadRequestException", StatusCode::BAD_REQUEST),
            Self::MissingToken => ("MissingAuthenticationTokenException", StatusCode::FORBIDDEN),
            Self::UnknownOperation => ("UnknownOperationException", StatusCode::NOT_FOUND),
            Self::BodyTimeout => ("RequestTimeoutException", StatusCode::REQUEST_TIMEOUT),
            Self::UriTooLong => ("RequestUriTooLongException", StatusCode::URI_TOO_LONG),
            Self::HeadTooLarge => (
                "RequestHeadersTooLargeException",
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ),
        }
    }
}

/// The whole seconds after which the same call may succeed: never sooner than the error says, and never zero, which
/// clients take as an invitation to call at once.
fn retry_after(error: &Error) -> Option<u64> {
    match (error.retry_after, &error.kind) {
        (Some(wait), _) => Some((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(RETRY_SECONDS)),
        (None, Kind::Draining | Kind::Throttled) => Some(RETRY_SECONDS),
        (None, _) => None,
    }
}

/// What is wrong with a body, told to its sender. `member` is what the model calls the body.
pub(crate) fn body_failure(fault: &Fault, member: &str) -> Failure {
    match fault {
        Fault::Broken {
            cause,
            received,
            promised,
        } => {
            let promised = promised.map_or_else(|| "more".to_owned(), |bytes| format!("{bytes} bytes"));
            let text =
                format!("The request body ended after {received} bytes, but {promised} were announced: {cause}.");
            Error::cannot_parse(text).into()
        }
        Fault::TooLarge { limit, size } => {
            let size = size.map_or_else(|| format!("more than {limit}"), |size| size.to_string());
            Error::invalid_field(
                member,
                format!("must be at most {limit} bytes long, but has {size} bytes"),
            )
            .into()
        }
        Fault::Stalled(pause) => Failure::Edge(
            Edge::BodyTimeout,
            format!(
                "The request body was not complete, and nothing more of it came for {} seconds.",
                pause.as_secs_f32()
            ),
        ),
        Fault::TooSlow(total) => Failure::Edge(
            Edge::BodyTimeout,
            format!(
                "The request body was not complete after {} seconds. Send it faster.",
                total.as_secs_f32()
            ),
        ),
        Fault::Digest => {
            Error::denied("The body does not have the SHA-256 that the signed x-amz-content-sha256 header says.").into()
        }
    }
}

/// The exception and status for a kind of failure, as `operation` models it.
#[must_use]
pub fn exception(kind: &Kind, operation: Option<&Operation>) -> (&'static str, StatusCode) {
    let (names, usual): (&[&'static str], StatusCode) = match kind {
        Kind::Invalid { .. } => (
            &["ValidationException", "InvalidInputException"],
            StatusCode::BAD_REQUEST,
        ),
        Kind::Denied => (&["AccessDeniedException"], StatusCode::FORBIDDEN),
        Kind::NotFound => (&["ResourceNotFoundException"], StatusCode::NOT_FOUND),
        Kind::Conflict => (&["ConflictException"], StatusCode::CONFLICT),
        Kind::SessionBusy => (
            &["RetryableConflictException", "ConflictException"],
            StatusCode::CONFLICT,
        ),
        Kind::QuotaExceeded => (
            &["ServiceQuotaExceededException", "ResourceLimitExceededException"],
            StatusCode::PAYMENT_REQUIRED,
        ),
        Kind::Throttled => (
            &["ThrottlingException", "ThrottledException"],
            StatusCode::TOO_MANY_REQUESTS,
        ),
        Kind::Agent => (&["RuntimeClientError"], StatusCode::FAILED_DEPENDENCY),
        Kind::AgentTimeout => (&["GatewayTimeoutException"], StatusCode::GATEWAY_TIMEOUT),
        Kind::Unsupported => (&["NotImplementedException"], StatusCode::NOT_IMPLEMENTED),
        Kind::Draining => (&["ServiceUnavailableException"], StatusCode::SERVICE_UNAVAILABLE),
        Kind::Internal => (
            &["InternalServerException", "ServiceException"],
            StatusCode::INTERNAL_SERVER_ERROR,
        ),
    };
    let modelled = operation.and_then(|operation| {
        let name = names.iter().find(|name| operation.errors.contains(name))?;
        let exception = api::exception(operation.plane, name)?;
        Some((exception.name, StatusCode::from_u16(exception.status).ok()?))
    });
    modelled.unwrap_or((names[0], usual))
}

#[derive(Serialize)]
struct Document<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(rename = "fieldList", skip_serializing_if = "<[_]>::is_empty")]
    field_list: &'a [FieldError],
}

impl<'a> Document<'a> {
    fn of(message: &'a str) -> Self {
        Self {
            message,
            reason: None,
            field_list: &[],
        }
    }

    fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self)
            .map(Bytes::from)
            .unwrap_or_else(|_| Bytes::from_static(b"{\"message\":\"\"}"))
    }
}
