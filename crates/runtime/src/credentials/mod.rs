//! Temporary credentials of a runtime's role, for the agent in a sandbox.
//!
//! [`Roles`] is who issues them: [`Own`], this server's own roles, or [`Outside`], which maps a role to real AWS credentials.
//! [`wallet`] is what one sandbox has of them: issued when they are asked for, renewed before they expire, revoked at its
//! end.
//!
//! Invariant: a secret is only ever in memory and in the answer to the sandbox that it is for; never in an environment, a
//! file, a record, a log line or an error.

pub mod outside;
mod own;
pub(crate) mod wallet;

pub use outside::Outside;
pub use own::Own;

use crate::artifacts::Secret;
use async_trait::async_trait;
use aws_lc_rs::digest;
use domain::RuntimeArn;
use domain::id::{SandboxId, SessionId};
use jiff::Timestamp;
use std::fmt;

/// The longest name of a role's session, as AWS has it.
const NAME: usize = 64;

/// Issues and takes back temporary credentials of roles.
#[async_trait]
pub trait Roles: Send + Sync + fmt::Debug {
    /// New credentials for a role.
    async fn issue(&self, wanted: &Wanted<'_>) -> Result<Temporary, Error>;

    /// From now on credentials that were issued to expire at that time are worth nothing. Done also if they have expired
    /// or were never issued.
    async fn revoke(&self, access_key_id: &str, expires_at: Timestamp) -> Result<(), Error>;
}

/// For whom credentials are to be issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The role.
    pub role_arn: &'a str,
    /// What the role's session is called: 2 to 64 characters of `[A-Za-z0-9_=,.@-]`.
    pub session_name: &'a str,
    /// The runtime that the role is for.
    pub source: &'a RuntimeArn,
}

/// Credentials that expire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Temporary {
    /// Names them; no secret.
    pub access_key_id: String,
    /// What requests are signed with.
    pub secret_access_key: Secret,
    /// What goes along with each request.
    pub session_token: Secret,
    /// When they are worth nothing any more.
    pub expires_at: Timestamp,
}

/// Why there are no credentials. The text is for the owner of the runtime and names no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There are none for this role, and asking again does not help.
    #[error("{0}")]
    Refused(String),
    /// Not now.
    #[error("{0}")]
    Unavailable(String),
}

/// A server without roles.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRoles;

#[async_trait]
impl Roles for NoRoles {
    async fn issue(&self, wanted: &Wanted<'_>) -> Result<Temporary, Error> {
        Err(Error::Refused(format!(
            "this server has no role '{}', so there are no credentials for the agent",
            wanted.role_arn
        )))
    }

    async fn revoke(&self, _access_key_id: &str, _expires_at: Timestamp) -> Result<(), Error> {
        Ok(())
    }
}

/// The name of a role's session for a session of an agent: the session's id, or, where that is too long or has other
/// characters, as much as can be kept of it and a digest.
pub(crate) fn session_name(session: &SessionId) -> String {
    const DIGEST: usize = 32;
    let id = session.as_str();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_=,.@-".contains(c);
    if id.len() <= NAME && id.chars().all(allowed) {
        return id.to_owned();
    }
    let digest = hex::encode(digest::digest(&digest::SHA256, id.as_bytes()));
    let kept: String = id.chars().filter(|c| allowed(*c)).take(NAME - DIGEST - 1).collect();
    format!("{kept}-{}", &digest[..DIGEST])
}

/// The same for a sandbox that has no session yet.
pub(crate) fn sandbox_name(sandbox: &SandboxId) -> String {
    format!("sandbox-{sandbox}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_aws_allows_and_differ() {
        let check = |id: &str, expected: Option<&str>| {
            let name = session_name(&SessionId::parse(id).unwrap());
            assert!((2..=64).contains(&name.len()), "{name}");
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_=,.@-".contains(&b)),
                "{name}"
            );
            if let Some(expected) = expected {
                assert_eq!(name, expected);
            }
            name
        };
        let plain = "session-0b1c2d3e-0b1c-4d5e-8f90-0b1c2d3e4f50";
        check(plain, Some(plain));
        let long = "x".repeat(256);
        assert_ne!(check(&long, None), check(&long[..255], None));
        let odd = format!("a/b:{}", "!".repeat(40));
        assert_ne!(check(&odd, None), check(&format!("{odd}!"), None));
        assert!(check(&odd, None).starts_with("ab-"));
        let sandbox = sandbox_name(&SandboxId::generate());
        assert!(sandbox.len() <= 64, "{sandbox}");
    }

    #[test]
    fn secrets_are_not_printed() {
        let credentials = Temporary {
            access_key_id: "ASIA".to_owned(),
            secret_access_key: Secret::new("hush"),
            session_token: Secret::new("quiet"),
            expires_at: Timestamp::UNIX_EPOCH,
        };
        let shown = format!("{credentials:?}");
        assert!(!shown.contains("hush") && !shown.contains("quiet"), "{shown}");
    }
}
