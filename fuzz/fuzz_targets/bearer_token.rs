//! A bearer token is read before anybody has vouched for it: whatever comes must be answered, what is taken for a token
//! must have one text, and claims must have one reading.

#![no_main]

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use oauth::claims::Claims;
use oauth::keys::KeySet;
use oauth::token::Token;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        check(text);
    }
    // The same bytes as header and claims, so that the fuzzer need not learn base64 first.
    let mut parts = bytes.splitn(2, |byte| *byte == 0).map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
    let (header, claims) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    check(&format!("{header}.{claims}.AA"));
    let _ = KeySet::parse(bytes);
});

fn check(text: &str) {
    let Ok(token) = Token::parse(text) else { return };
    assert_eq!(format!("{}.{}", token.signed, BASE64_URL_SAFE_NO_PAD.encode(&token.signature)), text);
    let Ok(payload) = token.payload() else { return };
    let Ok(claims) = Claims::parse(&payload) else { return };
    let Ok(bearer) = claims.into_bearer([0; 32]) else { return };
    let all: serde_json::Value = serde_json::from_slice(&payload).expect("claims are JSON");
    for (name, texts) in bearer.claims {
        match &all[&name] {
            serde_json::Value::String(text) => assert_eq!([text.clone()], *texts),
            list => assert_eq!(*list, serde_json::json!(texts)),
        }
    }
}
