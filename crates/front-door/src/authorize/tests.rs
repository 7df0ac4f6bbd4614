//! The lines that calls of STS leave.

use super::*;
use crate::metrics::Metrics;
use crate::server::watch::Watch;
use crate::service::StsRecord;
use domain::Bearer;
use iam::directory::Judged;
use iam::policy::{Deciding, Denial, Grant, Kind};
use prometheus_client::registry::Registry;
use serde_json::json;
use std::collections::BTreeMap;

#[tokio::test]
async fn a_call_of_sts_is_a_line_for_each_decision_and_one_for_another_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let authority = Authority {
        account: AccountId::parse("123456789012").unwrap(),
        region: "us-west-2".to_owned(),
        audit: audit::Log::open(&audit::Config::default(), &path, &mut Registry::default()).unwrap(),
        clock: Clock::from_fn(|| Timestamp::UNIX_EPOCH),
    };
    let metrics = Metrics::register(&mut Registry::default()).call("sts");
    let origin = Origin {
        address: [192, 0, 2, 1].into(),
        is_secure: false,
    };
    let busy = Watch::new(&crate::Config::default()).begin();
    let context = Context::new(http::Method::POST, origin, busy, metrics);
    let by = Deciding {
        policy: "role trust policy".into(),
        sid: Some("Root".into()),
        index: 0,
    };
    let allowed = Decision::Allowed(Grant {
        resource: Some(by),
        ..Grant::default()
    });
    let denied = Decision::Denied(Denial::Implicit { kind: Kind::Trust });
    let judged = |decisions: &[(&'static str, &Decision)]| {
        let each = decisions.iter().map(|(action, decision)| Judged {
            action,
            decision: (*decision).clone(),
        });
        each.collect::<Vec<_>>()
    };
    let (assume, tag, web) = ("sts:AssumeRole", "sts:TagSession", "sts:AssumeRoleWithWebIdentity");
    let of = |action, judged, refusal, issued: Option<&str>| StsRecord {
        action: Some(action),
        role: Some("arn:role".to_owned()),
        federated: None,
        judged,
        refusal,
        issued: issued.map(str::to_owned),
    };
    let bearer = Bearer {
        issuer: "https://id".to_owned(),
        subject: Some("user-1".to_owned()),
        claims: BTreeMap::new(),
        rules: [0; 32],
    };
    let vouched = StsRecord {
        federated: Some(Arc::new(bearer)),
        ..of(web, judged(&[(web, &denied)]), Some("AccessDenied"), None)
    };
    let records = [
        of(
            assume,
            judged(&[(assume, &allowed), (tag, &allowed)]),
            None,
            Some("ASIA1"),
        ),
        of(
            assume,
            judged(&[(assume, &allowed), (tag, &denied)]),
            Some("AccessDenied"),
            None,
        ),
        of(assume, judged(&[(assume, &allowed)]), Some("ValidationError"), None),
        vouched,
        of(web, Vec::new(), Some("InvalidIdentityToken"), None),
        of("sts:GetSessionToken", Vec::new(), None, Some("ASIA2")),
    ];
    for record in &records {
        authority.record_sts(&context, None, record).await;
    }
    let request_id = context.request_id.to_string();
    drop((authority, context));

    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.lines().map(|line| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["requestId"], &line["sourceIp"]),
            (&json!(request_id), &json!("192.0.2.1"))
        );
        assert_eq!(line["resource"], "arn:role");
        [
            "action",
            "decision",
            "reason",
            "policy",
            "statement",
            "issued",
            "principal",
        ]
        .map(|name| line[name].take())
    });
    let allow = |action: &str, issued: Option<&str>| {
        let reason = "allowed by policy of the resource 'role trust policy' statement 'Root'";
        json!([action, "allow", reason, "role trust policy", "Root", issued, null])
    };
    let refused = "denied: no role trust policy allows it";
    let web_identity = json!({"type": "WebIdentity", "issuer": "https://id", "subject": "user-1"});
    let expected = [
        allow(assume, Some("ASIA1")),
        allow(tag, None),
        allow(assume, None),
        json!([tag, "deny", refused, null, null, null, null]),
        allow(assume, None),
        json!([assume, "deny", "ValidationError", null, null, null, null]),
        json!([web, "deny", refused, null, null, null, web_identity]),
        json!([web, "deny", "InvalidIdentityToken", null, null, null, null]),
        json!([
            "sts:GetSessionToken",
            "allow",
            "needs no permission",
            null,
            null,
            "ASIA2",
            null
        ]),
    ];
    assert_eq!(lines.map(|line| json!(line)).collect::<Vec<_>>(), expected);
}
