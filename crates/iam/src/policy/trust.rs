//! May this caller have this role? The role's trust policy and, where AWS asks for them, the caller's own policies.
//!
//! The trust policy must always allow. It is enough for a service, for whom an identity provider vouches for, and for
//! a user or a role of the same account that it names, or means by `"*"`. Whom it means only by the account, and
//! everybody of another account, also needs an identity policy that allows the action on the role. AWS lets no root
//! take a role; here it may if the trust policy lets it.

use super::context::Context;
use super::decide::{Facts, Policies, in_lower_case};
use super::decision::{Decision, Denial, Grant};
use super::document::Kind;
use super::lookup::Lookup;
use super::principals::{Caller, Strength};
use domain::PrincipalKind;
use domain::id::AccountId;
use std::fmt;

/// Who wants which role.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Who asks.
    pub caller: Caller<'a>,
    /// `sts:AssumeRole`, `sts:AssumeRoleWithWebIdentity` or `sts:TagSession`.
    pub action: &'a str,
    /// The role's ARN.
    pub role: &'a str,
    /// The role's account.
    pub account: &'a AccountId,
    /// What else is known of the call; of a token of an identity provider also `PROVIDER:aud`, `PROVIDER:sub`.
    pub context: &'a dyn Context,
}

/// Decides. The trust policy, of [`Kind::Trust`], is `policies.resource`; without one nobody has the role. Of a service
/// and of whom a provider vouches for no other policy is looked at.
#[must_use]
pub fn decide(request: &Request<'_>, policies: &Policies<'_>) -> Decision {
    let policies = match request.caller {
        Caller::Principal(_) => *policies,
        Caller::Service(_) | Caller::Federated(_) => Policies {
            resource: policies.resource,
            ..Policies::default()
        },
    };
    in_lower_case(request.action, |action| {
        let facts = Facts {
            caller: request.caller,
            action,
            resource: request.role,
            lookup: Lookup::new(request.context),
        };
        let evidence = match facts.gather(&policies) {
            Ok(evidence) => evidence,
            Err(denial) => return Decision::Denied(denial),
        };
        let denied = |kind| Decision::Denied(Denial::Implicit { kind });
        let Some(found) = evidence.resource else {
            return denied(Kind::Trust);
        };
        let principal = match request.caller {
            Caller::Service(_) | Caller::Federated(_) => return Decision::Allowed(Grant::resource(found)),
            // Nobody signs with a bearer token, and STS takes only signed requests.
            Caller::Principal(principal) if matches!(principal.kind, PrincipalKind::Bearer(_)) => {
                return denied(Kind::Trust);
            }
            Caller::Principal(principal) => principal,
        };
        let same_account = principal.account == *request.account;
        match (same_account, found.strength, evidence.own(principal)) {
            (true, Strength::Session, _) => Decision::Allowed(Grant::resource(found)),
            (true, Strength::Named, _) => evidence.capped(&policies, Grant::resource(found)),
            (_, _, Some(own)) => evidence.capped(&policies, own.and(found)),
            (_, _, None) => denied(Kind::Identity),
        }
    })
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("caller", &self.caller)
            .field("action", &self.action)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}
