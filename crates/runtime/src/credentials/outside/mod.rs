//! Roles that stand for real AWS credentials, so that an agent can call what is not here, such as a model.
//!
//! [`Role`] is what the operator says; [`profile`] reads a file of AWS's command line; [`sts`] calls AssumeRole at AWS. A
//! role that is not configured here goes to whoever issues this server's own.
//!
//! An agent with credentials of AWS cannot sign calls to this server, which does not know them: one that needs both has to
//! get a key of this server in another way.
//!
//! Decision: keys that do not expire by themselves are given to an agent as if they did after an hour, so that it asks
//! again and gets changed ones. They cannot be revoked here, nor can those of AWS, which expire; use `assume_role`, so that
//! an agent never has the keys themselves.
//!
//! Invariant: off unless it is configured, role by role.

mod config;
mod profile;
mod sts;

pub use config::Role;

use super::{Error, Roles, Temporary, Wanted};
use crate::artifacts::Secret;
use async_trait::async_trait;
use config::Source;
use domain::Clock;
use jiff::SignedDuration;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How long keys are given for that do not expire.
const KEYS: SignedDuration = SignedDuration::from_hours(1);

/// Issues what the configuration says, and leaves all other roles to another.
#[derive(Debug)]
pub struct Outside {
    /// By the role's ARN.
    roles: HashMap<String, Mapped>,
    own: Arc<dyn Roles>,
    clock: Clock,
}

/// One configured role.
#[derive(Debug)]
struct Mapped {
    /// Its section, for messages.
    name: String,
    source: Source,
    assume: Option<sts::Assume>,
}

/// Credentials as they stand somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Keys {
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Option<Secret>,
}

impl Outside {
    /// Reads the configuration; the error says which entry is wrong and how. `own` issues for all other roles.
    pub fn new(roles: &BTreeMap<String, Role>, own: Arc<dyn Roles>, clock: Clock) -> Result<Self, String> {
        let mut all = HashMap::new();
        for (name, role) in roles {
            let wrong = |why: String| format!("[runtime.roles.{name}] {why}");
            let source = role.source().map_err(wrong)?;
            let assume = sts::Assume::of(role).map_err(wrong)?;
            let mapped = Mapped {
                name: name.clone(),
                source,
                assume,
            };
            if let Some(before) = all.insert(role.arn.clone(), mapped) {
                return Err(wrong(format!("`arn` is also that of [runtime.roles.{}]", before.name)));
            }
        }
        Ok(Self { roles: all, own, clock })
    }
}

#[async_trait]
impl Roles for Outside {
    async fn issue(&self, wanted: &Wanted<'_>) -> Result<Temporary, Error> {
        let role_arn = wanted.role_arn;
        let Some(mapped) = self.roles.get(role_arn) else {
            return self.own.issue(wanted).await;
        };
        let issued = mapped.issue(wanted.session_name, &self.clock).await;
        issued.map_err(|why| {
            // The operator's matter; the agent's owner is told that much.
            tracing::warn!(
                role = role_arn,
                section = mapped.name,
                why,
                "no credentials from outside"
            );
            Error::Unavailable(format!(
                "role '{role_arn}' is mapped to credentials outside, which cannot be had now; the server's log says why"
            ))
        })
    }

    async fn revoke(&self, access_key_id: &str, expires_at: Timestamp) -> Result<(), Error> {
        // Whose it is does not matter: an id of AWS is not known there, which is as good.
        self.own.revoke(access_key_id, expires_at).await
    }
}

impl Mapped {
    async fn issue(&self, session_name: &str, clock: &Clock) -> Result<Temporary, String> {
        let keys = match &self.source {
            Source::Static(keys) => keys.clone(),
            Source::Profile { file, name } => profile::read(file, name).await?,
        };
        if let Some(assume) = &self.assume {
            return assume.call(&keys, session_name, clock.now()).await;
        }
        Ok(Temporary {
            access_key_id: keys.access_key_id,
            secret_access_key: keys.secret_access_key,
            session_token: keys.session_token.unwrap_or_else(|| Secret::new("")),
            expires_at: clock.now() + KEYS,
        })
    }
}

#[cfg(test)]
mod tests;
