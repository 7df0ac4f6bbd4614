//! The snapshot: everything that is known at one moment, ready to be looked up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use domain::id::AccountId;
use jiff::Timestamp;

use super::draft::Pending;
use crate::Error;
use crate::keys::{Key, Life};
use crate::names::{Holder, HolderKind};
use crate::policy::{Kind, Policy};

/// Everything that is known.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// Keys by id, disabled ones included; no temporary ones.
    pub(super) keys: HashMap<String, Arc<Key>>,
    /// Id of the root key.
    pub(super) root: Option<String>,
    pub(super) users: BTreeMap<(AccountId, String), Arc<User>>,
    pub(super) roles: BTreeMap<(AccountId, String), Arc<Role>>,
    /// Of each record that this was read from.
    revisions: HashMap<(&'static str, String), u64>,
}

/// A user.
#[derive(Clone)]
pub(super) struct User {
    pub(super) holder: Holder,
    /// `AIDA…`
    pub(super) id: String,
    pub(super) created: Timestamp,
    pub(super) policies: Attached,
    pub(super) life: Arc<Life>,
}

/// A role.
#[derive(Clone)]
pub(super) struct Role {
    pub(super) holder: Holder,
    /// `AROA…`
    pub(super) id: String,
    pub(super) created: Timestamp,
    pub(super) description: String,
    /// Seconds.
    pub(super) max_session: u32,
    pub(super) trust: Document,
    pub(super) policies: Attached,
    pub(super) life: Arc<Life>,
}

/// The policies of a user or a role, by their names.
#[derive(Clone)]
pub(super) struct Attached {
    by_name: BTreeMap<String, Document>,
    /// The same, as decisions want them.
    list: Arc<[Arc<Policy>]>,
}

/// A policy and the text that it was read from.
#[derive(Clone)]
pub(super) struct Document {
    pub(super) text: Arc<str>,
    pub(super) policy: Arc<Policy>,
}

impl Known {
    pub(super) fn user(&self, holder: &Holder) -> Result<&Arc<User>, Error> {
        let key = (holder.account.clone(), holder.name.clone());
        let found = self.users.get(&key).filter(|_| holder.kind == HolderKind::User);
        found.ok_or_else(|| holder.missing())
    }

    pub(super) fn role(&self, holder: &Holder) -> Result<&Arc<Role>, Error> {
        let key = (holder.account.clone(), holder.name.clone());
        let found = self.roles.get(&key).filter(|_| holder.kind == HolderKind::Role);
        found.ok_or_else(|| holder.missing())
    }

    /// Policies of a user or a role.
    pub(super) fn attached(&self, holder: &Holder) -> Result<&Attached, Error> {
        match holder.kind {
            HolderKind::User => Ok(&self.user(holder)?.policies),
            HolderKind::Role => Ok(&self.role(holder)?.policies),
        }
    }

    /// The long-lived keys of a user, the oldest first.
    pub(super) fn keys_of(&self, user: &Holder) -> Vec<&Arc<Key>> {
        let mut keys: Vec<_> = self.keys.values().filter(|key| key.holder() == Some(user)).collect();
        keys.sort_by_key(|key| (key.created(), key.id().to_owned()));
        keys
    }

    pub(super) fn root_key(&self) -> Option<&Arc<Key>> {
        self.root.as_ref().and_then(|id| self.keys.get(id))
    }

    pub(super) fn revision(&self, kind: &'static str, key: &str) -> Option<u64> {
        self.revisions.get(&(kind, key.to_owned())).copied()
    }

    /// What a record that was read or written has become.
    pub(super) fn set_revision(&mut self, write: Pending, revision: u64) {
        let name = (write.kind, write.key);
        match write.value {
            Some(_) => self.revisions.insert(name, revision),
            None => self.revisions.remove(&name),
        };
    }

    pub(super) fn was_read(&mut self, kind: &'static str, key: String, revision: u64) {
        self.revisions.insert((kind, key), revision);
    }
}

impl Attached {
    pub(super) fn new(by_name: BTreeMap<String, Document>) -> Self {
        let list = by_name.values().map(|document| Arc::clone(&document.policy)).collect();
        Self { by_name, list }
    }

    pub(super) fn by_name(&self) -> &BTreeMap<String, Document> {
        &self.by_name
    }

    pub(super) fn list(&self) -> Arc<[Arc<Policy>]> {
        Arc::clone(&self.list)
    }
}

impl Document {
    /// Reads a policy, which decisions name by `name`; the fault says its place.
    pub(super) fn parse(kind: Kind, name: &str, text: &str) -> Result<Self, crate::policy::Invalid> {
        Ok(Self {
            policy: Arc::new(Policy::parse(kind, text)?.named(name)),
            text: text.into(),
        })
    }

    /// Characters that count: white space does not.
    pub(super) fn size(text: &str) -> usize {
        text.chars().filter(|character| !character.is_whitespace()).count()
    }
}
