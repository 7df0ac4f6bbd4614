//! Requests that botocore signed; `testdata/botocore_requests.py` says how.

use super::{Refusal, key, parts, verifier, verify};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::request::Parts;
use serde::Deserialize;

#[derive(Deserialize)]
struct Table {
    now: String,
    key: Pair,
    region: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Pair {
    id: String,
    secret: String,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    token: Option<String>,
    body: String,
}

impl Table {
    fn load() -> Self {
        serde_json::from_str(include_str!("../testdata/botocore.json")).unwrap()
    }

    fn check(&self, case: &Case, parts: &Parts, body: &[u8]) -> Result<(), Refusal> {
        let own = key(&self.key.id, &self.key.secret, case.token.as_deref());
        let verifier = verifier(own, &self.region, "bedrock-agentcore", &self.now);
        verify(&verifier, parts, body).map(|caller| assert_eq!(caller.access_key_id, self.key.id))
    }

    fn case(&self, name: &str) -> &Case {
        self.cases.iter().find(|case| case.name == name).unwrap()
    }
}

impl Case {
    fn parts(&self) -> Parts {
        // A header's value has no blanks around it once it has crossed the wire.
        let trim = |(name, value): &(String, String)| (name.clone(), value.trim().to_owned());
        parts(
            &self.method,
            &self.target,
            &self.headers.iter().map(trim).collect::<Vec<_>>(),
        )
        .unwrap()
    }

    fn body(&self) -> Vec<u8> {
        BASE64_STANDARD.decode(&self.body).unwrap()
    }
}

#[test]
fn what_botocore_signs_is_believed_and_nothing_else() {
    let table = Table::load();
    let mut believed = 0;
    for case in &table.cases {
        let (sent, body) = (case.parts(), case.body());
        assert_eq!(table.check(case, &sent, &body), Ok(()), "{}", case.name);

        assert_eq!(
            table.check(case, &sent, b"another body"),
            Err(Refusal::SignatureDoesNotMatch),
            "{}",
            case.name
        );
        let mut moved = case.parts();
        moved.uri = format!("/x{}", case.target).parse().unwrap();
        assert_eq!(
            table.check(case, &moved, &body),
            Err(Refusal::SignatureDoesNotMatch),
            "{}",
            case.name
        );
        believed += 1;
    }
    assert!(believed >= 15, "{believed}");
}

#[test]
fn a_presigned_request_holds_for_its_query_and_no_other() {
    let table = Table::load();
    let case = table.case("the SDK's presigned WebSocket");
    let check = |from: &str, to: &str, expected: Result<(), Refusal>| {
        let target = case.target.replacen(from, to, 1);
        assert!(from.is_empty() || target != case.target, "{from}");
        let mut sent = case.parts();
        sent.uri = target.parse().unwrap();
        assert_eq!(table.check(case, &sent, b""), expected, "{to}");
    };
    check("", "", Ok(()));
    check(
        "X-Amz-Expires=300",
        "X-Amz-Expires=299",
        Err(Refusal::SignatureDoesNotMatch),
    );
    check(
        "X-Amz-Algorithm=",
        "extra=1&X-Amz-Algorithm=",
        Err(Refusal::SignatureDoesNotMatch),
    );
    check("us-west-2", "us-west-3", Err(Refusal::SignatureDoesNotMatch));
}

/// The SDK's helper answers with handshake headers that `websockets` then sends beside its own.
#[test]
fn of_two_host_headers_either_may_be_the_signed_one() {
    let table = Table::load();
    let case = table.case("the SDK's WebSocket helper");
    for others in [
        ["127.0.0.1:8443", "local.api.aws:8443"],
        ["local.api.aws:8443", "127.0.0.1:8443"],
    ] {
        let mut sent = case.parts();
        assert_eq!(sent.headers.remove("host").unwrap(), "local.api.aws:8443");
        for host in others {
            sent.headers.append("host", host.parse().unwrap());
        }
        assert_eq!(table.check(case, &sent, b""), Ok(()), "{others:?}");
        let hosts = sent.headers.remove("host");
        sent.headers.append("host", "elsewhere.example".parse().unwrap());
        assert_eq!(
            table.check(case, &sent, b""),
            Err(Refusal::SignatureDoesNotMatch),
            "{hosts:?}"
        );
    }
}

/// HTTP/2 has `:authority` where HTTP/1.1 has `Host`; hyper puts it into the target.
#[test]
fn the_authority_of_http_2_stands_for_the_host() {
    let table = Table::load();
    let case = table.case("invoke by ARN");
    let mut sent = case.parts();
    let host = sent.headers.remove("host").unwrap();
    assert_eq!(
        table.check(case, &sent, &case.body()),
        Err(Refusal::SignedHeaderMissing("host".to_owned()))
    );
    sent.uri = format!("http://{}{}", host.to_str().unwrap(), case.target)
        .parse()
        .unwrap();
    assert_eq!(table.check(case, &sent, &case.body()), Ok(()));
}

#[test]
fn a_host_may_be_signed_without_its_port() {
    let table = Table::load();
    let case = table.case("invoke over TLS on the default port");
    let mut sent = case.parts();
    sent.headers.insert("host", "agents.example.org:8443".parse().unwrap());
    assert_eq!(table.check(case, &sent, &case.body()), Ok(()));
    sent.headers.insert("host", "agents.example.com:8443".parse().unwrap());
    assert_eq!(
        table.check(case, &sent, &case.body()),
        Err(Refusal::SignatureDoesNotMatch)
    );
}
