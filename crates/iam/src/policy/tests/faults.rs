//! Documents that are no policies: each with the exact place, the fault and what would be right. What may be wrong
//! inside a statement is in `statement_faults`.

use super::*;
use Kind::{Identity, Resource, Session, Trust};

const DOCUMENT: &str = "write {\"Version\": \"2012-10-17\", \"Statement\": [{\"Effect\": …, \"Action\": …}]}";
pub(super) const STATEMENT: &str =
    "a statement has Sid, Effect, Action or NotAction, Resource or NotResource, Principal or NotPrincipal, Condition";
const JSON: &str = "a policy is one JSON object";
const VERSION: &str = "write \"2012-10-17\", or \"2008-10-17\" for a policy without variables";

pub(super) fn check(kind: Kind, text: &str, fault: &str, remedy: &str) {
    match Policy::parse(kind, text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => assert_eq!(error.to_string(), format!("{fault}; {remedy}"), "{text}"),
    }
}

#[test]
fn broken_json() {
    for (text, fault) in [
        ("", "line 1, column 0: EOF while parsing a value"),
        ("{", "line 1, column 1: EOF while parsing an object"),
        ("{\"Version\": }", "line 1, column 13: expected value"),
        (
            "{\n  \"Version\": \"2012-10-17\"\n  \"Statement\": []\n}",
            "line 3, column 3: expected `,` or `}`",
        ),
        ("{\"Statement\": [}]", "line 1, column 16: expected value"),
        ("{} {}", "line 1, column 4: trailing characters"),
        ("{\"a\": 1e999}", "line 1, column 11: number out of range"),
        ("{'Version': 1}", "line 1, column 2: key must be a string"),
        ("{\"\": 1}", "line 1, column 3: an empty key"),
        (
            "{\"a\": \"\\ud800\"}",
            "line 1, column 14: unexpected end of hex escape",
        ),
        ("[[[[[[[[[[1]]]]]]]]]]", "line 1, column 9: nested too deeply"),
    ] {
        check(Identity, text, fault, JSON);
    }
    let deep = "[".repeat(20_000);
    check(Resource, &deep, "line 1, column 9: nested too deeply", JSON);
}

#[test]
fn the_document() {
    let one = r#"{"Effect": "Allow", "Action": "*", "Resource": "*"}"#;
    for (text, fault, remedy) in [
        ("[]", "policy: a list where an object is needed", DOCUMENT),
        ("7", "policy: a number where an object is needed", DOCUMENT),
        ("null", "policy: null where an object is needed", DOCUMENT),
        ("{}", "policy: there is no Statement", DOCUMENT),
        (
            r#"{"Version": "2012-10-17"}"#,
            "policy: there is no Statement",
            DOCUMENT,
        ),
        (
            &format!(r#"{{"Version": "2012-10-18", "Statement": {one}}}"#),
            "Version: '2012-10-18' is not a version",
            VERSION,
        ),
        (
            &format!(r#"{{"Version": 2012, "Statement": {one}}}"#),
            "Version: a number where a text is needed",
            VERSION,
        ),
        (
            &format!(r#"{{"Id": [], "Statement": {one}}}"#),
            "Id: a list where a text is needed",
            "write a text",
        ),
        (
            &format!(r#"{{"version": "2012-10-17", "Statement": {one}}}"#),
            "version: there is no such element",
            "a policy has Version, Id and Statement",
        ),
        (
            &format!(r#"{{"Statement": {one}, "Statement": {one}}}"#),
            "Statement: this key appears twice",
            "keep one of them",
        ),
        (
            r#"{"Statement": []}"#,
            "Statement: the list is empty",
            "write at least one value",
        ),
        (
            r#"{"Statement": "x"}"#,
            "Statement: a text where an object is needed",
            STATEMENT,
        ),
        (
            &format!(r#"{{"Statement": [{one}, 5]}}"#),
            "Statement[1]: a number where an object is needed",
            STATEMENT,
        ),
        (
            r#"{"Statement": {}}"#,
            "Statement: there is no Resource",
            "say what the statement is about, \"*\" for everything",
        ),
    ] {
        check(Identity, text, fault, remedy);
    }
}

#[test]
fn what_a_fault_repeats_is_short_and_harmless() {
    let text = json!({"Statement": {"Effect": format!("\u{1b}[31m{}", "x".repeat(500))}}).to_string();
    let error = Policy::parse(Identity, &text).unwrap_err().to_string();
    assert!(error.starts_with("Statement.Effect: '\\u{1b}[31mxxx"), "{error}");
    assert!(error.len() < 200 && error.contains("x…'"), "{error}");
}

#[test]
fn lengths() {
    let long = |kind: Kind, characters: usize, spaces: usize| {
        let good = match kind {
            Identity | Session => r#""Effect":"Allow","Action":"*","Resource":"*""#,
            Resource => r#""Effect":"Allow","Action":"*","Resource":"*","Principal":"*""#,
            Trust => r#""Effect":"Allow","Action":"*","Principal":"*""#,
        };
        let (head, tail) = (r#"{"Id":""#, format!(r#"","Statement":{{{good}}}}}"#));
        let fill = "é".repeat(characters - head.len() - tail.len());
        Policy::parse(kind, &format!("{head}{fill}{tail}{}", " ".repeat(spaces)))
    };
    for (kind, limit) in [(Identity, 10_240), (Trust, 4_096)] {
        assert!(long(kind, limit, 5_000).is_ok(), "{kind:?}");
        assert!(long(kind, limit + 1, 0).is_err(), "{kind:?}");
    }
    for (kind, limit) in [(Resource, 20_480), (Session, 2_048)] {
        assert!(long(kind, limit, 0).is_ok(), "{kind:?}");
        assert!(long(kind, limit, 1).is_err(), "{kind:?}");
    }
    assert_eq!(
        long(Resource, 20_481, 0).unwrap_err().to_string(),
        "policy: the text is too long; write at most 20,480 characters, the limit of resource-based policies"
    );
    assert!(long(Identity, 1_000, 100_000).is_err());
}

#[test]
fn what_is_right_is_read() {
    for (kind, text) in [
        (
            Identity,
            r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#,
        ),
        (
            Identity,
            r#"{"Version": "2008-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::${x"}}"#,
        ),
        (
            Identity,
            r#"{"Statement": [{"Sid": "", "Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {}}, {"Sid": "", "Effect": "Deny", "NotAction": ["*"], "NotResource": ["*"]}]}"#,
        ),
        (
            Resource,
            r#"{"Version": "2012-10-17", "Id": "x", "Statement": [{"Sid": "Allow it, please", "Effect": "Allow", "Principal": {"AWS": ["123456789012"], "Service": "x.amazonaws.com", "Federated": ["cognito-identity.amazonaws.com"]}, "Action": "bedrock:InvokeAgentRuntime", "Resource": "*"}]}"#,
        ),
        (
            Trust,
            r#"{"Statement": {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam::123456789012:role/path/name", "arn:aws:sts::123456789012:assumed-role/r/s@x"]}, "Action": ["sts:AssumeRole", "sts:TagSession"]}}"#,
        ),
    ] {
        if let Err(error) = Policy::parse(kind, text) {
            panic!("{error}: {text}");
        }
    }
    // Without the new version a variable is only text.
    let old = r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::${aws:username}"}}"#;
    let old = Arc::new(Policy::parse(Identity, old).unwrap());
    let principal = person("alice");
    for (resource, expected) in [("arn:aws:s3:::alice", false), ("arn:aws:s3:::${aws:username}", true)] {
        let request = Request {
            principal: &principal,
            action: "s3:x",
            resource,
            resource_account: &principal.account,
            context: &Silent,
        };
        let policies = Policies {
            identity: std::slice::from_ref(&old),
            ..Policies::default()
        };
        assert_eq!(decide(&request, &policies).is_allowed(), expected, "{resource}");
    }
}
