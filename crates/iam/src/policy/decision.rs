//! What was decided and by which statement, for the caller's message and for the audit log.

use super::decide::Request;
use super::document::Kind;
use super::principals::Caller;
use super::trust;
use domain::PrincipalKind;
use std::fmt;
use std::sync::Arc;

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may be done.
    Allowed(Grant),
    /// It may not.
    Denied(Denial),
}

/// Why something may be done. Between accounts both sides had to agree, and both are named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// What the caller is allowed for what it is, without any policy.
    pub standing: Option<Standing>,
    /// The statement of the caller's own policies.
    pub identity: Option<Deciding>,
    /// The statement of the resource's policy, or of the role's trust policy.
    pub resource: Option<Deciding>,
    /// The statement of the session policy, where there is one that had to agree.
    pub session: Option<Deciding>,
}

/// What needs no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// An account's root needs no policy of its own.
    Root,
    /// A bearer token that was let in, on a resource without a policy.
    Token,
}

/// Why something may not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// A statement says so.
    Explicit {
        /// The kind of its policy.
        kind: Kind,
        /// The statement.
        by: Deciding,
    },
    /// No policy of this kind allows it, and one would have to.
    Implicit {
        /// The kind.
        kind: Kind,
    },
}

/// A statement that decided. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deciding {
    /// The policy's name.
    pub policy: Arc<str>,
    /// The statement's `Sid`.
    pub sid: Option<Arc<str>>,
    /// The statement's place in the policy, from 0.
    pub index: usize,
}

impl Decision {
    /// Whether it may be done.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// AWS's words for a denial; `None` if the request is allowed. A bearer token's holder is "anonymous" in them, as
    /// callers without an ARN are at AWS.
    #[must_use]
    pub fn message(&self, request: &Request<'_>) -> Option<String> {
        let user = match request.principal.kind {
            PrincipalKind::Bearer(_) => "anonymous",
            _ => &request.principal.arn,
        };
        self.denial()
            .map(|denial| denial.message(user, request.action, request.resource))
    }

    /// The same for a role that was not given; who comes without an ARN is told no more than AWS tells.
    #[must_use]
    pub fn trust_message(&self, request: &trust::Request<'_>) -> Option<String> {
        self.denial().map(|denial| match request.caller {
            Caller::Principal(principal) => denial.message(&principal.arn, request.action, request.role),
            Caller::Federated(_) | Caller::Service(_) => format!("Not authorized to perform {}", request.action),
        })
    }

    fn denial(&self) -> Option<&Denial> {
        match self {
            Self::Allowed(_) => None,
            Self::Denied(denial) => Some(denial),
        }
    }
}

impl Denial {
    fn message(&self, user: &str, action: &str, resource: &str) -> String {
        let because = match self {
            Self::Explicit { kind: Kind::Trust, .. } => "with an explicit deny in the role trust policy".to_owned(),
            Self::Explicit {
                kind: Kind::Identity, ..
            } => "with an explicit deny in an identity-based policy".to_owned(),
            Self::Explicit { kind, .. } => format!("with an explicit deny in a {}", kind.noun()),
            Self::Implicit { kind } => format!("because no {} allows the {action} action", kind.noun()),
        };
        format!("User: {user} is not authorized to perform: {action} on resource: {resource} {because}")
    }
}

/// For the audit log, such as `allowed by identity-based policy 'invoke' statement 'Mine'`.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(Denial::Explicit { kind, by }) => write!(f, "denied by {} {by}", kind.noun()),
            Self::Denied(Denial::Implicit { kind }) => write!(f, "denied: no {} allows it", kind.noun()),
            Self::Allowed(grant) => {
                f.write_str("allowed by ")?;
                let standing = grant.standing.map(|standing| match standing {
                    Standing::Root => "the account's root",
                    Standing::Token => "its bearer token",
                });
                let mut separator = "";
                if let Some(standing) = standing {
                    f.write_str(standing)?;
                    separator = ", ";
                }
                let named = [
                    ("identity-based policy", &grant.identity),
                    ("policy of the resource", &grant.resource),
                    ("session policy", &grant.session),
                ];
                for (noun, by) in named {
                    if let Some(by) = by {
                        write!(f, "{separator}{noun} {by}")?;
                        separator = ", ";
                    }
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Deciding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' ", self.policy)?;
        match &self.sid {
            Some(sid) => write!(f, "statement '{sid}'"),
            None => write!(f, "statement [{}]", self.index),
        }
    }
}
