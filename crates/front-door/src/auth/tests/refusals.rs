//! Each refusal, provoked by one change of a good request.

use super::{Check, Payload, Refusal, key, parts, verifier};
use crate::auth::authorization::Malformed;
use crate::auth::{EMPTY_PAYLOAD, Verifier};
use domain::Kind;

const NOW: &str = "2026-11-22T10:00:00Z";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn ours() -> Verifier {
    verifier(key("AKIDEXAMPLE", SECRET, None), "us-west-2", "bedrock-agentcore", NOW)
}

/// A request that passes the head check, with changes. A change to no value removes the header.
fn refusal(verifier: &Verifier, uri: &str, changes: &[(&str, Option<&str>)]) -> Option<Refusal> {
    let authorization = authorization("AKIDEXAMPLE/20261122/us-west-2/bedrock-agentcore", "host;x-amz-date");
    let good = [
        ("authorization", authorization.as_str()),
        ("host", "localhost:8780"),
        ("x-amz-date", "20261122T100000Z"),
    ];
    let kept = good
        .iter()
        .filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name))
        .copied();
    let added = changes.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
    let headers: Vec<(String, String)> = kept.chain(added).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let parts = parts("POST", uri, &headers).unwrap();
    match verifier.check(&parts) {
        Err(refusal) => Some(refusal),
        Ok(pending) => pending.verify(&EMPTY_PAYLOAD).err(),
    }
}

fn authorization(scope: &str, signed: &str) -> String {
    let signature = "0".repeat(64);
    format!("AWS4-HMAC-SHA256 Credential={scope}/aws4_request, SignedHeaders={signed}, Signature={signature}")
}

#[test]
fn every_refusal_says_what_is_wrong() {
    let check = |changes: &[(&str, Option<&str>)], said: &str| {
        let refusal = refusal(&ours(), "/runtimes/x/invocations", changes).expect(said);
        let error = domain::Error::from(refusal);
        assert_eq!(error.kind, Kind::Denied);
        assert!(
            error.message.contains(said),
            "expected '{said}', said '{}'",
            error.message
        );
        assert!(!error.message.contains(SECRET));
    };
    let signed = |names: &str| authorization("AKIDEXAMPLE/20261122/us-west-2/bedrock-agentcore", names);
    let scoped = |scope: &str| authorization(scope, "host;x-amz-date");
    let with = |header: &'static str, value: &'static str| [(header, Some(value))];

    // Nothing changed: the head is in order, and the signature of zeroes is wrong.
    check(
        &[],
        "The request signature we calculated does not match the signature you provided.",
    );

    check(&[("authorization", None)], "Missing Authentication Token");
    check(&with("authorization", ""), "Missing Authentication Token");
    check(
        &with("authorization", "Bearer eyJhbGciOi"),
        "Authorization method mismatch.",
    );
    check(&with("authorization", "bearer x"), "Authorization method mismatch.");
    check(&with("authorization", "Bearer"), "Authorization method mismatch.");
    check(&with("authorization", "AWS4-HMAC-SHA256 x"), "missing equal-sign");
    check(
        &[("authorization", Some("x")), ("authorization", Some("y"))],
        "more than one Authorization header",
    );

    check(
        &[("authorization", Some(&signed("x-amz-date")))],
        "'Host' or ':authority' must be a 'SignedHeader'",
    );
    check(&[("host", None)], "SignedHeaders names 'host'");
    check(
        &[("authorization", Some(&signed("host;range;x-amz-date")))],
        "SignedHeaders names 'range'",
    );
    check(&[("authorization", Some(&signed("host")))], "not signed: 'x-amz-date'");
    check(&with("x-amz-target", "x"), "not signed: 'x-amz-target'");
    check(&with("x-amz-content-sha256", "x"), "not signed: 'x-amz-content-sha256'");
    check(&[("host", Some("a")); 5], "more than 4 Host headers");

    check(
        &[("x-amz-date", None), ("authorization", Some(&signed("host")))],
        "existence of either a 'X-Amz-Date' or a 'Date'",
    );
    check(
        &with("x-amz-date", "2026-11-22T10:00:00Z"),
        "ISO-8601 'basic format', e.g. 20150830T123600Z. Got '2026-11",
    );
    check(&[("x-amz-date", Some("20261122T100000Z")); 2], "two x-amz-date headers");
    check(
        &with("x-amz-date", "20261122T095459Z"),
        "Signature expired: 20261122T095459Z is now earlier than 20261122T095500Z (20261122T100000Z - 5 min.)",
    );
    check(
        &with("x-amz-date", "20261122T100501Z"),
        "Signature not yet current: 20261122T100501Z is still later than 20261122T100500Z (20261122T100000Z + 5 min.)",
    );
    check(
        &[(
            "authorization",
            Some(&scoped("AKIDEXAMPLE/20261121/us-west-2/bedrock-agentcore")),
        )],
        "'20261121' != '20261122'",
    );
    check(
        &[(
            "authorization",
            Some(&scoped("AKIDEXAMPLE/20261122/us-east-1/bedrock-agentcore")),
        )],
        "Credential should be scoped to a valid region, not 'us-east-1'. This server's region is 'us-west-2'",
    );
    check(
        &[("authorization", Some(&scoped("AKIDEXAMPLE/20261122/us-west-2/s3")))],
        "Credential should be scoped to correct service: 'bedrock-agentcore', not 's3'",
    );

    let unknown = "The security token included in the request is invalid.";
    check(
        &[(
            "authorization",
            Some(&scoped("AKIDOTHER/20261122/us-west-2/bedrock-agentcore")),
        )],
        unknown,
    );
    check(&with("x-amz-security-token", "stale"), unknown);

    let declared = signed("host;x-amz-content-sha256;x-amz-date");
    for kind in [
        "UNSIGNED-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "abc",
        &"A".repeat(64),
    ] {
        check(
            &[("authorization", Some(&declared)), ("x-amz-content-sha256", Some(kind))],
            "takes no unsigned",
        );
    }
}

#[test]
fn a_presigned_query_is_told_apart_from_no_credentials() {
    let check = |uri: &str, expected: Refusal| {
        assert_eq!(
            refusal(&ours(), uri, &[("authorization", None)]),
            Some(expected),
            "{uri}"
        );
    };
    check(
        "/x?a=1&X-Amz-Signature=00",
        Refusal::IncompleteSignature(Malformed::NotInQuery("X-Amz-Algorithm")),
    );
    check("/x?a=X-Amz-Signature=00", Refusal::MissingAuthenticationToken);
    // With both it would have two readings.
    assert_eq!(
        refusal(&ours(), "/x?X-Amz-Signature=00", &[]),
        Some(Refusal::SeveralAuthorizations)
    );
}

#[test]
fn unsigned_headers_that_clients_and_proxies_add_are_accepted() {
    for (name, value) in [
        ("x-amzn-bedrock-agentcore-runtime-session-id", "s"),
        ("x-amzn-trace-id", "Root=1"),
        ("traceparent", "00-0-0-00"),
        ("x-amz-user-agent", "aws-sdk-js"),
        ("x-amz-cf-id", "x"),
        ("x-forwarded-for", "10.0.0.1"),
    ] {
        // The head passes; only the signature of zeroes is wrong.
        assert_eq!(
            refusal(&ours(), "/x", &[(name, Some(value))]),
            Some(Refusal::SignatureDoesNotMatch),
            "{name}"
        );
    }
}

#[test]
fn a_temporary_key_works_only_with_its_own_token() {
    let temporary = || {
        verifier(
            key("AKIDEXAMPLE", SECRET, Some("token")),
            "us-west-2",
            "bedrock-agentcore",
            NOW,
        )
    };
    let check = |token: Option<&str>, expected: Refusal| {
        assert_eq!(
            refusal(&temporary(), "/x", &[("x-amz-security-token", token)]),
            Some(expected),
            "{token:?}"
        );
    };
    check(Some("token"), Refusal::SignatureDoesNotMatch);
    check(Some("Token"), Refusal::UnrecognizedClient);
    check(Some(""), Refusal::UnrecognizedClient);
    check(None, Refusal::UnrecognizedClient);
}

#[test]
fn a_disabled_key_is_an_unknown_one() {
    let mut disabled = key("AKIDEXAMPLE", SECRET, None);
    disabled.enabled = false;
    let verifier = verifier(disabled, "us-west-2", "bedrock-agentcore", NOW);
    assert_eq!(refusal(&verifier, "/x", &[]), Some(Refusal::UnrecognizedClient));
}

/// Every form costs a hash of the head, so their number is what a stranger can make us pay.
#[test]
fn the_forms_that_are_tried_are_bounded() {
    use crate::auth::authorization::parse;
    use crate::auth::canonical::{Form, MAX_FORMS};
    let header = authorization(
        "AKIDEXAMPLE/20261122/us-west-2/bedrock-agentcore",
        "host;x-amz-date;x-tab",
    );
    let mut headers = vec![("x-tab".to_owned(), "a\tb".to_owned())];
    headers.extend((0..4).map(|n| ("host".to_owned(), format!("h{n}:1"))));
    let parts = parts("GET", "/a//b/./c/.?a=%3a+&b=c=d", &headers).unwrap();
    let signed = parse(header.as_bytes()).unwrap().signed_headers;
    assert_eq!(Form::others(&parts, signed).count(), MAX_FORMS - 1);

    let plain = super::parts("GET", "/a?b=c", &[("host".to_owned(), "h".to_owned())]).unwrap();
    assert_eq!(Form::others(&plain, signed).count(), 0);
}

#[test]
fn what_needs_hashing_says_so() {
    let headers = [
        (
            "authorization",
            authorization("AKIDEXAMPLE/20261122/us-west-2/bedrock-agentcore", "host;x-amz-date"),
        ),
        ("host", "localhost".to_owned()),
        ("x-amz-date", "20261122T100000Z".to_owned()),
    ];
    let headers: Vec<_> = headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let parts = parts("POST", "/x", &headers).unwrap();
    assert_eq!(ours().check(&parts).unwrap().payload(), Payload::Needed);
}
