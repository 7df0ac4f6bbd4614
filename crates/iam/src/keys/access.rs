//! An access key as it is made, with its secret.

use domain::id::AccountId;
use std::fmt;
use zeroize::Zeroizing;

use crate::Error;
use crate::names::{random_id, random_secret};

/// An access key as it is made, with its secret.
#[derive(Clone)]
pub struct AccessKey {
    /// Such as `AKIAIOSFODNN7EXAMPLE`.
    pub id: String,
    /// The account that it belongs to.
    pub account: AccountId,
    /// The secret that signs.
    pub secret: Zeroizing<String>,
    /// For fixed temporary credentials, as tests have them: what the caller must send as `x-amz-security-token`.
    pub session_token: Option<Zeroizing<String>>,
    /// A disabled key is treated as an unknown one.
    pub enabled: bool,
}

impl AccessKey {
    /// A new random key: `AKIA` and 16 characters of base32, a secret of 40 characters with 240 random bits.
    pub fn generate(account: AccountId) -> Result<Self, Error> {
        Ok(Self {
            id: random_id("AKIA", 16)?,
            account,
            secret: random_secret()?,
            session_token: None,
            enabled: true,
        })
    }
}

/// Without secret and session token.
impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .field("account", &self.account)
            .field("secret", &"***")
            .field("session_token", &self.session_token.as_ref().map(|_| "***"))
            .field("enabled", &self.enabled)
            .finish()
    }
}
