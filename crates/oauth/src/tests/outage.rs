//! A provider that is down, slow, broken or hostile.

use super::bed::{Answer, Bed, DISCOVERY, ISSUER, claims, default_config, keys, token};
use crate::Refusal;
use serde_json::{Value, json};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// Another token each time, so that no verdict is remembered.
fn fresh(number: u32) -> String {
    token(&claims(
        json!({"jti": number.to_string(), "exp": super::bed::NOW + 10_000_000}),
    ))
}

#[tokio::test(start_paused = true)]
async fn keys_are_used_while_the_provider_is_down_but_not_for_ever() {
    let bed = Bed::start().await;
    assert_eq!(bed.code(&fresh(0)).await, "ok");
    bed.provider.answer(DISCOVERY, Answer::Close);
    // Fresh, stale, at the end of its time, too stale.
    for (minutes, expected) in [
        (10, "ok"),
        (60, "ok"),
        (12 * 60, "ok"),
        (640, "ok"),
        (120, "unavailable"),
    ] {
        tokio::time::sleep(minutes * MINUTE).await;
        assert_eq!(bed.code(&fresh(minutes)).await, expected, "{minutes} minutes later");
        // What was begun in the background has time to fail.
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    bed.provider.publish(ISSUER, &json!([keys().ed.jwk("ed")]));
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(bed.code(&fresh(99)).await, "ok", "it is back");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_was_never_seen_is_asked_with_pauses() {
    let bed = Bed::start().await;
    bed.provider.answer(DISCOVERY, Answer::Close);
    for _ in 0..600 {
        assert_eq!(bed.code(&fresh(0)).await, "unavailable");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let fetches = bed.provider.fetches();
    assert!((10..=20).contains(&fetches), "{fetches}");
    bed.provider.publish(ISSUER, &json!([keys().ed.jwk("ed")]));
    tokio::time::sleep(MINUTE).await;
    assert_eq!(bed.code(&fresh(0)).await, "ok");
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_again_when_they_are_old_and_used() {
    let bed = Bed::start().await;
    bed.code(&fresh(0)).await;
    tokio::time::sleep(60 * MINUTE).await;
    assert_eq!(bed.provider.fetches(), 1, "not while nobody asks");
    for number in 1..=4 {
        assert_eq!(bed.code(&fresh(number)).await, "ok");
        tokio::time::sleep(16 * MINUTE).await;
    }
    assert_eq!(bed.provider.fetches(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_brings_rubbish_changes_nothing() {
    let bed = Bed::start().await;
    assert_eq!(bed.code(&fresh(0)).await, "ok");
    for (number, (path, answer)) in rubbish(&bed).into_iter().enumerate() {
        let number = u32::try_from(number).unwrap();
        bed.provider.publish(ISSUER, &json!([keys().ed.jwk("ed")]));
        bed.provider.answer(path, answer);
        tokio::time::sleep(16 * MINUTE).await;
        assert_eq!(bed.code(&fresh(2 * number + 1)).await, "ok");
        tokio::time::sleep(MINUTE).await;
        assert_eq!(bed.code(&fresh(2 * number + 2)).await, "ok", "after {number}");
    }
}

#[tokio::test]
async fn rubbish_is_never_a_provider() {
    let count = rubbish(&Bed::start().await).len();
    assert!(count >= 35, "{count}");
    for number in 0..count {
        let bed = Bed::with(|settings| settings.fetch_timeout = Duration::from_millis(300)).await;
        let (path, answer) = rubbish(&bed).swap_remove(number);
        bed.provider.answer(path, answer);
        let verdict = bed.providers.verify(&bed.config(default_config()), &fresh(0)).await;
        let Err(refusal @ Refusal::Unavailable { .. }) = verdict else {
            panic!("case {number}: {verdict:?}")
        };
        assert!(
            !refusal.to_string().contains("127.0.0.1"),
            "{refusal}: internal addresses are not for callers"
        );
        assert!(bed.providers.issuer(&bed.config(default_config())).await.is_err());
    }
}

fn rubbish(bed: &Bed) -> Vec<(&'static str, Answer)> {
    let url = &bed.provider.url;
    let document = |changes: Value| {
        let mut document = json!({"issuer": ISSUER, "jwks_uri": format!("{url}/keys")});
        for (name, value) in changes.as_object().unwrap() {
            document[name] = value.clone();
        }
        (DISCOVERY, Answer::Json(document))
    };
    let jwks = |keys: Value| ("/keys", Answer::Json(json!({"keys": keys})));
    let raw = |path, text: &str| (path, Answer::Raw(text.as_bytes().to_vec()));
    let moved = format!("location: {url}/elsewhere\r\n");
    let large = |path, size: usize| (path, Answer::status("200 OK", "", &format!("{{{}}}", " ".repeat(size))));
    vec![
        document(json!({"issuer": null})),
        document(json!({"issuer": ""})),
        document(json!({"issuer": [ISSUER]})),
        document(json!({"issuer": "https://login.microsoftonline.com/{tenantid}/v2.0"})),
        document(json!({"jwks_uri": null})),
        document(json!({"jwks_uri": "/keys"})),
        document(json!({"jwks_uri": "http://10.0.0.1/keys"})),
        document(json!({"jwks_uri": "http://169.254.169.254/latest/meta-data"})),
        document(json!({"jwks_uri": "https://169.254.169.254/latest/meta-data"})),
        document(json!({"jwks_uri": "https://10.0.0.1/keys"})),
        document(json!({"jwks_uri": "file:///etc/passwd"})),
        document(json!({"jwks_uri": "http://user:pw@127.0.0.1/keys"})),
        document(json!({"jwks_uri": format!("{url}/nowhere")})),
        document(json!({"jwks_uri": "http://127.0.0.1:1/keys"})),
        (DISCOVERY, Answer::status("200 OK", "", "<html>")),
        (DISCOVERY, Answer::status("200 OK", "", "[]")),
        (DISCOVERY, Answer::status("200 OK", "", "")),
        (
            DISCOVERY,
            Answer::status("200 OK", "", r#"{"issuer":"a","issuer":"b"}"#),
        ),
        (DISCOVERY, Answer::status("404 Not Found", "", "{}")),
        (DISCOVERY, Answer::status("500 Internal Server Error", "", "{}")),
        (DISCOVERY, Answer::status("204 No Content", "", "")),
        (DISCOVERY, Answer::status("301 Moved Permanently", &moved, "")),
        (DISCOVERY, Answer::status("302 Found", &moved, "")),
        (DISCOVERY, Answer::status("307 Temporary Redirect", &moved, "")),
        ("/keys", Answer::status("302 Found", &moved, "")),
        (DISCOVERY, Answer::Hang),
        ("/keys", Answer::Hang),
        (DISCOVERY, Answer::Drip(Duration::from_millis(50))),
        ("/keys", Answer::Drip(Duration::from_millis(50))),
        (DISCOVERY, Answer::Close),
        raw(DISCOVERY, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"),
        raw(DISCOVERY, "not HTTP\r\n\r\n"),
        raw(DISCOVERY, "HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n{"),
        large(DISCOVERY, 64 * 1024),
        large("/keys", 1024 * 1024),
        (
            DISCOVERY,
            Answer::status("200 OK", &format!("x: {}\r\n", "x".repeat(64 * 1024)), "{}"),
        ),
        (DISCOVERY, Answer::Drip(Duration::ZERO)),
        jwks(json!([])),
        jwks(json!({})),
        jwks(json!([1, "x", null])),
        jwks(json!([{"kty": "oct", "k": "AAAA", "kid": "ed"}])),
        jwks(json!([{"kty": "OKP", "crv": "X25519", "x": "AAAA", "kid": "ed"}])),
        jwks(json!(vec![json!({"kty": "RSA"}); 257])),
        ("/keys", Answer::status("200 OK", "", r#"{"keys":[],"keys":[]}"#)),
        ("/keys", Answer::status("200 OK", "", "x")),
    ]
}
