//! What conditions of a trust policy may look at.

use std::collections::BTreeMap;

use domain::PrincipalKind;
use front_door::forwarded::Origin;
use iam::keys::Key;
use iam::policy::{Context, Value, Values};
use jiff::Timestamp;

use crate::Identity;

/// A call of STS as conditions see it.
pub(super) struct Facts<'a> {
    pub(super) origin: Origin,
    pub(super) now: Timestamp,
    /// Whose; none where a provider vouches for the caller.
    pub(super) key: Option<&'a Key>,
    pub(super) session: &'a str,
    pub(super) source_identity: Option<&'a str>,
    pub(super) tags: &'a BTreeMap<String, String>,
    pub(super) external_id: Option<&'a str>,
    pub(super) identity: Option<&'a Identity>,
}

impl Context for Facts<'_> {
    fn get(&self, key: &str) -> Option<Values<'_>> {
        let one = |value| Some(Values::One(value));
        match key {
            "aws:sourceip" => one(Value::Ip(self.origin.address)),
            "aws:securetransport" => one(Value::Bool(self.origin.is_secure)),
            "aws:currenttime" | "aws:epochtime" => one(Value::Time(self.now)),
            "aws:tagkeys" => (!self.tags.is_empty()).then(|| Values::texts(self.tags.keys().map(String::as_str))),
            "sts:externalid" => self.external_id.map(Values::text),
            "sts:rolesessionname" => Some(Values::text(self.session)),
            "sts:sourceidentity" => self.source_identity.map(Values::text),
            _ => match key.strip_prefix("aws:") {
                Some(rest) => self.global(rest),
                None => self.claim(key),
            },
        }
    }
}

impl Facts<'_> {
    fn global(&self, name: &str) -> Option<Values<'_>> {
        if let Some(wanted) = name.strip_prefix("requesttag/") {
            return tag(self.tags, wanted);
        }
        if name == "federatedprovider" {
            return self.identity.map(|identity| Values::text(identity.provider.as_str()));
        }
        let key = self.key?;
        let principal = key.principal();
        match name {
            "principalarn" => match &principal.kind {
                PrincipalKind::AssumedRole { role, .. } => Some(Values::text(role.as_str())),
                _ => Some(Values::text(principal.arn.as_str())),
            },
            "principalaccount" => Some(Values::text(principal.account.as_str())),
            "principaltype" => match principal.kind {
                PrincipalKind::Root => Some(Values::text("Account")),
                PrincipalKind::User { .. } => Some(Values::text("User")),
                PrincipalKind::AssumedRole { .. } => Some(Values::text("AssumedRole")),
                PrincipalKind::Bearer(_) => None,
            },
            "username" => match &principal.kind {
                PrincipalKind::User { name } => Some(Values::text(name.as_str())),
                _ => None,
            },
            "userid" => Some(Values::text(principal.id.as_str())),
            "tokenissuetime" => key.issued().map(|at| Values::One(Value::Time(at))),
            "sourceidentity" => key.source_identity().map(Values::text),
            _ => tag(key.tags()?, name.strip_prefix("principaltag/")?),
        }
    }

    /// `HOST/PATH:sub`, `HOST/PATH:aud`, and the other claims that are texts.
    fn claim(&self, key: &str) -> Option<Values<'_>> {
        let identity = self.identity?;
        // A provider's name may have a port, so its own colons are not the last.
        let (provider, claim) = key.rsplit_once(':')?;
        if !identity.provider.eq_ignore_ascii_case(provider) {
            return None;
        }
        match claim {
            "sub" => identity.bearer.subject.as_deref().map(Values::text),
            "aud" => identity.audience.as_deref().map(Values::text),
            _ => {
                let mut claims = identity.bearer.claims.iter();
                let (_, values) = claims.find(|(name, _)| name.eq_ignore_ascii_case(claim))?;
                (!values.is_empty()).then(|| Values::texts(values.iter().map(String::as_str)))
            }
        }
    }
}

fn tag<'a>(tags: &'a BTreeMap<String, String>, wanted: &str) -> Option<Values<'a>> {
    let mut tags = tags.iter();
    tags.find(|(name, _)| name.eq_ignore_ascii_case(wanted))
        .map(|(_, value)| Values::text(value.as_str()))
}
