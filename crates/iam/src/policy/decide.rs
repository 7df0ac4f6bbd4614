//! May this caller do this? All policies that have a say, weighed by AWS's rules.
//!
//! 1. A `Deny` that applies, in any policy, ends it.
//! 2. In the caller's own account its identity policies or the resource's policy must allow; between accounts, both
//!    must. The root needs no identity policy. An `Allow` that means the caller only by its account leaves the say to
//!    that account: it counts between accounts, and gives nothing to the account's own users and roles.
//! 3. A session policy must allow as well. Exception, as at AWS: within the account, a resource's policy that names
//!    the session itself (`arn:aws:sts::…:assumed-role/ROLE/SESSION`) is not limited by it; one that names the role, or
//!    everybody, is.
//! 4. The holder of a bearer token has no identity policies. The token lets it in where the resource has no policy;
//!    where it has one, that must allow `"*"`.
//!
//! Invariant: nothing is allocated here but by the context, and by a variable in a pattern of many pieces or whose value
//! is no text.

use super::context::Context;
use super::decision::{Deciding, Decision, Denial, Grant, Standing};
use super::document::{Effect, Kind, Policy, Statement};
use super::lookup::Lookup;
use super::principals::{Caller, Strength};
use domain::id::AccountId;
use domain::{Principal, PrincipalKind};
use std::fmt;
use std::sync::Arc;

/// Actions up to this length are put in lower case on the stack; AWS's longest have about 80 characters.
const ACTION: usize = 128;

/// What is to be decided.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Who calls.
    pub principal: &'a Principal,
    /// Such as `bedrock-agentcore:InvokeAgentRuntime`.
    pub action: &'a str,
    /// The ARN of what is called, or `*` for operations on nothing in particular.
    pub resource: &'a str,
    /// The account that it belongs to.
    pub resource_account: &'a AccountId,
    /// What else is known of the call.
    pub context: &'a dyn Context,
}

/// The policies that have a say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policies<'a> {
    /// Those of the user or the role, of [`Kind::Identity`].
    pub identity: &'a [Arc<Policy>],
    /// That of the caller's session, of [`Kind::Session`].
    pub session: Option<&'a Policy>,
    /// That of the resource, of [`Kind::Resource`].
    pub resource: Option<&'a Policy>,
}

/// Decides.
#[must_use]
pub fn decide(request: &Request<'_>, policies: &Policies<'_>) -> Decision {
    in_lower_case(request.action, |action| {
        let facts = Facts {
            caller: Caller::Principal(request.principal),
            action,
            resource: request.resource,
            lookup: Lookup::new(request.context),
        };
        match facts.gather(policies) {
            Ok(evidence) => weigh(request, policies, evidence),
            Err(denial) => Decision::Denied(denial),
        }
    })
}

fn weigh(request: &Request<'_>, policies: &Policies<'_>, evidence: Evidence<'_>) -> Decision {
    let principal = request.principal;
    let same_account = principal.account == *request.resource_account;
    let resource = evidence.resource;
    // What only names the account is for the account to grant.
    let named = resource.filter(|found| !same_account || found.strength > Strength::Account);
    if let PrincipalKind::Bearer(_) = principal.kind {
        return match (policies.resource, named) {
            (None, _) if same_account => evidence.capped(policies, Grant::standing(Standing::Token)),
            (_, Some(found)) => evidence.capped(policies, Grant::resource(found)),
            _ => Decision::Denied(Denial::Implicit { kind: Kind::Resource }),
        };
    }
    let own = evidence.own(principal);
    match (same_account, own, named) {
        (true, _, Some(found)) if found.strength == Strength::Session => Decision::Allowed(Grant::resource(found)),
        (true, Some(own), _) => evidence.capped(policies, own),
        (true, None, Some(found)) => evidence.capped(policies, Grant::resource(found)),
        (false, Some(own), Some(found)) => evidence.capped(policies, own.and(found)),
        (_, None, _) => Decision::Denied(Denial::Implicit { kind: Kind::Identity }),
        (false, Some(_), None) => Decision::Denied(Denial::Implicit { kind: Kind::Resource }),
    }
}

/// What statements are held against.
pub(super) struct Facts<'a> {
    pub(super) caller: Caller<'a>,
    /// In lower case.
    pub(super) action: &'a str,
    pub(super) resource: &'a str,
    pub(super) lookup: Lookup<'a>,
}

/// What allows; nothing denies.
#[derive(Clone, Copy)]
pub(super) struct Evidence<'p> {
    identity: Option<Found<'p>>,
    session: Option<Found<'p>>,
    pub(super) resource: Option<Found<'p>>,
}

/// A statement that applies.
#[derive(Clone, Copy)]
pub(super) struct Found<'p> {
    policy: &'p Policy,
    statement: &'p Statement,
    index: usize,
    pub(super) strength: Strength,
}

impl<'a> Facts<'a> {
    /// The strongest statements that allow, or the first that denies.
    pub(super) fn gather(&self, policies: &Policies<'a>) -> Result<Evidence<'a>, Denial> {
        let mut evidence = Evidence {
            identity: None,
            session: None,
            resource: None,
        };
        for policy in policies.identity {
            self.read(policy, &mut evidence.identity)?;
        }
        if let Some(policy) = policies.session {
            self.read(policy, &mut evidence.session)?;
        }
        if let Some(policy) = policies.resource {
            self.read(policy, &mut evidence.resource)?;
        }
        Ok(evidence)
    }

    fn read(&self, policy: &'a Policy, best: &mut Option<Found<'a>>) -> Result<(), Denial> {
        for (index, statement) in policy.statements().iter().enumerate() {
            // Most statements are about other actions; of two that allow alike the first is the one to name.
            if !statement.actions.cover(self.action) {
                continue;
            }
            let Some(strength) = self.strength(policy, statement) else {
                continue;
            };
            let known = best.is_some_and(|best| best.strength >= strength);
            if statement.effect == Effect::Allow && known || !self.applies(statement) {
                continue;
            }
            let found = Found {
                policy,
                statement,
                index,
                strength,
            };
            match statement.effect {
                Effect::Allow => *best = Some(found),
                Effect::Deny => {
                    return Err(Denial::Explicit {
                        kind: policy.kind(),
                        by: found.into(),
                    });
                }
            }
        }
        Ok(())
    }

    fn strength(&self, policy: &Policy, statement: &Statement) -> Option<Strength> {
        match (&statement.principals, policy.kind()) {
            (Some(principals), _) => principals.strength(&self.caller, statement.effect),
            (None, Kind::Identity | Kind::Session) => Some(Strength::Named),
            (None, Kind::Resource | Kind::Trust) => None,
        }
    }

    fn applies(&self, statement: &'a Statement) -> bool {
        let effect = statement.effect;
        let covered = statement.resources.as_ref();
        covered.is_none_or(|resources| resources.cover(self.resource, &self.lookup, effect))
            && statement
                .conditions
                .iter()
                .all(|condition| condition.holds(&self.lookup, effect))
    }
}

impl Evidence<'_> {
    /// What the caller's own side grants.
    pub(super) fn own(&self, principal: &Principal) -> Option<Grant> {
        match principal.kind {
            PrincipalKind::Root => Some(Grant::standing(Standing::Root)),
            _ => self.identity.map(|found| Grant {
                identity: Some(found.into()),
                ..Grant::default()
            }),
        }
    }

    /// The grant, if the session policy agrees or there is none.
    pub(super) fn capped(&self, policies: &Policies<'_>, grant: Grant) -> Decision {
        match (policies.session, self.session) {
            (None, _) => Decision::Allowed(grant),
            (Some(_), Some(found)) => Decision::Allowed(Grant {
                session: Some(found.into()),
                ..grant
            }),
            (Some(_), None) => Decision::Denied(Denial::Implicit { kind: Kind::Session }),
        }
    }
}

impl Grant {
    pub(super) fn resource(found: Found<'_>) -> Self {
        Self::default().and(found)
    }

    /// The same, and the resource's side agrees.
    pub(super) fn and(self, found: Found<'_>) -> Self {
        Self {
            resource: Some(found.into()),
            ..self
        }
    }

    fn standing(standing: Standing) -> Self {
        Self {
            standing: Some(standing),
            ..Self::default()
        }
    }
}

impl From<Found<'_>> for Deciding {
    fn from(found: Found<'_>) -> Self {
        Self {
            policy: Arc::clone(found.policy.name()),
            sid: found.statement.sid.clone(),
            index: found.index,
        }
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("principal", &self.principal.arn)
            .field("action", &self.action)
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

pub(super) fn in_lower_case<R>(action: &str, then: impl FnOnce(&str) -> R) -> R {
    let mut buffer = [0; ACTION];
    let lower = buffer.get_mut(..action.len()).and_then(|lower| {
        lower.copy_from_slice(action.as_bytes());
        lower.make_ascii_lowercase();
        std::str::from_utf8(lower).ok()
    });
    match lower {
        Some(lower) => then(lower),
        None => then(&action.to_ascii_lowercase()),
    }
}
