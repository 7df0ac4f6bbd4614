//! What the audit log is told of calls of STS.

use front_door::service::{Service, StsRecord};

use super::Bed;

const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Sid":"Root","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:root"},"Action":"sts:AssumeRole"},
    {"Sid":"Web","Effect":"Allow","Principal":{"Federated":"arn:aws:iam::123456789012:oidc-provider/id.example:8443/tenant"},
     "Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"sts:RoleSessionName":"work"}}}]}"#;
const ROLE: (&str, &str) = ("RoleArn", "arn:aws:iam::123456789012:role/agent");
const SESSION: (&str, &str) = ("RoleSessionName", "work");
const ASSUME: (&str, &str) = ("Action", "AssumeRole");
const BY_TOKEN: (&str, &str) = ("Action", "AssumeRoleWithWebIdentity");

/// Action, whether there is a role and somebody vouched for, what was decided about which action, the refusal, whether
/// credentials were issued.
fn told(record: &StsRecord) -> String {
    let decisions: Vec<_> = record
        .judged
        .iter()
        .map(|one| format!("{} {}", one.action, one.decision))
        .collect();
    format!(
        "{} {} {} [{}] {} {}",
        record.action.unwrap_or("-"),
        record.role.as_deref().unwrap_or("-"),
        record.federated.as_ref().map_or("-", |bearer| &bearer.issuer),
        decisions.join(", "),
        record.refusal.unwrap_or("-"),
        record.issued.is_some(),
    )
}

#[tokio::test]
async fn every_call_says_what_was_decided_and_why() {
    let bed = Bed::new().await;
    bed.role(TRUST).await;
    let check = async |signed: bool, parameters: &[(&str, &str)], expected: &str| {
        let reply = bed.service.call_sts(bed.call(signed, parameters)).await.unwrap();
        assert_eq!(told(&reply.record), expected, "{parameters:?}");
        assert_eq!(
            reply.reply.status == 200,
            reply.record.refusal.is_none(),
            "{parameters:?}"
        );
        assert!(!format!("{:?}", reply.record).contains("TOKEN"), "no token");
    };
    let (of, issuer) = (ROLE.1, "https://id.example:8443/tenant");
    let statement = |sid: &str| format!("policy of the resource 'role trust policy' statement '{sid}'");

    let expected = format!(
        "sts:AssumeRole {of} - [sts:AssumeRole allowed by the account's root, {}] - true",
        statement("Root")
    );
    check(true, &[ASSUME, ROLE, SESSION], &expected).await;
    // Allowed by one action, refused by the next.
    let tagged = [ASSUME, ROLE, SESSION, ("Tags.member.1.Key", "a")];
    let denied = "sts:TagSession denied: no role trust policy allows it";
    let expected = format!(
        "sts:AssumeRole {of} - [sts:AssumeRole allowed by the account's root, {}, {denied}] AccessDenied false",
        statement("Root")
    );
    check(true, &tagged, &expected).await;
    // Allowed, and yet not given.
    let long = [ASSUME, ROLE, SESSION, ("DurationSeconds", "99999")];
    let expected = format!(
        "sts:AssumeRole {of} - [sts:AssumeRole allowed by the account's root, {}] ValidationError false",
        statement("Root")
    );
    check(true, &long, &expected).await;
    let unknown = ("RoleArn", "arn:aws:iam::123456789012:role/nobody");
    let expected = format!(
        "sts:AssumeRole {} - [sts:AssumeRole denied: no role trust policy allows it] AccessDenied false",
        unknown.1
    );
    check(true, &[ASSUME, unknown, SESSION], &expected).await;
    // What is no role's ARN is not written down.
    let none = "sts:AssumeRole - - [] ValidationError false";
    check(true, &[ASSUME, ("RoleArn", "TOKEN\n{}"), SESSION], none).await;

    let action = "sts:AssumeRoleWithWebIdentity";
    let good = ("WebIdentityToken", "good");
    let expected = format!(
        "{action} {of} {issuer} [{action} allowed by {}] - true",
        statement("Web")
    );
    check(false, &[BY_TOKEN, ROLE, SESSION, good], &expected).await;
    let expected =
        format!("{action} {of} {issuer} [{action} denied: no role trust policy allows it] AccessDenied false");
    check(false, &[BY_TOKEN, ROLE, ("RoleSessionName", "play"), good], &expected).await;
    let bad = [BY_TOKEN, ROLE, SESSION, ("WebIdentityToken", "TOKEN")];
    check(false, &bad, &format!("{action} {of} - [] InvalidIdentityToken false")).await;

    let who = ("Action", "GetCallerIdentity");
    check(true, &[who], "sts:GetCallerIdentity - - [] - false").await;
    check(
        false,
        &[who],
        "sts:GetCallerIdentity - - [] MissingAuthenticationToken false",
    )
    .await;
    check(
        true,
        &[("Action", "GetSessionToken")],
        "sts:GetSessionToken - - [] - true",
    )
    .await;
    let info = [("Action", "GetAccessKeyInfo"), ("AccessKeyId", "AKIANOBODY")];
    let expected =
        "sts:GetAccessKeyInfo - - [sts:GetAccessKeyInfo allowed by the account's root] ValidationError false";
    check(true, &info, expected).await;
    check(true, &[("Action", "TOKEN")], "- - - [] InvalidAction false").await;
}
