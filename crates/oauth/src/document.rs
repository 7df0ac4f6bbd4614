//! The discovery document: who a provider says that it is, and where its keys are.

use crate::json;
use crate::reach::Reach;
use crate::url::Url;
use serde_json::Value;

/// What is used of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) issuer: String,
    pub(crate) keys: Url,
}

impl Document {
    /// Reads a document that came from `from`. The error is for the operator.
    pub(crate) fn parse(bytes: &[u8], from: &Url, reach: Reach) -> Result<Self, String> {
        let document =
            json::object(bytes).ok_or("the discovery document is not a JSON object that names each member once")?;
        let text = |name: &str| match document.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text),
            _ => Err(format!("the discovery document has no text `{name}`")),
        };
        let issuer = text("issuer")?;
        if issuer.contains(['{', '}']) {
            return Err(
                "`issuer` in the discovery document is a template for many tenants: use the discovery URL of one tenant"
                    .to_owned(),
            );
        }
        let keys = text("jwks_uri")?;
        let keys = Url::parse(keys, reach).map_err(|why| format!("`jwks_uri` in the discovery document {why}"))?;
        if from.https && !keys.https {
            return Err("`jwks_uri` in the discovery document must begin with https://".to_owned());
        }
        Ok(Self {
            issuer: issuer.clone(),
            keys,
        })
    }
}
