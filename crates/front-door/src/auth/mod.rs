//! Who calls: Signature Version 4, in the request's headers or in its query, and bearer tokens.
//!
//! Verification has two halves, because a client of this service usually does not say what its body hashes to.
//! [`Verifier::check_head`] does everything that the head alone allows: it parses the header, checks clock and scope,
//! and finds the key. [`Pending::verify`] then takes the SHA-256 of the payload and compares the signature. If the
//! client signed an `x-amz-content-sha256`, [`Pending::payload`] is [`Payload::Declared`]: verify at once with that
//! hash and check the body against it while it streams. Otherwise spool and hash the body first.
//!
//! Read in this order: [`shown`] (what the request shows), [`authorization`] and [`presigned`] (the grammars), `date`, `verifier`, `canonical` (what is signed),
//! [`iam::keys`] (who may call), `refusal`.
//!
//! Choices that AWS's documents leave open:
//! - Every `x-amz-*` header must be signed, but not `x-amz-security-token` (its value is compared with the key's),
//!   `x-amz-user-agent` and `x-amz-cf-id` (change nothing, proxies add them). `x-amzn-*` need not be signed: the SDK's
//!   WebSocket helper signs only `host` and `x-amz-date`, and sends the session id beside them.
//! - `UNSIGNED-PAYLOAD` and `STREAMING-*` are refused: no SDK uses them for this service, and either would let a body
//!   through that nobody vouches for.
//! - A key's `x-amz-security-token` must be the one it was made with; a key made without one accepts none. Only a token
//!   that was good once is told that it has expired.
//! - A presigned query is good for at most 300 s, and for any number of calls in that time, as at AWS. `x-amz-*` headers
//!   beside it must be signed as well.
//! - Where real clients disagree about the canonical form, each of their forms is tried, see `canonical`.
//!
//! Invariant: a secret, a derived key or an expected signature is in no log, no error and no `Debug` output.
//! Invariant: nothing here reads a body. Invariant: no input makes this module panic or allocate more than a small
//! multiple of the request's head.
//!
//! A verified call goes on to `admit`; a [`Refusal`] becomes a [`domain::Error`] of kind `Denied`.

pub mod authorization;
mod canonical;
mod date;
pub mod presigned;
mod refusal;
pub mod shown;
#[cfg(test)]
mod tests;
mod verifier;

pub use iam::Directory;
pub use iam::keys::{AccessKey, Scope};
pub use refusal::Refusal;
pub use shown::Shown;
pub use verifier::{EMPTY_PAYLOAD, Payload, Pending, Service, Verifier};
