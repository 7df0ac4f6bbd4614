//! Bearer tokens: what a provider says about itself, the keys that it signs with, and what a token proves.
//!
//! Read in this order: `config` (what a version of a runtime asks of a token), `settings` (what the operator allows),
//! `providers` (the way of a token, from its text to a verdict), then what it passes on that way: `cache`, `token`,
//! `provider` with `document`, `fetch`, `url` and `reach`, `keys`, `claims` and `rules`. `refusal` is every way to fail.
//!
//! Signatures are checked by aws-lc-rs alone. A JWT library in between would bring its own reading of headers, claims
//! and keys; here each has one reading, and a key is parsed once, when it is fetched, for the algorithms it may serve.
//!
//! # The peculiarities of providers
//!
//! - **Cognito**: an access token has `client_id` and no `aud`, an ID token has `aud` and no `client_id`. Nothing is
//!   made up for the missing one, as at AWS: a version with `allowedAudience` takes ID tokens, one with
//!   `allowedClients` access tokens.
//! - **Who the client is**: `client_id`, as AWS documents it. Only where a token has none, the claim in which other
//!   providers name the client that they gave the token to: `azp` (OpenID Connect; Keycloak, Auth0, Entra 2), `appid`
//!   (Entra 1), `cid` (Okta), in this order. The first that is present decides, and must be a text.
//! - **Scopes**: those of `scope` and of `scp` together, each a text with spaces (Entra's `scp`) or a list (Okta's).
//! - **Issuers**: the token's `iss` must be, character for character, the `issuer` of the discovery document. That may
//!   be another host than the document's own (Entra 1). Entra's documents for all tenants at once (`common`,
//!   `organizations`) have a template for an issuer, `…/{tenantid}/…`, which would let in every tenant: they are
//!   refused. Use the tenant's own discovery URL.
//!
//! Invariant: nothing here fails open: no keys, no rule, no reading, no verdict means a refusal.
//! Invariant: a token, or a part of one, is in no log and no error.
//! Invariant: a connection to a provider goes to an address that [`Reach`] permits, and to no other.

mod cache;
pub mod claims;
pub mod config;
mod document;
mod error;
mod fetch;
mod json;
pub mod keys;
pub mod metrics;
mod provider;
mod providers;
mod reach;
mod refusal;
mod rules;
pub mod settings;
#[cfg(test)]
mod tests;
pub mod token;
mod url;

pub use config::Config;
pub use error::Error;
pub use metrics::Metrics;
pub use providers::Providers;
pub use reach::Reach;
pub use refusal::Refusal;
pub use settings::Settings;
