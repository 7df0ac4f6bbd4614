//! Identity providers that may vouch for callers of AssumeRoleWithWebIdentity, as the configuration names them.
//!
//! Invariant: a token is for us only if its audience is one that the configuration gives for its provider.

use anyhow::bail;
use async_trait::async_trait;
use iam_service::{Federation, Identity, TokenFault};
use oauth::config::Spec;
use oauth::{Config, Providers, Refusal, Settings};
use std::collections::BTreeMap;

/// Discovery URLs, each with the audiences that tokens may be made for.
pub(crate) type WebIdentity = BTreeMap<String, Vec<String>>;

/// The configured providers.
#[derive(Debug)]
pub(crate) struct Federated {
    tokens: Providers,
    providers: Vec<Config>,
}

impl Federated {
    /// Checks what the configuration says.
    pub(crate) fn new(tokens: Providers, configured: &WebIdentity, settings: &Settings) -> anyhow::Result<Self> {
        let mut providers = Vec::new();
        for (url, audiences) in configured {
            let spec = Spec {
                discovery_url: url.clone(),
                allowed_audience: audiences.clone(),
                ..Spec::default()
            };
            match Config::new(spec, settings.reach()) {
                Ok(config) => providers.push(config),
                Err(_) if audiences.is_empty() => {
                    bail!("web_identity: '{url}' needs at least one audience, such as [\"my-app\"]");
                }
                Err(wrong) => {
                    let said: Vec<_> = wrong.into_iter().map(|one| one.message).collect();
                    bail!("web_identity: '{url}' {}", said.join("; "));
                }
            }
        }
        Ok(Self { tokens, providers })
    }
}

#[async_trait]
impl Federation for Federated {
    async fn verify(&self, token: &str) -> Result<Identity, TokenFault> {
        let mut last = None;
        for config in &self.providers {
            match self.tokens.verify(config, token).await {
                Ok(bearer) => {
                    let issuer = bearer.issuer.as_str();
                    let provider = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
                    let allowed = &config.spec().allowed_audience;
                    let audiences = bearer.claims.get("aud");
                    let audience = audiences.and_then(|all| all.iter().find(|audience| allowed.contains(audience)));
                    return Ok(Identity {
                        provider: provider.trim_end_matches('/').to_owned(),
                        audience: audience.cloned(),
                        bearer,
                    });
                }
                // The provider that it is of knows better what is wrong with it than one that it is not of.
                Err(refusal) => match &last {
                    Some(Refusal::Expired) => {}
                    _ => last = Some(refusal),
                },
            }
        }
        Err(match last {
            None => return iam_service::NoFederation.verify(token).await,
            Some(refusal @ Refusal::Expired) => TokenFault::Expired(refusal.to_string()),
            Some(refusal @ Refusal::Unavailable { .. }) => TokenFault::Unreachable(refusal.to_string()),
            Some(refusal) => TokenFault::Invalid(refusal.to_string()),
        })
    }
}
