//! Many at once: one fetch serves all, and invented keys cause next to none.

use super::bed::{Bed, ISSUER, claims, default_config, keys, token, token_of};
use futures_util::future::join_all;
use serde_json::json;
use std::sync::Arc;

fn invented(number: usize) -> String {
    let header = json!({"alg": "EdDSA", "kid": format!("invented-{number}")}).to_string();
    token_of(&keys().strange_ed, &header, &claims(json!({})).to_string())
}

#[tokio::test]
async fn a_thousand_first_calls_cause_one_fetch() {
    let bed = Bed::start().await;
    let config = bed.config(default_config());
    let token = token(&claims(json!({})));
    let verdicts = join_all((0..1000).map(|_| bed.providers.verify(&config, &token))).await;
    assert!(verdicts.iter().all(Result::is_ok));
    assert_eq!((bed.provider.fetches(), bed.provider.count("/keys")), (1, 1));
    let first = verdicts[999].clone().unwrap();
    let cached = bed.providers.verify(&config, &token).await.unwrap();
    let again = bed.providers.verify(&config, &token).await.unwrap();
    assert!(
        Arc::ptr_eq(&cached, &again) && cached == first,
        "remembered, not verified again"
    );
}

#[tokio::test]
async fn a_thousand_invented_keys_cause_next_to_no_fetch() {
    let bed = Bed::start().await;
    let config = bed.config(default_config());
    let tokens: Vec<_> = (0..1000).map(invented).collect();
    for _ in 0..5 {
        let verdicts = join_all(tokens.iter().map(|token| bed.providers.verify(&config, token))).await;
        assert!(
            verdicts
                .iter()
                .all(|verdict| verdict.as_ref().is_err_and(|refusal| refusal.code() == "unknown_key"))
        );
    }
    // The first fetch, and those that the pauses of 1, 2, 4 … seconds let through, however slow this machine is.
    assert!(bed.provider.fetches() <= 4, "{}", bed.provider.fetches());
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_invented_keys_costs_a_fetch_a_minute() {
    let bed = Bed::with(|settings| settings.refresh_interval = std::time::Duration::from_secs(86_400)).await;
    for number in 0..3600 {
        assert_eq!(bed.code(&invented(number)).await, "unknown_key");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    let fetches = bed.provider.fetches();
    assert!((50..=70).contains(&fetches), "{fetches}");
}

#[tokio::test(start_paused = true)]
async fn a_changed_key_is_known_at_once_in_quiet_times() {
    let bed = Bed::start().await;
    assert_eq!(bed.code(&token(&claims(json!({})))).await, "ok");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    bed.provider.publish(ISSUER, &json!([keys().strange_ed.jwk("new")]));
    let header = json!({"alg": "EdDSA", "kid": "new"}).to_string();
    let claims = claims(json!({"jti": "1"}));
    assert_eq!(
        bed.code(&token_of(&keys().strange_ed, &header, &claims.to_string()))
            .await,
        "ok"
    );
    assert_eq!(bed.provider.fetches(), 2);
    assert_eq!(bed.code(&token(&claims)).await, "unknown_key", "the old key is gone");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_changed_under_its_id_is_known_soon() {
    let bed = Bed::start().await;
    assert_eq!(bed.code(&token(&claims(json!({})))).await, "ok");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    bed.provider.publish(ISSUER, &json!([keys().strange_ed.jwk("ed")]));
    let new = token_of(
        &keys().strange_ed,
        r#"{"alg":"EdDSA","kid":"ed"}"#,
        &claims(json!({})).to_string(),
    );
    assert_eq!(bed.code(&new).await, "signature", "nobody waits for it");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(bed.code(&new).await, "ok");
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_end_the_fetch_of_others() {
    let bed = Bed::start().await;
    let config = bed.config(default_config());
    let token = token(&claims(json!({})));
    for _ in 0..20 {
        // Polled once, which begins the fetch, and dropped.
        let left = bed.providers.verify(&config, &token);
        let _ = futures_util::future::select(Box::pin(left), std::future::ready(())).await;
    }
    assert_eq!(bed.code(&token).await, "ok");
    assert_eq!(bed.provider.fetches(), 1);
}

#[tokio::test]
async fn the_number_of_providers_is_bounded() {
    let bed = Bed::with(|settings| settings.max_providers = 2).await;
    let token = token(&claims(json!({})));
    for tenant in ["a", "b", "c", "b", "c", "b", "c"] {
        let path = format!("/{tenant}{}", super::bed::DISCOVERY);
        let jwks_uri = format!("{}/keys", bed.provider.url);
        bed.provider.answer(
            &path,
            super::bed::Answer::Json(json!({"issuer": ISSUER, "jwks_uri": jwks_uri})),
        );
        let spec = json!({"allowed_audience": [tenant, "api"], "discovery_url": format!("{}{path}", bed.provider.url)});
        let config = serde_json::from_value(spec).unwrap();
        bed.providers.verify(&config, &token).await.unwrap();
    }
    assert_eq!(bed.provider.count("/keys"), 3, "the two that are used stay");
}

#[tokio::test]
async fn a_version_with_another_configuration_shares_no_verdict() {
    let bed = Bed::start().await;
    let token = token(&claims(json!({})));
    let (lax, strict) = (
        bed.config(default_config()),
        bed.config(json!({"allowed_audience": ["other"]})),
    );
    for _ in 0..2 {
        bed.providers.verify(&lax, &token).await.unwrap();
        assert_eq!(
            bed.providers.verify(&strict, &token).await.unwrap_err().code(),
            "mismatch"
        );
    }
}

#[tokio::test]
async fn a_remembered_token_counts_until_it_expires() {
    let bed = Bed::start().await;
    let token = token(&claims(json!({"exp": super::bed::NOW + 60})));
    for (after, expected) in [
        (0, "ok"),
        (59, "ok"),
        (60, "ok"),
        (89, "ok"),
        (90, "expired"),
        (0, "ok"),
    ] {
        bed.set_now(super::bed::NOW + after);
        assert_eq!(bed.code(&token).await, expected, "after {after} seconds");
    }
}
