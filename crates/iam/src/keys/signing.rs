//! The derived signing key: made once per key, day and scope, then kept beside the secret that it comes from.

use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use zeroize::Zeroizing;

/// The last element of every credential scope.
const TERMINATOR: &str = "aws4_request";

/// For which region and service a signature must be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Such as `us-west-2`.
    pub region: String,
    /// `bedrock-agentcore` for both planes.
    pub service: String,
}

/// A signing key and what it was derived for.
pub struct Derived {
    day: [u8; 8],
    scope: Arc<Scope>,
    /// What strings to sign are signed with.
    pub key: hmac::Key,
}

/// What was derived from one secret.
///
/// It lives and dies with the key: what replaces a key starts with an empty one, so nothing derived from an old secret
/// can be found again. It holds two days, because around midnight requests of both are valid, of STS and of the rest.
#[derive(Default)]
pub(super) struct Cache([ArcSwapOption<Derived>; 4]);

impl Cache {
    /// The signing key for a day, `YYYYMMDD` and its number since 1970; from the cache, or derived and kept.
    pub(super) fn get(
        &self,
        secret: &str,
        day: &[u8; 8],
        number: i64,
        scope: &Arc<Scope>,
    ) -> Guard<Option<Arc<Derived>>> {
        // Two neighbouring days never share a slot.
        let slot = usize::from(number & 1 == 1) + 2 * usize::from(scope.service == "sts");
        let slot = &self.0[slot];
        let found = slot.load();
        match &*found {
            Some(derived) if derived.day == *day && Arc::ptr_eq(&derived.scope, scope) => found,
            _ => {
                let key = derive(secret, day, scope);
                let derived = Some(Arc::new(Derived {
                    day: *day,
                    scope: Arc::clone(scope),
                    key,
                }));
                slot.store(derived.clone());
                Guard::from_inner(derived)
            }
        }
    }
}

fn derive(secret: &str, day: &[u8], scope: &Scope) -> hmac::Key {
    let mut first = Zeroizing::new(Vec::with_capacity(4 + secret.len()));
    first.extend_from_slice(b"AWS4");
    first.extend_from_slice(secret.as_bytes());
    let mut key = hmac::Key::new(HMAC_SHA256, &first);
    for part in [
        day,
        scope.region.as_bytes(),
        scope.service.as_bytes(),
        TERMINATOR.as_bytes(),
    ] {
        key = hmac::Key::new(HMAC_SHA256, hmac::sign(&key, part).as_ref());
    }
    key
}

/// Without the key.
impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Derived")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}
