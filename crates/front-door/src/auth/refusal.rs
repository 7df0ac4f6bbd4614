//! Why a caller is not believed, in AWS's words, with what to do about it.

use super::authorization::{Malformed, TERMINATOR};
use super::date::{MAX_SKEW_SECONDS, iso};

/// A call whose caller is not proven. Answered with 403 AccessDeniedException.
///
/// An unknown key, a disabled one and a wrong session token are one refusal: the answer says nothing about which ids
/// exist beyond what AWS's own answers say, and nothing at all about a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No credentials at all.
    #[error(
        "Missing Authentication Token. Sign the request with Signature Version 4; `eyot env` prints the variables that make an AWS SDK do so."
    )]
    MissingAuthenticationToken,
    /// A presigned request came after its time.
    #[error("Request has expired: it was presigned at {} for {expires} seconds, and it is now {}. Presign it again.", iso(*signed), iso(*now))]
    PresignedExpired {
        /// Seconds since 1970.
        signed: i64,
        /// Seconds.
        expires: u32,
        /// Seconds since 1970.
        now: i64,
    },
    /// A bearer token where a signature is asked for.
    #[error(
        "Authorization method mismatch. The agent is configured for a different authorization method than what was used in your request. Check the agent's authorization configuration and ensure your request uses the matching method (OAuth or SigV4)"
    )]
    MethodMismatch,
    /// The authorization header cannot be read.
    #[error(transparent)]
    IncompleteSignature(#[from] Malformed),
    /// More than one authorization.
    #[error("The request has more than one Authorization header, or one beside a presigned query. Send exactly one.")]
    SeveralAuthorizations,
    /// `host` is not signed.
    #[error("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")]
    HostNotSigned,
    /// More `Host` headers than any client sends.
    #[error("The request has more than {0} Host headers. Send one.")]
    SeveralHosts(usize),
    /// A header that must be signed is not.
    #[error(
        "There were headers present in the request which were not signed: '{0}'. Add it to SignedHeaders or do not send it."
    )]
    UnsignedHeader(String),
    /// A signed header is not there.
    #[error("SignedHeaders names '{0}', which the request does not have. A proxy on the way may have removed it.")]
    SignedHeaderMissing(String),
    /// No date.
    #[error("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")]
    NoDate,
    /// A date that cannot be read.
    #[error("Date must be in ISO-8601 'basic format', e.g. 20150830T123600Z. Got '{0}'.")]
    BadDate(String),
    /// Signed too long ago.
    #[error("Signature expired: {} is now earlier than {} ({} - 5 min.). Set the caller's clock, or sign again for every attempt.", iso(*signed), iso(now - MAX_SKEW_SECONDS), iso(*now))]
    Expired {
        /// Seconds since 1970.
        signed: i64,
        /// Seconds since 1970.
        now: i64,
    },
    /// Signed in the future.
    #[error("Signature not yet current: {} is still later than {} ({} + 5 min.). Set the caller's clock.", iso(*signed), iso(now + MAX_SKEW_SECONDS), iso(*now))]
    NotYetCurrent {
        /// Seconds since 1970.
        signed: i64,
        /// Seconds since 1970.
        now: i64,
    },
    /// The scope's day is another than the date's.
    #[error(
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{scope}' != '{date}'."
    )]
    ScopeDate {
        /// The day in the scope.
        scope: String,
        /// The day of the request's date.
        date: String,
    },
    /// The scope's region is not ours.
    #[error(
        "Credential should be scoped to a valid region, not '{got}'. This server's region is '{expected}': set AWS_REGION."
    )]
    ScopeRegion {
        /// The region in the scope.
        got: String,
        /// Ours.
        expected: String,
    },
    /// The scope's service is not ours.
    #[error(
        "Credential should be scoped to correct service: '{expected}', not '{got}'; that is …/{expected}/{TERMINATOR}."
    )]
    ScopeService {
        /// The service in the scope.
        got: String,
        /// Ours.
        expected: String,
    },
    /// The key is unknown or disabled, or the session token is not the key's.
    #[error(
        "The security token included in the request is invalid. Its access key is not known here, or its session token does not belong to it; `eyot env` prints the credentials of this server, and AWS_SESSION_TOKEN must not be set with them."
    )]
    UnrecognizedClient,
    /// Temporary credentials whose time is over.
    #[error("The security token included in the request is expired")]
    ExpiredToken,
    /// A payload kind that this service does not take.
    #[error(
        "x-amz-content-sha256 must be the SHA-256 of the body as 64 lower-case hexadecimal digits, not '{0}': this service takes no unsigned and no chunk-signed payloads. The header may also be left out."
    )]
    PayloadKind(String),
    /// The signature is not the one that the secret makes.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
    )]
    SignatureDoesNotMatch,
}

impl Refusal {
    /// AWS's code for it, as a label for metrics and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingAuthenticationToken => "MissingAuthenticationToken",
            Self::MethodMismatch => "MethodMismatch",
            Self::IncompleteSignature(_)
            | Self::SeveralAuthorizations
            | Self::HostNotSigned
            | Self::SeveralHosts(_)
            | Self::UnsignedHeader(_)
            | Self::SignedHeaderMissing(_)
            | Self::NoDate
            | Self::BadDate(_)
            | Self::PayloadKind(_) => "IncompleteSignature",
            Self::Expired { .. } | Self::PresignedExpired { .. } | Self::NotYetCurrent { .. } => "RequestExpired",
            Self::ScopeDate { .. } | Self::ScopeRegion { .. } | Self::ScopeService { .. } => "InvalidScope",
            Self::UnrecognizedClient => "UnrecognizedClient",
            Self::ExpiredToken => "ExpiredToken",
            Self::SignatureDoesNotMatch => "SignatureDoesNotMatch",
        }
    }
}

impl From<Refusal> for domain::Error {
    fn from(refusal: Refusal) -> Self {
        Self::denied(refusal.to_string())
    }
}
