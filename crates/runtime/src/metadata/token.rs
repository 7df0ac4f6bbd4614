//! Tokens of a metadata service.
//!
//! A token is its expiry and a code that only this service can make, so that none has to be remembered, however many are
//! asked for. After a restart of the server all are void; SDKs then fetch a new one.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use std::fmt;
use std::ops::RangeInclusive;

/// How long a token may be good for, in seconds.
pub(super) const TTL: RangeInclusive<u32> = 1..=21_600;

const CODE: usize = 32;
const EXPIRY: usize = 8;

/// Makes and knows the tokens of one service.
pub(super) struct Tokens(hmac::Key);

impl Tokens {
    /// With a key of its own. Fails when the system has no randomness.
    pub(super) fn new() -> Result<Self, Unspecified> {
        let mut key = [0; CODE];
        rand::fill(&mut key)?;
        Ok(Self(hmac::Key::new(HMAC_SHA256, &key)))
    }

    /// A token for so many seconds from now.
    pub(super) fn make(&self, seconds: u32, now: Timestamp) -> String {
        let expiry = (now.as_second() + i64::from(seconds)).to_be_bytes();
        let code = hmac::sign(&self.0, &expiry);
        URL_SAFE_NO_PAD.encode([&expiry, code.as_ref()].concat())
    }

    /// Whether a token is one of ours and has not expired.
    pub(super) fn is_good(&self, token: &[u8], now: Timestamp) -> bool {
        let mut bytes = [0; EXPIRY + CODE];
        if URL_SAFE_NO_PAD.decode_slice(token, &mut bytes) != Ok(bytes.len()) {
            return false;
        }
        let Some((expiry, code)) = bytes.split_first_chunk::<EXPIRY>() else {
            return false;
        };
        hmac::verify(&self.0, expiry, code).is_ok() && now.as_second() < i64::from_be_bytes(*expiry)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use proptest::prelude::*;

    #[test]
    fn a_token_is_good_for_its_time_and_its_service() {
        let (ours, theirs) = (Tokens::new().unwrap(), Tokens::new().unwrap());
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let token = ours.make(60, now);
        let at = |seconds| now + SignedDuration::from_secs(seconds);
        assert!(ours.is_good(token.as_bytes(), now));
        assert!(ours.is_good(token.as_bytes(), at(59)));
        assert!(!ours.is_good(token.as_bytes(), at(60)));
        assert!(!theirs.is_good(token.as_bytes(), now), "another sandbox's");
    }

    proptest! {
        #[test]
        fn no_other_text_is_a_token(bytes in proptest::collection::vec(any::<u8>(), 0..100), at in 0usize..54, with in any::<u8>()) {
            let tokens = Tokens::new().unwrap();
            let now = Timestamp::from_second(1_800_000_000).unwrap();
            prop_assert!(!tokens.is_good(&bytes, now));
            let token = tokens.make(60, now);
            let mut changed = token.clone().into_bytes();
            changed[at] = with;
            // Only the same text, or one that decodes to the same bytes, is good.
            if URL_SAFE_NO_PAD.decode(&changed).ok() != URL_SAFE_NO_PAD.decode(&token).ok() {
                prop_assert!(!tokens.is_good(&changed, now));
            }
            prop_assert!(!tokens.is_good(&token.as_bytes()[..at], now));
        }
    }
}
