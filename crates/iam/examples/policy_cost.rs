//! What one decision costs: `cargo run --release -p eyot-iam --example policy_cost`.
//!
//! Each case has 50 statements, of which the last allows. The figures are wall time of one thread; the best round is
//! the one with the least noise.
#![allow(clippy::print_stdout, reason = "a measurement for people")]

use domain::Principal;
use domain::id::AccountId;
use iam::policy::{Context, Kind, Policies, Policy, Request, Value, Values, decide};
use jiff::Timestamp;
use serde_json::{Value as Json, json};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

// Short rounds: on a busy machine a long one is always interrupted.
const ROUNDS: usize = 1_000;
const CALLS: u32 = 100;
const STATEMENTS: usize = 50;
const RUNTIME: &str = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/my_agent-0123456789";

/// What the front door would answer from.
struct Call {
    ip: IpAddr,
    now: Timestamp,
    user: &'static str,
}

impl Context for Call {
    fn get(&self, key: &str) -> Option<Values<'_>> {
        Some(match key {
            "aws:sourceip" => Values::One(Value::Ip(self.ip)),
            "aws:currenttime" => Values::One(Value::Time(self.now)),
            "aws:username" => Values::text(self.user),
            "aws:principalarn" => Values::text("arn:aws:iam::123456789012:user/alice"),
            "aws:securetransport" => Values::One(Value::Bool(true)),
            _ => return None,
        })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let account = AccountId::parse("123456789012")?;
    let principal = Principal::user(account, "alice".into(), "AIDAALICE".into(), "AKIAALICE".into());
    let call = Call {
        ip: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)),
        now: "2026-11-25T16:00:00Z".parse()?,
        user: "alice",
    };
    let request = Request {
        principal: &principal,
        action: "bedrock-agentcore:InvokeAgentRuntime",
        resource: RUNTIME,
        resource_account: &principal.account,
        context: &call,
    };

    let cases: [(&str, Vec<Json>); 9] = [
        (
            "other actions",
            statements(|n| json!({"Action": format!("bedrock-agentcore:Get{n}*"), "Resource": "*"})),
        ),
        (
            "other resources",
            statements(|n| {
                let resource = format!("arn:aws:bedrock-agentcore:*:123456789012:runtime/agent{n}-*");
                json!({"Action": "bedrock-agentcore:Invoke*", "Resource": resource})
            }),
        ),
        (
            "a condition each",
            statements(|n| {
                let condition = json!({"IpAddress": {"aws:SourceIp": format!("10.{n}.0.0/16")}, "Bool": {"aws:SecureTransport": true}});
                json!({"Action": "bedrock-agentcore:*", "Resource": "*", "Condition": condition})
            }),
        ),
        (
            "two texts each",
            statements(|n| {
                let condition = json!({"StringLike": {"aws:username": [format!("team{n}-*"), format!("*-{n}")]}});
                json!({"Action": ["s3:*", "bedrock-agentcore:*"], "Resource": "*", "Condition": condition})
            }),
        ),
        (
            "a variable each",
            statements(|n| {
                let resource = format!("arn:aws:bedrock-agentcore:*:*:runtime/${{aws:username}}{n}-*");
                json!({"Action": "bedrock-agentcore:*", "Resource": resource})
            }),
        ),
        (
            "a variable amiss",
            statements(|n| {
                let resource = format!("arn:aws:bedrock-agentcore:*:*:runtime/*${{aws:username}}*{}*", n % 10);
                json!({"Action": "bedrock-agentcore:*", "Resource": resource})
            }),
        ),
        (
            "an equal text each",
            statements(|n| {
                let condition =
                    json!({"StringEquals": {"aws:username": format!("${{aws:PrincipalTag/team, 'bob'}}-{n}")}});
                json!({"Action": "bedrock-agentcore:*", "Resource": "*", "Condition": condition})
            }),
        ),
        (
            "an ARN each",
            statements(|n| {
                let condition =
                    json!({"ArnLike": {"aws:PrincipalArn": format!("arn:aws:iam::123456789012:user/team{n}-*")}});
                json!({"Action": "bedrock-agentcore:*", "Resource": "*", "Condition": condition})
            }),
        ),
        (
            "a moment each",
            statements(|n| {
                let condition = json!({"DateLessThan": {"aws:CurrentTime": format!("2025-01-01T00:00:{n:02}Z")}});
                json!({"Action": "bedrock-agentcore:*", "Resource": "*", "Condition": condition})
            }),
        ),
    ];
    // `-- resources` measures only the cases with that word.
    let word = std::env::args().nth(1).unwrap_or_default();
    for (what, statements) in cases.into_iter().filter(|(what, _)| what.contains(&word)) {
        let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        let identity = [Arc::new(Policy::parse(Kind::Identity, &text)?)];
        let policies = Policies {
            identity: &identity,
            ..Policies::default()
        };
        assert!(decide(&request, &policies).is_allowed());
        measure(what, || {
            drop(black_box(decide(black_box(&request), black_box(&policies))))
        });
    }
    let text =
        json!({"Version": "2012-10-17", "Statement": statements(|_| json!({"Action": "s3:*", "Resource": "*"}))});
    let text = text.to_string();
    if "reading the policy".contains(&word) {
        measure("reading the policy", || {
            drop(black_box(Policy::parse(Kind::Identity, black_box(&text))));
        });
    }
    Ok(())
}

/// Statements that do not apply, and a last one that does.
fn statements(each: impl Fn(usize) -> Json) -> Vec<Json> {
    let allow = |mut statement: Json| {
        statement["Effect"] = json!("Allow");
        statement
    };
    let mut all: Vec<Json> = (1..STATEMENTS).map(|n| allow(each(n))).collect();
    all.push(json!({"Effect": "Allow", "Action": "bedrock-agentcore:InvokeAgentRuntime", "Resource": RUNTIME}));
    all
}

fn measure(what: &str, call: impl Fn()) {
    let round = || {
        let start = Instant::now();
        (0..CALLS).for_each(|_| call());
        start.elapsed() / CALLS
    };
    let mut rounds: Vec<_> = (0..ROUNDS).map(|_| round()).collect();
    rounds.sort_unstable();
    println!(
        "{what:<20} best {:>8.2?}   median {:>8.2?}",
        rounds[0],
        rounds[ROUNDS / 2]
    );
}
