//! Whom a statement is about: `Principal` and `NotPrincipal`.
//!
//! A caller has several names. A user is the account and itself; a role's session is the account, the role and itself.
//! By which of them a statement means it decides what an `Allow` is worth, see [`Strength`].
//!
//! `NotPrincipal` errs towards less access, as AWS describes it: a `Deny` spares only who is named by all its names, an
//! `Allow` reaches only who is named by none of them.

use super::document::Effect;
use super::invalid::{At, Invalid, echo};
use super::json::Node;
use domain::{Principal, PrincipalKind};

const FORMS: &str = "write \"*\", or an object with AWS, Service or Federated";
const AWS_FORMS: &str = "write \"*\", an account id of 12 digits, or an ARN of an account's root (arn:aws:iam::123456789012:root), a user, \
                         a role or a role's session (arn:aws:sts::123456789012:assumed-role/ROLE/SESSION), without wildcards";

/// Who calls, for a statement's `Principal`.
#[derive(Debug, Clone, Copy)]
pub enum Caller<'a> {
    /// Somebody with credentials or a bearer token of ours.
    Principal(&'a Principal),
    /// Somebody whom an identity provider vouches for: the provider as policies name it,
    /// `arn:aws:iam::123456789012:oidc-provider/HOST/PATH`.
    Federated(&'a str),
    /// A service, such as `bedrock-agentcore.amazonaws.com`.
    Service(&'a str),
}

/// By which of its names a caller is meant, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Strength {
    /// By its account: the account's own policies must agree, except for the root.
    Account,
    /// As anybody, as a user, or as a role.
    Named,
    /// As this very session of a role: no session policy takes it away.
    Session,
}

/// The people of a statement.
#[derive(Debug, Default)]
pub(super) struct Principals {
    inverted: bool,
    everyone: bool,
    accounts: Vec<Box<str>>,
    arns: Vec<Box<str>>,
    services: Vec<Box<str>>,
    federated: Vec<Box<str>>,
}

impl Principals {
    pub(super) fn parse(node: &Node, inverted: bool, at: &At<'_>) -> Result<Self, Invalid> {
        let mut read = Self {
            inverted,
            ..Self::default()
        };
        match node {
            Node::Text(text) if text == "*" => read.everyone = true,
            Node::Text(text) => return Err(at.fault(format!("'{}' is not a principal", echo(text)), FORMS)),
            object => {
                let members = object.object(at, FORMS)?;
                if members.is_empty() {
                    return Err(at.fault("the object is empty", FORMS));
                }
                for (key, node) in members {
                    read.member(key, node, &at.key(key))?;
                }
            }
        }
        if inverted && read.everyone {
            return Err(at.fault("not '*' is nobody", "name who is excepted"));
        }
        Ok(read)
    }

    fn member(&mut self, key: &str, node: &Node, at: &At<'_>) -> Result<(), Invalid> {
        let texts = node.each(at, |node, at| {
            let text = node.text(at, "write a text or a list of texts")?;
            match key {
                "AWS" => self.aws(text, at)?,
                "Service" => service(text, at)?,
                "Federated" => federated(text, at)?,
                _ => return Err(at.fault(format!("'{}' is not a kind of principal", echo(key)), FORMS)),
            }
            Ok(Box::<str>::from(text))
        })?;
        match key {
            "Service" => self.services = texts.into(),
            "Federated" => self.federated = texts.into(),
            _ => {}
        }
        Ok(())
    }

    fn aws(&mut self, text: &str, at: &At<'_>) -> Result<(), Invalid> {
        if text == "*" {
            self.everyone = true;
        } else if is_account(text) {
            self.accounts.push(text.into());
        } else if let Some(account) = text
            .strip_prefix("arn:aws:iam::")
            .and_then(|rest| rest.strip_suffix(":root"))
            .filter(|account| is_account(account))
        {
            self.accounts.push(account.into());
        } else if is_principal_arn(text) {
            self.arns.push(text.into());
        } else {
            return Err(at.fault(format!("'{}' is not a principal", echo(text)), AWS_FORMS));
        }
        Ok(())
    }

    /// How the statement means this caller, or `None` if it does not.
    pub(super) fn strength(&self, caller: &Caller<'_>, effect: Effect) -> Option<Strength> {
        if self.inverted {
            return self.excepting(caller, effect);
        }
        let direct = match caller {
            Caller::Service(name) => self.service(name).then_some(Strength::Named),
            Caller::Federated(provider) => self.provider(provider).then_some(Strength::Named),
            Caller::Principal(principal) => match &principal.kind {
                PrincipalKind::Bearer(_) => None,
                PrincipalKind::Root => self.account(principal).then_some(Strength::Account),
                PrincipalKind::User { .. } => self.arn(&principal.arn).then_some(Strength::Named),
                PrincipalKind::AssumedRole { .. } if self.arn(&principal.arn) => Some(Strength::Session),
                PrincipalKind::AssumedRole { role, .. } => self.arn(role).then_some(Strength::Named),
            },
        };
        // Whom only a provider or a service stands for is let in by name; "*" keeps out everybody.
        let own = matches!(caller, Caller::Principal(_)) || effect == Effect::Deny;
        direct
            .or((self.everyone && own).then_some(Strength::Named))
            .or_else(|| match caller {
                Caller::Principal(principal) => self.account(principal).then_some(Strength::Account),
                _ => None,
            })
    }

    fn excepting(&self, caller: &Caller<'_>, effect: Effect) -> Option<Strength> {
        let (all, none, anonymous) = match caller {
            Caller::Service(name) => (self.service(name), !self.service(name), false),
            Caller::Federated(provider) => (self.provider(provider), !self.provider(provider), false),
            Caller::Principal(principal) => {
                let account = self.account(principal);
                let own = self.arn(&principal.arn);
                match &principal.kind {
                    PrincipalKind::Bearer(_) => (false, true, true),
                    PrincipalKind::Root => (account, !account, false),
                    PrincipalKind::User { .. } => (account && own, !account && !own, false),
                    PrincipalKind::AssumedRole { role, .. } => {
                        let role = self.arn(role);
                        (account && own && role, !account && !own && !role, false)
                    }
                }
            }
        };
        let meant = match effect {
            Effect::Deny => !all,
            // A bearer token is let in by "*" alone.
            Effect::Allow => none && !anonymous,
        };
        meant.then_some(Strength::Named)
    }

    fn account(&self, principal: &Principal) -> bool {
        let bearer = matches!(principal.kind, PrincipalKind::Bearer(_));
        !bearer
            && self
                .accounts
                .iter()
                .any(|account| **account == *principal.account.as_str())
    }

    fn arn(&self, arn: &str) -> bool {
        self.arns.iter().any(|known| **known == *arn)
    }

    fn service(&self, name: &str) -> bool {
        self.services.iter().any(|known| **known == *name)
    }

    fn provider(&self, name: &str) -> bool {
        self.federated.iter().any(|known| **known == *name)
    }
}

fn is_account(text: &str) -> bool {
    domain::id::AccountId::parse(text).is_ok()
}

/// A user, a role or a role's session.
fn is_principal_arn(text: &str) -> bool {
    let named = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&b))
    };
    let iam = text.strip_prefix("arn:aws:iam::").and_then(|rest| rest.split_once(':'));
    let sts = text.strip_prefix("arn:aws:sts::").and_then(|rest| rest.split_once(':'));
    match (iam, sts) {
        (Some((account, resource)), _) => {
            let name = resource
                .strip_prefix("user/")
                .or_else(|| resource.strip_prefix("role/"));
            is_account(account) && name.is_some_and(named)
        }
        (_, Some((account, resource))) => {
            let session = resource
                .strip_prefix("assumed-role/")
                .and_then(|rest| rest.split_once('/'));
            is_account(account) && session.is_some_and(|(role, session)| named(role) && named(session))
        }
        _ => false,
    }
}

fn service(text: &str, at: &At<'_>) -> Result<(), Invalid> {
    let ok = text.contains('.')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    if ok {
        return Ok(());
    }
    Err(at.fault(
        format!("'{}' is not a service", echo(text)),
        "write its name, such as bedrock-agentcore.amazonaws.com",
    ))
}

fn federated(text: &str, at: &At<'_>) -> Result<(), Invalid> {
    let ok = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && c != '*' && c != '?');
    if ok {
        return Ok(());
    }
    Err(at.fault(
        format!("'{}' is not an identity provider", echo(text)),
        "write its ARN, such as arn:aws:iam::123456789012:oidc-provider/idp.example.com, without wildcards",
    ))
}
