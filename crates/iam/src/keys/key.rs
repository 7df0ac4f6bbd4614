//! A key that calls can be verified with: of a user, of the root, or of temporary credentials.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arc_swap::Guard;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use domain::Principal;
use jiff::Timestamp;

use super::signing::Cache;
use super::{AccessKey, Derived, Scope};
use crate::names::Holder;
use crate::policy::Policy;
use crate::sts::Revocations;

/// Why credentials are none that calls can be verified with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// No such key, a disabled one, or a session token that is not the key's. Which of them is nobody's business.
    #[error("The security token included in the request is invalid.")]
    Unknown,
    /// Temporary credentials that were good until their time was over.
    #[error("The security token included in the request is expired")]
    Expired,
}

/// A key that calls can be verified with, and what was derived from it.
pub struct Key {
    access: AccessKey,
    principal: Arc<Principal>,
    /// Whose policies count; none for the root, which needs none.
    holder: Option<Holder>,
    /// The life of whom it belongs to.
    life: Arc<Life>,
    temporary: Option<Temporary>,
    last_use: Arc<LastUse>,
    created: Option<Timestamp>,
    retired: AtomicBool,
    derived: Cache,
}

/// Whether a user or a role is still there. Keys share it, so that those of one that was deleted end with it, also for
/// a request whose body is still arriving.
#[derive(Debug, Default)]
pub(crate) struct Life(AtomicBool);

/// When a key was last used: noted on the request path, written down later.
#[derive(Debug, Default)]
pub(crate) struct LastUse {
    /// Seconds since 1970; 0 is never.
    seen: AtomicI64,
    written: AtomicI64,
}

/// What only temporary credentials have.
pub(crate) struct Temporary {
    pub(crate) issued_ms: i64,
    pub(crate) expires: Timestamp,
    pub(crate) session_policy: Option<Arc<Policy>>,
    pub(crate) source_identity: Option<String>,
    pub(crate) tags: Arc<BTreeMap<String, String>>,
    pub(crate) revocations: Arc<Revocations>,
}

impl Key {
    /// The root's.
    pub(crate) fn root(access: AccessKey) -> Self {
        let principal = Principal::root(access.account.clone(), access.id.clone());
        Self::new(access, principal, None, Arc::default())
    }

    pub(crate) fn new(access: AccessKey, principal: Principal, holder: Option<Holder>, life: Arc<Life>) -> Self {
        Self {
            access,
            principal: Arc::new(principal),
            holder,
            life,
            temporary: None,
            last_use: Arc::default(),
            created: None,
            retired: AtomicBool::new(false),
            derived: Cache::default(),
        }
    }

    pub(crate) fn with_temporary(mut self, temporary: Temporary) -> Self {
        self.temporary = Some(temporary);
        self
    }

    pub(crate) fn with_created(mut self, created: Option<Timestamp>) -> Self {
        self.created = created;
        self
    }

    pub(crate) fn with_last_use(mut self, last_use: Arc<LastUse>) -> Self {
        self.last_use = last_use;
        self
    }

    /// Who signs with it.
    #[must_use]
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// The key's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.access.id
    }

    /// When temporary credentials were issued, to the second as policies see it (`aws:TokenIssueTime`).
    #[must_use]
    pub fn issued(&self) -> Option<Timestamp> {
        let temporary = self.temporary.as_ref()?;
        Timestamp::from_second(temporary.issued_ms.div_euclid(1000)).ok()
    }

    /// When temporary credentials end.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        self.temporary.as_ref().map(|temporary| temporary.expires)
    }

    /// What temporary credentials were narrowed down to when they were issued.
    #[must_use]
    pub fn session_policy(&self) -> Option<&Arc<Policy>> {
        self.temporary.as_ref()?.session_policy.as_ref()
    }

    /// Who is behind temporary credentials, as the first in the chain said.
    #[must_use]
    pub fn source_identity(&self) -> Option<&str> {
        self.temporary.as_ref()?.source_identity.as_deref()
    }

    /// Tags of temporary credentials, which policies know as `aws:PrincipalTag/*`.
    #[must_use]
    pub fn tags(&self) -> Option<&Arc<BTreeMap<String, String>>> {
        self.temporary.as_ref().map(|temporary| &temporary.tags)
    }

    /// Notes that a call was verified with it. Costs two relaxed loads when that is known already.
    pub fn used(&self, now: Timestamp) {
        let now = now.as_second();
        if now > self.last_use.seen.load(Ordering::Relaxed) {
            self.last_use.seen.store(now, Ordering::Relaxed);
        }
    }

    /// Whether the key was replaced or withdrawn after it was found, or whom it belongs to is gone.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
            || self.life.is_over()
            || self
                .temporary
                .as_ref()
                .is_some_and(|temporary| temporary.revocations.has(self, temporary.issued_ms))
    }

    /// The signing key for a day, `YYYYMMDD` and its number since 1970; from the cache, or derived and kept.
    pub fn signing_key(&self, day: &[u8; 8], number: i64, scope: &Arc<Scope>) -> Guard<Option<Arc<Derived>>> {
        self.derived.get(&self.access.secret, day, number, scope)
    }

    pub(crate) fn access(&self) -> &AccessKey {
        &self.access
    }

    pub(crate) fn holder(&self) -> Option<&Holder> {
        self.holder.as_ref()
    }

    pub(crate) fn created(&self) -> Option<Timestamp> {
        self.created
    }

    pub(crate) fn last_use(&self) -> &Arc<LastUse> {
        &self.last_use
    }

    /// Whether this is the session token that belongs to the key; none where the key has none.
    pub(crate) fn has_token(&self, token: Option<&[u8]>) -> bool {
        match (&self.access.session_token, token) {
            (None, None) => true,
            (Some(own), Some(token)) => verify_slices_are_equal(own.as_bytes(), token).is_ok(),
            _ => false,
        }
    }

    /// Makes every verification that has already found this key fail.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }
}

impl Life {
    pub(crate) fn end(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl LastUse {
    pub(crate) fn from_record(at: Timestamp) -> Self {
        let second = at.as_second();
        Self {
            seen: AtomicI64::new(second),
            written: AtomicI64::new(second),
        }
    }

    pub(crate) fn at(&self) -> Option<Timestamp> {
        let seen = self.seen.load(Ordering::Relaxed);
        (seen != 0).then(|| Timestamp::from_second(seen).ok()).flatten()
    }

    /// What is not written down yet.
    pub(crate) fn unwritten(&self) -> Option<Timestamp> {
        let written = self.written.load(Ordering::Relaxed);
        self.at().filter(|at| at.as_second() > written)
    }

    pub(crate) fn is_written(&self, at: Timestamp) {
        self.written.store(at.as_second(), Ordering::Relaxed);
    }
}

/// Without secret, session token and what is derived.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("access", &self.access)
            .field("principal", &self.principal.arn)
            .field("expires", &self.expires())
            .finish_non_exhaustive()
    }
}
