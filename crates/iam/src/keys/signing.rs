//! The derived signing key: made once per key, day and scope, then kept beside the secret that it comes from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwapOption, Guard};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use zeroize::Zeroizing;

use super::AccessKey;
use domain::Principal;

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

/// An access key that calls can be verified with, and its cache.
///
/// The cache lives and dies with the key: what replaces a key starts with an empty one, so nothing derived from an
/// old secret can be found again. It holds two days, because around midnight requests of both are valid.
pub struct Key {
    pub(super) access: AccessKey,
    /// Revision of the record that this came from.
    pub(super) revision: u64,
    principal: Arc<Principal>,
    retired: AtomicBool,
    derived: [ArcSwapOption<Derived>; 2],
}

/// A signing key and what it was derived for.
pub struct Derived {
    day: [u8; 8],
    scope: Arc<Scope>,
    /// What strings to sign are signed with.
    pub key: hmac::Key,
}

impl Key {
    pub(super) fn new(access: AccessKey, revision: u64) -> Self {
        let principal = Principal::root(access.account.clone(), access.id.clone());
        Self {
            access,
            revision,
            principal: Arc::new(principal),
            retired: AtomicBool::new(false),
            derived: Default::default(),
        }
    }

    /// Who signs with it.
    #[must_use]
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Whether this is the session token that belongs to the key; none where the key has none.
    #[must_use]
    pub fn has_token(&self, token: Option<&[u8]>) -> bool {
        self.access.has_token(token)
    }

    /// Makes every verification that has already found this key fail.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether the key was replaced or withdrawn after it was found.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// The signing key for a day, `YYYYMMDD` and its number since 1970; from the cache, or derived and kept.
    pub fn signing_key(&self, day: &[u8; 8], number: i64, scope: &Arc<Scope>) -> Guard<Option<Arc<Derived>>> {
        // Two neighbouring days never share a slot.
        let slot = &self.derived[usize::from(number & 1 == 1)];
        let found = slot.load();
        match &*found {
            Some(derived) if derived.day == *day && Arc::ptr_eq(&derived.scope, scope) => found,
            _ => {
                let key = derive(&self.access.secret, day, scope);
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

/// Without the secret.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("access", &self.access)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}
