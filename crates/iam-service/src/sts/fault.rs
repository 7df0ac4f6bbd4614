//! What STS refuses, under the names that its clients know.

use http::StatusCode;

use crate::{TokenFault, document};

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// AWS's name for it.
    pub(super) code: &'static str,
    /// What was wrong and what to do.
    pub(super) message: String,
}

impl Fault {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationError", message)
    }

    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self::new("AccessDenied", message)
    }

    pub(super) fn unsigned() -> Self {
        Self::new("MissingAuthenticationToken", "Request is missing Authentication Token")
    }

    pub(super) fn unknown() -> Self {
        Self::new(
            "InvalidClientTokenId",
            "The security token included in the request is invalid.",
        )
    }

    pub(super) fn action(action: &str) -> Self {
        let shown: String = action.chars().take(64).collect();
        if shown.is_empty() {
            return Self::new("MissingAction", "The request must have the parameter Action.");
        }
        let text = format!(
            "Could not find operation {shown} for version 2011-06-15. This server has GetCallerIdentity, AssumeRole, \
             AssumeRoleWithWebIdentity, GetSessionToken and GetAccessKeyInfo."
        );
        Self::new("InvalidAction", text)
    }

    pub(super) fn status(&self) -> StatusCode {
        match self.code {
            "AccessDenied" | "MissingAuthenticationToken" | "InvalidClientTokenId" => StatusCode::FORBIDDEN,
            "InternalFailure" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl From<iam::Error> for Fault {
    fn from(error: iam::Error) -> Self {
        match error {
            iam::Error::Denied(message) => Self::denied(message),
            iam::Error::Invalid {
                field: "Policy",
                problem,
            } if problem.contains("bytes of a token") => Self::new("PackedPolicyTooLarge", problem),
            iam::Error::Invalid {
                field: "Policy",
                problem,
            } => Self::new("MalformedPolicyDocument", problem),
            error @ iam::Error::Invalid { .. } => Self::validation(error.to_string()),
            // A role that ended in this moment.
            iam::Error::NotFound(message) => Self::denied(message),
            other => Self::new("InternalFailure", document::told(other).message),
        }
    }
}

impl From<TokenFault> for Fault {
    fn from(fault: TokenFault) -> Self {
        match fault {
            TokenFault::Expired(message) => Self::new("ExpiredTokenException", message),
            TokenFault::Invalid(message) => Self::new("InvalidIdentityToken", message),
            TokenFault::Unreachable(message) => Self::new("IDPCommunicationError", message),
        }
    }
}
