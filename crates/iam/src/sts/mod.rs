//! Temporary credentials: an access key whose secret and rights travel, sealed, in its own session token.
//!
//! Nothing is written down when they are issued, so issuing costs no disk and they survive a restart. What ends them
//! early is written down: a revocation, or the end of the role or user that they act for.
//!
//! Read in this order: [`Issue`] (what is asked for), `token` (the sealed form), `cache` (tokens that were opened
//! lately), `revocations`.
//!
//! Invariant: a token opens only beside the key id that it was issued with, under this server's master key.
//! Invariant: expiry, revocation and the holder's existence are looked at on every use, cached or not.

mod cache;
mod revocations;
#[cfg(test)]
mod tests;
mod token;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use domain::Principal;
use domain::id::AccountId;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::names::Holder;

pub(crate) use cache::Cache;
pub use revocations::Revocations;
pub(crate) use revocations::Revoked;
pub(crate) use token::{Claims, Of, Sealer};

/// The shortest life of temporary credentials.
pub const MIN_LIFETIME: Duration = Duration::from_secs(900);
/// The longest that any have: those of GetSessionToken for a user.
pub const MAX_LIFETIME: Duration = Duration::from_secs(129_600);
/// How far the server's clock may be set back, at most, without credentials coming back to life whose revocation has been
/// forgotten.
pub(crate) const CLOCK_SLACK: Duration = Duration::from_secs(300);
/// Characters of a session policy.
pub const MAX_SESSION_POLICY: usize = 2048;
/// Tags of a session.
pub const MAX_TAGS: usize = 50;

/// Credentials to be issued. Whether the caller may have them is decided before.
#[derive(Debug, Clone)]
pub struct Issue {
    /// For whom.
    pub subject: Subject,
    /// How long they work.
    pub lifetime: Duration,
    /// A policy that narrows the holder's policies down.
    pub session_policy: Option<String>,
    /// Who is behind them.
    pub source_identity: Option<String>,
    /// Their tags.
    pub tags: BTreeMap<String, String>,
}

/// For whom credentials are issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A session of a role.
    Role {
        /// The role.
        role: Holder,
        /// The session's name: 2 to 64 letters, digits and `_+=,.@-`.
        session: String,
    },
    /// A user, who acts as before.
    User(Holder),
    /// The root of an account.
    Root(AccountId),
}

/// What the runtime asks for on behalf of a session's sandbox.
#[derive(Debug, Clone)]
pub struct ForSession {
    /// ARN of the runtime's role.
    pub role_arn: String,
    /// Name of the role's session.
    pub session_name: String,
    /// How long the credentials work; cut to what the role allows.
    pub lifetime: Duration,
    /// Tags, which policies know as `aws:PrincipalTag/*`.
    pub tags: BTreeMap<String, String>,
    /// ARN of the runtime, which the trust policy knows as `aws:SourceArn`.
    pub source_arn: Option<String>,
}

/// Temporary credentials, as they are given out once.
#[derive(Clone)]
pub struct Temporary {
    /// Such as `ASIAIOSFODNN7EXAMPLE`.
    pub access_key_id: String,
    /// What signs.
    pub secret: Zeroizing<String>,
    /// What is sent as `x-amz-security-token`.
    pub session_token: Zeroizing<String>,
    /// When they end.
    pub expires: Timestamp,
    /// As whom they act.
    pub principal: Principal,
    /// How full the token is, in percent of what it may hold.
    pub packed_percent: u8,
}

/// What to revoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoke {
    /// One key's credentials.
    Credential {
        /// The key's id.
        id: String,
        /// When they expire, where that is known for certain: the revocation is forgotten soon after. Otherwise it is
        /// kept for as long as any credentials live.
        expires: Option<Timestamp>,
    },
    /// All that a session of a role was given until now; later ones work.
    Session {
        /// ARN of the role.
        role_arn: String,
        /// The session's name.
        session_name: String,
    },
}

/// Without the secret and the token.
impl fmt::Debug for Temporary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Temporary")
            .field("access_key_id", &self.access_key_id)
            .field("expires", &self.expires)
            .field("principal", &self.principal.arn)
            .finish_non_exhaustive()
    }
}
