//! What can go wrong, said once, for every service behind the front door.
//!
//! A service returns [`Error`]; the front door alone turns its [`Kind`] into an HTTP status and an exception name.
//! Every error knows its [`Origin`], because AWS SDKs retry 5xx answers: the fault of an agent must never look like
//! the fault of the platform, or the SDK would run the agent three times.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The request cannot be served as it was made.
    Caller,
    /// Eyot or the machine below it failed.
    Platform,
    /// The agent's own code failed.
    Agent,
}

/// An error that a caller may be shown.
///
/// The message is written for the caller: it says what was wrong, where, and what to do. Details for the operator
/// go to the log, not here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind of failure this is; decides the answer's status and exception.
    pub kind: Kind,
    /// One sentence or two for the caller.
    pub message: String,
    /// What an agent itself said or wrote: for the operator, and for the caller only where the runtime's owner allows it.
    pub detail: Option<Box<str>>,
    /// When the same call may succeed, if that is known.
    pub retry_after: Option<Duration>,
}

/// The kinds of failure, by what the caller can do about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The input breaks a rule; lists every broken one.
    Invalid {
        /// Why the input was refused as a whole.
        reason: InvalidReason,
        /// The members that are wrong, possibly none when the input could not be read at all.
        fields: Vec<FieldError>,
    },
    /// Credentials are missing, wrong, or do not allow the call.
    Denied,
    /// The resource does not exist.
    NotFound,
    /// The resource's state, or another resource, forbids the call.
    Conflict,
    /// The session is being started or ended; the same call will work in a moment.
    SessionBusy,
    /// A limit on how much may exist has been reached.
    QuotaExceeded,
    /// Too many calls in too short a time.
    Throttled,
    /// The agent failed: it could not start, crashed, or answered with an error.
    Agent,
    /// The agent did not answer in time.
    AgentTimeout,
    /// The operation is part of the API but not of this version of Eyot.
    Unsupported,
    /// The server is stopping and takes no new work.
    Draining,
    /// Eyot itself failed.
    Internal,
}

/// Why an input was refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidReason {
    /// Not readable as what it should be (for example malformed JSON).
    CannotParse,
    /// Readable, but members break their constraints.
    FieldValidationFailed,
}

/// One member that breaks its constraint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// The member's path in the API's own names: `agentRuntimeArtifact.codeConfiguration.entryPoint[0]`.
    pub name: String,
    /// What is wrong with it and what would be right.
    pub message: String,
}

impl Error {
    /// An error of a kind with a message for the caller.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            detail: None,
            retry_after: None,
        }
    }

    /// The same error with what the agent itself said.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        let detail: String = detail.into();
        self.detail = (!detail.is_empty()).then(|| detail.into_boxed_str());
        self
    }

    /// The same error with the time after which a repetition may succeed.
    #[must_use]
    pub fn retry_in(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// A single member breaks a rule.
    pub fn invalid_field(name: impl Into<String>, message: impl Into<String>) -> Self {
        let field = FieldError {
            name: name.into(),
            message: message.into(),
        };
        Self::invalid_fields(vec![field])
    }

    /// Several members break rules; the message names each.
    #[must_use]
    pub fn invalid_fields(fields: Vec<FieldError>) -> Self {
        let said: Vec<String> = fields.iter().map(|f| format!("{}: {}", f.name, f.message)).collect();
        let count = fields.len();
        let noun = if count == 1 { "error" } else { "errors" };
        let message = format!("{count} validation {noun} detected: {}", said.join("; "));
        let kind = Kind::Invalid {
            reason: InvalidReason::FieldValidationFailed,
            fields,
        };
        Self::new(kind, message)
    }

    /// The input cannot be read at all.
    pub fn cannot_parse(message: impl Into<String>) -> Self {
        Self::new(
            Kind::Invalid {
                reason: InvalidReason::CannotParse,
                fields: Vec::new(),
            },
            message,
        )
    }

    /// [`Kind::Denied`] with a message.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(Kind::Denied, message)
    }

    /// [`Kind::NotFound`] with a message.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// [`Kind::Conflict`] with a message.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// [`Kind::Agent`] with a message.
    pub fn agent(message: impl Into<String>) -> Self {
        Self::new(Kind::Agent, message)
    }

    /// [`Kind::Internal`] with a message that is safe to show; log the cause beside it.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// Whose fault it is.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match self.kind {
            Kind::Agent | Kind::AgentTimeout => Origin::Agent,
            Kind::Internal | Kind::Draining | Kind::Unsupported => Origin::Platform,
            _ => Origin::Caller,
        }
    }

    /// Whether the same call may succeed later without being changed.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        matches!(
            self.kind,
            Kind::SessionBusy | Kind::Throttled | Kind::Internal | Kind::Draining
        )
    }
}
