//! `authorizerConfiguration`: from the API's form to what checks bearer tokens, and back.
//!
//! Not done and refused by name: private endpoints and their certificates, which are AWS's way into a VPC (an operator
//! here allows private addresses and names a CA file for the whole server), and `allowedWorkloadConfiguration`, which
//! speaks of Gateways.

use super::settings::{field, unsupported};
use api::control as wire;
use domain::error::FieldError;
use oauth::config::{ClaimRule, Expected, Spec};
use oauth::{Config, Reach};

const MEMBER: &str = "authorizerConfiguration.customJWTAuthorizer";

/// Reads what a request asks for. Nothing only if there is a fault.
pub(super) fn read(given: wire::AuthorizerConfiguration, reach: Reach, wrong: &mut Vec<FieldError>) -> Option<Config> {
    let wire::AuthorizerConfiguration::CustomJwtAuthorizer(given) = given;
    let before = wrong.len();
    let by_operator =
        "leave it out; the server's operator decides where identity providers may be and whose certificates count";
    for (name, present, remedy) in [
        ("privateEndpoint", given.private_endpoint.is_some(), by_operator),
        (
            "privateEndpointOverrides",
            given.private_endpoint_overrides.is_some(),
            by_operator,
        ),
        (
            "certificateConfigurations",
            given.certificate_configurations.is_some(),
            by_operator,
        ),
        (
            "allowedWorkloadConfiguration",
            given.allowed_workload_configuration.is_some(),
            "leave it out",
        ),
    ] {
        if present {
            wrong.push(unsupported(&format!("{MEMBER}.{name}"), remedy));
        }
    }
    let rules = given.custom_claims.unwrap_or_default().into_iter().enumerate();
    let rules: Vec<_> = rules
        .filter_map(|(index, rule)| read_rule(index, rule, wrong))
        .collect();
    if wrong.len() > before {
        return None;
    }
    let spec = Spec {
        discovery_url: given.discovery_url,
        allowed_audience: given.allowed_audience.unwrap_or_default(),
        allowed_clients: given.allowed_clients.unwrap_or_default(),
        allowed_scopes: given.allowed_scopes.unwrap_or_default(),
        custom_claims: rules,
        advertised_scope_mapping: given.advertised_scope_mapping.unwrap_or_default(),
    };
    match Config::new(spec, reach) {
        Ok(config) => Some(config),
        Err(faults) => {
            wrong.extend(faults.into_iter().map(|fault| {
                let dot = if fault.name.is_empty() { "" } else { "." };
                field(&format!("{MEMBER}{dot}{}", fault.name), fault.message)
            }));
            None
        }
    }
}

/// The same as the API shows it.
pub(super) fn show(config: &Config) -> wire::AuthorizerConfiguration {
    let spec = config.spec();
    let list = |list: &Vec<String>| Some(list.clone()).filter(|list| !list.is_empty());
    let rules: Vec<_> = spec.custom_claims.iter().map(show_rule).collect();
    let mapping = &spec.advertised_scope_mapping;
    wire::AuthorizerConfiguration::CustomJwtAuthorizer(wire::CustomJWTAuthorizerConfiguration {
        advertised_scope_mapping: Some(mapping.clone()).filter(|mapping| !mapping.is_empty()),
        allowed_audience: list(&spec.allowed_audience),
        allowed_clients: list(&spec.allowed_clients),
        allowed_scopes: list(&spec.allowed_scopes),
        allowed_workload_configuration: None,
        certificate_configurations: None,
        custom_claims: Some(rules).filter(|rules| !rules.is_empty()),
        discovery_url: spec.discovery_url.clone(),
        private_endpoint: None,
        private_endpoint_overrides: None,
    })
}

/// Of the model's combinations only those make sense that AWS documents; it refuses the others, too.
fn read_rule(index: usize, rule: wire::CustomClaimValidationType, wrong: &mut Vec<FieldError>) -> Option<ClaimRule> {
    use wire::ClaimMatchOperatorType as Operator;
    use wire::ClaimMatchValueType as Value;
    use wire::InboundTokenClaimValueType as Type;
    let value = rule.authorizing_claim_match_value;
    let operator = value.claim_match_operator;
    let fitting = match operator {
        Operator::Equals => Type::String,
        Operator::Contains | Operator::ContainsAny => Type::StringArray,
    };
    let at = |member: &str| format!("{MEMBER}.customClaims[{index}].{member}");
    if rule.inbound_token_claim_value_type != fitting {
        let message = format!("must be {fitting} for claimMatchOperator {operator}");
        wrong.push(field(&at("inboundTokenClaimValueType"), message));
        return None;
    }
    let expected = match (operator, value.claim_match_value) {
        (Operator::Equals, Value::MatchValueString(text)) => Expected::Equals(text),
        (Operator::Contains, Value::MatchValueString(text)) => Expected::Contains(text),
        (Operator::ContainsAny, Value::MatchValueStringList(list)) => Expected::ContainsAny(list),
        (Operator::Equals | Operator::Contains | Operator::ContainsAny, _) => {
            let member = if operator == Operator::ContainsAny {
                "matchValueStringList"
            } else {
                "matchValueString"
            };
            let message = format!("must be {member} for claimMatchOperator {operator}");
            wrong.push(field(&at("authorizingClaimMatchValue.claimMatchValue"), message));
            return None;
        }
    };
    Some(ClaimRule {
        claim: rule.inbound_token_claim_name,
        expected,
    })
}

fn show_rule(rule: &ClaimRule) -> wire::CustomClaimValidationType {
    use wire::ClaimMatchOperatorType as Operator;
    use wire::ClaimMatchValueType as Value;
    use wire::InboundTokenClaimValueType as Type;
    let (value_type, operator, value) = match &rule.expected {
        Expected::Equals(text) => (Type::String, Operator::Equals, Value::MatchValueString(text.clone())),
        Expected::Contains(text) => (
            Type::StringArray,
            Operator::Contains,
            Value::MatchValueString(text.clone()),
        ),
        Expected::ContainsAny(list) => (
            Type::StringArray,
            Operator::ContainsAny,
            Value::MatchValueStringList(list.clone()),
        ),
    };
    wire::CustomClaimValidationType {
        authorizing_claim_match_value: wire::AuthorizingClaimMatchValueType {
            claim_match_operator: operator,
            claim_match_value: value,
        },
        inbound_token_claim_name: rule.claim.clone(),
        inbound_token_claim_value_type: value_type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const URL: &str = "https://idp.example.com/.well-known/openid-configuration";

    fn read_json(authorizer: Value, reach: Reach) -> Result<Config, Vec<String>> {
        let mut wrong = Vec::new();
        let given = serde_json::from_value(json!({ "customJWTAuthorizer": authorizer })).unwrap();
        let config = read(given, reach, &mut wrong);
        assert_eq!(config.is_some(), wrong.is_empty());
        config.ok_or_else(|| wrong.into_iter().map(|fault| fault.name).collect())
    }

    fn rule(value_type: &str, operator: &str, value: Value) -> Value {
        json!({
            "inboundTokenClaimName": "role", "inboundTokenClaimValueType": value_type,
            "authorizingClaimMatchValue": {"claimMatchOperator": operator, "claimMatchValue": value},
        })
    }

    #[test]
    fn what_is_accepted_is_shown_as_it_was_given() {
        let text = json!({"matchValueString": "admin"});
        let list = json!({"matchValueStringList": ["admin", "root"]});
        for given in [
            json!({"discoveryUrl": URL, "allowedAudience": ["a", "b"]}),
            json!({"discoveryUrl": URL, "allowedClients": ["a"]}),
            json!({"discoveryUrl": URL, "allowedScopes": ["a", "b"], "advertisedScopeMapping": {"a": "api://x/a"}}),
            json!({"discoveryUrl": URL, "customClaims": [
                rule("STRING", "EQUALS", text.clone()),
                rule("STRING_ARRAY", "CONTAINS", text.clone()),
                rule("STRING_ARRAY", "CONTAINS_ANY", list.clone()),
            ]}),
        ] {
            let config = read_json(given.clone(), Reach::default()).unwrap();
            let shown = serde_json::to_value(show(&config)).unwrap();
            assert_eq!(shown, json!({ "customJWTAuthorizer": given }));
            let kept: Config = serde_json::from_value(serde_json::to_value(&config).unwrap()).unwrap();
            assert_eq!(kept, config);
        }
    }

    #[test]
    fn what_is_refused_is_named() {
        let text = json!({"matchValueString": "admin"});
        let list = json!({"matchValueStringList": ["admin"]});
        let with = |more: Value| {
            let mut given = json!({"discoveryUrl": URL, "allowedAudience": ["a"]});
            given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            given
        };
        let custom = |rule: Value| with(json!({"customClaims": [rule]}));
        let value_type = "customClaims[0].inboundTokenClaimValueType";
        let value = "customClaims[0].authorizingClaimMatchValue.claimMatchValue";
        let endpoint =
            json!({"selfManagedLatticeResource": {"resourceConfigurationIdentifier": "rcfg-0123456789abcdef0"}});
        for (given, member) in [
            (json!({"discoveryUrl": URL}), ""),
            (
                with(json!({"discoveryUrl": "https://10.0.0.1/.well-known/openid-configuration"})),
                "discoveryUrl",
            ),
            (
                with(json!({"discoveryUrl": "https://127.0.0.1/.well-known/openid-configuration"})),
                "discoveryUrl",
            ),
            (
                with(json!({"discoveryUrl": "http://idp.example.com/.well-known/openid-configuration"})),
                "discoveryUrl",
            ),
            (
                with(json!({"discoveryUrl": "https://idp.example.com/"})),
                "discoveryUrl",
            ),
            (
                with(json!({"advertisedScopeMapping": {"a": "b"}})),
                "advertisedScopeMapping",
            ),
            (with(json!({"privateEndpoint": endpoint})), "privateEndpoint"),
            (
                with(json!({"privateEndpointOverrides": []})),
                "privateEndpointOverrides",
            ),
            (
                with(json!({"certificateConfigurations": []})),
                "certificateConfigurations",
            ),
            (
                with(json!({"allowedWorkloadConfiguration": {}})),
                "allowedWorkloadConfiguration",
            ),
            (custom(rule("STRING_ARRAY", "EQUALS", text.clone())), value_type),
            (custom(rule("STRING", "CONTAINS", text.clone())), value_type),
            (custom(rule("STRING", "CONTAINS_ANY", list.clone())), value_type),
            (custom(rule("STRING", "EQUALS", list.clone())), value),
            (custom(rule("STRING_ARRAY", "CONTAINS", list.clone())), value),
            (custom(rule("STRING_ARRAY", "CONTAINS_ANY", text.clone())), value),
        ] {
            let dot = if member.is_empty() { "" } else { "." };
            let names = read_json(given.clone(), Reach::default()).unwrap_err();
            assert_eq!(names, [format!("{MEMBER}{dot}{member}")], "{given}");
        }
        let local = with(json!({"discoveryUrl": "http://127.0.0.1:9000/.well-known/openid-configuration"}));
        let loopback = Reach {
            loopback: true,
            ..Reach::default()
        };
        assert!(read_json(local, loopback).is_ok());
    }
}
