//! What verifying one signature costs: `cargo run --release -p eyot-front-door --example sigv4_cost`.
//!
//! Measures `InvokeAgentRuntime` as boto3 sends it to a local server, from the parsed head to the principal, without
//! the hash of the body; the same with temporary credentials, whose session token is looked up; and as a presigned URL.
//! The figures are wall time of one thread; the best round is the one with the least noise.
#![allow(clippy::print_stdout, reason = "a measurement for people")]

use aws_credential_types::Credentials;
use aws_lc_rs::digest::{SHA256, digest};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use front_door::auth::{AccessKey, Directory, EMPTY_PAYLOAD, Refusal, Service, Shown, Verifier};
use http::request::Parts;
use iam::sts::{Issue, Subject, Temporary};
use jiff::Timestamp;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TABLE: &str = include_str!("../src/auth/testdata/botocore.json");
const ROUNDS: usize = 20;
const CALLS: u32 = 20_000;
/// More than are remembered, so that each is opened when its turn comes again.
const TOKENS: usize = 20_000;
const URL: &str = "http://localhost:8780/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aus-west-2%3A123456789012%3Aruntime%2Fmy_agent-AbCdEf1234/invocations?qualifier=DEFAULT";

fn main() -> Result<(), Box<dyn Error>> {
    let table: serde_json::Value = serde_json::from_str(TABLE)?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let account = domain::id::AccountId::parse("123456789012")?;
    let (id, secret) = (text(&table["key"]["id"]), text(&table["key"]["secret"]));
    let root = Credentials::new(id.clone(), secret.clone(), None, None, "example");
    let key = AccessKey {
        id,
        account: account.clone(),
        secret: secret.into(),
        session_token: None,
        enabled: true,
    };
    let now: Timestamp = text(&table["now"]).parse()?;
    let directory = Arc::new(Directory::fixed([key])?);
    let verifier = Verifier::new(
        Arc::clone(&directory),
        &text(&table["region"]),
        domain::Clock::from_fn(move || now),
    );

    let case = table["cases"]
        .as_array()
        .and_then(|cases| cases.first())
        .ok_or("the table is empty")?;
    let body = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, text(&case["body"]))?;
    let hash: [u8; 32] = digest(&SHA256, &body).as_ref().try_into()?;
    let mut request = http::Request::builder()
        .method(&*text(&case["method"]))
        .uri(text(&case["target"]));
    for header in case["headers"].as_array().into_iter().flatten() {
        request = request.header(text(&header[0]), text(&header[1]));
    }
    let good = request.body(())?.into_parts().0;
    let mut wrong = good.clone();
    wrong
        .headers
        .insert("x-amzn-bedrock-agentcore-runtime-session-id", "another".parse()?);

    let check = |parts: &Parts, hash: &[u8; 32]| {
        let shown = Shown::of(parts)?;
        let pending = verifier.check_head(parts, &shown, Service::AgentCore)?;
        pending.verify(hash)
    };
    let verify = |parts: &Parts| check(parts, &hash);
    let head = |parts: &Parts| -> Result<(), Refusal> {
        let shown = Shown::of(parts)?;
        verifier.check_head(parts, &shown, Service::AgentCore).map(drop)
    };
    assert!(verify(&good).is_ok() && verify(&wrong).is_err());
    measure("head only", || drop(black_box(head(black_box(&good)))));
    measure("head and signature", || drop(black_box(verify(black_box(&good)))));
    measure("a wrong signature", || drop(black_box(verify(black_box(&wrong)))));

    let issue = || {
        directory.issue(Issue {
            subject: Subject::Root(account.clone()),
            lifetime: Duration::from_secs(3600),
            session_policy: Some(POLICY.to_owned()),
            source_identity: Some("alice".to_owned()),
            tags: BTreeMap::from([("team".to_owned(), "red".to_owned())]),
        })
    };
    let temporary = issue()?;
    let by_temporary = signed(&of(&temporary), now, SignatureLocation::Headers)?;
    let presigned = signed(&root, now, SignatureLocation::QueryParams)?;
    let presigned_by_temporary = signed(&of(&temporary), now, SignatureLocation::QueryParams)?;
    for (what, parts) in [
        ("temporary key", &by_temporary),
        ("presigned", &presigned),
        ("presigned, temporary", &presigned_by_temporary),
    ] {
        assert!(check(parts, &EMPTY_PAYLOAD).is_ok(), "{what}");
        measure(what, || drop(black_box(check(black_box(parts), &EMPTY_PAYLOAD))));
    }
    let tokens: Vec<Temporary> = (0..TOKENS).map(|_| issue()).collect::<Result<_, _>>()?;
    let next = Cell::new(0);
    measure("opening a token", || {
        let one = &tokens[next.get()];
        next.set((next.get() + 1) % TOKENS);
        let found = directory.find(&one.access_key_id, Some(one.session_token.as_bytes()));
        drop(black_box(found.expect("just issued")));
    });
    // About what a canonical request has; most of the cost on a processor without SHA instructions.
    let bytes = [7; 560];
    measure("SHA-256 of 560 bytes", || {
        black_box(digest(&SHA256, black_box(&bytes)));
    });
    Ok(())
}

/// A policy of a session, as long as usual ones are.
const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"bedrock-agentcore:Invoke*","Resource":"arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/my_agent-*"}]}"#;

fn of(temporary: &Temporary) -> Credentials {
    let token = String::clone(&temporary.session_token);
    Credentials::new(
        &temporary.access_key_id,
        &**temporary.secret,
        Some(token),
        None,
        "example",
    )
}

/// A call without a body, signed by the SDK's signer.
fn signed(by: &Credentials, now: Timestamp, location: SignatureLocation) -> Result<Parts, Box<dyn Error>> {
    let mut request = http::Request::post(URL).body(())?;
    let mut settings = SigningSettings::default();
    settings.expires_in = (location == SignatureLocation::QueryParams).then_some(Duration::from_secs(300));
    settings.signature_location = location;
    let identity = by.clone().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-west-2")
        .name("bedrock-agentcore")
        .time(now.into())
        .settings(settings)
        .build()?
        .into();
    let signable = SignableRequest::new("POST", URL, std::iter::empty(), SignableBody::Bytes(b""))?;
    let (instructions, _) = sign(signable, &parameters)?.into_parts();
    instructions.apply_to_request_http1x(&mut request);
    let mut parts = request.into_parts().0;
    // As a server sees it: the path alone, and the authority as a header.
    parts.headers.insert("host", "localhost:8780".parse()?);
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    parts.uri = target.parse()?;
    Ok(parts)
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
