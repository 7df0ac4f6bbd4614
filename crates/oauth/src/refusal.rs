//! Why a bearer token is not accepted, in AWS's words where they are known.

use std::borrow::Cow;
use std::sync::Arc;

/// A token that proves nothing. The front door answers each with 401; [`Refusal::Missing`] also tells the client where
/// to get a token.
///
/// The text is for the caller and holds nothing of the token. What only the operator may know is in
/// [`Refusal::Unavailable::detail`], which is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no token, or an empty one.
    #[error("OAuth authorization failed: Missing bearer token. Send one as 'Authorization: Bearer TOKEN'.")]
    Missing,
    /// Longer than [`crate::token::MAX_BYTES`].
    #[error("OAuth authorization failed: The token is longer than 16384 bytes.")]
    TooLong,
    /// Not a signed JSON Web Token with one reading.
    #[error("OAuth authorization failed: Failed to parse token: {0}.")]
    Malformed(&'static str),
    /// `alg` is no asymmetric signature that is accepted here.
    #[error(
        "OAuth authorization failed: The token's 'alg' is not accepted. Use RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA."
    )]
    Algorithm,
    /// `typ` says that this is another kind of token.
    #[error("OAuth authorization failed: The token's 'typ' is not accepted. Send an access token or an ID token.")]
    Type,
    /// `crit` demands what is not understood here.
    #[error("OAuth authorization failed: The token's 'crit' header names extensions that are not supported.")]
    Critical,
    /// The provider has no key of the token's `kid`.
    #[error("OAuth authorization failed: The identity provider has no key that the token could be signed with.")]
    UnknownKey,
    /// The token names a key that is for another algorithm.
    #[error("OAuth authorization failed: The key that the token names is not for the token's 'alg'.")]
    KeyMismatch,
    /// The token names no key and several fit.
    #[error("OAuth authorization failed: The token has no 'kid', and the identity provider has several keys.")]
    AmbiguousKey,
    /// The signature is wrong.
    #[error("OAuth authorization failed: Invalid signature.")]
    Signature,
    /// `exp` is past.
    #[error("OAuth authorization failed: Token has expired.")]
    Expired,
    /// `nbf` or `iat` is to come.
    #[error("OAuth authorization failed: Token is not yet valid. Check the clocks of the provider and of this server.")]
    NotYetValid,
    /// A claim is not what the configuration asks for.
    #[error("OAuth authorization failed: Claim '{0}' value mismatch with configuration.")]
    Mismatch(Cow<'static, str>),
    /// The version's configuration restricts nothing, which no API call can make.
    #[error(
        "OAuth authorization failed: The agent's authorizer allows nobody. Update the agent with at least one of allowedAudience, allowedClients, allowedScopes and customClaims."
    )]
    Unrestricted,
    /// The provider's keys are not known and cannot be had now, or are too old to be trusted. The same token may be
    /// accepted later; nothing is known about it yet.
    ///
    /// 401 as for a bad token: AWS SDKs and most HTTP clients repeat a 5xx at once, and a provider that is down would
    /// then be the reason of a flood here.
    #[error("OAuth authorization failed: The identity provider's keys are not available now. Try again later.")]
    Unavailable {
        /// What went wrong, for the log. It may name internal addresses.
        detail: Arc<str>,
    },
}

impl Refusal {
    /// A label for metrics and the audit log.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::TooLong => "too_long",
            Self::Malformed(_) => "malformed",
            Self::Algorithm => "algorithm",
            Self::Type => "type",
            Self::Critical => "critical",
            Self::UnknownKey => "unknown_key",
            Self::KeyMismatch => "key_mismatch",
            Self::AmbiguousKey => "ambiguous_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Mismatch(_) => "mismatch",
            Self::Unrestricted => "unrestricted",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// Whether the same token may be accepted later.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::NotYetValid | Self::UnknownKey | Self::Unavailable { .. })
    }
}
