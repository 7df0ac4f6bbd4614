//! Temporary credentials: who gets some, and how they end before their time.
//!
//! Whether a role may be taken is decided by [`policy::trust`](crate::policy::trust) here and nowhere else. A role that
//! does not exist and one that is not for the caller are one answer.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{Principal, PrincipalKind};
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use super::Directory;
use super::draft::Draft;
use super::find::TEMPORARY;
use super::record::{self, REVOKED};
use crate::keys::Key;
use crate::names::{self, Holder};
use crate::policy::{self, Caller, Context, Decision, Kind, Policy, Value, Values, trust};
use crate::sts::{
    CLOCK_SLACK, Claims, ForSession, Issue, MAX_LIFETIME, MAX_SESSION_POLICY, MAX_TAGS, MIN_LIFETIME, Of, Revoke,
    Revoked, Subject, Temporary,
};
use crate::{Error, names::random_id, names::random_secret};

/// Who acts when the runtime fetches credentials for a session.
const RUNTIME: &str = "bedrock-agentcore.amazonaws.com";
/// The longest life of credentials that were made with credentials of a role.
const CHAINED: Duration = Duration::from_secs(3600);
/// The longest life of the root's.
const OF_ROOT: Duration = Duration::from_secs(3600);
const DEFAULT: Duration = Duration::from_secs(3600);

/// A role that a caller wants to take.
#[derive(Clone, Copy)]
pub struct Assume<'a> {
    /// Whose key the request was signed with.
    pub caller: &'a Key,
    /// What conditions may look at.
    pub context: &'a dyn Context,
    /// Which role, and as what.
    pub role: Wanted<'a>,
}

/// A role that somebody wants for whom an identity provider vouches.
#[derive(Clone, Copy)]
pub struct AssumeWithToken<'a> {
    /// `arn:aws:iam::123456789012:oidc-provider/HOST/PATH`.
    pub provider: &'a str,
    /// What conditions may look at, `HOST/PATH:sub` and `HOST/PATH:aud` among it.
    pub context: &'a dyn Context,
    /// Which role, and as what.
    pub role: Wanted<'a>,
}

/// Which role, and as what.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The role's ARN.
    pub role_arn: &'a str,
    /// Name of the role's session.
    pub session: &'a str,
    /// How long; an hour unless said.
    pub lifetime: Option<Duration>,
    /// A policy that narrows the role's down.
    pub policy: Option<&'a str>,
    /// Who is behind it.
    pub source_identity: Option<&'a str>,
    /// Tags of the session.
    pub tags: &'a BTreeMap<String, String>,
}

/// What was decided about one action on the role that somebody wanted, for the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Such as `sts:AssumeRole`.
    pub action: &'static str,
    /// How it went.
    pub decision: Decision,
}

impl Directory {
    /// Gives a caller a role, if the role's trust policy, and where AWS asks for them the caller's own policies, let it.
    /// What they decided is added to `judged`, also where the call fails.
    pub fn assume(&self, assume: &Assume<'_>, judged: &mut Vec<Judged>) -> Result<Temporary, Error> {
        let (caller, wanted) = (assume.caller, assume.role);
        let held = self.policies(caller);
        let who = Caller::Principal(caller.principal());
        let mut trusted = |action| self.trusted(who, action, wanted, assume.context, &held, judged);
        let role = trusted("sts:AssumeRole")?;
        if !wanted.tags.is_empty() {
            trusted("sts:TagSession")?;
        }
        if wanted.source_identity.is_some() {
            trusted("sts:SetSourceIdentity")?;
        }
        let chained = matches!(caller.principal().kind, PrincipalKind::AssumedRole { .. });
        let lifetime = wanted.lifetime.unwrap_or(DEFAULT);
        if chained && lifetime > CHAINED {
            let problem =
                "credentials of a role make others for at most 3600 seconds: ask for fewer, or use a user's key";
            return Err(Error::invalid("DurationSeconds", problem));
        }
        if let (Some(before), Some(now)) = (caller.source_identity(), wanted.source_identity)
            && before != now
        {
            let problem =
                format!("is '{now}', but the caller's credentials have '{before}', which stays for the whole chain");
            return Err(Error::invalid("SourceIdentity", problem));
        }
        let source_identity = wanted.source_identity.or(caller.source_identity());
        self.issue(Issue {
            source_identity: source_identity.map(str::to_owned),
            ..issue_of(role, wanted)
        })
    }

    /// Gives a role to somebody for whom an identity provider vouches, if the role's trust policy lets it. What it
    /// decided is added to `judged`, also where the call fails.
    pub fn assume_with_token(
        &self,
        assume: &AssumeWithToken<'_>,
        judged: &mut Vec<Judged>,
    ) -> Result<Temporary, Error> {
        let who = Caller::Federated(assume.provider);
        let none = super::Held::default();
        let action = "sts:AssumeRoleWithWebIdentity";
        let role = self.trusted(who, action, assume.role, assume.context, &none, judged)?;
        self.issue(issue_of(role, assume.role))
    }

    /// Credentials of a runtime's role for one of its sessions. The role's trust policy must let
    /// `bedrock-agentcore.amazonaws.com` have it, for `aws:SourceAccount` and `aws:SourceArn` where it asks for them.
    pub fn issue_for_session(&self, wanted: &ForSession) -> Result<Temporary, Error> {
        let context = Source {
            account: self.account().as_str(),
            arn: wanted.source_arn.as_deref(),
            now: self.shared.clock.now(),
        };
        let as_role = Wanted {
            role_arn: &wanted.role_arn,
            session: &wanted.session_name,
            lifetime: None,
            policy: None,
            source_identity: None,
            tags: &wanted.tags,
        };
        let who = Caller::Service(RUNTIME);
        let none = super::Held::default();
        let role = self.trusted(who, "sts:AssumeRole", as_role, &context, &none, &mut Vec::new())?;
        let most = Duration::from_secs(self.max_session(&role)?.into());
        self.issue(Issue {
            lifetime: wanted.lifetime.clamp(MIN_LIFETIME, most),
            ..issue_of(role, as_role)
        })
    }

    /// Makes credentials without asking who wants them.
    pub fn issue(&self, issue: Issue) -> Result<Temporary, Error> {
        let id = random_id(TEMPORARY, 16)?;
        let known = self.shared.known.load();
        let (of, principal, most) = match issue.subject {
            Subject::Role { role: holder, session } => {
                check_session("RoleSessionName", &session)?;
                let role = known.role(&holder)?;
                let (account, name) = (holder.account, holder.name);
                let principal = Principal::assumed_role(account, &name, &role.id, session.clone(), id.clone());
                let of = Of::Role {
                    name,
                    id: role.id.clone(),
                    session,
                };
                (of, principal, Duration::from_secs(role.max_session.into()))
            }
            Subject::User(holder) => {
                let unique = known.user(&holder)?.id.clone();
                let principal = Principal::user(holder.account, holder.name.clone(), unique.clone(), id.clone());
                let of = Of::User {
                    name: holder.name,
                    id: unique,
                };
                (of, principal, MAX_LIFETIME)
            }
            Subject::Root(account) => (Of::Root, Principal::root(account, id.clone()), OF_ROOT),
        };
        drop(known);
        check_lifetime(issue.lifetime, most)?;
        check_tags(&issue.tags)?;
        if let Some(source) = &issue.source_identity {
            check_session("SourceIdentity", source)?;
        }
        if let Some(text) = &issue.session_policy {
            if text.chars().count() > MAX_SESSION_POLICY {
                let problem = format!("has more than {MAX_SESSION_POLICY} characters");
                return Err(Error::invalid("Policy", problem));
            }
            Policy::parse(Kind::Session, text).map_err(|problem| Error::invalid("Policy", problem))?;
        }
        let now = self.shared.clock.now();
        // Never within the millisecond in which earlier ones of the same session were revoked.
        let issued_ms = now
            .as_millisecond()
            .max(self.shared.revocations.earliest(&principal.id));
        let expires = now + SignedDuration::try_from(issue.lifetime).unwrap_or(SignedDuration::ZERO);
        let expires = Timestamp::from_second(expires.as_second()).unwrap_or(expires);
        let claims = Claims {
            secret: random_secret()?,
            account: principal.account.clone(),
            of,
            issued_ms,
            expires: expires.as_second(),
            session_policy: issue.session_policy,
            source_identity: issue.source_identity,
            tags: issue.tags,
        };
        let (session_token, packed_percent) = self.shared.sealer.seal(&id, &claims)?;
        Ok(Temporary {
            access_key_id: id,
            secret: Zeroizing::new(claims.secret.as_str().to_owned()),
            session_token,
            expires,
            principal,
            packed_percent,
        })
    }

    /// Ends temporary credentials before their time, for good. They are refused from the return on.
    pub async fn revoke(&self, what: Revoke) -> Result<(), Error> {
        let now = self.shared.clock.now();
        let after = |time: Timestamp, wait: Duration| {
            let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
            time.saturating_add(wait).unwrap_or(Timestamp::MAX)
        };
        let longest = after(now, MAX_LIFETIME);
        let (name, until) = match what {
            Revoke::Credential { id, expires } => {
                let until = expires.map_or(longest, |expires| after(expires, CLOCK_SLACK).min(longest));
                (names::check("accessKeyId", &id, 128)?.to_owned(), until)
            }
            Revoke::Session { role_arn, session_name } => {
                let holder = Holder::from_role_arn("roleArn", &role_arn)?;
                check_session("sessionName", &session_name)?;
                let known = self.shared.known.load();
                // With a role its sessions are gone.
                let Ok(role) = known.role(&holder) else { return Ok(()) };
                (format!("{}:{session_name}", role.id), longest)
            }
        };
        let revocations = std::sync::Arc::clone(&self.shared.revocations);
        let earlier = std::sync::Arc::clone(&revocations);
        self.change_then(
            move |draft: &mut Draft<'_>| {
                let revoked = Revoked {
                    at_ms: now.as_millisecond(),
                    // An earlier revocation that knew less is not cut short.
                    until: earlier.until(&name).map_or(until, |before| before.max(until)),
                };
                draft.write(REVOKED, &name, Some(record::write_revoked(&revoked)));
                Ok((name, revoked))
            },
            move |(name, revoked)| revocations.add(name, revoked),
        )
        .await
    }

    /// Seconds that sessions of a role may last.
    fn max_session(&self, role: &Holder) -> Result<u32, Error> {
        Ok(self.shared.known.load().role(role)?.max_session)
    }

    /// The role, if it is for this caller.
    fn trusted(
        &self,
        caller: Caller<'_>,
        action: &'static str,
        wanted: Wanted<'_>,
        context: &dyn Context,
        held: &super::Held,
        judged: &mut Vec<Judged>,
    ) -> Result<Holder, Error> {
        let role = Holder::from_role_arn("RoleArn", wanted.role_arn)?;
        let trust = self.trust_policy(&role);
        let request = trust::Request {
            caller,
            action,
            role: wanted.role_arn,
            account: &role.account,
            context,
        };
        let decision = trust::decide(&request, &held.with(trust.as_deref()));
        let refusal = decision.trust_message(&request);
        judged.push(Judged { action, decision });
        match refusal {
            None => Ok(role),
            Some(message) => Err(Error::Denied(message)),
        }
    }
}

fn issue_of(role: Holder, wanted: Wanted<'_>) -> Issue {
    Issue {
        subject: Subject::Role {
            role,
            session: wanted.session.to_owned(),
        },
        lifetime: wanted.lifetime.unwrap_or(DEFAULT),
        session_policy: wanted.policy.map(str::to_owned),
        source_identity: wanted.source_identity.map(str::to_owned),
        tags: wanted.tags.clone(),
    }
}

fn check_session(field: &'static str, name: &str) -> Result<(), Error> {
    if name.len() < 2 {
        let problem = format!("'{name}' is too short: use 2 to 64 letters, digits and _+=,.@-");
        return Err(Error::invalid(field, problem));
    }
    names::check(field, name, 64).map(drop)
}

fn check_lifetime(lifetime: Duration, most: Duration) -> Result<(), Error> {
    if (MIN_LIFETIME..=most).contains(&lifetime) {
        return Ok(());
    }
    let (asked, least, most) = (lifetime.as_secs(), MIN_LIFETIME.as_secs(), most.as_secs());
    let problem = if asked < least {
        format!("{asked} seconds is less than {least}, the least there is")
    } else {
        format!(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role: {asked} seconds is more than {most}"
        )
    };
    Err(Error::invalid("DurationSeconds", problem))
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    if tags.len() > MAX_TAGS {
        return Err(Error::invalid("Tags", format!("are more than {MAX_TAGS}")));
    }
    for (key, value) in tags {
        if !(1..=128).contains(&key.chars().count()) || value.chars().count() > 256 {
            let problem = "a key has 1 to 128 characters and a value at most 256";
            return Err(Error::invalid("Tags", problem));
        }
    }
    Ok(())
}

impl std::fmt::Debug for Assume<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assume")
            .field("caller", &self.caller)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for AssumeWithToken<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AssumeWithToken")
            .field("provider", &self.provider)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// What is known of a session's sandbox that fetches credentials.
struct Source<'a> {
    account: &'a str,
    arn: Option<&'a str>,
    now: Timestamp,
}

impl Context for Source<'_> {
    fn get(&self, key: &str) -> Option<Values<'_>> {
        match key {
            "aws:sourceaccount" => Some(Values::text(self.account)),
            "aws:sourcearn" => self.arn.map(Values::text),
            "aws:currenttime" | "aws:epochtime" => Some(policy::Values::One(Value::Time(self.now))),
            _ => None,
        }
    }
}
