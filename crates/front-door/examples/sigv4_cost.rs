//! What verifying one signature costs: `cargo run --release -p eyot-front-door --example sigv4_cost`.
//!
//! Measures `InvokeAgentRuntime` as boto3 sends it to a local server, from the parsed head to the principal, without
//! the hash of the body. The figures are wall time of one thread; the best round is the one with the least noise.
#![allow(clippy::print_stdout, reason = "a measurement for people")]

use aws_lc_rs::digest::{SHA256, digest};
use front_door::auth::{AccessKey, Directory, Refusal, Service, Shown, Verifier};
use http::request::Parts;
use jiff::Timestamp;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const TABLE: &str = include_str!("../src/auth/testdata/botocore.json");
const ROUNDS: usize = 20;
const CALLS: u32 = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let table: serde_json::Value = serde_json::from_str(TABLE)?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let account = domain::id::AccountId::parse("123456789012")?;
    let (id, secret) = (text(&table["key"]["id"]), text(&table["key"]["secret"]).into());
    let key = AccessKey {
        id,
        account,
        secret,
        session_token: None,
        enabled: true,
    };
    let now: Timestamp = text(&table["now"]).parse()?;
    let verifier = Verifier::new(
        Arc::new(Directory::fixed([key])?),
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

    let verify = |parts: &Parts| {
        let shown = Shown::of(parts)?;
        let pending = verifier.check_head(parts, &shown, Service::AgentCore)?;
        pending.verify(&hash)
    };
    let head = |parts: &Parts| -> Result<(), Refusal> {
        let shown = Shown::of(parts)?;
        verifier.check_head(parts, &shown, Service::AgentCore).map(drop)
    };
    assert!(verify(&good).is_ok() && verify(&wrong).is_err());
    measure("head only", || drop(black_box(head(black_box(&good)))));
    measure("head and signature", || drop(black_box(verify(black_box(&good)))));
    measure("a wrong signature", || drop(black_box(verify(black_box(&wrong)))));
    // About what a canonical request has; most of the cost on a processor without SHA instructions.
    let bytes = [7; 560];
    measure("SHA-256 of 560 bytes", || {
        black_box(digest(&SHA256, black_box(&bytes)));
    });
    Ok(())
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
