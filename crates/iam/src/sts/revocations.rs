//! Which temporary credentials work no more although their time is not over.
//!
//! Invariant: a revocation is on disk before it is here, and here until the last credentials that it is about have
//! expired.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use domain::PrincipalKind;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::keys::Key;

/// What was revoked, shared by all keys.
#[derive(Debug, Default)]
pub struct Revocations(RwLock<HashMap<String, Revoked>>);

/// One revocation; its name is a key's id, or `ROLE-ID:SESSION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Revoked {
    /// What was issued up to then is revoked. Milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// Nothing that it is about lives longer.
    pub(crate) until: Timestamp,
}

impl Revocations {
    /// Whether these credentials are revoked.
    pub(crate) fn has(&self, key: &Key, issued_ms: i64) -> bool {
        let revoked = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if revoked.is_empty() {
            return false;
        }
        let is_over = |name: &str| revoked.get(name).is_some_and(|one| issued_ms <= one.at_ms);
        let principal = key.principal();
        is_over(key.id()) || (matches!(principal.kind, PrincipalKind::AssumedRole { .. }) && is_over(&principal.id))
    }

    /// The earliest moment at which credentials under this name can be issued that are not revoked.
    pub(crate) fn earliest(&self, name: &str) -> i64 {
        let revoked = self.0.read().unwrap_or_else(PoisonError::into_inner);
        revoked.get(name).map_or(i64::MIN, |one| one.at_ms + 1)
    }

    /// Until when a name is here.
    pub(crate) fn until(&self, name: &str) -> Option<Timestamp> {
        let revoked = self.0.read().unwrap_or_else(PoisonError::into_inner);
        revoked.get(name).map(|one| one.until)
    }

    pub(crate) fn add(&self, name: String, revoked: Revoked) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(name, revoked);
    }

    /// Names of at most `most` that are about nothing any more.
    pub(crate) fn over(&self, now: Timestamp, most: usize) -> Vec<String> {
        let revoked = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let over = revoked.iter().filter(|(_, one)| one.until < now);
        over.take(most).map(|(name, _)| name.clone()).collect()
    }

    /// Forgets what is about nothing any more.
    pub(crate) fn forget(&self, names: &[String]) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            all.remove(name);
        }
    }
}
