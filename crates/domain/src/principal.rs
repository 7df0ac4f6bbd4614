//! Who makes a call.

use crate::id::AccountId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A caller whose credentials have been verified. Shared, because one access key or token makes many calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The account that the credentials belong to; for a bearer token, that of the runtime it was shown to.
    pub account: AccountId,
    /// `arn:aws:iam::123456789012:root`, `arn:aws:iam::…:user/NAME` or `arn:aws:sts::…:assumed-role/ROLE/SESSION`.
    /// Who comes with a bearer token has no ARN; then this is `oauth:ISSUER:SUBJECT`, for logs.
    pub arn: String,
    /// What policies know as `aws:userid`: the account, the user's unique id, or `ROLE-ID:SESSION`.
    pub id: String,
    /// The access key that signed the call; empty for a bearer token.
    pub access_key_id: String,
    /// What kind of caller it is, and what only that kind has.
    pub kind: PrincipalKind,
}

/// The kinds of caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrincipalKind {
    /// The account itself, which may do everything in it.
    Root,
    /// A user of the account.
    User {
        /// Its name.
        name: String,
    },
    /// Temporary credentials of a role.
    AssumedRole {
        /// `arn:aws:iam::123456789012:role/NAME`.
        role: String,
        /// The name that the session was given.
        session: String,
    },
    /// A bearer token of an identity provider.
    Bearer(Arc<Bearer>),
}

/// What a verified bearer token says about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: Option<String>,
    /// Claims that are texts, or lists of texts, by name; what policies may look at.
    pub claims: BTreeMap<String, Vec<String>>,
    /// SHA-256 of the rules that let the token in; others may not.
    pub rules: [u8; 32],
}

impl Principal {
    /// The account's root.
    #[must_use]
    pub fn root(account: AccountId, access_key_id: String) -> Self {
        Self {
            arn: format!("arn:aws:iam::{account}:root"),
            id: account.to_string(),
            account,
            access_key_id,
            kind: PrincipalKind::Root,
        }
    }

    /// A user.
    #[must_use]
    pub fn user(account: AccountId, name: String, id: String, access_key_id: String) -> Self {
        Self {
            arn: format!("arn:aws:iam::{account}:user/{name}"),
            id,
            account,
            access_key_id,
            kind: PrincipalKind::User { name },
        }
    }

    /// A role's session. `role` is the role's name, `role_id` its unique id.
    #[must_use]
    pub fn assumed_role(account: AccountId, role: &str, role_id: &str, session: String, access_key_id: String) -> Self {
        Self {
            arn: format!("arn:aws:sts::{account}:assumed-role/{role}/{session}"),
            id: format!("{role_id}:{session}"),
            kind: PrincipalKind::AssumedRole {
                role: format!("arn:aws:iam::{account}:role/{role}"),
                session,
            },
            account,
            access_key_id,
        }
    }

    /// The holder of a bearer token.
    #[must_use]
    pub fn bearer(account: AccountId, bearer: Arc<Bearer>) -> Self {
        let subject = bearer.subject.as_deref().unwrap_or("-");
        Self {
            account,
            arn: format!("oauth:{}:{subject}", bearer.issuer),
            id: subject.to_owned(),
            access_key_id: String::new(),
            kind: PrincipalKind::Bearer(bearer),
        }
    }
}
