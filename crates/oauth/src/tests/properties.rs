//! What holds for every token.

use super::bed::{Bed, b64, claims, default_config, token};
use crate::claims::Claims;
use crate::keys::KeySet;
use crate::token::Token;
use proptest::prelude::*;
use serde_json::json;

proptest! {
    /// Whatever comes is answered, and what is read has one text.
    #[test]
    fn a_token_has_one_text(header in "[ -~]{0,60}", body in prop::collection::vec(any::<u8>(), 0..60), signature in "[A-Za-z0-9_=-]{0,90}") {
        let text = format!("{}.{}.{signature}", b64(&header), b64(&body));
        if let Ok(token) = Token::parse(&text) {
            prop_assert_eq!(format!("{}.{}", token.signed, b64(&token.signature)), text.as_str());
            prop_assert_eq!(token.payload().unwrap(), body);
        }
        let _ = Claims::parse(header.as_bytes());
        let _ = KeySet::parse(header.as_bytes());
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}") {
        let _ = Token::parse(&text);
    }
}

/// A token with any one letter changed is refused.
#[tokio::test]
async fn one_letter_changed() {
    let bed = Bed::start().await;
    let config = bed.config(default_config());
    let good = token(&claims(json!({})));
    bed.providers.verify(&config, &good).await.unwrap();
    for at in 0..good.len() {
        for letter in [b'A', b'w', b'.', b'='] {
            let mut changed = good.clone().into_bytes();
            if changed[at] == letter {
                continue;
            }
            changed[at] = letter;
            let changed = String::from_utf8(changed).unwrap();
            assert!(bed.providers.verify(&config, &changed).await.is_err(), "letter {at}");
        }
    }
    for length in 0..good.len() {
        assert!(
            bed.providers.verify(&config, &good[..length]).await.is_err(),
            "the first {length} letters"
        );
    }
}
