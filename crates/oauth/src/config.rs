//! What a version of a runtime asks of a bearer token: `authorizerConfiguration.customJWTAuthorizer`.
//!
//! Kept in records, so a later field needs a default. Invariant: a [`Config`] never changes; what it was made with is
//! part of the name under which a verified token is remembered.

use crate::reach::Reach;
use crate::url::Url;
use aws_lc_rs::digest::{SHA256, digest};
use domain::error::FieldError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::OnceLock;

const DISCOVERY: &str = "/.well-known/openid-configuration";
/// RFC 8414.
const METADATA: &str = "/.well-known/oauth-authorization-server";

/// A checked configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Config {
    spec: Spec,
    #[serde(skip)]
    identity: OnceLock<[u8; 32]>,
}

/// What a request asks for, member by member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// `discoveryUrl`.
    pub discovery_url: String,
    /// `allowedAudience`; nothing is checked where this is empty, as with the next ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_audience: Vec<String>,
    /// `allowedClients`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_clients: Vec<String>,
    /// `allowedScopes`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_scopes: Vec<String>,
    /// `customClaims`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom_claims: Vec<ClaimRule>,
    /// `advertisedScopeMapping`: from an allowed scope to the name that clients ask their provider for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub advertised_scope_mapping: BTreeMap<String, String>,
}

/// One of `customClaims`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRule {
    /// `inboundTokenClaimName`.
    pub claim: String,
    /// What the claim must be.
    pub expected: Expected,
}

/// The combinations of value type, operator and value that there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// `STRING` that `EQUALS` a text.
    Equals(String),
    /// `STRING_ARRAY` that `CONTAINS` a text.
    Contains(String),
    /// `STRING_ARRAY` that `CONTAINS_ANY` of a list.
    ContainsAny(Vec<String>),
}

impl Config {
    /// Checks what a request asks for. Faults name members relative to `customJWTAuthorizer`, which itself is "".
    pub fn new(spec: Spec, reach: Reach) -> Result<Self, Vec<FieldError>> {
        let mut wrong = Vec::new();
        let mut fault = |name: &str, message: String| {
            wrong.push(FieldError {
                name: name.to_owned(),
                message,
            });
        };
        if let Err(why) = check_discovery_url(&spec.discovery_url, reach) {
            fault("discoveryUrl", why);
        }
        if !spec.restricts() {
            let message = "must have at least one of allowedAudience, allowedClients, allowedScopes and customClaims: \
                           without one every token of the provider would be accepted";
            fault("", message.to_owned());
        }
        for scope in spec.advertised_scope_mapping.keys() {
            if !spec.allowed_scopes.contains(scope) {
                let message =
                    format!("has a key '{scope}' that is not in allowedScopes: add it there, or remove the key");
                fault("advertisedScopeMapping", message);
            }
        }
        if wrong.is_empty() {
            Ok(Self::from_checked(spec))
        } else {
            Err(wrong)
        }
    }

    /// What it was made with.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The scopes that clients are told to ask for, in the order of `allowedScopes`.
    pub fn advertised_scopes(&self) -> impl Iterator<Item = &str> {
        let mapping = &self.spec.advertised_scope_mapping;
        let scopes = self.spec.allowed_scopes.iter();
        scopes.map(|scope| mapping.get(scope).unwrap_or(scope).as_str())
    }

    /// SHA-256 of everything that decides about a token.
    pub fn identity(&self) -> &[u8; 32] {
        self.identity.get_or_init(|| {
            let text = serde_json::to_vec(&self.spec).expect("texts, lists and maps of texts are JSON");
            let mut identity = [0; 32];
            identity.copy_from_slice(digest(&SHA256, &text).as_ref());
            identity
        })
    }

    fn from_checked(spec: Spec) -> Self {
        Self {
            spec,
            identity: OnceLock::new(),
        }
    }
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Eq for Config {}

impl Spec {
    /// Whether it asks for anything beyond a token of the provider.
    pub(crate) fn restricts(&self) -> bool {
        !(self.allowed_audience.is_empty()
            && self.allowed_clients.is_empty()
            && self.allowed_scopes.is_empty()
            && self.custom_claims.is_empty())
    }
}

/// The API's pattern, and that it is a URL that this server may go to, as far as its text says.
fn check_discovery_url(text: &str, reach: Reach) -> Result<(), String> {
    let url = Url::parse(text, reach)?;
    let target = url.target.as_str();
    let fits = [DISCOVERY, METADATA].iter().any(|known| {
        let after = target.find(known).and_then(|at| target.get(at + known.len()..));
        after.is_some_and(|after| after.is_empty() || (after.starts_with('/') && after.len() > 1))
    });
    if !fits || target.contains('?') {
        return Err(format!(
            "must end with {DISCOVERY} or {METADATA}, as the address of a provider's discovery document does, and have no query"
        ));
    }
    url.check_literal(reach)
}
