//! A policy is written by whoever may attach one: it must be answered, and what is read must decide, within bounds,
//! and never let in what a policy that denies everything stands beside.

#![no_main]

use domain::Principal;
use domain::id::AccountId;
use iam::policy::{Context, Kind, Policies, Policy, Request, Values, decide};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

/// Every key has the same text, and those that end in `s` have it twice.
struct Same<'a>(&'a str);

impl Context for Same<'_> {
    fn get(&self, key: &str) -> Option<Values<'_>> {
        match key.as_bytes() {
            [.., b's'] => Some(Values::texts([self.0, self.0])),
            [.., b'x'] => None,
            _ => Some(Values::text(self.0)),
        }
    }
}

fuzz_target!(|input: (&str, &str, &str)| {
    let (text, resource, value) = input;
    for kind in [Kind::Resource, Kind::Trust, Kind::Session] {
        let _ = Policy::parse(kind, text);
    }
    let Ok(policy) = Policy::parse(Kind::Identity, text) else {
        return;
    };
    let account = AccountId::parse("123456789012").expect("twelve digits");
    let principal = Principal::user(account, value.to_owned(), "AIDA".to_owned(), "AKIA".to_owned());
    let request = Request {
        principal: &principal,
        action: "bedrock-agentcore:InvokeAgentRuntime",
        resource,
        resource_account: &principal.account,
        context: &Same(value),
    };
    let session = Policy::parse(
        Kind::Session,
        r#"{"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}"#,
    )
    .expect("a policy");
    let identity = [Arc::new(policy)];
    let mut policies = Policies {
        identity: &identity,
        ..Policies::default()
    };
    let decision = decide(&request, &policies);
    assert_eq!(decision.is_allowed(), decision.message(&request).is_none());
    policies.session = Some(&session);
    assert!(!decide(&request, &policies).is_allowed());
});
