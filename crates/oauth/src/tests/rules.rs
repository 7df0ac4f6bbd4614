//! Audience, clients, scopes and custom claims, and the tokens of well-known providers.

use super::bed::{Bed, Case, ISSUER, NOW, claims, token};
use super::check;
use serde_json::{Value, json};

type Expected = Result<(), (&'static str, &'static str)>;
const OK: Expected = Ok(());
const AUD: Expected = Err(("mismatch", "Claim 'aud' value mismatch with configuration."));
const CLIENT: Expected = Err(("mismatch", "Claim 'client_id' value mismatch with configuration."));
const SCOPE: Expected = Err(("mismatch", "Claim 'scope' value mismatch with configuration."));
const ROLE: Expected = Err(("mismatch", "Claim 'role' value mismatch with configuration."));

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |config: &Value, changes: Value, expected| {
        cases.push(Case {
            name: format!("{config} with {changes}"),
            config: config.clone(),
            token: token(&claims(changes)),
            expected,
        });
    };
    let audience = json!({"allowed_audience": ["api", "other api"]});
    for (aud, expected) in [
        (json!("api"), OK),
        (json!("other api"), OK),
        (json!(["api"]), OK),
        (json!(["x", "api", "y"]), OK),
        (json!("API"), AUD),
        (json!("api "), AUD),
        (json!("ap"), AUD),
        (json!("api,other api"), AUD),
        (json!(""), AUD),
        (json!([]), AUD),
        (json!(["x"]), AUD),
        (json!(["api", 1]), AUD),
        (json!([["api"]]), AUD),
        (json!({"api": true}), AUD),
        (json!(1), AUD),
        (json!(true), AUD),
        (Value::Null, AUD),
    ] {
        add(&audience, json!({"aud": aud}), expected);
    }
    let clients = json!({"allowed_clients": ["web", "cli"]});
    for (changes, expected) in [
        (json!({}), OK),
        (json!({"client_id": "cli"}), OK),
        (json!({"client_id": "WEB"}), CLIENT),
        (json!({"client_id": ""}), CLIENT),
        (json!({"client_id": ["web"]}), CLIENT),
        (json!({"client_id": 1}), CLIENT),
        (json!({"client_id": null}), CLIENT),
        (json!({"client_id": null, "aud": "web"}), CLIENT),
        (json!({"client_id": null, "sub": "web"}), CLIENT),
        (json!({"client_id": null, "azp": "web"}), OK),
        (json!({"client_id": null, "appid": "web"}), OK),
        (json!({"client_id": null, "cid": "web"}), OK),
        (json!({"client_id": null, "azp": "x"}), CLIENT),
        (json!({"client_id": null, "azp": ["web"]}), CLIENT),
        (json!({"client_id": null, "azp": "x", "cid": "web"}), CLIENT),
        (json!({"client_id": null, "appid": "x", "cid": "web"}), CLIENT),
        (json!({"client_id": "x", "azp": "web"}), CLIENT),
        (json!({"client_id": "x", "cid": "web"}), CLIENT),
        (json!({"client_id": "web", "azp": "x"}), OK),
        (json!({"client_id": {}, "azp": "web"}), CLIENT),
    ] {
        add(&clients, changes, expected);
    }
    let scopes = json!({"allowed_scopes": ["write", "api://x/.default"]});
    for (changes, expected) in [
        (json!({}), OK),
        (json!({"scope": "write"}), OK),
        (json!({"scope": "a b write c"}), OK),
        (json!({"scope": "api://x/.default"}), OK),
        (json!({"scope": "read"}), SCOPE),
        (json!({"scope": "writes"}), SCOPE),
        (json!({"scope": "WRITE"}), SCOPE),
        (json!({"scope": "read,write"}), SCOPE),
        (json!({"scope": "read\twrite"}), SCOPE),
        (json!({"scope": ""}), SCOPE),
        (json!({"scope": " "}), SCOPE),
        (json!({"scope": null}), SCOPE),
        (json!({"scope": ["read", "write"]}), OK),
        (json!({"scope": ["read write"]}), SCOPE),
        (json!({"scope": ["write", 1]}), SCOPE),
        (json!({"scope": {"write": true}}), SCOPE),
        (json!({"scope": 1}), SCOPE),
        (json!({"scope": null, "scp": ["read", "write"]}), OK),
        (json!({"scope": null, "scp": "read write"}), OK),
        (json!({"scope": null, "scp": ["read"]}), SCOPE),
        (json!({"scope": null, "scp": []}), SCOPE),
        (json!({"scope": "read", "scp": ["write"]}), OK),
        (json!({"scope": "read", "scp": ["x"]}), SCOPE),
        (json!({"scope": null, "roles": ["write"]}), SCOPE),
    ] {
        add(&scopes, changes, expected);
    }
    let custom = |expected: Value| json!({"custom_claims": [{"claim": "role", "expected": expected}]});
    let equals = custom(json!({"equals": "admin"}));
    for (role, expected) in [
        (json!("admin"), OK),
        (json!("Admin"), ROLE),
        (json!("admin "), ROLE),
        (json!("administrator"), ROLE),
        (json!(""), ROLE),
        (json!(["admin"]), ROLE),
        (json!([]), ROLE),
        (json!(1), ROLE),
        (json!(true), ROLE),
        (json!({"admin": "admin"}), ROLE),
        (Value::Null, ROLE),
    ] {
        add(&equals, json!({"role": role}), expected);
    }
    let contains = custom(json!({"contains": "admin"}));
    let contains_any = custom(json!({"contains_any": ["admin", "root"]}));
    for (role, one, any) in [
        (json!(["admin"]), OK, OK),
        (json!(["x", "admin"]), OK, OK),
        (json!(["root"]), ROLE, OK),
        (json!(["root", "admin"]), OK, OK),
        (json!(["x", "y"]), ROLE, ROLE),
        (json!(["ADMIN"]), ROLE, ROLE),
        (json!(["administrator"]), ROLE, ROLE),
        (json!([]), ROLE, ROLE),
        (json!("admin"), ROLE, ROLE),
        (json!("x admin y"), ROLE, ROLE),
        (json!(["admin", 1]), ROLE, ROLE),
        (json!(["admin", null]), ROLE, ROLE),
        (json!([["admin"]]), ROLE, ROLE),
        (json!([{"admin": "admin"}]), ROLE, ROLE),
        (json!({"0": "admin"}), ROLE, ROLE),
        (json!(1), ROLE, ROLE),
        (Value::Null, ROLE, ROLE),
    ] {
        add(&contains, json!({"role": role}), one);
        add(&contains_any, json!({"role": role}), any);
    }
    // Everything that is configured must hold; the first that does not is named.
    let all = json!({
        "allowed_audience": ["api"], "allowed_clients": ["web"], "allowed_scopes": ["write"],
        "custom_claims": [{"claim": "role", "expected": {"equals": "admin"}}, {"claim": "team:id", "expected": {"contains": "a"}}],
    });
    let team: Expected = Err(("mismatch", "Claim 'team:id' value mismatch with configuration."));
    for (changes, expected) in [
        (json!({"role": "admin", "team:id": ["a"]}), OK),
        (json!({"role": "admin", "team:id": ["b"]}), team),
        (json!({"role": "admin"}), team),
        (json!({"team:id": ["a"]}), ROLE),
        (json!({"role": "admin", "team:id": ["a"], "scope": "read"}), SCOPE),
        (json!({"role": "admin", "team:id": ["a"], "client_id": "x"}), CLIENT),
        (json!({"role": "admin", "team:id": ["a"], "aud": "x"}), AUD),
        (json!({"aud": "x", "client_id": "x", "scope": "x"}), AUD),
    ] {
        add(&all, changes, expected);
    }
    // No API call makes this; a record might.
    add(&json!({}), json!({}), Err(("unrestricted", "allows nobody")));
    add(
        &json!({"advertised_scope_mapping": {"a": "b"}}),
        json!({}),
        Err(("unrestricted", "allows nobody")),
    );

    // Tokens as providers make them.
    let bare = json!({"aud": null, "client_id": null, "scope": null});
    let with = |more: Value| {
        let mut all = bare.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let cognito_access = with(json!({
        "client_id": "7example", "token_use": "access", "scope": "openid agents/invoke", "username": "ada",
        "cognito:groups": ["staff"], "auth_time": NOW - 5, "jti": "j", "origin_jti": "o", "version": 2,
    }));
    let cognito_id = with(json!({
        "aud": "7example", "token_use": "id", "cognito:username": "ada", "email": "ada@example.com", "email_verified": true,
    }));
    let okta = with(json!({
        "aud": "api://default", "cid": "0oaexample", "scp": ["openid", "agents.invoke"], "uid": "00u", "ver": 1,
    }));
    let entra_1 = with(json!({
        "aud": "api://agents", "appid": "11111111-2222", "appidacr": "1", "scp": "Agents.Invoke User.Read", "tid": "t", "ver": "1.0",
    }));
    let entra_2 = with(json!({
        "aud": "agents", "azp": "11111111-2222", "azpacr": "1", "scp": "Agents.Invoke", "roles": ["Agents.All"], "tid": "t", "ver": "2.0",
    }));
    for (config, claims, expected) in [
        (json!({"allowed_clients": ["7example"]}), &cognito_access, OK),
        (json!({"allowed_audience": ["7example"]}), &cognito_access, AUD),
        (
            json!({"allowed_clients": ["7example"], "allowed_scopes": ["agents/invoke"]}),
            &cognito_access,
            OK,
        ),
        (
            json!({"custom_claims": [{"claim": "cognito:groups", "expected": {"contains": "staff"}}]}),
            &cognito_access,
            OK,
        ),
        (
            json!({"custom_claims": [{"claim": "token_use", "expected": {"equals": "access"}}]}),
            &cognito_id,
            Err(("mismatch", "'token_use'")),
        ),
        (json!({"allowed_audience": ["7example"]}), &cognito_id, OK),
        (json!({"allowed_clients": ["7example"]}), &cognito_id, CLIENT),
        (json!({"allowed_audience": ["api://default"]}), &okta, OK),
        (json!({"allowed_clients": ["0oaexample"]}), &okta, OK),
        (json!({"allowed_scopes": ["agents.invoke"]}), &okta, OK),
        (json!({"allowed_scopes": ["agents"]}), &okta, SCOPE),
        (
            json!({"allowed_audience": ["api://agents"], "allowed_clients": ["11111111-2222"]}),
            &entra_1,
            OK,
        ),
        (json!({"allowed_scopes": ["Agents.Invoke"]}), &entra_1, OK),
        (
            json!({"allowed_audience": ["agents"], "allowed_clients": ["11111111-2222"]}),
            &entra_2,
            OK,
        ),
        (
            json!({"custom_claims": [{"claim": "roles", "expected": {"contains_any": ["Agents.All", "x"]}}]}),
            &entra_2,
            OK,
        ),
        (json!({"allowed_scopes": ["Agents.All"]}), &entra_2, SCOPE),
    ] {
        add(&config, claims.clone(), expected);
    }
    cases
}

#[tokio::test]
async fn every_rule_case() {
    check(cases()).await;
}

#[tokio::test]
async fn what_is_kept_of_a_token() {
    let bed = Bed::start().await;
    let config = bed.config(json!({"allowed_audience": ["api"]}));
    let changes = json!({"groups": ["a", "b"], "n": 1, "b": true, "mixed": ["a", 1], "none": [], "o": {"x": "y"}, "aud": ["api", "z"]});
    let bearer = bed.providers.verify(&config, &token(&claims(changes))).await.unwrap();
    assert_eq!(
        (bearer.issuer.as_str(), bearer.subject.as_deref()),
        (ISSUER, Some("user-1"))
    );
    let kept: Vec<_> = bearer
        .claims
        .iter()
        .map(|(name, texts)| (name.as_str(), texts.join("|")))
        .collect();
    let expected = [
        ("aud", "api|z"),
        ("client_id", "web"),
        ("groups", "a|b"),
        ("iss", ISSUER),
        ("none", ""),
        ("scope", "read write"),
        ("sub", "user-1"),
    ];
    assert_eq!(kept, expected.map(|(name, texts)| (name, texts.to_owned())));
    assert_eq!(bed.providers.issuer(&config).await.unwrap(), ISSUER);
}
