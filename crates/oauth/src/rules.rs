//! Whether claims are those that a version's configuration asks for. What is configured must all hold.

use crate::claims::Claims;
use crate::config::{Config, Expected};
use crate::refusal::Refusal;
use serde_json::Value;
use std::borrow::Cow;

/// Where a token says which client it was given to; the first that is present decides.
const CLIENT: &[&str] = &["client_id", "azp", "appid", "cid"];

/// Checks audience, client, scopes and the custom claims.
pub(crate) fn check(config: &Config, claims: &Claims) -> Result<(), Refusal> {
    let spec = config.spec();
    if !spec.restricts() {
        return Err(Refusal::Unrestricted);
    }
    let mismatch = |name: &'static str| Err(Refusal::Mismatch(Cow::Borrowed(name)));
    let allowed = |list: &[String], value: &str| list.iter().any(|allowed| allowed == value);
    if !spec.allowed_audience.is_empty() {
        let good = match claims.get("aud") {
            Some(Value::String(one)) => allowed(&spec.allowed_audience, one),
            // RFC 7519: a text or a list of texts. A list with anything else in it is no audience.
            Some(Value::Array(list)) => {
                list.iter().all(Value::is_string)
                    && list
                        .iter()
                        .filter_map(Value::as_str)
                        .any(|one| allowed(&spec.allowed_audience, one))
            }
            _ => false,
        };
        if !good {
            return mismatch("aud");
        }
    }
    if !spec.allowed_clients.is_empty() {
        let client = CLIENT.iter().find_map(|name| claims.get(name));
        if !client
            .and_then(Value::as_str)
            .is_some_and(|client| allowed(&spec.allowed_clients, client))
        {
            return mismatch("client_id");
        }
    }
    if !spec.allowed_scopes.is_empty() {
        let good = ["scope", "scp"]
            .into_iter()
            .filter_map(|name| claims.get(name))
            .any(|scopes| any_scope(scopes, &spec.allowed_scopes));
        if !good {
            return mismatch("scope");
        }
    }
    for rule in &spec.custom_claims {
        if !matches(&rule.expected, claims.get(&rule.claim)) {
            return Err(Refusal::Mismatch(Cow::Owned(rule.claim.clone())));
        }
    }
    Ok(())
}

fn any_scope(scopes: &Value, allowed: &[String]) -> bool {
    let is_allowed = |scope: &str| allowed.iter().any(|allowed| allowed == scope);
    match scopes {
        Value::String(text) => text.split(' ').any(is_allowed),
        Value::Array(list) => {
            list.iter().all(Value::is_string) && list.iter().filter_map(Value::as_str).any(is_allowed)
        }
        _ => false,
    }
}

/// A claim of another type than the rule is for never matches.
fn matches(expected: &Expected, claim: Option<&Value>) -> bool {
    match (expected, claim) {
        (Expected::Equals(wanted), Some(Value::String(text))) => text == wanted,
        (Expected::Contains(wanted), Some(Value::Array(list))) => contains(list, wanted),
        (Expected::ContainsAny(wanted), Some(Value::Array(list))) => wanted.iter().any(|wanted| contains(list, wanted)),
        _ => false,
    }
}

fn contains(list: &[Value], wanted: &str) -> bool {
    list.iter().all(Value::is_string) && list.iter().any(|item| item.as_str() == Some(wanted))
}
