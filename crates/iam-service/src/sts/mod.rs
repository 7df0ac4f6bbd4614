//! STS as AWS's query protocol has it: form parameters in, XML out (version 2011-06-15).
//!
//! | action | who may |
//! |---|---|
//! | `GetCallerIdentity` | everybody who signs |
//! | `AssumeRole` | whom the role's trust policy, and where AWS asks for it the caller's account, lets |
//! | `AssumeRoleWithWebIdentity` | without a signature, whom a configured identity provider vouches for and the trust policy lets |
//! | `GetSessionToken` | users and the root, for themselves |
//! | `GetAccessKeyInfo` | whom `sts:GetAccessKeyInfo` on `*` is allowed |
//!
//! Not here, and refused by name: MFA, `PolicyArns` (there are no managed policies), `ProvidedContexts`.
//!
//! Read in this order: [`Sts`], `parameters`, `context`, `fault`, `xml`.
//!
//! Invariant: what a caller may is decided by [`iam`], from what is known now. Invariant: no token that a caller sent is
//! in an answer.

mod context;
mod fault;
mod parameters;
mod xml;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::{Clock, Principal, PrincipalKind};
use front_door::forwarded::Origin;
use front_door::service::{StsCall, StsRecord, StsReply};
use http::StatusCode;
use iam::Directory;
use iam::directory::{Assume, AssumeWithToken, Judged, Wanted};
use iam::keys::Key;
use iam::names::Holder;
use iam::policy::{self, decide};
use iam::sts::{Issue, Subject, Temporary};

use crate::{Federation, document};
use context::Facts;
use fault::Fault;
use parameters::Parameters;
use xml::Xml;

const VERSION: &str = "2011-06-15";
/// The default life of credentials of GetSessionToken, as at AWS; an hour for the root.
const SESSION: Duration = Duration::from_secs(43_200);
const HOUR: Duration = Duration::from_secs(3600);

/// Answers calls of STS.
#[derive(Debug)]
pub struct Sts {
    directory: Arc<Directory>,
    federation: Arc<dyn Federation>,
    clock: Clock,
}

/// A call that has been taken apart.
struct Asked<'a> {
    parameters: Parameters<'a>,
    key: Option<&'a Key>,
    origin: Origin,
}

impl Sts {
    /// Over a directory and the identity providers that may vouch for somebody.
    #[must_use]
    pub fn new(directory: Arc<Directory>, federation: Arc<dyn Federation>, clock: Clock) -> Self {
        Self {
            directory,
            federation,
            clock,
        }
    }

    /// Answers one call, errors included.
    pub async fn answer(&self, call: &StsCall) -> StsReply {
        let id = call.request_id.to_string();
        let asked = Asked {
            parameters: Parameters::new(&call.parameters),
            key: call.key.as_deref(),
            origin: call.origin,
        };
        let action = asked.parameters.get("Action").unwrap_or_default();
        let mut record = StsRecord {
            action: named(action),
            role: asked.parameters.get("RoleArn").and_then(role),
            ..StsRecord::default()
        };
        let (status, text) = match self.act(action, &asked, &mut record).await {
            Ok(result) => (StatusCode::OK, xml::response(action, result, &id)),
            Err(fault) => {
                record.refusal = Some(fault.code);
                tracing::info!(request_id = %id, action = record.action, code = fault.code, "STS refused a call");
                (fault.status(), xml::error(&fault, &id))
            }
        };
        StsReply {
            reply: document::reply(status, "text/xml", text.into_bytes()),
            record,
        }
    }

    async fn act(&self, action: &str, asked: &Asked<'_>, record: &mut StsRecord) -> Result<Xml, Fault> {
        match asked.parameters.get("Version") {
            Some(VERSION) | None => {}
            Some(_) => return Err(Fault::validation(format!("Version must be {VERSION}"))),
        }
        if action == "AssumeRoleWithWebIdentity" {
            return self.assume_with_token(asked, record).await;
        }
        if record.action.is_none() {
            return Err(Fault::action(action));
        }
        let key = asked.key.ok_or_else(Fault::unsigned)?;
        // Withdrawn in the moment since its signature was verified.
        if key.is_retired() {
            return Err(Fault::unknown());
        }
        match action {
            "GetCallerIdentity" => {
                asked.parameters.only(&[])?;
                Ok(identity(key.principal()))
            }
            "AssumeRole" => self.assume(asked, key, record),
            "GetSessionToken" => self.session_token(asked, key.principal(), record),
            _ => self.key_info(asked, key, record),
        }
    }

    fn assume(&self, asked: &Asked<'_>, key: &Key, record: &mut StsRecord) -> Result<Xml, Fault> {
        let parameters = &asked.parameters;
        parameters.only(&[
            "RoleArn",
            "RoleSessionName",
            "DurationSeconds",
            "Policy",
            "ExternalId",
            "SourceIdentity",
            "Tags.",
            "TransitiveTagKeys.",
        ])?;
        let tags = parameters.tags()?;
        let role = wanted(parameters, &tags)?;
        let facts = Facts {
            external_id: parameters.get("ExternalId"),
            ..self.facts(asked, &role, Some(key))
        };
        let assume = Assume {
            caller: key,
            context: &facts,
            role,
        };
        let temporary = self.directory.assume(&assume, &mut record.judged)?;
        record.issued = Some(temporary.access_key_id.clone());
        Ok(assumed(&temporary, role.source_identity.or(key.source_identity())))
    }

    async fn assume_with_token(&self, asked: &Asked<'_>, record: &mut StsRecord) -> Result<Xml, Fault> {
        let parameters = &asked.parameters;
        parameters.only(&[
            "RoleArn",
            "RoleSessionName",
            "DurationSeconds",
            "Policy",
            "WebIdentityToken",
            "ProviderId",
        ])?;
        if parameters.get("ProviderId").is_some() {
            let text = "ProviderId is for OAuth 2.0 access tokens of a few named providers; send an OpenID Connect token without it";
            return Err(Fault::validation(text));
        }
        let none = BTreeMap::new();
        let role = wanted(parameters, &none)?;
        let identity = self.federation.verify(parameters.required("WebIdentityToken")?).await?;
        record.federated = Some(Arc::clone(&identity.bearer));
        let account = Holder::from_role_arn("RoleArn", role.role_arn)?.account;
        let provider = format!("arn:aws:iam::{account}:oidc-provider/{}", identity.provider);
        let facts = Facts {
            identity: Some(&identity),
            ..self.facts(asked, &role, None)
        };
        let assume = AssumeWithToken {
            provider: &provider,
            context: &facts,
            role,
        };
        let temporary = self.directory.assume_with_token(&assume, &mut record.judged)?;
        record.issued = Some(temporary.access_key_id.clone());
        let mut result = assumed(&temporary, None);
        result.text(
            "SubjectFromWebIdentityToken",
            identity.bearer.subject.as_deref().unwrap_or_default(),
        );
        result.text("Audience", identity.audience.as_deref().unwrap_or_default());
        result.text("Provider", &provider);
        Ok(result)
    }

    fn session_token(&self, asked: &Asked<'_>, caller: &Principal, record: &mut StsRecord) -> Result<Xml, Fault> {
        let parameters = &asked.parameters;
        parameters.only(&["DurationSeconds"])?;
        let asked_for = parameters.seconds("DurationSeconds")?;
        let temporary = caller.access_key_id.starts_with("ASIA");
        let (subject, lifetime) = match &caller.kind {
            PrincipalKind::User { name } if !temporary => {
                let user = Holder::user(caller.account.clone(), name);
                (Subject::User(user), asked_for.unwrap_or(SESSION))
            }
            // As at AWS, the root gets an hour at most, whatever it asks for.
            PrincipalKind::Root if !temporary => (
                Subject::Root(caller.account.clone()),
                asked_for.unwrap_or(HOUR).min(HOUR),
            ),
            _ => return Err(Fault::denied("Cannot call GetSessionToken with session credentials")),
        };
        let temporary = self.directory.issue(Issue {
            subject,
            lifetime,
            session_policy: None,
            source_identity: None,
            tags: BTreeMap::new(),
        })?;
        record.issued = Some(temporary.access_key_id.clone());
        let mut result = Xml::default();
        result.credentials(&temporary);
        Ok(result)
    }

    fn key_info(&self, asked: &Asked<'_>, key: &Key, record: &mut StsRecord) -> Result<Xml, Fault> {
        let parameters = &asked.parameters;
        parameters.only(&["AccessKeyId"])?;
        let id = parameters.required("AccessKeyId")?;
        let none = BTreeMap::new();
        let nothing = Wanted {
            role_arn: "",
            session: "",
            lifetime: None,
            policy: None,
            source_identity: None,
            tags: &none,
        };
        let facts = self.facts(asked, &nothing, Some(key));
        let action = "sts:GetAccessKeyInfo";
        let request = policy::Request {
            principal: key.principal(),
            action,
            resource: "*",
            resource_account: &key.principal().account,
            context: &facts,
        };
        let held = self.directory.policies(key);
        let decision = decide(&request, &held.with(None));
        let refusal = decision.message(&request);
        record.judged.push(Judged { action, decision });
        if let Some(message) = refusal {
            return Err(Fault::denied(message));
        }
        let account = self.directory.account_of(id).ok_or_else(|| {
            Fault::validation("AccessKeyId is no long-term access key that this server knows; whose temporary ones are, only their token says")
        })?;
        let mut result = Xml::default();
        result.text("Account", account.as_str());
        Ok(result)
    }

    fn facts<'a>(&self, asked: &Asked<'a>, role: &Wanted<'a>, key: Option<&'a Key>) -> Facts<'a> {
        Facts {
            origin: asked.origin,
            now: self.clock.now(),
            key,
            session: role.session,
            source_identity: role.source_identity,
            tags: role.tags,
            external_id: None,
            identity: None,
        }
    }
}

/// The action that a name of the protocol stands for.
fn named(action: &str) -> Option<&'static str> {
    Some(match action {
        "GetCallerIdentity" => "sts:GetCallerIdentity",
        "AssumeRole" => "sts:AssumeRole",
        "AssumeRoleWithWebIdentity" => "sts:AssumeRoleWithWebIdentity",
        "GetSessionToken" => "sts:GetSessionToken",
        "GetAccessKeyInfo" => "sts:GetAccessKeyInfo",
        _ => return None,
    })
}

/// A role's ARN; nothing for any other text, so that no caller writes into the audit log what it likes.
fn role(text: &str) -> Option<String> {
    Holder::from_role_arn("RoleArn", text).ok().map(|_| text.to_owned())
}

fn wanted<'a>(parameters: &Parameters<'a>, tags: &'a BTreeMap<String, String>) -> Result<Wanted<'a>, Fault> {
    Ok(Wanted {
        role_arn: parameters.required("RoleArn")?,
        session: parameters.required("RoleSessionName")?,
        lifetime: parameters.seconds("DurationSeconds")?,
        policy: parameters.get("Policy"),
        source_identity: parameters.get("SourceIdentity"),
        tags,
    })
}

fn identity(caller: &Principal) -> Xml {
    let mut result = Xml::default();
    result.text("Arn", &caller.arn);
    result.text("UserId", &caller.id);
    result.text("Account", caller.account.as_str());
    result
}

fn assumed(temporary: &Temporary, source_identity: Option<&str>) -> Xml {
    let mut result = Xml::default();
    result.credentials(temporary);
    result.open("AssumedRoleUser");
    result.text("AssumedRoleId", &temporary.principal.id);
    result.text("Arn", &temporary.principal.arn);
    result.close("AssumedRoleUser");
    result.text("PackedPolicySize", &temporary.packed_percent.to_string());
    if let Some(source_identity) = source_identity {
        result.text("SourceIdentity", source_identity);
    }
    result
}
