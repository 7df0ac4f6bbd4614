//! Tables of policies and what they decide, and properties that hold for all of them.
//!
//! `conditions.json`: `[condition, context, holds]`, or with a fourth value what holds in a `Deny` where that differs.
//! `decisions.json` and `trust.json`: see `Case`. In all of them `@A` and `@B` are two accounts, `@RT` is a runtime of
//! the first and `@EP` an endpoint of it. A statement may be written `"EFFECT ACTION RESOURCE PRINCIPAL"`.

mod faults;
mod properties;
mod statement_faults;

use super::*;
use domain::id::AccountId;
use domain::{Bearer, Principal};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const CONDITIONS: &str = include_str!("conditions.json");
const DECISIONS: &str = include_str!("decisions.json");
const TRUST: &str = include_str!("trust.json");
const INVOKE: &str = "bedrock-agentcore:InvokeAgentRuntime";
const RUNTIME: &str = "arn:aws:bedrock-agentcore:us-west-2:111111111111:runtime/agent-0123456789";

/// The keys that a case names; a list is several values.
struct Keys(Map<String, Json>);

impl Context for Keys {
    fn get(&self, key: &str) -> Option<Values<'_>> {
        assert_eq!(key, key.to_ascii_lowercase());
        let (_, found) = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(key))?;
        Some(match found {
            Json::Array(list) => Values::Many(list.iter().map(value).collect()),
            one => Values::One(value(one)),
        })
    }
}

fn value(json: &Json) -> Value<'_> {
    match json {
        Json::String(text) => Value::Text(text.into()),
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => Value::Integer(number.as_i64().unwrap()),
        Json::Object(object) if object.contains_key("ip") => Value::Ip(object["ip"].as_str().unwrap().parse().unwrap()),
        other => Value::Time(other["time"].as_str().unwrap().parse().unwrap()),
    }
}

fn read<T: serde::de::DeserializeOwned>(table: &str) -> T {
    let table = table.replace("@RT", RUNTIME);
    let table = table.replace("@EP", &format!("{RUNTIME}/runtime-endpoint/prod"));
    serde_json::from_str(&table.replace("@A", "111111111111").replace("@B", "222222222222")).unwrap()
}

fn account(id: &str) -> AccountId {
    AccountId::parse(id).unwrap()
}

/// One of the people of the tables; those of the second account begin with `b-`.
fn person(name: &str) -> Principal {
    let (account, name) = match name.strip_prefix("b-") {
        Some(name) => (account("222222222222"), name),
        None => (account("111111111111"), name),
    };
    match name {
        "root" => Principal::root(account, "AKIAROOT".into()),
        "role" => Principal::assumed_role(account, "builder", "AROABUILDER", "s1".into(), "ASIA1".into()),
        "bearer" => Principal::bearer(
            account,
            Arc::new(Bearer {
                issuer: "https://idp.example.com".into(),
                subject: Some("carol".into()),
                claims: BTreeMap::new(),
                rules: [0; 32],
            }),
        ),
        user => Principal::user(account, user.into(), "AIDAUSER".into(), "AKIA1".into()),
    }
}

fn statement(json: &Json) -> Json {
    let Some(short) = json.as_str() else {
        return json.clone();
    };
    let mut words = short.split(' ');
    let mut next = || words.next();
    let mut full = json!({"Effect": next(), "Action": next()});
    for key in ["Resource", "Principal"] {
        match next() {
            None | Some("-") => {}
            Some("*") if key == "Principal" => full[key] = json!("*"),
            Some(name) if key == "Principal" => full[key] = json!({ "AWS": name }),
            Some(arn) => full[key] = json!(arn),
        }
    }
    full
}

fn policy(kind: Kind, name: &str, statements: &Json) -> Policy {
    let statements: Vec<Json> = statements.as_array().unwrap().iter().map(statement).collect();
    let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    Policy::parse(kind, &text)
        .unwrap_or_else(|error| panic!("{error}: {text}"))
        .named(name)
}

/// `allow root`, `allow i0.1+r.Sid`, `deny s.0`, `deny no identity-based policy`.
fn short(decision: &Decision) -> String {
    let by = |by: &Deciding| match &by.sid {
        Some(sid) => format!("{}.{sid}", by.policy),
        None => format!("{}.{}", by.policy, by.index),
    };
    match decision {
        Decision::Denied(Denial::Explicit { by: deciding, .. }) => format!("deny {}", by(deciding)),
        Decision::Denied(Denial::Implicit { kind }) => format!("deny no {}", kind.noun()),
        Decision::Allowed(grant) => {
            let standing = grant.standing.map(|standing| format!("{standing:?}").to_lowercase());
            let sides = [&grant.identity, &grant.resource, &grant.session];
            let sides = sides.into_iter().flatten().map(by);
            format!(
                "allow {}",
                standing.into_iter().chain(sides).collect::<Vec<_>>().join("+")
            )
        }
    }
}

/// A row of `decisions.json` and `trust.json`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    who: String,
    #[serde(rename = "do", default)]
    action: Option<String>,
    #[serde(default)]
    on: Option<String>,
    /// A list of policies, each a list of statements.
    #[serde(default)]
    identity: Vec<Json>,
    #[serde(default)]
    session: Option<Json>,
    /// For `trust.json` the trust policy.
    #[serde(default)]
    resource: Option<Json>,
    #[serde(default)]
    context: Map<String, Json>,
    expect: String,
    /// The whole message.
    #[serde(default)]
    message: Option<String>,
}

impl Case {
    fn identity(&self) -> Vec<Arc<Policy>> {
        let each = self.identity.iter().enumerate();
        each.map(|(index, statements)| Arc::new(policy(Kind::Identity, &format!("i{index}"), statements)))
            .collect()
    }

    fn one(kind: Kind, name: &str, statements: Option<&Json>) -> Option<Policy> {
        statements.map(|statements| policy(kind, name, statements))
    }
}

fn decide_case(case: &Case) -> (Decision, Option<String>) {
    let (identity, context) = (case.identity(), Keys(case.context.clone()));
    let session = Case::one(Kind::Session, "s", case.session.as_ref());
    let resource = Case::one(Kind::Resource, "r", case.resource.as_ref());
    let principal = person(&case.who);
    let request = Request {
        principal: &principal,
        action: case.action.as_deref().unwrap_or(INVOKE),
        resource: case.on.as_deref().unwrap_or(RUNTIME),
        resource_account: &account("111111111111"),
        context: &context,
    };
    let policies = Policies {
        identity: &identity,
        session: session.as_ref(),
        resource: resource.as_ref(),
    };
    let decision = decide(&request, &policies);
    let message = decision.message(&request);
    (decision, message)
}

fn trust_case(case: &Case) -> (Decision, Option<String>) {
    let (identity, context) = (case.identity(), Keys(case.context.clone()));
    let session = Case::one(Kind::Session, "s", case.session.as_ref());
    let resource = Case::one(Kind::Trust, "r", case.resource.as_ref());
    let principal = person(&case.who);
    let caller = match case.who.split_once('=') {
        Some(("service", name)) => Caller::Service(name),
        Some((_, provider)) => Caller::Federated(provider),
        None => Caller::Principal(&principal),
    };
    let request = trust::Request {
        caller,
        action: case.action.as_deref().unwrap_or("sts:AssumeRole"),
        role: case.on.as_deref().unwrap_or("arn:aws:iam::111111111111:role/target"),
        account: &account("111111111111"),
        context: &context,
    };
    let policies = Policies {
        identity: &identity,
        session: session.as_ref(),
        resource: resource.as_ref(),
    };
    let decision = trust::decide(&request, &policies);
    let message = decision.trust_message(&request);
    (decision, message)
}

fn check(table: &str, at_least: usize, decide: impl Fn(&Case) -> (Decision, Option<String>)) {
    let rows: Vec<Json> = read(table);
    assert!(rows.len() >= at_least, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let case: Case = serde_json::from_value(row.clone()).unwrap_or_else(|error| panic!("{error}: {row}"));
        let (decision, message) = decide(&case);
        if short(&decision) != case.expect || case.message.is_some() && case.message != message {
            wrong.push(format!(
                "{row}\n  decided: {}\n  message: {message:?}",
                short(&decision)
            ));
        }
        assert_eq!(decision.is_allowed(), message.is_none());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn decisions() {
    check(DECISIONS, 100, decide_case);
}

#[test]
fn trust_decisions() {
    check(TRUST, 25, trust_case);
}

#[test]
fn conditions() {
    let rows: Vec<Vec<Json>> = read(CONDITIONS);
    assert!(rows.len() >= 150, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let (condition, context) = (&row[0], row[1].as_object().unwrap().clone());
        let in_allow = row[2].as_bool().unwrap();
        let in_deny = row.get(3).map_or(in_allow, |holds| holds.as_bool().unwrap());
        let statement =
            |effect: &str| json!({"Effect": effect, "Action": "*", "Resource": "*", "Condition": condition});
        let case = |statements: Json| Case {
            who: "alice".into(),
            action: None,
            on: None,
            identity: vec![statements],
            session: None,
            resource: None,
            context: context.clone(),
            expect: String::new(),
            message: None,
        };
        let allow = short(&decide_case(&case(json!([statement("Allow")]))).0) == "allow i0.0";
        let deny = short(&decide_case(&case(json!(["Allow * *", statement("Deny")]))).0) == "deny i0.1";
        if (allow, deny) != (in_allow, in_deny) {
            wrong.push(format!("{} holds in Allow: {allow}, in Deny: {deny}", Json::from(row)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_decision_names_its_statement_for_the_audit_log() {
    let sid = json!([["Allow x:Y *", {"Sid": "Mine", "Effect": "Allow", "Action": "*", "Resource": "*"}]]);
    for (case, expected) in [
        (
            json!({"who": "alice", "identity": sid}),
            "allowed by identity-based policy 'i0' statement 'Mine'",
        ),
        (
            json!({"who": "b-root", "resource": [format!("Allow * {RUNTIME} 222222222222")]}),
            "allowed by the account's root, policy of the resource 'r' statement [0]",
        ),
        (json!({"who": "alice"}), "denied: no identity-based policy allows it"),
        (
            json!({"who": "root", "session": ["Deny * *"]}),
            "denied by session policy 's' statement [0]",
        ),
    ] {
        let mut case = case;
        case["expect"] = json!("");
        let case: Case = serde_json::from_value(case).unwrap();
        assert_eq!(decide_case(&case).0.to_string(), expected);
    }
}

#[test]
fn a_resource_policy_is_about_its_resource() {
    let about = |arn: &str| {
        let text = json!([format!("Allow * {RUNTIME} *"), format!("Allow * {arn} *")]);
        policy(Kind::Resource, "r", &text).check_is_about(RUNTIME)
    };
    assert_eq!(about("*"), Ok(()));
    assert_eq!(
        about(&RUNTIME.replace("agent-", "other-")).unwrap_err().to_string(),
        format!("Statement[1].Resource: this is another resource; write '{RUNTIME}' or '*'")
    );
}

/// A context that must not be asked.
struct Silent;

impl Context for Silent {
    fn get(&self, key: &str) -> Option<Values<'_>> {
        panic!("{key} was asked for")
    }
}

#[test]
fn nothing_is_asked_for_that_no_statement_at_hand_names() {
    let condition = json!({"StringEquals": {"aws:username": "x"}});
    let other = json!({"Effect": "Deny", "Action": "s3:*", "Resource": "*", "Condition": condition});
    let elsewhere = json!({"Effect": "Deny", "Action": "*", "Resource": "arn:aws:s3:::x", "Condition": condition});
    let identity = [Arc::new(policy(
        Kind::Identity,
        "i0",
        &json!([other, elsewhere, "Allow * *"]),
    ))];
    let principal = person("alice");
    let request = Request {
        principal: &principal,
        action: INVOKE,
        resource: RUNTIME,
        resource_account: &principal.account,
        context: &Silent,
    };
    let policies = Policies {
        identity: &identity,
        ..Policies::default()
    };
    assert!(decide(&request, &policies).is_allowed());
}
