//! The port to identity providers: who vouches for somebody without credentials.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use domain::Bearer;

/// The configured identity providers.
#[async_trait]
pub trait Federation: Send + Sync + fmt::Debug {
    /// What a token proves, if one of the providers signed it and it is good now.
    async fn verify(&self, token: &str) -> Result<Identity, TokenFault>;
}

/// For whom a provider vouches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The provider as policies name it: its URL without the scheme, `HOST/PATH`.
    pub provider: String,
    /// For whom the token was made, where it says so.
    pub audience: Option<String>,
    /// What the token says.
    pub bearer: Arc<Bearer>,
}

/// Why a token proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFault {
    /// Its time is over.
    Expired(String),
    /// No provider signed it, or it is not for us.
    Invalid(String),
    /// The provider cannot be asked for its keys.
    Unreachable(String),
}

/// None.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFederation;

#[async_trait]
impl Federation for NoFederation {
    async fn verify(&self, _token: &str) -> Result<Identity, TokenFault> {
        let text =
            "No OpenIDConnect provider found in your account for this token: the server's configuration names none.";
        Err(TokenFault::Invalid(text.to_owned()))
    }
}
