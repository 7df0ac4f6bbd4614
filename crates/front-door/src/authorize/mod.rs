//! May the caller do that? Policies decide, and what they decided is written to the audit log.
//!
//! A call names its actions and its resources ([`Access`]); every action must be allowed on every resource. The caller's
//! own policies come from the directory, the resource's policy with the resource; what a condition asks about the call
//! is looked up when it is asked.
//!
//! Invariant: what cannot be decided is denied. Invariant: the root of the account needs no policy, so that nobody can
//! lock themselves out.

mod record;
#[cfg(test)]
mod tests;

use crate::audit::{self, Decided, Entry, Who};
use crate::context::Context;
use crate::error::Failure;
use crate::forwarded::Origin;
use crate::service::{Access, Resource};
use domain::id::AccountId;
use domain::{Clock, Error, Principal, PrincipalKind};
use http::HeaderMap;
use http::header::USER_AGENT;
use iam::Directory;
use iam::directory::Held;
use iam::keys::Key;
use iam::policy::{self, Decision, Request, Value, Values, decide};
use jiff::Timestamp;
use std::sync::Arc;

/// A proven caller.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Who.
    pub(crate) principal: Arc<Principal>,
    /// What signed.
    pub(crate) key: Option<Arc<Key>>,
    /// The caller's own policies.
    held: Held,
}

impl Caller {
    /// Who signed with a key.
    pub(crate) fn signed(key: Arc<Key>, directory: &Directory) -> Self {
        Self {
            principal: Arc::clone(key.principal()),
            held: directory.policies(&key),
            key: Some(key),
        }
    }

    /// Who bears a token.
    pub(crate) fn bearer(principal: Arc<Principal>) -> Self {
        Self {
            principal,
            key: None,
            held: Held::default(),
        }
    }
}

/// Decides for one server.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) account: AccountId,
    pub(crate) region: String,
    pub(crate) audit: audit::Log,
    pub(crate) clock: Clock,
}

/// What AWS asks of whoever gives a role to a service.
const PASS_ROLE: &str = "iam:PassRole";
/// The service that gets it: `iam:PassedToService`.
const SERVICE: &str = "bedrock-agentcore.amazonaws.com";

/// One call as conditions see it.
struct Asked<'a> {
    authority: &'a Authority,
    caller: &'a Caller,
    origin: Origin,
    headers: &'a HeaderMap,
    access: &'a Access,
    resource: &'a Resource,
    now: Timestamp,
}

impl Authority {
    /// Lets a call pass or says why not.
    pub(crate) async fn decide(
        &self,
        context: &Context,
        caller: &Caller,
        headers: &HeaderMap,
        access: &Access,
    ) -> Result<(), Failure> {
        let is_data = context
            .operation
            .is_some_and(|operation| operation.plane == api::Plane::Data);
        let now = self.clock.now();
        let asked = |resource| Asked {
            authority: self,
            caller,
            origin: context.origin,
            headers,
            access,
            resource,
            now,
        };
        for resource in &access.resources {
            for action in &access.actions {
                self.step(context, &asked(resource), action, is_data).await?;
            }
        }
        if let Some(role) = &access.passes {
            let role = Resource::untagged(Arc::clone(role));
            self.step(context, &asked(&role), PASS_ROLE, is_data).await?;
        }
        Ok(())
    }

    /// One action on one resource.
    async fn step(&self, context: &Context, asked: &Asked<'_>, action: &str, is_data: bool) -> Result<(), Failure> {
        let (decision, refusal) = asked.decide(action);
        let decided = Decided::of(&decision);
        if self.audit.wants(decided, is_data) {
            let entry = Entry {
                time: asked.now,
                principal: Some(Who::from(&*asked.caller.principal)),
                action: Some(action),
                resource: Some(&asked.resource.arn),
                ..self.entry(context, decided)
            };
            self.record(entry, &decision).await;
        }
        refusal.map_or(Ok(()), |refusal| Err(Error::denied(refusal).into()))
    }
}

impl Asked<'_> {
    /// What is decided about an action, and what a caller is told who may not do it.
    fn decide(&self, action: &str) -> (Decision, Option<String>) {
        let request = Request {
            principal: &self.caller.principal,
            action,
            resource: &self.resource.arn,
            resource_account: &self.authority.account,
            context: self,
        };
        let decision = decide(&request, &self.caller.held.with(self.resource.policy.as_deref()));
        let refusal = decision.message(&request);
        (decision, refusal)
    }
}

impl policy::Context for Asked<'_> {
    fn get(&self, key: &str) -> Option<Values<'_>> {
        if let Some(name) = key.strip_prefix("aws:") {
            return self.global(name);
        }
        let own = self.access.keys.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        if let Some((_, values)) = own {
            return some(values);
        }
        if key == "iam:passedtoservice" {
            return self.access.passes.is_some().then(|| Values::text(SERVICE));
        }
        let claim = key.strip_prefix("bedrock-agentcore:inboundjwtclaim/")?;
        let PrincipalKind::Bearer(bearer) = &self.caller.principal.kind else {
            return None;
        };
        let found = bearer.claims.iter().find(|(name, _)| name.eq_ignore_ascii_case(claim));
        found.and_then(|(_, values)| some(values))
    }
}

impl Asked<'_> {
    /// The keys that begin with `aws:`, which every call has.
    fn global(&self, name: &str) -> Option<Values<'_>> {
        let one = |value| Some(Values::One(value));
        let text = |text: &'_ str| Some(Values::text(text.to_owned()));
        match name {
            "sourceip" => one(Value::Ip(self.origin.address)),
            "securetransport" => one(Value::Bool(self.origin.is_secure)),
            "currenttime" | "epochtime" => one(Value::Time(self.now)),
            "useragent" => text(self.headers.get(USER_AGENT)?.to_str().ok()?),
            "requestedregion" => text(&self.authority.region),
            "resourceaccount" => text(self.authority.account.as_str()),
            "principalaccount" => match self.caller.principal.kind {
                PrincipalKind::Bearer(_) => None,
                _ => text(self.caller.principal.account.as_str()),
            },
            "principalarn" => match &self.caller.principal.kind {
                PrincipalKind::Bearer(_) => None,
                PrincipalKind::AssumedRole { role, .. } => text(role),
                _ => text(&self.caller.principal.arn),
            },
            "principaltype" => match self.caller.principal.kind {
                PrincipalKind::Root => text("Account"),
                PrincipalKind::User { .. } => text("User"),
                PrincipalKind::AssumedRole { .. } => text("AssumedRole"),
                PrincipalKind::Bearer(_) => None,
            },
            "username" => match &self.caller.principal.kind {
                PrincipalKind::User { name } => text(name),
                _ => None,
            },
            "userid" => text(&self.caller.principal.id),
            "tokenissuetime" => one(Value::Time(self.key()?.issued()?)),
            "sourceidentity" => text(self.key()?.source_identity()?),
            "tagkeys" => {
                let names = self.access.request_tags.iter().map(|(name, _)| name.as_str());
                let names: Vec<&str> = names.collect();
                (!names.is_empty()).then(|| Values::texts(names))
            }
            _ => self.tag(name),
        }
    }

    fn key(&self) -> Option<&Key> {
        self.caller.key.as_deref()
    }

    fn tag(&self, name: &str) -> Option<Values<'_>> {
        if let Some(wanted) = name.strip_prefix("resourcetag/") {
            let mut tags = self.resource.tags.iter();
            return tags
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| Values::text(value));
        }
        if let Some(wanted) = name.strip_prefix("principaltag/") {
            let mut tags = self.key()?.tags()?.iter();
            return tags
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| Values::text(value));
        }
        let wanted = name.strip_prefix("requesttag/")?;
        let mut tags = self.access.request_tags.iter();
        tags.find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| Values::text(value))
    }
}

fn some(values: &[String]) -> Option<Values<'_>> {
    (!values.is_empty()).then(|| Values::texts(values.iter().map(String::as_str)))
}
