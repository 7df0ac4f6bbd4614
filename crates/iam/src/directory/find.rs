//! Looking up: keys for the front door, and the policies that have a say in what their holder may do.

use std::sync::Arc;

use domain::Principal;
use domain::id::AccountId;
use zeroize::Zeroizing;

use super::{Directory, Shared};
use crate::Error;
use crate::keys::{AccessKey, Key, Missing, Temporary};
use crate::names::Holder;
use crate::policy::{self, Kind, Policy};
use crate::sts::{Claims, Of};

/// How ids of temporary credentials begin.
pub(super) const TEMPORARY: &str = "ASIA";

/// The policies of a caller.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// Those of the user or the role.
    pub identity: Arc<[Arc<Policy>]>,
    /// What its temporary credentials were narrowed down to.
    pub session: Option<Arc<Policy>>,
}

impl Held {
    /// All that have a say, given the resource's own.
    #[must_use]
    pub fn with<'a>(&'a self, resource: Option<&'a Policy>) -> policy::Policies<'a> {
        policy::Policies {
            identity: &self.identity,
            session: self.session.as_deref(),
            resource,
        }
    }
}

impl Directory {
    /// The key that a call is signed with, if it and the session token are good now.
    ///
    /// Whoever verifies a body that is still to come also looks at [`Key::is_retired`] when it is there.
    pub fn find(&self, id: &str, token: Option<&[u8]>) -> Result<Arc<Key>, Missing> {
        let known = self.shared.known.load();
        if let Some(key) = known.keys.get(id) {
            let good = key.access().enabled && key.has_token(token);
            return good.then(|| Arc::clone(key)).ok_or(Missing::Unknown);
        }
        match token {
            Some(token) if id.starts_with(TEMPORARY) => self.shared.temporary(id, token),
            _ => Err(Missing::Unknown),
        }
    }

    /// A key that nobody has, to do the work of a verification with when there is no key.
    #[must_use]
    pub fn decoy(&self) -> Arc<Key> {
        Arc::clone(&self.shared.decoy)
    }

    /// The policies of whom a key belongs to, as they are now; none for the root, which needs none.
    #[must_use]
    pub fn policies(&self, key: &Key) -> Held {
        let known = self.shared.known.load();
        let attached = key.holder().and_then(|holder| known.attached(holder).ok());
        Held {
            identity: attached.map(super::known::Attached::list).unwrap_or_default(),
            session: key.session_policy().cloned(),
        }
    }

    /// The root key's id and secret, for `eyot env`.
    #[must_use]
    pub fn root(&self) -> Option<(String, Zeroizing<String>)> {
        let known = self.shared.known.load();
        let access = known.root_key()?.access();
        Some((access.id.clone(), access.secret.clone()))
    }

    /// The account of a key id, as GetAccessKeyInfo tells it.
    #[must_use]
    pub fn account_of(&self, id: &str) -> Option<AccountId> {
        let known = self.shared.known.load();
        known.keys.get(id).map(|key| key.access().account.clone())
    }

    /// Makes the root key at the first start, and moves it to the configured account.
    pub(super) async fn ensure_root(&self) -> Result<(), Error> {
        let account = self.shared.account.clone();
        self.change(move |draft| {
            let access = match draft.known.root_key().map(|key| key.access()) {
                Some(access) if access.account == account => return Ok(()),
                Some(access) => AccessKey {
                    account,
                    ..access.clone()
                },
                None => AccessKey::generate(account)?,
            };
            let before = draft.known.root_key();
            let created = before.map_or(Some(draft.now), |key| key.created());
            let last_use = before.map(|key| Arc::clone(key.last_use())).unwrap_or_default();
            draft.put_key(Key::root(access).with_created(created).with_last_use(last_use), true)
        })
        .await
    }
}

impl Shared {
    fn temporary(&self, id: &str, token: &[u8]) -> Result<Arc<Key>, Missing> {
        let key = match self.opened.get(id) {
            // The token of an id never changes, so another one is a forgery.
            Some(key) if key.has_token(Some(token)) => key,
            Some(_) => return Err(Missing::Unknown),
            None => {
                let claims = self.sealer.open(id, token).ok_or(Missing::Unknown)?;
                // Nothing is kept of those that are over: somebody may show very many.
                if claims.expires <= self.clock.now().as_second() {
                    return Err(Missing::Expired);
                }
                let key = Arc::new(self.key_of(id, token, claims).ok_or(Missing::Unknown)?);
                if !key.is_retired() {
                    self.opened.put(Arc::clone(&key));
                }
                key
            }
        };
        if key.expires().is_none_or(|expires| expires <= self.clock.now()) {
            self.opened.remove(id);
            return Err(Missing::Expired);
        }
        if key.is_retired() {
            self.opened.remove(id);
            return Err(Missing::Unknown);
        }
        Ok(key)
    }

    /// The key that opened claims describe; nothing if whom they are about is gone.
    fn key_of(&self, id: &str, token: &[u8], claims: Claims) -> Option<Key> {
        let known = self.known.load();
        let token = std::str::from_utf8(token).ok()?;
        let access = AccessKey {
            id: id.to_owned(),
            account: claims.account.clone(),
            secret: claims.secret,
            session_token: Some(Zeroizing::new(token.to_owned())),
            enabled: true,
        };
        let account = claims.account;
        let key = match claims.of {
            Of::Role {
                name,
                id: unique,
                session,
            } => {
                let holder = Holder::role(account.clone(), &name);
                let role = known.role(&holder).ok().filter(|role| role.id == unique)?;
                let principal = Principal::assumed_role(account, &name, &unique, session, id.to_owned());
                Key::new(access, principal, Some(holder), Arc::clone(&role.life))
            }
            Of::User { name, id: unique } => {
                let holder = Holder::user(account, &name);
                let user = known.user(&holder).ok().filter(|user| user.id == unique)?;
                super::record::user_key(access, user)
            }
            Of::Root => Key::root(access),
        };
        let session_policy = match claims.session_policy {
            // It parsed when it was issued; one that a newer build no longer takes must not widen anything.
            Some(text) => Some(Arc::new(Policy::parse(Kind::Session, &text).ok()?)),
            None => None,
        };
        Some(key.with_temporary(Temporary {
            issued_ms: claims.issued_ms,
            expires: jiff::Timestamp::from_second(claims.expires).ok()?,
            session_policy,
            source_identity: claims.source_identity,
            tags: Arc::new(claims.tags),
            revocations: Arc::clone(&self.revocations),
        }))
    }
}
